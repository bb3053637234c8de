"""Plan: what the user should know where new layers can't be like the bottom-up model's."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import fx

from td_transform.analyse import BottomUp, Trunk
from td_transform.layers.parameters import parameters_of
from td_transform.operators import Spatial
from td_transform.options import Options
from td_transform.plan.parts import LayerPlan

_DIVISORS = (torch.sqrt, torch.rsqrt, "sqrt", "rsqrt", F.normalize)


def unlike(bottom_up: BottomUp, options: Options, layers: Sequence[LayerPlan]) -> tuple[str, ...]:
    """Warnings of norms that new units lack, and of fresh layers that don't train.

    Args:
        bottom_up: the analysed model.
        options: how it is turned.
        layers: the layers that are copied.
    """
    found = [_without_norm(bottom_up.trunk)] if bottom_up.style.norm is None else []
    if options.weights == "fresh":
        found.append(_frozen(bottom_up.trunk, layers))
    return tuple(warning for warning in found if warning is not None)


def _without_norm(trunk: Trunk) -> str | None:
    """A norm that is written out in a forward is no layer that could be modelled on, nor is one of what
    a map is cut into."""
    nodes = trunk.trace.graph.nodes
    layers = (n for n in nodes if n.op == "call_module" and trunk.role(n) == "norm")
    layer = next((n for n in layers if _has_axes(trunk, n)), None)
    if layer is not None:
        return (
            f"{trunk.trace.place(layer)}: {type(trunk.trace.module(layer)).__name__} takes no maps as they "
            "are, so that lifts, merges and adapters have no norm; a layer that does "
            "(torch.nn.BatchNorm2d, say) gives them one"
        )
    norm = next((n for n in nodes if _is_norm(trunk, n)), None)
    if norm is None:
        return None
    path = trunk.trace.path(norm)
    cls = type(trunk.trace.skeleton.get_submodule(path)).__name__
    # what holds more than the norm can't be taken for one
    is_norm_alone = path and not any(
        trunk.is_learned(n)
        for n in trunk.trace.graph.nodes
        if f"{trunk.trace.path(n)}.".startswith(f"{path}.")
    )
    remedy = (
        f"td_transform.register_operator({cls}, like=torch.nn.LayerNorm) before the conversion gives "
        "them one"
        if is_norm_alone
        else "a module that normalises (torch.nn.BatchNorm2d, or one of your own) gives them one"
    )
    return (
        f"{trunk.trace.place(norm)}: the norm is written out in a forward, so that lifts, merges and "
        f"adapters have none; {remedy}"
    )


def _has_axes(trunk: Trunk, node: fx.Node) -> bool:
    return any(isinstance(dim, Spatial) for dim in trunk.inference.dims[node])


def _is_norm(trunk: Trunk, node: fx.Node) -> bool:
    """Does it normalise maps, or compute what a map is divided by?"""
    if not node.op.startswith("call_") or node.op == "call_module" or node in trunk.constants:
        return False
    is_norm = trunk.role(node) == "norm" or node.target in _DIVISORS
    path = trunk.trace.path(node)
    owner = trunk.trace.skeleton.get_submodule(path)
    own = not path or next(owner.parameters(recurse=False), None) is not None
    return is_norm and own and _of_maps(trunk, node)


def _of_maps(trunk: Trunk, node: fx.Node) -> bool:
    """Is it, or what is made with it at once, a map?"""
    return trunk.stride(node) is not None or any(trunk.stride(u) is not None for u in node.users)


def _frozen(trunk: Trunk, layers: Sequence[LayerPlan]) -> str | None:
    skeleton = trunk.trace.skeleton
    sources = dict.fromkeys(layer.source for layer in layers)
    parameters = {path: list(parameters_of(skeleton.get_submodule(path))) for path in sources}
    frozen = [
        path for path, own in parameters.items() if own and not any(p.requires_grad for p in own)
    ]
    if not frozen:
        return None
    return (
        f"{len(frozen)} layers don't train in the bottom-up model (module '{frozen[0]}' for one), nor do "
        "their copies, whose weights are fresh; call model.requires_grad_(True) before the conversion, "
        "or pass weights='inherit'"
    )
