"""Plan: why a segment can't be had, in words that name the operator and what would free it."""

from __future__ import annotations

import operator as op

import torch
from torch import fx
from torch.nn import functional

from td_transform.analyse import Trunk
from td_transform.errors import TopDownError, UnknownOperatorError, WidthConflictError
from td_transform.layers.parameters import parameters_of
from td_transform.operators import Inference, TensorInfo, mutation

_PYTHONS_OWN = (op.getitem, getattr, mutation.assigned, mutation.after)


def pinned(
    trunk: Trunk, inference: Inference, *, width_in: int, width_out: int | None, scales: bool
) -> TopDownError:
    """The error for a segment whose widths an opaque operator fixes.

    Args:
        trunk: where it stands.
        inference: what is known of its widths at the bottom-up ones.
        width_in, width_out: the widths that were planned.
        scales: do the widths inside change with those outside?
    """
    planned = f"{width_in} channels in and {width_out or 'as many as come'} out"
    if not inference.pins:
        place = trunk.trace.place(next(reversed(inference.dims)))
        return indivisible(place, f"a block that can't be had with {planned}", scales=scales)
    node, _, size = inference.pins[0]
    return UnknownOperatorError(
        trunk.trace.place(node),
        seen=f"the operator {name_of(trunk, node)}, which {_why(inference, node)} and so keeps the "
        f"{size} channels that it reads, in a block that is to have {planned}",
        expected="an operator whose channel coupling is known, where widths have to change",
        remedy=_remedy(trunk, node),
    )


def indivisible(place: str, seen: str, *, scales: bool) -> WidthConflictError:
    """The error for widths that come out as no whole numbers."""
    return WidthConflictError(
        place,
        seen=seen,
        expected="widths that its divisions and groups admit",
        remedy="use arrangement='td' or 'reversed', which keep the widths inside a block"
        if scales
        else "register the module around this code with td_transform.register_operator, so that it is "
        "carried along whole",
    )


def downsampling(trunk: Trunk, node: fx.Node) -> UnknownOperatorError:
    """The error for an opaque operator that downsamples."""
    return UnknownOperatorError(
        trunk.trace.place(node),
        seen=f"the operator {name_of(trunk, node)}, which {_why(trunk.inference, node)} and "
        "lowers the resolution",
        expected="downsampling whose stride can be taken away",
        remedy=_register(trunk, node)
        if trunk.is_opaque(node)
        else "let a convolution or pooling of its own lower the resolution before this code",
    )


def _why(inference: Inference, node: fx.Node) -> str:
    reason = inference.opaque.get(node)
    if reason is None:
        return "lays its windows out in a row of positions"
    return "td_transform doesn't know" if reason == "no rule" else f"is used in a way ({reason})"


def _remedy(trunk: Trunk, node: fx.Node) -> str:
    name = name_of(trunk, node)
    if _is_along_channels(trunk, node):
        return (
            f"td_transform.register_operator({name}, like=torch.nn.BatchNorm2d) if its parameters are "
            "one a channel, else with an Operator of its own"
        )
    if _keeps_shape(trunk, node) and node.target not in _PYTHONS_OWN:
        return (
            f"td_transform.register_operator({name}, like=torch.nn.ReLU) if it works element-wise, "
            "else with an Operator of its own"
        )
    return _register(trunk, node) + (
        ", or use arrangement='td' where only 'uniform' changes these widths"
    )


def _register(trunk: Trunk, node: fx.Node) -> str:
    name, first = name_of(trunk, node), ""
    if node.target in _PYTHONS_OWN:  # its rule would be one for all code that is written so
        path = trunk.trace.path(node)
        around = trunk.trace.skeleton.get_submodule(path)
        name = type(around).__name__
        if not path or next(parameters_of(around), None) is not None:
            name, first = "M", "move this code to a module of its own, M, and "
    return (
        f"{first}td_transform.register_operator({name}, Operator(...)) with a rule that "
        "gives its output's dimensions"
    )


def _keeps_shape(trunk: Trunk, node: fx.Node) -> bool:
    tensors, info = trunk.call(node).tensors, trunk.trace.values[node]
    if len(tensors) != 1 or not isinstance(info, TensorInfo):
        return False
    return bool(trunk.trace.values[tensors[0]].shape == info.shape)


def _is_along_channels(trunk: Trunk, node: fx.Node) -> bool:
    """Is it a layer like a norm, all of whose tensors are as long as its map has channels?"""
    module = trunk.trace.module(node)
    if module is None or not _keeps_shape(trunk, node) or next(parameters_of(module), None) is None:
        return False
    width = trunk.width(trunk.call(node).tensors[0])
    return all(tensor.numel() in (1, width) for tensor in module.state_dict().values())


def name_of(trunk: Trunk, node: fx.Node) -> str:
    """An operator as one writes it in code."""
    module = trunk.trace.module(node)
    target = type(module) if module is not None else node.target
    if isinstance(target, str):
        return repr(target)
    name = str(getattr(target, "__name__", target))
    owners = {"torch": torch, "torch.nn.functional": functional, "torch.fft": torch.fft}
    for prefix, owner in owners.items():
        own = name.removeprefix("fft_") if owner is torch.fft else name
        if getattr(owner, own, None) is target:
            return f"{prefix}.{own}"
    return name
