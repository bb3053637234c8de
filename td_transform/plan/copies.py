"""Plan: copy a segment of the bottom-up graph at other widths and without its strides."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from torch import fx, nn

from td_transform.analyse.stages import solve
from td_transform.analyse.trunk import Anatomy, Segment, attribute_of
from td_transform.emit.build import Blueprint, parameter_count
from td_transform.errors import WidthConflictError
from td_transform.operators import Region, TensorInfo
from td_transform.operators.widths import Width
from td_transform.plan.assignment import assign
from td_transform.plan.strides import segment_actions, without_identities
from td_transform.plan.values import Action, LayerPlan, NodePlan, Options, SegmentPlan, UpsamplePlan


@dataclass(frozen=True)
class Copy:
    """How a segment is copied.

    Args:
        segment: what is copied.
        prefix: under which path in the emitted module.
        width_in: the channels that flow in.
        target: the channels that should flow out of a segment that sets them; by default as many
            as in the bottom-up model.
        scale: scale the widths inside with those outside, instead of keeping them.
        factor: of the upsampling at its downsampling operators; None: they only lose their stride.
        drop_identities: may its projections become identities?
        kernels: other kernel sizes, by node.
        modules: other bottom-up modules than the segment's own, by node (a sibling's form).
        rename: a module path and what stands for it in the emitted module.
    """

    segment: Segment
    prefix: str
    width_in: int
    target: int | None = None
    scale: bool = False
    factor: int | None = None
    drop_identities: bool = False
    kernels: Mapping[fx.Node, tuple[int, int]] = field(default_factory=dict)
    modules: Mapping[fx.Node, str] = field(default_factory=dict)
    rename: tuple[str, str] | None = None


class SegmentPlanner:
    """Plans copies of segments."""

    def __init__(self, anatomy: Anatomy, options: Options, blueprint: Blueprint) -> None:
        self._anatomy = anatomy
        self._options = options
        self._blueprint = blueprint
        self._taken: dict[str, LayerPlan] = {}

    def plan(self, how: Copy) -> SegmentPlan:
        """The plan of a copy.

        Raises:
            WidthConflictError: the segment can't be had at these widths.
        """
        result = self.attempt(how)
        if result is None:
            segment = how.segment
            raise WidthConflictError(
                self._anatomy.trace.place(segment.end),
                seen=f"a block that can't be had with {how.width_in} channels in "
                f"and {how.target or 'its own'} out",
                expected="widths that its divisions and groups admit",
                remedy="use arrangement='td' or 'reversed', which keep the widths inside a block",
            )
        return result

    def attempt(self, how: Copy) -> SegmentPlan | None:
        """The plan of a copy, None where its widths can't be had."""
        segment = how.segment
        actions = segment_actions(self._anatomy, segment, up=how.factor is not None)
        passed = frozenset(
            n for n, a in actions.items() if a in ("up", "drop") and not self._anatomy.is_learned(n)
        )
        region, out = solve(self._anatomy, segment, passed=passed)
        if how.modules and region.literals:
            return None  # integers in the other block's code are no measure for this one
        target = None
        if "in" not in out.variables:
            target = how.target or region.widths.value(out, region.widths.bottom_up)
        values = assign(
            region.widths,
            out,
            width_in=how.width_in,
            target=target,
            scale=how.scale,
            overrides={} if how.scale else self._own_widths(how),
        )
        if values is None:
            return None
        sizes = {
            node: {key: _value(region, width, values) for key, width in found.items()}
            for node, found in region.sizes.items()
        }
        if how.drop_identities:
            actions = without_identities(self._anatomy, segment, actions, sizes)
        gone = {n for n, action in actions.items() if action in ("drop", "up")}
        actions |= {n: "drop" for n in segment.nodes if n.op == "get_attr" and gone >= set(n.users)}
        nodes = tuple(
            self._node(how, node, actions.get(node, "keep"), region, values, sizes.get(node))
            for node in segment.nodes
        )
        return SegmentPlan(
            how.prefix,
            segment.start.name,
            segment.end.name,
            nodes,
            how.width_in,
            _value(region, out, values),
        )

    def _own_widths(self, how: Copy) -> dict[str, int]:
        """With another block's modules in the place of the segment's: the widths that those have."""
        skeleton = self._anatomy.trace.skeleton
        overrides: dict[str, int] = {}
        for node, path in how.modules.items():
            module = skeleton.get_submodule(path)
            for attribute in ("out_channels", "out_features"):
                if hasattr(module, attribute):
                    overrides[f"{node.target}#out"] = getattr(module, attribute)
        return overrides

    def _node(
        self,
        how: Copy,
        node: fx.Node,
        action: Action,
        region: Region,
        values: Mapping[str, int],
        sizes: Mapping[str, int] | None,
    ) -> NodePlan:
        plan = NodePlan(node.name, action)
        if action in ("up", "up-same", "same-up"):
            plan = replace(plan, upsample=self._upsample(how, node, action, region, values))
        if action in ("drop", "up"):
            return plan
        if node.op == "get_attr" and isinstance(
            info := self._anatomy.trace.values[node], TensorInfo
        ):
            dims = region.dims[node]
            shape = tuple(
                _value(region, d, values) if isinstance(d, Width) else s
                for d, s in zip(dims, info.shape, strict=True)
            )
            trains = isinstance(attribute_of(self._anatomy.trace.skeleton, node), nn.Parameter)
            return replace(plan, shape=shape, parameters=math.prod(shape) if trains else 0)
        literals = tuple(
            (path, _value(region, width, values))
            for path, width in region.literals.get(node, {}).items()
        )
        if node.op == "call_module":
            plan = replace(plan, layer=self._layer(how, node, action, sizes or {}))
        return replace(plan, literals=literals)

    def _layer(
        self, how: Copy, node: fx.Node, action: Action, sizes: Mapping[str, int]
    ) -> LayerPlan:
        source = how.modules.get(node, str(node.target))
        name = source
        if how.rename is not None:
            old, new = how.rename
            if not old and node not in how.modules:
                name = f"{new}.{name}"
            elif old and name.startswith(f"{old}."):
                name = new + name[len(old) :]
        module = self._anatomy.trace.skeleton.get_submodule(source)
        # the module of another block may have a stride where this node has none
        borrowed = node in how.modules and self._anatomy.role(node) == "conv"
        same = borrowed or action in ("same", "up-same", "same-up")
        plan = LayerPlan(
            f"{how.prefix}.{name}",
            source,
            type(module).__name__,
            tuple(sizes.items()),
            how.kernels.get(node),
            same,
        )
        built = self._blueprint.layer(plan)
        agree = [tuple(p.shape) for p in built.parameters()] == [
            tuple(p.shape) for p in module.parameters()
        ]
        learned = any(True for _ in module.parameters())
        plan = replace(plan, parameters=parameter_count(built), inherits=agree and learned)
        return self._unique(plan)

    def _unique(self, plan: LayerPlan) -> LayerPlan:
        """A layer that is called twice is one layer; two layers never share a name."""
        name, number = plan.name, 2
        while self._taken.setdefault(plan.name, plan) != plan:
            plan = replace(plan, name=f"{name}_{number}")
            number += 1
        return plan

    def _upsample(
        self,
        how: Copy,
        node: fx.Node,
        action: Action,
        region: Region,
        values: Mapping[str, int],
    ) -> UpsamplePlan:
        source = node if action == "same-up" else node.all_input_nodes[0]
        channels = _value(region, region.dims[source][1], values)
        return self.upsample(
            f"{how.prefix.rsplit('.', 1)[0]}", how.factor or 1, channels, node.name
        )

    def upsample(self, level: str, factor: int, channels: int, suffix: str = "") -> UpsamplePlan:
        """An upsampling of a level; a transposed convolution belongs to one place alone."""
        if self._options.upsample != "transposed":
            return UpsamplePlan(f"{level}.upsample", factor, channels)
        name = f"{level}.upsample_{suffix}" if suffix else f"{level}.upsample"
        plan = UpsamplePlan(name, factor, channels)
        count = parameter_count(self._blueprint.upsample(plan, "transposed"))
        return replace(plan, parameters=count)


def _value(region: Region, width: Width, values: Mapping[str, int]) -> int:
    value = region.widths.value(width, values)
    if value is None:
        raise ValueError(f"width {width} has no whole value")
    return value
