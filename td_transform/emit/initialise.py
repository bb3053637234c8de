"""Values for the layers of an emitted network."""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

# small enough for a core's cache
_BLOCK = 2**18

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
        if _is_torchs_own(layer):
            _reset_uniform(layer)
        elif reset is not None:
            reset()


def _is_torchs_own(layer: nn.Module) -> bool:
    """Does it initialise itself as torch's convolutions and linear layers do, on this machine's RAM?"""
    own = (nn.modules.conv._ConvNd.reset_parameters, nn.Linear.reset_parameters)
    weight = layer._parameters.get("weight")
    on_cpu = weight is not None and weight.device.type == "cpu" and weight.dtype is torch.float32
    return on_cpu and getattr(type(layer), "reset_parameters", None) in own


def _reset_uniform(layer: nn.Module) -> None:
    """Kaiming-uniform with a = sqrt(5), torch's own rule: weight and bias in +-1 / sqrt(fan-in)."""
    fan_in, _ = nn.init._calculate_fan_in_and_fan_out(layer.weight)  # type: ignore[arg-type]
    for parameter in layer._parameters.values():
        if parameter is not None:
            _fill_uniform(parameter.detach(), 1 / math.sqrt(fan_in))


def _fill_uniform(tensor: Tensor, bound: float) -> None:
    """Like ``tensor.uniform_(-bound, bound)`` but on all cores: the values of a large network take
    torch's single-threaded generator longer than all the rest of a conversion. Seeded by torch's
    generator; the values depend on neither the number of threads nor their order."""
    values = tensor.reshape(-1).numpy()
    blocks = np.array_split(values, -(-len(values) // _BLOCK))
    seeds = np.random.SeedSequence(int(torch.randint(2**62, ()))).spawn(len(blocks))

    def fill(block: np.ndarray[Any, np.dtype[np.float32]], seed: np.random.SeedSequence) -> None:
        raw = np.random.SFC64(seed).random_raw(-(-len(block) // 2)).view(np.int32)[: len(block)]
        scale = np.float32(bound / 2**31)
        np.multiply(raw, scale, out=block, casting="unsafe", dtype=np.float32)

    if len(blocks) == 1:
        fill(blocks[0], seeds[0])
        return
    with ThreadPoolExecutor(torch.get_num_threads()) as pool:
        list(pool.map(fill, blocks, seeds))


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
