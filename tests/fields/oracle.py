"""The receptive field of a position as the support of its gradient, to hold the analysis against.

The network runs in float64 with positive weights, so that no path cancels another or dies: a
maximum pooling, whose gradient only shows the winner, becomes an average pooling of the same
geometry; activations that saturate become a factor, and norms with running statistics too.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from td_transform import Pyramid, ReceptiveFields
from td_transform.analyse.infer import operator_of
from td_transform.fields import Box
from td_transform.trace import Trace

PASS_EVERYTHING = (nn.LeakyReLU, nn.ELU, nn.Identity)


class PositiveNetwork(fx.Interpreter):
    """Runs a traced network on one image and keeps every tensor.

    Args:
        traced: the network.
        last: stop after this node; the classifier's large weights are then never made.
        gates: with gradients through poolings of the whole map.
    """

    def __init__(self, traced: Trace, *, last: str | None = None, gates: bool = True) -> None:
        super().__init__(traced.skeleton, graph=traced.graph)
        self.traced = traced
        self.tensors: dict[str, Tensor] = {}
        self._last, self._gates, self._done = last, gates, False
        self._modules: dict[str, nn.Module] = {}
        self.image = torch.rand(1, *traced.input_size, dtype=torch.float64) + 0.5
        self.image.requires_grad_()
        self.run(self.image)

    def run_node(self, n: fx.Node) -> Any:
        if self._done or n.op == "output":
            return None
        result = super().run_node(n)
        role = operator_of(self.traced, n).role if n.op.startswith("call") else ""
        if not self._gates and role == "collapse":
            result = result.detach()
        if isinstance(result, Tensor):
            self.tensors[n.name] = result
        self._done = n.name == self._last
        return result

    def fetch_attr(self, target: str) -> Any:
        value = super().fetch_attr(target)
        if isinstance(value, Tensor) and value.is_floating_point():
            return positive(value)
        if isinstance(value, nn.Module):
            if target not in self._modules:
                self._modules[target] = replacement(value)
            return self._modules[target]
        return value

    def call_function(self, target: Any, args: Any, kwargs: Any) -> Any:
        for pools in POOLS.values():
            if target in pools.maxima:
                return DilatedAverage(pools.maximum(*args[1:], **kwargs))(args[0])
            if target is pools.adaptive_maximum:
                target = pools.adaptive_average
        if target in SATURATING:
            return Level()(args[0])
        return super().call_function(target, args, kwargs)

    def call_method(self, target: str, args: Any, kwargs: Any) -> Any:
        if target in ("relu", "sigmoid", "tanh", "clamp"):
            return Level()(args[0])
        return super().call_method(target, args, kwargs)

    def box(self, name: str, position: tuple[int, ...], *, tolerance: float = 0.0) -> Box:
        """Rows and columns of the image on which a position depends, ends exclusive.

        Args:
            name: a node.
            position: (row, column) of its map.
            tolerance: gradients below this share of the largest are rounding errors.
        """
        tensor = self.tensors[name]
        index: tuple[Any, ...] = (0, slice(None), *position)
        at = tensor[index] if tensor.dim() == len(index) else tensor[0]
        if not at.requires_grad:
            return (0, 0) * len(position)
        weight = torch.rand(at.shape, dtype=at.dtype) + 0.5
        gradient = torch.autograd.grad(
            (at * weight).sum(), self.image, retain_graph=True, allow_unused=True
        )[0]
        if gradient is None:
            return (0, 0) * len(position)
        strength = gradient[0].abs().amax(0)
        return _extent(strength > tolerance * strength.max())


SATURATING = {
    F.relu, torch.relu, torch.sigmoid, torch.tanh, F.sigmoid, F.tanh, F.hardsigmoid, F.hardtanh,
    F.relu6, F.hardswish, F.gelu, F.silu,
}  # fmt: skip


def _extent(seen: Tensor) -> Box:
    if not seen.any():
        return (0, 0) * seen.dim()
    places = seen.nonzero()
    return (*places.amin(0).tolist(), *(places.amax(0) + 1).tolist())


def positive(like: Tensor) -> Tensor:
    """Random weights of that shape whose products with a map keep its magnitude.

    Those of a large layer agree over the input's channels, which costs no power (no sum of positive
    products is zero) and no memory: drawn one by one, a large network's take minutes and 5 GB. In a
    small one channels have to differ, since a norm over two equal channels has no gradient.
    """
    fan_in = max(1, math.prod(like.shape[1:]))
    shape = tuple(like.shape)
    if like.dim() > 1 and like.numel() > 2**16:
        shape = (shape[0], 1, *shape[2:])
    drawn = torch.empty(shape, dtype=torch.float64).uniform_(0.5 / fan_in, 1.5 / fan_in)
    return drawn.expand(like.shape)


class Level(nn.Module):
    """A factor that brings a map to the same magnitude, so that no product of gates underflows."""

    def forward(self, x: Tensor) -> Tensor:
        return x / x.detach().abs().mean().clamp(min=1e-9)


class DilatedAverage(nn.Module):
    """A maximum pooling with dilation, as a depthwise convolution."""

    def __init__(self, pool: Any) -> None:
        super().__init__()
        self.pool = pool

    def forward(self, x: Tensor) -> Tensor:
        pool, channels = self.pool, x.shape[1]
        sizes, axes = self.pool(x).shape[2:], x.dim() - 2
        kernel, stride = each(pool.kernel_size, axes), each(pool.stride, axes)
        padding, dilation = each(pool.padding, axes), each(pool.dilation, axes)
        room = [
            (p, max((out - 1) * s + d * (k - 1) + 1 - size - p, 0))
            for out, s, d, k, size, p in zip(
                sizes, stride, dilation, kernel, x.shape[2:], padding, strict=True
            )
        ]
        x = F.pad(x, [side for sides in reversed(room) for side in sides])
        weight = torch.ones(channels, 1, *kernel, dtype=x.dtype) / math.prod(kernel)
        x = POOLS[axes].convolve(x, weight, None, stride, 0, dilation, channels)
        return x[(..., *(slice(size) for size in sizes))]


def each(value: int | tuple[int, ...], axes: int) -> tuple[int, ...]:
    return (value,) * axes if isinstance(value, int) else value


class Pools(NamedTuple):
    maximum: type[nn.Module]
    maxima: tuple[Callable[..., Tensor], ...]
    adaptive_maximum: Callable[..., Tensor]
    adaptive_average: Callable[..., Tensor]
    convolve: Callable[..., Tensor]


POOLS = {
    1: Pools(nn.MaxPool1d, (F.max_pool1d, torch.max_pool1d), F.adaptive_max_pool1d,
             F.adaptive_avg_pool1d, F.conv1d),
    2: Pools(nn.MaxPool2d, (F.max_pool2d, torch.max_pool2d), F.adaptive_max_pool2d,
             F.adaptive_avg_pool2d, F.conv2d),
    3: Pools(nn.MaxPool3d, (F.max_pool3d, torch.max_pool3d), F.adaptive_max_pool3d,
             F.adaptive_avg_pool3d, F.conv3d),
}  # fmt: skip


def replacement(module: nn.Module) -> nn.Module:
    """The module on the CPU with positive weights, or what passes the same positions on."""
    if isinstance(module, (nn.MaxPool1d, nn.MaxPool2d, nn.MaxPool3d)):
        return DilatedAverage(module)
    if isinstance(module, nn.AdaptiveMaxPool2d):
        return nn.AdaptiveAvgPool2d(module.output_size)
    kind = type(module).__name__
    if "BatchNorm" in kind:
        return Level()
    # a norm by statistics makes negative values, which a ReLU would stop
    if type(module).__module__.endswith("activation") and not isinstance(module, PASS_EVERYTHING):
        return Level()
    if isinstance(module, Pyramid) and module.kind == "maxpool":
        raise NotImplementedError("the gradient of a maximum only shows the winner")
    state = {name: positive(value) for name, value in module.state_dict().items()}
    twin = module.to_empty(device="cpu")
    twin.load_state_dict(state, assign=True)
    twin = twin.double()
    for name, parameter in twin.named_parameters():
        if name.endswith("bias"):
            parameter.data.zero_()
    return twin.requires_grad_(False)


def compare(
    fields: ReceptiveFields,
    names: list[str],
    positions: int,
    generator: torch.Generator,
    *,
    gates: bool = True,
    tolerance: float = 0.0,
) -> int:
    """How many boxes were compared; the first one that differs is an error."""
    network = PositiveNetwork(fields.trace, last=names[-1], gates=gates)
    compared = 0
    for name in names:
        size = fields[name].output_size
        shape = network.tensors[name].shape
        is_map = len(shape) == 2 + len(size) and shape[2:] == size and shape[1:-1] != size
        if not is_map and not (len(shape) == 2 and set(size) == {1}):
            continue  # channels last (or not to be told from it), or a view in between
        for position in _positions(size, positions, generator):
            analytic = fields.box(name, position, gates=gates)
            measured = network.box(name, position, tolerance=tolerance)
            assert analytic == measured, (name, position, analytic, measured, str(fields))
            compared += 1
    return compared


def _positions(
    size: tuple[int, ...], count: int, generator: torch.Generator
) -> set[tuple[int, ...]]:
    """The middle, the corners at both ends, and random ones."""
    middle, last = tuple(side // 2 for side in size), tuple(side - 1 for side in size)
    chosen = [middle, (0,) * len(size), last][:count]
    for _ in range(count - len(chosen)):
        draws = torch.rand(len(size), generator=generator)
        chosen.append(tuple(int(d * side) for d, side in zip(draws, size, strict=True)))
    return set(chosen)
