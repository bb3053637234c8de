"""Weights that are computed from others: weight norm, spectral norm, a user's own parametrisation.

The skeleton's layers are plain, so that they can be traced and resized; what stood on a weight is
written down, and applied anew to the layers that are built from it.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize
from torch.nn.utils.spectral_norm import SpectralNorm
from torch.nn.utils.weight_norm import WeightNorm

from td_transform.errors import TraceError
from td_transform.layers.parameters import parameters_of


@dataclass(frozen=True)
class Reparametrisation:
    """How one weight of a layer is computed.

    Args:
        tensor: the weight's name in its layer.
        apply: makes the weight of a plain layer a computed one; called with the layer.
        own: the names of the parameters and buffers that it keeps in the layer itself.
    """

    tensor: str
    apply: Callable[[nn.Module], object]
    own: tuple[str, ...] = ()


Reparametrisations = Mapping[str, tuple[Reparametrisation, ...]]


def reparametrised(model: nn.Module) -> dict[str, tuple[Reparametrisation, ...]]:
    """What stands on the weights of a model's modules, by the modules' paths.

    Raises:
        TraceError: something that can't be applied to a weight of another shape.
    """
    found = {path: tuple(_on(path, module)) for path, module in model.named_modules()}
    return {path: applied for path, applied in found.items() if applied}


def _on(path: str, module: nn.Module) -> Iterator[Reparametrisation]:
    for hook in module._forward_pre_hooks.values():
        if isinstance(hook, WeightNorm):
            yield _weight_norm_hook(hook.name, hook.dim)
        elif isinstance(hook, SpectralNorm):
            yield _spectral_norm_hook(hook)
    if parametrize.is_parametrized(module):
        place = f"module '{path}' ({type(module).__bases__[0].__name__})"
        for name, steps in module.parametrizations.items():  # type: ignore[union-attr, operator]
            for step in steps:
                yield _parametrization(place, name, step)


def _weight_norm_hook(name: str, dim: int) -> Reparametrisation:
    def apply(layer: nn.Module) -> None:
        with warnings.catch_warnings():  # it is deprecated, and the user's choice
            warnings.simplefilter("ignore", FutureWarning)
            torch.nn.utils.weight_norm(layer, name, dim)

    return Reparametrisation(name, apply, (f"{name}_g", f"{name}_v"))


def _spectral_norm_hook(hook: SpectralNorm) -> Reparametrisation:
    name = hook.name

    def apply(layer: nn.Module) -> None:
        SpectralNorm.apply(layer, name, hook.n_power_iterations, hook.dim, hook.eps)

    return Reparametrisation(name, apply, (f"{name}_orig", f"{name}_u", f"{name}_v"))


def _parametrization(place: str, name: str, step: Any) -> Reparametrisation:
    if isinstance(step, parametrizations._SpectralNorm):
        return Reparametrisation(
            name,
            lambda layer: parametrizations.spectral_norm(
                layer, name, step.n_power_iterations, step.eps, step.dim
            ),
        )
    if next(parameters_of(step), None) is not None or next(step.buffers(), None) is not None:
        raise TraceError(
            f"{place}, parameter '{name}'",
            seen=f"a parametrisation ({type(step).__name__}) with tensors of its own",
            expected="one that fits a weight of any shape",
            remedy="call torch.nn.utils.parametrize.remove_parametrizations first, and parametrise "
            "the top-down network",
        )
    return Reparametrisation(
        name,
        lambda layer: parametrize.register_parametrization(layer, name, copy.deepcopy(step)),
    )


def make_plain(module: nn.Module, applied: tuple[Reparametrisation, ...]) -> None:
    """Give a module on the meta device plain weights again, of the same shapes.

    torch's own removal works on the module's class, which copies share with the user's model.
    """
    values = {each.tensor: getattr(module, each.tensor) for each in applied}
    trains = any(p.requires_grad for p in parameters_of(module))
    if parametrize.is_parametrized(module):
        module.__class__ = type(module).__bases__[0]
        del module._modules["parametrizations"]
    for each in applied:
        vars(module).pop(each.tensor, None)
        for name in each.own:
            module._parameters.pop(name, None)
            module._buffers.pop(name, None)
        for key, hook in list(module._forward_pre_hooks.items()):
            if getattr(hook, "name", None) == each.tensor:
                del module._forward_pre_hooks[key]
    for name, value in values.items():
        plain = torch.empty(value.shape, dtype=value.dtype, device="meta")
        module.register_parameter(name, nn.Parameter(plain, requires_grad=trains))


def apply_anew(module: nn.Module, path: str, known: Reparametrisations) -> None:
    """Put on a copy of the module at `path`, and on its parts, what stood on the originals."""
    for below, part in list(module.named_modules()):
        full = ".".join(filter(None, (path, below)))
        for each in known.get(full, ()):
            each.apply(part)
