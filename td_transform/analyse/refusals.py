"""Analyse: why a network has no chain of stages that could be cut, in words that name what crosses it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from itertools import takewhile

from torch import fx

from td_transform.analyse.trunk import Trunk
from td_transform.errors import StructureError
from td_transform.layers.dimensions import agreed

_STEPS = (
    "convert the model of one step, whose layers keep their own state (snntorch: init_hidden=True), call "
    "the top-down network in a loop, and reset its layers one by one before the next images (snntorch: "
    "reset_mem(), since utils.reset knows none of them)"
)


def uncuttable(trunk: Trunk, start: fx.Node, nodes: Sequence[fx.Node]) -> StructureError:
    """The error for a region that spans several strides, with the tensors that cross."""
    error = of_other_images(trunk, nodes) or _again_and_again(trunk, nodes)
    if error is not None:
        return error
    by_stride: dict[object, fx.Node] = {}
    for node in nodes:
        if trunk.stride(node) is not None and trunk.is_learned(node):
            by_stride.setdefault(trunk.stride(node), node)
    crossing = ", ".join(
        f"'{n.name}' (stride {agreed(trunk.stride(n) or (0,))})" for n in by_stride.values()
    )
    return StructureError(
        trunk.trace.place(start),
        seen=f"that after this tensor several maps cross every change of resolution: {crossing}",
        expected="one tensor at every change of resolution (a trunk that can be cut)",
        remedy="convert a network with a single trunk; branches that exchange resolutions (HRNet), "
        "cells that read two tensors (NASNet) and paths around several stages have no "
        "coarse-to-fine order",
    )


def _again_and_again(trunk: Trunk, nodes: Sequence[fx.Node]) -> StructureError | None:
    """The error where layers of several strides run more than once: a loop over time, or copies of the
    image that each go through all of them."""
    layers = [n for n in nodes if n.op == "call_module" and trunk.slides(n) and trunk.is_learned(n)]
    calls = Counter(str(n.target) for n in layers)
    again = [n for n in layers if calls[str(n.target)] > 1]
    if len({trunk.stride(n) for n in again}) < 2:
        return None
    paths = list(dict.fromkeys(str(n.target) for n in again))
    loops = _read_earlier_calls(trunk, nodes, again)
    return StructureError(
        trunk.trace.place(again[0]),
        seen=f"'{paths[0]}' to '{paths[-1]}' run {calls[paths[0]]} times, "
        + ("one step after the other" if loops else "each time on the image anew"),
        expected="one pass over the image, from stage to stage",
        remedy=_STEPS if loops else _runs(paths),
    )


def _read_earlier_calls(trunk: Trunk, nodes: Sequence[fx.Node], again: Sequence[fx.Node]) -> bool:
    """Does a later call of one of these layers read what an earlier pass over them made, perhaps in the
    state that an unknown module keeps?"""
    first = {str(n.target): n for n in reversed(again)}
    made, kept = set(first.values()), set()
    for node in nodes:
        if not made.intersection(node.all_input_nodes) and str(node.target) not in kept:
            continue
        if node in again and node not in made:
            return True
        made.add(node)
        if node.op == "call_module" and trunk.is_opaque(node):
            kept.add(str(node.target))
    return False


def _runs(paths: Sequence[str]) -> str:
    """The remedy for layers that run on the image again, by the module that holds all of them."""
    holders = [path.split(".")[:-1] for path in paths]
    shared = [
        name
        for name, *_ in takewhile(lambda names: len({*names}) == 1, zip(*holders, strict=False))
    ]
    part = f"model.{'.'.join(shared)}" if shared else "a model that runs them once"
    return (
        f"convert {part}, and combine the top-down network's logits as the model combined its own"
    )


def of_other_images(trunk: Trunk, nodes: Sequence[fx.Node]) -> StructureError | None:
    """The error where the trunk has more or fewer maps than the model is given images."""
    values = trunk.trace.values
    images = values[trunk.tensors[0]].shape[0]
    for node in nodes:
        if node in trunk.tensors and trunk.axes(node) and values[node].shape[0] != images:
            return StructureError(
                trunk.trace.place(node), seen=f"{values[node].shape[0]} maps of {images} images",
                expected="a map for each image, to the last stage",
                remedy="repeat, split or stack images in front of the model, and convert what runs on each",
            )  # fmt: skip
    return None


def of_kept_kernels(trunk: Trunk) -> StructureError | None:
    """The error where a convolution's kernel is a buffer of a layer whose parameters nothing reads: it
    was made of them for eval mode (e2cnn)."""
    reads = [n for n in trunk.trace.graph.nodes if n.op == "get_attr"]
    read = {str(n.target) for n in reads}
    for kernel in reads:
        path, _, name = str(kernel.target).rpartition(".")
        layer = trunk.trace.skeleton.get_submodule(path)
        own = [f"{path}.{parameter}" for parameter, _ in layer.named_parameters()]
        slides = any(
            trunk.slides(n) and trunk.call(n).option("weight", 1) is kernel for n in kernel.users
        )
        if slides and name in dict(layer.named_buffers()) and own and read.isdisjoint(own):
            return StructureError(
                trunk.trace.place(next(iter(kernel.users))),
                seen=f"the buffer '{kernel.target}' as a kernel, while nothing reads the parameters of "
                "this layer: it keeps what it made of them for eval mode",
                expected="convolutions whose kernels are parameters, or made of them in every forward",
                remedy="make the kernel in eval mode as well, or convert the network of plain "
                "convolutions that the layer has for this (e2cnn: model.eval().export())",
            )
    return None
