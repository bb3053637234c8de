"""Analyse: the style of the network's units, which new layers take over."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import takewhile
from typing import Any

import torch
from torch import fx

from td_transform.analyse.refusals import of_kept_kernels
from td_transform.analyse.segments import entry_conv
from td_transform.analyse.trunk import Segment, Trunk
from td_transform.errors import StructureError


@dataclass(frozen=True)
class UnitStyle:
    """Which bottom-up nodes the units of new layers are modelled on.

    Args:
        conv: the leading convolution.
        stem_norm, stem_activation: what follows it in the leading unit, if anything.
        norm, activation: those, or else the first of the network; no activation beside a norm that
            ends with one of its own.
        stem_kernel: the leading convolution's kernel in image pixels.
        pre_activation: norm-act-conv instead of conv-norm-act.
        norm_last: does the leading unit have its norm behind its activation?
        channels_last: the norms among them that work on channels-last tensors.
        identities_from_start: do identity shortcuts leave at the start of their block (in a
            pre-activation net: before its norm)?
    """

    conv: str
    stem_norm: str | None
    stem_activation: str | None
    norm: str | None
    activation: str | None
    stem_kernel: tuple[int, ...]
    pre_activation: bool
    norm_last: bool
    channels_last: tuple[str, ...]
    identities_from_start: bool


def style_of(trunk: Trunk, segments: Sequence[Segment], *, pre_activation: bool) -> UnitStyle:
    """The style of a network's leading segment, completed from the rest of the network.

    Raises:
        StructureError: nothing in the leading segment is a convolution.
    """
    leading = next(s for s in segments if s.kind != "pool")
    conv = entry_conv(trunk, leading)
    if conv is None:
        raise of_kept_kernels(trunk) or _begins_otherwise(trunk, leading)
    unit = _leading_unit(trunk, leading, pre_activation=pre_activation)
    stem_norm = next((n.name for n in unit if is_norm_layer(trunk, n)), None)
    stem_activation = next((n.name for n in unit if trunk.role(n) == "activation"), None)
    nodes = [
        n for n in trunk.trace.graph.nodes if n.op not in ("placeholder", "output", "get_attr")
    ]
    maps = [n for n in nodes if trunk.stride(n) is not None]
    norm = stem_norm or next((n.name for n in maps if is_norm_layer(trunk, n)), None)
    activation = next((n.name for n in maps if trunk.role(n) == "activation"), None)
    return UnitStyle(
        conv.name,
        stem_norm,
        stem_activation,
        norm,
        None if _activates(trunk, nodes, norm) else stem_activation or activation,
        _kernel_in_pixels(trunk, conv),
        pre_activation,
        _comes_later(stem_norm, stem_activation, [n.name for n in unit]),
        tuple(n.name for n in maps if is_norm_layer(trunk, n) and _is_last(trunk, n)),
        any(_has_identity_from_start(trunk, segment) for segment in segments),
    )


def _begins_otherwise(trunk: Trunk, leading: Segment) -> StructureError:
    """The error for a first layer that is no convolution, or can't be told to be one."""
    first = next((n for n in leading.nodes if trunk.is_learned(n)), leading.start)
    module = trunk.trace.module(first) if trunk.is_opaque(first) else None
    if module is None:
        return StructureError(
            trunk.trace.place(leading.start),
            seen="a first learned layer that is no convolution",
            expected="a network that begins with a convolution",
            remedy="convert a convolutional network",
        )
    return StructureError(
        trunk.trace.place(first),
        seen=f"a first learned layer of an unknown kind ({type(module).__name__}), carried along whole",
        expected="a network that begins with a convolution",
        remedy="where it is one, let its forward call torch.nn.functional.conv2d with a kernel made of "
        "its parameters, in training and eval mode alike",
    )


def _leading_unit(trunk: Trunk, leading: Segment, *, pre_activation: bool) -> tuple[fx.Node, ...]:
    """The stem's norm and activation, where it has some: those of a convolution that branches (one whose
    weights are drawn anew for each image, say) are what every path passes next."""
    if leading.kind == "unit":
        return tuple(leading.nodes)
    if pre_activation:
        return ()
    rest = trunk.tensors[trunk.tensors.index(leading.end) + 1 :]
    found = tuple(takewhile(lambda n: trunk.role(n) in ("norm", "activation"), rest))
    return found if found and is_norm_layer(trunk, found[0]) else ()


def _comes_later(norm: str | None, activation: str | None, names: Sequence[str]) -> bool:
    if norm is None or activation is None:
        return False
    return names.index(norm) > names.index(activation)


def _has_identity_from_start(trunk: Trunk, segment: Segment) -> bool:
    """Is the tensor that flows in added to what the block makes of it?"""
    return any(trunk.call(user).adds for user in segment.start.users if user in segment.nodes)


def _is_last(trunk: Trunk, node: fx.Node) -> bool:
    axes = trunk.axes(node)
    return axes is not None and axes.channels > 1


def is_norm_layer(trunk: Trunk, node: fx.Node) -> bool:
    """A normalisation module over the channels of a map, that new units can have as well."""
    if node.op != "call_module" or trunk.role(node) != "norm":
        return False
    return _takes_maps(trunk.trace.module(node), trunk.count)


def _takes_maps(norm: Any, axes: int) -> bool:
    """Has it no objection to the dimensions of a map? One over groups or tokens may have (BatchNorm3d of a
    picture's, say)."""
    check = getattr(norm, "_check_input_dim", None)
    try:
        if check is not None:
            check(torch.empty((1,) * (2 + axes), device="meta"))
    except ValueError:
        return False
    return True


def _activates(trunk: Trunk, nodes: Sequence[fx.Node], norm: str | None) -> bool:
    """Does the normalisation end with an activation of its own?"""
    return any(n.name == norm and trunk.activates(n) for n in nodes)


def _kernel_in_pixels(trunk: Trunk, conv: fx.Node) -> tuple[int, ...]:
    """After a pixel-unshuffle by r, a k x k kernel covers r k pixels."""
    kernel = trunk.window(conv).kernel
    stride = trunk.stride(conv.all_input_nodes[0]) or (Fraction(1),) * len(kernel)
    return tuple(int(k * s) for k, s in zip(kernel, stride, strict=True))
