"""The image size that a model is analysed at: the user's, the model's own, or a guess."""

from __future__ import annotations

from torch import nn

from td_transform.errors import TraceError


def check_input_size(size: tuple[int, int, int]) -> None:
    if len(size) != 3 or not all(isinstance(s, int) and s > 0 for s in size):
        raise TraceError(
            "argument 'input_size'",
            seen=repr(size),
            expected="three positive integers (C, H, W), without the batch",
            remedy="pass for example input_size=(3, 224, 224)",
        )


def guess_input_size(model: nn.Module) -> tuple[int, int, int]:
    """The model's own configuration, else the first convolution's channels at 224 x 224 pixels."""
    if (configured := _configured_size(model)) is not None:
        return configured
    unshuffled = 1
    for module in model.modules():
        if isinstance(module, nn.PixelUnshuffle):
            unshuffled *= module.downscale_factor**2
        if isinstance(module, nn.Conv2d):
            return module.in_channels // unshuffled, 224, 224
    return 3, 224, 224


def _configured_size(model: nn.Module) -> tuple[int, int, int] | None:
    """What timm's models say of themselves."""
    size = (getattr(model, "pretrained_cfg", None) or {}).get("input_size")
    return tuple(size) if size is not None else None
