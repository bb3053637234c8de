"""The image size that a model is analysed at: the user's, the model's own, or a guess."""

from __future__ import annotations

from torch import fx, nn

from td_transform.errors import TraceError


def check_input_size(size: tuple[int, int, int]) -> None:
    if len(size) != 3 or not all(isinstance(s, int) and s > 0 for s in size):
        raise TraceError(
            "argument 'input_size'",
            seen=repr(size),
            expected="three positive integers (C, H, W), without the batch",
            remedy="pass for example input_size=(3, 224, 224)",
        )


def guess_input_size(model: nn.Module, graph: fx.Graph) -> tuple[int, int, int]:
    """The model's own configuration, else the first convolution's channels at 224 x 224 pixels."""
    if (configured := _configured_size(model)) is not None:
        return configured
    unshuffled = 1
    for node in graph.nodes:
        module = model.get_submodule(str(node.target)) if node.op == "call_module" else None
        factor = getattr(module, "downscale_factor", None)
        if factor is None and getattr(node.target, "__name__", "") == "pixel_unshuffle":
            factor = node.kwargs.get("downscale_factor", node.args[-1])
        if isinstance(factor, int):
            unshuffled *= factor**2
        if isinstance(module, nn.Conv2d):
            return module.in_channels // unshuffled, 224, 224
    return 3, 224, 224


def likely_size(model: nn.Module) -> tuple[int, int, int]:
    """Before there is a graph: the model's own configuration, else its first convolution's."""
    channels = next((m.in_channels for m in model.modules() if isinstance(m, nn.Conv2d)), 3)
    return _configured_size(model) or (channels, 224, 224)


def _configured_size(model: nn.Module) -> tuple[int, int, int] | None:
    """What timm's models say of themselves."""
    size = (getattr(model, "pretrained_cfg", None) or {}).get("input_size")
    return tuple(size) if size is not None else None
