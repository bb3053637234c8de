"""Values for the layers of an emitted network."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

Init = Callable[[nn.Module], None]

# what `reset_parameters` of torch's own layers fills in
_RESET = {"weight", "bias", "running_mean", "running_var", "num_batches_tracked"}


def materialise(
    module: nn.Module, device: torch.device, *, source: nn.Module | None = None
) -> None:
    """Give a module on the meta device fresh values: as its classes initialise themselves.

    What no class initialises (a gain on its own, a LayerScale) is drawn from a normal distribution
    with the mean and spread of the source's: for a model never trained, the same constant.
    """
    for path, layer in module.named_modules():
        reset = getattr(layer, "reset_parameters", None)
        for tensors in (layer._parameters, layer._buffers):
            for name, tensor in tensors.items():
                if tensor is None or not tensor.is_meta:
                    continue
                values = torch.empty(tensor.shape, dtype=tensor.dtype, device=device)
                if reset is None or name not in _RESET:
                    redraw(values, _tensor_of(source, path, name))
                tensors[name] = nn.Parameter(values) if isinstance(tensor, nn.Parameter) else values
        if reset is not None:
            reset()


def redraw(values: Tensor, like: Tensor | None) -> None:
    """Fill a tensor with values distributed as another's."""
    with torch.no_grad():
        if like is None or not like.numel() or like.is_meta:
            values.zero_()
        elif values.is_floating_point():
            spread, mean = torch.std_mean(like.detach().double(), correction=0)
            values.copy_(
                torch.randn_like(values) * spread + mean if spread else mean.expand(values.shape)
            )
        else:
            values.fill_(like.flatten()[0])


def inherit(module: nn.Module, source: nn.Module) -> None:
    """The source's own parameters and buffers: shared, not copied."""
    for name, child in source.named_modules():
        twin = module.get_submodule(name)
        twin._parameters.update(child._parameters)
        twin._buffers.update(child._buffers)


def _tensor_of(source: nn.Module | None, path: str, name: str) -> Tensor | None:
    if source is None:
        return None
    tensor = getattr(source.get_submodule(path), name, None)
    return tensor if isinstance(tensor, Tensor) else None
