"""Measured receptive fields: what the centre of a map depends on, and how much, from gradients."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, fx, nn

from td_transform.errors import TopDownError, check_positive
from td_transform.layers.dimensions import by
from td_transform.layers.parameters import dtype_of_layers, parameters_of
from td_transform.table import format_table

if TYPE_CHECKING:
    from td_transform.fields.network_fields import ReceptiveFields
    from td_transform.fields.tile import Box
    from td_transform.trace import Trace

_BATCH = 4


@dataclass(frozen=True)
class MeasuredRow:
    """What the centre of one map depends on: along each axis, in input pixels.

    Args:
        name, module_path, operator, output_size: as in `FieldRow`.
        position: the centre that was measured, (row, column) of a picture's map.
        box: (top, left, bottom, right) around every pixel with a gradient, ends exclusive; the first
            pixel along every axis, then the ends.
        support: the size of that box.
        effective: four standard deviations of the gradient's magnitude over the pixels, which
            hold 95 % of it where it is Gaussian (Luo et al., 2016: it nearly is).
        centre: the mean of that distribution.
    """

    name: str
    module_path: str
    operator: str
    output_size: tuple[int, ...]
    position: tuple[int, ...]
    box: Box
    support: tuple[int, ...]
    effective: tuple[float, ...]
    centre: tuple[float, ...]


class MeasuredFields(Mapping[str, MeasuredRow]):
    """Measured rows by node name, in the order of the graph; `magnitude` holds the gradients."""

    def __init__(self, rows: Mapping[str, MeasuredRow], magnitude: Mapping[str, Tensor]) -> None:
        self._rows = dict(rows)
        self.magnitude = dict(magnitude)

    def __getitem__(self, key: str) -> MeasuredRow:
        by_path = {row.module_path: name for name, row in self._rows.items()}
        return self._rows[key if key in self._rows else by_path[key]]

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)

    def __str__(self) -> str:
        rows = [
            [
                row.name, row.operator, by(row.output_size), by(row.support),
                by([f"{size:.1f}" for size in row.effective]),
            ]
            for row in self._rows.values()
        ]  # fmt: skip
        return "\n".join(format_table(["node", "operator", "size", "support", "effective"], rows))


def measure_fields(
    fields: ReceptiveFields,
    *,
    images: Tensor | None = None,
    nodes: Sequence[str] | None = None,
    samples: int = 16,
) -> MeasuredFields:
    """Gradients of map centres with respect to the image, averaged over images.

    Args:
        fields: the analysed network; its model is only read.
        images: (N, C, H, W) in [0, 1], of the analysed size; by default uniform random ones.
        nodes: module paths or node names; by default every map.
        samples: how many random images.

    Raises:
        TopDownError: the images are of another size, or a node's output is no map.
    """
    traced = fields.trace
    first = next(parameters_of(traced.model), torch.empty(0))
    check_positive("samples", samples)
    if images is None:
        images = torch.rand(samples, *traced.input_size)
    shape = tuple(images.shape) if isinstance(images, Tensor) else ()
    if shape[1:] != traced.input_size:
        raise TopDownError(
            "argument 'images'", seen=f"shape {shape}" if shape else f"a {type(images).__name__}",
            expected=f"(N, {', '.join(map(str, traced.input_size))})",
            remedy="analyse the network at the images' size, or resize them",
        )  # fmt: skip
    images = images.to(first.device, dtype_of_layers(traced.model))
    wanted = _maps(fields, nodes)
    totals: dict[str, Tensor] = {}
    for batch in images.split(_BATCH):
        for name, magnitude in _magnitudes(traced, batch, wanted).items():
            totals[name] = totals[name] + magnitude if name in totals else magnitude
    means = {name: total.double().cpu() / len(images) for name, total in totals.items()}
    rows = {name: _row(fields, name, wanted[name], means[name]) for name in wanted}
    return MeasuredFields(rows, means)


def _maps(fields: ReceptiveFields, nodes: Sequence[str] | None) -> dict[str, tuple[int, ...]]:
    """Per node that was asked for the centre of its map, in the order of the graph."""
    chosen = {fields[key].name for key in nodes} if nodes is not None else None
    centres = {}
    for name, row in fields.items():
        shape = fields.trace_shape(name)
        is_map = len(shape) == len(fields.input_size) + 1 and shape[2:] == row.output_size
        if chosen is not None and name in chosen and not is_map:
            raise TopDownError(
                f"node '{name}'", seen=f"a tensor of shape {shape}",
                expected="a map (N, C, H, W)", remedy="name a node before it",
            )  # fmt: skip
        if is_map and (chosen is None or name in chosen):
            centres[name] = tuple(size // 2 for size in row.output_size)
    return centres


def _magnitudes(
    traced: Trace, images: Tensor, centres: Mapping[str, tuple[int, ...]]
) -> dict[str, Tensor]:
    """Per node (H, W): the gradient's magnitude, summed over images and image channels."""
    images = images.detach().clone().requires_grad_()
    tensors = _Recorder(traced, set(centres)).record(images)
    found = {}
    for name, position in centres.items():
        at: tuple[Any, ...] = (slice(None), slice(None), *position)
        centre = tensors[name][at].sum()
        (gradient,) = torch.autograd.grad(centre, images, retain_graph=True, allow_unused=True)
        found[name] = (
            torch.zeros_like(images[0, 0]) if gradient is None else gradient.abs().sum((0, 1))
        )
    return found


