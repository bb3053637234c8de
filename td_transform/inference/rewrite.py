"""Convolutions of a network in fewer multiplications, where that is cheaper."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import product
from math import prod
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from td_transform.inference.upsampled import OverUpsampled
from td_transform.inference.winograd import Winograd

# What things take beside multiply-adds, counted in multiply-adds; fitted to convolutions of 48 to 2048
# channels on one thread (docs/performance.md): per value that Winograd transforms, per weight that is
# read from memory, per output whose channels become pixels.
_TRANSFORMED, _READ, _SHUFFLED = 60, 16, 100
_TILES = (2, 4)
# of the direct cost, what a rewritten convolution may take: it needs more memory
_WORTHWHILE = 0.9
# channels that runtimes lay out as one block; what doesn't fill them is slow in groups
_BLOCK = 16

_aten = torch.ops.aten
# what may stand between an upsampling and a convolution without changing the map
_SAME = (_aten.alias.default, _aten.slice.Tensor)
# what `aten.conv2d` takes behind its bias: stride, padding, dilation, groups
_PLAIN = ([1, 1], [0, 0], [1, 1], 1)


@dataclass(frozen=True)
class _Convolution:
    """A convolution of stride 1, square and dense, with the norm that follows it folded in.

    Args:
        source: the map that it reads.
        result: the node whose value it gives: its own, or the norm's.
        weight, bias, padding: of both.
    """

    source: fx.Node
    result: fx.Node
    weight: Tensor
    bias: Tensor | None
    padding: int

    @property
    def direct_cost(self) -> float:
        return self.weight.numel() * (self._positions + _READ)

    def others(self) -> Iterator[tuple[float, type[nn.Module], tuple[Any, ...], fx.Node]]:
        """Other ways to compute it: the cost, the layer and its arguments, what it reads."""
        k, c, size = self.weight.shape[:3]
        tiles = _TILES if size > 1 and not k % _BLOCK and not c % _BLOCK else ()
        for tile, axes in product(tiles, (1, 2)):
            if size <= tile + 1:
                arguments = (self.weight, self.bias, self.padding, tile, axes)
                yield self._winograd_cost(tile, axes), Winograd, arguments, self.source
        coarse = _upsampled_by_two(self.source)
        if coarse is not None and (size, self.padding) == (3, 1):
            cost = 4 * k * c * (self._positions + 4 * _READ) + _SHUFFLED * k * self._positions
            yield cost, OverUpsampled, (self.weight, self.bias), coarse

    def _winograd_cost(self, tile: int, axes: int) -> float:
        k, c, size = self.weight.shape[:3]
        n, _, height, width = _shape(self.result)
        products, rows = tile + size - 1, n * -(-height // tile)
        by_rows = rows * width * products
        if axes == 1:
            return k * c * products * size * (rows * width + _READ) + _TRANSFORMED * by_rows * (
                c + k
            )
        tiles = rows * -(-width // tile)
        values = by_rows * c + products**2 * tiles * (c + k)
        return k * c * products**2 * (tiles + _READ) + _TRANSFORMED * values

    @property
    def _positions(self) -> int:
        n, _, *sides = _shape(self.result)
        return n * prod(sides)


def in_fewer_multiplications(model: nn.Module, example: Tensor) -> tuple[nn.Module, int]:
    """The same function with other convolutions, and how many they are.

    Args:
        model: a network in eval mode.
        example: images (N, C, H, W) of the only shape that it will be called with.
    """
    module: fx.GraphModule = torch.export.export(model, (example,)).module()
    changed = 0
    for node in list(module.graph.nodes):
        convolution = _convolution(module, node)
        if convolution is None:
            continue
        others = sorted(convolution.others(), key=lambda other: other[0])
        if others and others[0][0] <= _WORTHWHILE * convolution.direct_cost:
            _, layer, arguments, source = others[0]
            name = f"rewritten_{changed}"
            module.add_submodule(name, layer(*arguments))
            with module.graph.inserting_after(convolution.result):
                new = module.graph.call_module(name, (source,))
            convolution.result.replace_all_uses_with(new)
            changed += 1
    module.graph.eliminate_dead_code()
    module.delete_all_unused_submodules()
    module.recompile()
    # an exported module has no mode, but says that it trains
    module.training = False
    return module, changed


def _convolution(module: fx.GraphModule, node: fx.Node) -> _Convolution | None:
    if node.target is not _aten.conv2d.default:
        return None
    given: list[Any] = list(node.args)
    source, weight_node, bias_node, stride, padding, dilation, groups = (
        given + [None, *_PLAIN][len(given) - 2 :]
    )
    weight, bias = _tensor(module, weight_node), _tensor(module, bias_node)
    plain = (stride, dilation, groups) == ([1, 1], [1, 1], 1)
    if not plain or weight is None or len({*weight.shape[2:]}) > 1 or len({*padding}) > 1:
        return None
    users = list(node.users)
    if len(users) == 1 and users[0].target is _aten.batch_norm.default:
        return _with_norm(module, users[0], _Convolution(source, node, weight, bias, padding[0]))
    return _Convolution(source, node, weight, bias, padding[0])


def _with_norm(module: fx.GraphModule, norm: fx.Node, convolution: _Convolution) -> _Convolution:
    """A convolution with the batch norm in eval mode that alone reads it."""
    scale, shift, mean, variance = (_tensor(module, node) for node in norm.args[1:5])
    if mean is None or variance is None:
        return convolution
    epsilon: Any = norm.args[7]
    weight, bias = fuse_conv_bn_weights(
        convolution.weight, convolution.bias, mean, variance, epsilon, scale, shift
    )
    return replace(convolution, result=norm, weight=weight.detach(), bias=bias.detach())


def _tensor(module: fx.GraphModule, node: Any) -> Tensor | None:
    """The value of a parameter or buffer."""
    if not isinstance(node, fx.Node) or node.op != "get_attr":
        return None
    value: Any = module
    for name in str(node.target).split("."):
        value = getattr(value, name)
    return value.detach() if isinstance(value, Tensor) else None


def _upsampled_by_two(node: Any) -> fx.Node | None:
    """The map that this one is twice as fine as, by nearest neighbours."""
    while node.target in _SAME and _shape(node) == _shape(node.args[0]):
        node = node.args[0]
    if node.target is not _aten.upsample_nearest2d.vec:
        return None
    coarse: fx.Node = node.args[0]
    doubled = [2 * side for side in _shape(coarse)[2:]]
    return coarse if list(_shape(node)[2:]) == doubled else None


def _shape(node: Any) -> tuple[int, ...]:
    return tuple(node.meta["val"].shape)
