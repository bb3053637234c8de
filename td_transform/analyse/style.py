"""Analyse: the form of the network's units, which new layers take over."""

from __future__ import annotations

from dataclasses import dataclass

from torch import fx

from td_transform.analyse.infer import call_of
from td_transform.analyse.segments import entry_conv
from td_transform.analyse.stages import Structure
from td_transform.analyse.trunk import Anatomy
from td_transform.operators import Window


@dataclass(frozen=True)
class Form:
    """Which bottom-up nodes the units of new layers are modelled on.

    Args:
        conv: the leading convolution.
        stem_norm, stem_activation: what follows it in the leading unit, if anything.
        norm, activation: those, or else the first of the network.
        stem_kernel: the leading convolution's kernel in image pixels.
        pre_activation: norm-act-conv instead of conv-norm-act.
    """

    conv: str
    stem_norm: str | None
    stem_activation: str | None
    norm: str | None
    activation: str | None
    stem_kernel: tuple[int, int]
    pre_activation: bool


def form_of(structure: Structure) -> Form:
    """The form of a network's leading unit, completed from the rest of the network."""
    anatomy, leading = structure.anatomy, structure.leading
    conv = entry_conv(anatomy, leading)
    if conv is None:
        raise ValueError(f"segment at {leading.start} holds no convolution")
    unit = leading.nodes if leading.kind == "unit" else ()
    stem_norm = next((n.name for n in unit if is_norm_layer(anatomy, n)), None)
    stem_activation = next((n.name for n in unit if anatomy.role(n) == "activation"), None)
    nodes = [
        n for n in anatomy.trace.graph.nodes if n.op not in ("placeholder", "output", "get_attr")
    ]
    maps = [n for n in nodes if anatomy.stride(n) is not None]
    norm = next((n.name for n in maps if is_norm_layer(anatomy, n)), None)
    activation = next((n.name for n in maps if anatomy.role(n) == "activation"), None)
    return Form(
        conv.name,
        stem_norm,
        stem_activation,
        stem_norm or norm,
        stem_activation or activation,
        _kernel_in_pixels(anatomy, conv, leading.nodes),
        structure.layout.pre_activation,
    )


def is_norm_layer(anatomy: Anatomy, node: fx.Node) -> bool:
    """A normalisation module over the channels of a map."""
    return node.op == "call_module" and anatomy.role(node) == "norm"


def _kernel_in_pixels(
    anatomy: Anatomy, conv: fx.Node, nodes: tuple[fx.Node, ...]
) -> tuple[int, int]:
    """After a pixel-unshuffle by r, a k x k kernel covers r k pixels."""
    window: Window = call_of(anatomy.trace, conv, anatomy.region).window()
    stride = anatomy.stride(conv.all_input_nodes[0])
    if stride is None:
        return window.kernel
    return int(window.kernel[0] * stride[0]), int(window.kernel[1] * stride[1])
