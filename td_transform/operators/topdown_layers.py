"""Rules for the layers of emitted top-down networks, so that those can be analysed as well."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fractions import Fraction
from typing import Any

from torch import fx, nn

from td_transform.layers.dimensions import per_axis
from td_transform.operators.dimensions import Dims, Spatial
from td_transform.operators.registry import Call, node_operator
from td_transform.operators.widths import Conflict
from td_transform.taps import Reach


def pyramid(call: Call) -> tuple[Dims, ...]:
    """Levels of the image: their strides."""
    strides = call.option("strides", 0)
    return tuple(_stepped(call, per_axis(stride, call.axes)) for stride in strides)


def _stepped(call: Call, steps: Sequence[Fraction | int]) -> Dims:
    return tuple(
        dim.stepped(steps[dim.axis]) if isinstance(dim, Spatial) else dim for dim in call.dims()
    )


def pyramid_reach(call: Call) -> Reach:
    """The blur of every level as a window.

    Raises:
        Conflict: what stands before the pyramid looks further than one pixel.
    """
    module: Any = call.module
    if module.preprocess is not None:
        _check_pointwise(module.preprocess)
    sizes = call.shape()[2:]
    return Reach(levels=tuple(module.reads(stride, sizes) for stride in module.strides))


def _check_pointwise(module: nn.Module) -> None:
    nodes = module.graph.nodes if isinstance(module, fx.GraphModule) else ()
    modules: Mapping[str, nn.Module] = dict(module.named_modules())
    calls = [n for n in nodes if n.op.startswith("call")]
    operators = [
        node_operator(n, modules.get(str(n.target)) if n.op == "call_module" else None)
        for n in calls
    ]
    sliding = [
        n.name
        for n, o in zip(calls, operators, strict=True)
        if o is None or o.window or o.role in ("conv", "pool")
    ]
    if sliding or not nodes:
        raise Conflict(f"a pyramid after {sliding or type(module).__name__}")


def upsample(call: Call) -> Dims:
    """The map's own channels at a finer stride."""
    return _stepped(call, [Fraction(1, factor) for factor in call.option("factors", 0)])


def upsample_reach(call: Call) -> Reach:
    """The second input only lends its size."""
    module: Any = call.module
    return Reach(module.taps, mixes=module.kind == "transposed", sources=1)
