"""What an opaque operator reads of its maps: measured, by the gradient of that operator alone.

It runs at the shapes that it has in the network, on positive random values in double precision and with
positive random parameters, so that no path cancels another. A dependence without a gradient (on an index,
say) isn't seen.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from td_transform.operators import Spatial, TensorInfo
from td_transform.operators.dimensions import FLAT
from td_transform.operators.opaque import everything
from td_transform.operators.registry import Call
from td_transform.taps import POINT, Reach, Taps
from td_transform.trace import Trace


class OpaqueReaches:
    """Measures opaque operators; one that comes again with the same shapes is measured once.

    Args:
        trace: the traced network.
    """

    def __init__(self, trace: Trace) -> None:
        self._trace = trace
        self._known: dict[str, Reach] = {}

    def reach(self, call: Call) -> Reach:
        """What the operator reads; the whole map as a bound, where it can't be run alone."""
        key = self._key(call)
        if key not in self._known:
            try:
                with torch.random.fork_rng(devices=[]), torch.enable_grad():
                    torch.manual_seed(0)
                    self._known[key] = self._measured(call)
            except Exception:  # whatever a stranger's operator may say of random values
                self._known[key] = everything(call)
        return self._known[key]

    def _key(self, call: Call) -> str:
        """The operator, its arguments and the shapes and axes of the tensors that it reads."""
        node = call.node
        described = fx.node.map_arg(
            (node.args, node.kwargs),
            lambda n: f"<{self._trace.values[n]} {call.inference.dims.get(n)}>",
        )
        target = node.target if call.module is None else f"{type(call.module)} {call.module}"
        return f"{target} {described}"

    def _measured(self, call: Call) -> Reach:
        given: dict[fx.Node, Any] = {n: self._value(n) for n in call.node.all_input_nodes}
        maps = {n: v for n, v in given.items() if isinstance(v, Tensor) and v.requires_grad}
        outputs = list(_outputs(self._run(call.node, given), call.inference.dims[call.node]))
        if not maps or not outputs:
            raise ValueError("nothing here has a gradient")
        axes = [_Axis(call, maps, outputs, axis) for axis in range(len(self._trace.input_size) - 1)]
        taps, whole = zip(*(axis.read() for axis in axes), strict=True)
        return Reach(taps, whole, measured=True)

    def _value(self, node: fx.Node) -> Any:
        """Random values for a map, what the trace has for all else.

        Raises:
            ValueError: its values matter (an index), and aren't known.
        """
        if node.op == "get_attr":
            return _positive(self._trace.tensor(str(node.target)).detach())
        info = self._trace.values[node]
        if isinstance(info, TensorInfo) and not info.dtype.is_floating_point:
            return self._constant(node)
        return _random(info)

    def _constant(self, node: fx.Node) -> Any:
        """The value of what doesn't depend on the image (`arange`)."""
        if node.op == "placeholder":
            raise ValueError("an index made from the image")
        if node.op == "get_attr":
            return self._trace.tensor(str(node.target)).detach()
        if not isinstance(self._trace.values[node], (TensorInfo, tuple)):
            return self._trace.values[node]
        return self._run(node, {n: self._constant(n) for n in node.all_input_nodes})

    def _run(self, node: fx.Node, given: Mapping[fx.Node, Any]) -> Any:
        args, kwargs = fx.node.map_arg((node.args, node.kwargs), lambda n: given[n])
        # what works in place gets a copy
        args, kwargs = torch.utils._pytree.tree_map_only(Tensor, torch.clone, (args, kwargs))
        if node.op == "call_module":
            return _ready(self._trace.model.get_submodule(str(node.target)))(*args, **kwargs)
        if node.op == "call_method":
            return getattr(args[0], str(node.target))(*args[1:], **kwargs)
        function: Callable[..., Any] = node.target  # type: ignore[assignment]
        return function(*args, **kwargs)


def _random(info: Any) -> Any:
    if isinstance(info, TensorInfo):
        drawn = torch.rand(info.shape, dtype=torch.float64) + 0.5
        return drawn.requires_grad_()
    return tuple(map(_random, info)) if isinstance(info, tuple) else info


def _positive(value: Tensor) -> Tensor:
    if not value.is_floating_point():
        return value
    fan_in = max(1, value[0].numel() if value.dim() > 1 else 1)
    return (torch.rand(value.shape, dtype=torch.float64) + 0.5) / fan_in


