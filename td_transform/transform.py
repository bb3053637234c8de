"""The whole story: trace the model, find its stages, plan the levels, emit the network."""

from __future__ import annotations

import warnings as python_warnings

from torch import nn

from td_transform.analyse import analyse
from td_transform.emit import Draft, TopDownNetwork, counted, draft, emit
from td_transform.errors import unforeseen
from td_transform.options import Conversion, Options, keywords, shaping
from td_transform.plan import LevelPlanner, Plan
from td_transform.trace import trace


@keywords(Conversion)
def to_topdown(model: nn.Module, options: Conversion) -> TopDownNetwork:
    """The top-down network of a bottom-up CNN (paper, section 3).

    The model is left as it is, and shares nothing with the result unless ``weights="inherit"``.

    Args:
        model: a CNN that maps images (N, C, H, W) to logits (N, classes).
        options: as keywords; see `Conversion` for each.

    Returns:
        A `torch.fx.GraphModule` whose `plan` says what it was built from. It takes images
        (N, C, H, W), or a sequence of one full-size image per level, from fine to coarse.

    Raises:
        TopDownError: the model can't be turned upside down; the text names the place and a remedy.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> bu = nn.Sequential(
        ...     nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        ...     nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(),
        ...     nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10),
        ... )
        >>> td = to_topdown(bu, input_size=(1, 28, 28))
        >>> td(torch.rand(2, 1, 28, 28)).shape
        torch.Size([2, 10])
    """
    drafted = _drafted(model, shaping(options))
    for warning in drafted.network.plan.warnings:
        python_warnings.warn(warning, stacklevel=3)
    return emit(drafted, init=options.init, device=options.device)


@keywords(Options)
def plan_topdown(model: nn.Module, options: Options) -> Plan:
    """What `to_topdown` would build with the same options; prints as a table.

    Args:
        model: a CNN that maps images (N, C, H, W) to logits (N, classes).
        options: as keywords; see `Options` for each.

    Raises:
        TopDownError: the model can't be turned upside down.

    Example:
        >>> from torch import nn
        >>> bu = nn.Sequential(
        ...     nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        ...     nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(),
        ...     nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10),
        ... )
        >>> plan = plan_topdown(bu, input_size=(1, 28, 28))
        >>> [level.stride for level in plan.levels]
        [2, 1]
    """
    return _drafted(model, options).network.plan


def _drafted(model: nn.Module, options: Options) -> Draft:
    with unforeseen(model):
        bottom_up = analyse(trace(model, options.input_size))
        plan = LevelPlanner(bottom_up, options).plan()
        return draft(bottom_up, counted(plan, bottom_up.trace))
