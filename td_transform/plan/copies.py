"""Plan: copy a segment of the bottom-up graph at other widths and without its strides."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from keyword import iskeyword

from torch import Tensor, fx, nn

from td_transform.analyse import BottomUp, Segment, attribute_of, solve
from td_transform.errors import WidthConflictError
from td_transform.layers import learns
from td_transform.layers.axes import STANDARD
from td_transform.layers.dimensions import by
from td_transform.operators import Inference, TensorInfo
from td_transform.operators.widths import INFLOW, Variable, Width
from td_transform.options import Options
from td_transform.plan.assignment import assign
from td_transform.plan.parts import (
    Change,
    Drop,
    Keep,
    LayerPlan,
    NodePlan,
    SegmentPlan,
    SizePreserving,
    TensorPlan,
    Upsampled,
    UpsamplePlan,
)
from td_transform.plan.refusals import indivisible, name_of, pinned
from td_transform.plan.strides import (
    Along,
    Upsampling,
    find_changes,
    is_cut_back,
    without_identities,
)


@dataclass(frozen=True)
class CopySpec:
    """How a segment is copied.

    Args:
        segment: what is copied.
        level: the path of the level in the emitted module.
        width_in: the channels that flow in.
        part: what the copy is of the level: the last part of the path that its layers lie under.
        target: the channels that should flow out of a segment that sets them; by default as many
            as in the bottom-up model.
        scale: scale the widths inside with those outside, instead of keeping them.
        factors: of the upsampling at its downsampling operators, along each axis; None: they only
            lose their stride.
        drop_identities: may its projections become identities?
        kernels: other kernel sizes, by node.
        modules: other bottom-up modules than the segment's own, by node (a sibling's form).
        rename: a module path and what stands for it in the emitted module.
        shared: the paths that keep their names all the same: of what another block calls as well.
    """

    segment: Segment
    level: str
    width_in: int
    part: str = "stage"
    target: int | None = None
    scale: bool = False
    factors: tuple[int, ...] | None = None
    drop_identities: bool = False
    kernels: Mapping[fx.Node, tuple[int, ...]] = field(default_factory=dict)
    modules: Mapping[fx.Node, str] = field(default_factory=dict)
    rename: tuple[str, str] | None = None
    shared: frozenset[str] = frozenset()

    @property
    def prefix(self) -> str:
        """The path that its layers lie under."""
        return f"{self.level}.{self.part}" if self.level else self.part


@dataclass(frozen=True)
class _Solved:
    """The widths of a copy; `place` is where its segment stands, `scales` whether widths inside change."""

    place: Callable[[], str]
    inference: Inference
    out: Width
    values: Mapping[Variable, int]
    scales: bool

    def width(self, width: Width) -> int:
        return self._whole(self.inference.widths.value(width, self.values))

    def literal(self, width: Width) -> int:
        """An integer in the code, which may count from the end."""
        return self._whole(self.inference.widths.number(width, self.values))

    def _whole(self, value: int | None) -> int:
        if value is None:
            seen = "a width that is no whole number at the planned ones"
            raise indivisible(self.place(), seen, scales=self.scales)
        return value

    def sizes(self) -> dict[fx.Node, dict[str, int]]:
        """The widths that each layer's parameters depend on."""
        return {
            node: {key: self.width(width) for key, width in found.items()}
            for node, found in self.inference.sizes.items()
        }