def _ready(module: nn.Module) -> nn.Module:
    """A copy with positive parameters; buffers (tables of indices) keep their values."""
    twin = copy.deepcopy(module)
    twin.eval()
    for part in twin.modules():
        for name, parameter in part._parameters.items():
            if parameter is not None:
                part._parameters[name] = nn.Parameter(_positive(parameter), requires_grad=False)
    return twin.double()


def _outputs(result: Any, dims: Any) -> Iterator[tuple[Tensor, Any]]:
    """The tensors of a result with their dimensions."""
    if isinstance(result, Tensor):
        if result.requires_grad and isinstance(dims, tuple):
            yield result, dims
    elif isinstance(result, (tuple, list)) and isinstance(dims, tuple):
        for part, of_part in zip(result, dims, strict=False):
            yield from _outputs(part, of_part)
    elif isinstance(result, dict) and isinstance(dims, dict):
        for key, part in result.items():
            yield from _outputs(part, dims.get(key))


@dataclass(frozen=True)
class _Axis:
    """What an operator's outputs read along one axis.

    Args:
        call: the operator.
        maps: the tensors that it reads.
        outputs: those that it returns, with their dimensions.
        axis: which.
    """

    call: Call
    maps: Mapping[fx.Node, Tensor]
    outputs: list[tuple[Tensor, Any]]
    axis: int

    def read(self) -> tuple[Taps, bool]:
        """The positions that each output position reads; True where they all read all of them."""
        sides = {side for _, side, _ in self._sources()}
        counts = {_along(out, dims, self.axis)[1] for out, dims in self.outputs} - {0}
        if not sides or not counts:
            return POINT, False  # what has no such axis after it is pooled
        if len(sides) > 1 or len(counts) > 1:
            return POINT, True
        (size,), (count,) = sides, counts
        if all(self._reads(p) == set(range(size)) for p in {0, count // 2, count - 1}):
            return POINT, True
        offsets = tuple(tuple(sorted(self._reads(p))) for p in range(count))
        if count == size and offsets == tuple((p,) for p in range(count)):
            return POINT, False
        return Taps(offsets, size), False

    def _sources(self) -> Iterator[tuple[fx.Node, int, int]]:
        """Tensors that have the axis: its positions, and the dimension that holds it."""
        for node, tensor in self.maps.items():
            place, count = _along(tensor, self.call.inference.dims[node], self.axis)
            if count > 1:
                yield node, count, place

    def _reads(self, position: int) -> set[int]:
        sources = list(self._sources())
        total = torch.zeros((), dtype=torch.float64)
        for out, dims in self.outputs:
            chosen = _spread(out, dims, self.axis).select(0, position)
            chosen = torch.view_as_real(chosen) if chosen.is_complex() else chosen
            total = total + (chosen * (torch.rand(chosen.shape, dtype=chosen.dtype) + 0.5)).sum()
        tensors = [self.maps[node] for node, _, _ in sources]
        found: set[int] = set()
        for (node, _, _), gradient in zip(
            sources,
            torch.autograd.grad(total, tensors, retain_graph=True, allow_unused=True),
            strict=True,
        ):
            if gradient is not None:
                dims = self.call.inference.dims[node]
                strength = _spread(gradient, dims, self.axis).flatten(1).abs().amax(1)
                # what is far below the largest is a rounding error, of a Fourier transform say
                found |= set((strength > 1e-9 * strength.max()).nonzero().flatten().tolist())
        return found


def _along(tensor: Tensor, dims: Any, axis: int) -> tuple[int, int]:
    """The dimension that holds an axis, and its positions; 0 where there is none."""
    for place, dim in enumerate(dims):
        if isinstance(dim, Spatial) and dim.axis == FLAT:
            return place, dim.sizes[axis]
        if isinstance(dim, Spatial) and dim.axis == axis:
            return place, tensor.shape[place]
    return 0, 0


def _spread(tensor: Tensor, dims: Any, axis: int) -> Tensor:
    """The tensor with the axis in front."""
    place, _ = _along(tensor, dims, axis)
    if dims[place].axis == FLAT:
        unflattened: Tensor = tensor.unflatten(place, dims[place].sizes)
        return unflattened.movedim(place + axis, 0)
    return tensor.movedim(place, 0)
