"""The image size that a model is analysed at: the user's, the model's own, or a guess."""

from __future__ import annotations

import operator
import reprlib
from collections.abc import Mapping
from typing import Any, NamedTuple

from torch import fx, nn

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


def checked_input_size(model: nn.Module, size: Any) -> tuple[int, ...]:
    """A size is the channels and as many sides as the model's input has axes, which a run shows.

    Raises:
        TraceError: it isn't a sequence of positive integers.
    """
    try:
        checked = tuple(map(operator.index, size))
    except TypeError:
        checked = ()
    if not checked or min(checked) < 1:
        raise malformed_size(size, next(iter(_dimensions(model)), 2))
    return checked


def check_axes(graph: fx.Graph, values: Mapping[fx.Node, Any], model: nn.Module) -> None:
    """A convolution that takes a batch for a single map had to be given another size.

    Raises:
        TraceError: the first one of a graph, which may not be finished, does so.
    """
    size = values[next(iter(graph.nodes))].shape[1:]
    for node in graph.nodes:
        module = model.get_submodule(node.target) if node.op == "call_module" else None
        axes = axes_of(module)
        if axes is not None:
            alone = len(values[node.all_input_nodes[0]].shape) == axes + 1
            if alone and len(size) != axes + 1:
                raise malformed_size(size, axes)
            return


def guess_input_size(model: nn.Module) -> tuple[int, ...]:
    """The model's own configuration, else the first convolution's channels at 224 x 224 pixels.

    Raises:
        TraceError: its convolutions slide over lines or volumes, which have no usual size.
    """
    if (configured := _configured_size(model)) is not None:
        return configured
    found = _dimensions(model)
    if found and found[0] != 2:
        raise malformed_size(None, found[0])
    unshuffled = 1
    for module in model.modules():
        if isinstance(module, nn.PixelUnshuffle):
            unshuffled *= module.downscale_factor**2
        if isinstance(module, nn.Conv2d):
            return module.in_channels // unshuffled, 224, 224
    return 3, 224, 224


def _dimensions(model: nn.Module) -> list[int]:
    """Over how many axes its convolutions slide, the first one's first."""
    return list(dict.fromkeys(axes for m in model.modules() if (axes := axes_of(m)) is not None))


def axes_of(module: nn.Module | None) -> int | None:
    """Over how many axes a convolution slides."""
    return next((n for n, kinds in DIMENSIONS.items() if isinstance(module, kinds.conv)), None)


def malformed_size(size: Any, axes: int) -> TraceError:
    """The error for a size that isn't that of maps of so many axes."""
    wanted = _SPELLINGS[axes]
    error = TraceError(
        "argument 'input_size'",
        seen=reprlib.repr(size),
        expected=f"{wanted.numbers} positive integers (C, {DIMENSIONS[axes].sides}), without the batch",
        remedy=f"pass for example input_size={wanted.example}",
    )
    if (
        not isinstance(size, tuple)
        or len(size) - 1 == axes
        or len(size) - 1 not in (0, *DIMENSIONS)
    ):
        return error
    # the size may be right, of what the model makes the maps of its convolutions from
    return TraceError(
        error.place,
        seen=error.seen,
        expected=f"{error.expected}, as the model's convolutions have axes, or an input of which the "
        "model makes such maps, one of each",
        remedy=f"{error.remedy}; of a model that folds frames into the batch, convert the network that "
        "follows by itself",
    )


def _configured_size(model: nn.Module) -> tuple[int, ...] | None:
    """What timm's models say of themselves."""
    size = (getattr(model, "pretrained_cfg", None) or {}).get("input_size")
    return tuple(size) if size is not None else None
