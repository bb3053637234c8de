"""Count what a plan's layers will hold, and find which could inherit: one pass over the plan."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TypeVar

from torch import nn

from td_transform.emit.build import LayerBuilder
from td_transform.layers.parameters import parameters_of
from td_transform.plan import (
    LayerPlan,
    LevelPlan,
    NodePlan,
    OwnPlan,
    Part,
    Plan,
    SegmentPlan,
    TensorPlan,
    UnitPlan,
    Upsampled,
    UpsamplePlan,
)
from td_transform.trace import Trace

Unit = TypeVar("Unit", bound=UnitPlan | OwnPlan)


def counted(plan: Plan, trace: Trace) -> Plan:
    """The plan with the parameters of every layer, as Table 1 of the paper counts them."""
    return _Counter(plan, trace).plan()


class _Counter:
    """Builds every layer of a plan on the meta device, where that takes no memory."""

    def __init__(self, plan: Plan, trace: Trace) -> None:
        self._plan = plan
        self._trace = trace
        self._builder = LayerBuilder(trace, plan)
        self._heirs = _heirs(part for copy in plan.segments for part in copy.held)

    def plan(self) -> Plan:
        levels = tuple(self._level(level) for level in self._plan.levels)
        return replace(self._plan, levels=levels, head=self._segment(self._plan.head))

    def _level(self, level: LevelPlan) -> LevelPlan:
        return replace(
            level,
            lift=None if level.lift is None else self._lift(level.lift),
            transition=tuple(self._part(part) for part in level.transition),
            merge=None if level.merge is None else self._merge(level.merge),
            stage=tuple(self._part(part) for part in level.stage),
        )

    def _part(self, part: Part) -> Part:
        if isinstance(part, SegmentPlan):
            return self._segment(part)
        return self._upsample(part) if isinstance(part, UpsamplePlan) else self._lift(part)

    def _lift(self, unit: Unit) -> Unit:
        return replace(unit, parameters=_count(self._builder.lift(unit)))

    def _merge(self, unit: Unit) -> Unit:
        return replace(unit, parameters=_count(self._builder.merge(unit)))

    def _upsample(self, upsample: UpsamplePlan) -> UpsamplePlan:
        return replace(upsample, parameters=_count(self._builder.upsample(upsample)))

    def _segment(self, segment: SegmentPlan) -> SegmentPlan:
        return replace(segment, nodes=tuple(self._node(node) for node in segment.nodes))

    def _node(self, node: NodePlan) -> NodePlan:
        change, layer, tensor = node.change, node.layer, node.tensor
        if isinstance(change, Upsampled):
            change = replace(change, upsample=self._upsample(change.upsample))
        if layer is not None:
            layer = self._layer(layer, size_preserving=node.size_preserving)
        if tensor is not None:
            tensor = self._tensor(tensor)
        return replace(node, change=change, layer=layer, tensor=tensor)

    def _tensor(self, tensor: TensorPlan) -> TensorPlan:
        keeps = tuple(self._trace.tensor(tensor.source).shape) == tensor.shape
        inherits = keeps and tensor.parameters > 0 and self._is_heir(tensor)
        return replace(tensor, inherits=inherits)

    def _is_heir(self, part: LayerPlan | TensorPlan) -> bool:
        return self._heirs[part.source] == part.name

    def _layer(self, layer: LayerPlan, *, size_preserving: bool) -> LayerPlan:
        built = self._builder.layer(layer, size_preserving=size_preserving)
        source = self._trace.model.get_submodule(layer.source)
        shapes, own = _shapes(built), _shapes(source)
        inherits = bool(own) and shapes == own and self._is_heir(layer)
        return replace(layer, parameters=_count(built), inherits=inherits)


def _heirs(parts: Iterable[LayerPlan | TensorPlan]) -> dict[str, str]:
    """What may have the weights of a bottom-up layer or parameter: its own copy, else the first of
    another block's form. Two that had them would be tied."""
    heirs: dict[str, str] = {}
    for part in parts:
        if part.source not in heirs or part.name.endswith(f".{part.source}"):
            heirs[part.source] = part.name
    return heirs


def _count(module: nn.Module) -> int:
    return sum(p.numel() for p in parameters_of(module))


def _shapes(module: nn.Module) -> list[tuple[int, ...]]:
    return [tuple(p.shape) for p in parameters_of(module)]
