"""Receptive fields of every tensor of a network: Eq. 1 of the paper on a graph, exact at the border."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, overload

from torch import Tensor, nn

from td_transform.errors import TopDownError
from td_transform.fields.measure import MeasuredFields, measure_fields
from td_transform.fields.network_fields import ReceptiveFields, fields_of


@overload
def receptive_field(
    model: nn.Module,
    input_size: tuple[int, ...] | None = None,
    *,
    method: Literal["analytic"] = "analytic",
) -> ReceptiveFields: ...
@overload
def receptive_field(
    model: nn.Module,
    input_size: tuple[int, ...] | None = None,
    *,
    method: Literal["gradient"],
    images: Tensor | None = None,
    nodes: Sequence[str] | None = None,
    samples: int = 16,
) -> MeasuredFields: ...
def receptive_field(
    model: nn.Module,
    input_size: tuple[int, ...] | None = None,
    *,
    method: Literal["analytic", "gradient"] = "analytic",
    images: Tensor | None = None,
    nodes: Sequence[str] | None = None,
    samples: int = 16,
) -> ReceptiveFields | MeasuredFields:
    """Receptive fields of every tensor of a network, bottom-up or top-down (paper, 3.2, Eq. 1).

    Args:
        model: a network whose first input is an image (N, C, H, W); it is only read.
        input_size: (C, H, W) in pixels; by default as for `to_topdown`.
        method: `analytic` counts what can be reached, from the graph alone; `gradient` measures
            what the centre of a map depends on, and how much, from gradients in eval mode.
        images: for `gradient`: images (N, C, H, W) in [0, 1]; by default random ones.
        nodes: for `gradient`: the module paths or node names to measure; by default all.
        samples: for `gradient`: how many random images.

    Returns:
        A mapping from names to rows that prints as a table.

    Raises:
        TopDownError: the model can't be traced, or an operator's use has no rule.

    Example:
        >>> net = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.MaxPool2d(2), nn.Conv2d(4, 4, 3))
        >>> fields = receptive_field(net, (3, 32, 32))
        >>> fields["2"].size_max, fields.box("2", (1, 0))
        ((8, 8), (1, 0, 9, 7))
    """
    if method not in ("analytic", "gradient"):
        raise TopDownError(
            "argument 'method'", seen=repr(method), expected="'analytic' or 'gradient'",
            remedy="leave it out",
        )  # fmt: skip
    fields = fields_of(model, input_size)
    if method == "analytic":
        return fields
    return measure_fields(fields, images=images, nodes=nodes, samples=samples)
