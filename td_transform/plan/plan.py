"""The plan: what would be built, as an immutable value of plain data that prints as a table."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

from td_transform.layers import name_of
from td_transform.layers.axes import MapAxes
from td_transform.layers.dimensions import by
from td_transform.options import Options
from td_transform.plan.cost import PlanCost, Recomputation, Work
from td_transform.plan.parts import (
    Drop,
    Keep,
    LayerPlan,
    LevelPlan,
    NodePlan,
    OwnPlan,
    PoolTo,
    SegmentPlan,
    SizePreserving,
    TensorPlan,
    UnitPlan,
    Upsampled,
    UpsamplePlan,
    parameters,
)
from td_transform.plan.table import level_table, totals
from td_transform.table import Table


@dataclass(frozen=True)
class Plan:
    """What `to_topdown` builds; prints as a table.

    Args:
        model: the bottom-up model's class.
        options: the options it was made with, the input size among them.
        levels: from coarse to fine.
        head: from the last map to the logits.
        warnings: what the user should know before training.
        opaque: the operators that no rule knows, with their modules: carried along as they stand.
        frozen: what the trace fixed as the input size or a value decided it.
        replaced: the blocks that lower the resolution by means that can't be taken from them, and
            why: a 1x1 unit and an upsampling stand for each.
        bound: the levels whose blocks are those of their resolution's own stage, and why.
        cost: what an image costs.
        recomputation: what `memory_budget` asks for.
        front: what the bottom-up model calls to make the image of its input, where that is none
            (electrodes over time, a waveform).
        made_size: of that image.
        front_parameters: what the front learns; it has the bottom-up model's weights.
    """

    model: str
    options: Options
    levels: tuple[LevelPlan, ...]
    head: SegmentPlan
    warnings: tuple[str, ...] = ()
    opaque: tuple[str, ...] = ()
    frozen: tuple[str, ...] = ()
    replaced: tuple[str, ...] = ()
    bound: tuple[str, ...] = ()
    cost: PlanCost | None = None
    recomputation: Recomputation | None = None
    front: tuple[str, ...] = ()
    made_size: tuple[int, ...] = ()
    front_parameters: int = 0

    @property
    def input_size(self) -> tuple[int, ...]:
        """(C, H, W), or the channels and as many sizes as an image has axes."""
        return self.options.input_size or ()

    @property
    def image_size(self) -> tuple[int, ...]:
        """(C, H, W) of what the pyramid is made of: the input, or what the front makes of it."""
        return self.made_size or self.input_size

    @property
    def segments(self) -> tuple[SegmentPlan, ...]:
        """All stretches of the bottom-up graph that are copied, in order."""
        parts = (part for level in self.levels for part in level.parts)
        return (*(part for part in parts if isinstance(part, SegmentPlan)), self.head)

    @property
    def parameters(self) -> int:
        """Trainable parameters of the top-down network."""
        parts = (part for level in self.levels for part in level.parts)
        return self.front_parameters + parameters([*parts, self.head])

    @property
    def layers(self) -> list[LayerPlan]:
        """The bottom-up layers that the top-down network has copies of."""
        return [layer for segment in self.segments for layer in segment.layers]

    @property
    def inherited(self) -> tuple[str, ...]:
        """The layers, and parameters that the forward reads itself, that keep their bottom-up weights,
        by their path in the emitted module."""
        if self.options.weights == "fresh":
            return ()
        parts = (part for copy in self.segments for part in copy.held)
        return tuple(dict.fromkeys(part.name for part in parts if part.inherits))

    @property
    def table(self) -> Table:
        """A row per level: widths, kernels, parameters, what an image costs."""
        total = self.parameters - self.front_parameters
        return level_table(self.levels, self.head, total, self.cost)

    @property
    def totals(self) -> str:
        """What the whole network costs, in a line."""
        return totals(self.parameters, self.cost)

    @property
    def notes(self) -> tuple[str, ...]:
        """What the table can't hold: what is inherited, opaque, fixed, replaced, bound or recomputed,
        and warnings."""
        lines = []
        if self.options.weights == "inherit":
            lines.append(f"inherited: {', '.join(self.inherited) or 'nothing'}")
        if self.front:
            made = f"an image of {by(self.image_size)} ({', '.join(self.front)})"
            if self.front_parameters:
                made += f"; {self.front_parameters:,} parameters, with the model's weights"
            lines.append(f"front: the pyramid is of what the model makes of its input, {made}")
        if self.opaque:
            lines.append(f"opaque: {', '.join(_counted(self.opaque))}")
        lines += [f"fixed: {note}" for note in self.frozen]
        new = [copy.prefix for copy in self.segments if copy.new_tokens]
        if new:
            lines.append(f"class tokens: the mean of the map stands for them in {', '.join(new)}")
        lines += [f"replaced by a 1x1 unit and an upsampling: {note}" for note in self.replaced]
        lines += [f"bound: {note}" for note in self.bound]
        if self.recomputation is not None and self.cost is not None:
            lines.append(_recomputed(self.recomputation, self.cost))
        return (*lines, *(f"warning: {w}" for w in self.warnings))

    def to_json(self) -> str:
        """The plan as text, for `from_json`; functions of your own by their names alone."""
        return json.dumps(_to_data(self), indent=1)

    @staticmethod
    def from_json(text: str) -> Plan:
        """The plan that `to_json` wrote.

        Raises:
            ValueError: the text is no plan of this version.
        """
        plan = _from_data(json.loads(text))
        if not isinstance(plan, Plan):
            raise ValueError("no plan")
        return plan

    def __str__(self) -> str:
        return "\n".join([_title(self), *self.table.lines(), self.totals, *self.notes])


def _counted(opaque: tuple[str, ...]) -> list[str]:
    """The operators without their modules, and how often each is there."""
    counts = Counter(name.partition(" in ")[0] for name in opaque)
    return [f"{name} ({count})" if count > 1 else name for name, count in counts.items()]


def _title(plan: Plan) -> str:
    size, options = by(plan.input_size), plan.options
    lift = "" if options.lift is None else f"{name_of(options.lift)}, "
    return (
        f"{plan.model}, {size}: {options.arrangement}, output stride {options.output_stride}, "
        f"{name_of(options.merge)}, {name_of(options.upsample)}, {name_of(options.pyramid)}, "
        f"{lift}{options.weights} weights"
    )


def _recomputed(recomputation: Recomputation, cost: PlanCost) -> str:
    whole, kept = cost.total.activation_bytes, recomputation.kept_bytes
    levels = ", ".join(recomputation.levels) or "no level"
    return f"recomputed in the backward pass: {levels}; kept: {kept:,} bytes of {whole:,}"


_KINDS = {
    kind.__name__: kind
    for kind in (
        Plan, Options, LevelPlan, UnitPlan, OwnPlan, SegmentPlan, NodePlan, LayerPlan, TensorPlan,
        UpsamplePlan,
        Keep, Drop, SizePreserving, Upsampled, PoolTo, MapAxes, PlanCost, Recomputation, Work,
    )
}  # fmt: skip


def _to_data(value: Any) -> Any:
    """Dataclasses as dictionaries with their class's name; functions of the user's own by name."""
    if is_dataclass(value):
        own = {field.name: _to_data(getattr(value, field.name)) for field in fields(value)}
        return {"kind": type(value).__name__, **own}
    if callable(value):
        return name_of(value)
    return [_to_data(item) for item in value] if isinstance(value, tuple) else value


def _from_data(data: Any) -> Any:
    """Dataclasses from what `_to_data` made; lists become tuples."""
    if isinstance(data, list):
        return tuple(_from_data(item) for item in data)
    if not isinstance(data, dict):
        return data
    own = {key: _from_data(value) for key, value in data.items() if key != "kind"}
    return _KINDS[data["kind"]](**own)