class _Recorder(fx.Interpreter):
    """Runs the traced graph with the model's own tensors, in eval mode and without its hooks."""

    def __init__(self, traced: Trace, names: set[str]) -> None:
        super().__init__(_twin(traced), graph=traced.graph)
        self._names = names
        self._tensors: dict[str, Tensor] = {}

    def record(self, images: Tensor) -> dict[str, Tensor]:
        with torch.enable_grad():
            self.run(images)
        return self._tensors

    def run_node(self, n: fx.Node) -> object:
        result = super().run_node(n)
        if n.name in self._names:
            self._tensors[n.name] = result
        return result


def _twin(traced: Trace) -> nn.Module:
    """The skeleton with the model's values, which it shares and doesn't train."""
    twin = copy.deepcopy(traced.skeleton)
    for own, module in zip(twin.modules(), traced.model.modules(), strict=True):
        for name, parameter in module._parameters.items():
            if parameter is not None:
                own._parameters[name] = nn.Parameter(parameter.detach(), requires_grad=False)
        own._buffers.update(module._buffers)
        for name, value in vars(module).items():
            if isinstance(value, Tensor):
                setattr(own, name, value.detach())
    return twin


def _row(
    fields: ReceptiveFields, name: str, position: tuple[int, ...], magnitude: Tensor
) -> MeasuredRow:
    row = fields[name]
    profiles = [_profile(magnitude, axis) for axis in range(magnitude.dim())]
    starts, ends = zip(*map(_extent, profiles), strict=True)
    centre, effective = zip(*map(_spread, profiles), strict=True)
    return MeasuredRow(
        name=row.name,
        module_path=row.module_path,
        operator=row.operator,
        output_size=row.output_size,
        position=position,
        box=(*starts, *ends),
        support=tuple(end - start for start, end in zip(starts, ends, strict=True)),
        effective=effective,
        centre=centre,
    )


def _profile(magnitude: Tensor, axis: int) -> Tensor:
    """Summed along all axes but one."""
    others = [other for other in range(magnitude.dim()) if other != axis]
    return magnitude.sum(others) if others else magnitude


def _extent(profile: Tensor) -> tuple[int, int]:
    seen = profile.nonzero().flatten()
    return (int(seen[0]), int(seen[-1]) + 1) if len(seen) else (0, 0)


def _spread(profile: Tensor) -> tuple[float, float]:
    """Mean and four standard deviations; a pixel is as wide as one, so that it adds 1/12."""
    total = profile.sum()
    if total == 0:
        return 0.0, 0.0
    places = torch.arange(len(profile), dtype=profile.dtype) + 0.5
    mean = (profile * places).sum() / total
    variance = (profile * (places - mean) ** 2).sum() / total + 1 / 12
    return float(mean), float(4 * variance.sqrt())