class SegmentPlanner:
    """Plans copies of segments."""

    def __init__(self, bottom_up: BottomUp, options: Options) -> None:
        self._bottom_up = bottom_up
        self._trunk = bottom_up.trunk
        self._learns = learns(options.upsample)
        self._taken: dict[str, object] = {}
        self.opaque: dict[fx.Node, str] = {}

    def plan(self, spec: CopySpec) -> SegmentPlan:
        """The plan of a copy.

        Raises:
            WidthConflictError, UnknownOperatorError: the segment can't be had at these widths.
        """
        result = self.attempt(spec)
        if result is None:
            inference, _ = solve(self._trunk, spec.segment)
            raise pinned(
                self._trunk, inference,
                width_in=spec.width_in, width_out=spec.target, scales=spec.scale,
            )  # fmt: skip
        return result

    def attempt(self, spec: CopySpec) -> SegmentPlan | None:
        """The plan of a copy, None where its widths can't be had."""
        segment, upsampling = spec.segment, self._upsampling(spec)
        if any(self._is_cut_otherwise(node, path) for node, path in spec.modules.items()):
            return None
        changes = find_changes(self._trunk, segment, upsampling)
        solved = self._solve(spec, changes)
        if solved is None:
            return None
        sizes = solved.sizes()
        if spec.drop_identities:
            changes = without_identities(
                self._trunk, segment, changes, sizes, upsampling,
                from_start=self._bottom_up.style.identities_from_start,
            )  # fmt: skip
        for node in solved.inference.opaque:
            self.opaque[node] = self._described(node)
        gone = {n for n, change in changes.items() if _is_gone(change)}
        for node in reversed(segment.nodes):
            if node in self._trunk.constants and gone >= set(node.users):
                gone.add(node)
                changes[node] = Drop()
        nodes = (
            self._node(spec, node, changes.get(node, Keep()), solved, sizes.get(node, {}))
            for node in segment.nodes
        )
        return SegmentPlan(
            spec.prefix,
            segment.start.name,
            segment.end.name,
            tuple(nodes),
            spec.width_in,
            solved.width(solved.out),
            self._trunk.axes(segment.start) or STANDARD,
            self._trunk.axes(segment.end) or STANDARD,
        )

    def upsample(
        self, name: str, factors: tuple[int, ...], channels: int, tensor: fx.Node | None = None
    ) -> UpsamplePlan:
        """An upsampling; one that learns belongs to one tensor alone."""
        own = f"_{tensor.name}" if tensor is not None and self._learns else ""
        return UpsamplePlan(f"{name}{own}", factors, channels)

    def _described(self, node: fx.Node) -> str:
        name, path = name_of(self._trunk, node), self._trunk.trace.path(node)
        return f"{name} in {path}" if path else name

    # Widths

    def _upsampling(self, spec: CopySpec) -> Upsampling | None:
        factors = spec.factors
        if factors is None:
            return None

        def along(tensor: fx.Node, axes: Along) -> UpsamplePlan | None:
            own = tuple(f if moves else 1 for f, moves in zip(factors, axes, strict=True))
            if set(own) == {1}:
                return None
            name = f"{spec.level}.upsample"
            # a block may change its axes one after the other
            return self.upsample(name if own == factors else f"{name}_{by(own)}", own, 0, tensor)

        return along

    def _solve(self, spec: CopySpec, changes: Mapping[fx.Node, Change]) -> _Solved | None:
        passed = frozenset(
            n for n, change in changes.items() if _is_gone(change) and not self._trunk.is_learned(n)
        )
        inference, out = solve(self._trunk, spec.segment, passed=passed)
        if spec.modules and inference.literals:
            return None  # integers in the other block's code are no measure for this one
        target = None
        if INFLOW not in out.variables:
            target = spec.target or inference.widths.value(out, inference.widths.bottom_up)
        values = assign(
            inference.widths,
            out,
            width_in=spec.width_in,
            target=target,
            scale=spec.scale,
            overrides={} if spec.scale else self._own_widths(spec),
        )
        if values is None:
            return None
        place = lambda: self._trunk.trace.place(spec.segment.end)  # noqa: E731
        found = _Solved(place, inference, out, values, spec.scale)
        misses = spec.target is not None and found.width(out) != spec.target
        return None if misses and (inference.pins or not out.variables) else found

    def _own_widths(self, spec: CopySpec) -> dict[Variable, int]:
        """With another block's modules in the place of the segment's: the widths that those have."""
        skeleton = self._trunk.trace.skeleton
        overrides: dict[Variable, int] = {}
        for node, path in spec.modules.items():
            module = skeleton.get_submodule(path)
            for attribute in ("out_channels", "out_features"):
                if hasattr(module, attribute):
                    overrides[Variable(str(node.target), "out")] = getattr(module, attribute)
        return overrides

    def _is_cut_otherwise(self, node: fx.Node, path: str) -> bool:
        """Would a slice behind a node not fit what a module of another block makes in its place?"""
        if self._trunk.role(node) != "conv" or not is_cut_back(self._trunk, node):
            return False
        skeleton = self._trunk.trace.skeleton
        own, other = (skeleton.get_submodule(p) for p in (str(node.target), path))
        facts = ("kernel_size", "stride", "dilation", "padding")
        return any(getattr(own, fact, None) != getattr(other, fact, None) for fact in facts)

    # Nodes

    def _node(
        self,
        spec: CopySpec,
        node: fx.Node,
        change: Change,
        solved: _Solved,
        sizes: Mapping[str, int],
    ) -> NodePlan:
        if isinstance(change, Upsampled):
            change = self._with_channels(node, change, solved)
        if _is_gone(change):
            return NodePlan(node.name, change)
        if node.op == "get_attr":
            return NodePlan(node.name, tensor=self._tensor(spec, node, solved))
        asks = self._trunk.asks(node, spec.segment.start)
        if asks is not None:
            return NodePlan(node.name, asks=asks)
        found = solved.inference.literals.get(node, {})
        literals = tuple((path, solved.literal(width)) for path, width in found.items())
        if node.op != "call_module":
            return NodePlan(node.name, change, literals=literals)
        # the module of another block may have a stride where this node has none
        borrowed = node in spec.modules and self._trunk.slides(node)
        borrowed = borrowed and not self._trunk.window(node).steps
        if borrowed and isinstance(change, Keep) and not is_cut_back(self._trunk, node):
            change = SizePreserving()
        layer = self._layer(spec, node, sizes, size_preserving=not isinstance(change, Keep))
        return NodePlan(node.name, change, layer, literals)

    def _with_channels(self, node: fx.Node, change: Upsampled, solved: _Solved) -> Upsampled:
        source = node if change.where == "after" else self._trunk.call(node).input
        if change.takes is not None:
            source = next(n for n in solved.inference.dims if n.name == change.takes)
        if (
            self._learns
            and self._trunk.trace.values[source].shape[0] < self._trunk.call(node).batch
        ):
            raise WidthConflictError(
                self._trunk.trace.place(node),
                seen="the images of a batch side by side as channels, where the map is upsampled",
                expected="as many channels whatever the batch, for an upsampling that may learn",
                remedy="use upsample='nearest' or 'bilinear'",
            )
        axes = self._trunk.axes(source) or STANDARD
        channels = solved.width(solved.inference.dims[source][axes.channels])
        return replace(change, upsample=replace(change.upsample, channels=channels))

    def _tensor(self, spec: CopySpec, node: fx.Node, solved: _Solved) -> TensorPlan:
        """A parameter or buffer that the forward reads itself."""
        source, skeleton = str(node.target), self._trunk.trace.skeleton
        info: TensorInfo = self._trunk.trace.values[node]
        shape = tuple(
            solved.width(dim) if isinstance(dim, Width) else size
            for dim, size in zip(solved.inference.dims[node], info.shape, strict=True)
        )
        owner = source.rpartition(".")[0]
        name = _renamed(spec, source, is_own=not spec.shared.isdisjoint({source, owner}))
        parameters = (
            math.prod(shape) if isinstance(attribute_of(skeleton, source), nn.Parameter) else 0
        )
        own = _tensor_at(skeleton, name)
        if own is not None and own.shape == info.shape:
            source = name
        plan = TensorPlan(f"{spec.prefix}.{name}", source, shape, parameters)
        return replace(plan, name=self._apart(plan.name, replace(plan, name="")))

    def _layer(
        self, spec: CopySpec, node: fx.Node, sizes: Mapping[str, int], *, size_preserving: bool
    ) -> LayerPlan:
        own = spec.modules.get(node)
        source = own or str(node.target)
        module = self._trunk.trace.skeleton.get_submodule(source)
        plan = LayerPlan(
            f"{spec.prefix}.{_renamed(spec, source, is_own=own is not None or source in spec.shared)}",
            source,
            type(module).__name__,
            tuple(sizes.items()),
            spec.kernels.get(node),
        )
        what = (replace(plan, name=""), size_preserving)
        return replace(plan, name=self._apart(plan.name, what))

    def _apart(self, name: str, what: object) -> str:
        """What is read twice has one name; two things never share one, and none is a word of Python."""
        name = ".".join(f"{part}_" if iskeyword(part) else part for part in name.split("."))
        free, number = name, 2
        while self._taken.setdefault(free, what) != what:
            free = f"{name}_{number}"
            number += 1
        return free


def _renamed(spec: CopySpec, path: str, *, is_own: bool = False) -> str:
    """What a bottom-up path is called in a copy; one of its own keeps its name among a sibling's."""
    old, new = spec.rename or ("", "")
    if old:
        return new + path[len(old) :] if path.startswith(f"{old}.") else path
    return f"{new}.{path}" if new and not is_own else path


def _tensor_at(root: nn.Module, path: str) -> Tensor | None:
    owner, _, name = path.rpartition(".")
    found = getattr(dict(root.named_modules()).get(owner), name, None)
    return found if isinstance(found, Tensor) else None


def _is_gone(change: Change) -> bool:
    """Does nothing of the node stay?"""
    return isinstance(change, Drop) or (isinstance(change, Upsampled) and change.where == "instead")
