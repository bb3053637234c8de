"""Layers of the user's own: what the functions that make them are told, and what these must give."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from td_transform.errors import TopDownError, first_line


@dataclass(frozen=True)
class MergeSpec:
    """For a merge: a module ``(up, lift) -> map``, all three (N, channels, H, W).

    Args:
        channels: of all three maps.
        axes: of a map: 2 for images.
        unit: makes a unit in the network's own form, from that many channels to `channels`, with
            the 3x3 kernel of the paper's merges.
    """

    channels: int
    axes: int
    unit: Callable[[int], nn.Module] = field(repr=False)


@dataclass(frozen=True)
class LiftSpec:
    """For a lift: a module (N, image_channels, H, W) -> (N, channels, H, W).

    Args:
        image_channels: of the level of the pyramid that it reads.
        channels: of the map that it makes.
        kernel: that of the lift in the stem's form that would stand here.
        axes: of a map: 2 for images.
    """

    image_channels: int
    channels: int
    kernel: tuple[int, ...]
    axes: int


@dataclass(frozen=True)
class UpsampleSpec:
    """For an upsampling: a module (N, channels, H, W) -> (N, channels, factor * H, factor * W).

    Args:
        channels: of the map.
        factor: how much finer the next level is; a number for each axis where these differ.
        axes: of a map: 2 for images.
    """

    channels: int
    factor: int | tuple[int, ...]
    axes: int


@dataclass(frozen=True)
class PyramidSpec:
    """For a level of the pyramid: a module that makes it from the full image.

    (N, channels, H, W) becomes (N, channels, ceil(H / stride), ceil(W / stride)).

    Args:
        channels: of the image.
        stride: input pixels per step of the level; a number for each axis where these differ.
        axes: of the image: 2 for a picture.
    """

    channels: int
    stride: int | tuple[int, ...]
    axes: int


Spec = MergeSpec | LiftSpec | UpsampleSpec | PyramidSpec
MergeFactory = Callable[[MergeSpec], nn.Module]
LiftFactory = Callable[[LiftSpec], nn.Module]
UpsampleFactory = Callable[[UpsampleSpec], nn.Module]
PyramidFactory = Callable[[PyramidSpec], nn.Module]


def is_own(choice: Any) -> bool:
    """Is it none of the named kinds, but a function of the user's, or the name of one?"""
    return callable(choice) or (isinstance(choice, str) and ":" in choice)


def name_of(choice: Any) -> str:
    """A named kind as it is, a function as ``package.module:name``.

    Example:
        >>> name_of("nearest"), name_of(nn.Identity)
        ('nearest', 'torch.nn.modules.linear:Identity')
    """
    if isinstance(choice, str):
        return choice
    function = getattr(choice, "func", choice)  # of a functools.partial
    named = function if hasattr(function, "__qualname__") else type(function)
    return f"{named.__module__}:{named.__qualname__}"


def make(option: str, factory: Any, spec: Spec, device: torch.device | str) -> nn.Module:
    """The module that a factory makes, on a device.

    Raises:
        TopDownError: the factory is only named, it fails, or it makes no module.
    """
    if isinstance(factory, str):
        raise TopDownError(
            f"argument '{option}'", seen=f"'{factory}', a function that the plan only names",
            expected="the function itself",
            remedy=f"pass {option}= to load_topdown, or put it into the plan's options with "
            "dataclasses.replace",
        )  # fmt: skip
    try:
        with torch.device(device):
            module = factory(spec)
    except TopDownError:
        raise
    except Exception as error:
        raise _refused(
            option, factory, first_line(error), "a function of one spec", spec
        ) from error
    if not isinstance(module, nn.Module):
        raise _refused(option, factory, f"a {type(module).__name__}", "a torch.nn.Module", spec)
    return module


def check_shape(
    option: str,
    factory: Any,
    spec: Spec,
    module: nn.Module,
    inputs: tuple[torch.Size, ...],
    wanted: torch.Size,
    dtype: torch.dtype,
) -> None:
    """Run a module on the meta device, where it is.

    Raises:
        TopDownError: it fails, or gives another shape than its place needs.
    """
    training = module.training
    try:
        with torch.no_grad(), torch.device("meta"):
            module.eval()
            found = module(*(torch.empty(shape, dtype=dtype) for shape in inputs))
    except Exception as error:
        shapes = " and ".join(str(tuple(shape)) for shape in inputs)
        seen = f"{first_line(error)}, on {shapes}"
        raise _refused(option, factory, seen, f"a map {tuple(wanted)}", spec) from error
    finally:
        module.train(training)
    shape = getattr(found, "shape", None)
    if shape != wanted:
        seen = f"a map {tuple(shape)}" if shape is not None else f"a {type(found).__name__}"
        raise _refused(option, factory, seen, f"a map {tuple(wanted)}", spec)


def _refused(option: str, factory: Any, seen: str, expected: str, spec: Spec) -> TopDownError:
    return TopDownError(
        f"argument '{option}' ({name_of(factory)})", seen=f"{seen}, for {spec}", expected=expected,
        remedy=f"see {type(spec).__name__} for what the module is given and what it must return",
    )  # fmt: skip
