"""Values for the layers of an emitted network."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from td_transform.errors import TopDownError, first_line
from td_transform.layers.own import name_of
from td_transform.trace import apply_anew, make_plain, reparametrised

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
                place = device
                if name in layer._non_persistent_buffers_set:
                    # no state dict holds it, so that it has values even where others get none
                    like = _tensor_of(source, path, name)
                    place = like.device if like is not None else device
                values = torch.empty(tensor.shape, dtype=tensor.dtype, device=place)
                if reset is None or name not in _RESET:
                    _draw(values, _tensor_of(source, path, name), _is_data(layer, tensor))
                trains = isinstance(tensor, nn.Parameter)
                tensors[name] = nn.Parameter(values, tensor.requires_grad) if trains else values
        if source is not None and (own := _module_of(source, path)) is not None:
            _copy_attributes(layer, own)
        if reset is not None:
            reset()


def initialise(module: nn.Module, init: Callable[[nn.Module], None]) -> None:
    """A user's own values for a new module and all its parts.

    Raises:
        TopDownError: the function fails on one of them.
    """

    def applied(part: nn.Module) -> None:
        try:
            init(part)
        except Exception as error:
            raise TopDownError(
                f"argument 'init' ({name_of(init)})",
                seen=f"{first_line(error)}, on a {type(part).__name__}",
                expected="a function of one module, as for nn.Module.apply",
                remedy="let it change the modules that it is for, by their class, and pass the others by",
            ) from error

    module.apply(applied)


def initialises_itself(module: nn.Module) -> bool:
    """Does its class give all its tensors values?"""
    tensors = {**module._parameters, **module._buffers}
    plain = any(isinstance(value, Tensor) for value in vars(module).values())
    names = {name for name, tensor in tensors.items() if tensor is not None}
    resets = hasattr(module, "reset_parameters") and names <= _RESET
    return not plain and (resets or not names) and next(module.children(), None) is None


def _is_data(layer: nn.Module, tensor: Tensor) -> bool:
    """Is it a table, a mask or a filter: a buffer, or a frozen parameter beside others that train?"""
    if not isinstance(tensor, nn.Parameter):
        return True
    return not tensor.requires_grad and any(
        p.requires_grad for p in layer._parameters.values() if p is not None
    )


def _draw(values: Tensor, like: Tensor | None, is_data: bool) -> None:
    """Data, and integers, are handed on, repeated or cut along the axes that have another size (an
    identity is one at any size); the rest is drawn."""
    is_data = is_data or not (values.is_floating_point() or values.is_complex())
    if is_data and like is not None and not like.is_meta and like.numel():
        like = _identity_like(like, values.shape)
        for axis, size in enumerate(values.shape):
            if like.shape[axis] != size:
                rows = torch.arange(size, device=like.device) % like.shape[axis]
                like = like.index_select(axis, rows)
        values.copy_(like.detach())
    else:
        redraw(values, like)


def _identity_like(like: Tensor, shape: torch.Size) -> Tensor:
    """A kernel that hands every channel on, at another size; what is no such kernel, as it is."""
    ones = like[0].nonzero().tolist() if like.dim() > 2 else []
    if len(ones) != 1 or len(shape) != like.dim():
        return like
    place = ones[0][1:]
    windows = zip(place, like.shape[2:], shape[2:], strict=True)
    moved = [at + (new - old) // 2 for at, old, new in windows]  # where the centre is now
    for rows in (like.shape[0], min(like.shape[:2])):  # each takes a channel, or the first of them
        if torch.equal(like, _identity(like.shape, place, like, rows)):
            return _identity(
                shape, moved, like, shape[0] if rows == like.shape[0] else min(shape[:2])
            )
    return like


def _identity(shape: torch.Size, place: Sequence[int], like: Tensor, rows: int) -> Tensor:
    """A one for each of the first rows, at that place of its window."""
    made = torch.zeros(shape, dtype=like.dtype, device=like.device)
    channels = torch.arange(rows, device=like.device)
    ones: tuple[Any, ...] = (channels, channels % shape[1], *place)
    made[ones] = 1
    return made


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


def fill(module: nn.Module, source: nn.Module | None, values: str, device: torch.device) -> None:
    """Give a module on the meta device its values.

    Args:
        module: a layer of the network, or a copy of a part of the bottom-up model.
        source: the bottom-up module that it was made from.
        values: `fresh` as its classes initialise themselves, `shared` with the source, or `copied`.
        device: where fresh values live.
    """
    if values in ("fresh", "modelled") or source is None:
        computed = reparametrised(module)
        for path, applied in computed.items():
            make_plain(module.get_submodule(path), applied)
        materialise(module, device, source=source)
        apply_anew(module, "", computed)
    elif values == "shared":
        share(module, source)
    else:
        _copy(module, source)


def fill_tensor(
    owner: nn.Module, name: str, source: Tensor, values: str, device: torch.device
) -> None:
    """The same for a single parameter or buffer of a module."""
    planned = getattr(owner, name)
    if values == "shared":
        setattr(owner, name, source)
        return
    new = torch.empty(planned.shape, dtype=planned.dtype, device=device)
    trains = isinstance(planned, nn.Parameter)
    if values == "copied":
        new.copy_(source)
    else:
        _draw(new, source, not trains)
    setattr(owner, name, nn.Parameter(new, planned.requires_grad) if trains else new)


def share(module: nn.Module, source: nn.Module) -> None:
    """The source's own parameters and buffers."""
    for name, child in source.named_modules():
        twin = module.get_submodule(name)
        twin._parameters.update(child._parameters)
        twin._buffers.update(child._buffers)
        _copy_attributes(twin, child)


def _copy(module: nn.Module, source: nn.Module) -> None:
    """Copies of the source's tensors, by their names."""
    for path, layer in module.named_modules():
        for tensors in (layer._parameters, layer._buffers):
            for name, tensor in tensors.items():
                original = _tensor_of(source, path, name)
                if tensor is None or original is None:
                    continue
                value = original.detach().clone()
                trains = isinstance(tensor, nn.Parameter)
                tensors[name] = nn.Parameter(value, tensor.requires_grad) if trains else value


def _copy_attributes(layer: nn.Module, source: nn.Module) -> None:
    """Tensors that are plain attributes of a module."""
    for name, value in vars(source).items():
        if isinstance(value, Tensor) and name not in layer._parameters:
            planned = getattr(layer, name, value)
            copied = torch.empty(planned.shape, dtype=value.dtype, device=value.device)
            _draw(copied, value, is_data=True)
            setattr(layer, name, copied)


def _module_of(source: nn.Module, path: str) -> nn.Module | None:
    """The source's own part of that path; a new layer may have parts that the source has not."""
    known: dict[str, nn.Module] = dict(source.named_modules())
    return known.get(path)


def _tensor_of(source: nn.Module | None, path: str, name: str) -> Tensor | None:
    owner = _module_of(source, path) if source is not None else None
    tensor = getattr(owner, name, None)
    return tensor if isinstance(tensor, Tensor) else None
