"""The image size that a model is analysed at: the user's, the model's own, or a guess."""

from __future__ import annotations

from typing import NamedTuple

from torch import nn

from td_transform.errors import TraceError
from td_transform.layers.dimensions import DIMENSIONS


class _Spelling(NamedTuple):
    numbers: str
    example: tuple[int, ...]


_SPELLINGS = {
    1: _Spelling("two", (1, 16000)),
    2: _Spelling("three", (3, 224, 224)),
    3: _Spelling("four", (3, 16, 112, 112)),
}


def check_input_size(model: nn.Module, size: tuple[int, ...]) -> None:
    """A size is the channels and as many sides as the model's convolutions have axes."""
    found = _dimensions(model)
    fits = len(size) - 1 in (found or DIMENSIONS)
    if not fits or not all(isinstance(s, int) and s > 0 for s in size):
        error = _malformed(repr(size), found[0] if found else 2)
        raise error if fits or len(size) - 1 not in DIMENSIONS else _of_other_axes(error)


def guess_input_size(model: nn.Module) -> tuple[int, ...]:
    """The model's own configuration, else the first convolution's channels at 224 x 224 pixels.

    Raises:
        TraceError: its convolutions slide over lines or volumes, which have no usual size.
    """
    if (configured := _configured_size(model)) is not None:
        return configured
    found = _dimensions(model)
    if found and found[0] != 2:
        raise _malformed("None", found[0])
    unshuffled = 1
    for module in model.modules():
        if isinstance(module, nn.PixelUnshuffle):
            unshuffled *= module.downscale_factor**2
        if isinstance(module, nn.Conv2d):
            return module.in_channels // unshuffled, 224, 224
    return 3, 224, 224


def _dimensions(model: nn.Module) -> list[int]:
    """Over how many axes its convolutions slide, the first one's first."""
    found = (
        axes
        for module in model.modules()
        for axes, kinds in DIMENSIONS.items()
        if isinstance(module, kinds.conv)
    )
    return list(dict.fromkeys(found))


def _malformed(seen: str, axes: int) -> TraceError:
    wanted = _SPELLINGS[axes]
    return TraceError(
        "argument 'input_size'",
        seen=seen,
        expected=f"{wanted.numbers} positive integers (C, {DIMENSIONS[axes].sides}), without the batch",
        remedy=f"pass for example input_size={wanted.example}",
    )


def _of_other_axes(error: TraceError) -> TraceError:
    """The size may be right, of what the model makes the maps of its convolutions from."""
    return TraceError(
        error.place,
        seen=error.seen,
        expected=f"{error.expected}, as the model's convolutions have axes",
        remedy=f"{error.remedy}; of a model that makes a spectrogram of sound, or folds frames into the "
        "batch, convert the network that follows by itself",
    )


def _configured_size(model: nn.Module) -> tuple[int, ...] | None:
    """What timm's models say of themselves."""
    size = (getattr(model, "pretrained_cfg", None) or {}).get("input_size")
    return tuple(size) if size is not None else None
