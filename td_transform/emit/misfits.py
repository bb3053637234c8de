"""What a node is given in the top-down network, where it doesn't run, and in the bottom-up model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, fx

from td_transform.analyse import Trunk
from td_transform.errors import first_line
from td_transform.operators import TensorInfo

_SPREADS = ("std", "var", "std_mean", "var_mean")


def how_inputs_differ(
    node: fx.Node,
    here: Mapping[fx.Node, Any],
    source: fx.Node | None,
    trunk: Trunk,
    error: Exception,
) -> str:
    """How what it is given differs from what it is given there; where it doesn't, what torch says.

    Args:
        node: of the top-down network.
        here: the values that it reads.
        source: the bottom-up node.
        trunk: of the bottom-up model, which was traced with as many images.
        error: what came of running it.
    """
    given = [tuple(x.shape) for n in node.all_input_nodes if isinstance(x := here[n], Tensor)]
    if source is None or not given:
        return f"in the top-down network {first_line(error)}"
    values = (trunk.trace.values.get(n) for n in source.all_input_nodes)
    there = [value.shape for value in values if isinstance(value, TensorInfo)]
    if given == there:
        return f"in the top-down network {first_line(error)}"
    return (
        f"in the top-down network tensors of shape {_listed(given)}, with which it does not run; in the "
        f"bottom-up model they are {_listed(there)}"
    )


def check_spread(node: fx.Node, here: Mapping[fx.Node, Any], result: Any) -> None:
    """Without values, a deviation over a single position comes out like any other.

    Raises:
        ValueError: it would be no number.
    """
    if getattr(node.target, "__name__", node.target) not in _SPREADS:
        return
    asked = [arg for arg in node.args[1:] if isinstance(arg, bool)]
    unbiased = node.kwargs.get("unbiased", asked[0] if asked else True)
    correction: Any = node.kwargs.get("correction", 1 if unbiased else 0)
    values: Tensor = here[node.all_input_nodes[0]]
    found: Tensor = result[0] if isinstance(result, tuple) else result
    if values.numel() <= correction * found.numel():
        raise ValueError(f"a deviation over {values.numel() // found.numel()} value")


def is_cropped(source: fx.Node, trunk: Trunk) -> bool:
    """Is a map that it reads smaller in the bottom-up model than the image at its stride, since windows
    without padding leave its border out?"""
    return any(
        size < -(-side // stride)
        for n in trunk.call(source).tensors
        for size, side, stride in zip(
            trunk.map_size(n), trunk.trace.input_size[1:], trunk.stride(n) or (), strict=False
        )
    )


def _listed(shapes: list[tuple[int, ...]]) -> str:
    return " and ".join(map(str, shapes))
