"""The whole story: trace the model, find its stages, plan the levels, emit the network."""

from __future__ import annotations

import warnings as python_warnings

import torch
from torch import nn

from td_transform.analyse import BottomUp, analyse
from td_transform.emit import Draft, TopDownNetwork, counted, draft, emit
from td_transform.errors import ConversionError, StructureError, TopDownError, unforeseen
from td_transform.options import Conversion, Init, Options, keywords, shaping
from td_transform.plan import LevelPlanner, Plan, replaceable
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


@torch.inference_mode(mode=False)
def build(plan: Plan, model: nn.Module, *, init: Init | None = None) -> TopDownNetwork:
    """The network of a plan, one that was edited with `dataclasses.replace` for instance.

    Args:
        plan: what `plan_topdown(model, ...)` returned, or a changed copy.
        model: the bottom-up model that it was made from.
        init: called on every new module after its default initialisation.

    Raises:
        TopDownError: the plan doesn't fit the model, or is no network.

    Example:
        >>> import dataclasses
        >>> from torch import nn
        >>> bu = nn.Sequential(
        ...     nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        ...     nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(),
        ...     nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10),
        ... )
        >>> plan = plan_topdown(bu, input_size=(1, 28, 28))
        >>> coarse, fine = plan.levels
        >>> lift = dataclasses.replace(fine.lift, kernel=(5, 5))
        >>> edited = (coarse, dataclasses.replace(fine, lift=lift))
        >>> td = build(dataclasses.replace(plan, levels=edited), bu)
        >>> td.get_submodule("levels.1.lift.conv").kernel_size
        (5, 5)
    """
    if not isinstance(plan, Plan):
        raise TopDownError(
            "argument 'plan'", seen=f"a {type(plan).__name__}", expected="a Plan",
            remedy="pass what plan_topdown returned, or Plan.from_json of what was saved",
        )  # fmt: skip
    with unforeseen(model):
        bottom_up = analysed(model, plan.options)
        drafted = draft(bottom_up, counted(plan, bottom_up.trace))
    return emit(drafted, init=init)


def analysed(model: nn.Module, options: Options) -> BottomUp:
    """What the options let the analysis see of a model."""
    traced = trace(
        model, options.input_size, leaf_modules=options.leaf_modules, output=options.output
    )
    return analyse(traced, options.stages)


def _drafted(model: nn.Module, options: Options) -> Draft:
    """A network that runs: a block that lowers the resolution and can't do without is replaced; what
    is bound to another resolution than its level's gives way to what had that resolution."""
    if isinstance(model, TopDownNetwork):
        raise StructureError(
            "model", seen="a top-down network", expected="a bottom-up one, whose maps become coarser",
            remedy="convert the model that it was made from",
        )  # fmt: skip
    with unforeseen(model):
        bottom_up = analysed(model, options)
        replaced: dict[int, TopDownError] = {}
        bound: dict[int, TopDownError] = {}
        while True:
            planner = LevelPlanner(bottom_up, options, replaced, bound)
            plan = planner.plan()
            try:
                return draft(bottom_up, counted(plan, bottom_up.trace))
            except ConversionError as error:
                stage = replaceable(bottom_up, plan, error.node)
                if stage is not None and stage not in replaced:
                    replaced[stage] = error
                elif error.level is not None and planner.can_bind(error.level):
                    bound[error.level] = error
                else:
                    raise
