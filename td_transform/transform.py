"""The public entrance: plan and build the top-down network of a bottom-up one."""

from __future__ import annotations

import warnings as python_warnings
from typing import Any

from torch import nn

from td_transform.analyse.stages import Structure, structure
from td_transform.emit.graph import emit
from td_transform.emit.initialise import Init
from td_transform.emit.network import TopDownNetwork
from td_transform.layers import MergeKind, PyramidKind, UpsampleKind
from td_transform.plan.levels import Composer
from td_transform.plan.values import Arrangement, Options, Plan, Weights
from td_transform.trace.model import trace


def to_topdown(
    model: nn.Module,
    *,
    input_size: tuple[int, int, int] | None = None,
    arrangement: Arrangement = "td",
    output_stride: int = 1,
    merge: MergeKind = "add-concat",
    upsample: UpsampleKind = "nearest",
    pyramid: PyramidKind = "gaussian",
    weights: Weights = "fresh",
    init: Init | None = None,
) -> TopDownNetwork:
    """The top-down network of a bottom-up CNN (paper, section 3).

    The model is left as it is, and shares nothing with the result unless ``weights="inherit"``.

    Args:
        model: a CNN that maps images (N, C, H, W) to logits (N, classes).
        input_size: (C, H, W). Without it: the model's own configuration (timm's `pretrained_cfg`),
            else the first convolution's channels at 224 x 224 pixels.
        arrangement: how widths are laid out over depth: `td` (reversed with the stages), `uniform`
            (all the median) or `reversed` (growing with depth); paper, 3.3.
        output_stride: input pixels per step of the last stage; 1 is the paper's, the bottom-up
            model's finest stride costs about what the bottom-up model costs.
        merge: `add-concat` (paper, Fig. 3), `add` or `concat`.
        upsample: `nearest` (the paper's choice), `bilinear` or `transposed`; paper, 3.1.
        pyramid: how the image is blurred and downsampled; see `Pyramid`.
        weights: `fresh`, or `inherit` to share those of layers whose shapes agree.
        init: called on every new module after its default initialisation, as by `nn.Module.apply`.

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
    options = Options(
        arrangement=arrangement,
        output_stride=output_stride,
        merge=merge,
        upsample=upsample,
        pyramid=pyramid,
        weights=weights,
    )
    analysed, plan = _plan(model, input_size, options)
    for warning in plan.warnings:
        python_warnings.warn(warning, stacklevel=2)
    return emit(analysed, plan, init=init)


def plan_topdown(
    model: nn.Module, *, input_size: tuple[int, int, int] | None = None, **options: Any
) -> Plan:
    """What `to_topdown` would build with the same arguments; prints as a table.

    Args:
        model: a CNN that maps images (N, C, H, W) to logits (N, classes).
        input_size: (C, H, W), as for `to_topdown`.
        options: those of `to_topdown` that shape the network.

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
    return _plan(model, input_size, Options(**options))[1]


def _plan(
    model: nn.Module, input_size: tuple[int, int, int] | None, options: Options
) -> tuple[Structure, Plan]:
    analysed = structure(trace(model, input_size))
    return analysed, Composer(analysed, options).plan()
