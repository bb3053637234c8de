"""`td-transform convert`: the plan of a top-down network, and what both networks cost."""

from __future__ import annotations

import warnings as python_warnings
from pathlib import Path
from typing import Annotated

import tyro
from torch import nn

from td_transform.cli.choices import with_functions
from td_transform.cli.files import check_folder
from td_transform.cli.model_names import load_model
from td_transform.cost import Cost, measure
from td_transform.draw import draw as draw_both
from td_transform.emit import TopDownNetwork
from td_transform.options import Options
from td_transform.saving import save_topdown
from td_transform.table import format_table
from td_transform.transform import to_topdown


def convert(
    model: Annotated[str, tyro.conf.Positional],
    *,
    options: Annotated[Options, tyro.conf.arg(name="")] = Options(),  # noqa: B008
    save: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None,
    draw: Annotated[Path | None, tyro.conf.arg(metavar="FILE.svg|png")] = None,
) -> None:
    """Convert a model; print the plan of the top-down network and what both networks cost.

    Args:
        model: a torchvision name (resnet18), a timm name (timm:resnet26), or
            package.module:callable, which is called without arguments.
        options: those of `to_topdown`.
        save: write the network to this file, for td_transform.load_topdown.
        draw: draw both networks into this file.
    """
    for file in (save, draw):
        check_folder(file)
    bu = load_model(model)
    with python_warnings.catch_warnings():
        # the plan that is printed below holds them
        python_warnings.filterwarnings("ignore", module=r"td_transform\.cli")
        td = to_topdown(bu, **with_functions(options))
    size = td.plan.input_size
    print(td.plan, "", *cost_table(measure(bu, size), measure(td, size)), sep="\n")
    _write(bu, td, save=save, drawing=draw, title=model)


def cost_table(bottom_up: Cost, top_down: Cost) -> list[str]:
    """The lines of a table: what both networks cost for one image, and the ratio.

    Args:
        bottom_up, top_down: what `measure` found.

    Example:
        >>> cost = Cost(parameters=8, multiply_adds=64, activation_bytes=512, output_size=(1, 1))
        >>> cost_table(cost, cost)[2]
        'parameters                  8         8   1.00'
    """
    rows = [
        _row("parameters", bottom_up.parameters, top_down.parameters),
        _row("multiply-adds", bottom_up.multiply_adds, top_down.multiply_adds),
        _row("activations, bytes", bottom_up.activation_bytes, top_down.activation_bytes),
        _resolution_row(bottom_up.output_size, top_down.output_size),
    ]
    return format_table(["per image", "bottom-up", "top-down", "ratio"], rows)


def _row(name: str, bottom_up: int, top_down: int) -> list[str]:
    return [name, f"{bottom_up:,}", f"{top_down:,}", _ratio(top_down, bottom_up)]


def _resolution_row(
    bottom_up: tuple[int, int] | None, top_down: tuple[int, int] | None
) -> list[str]:
    sizes = [f"{size[0]}x{size[1]}" if size is not None else "" for size in (bottom_up, top_down)]
    ratio = _ratio(top_down[0], bottom_up[0]) if bottom_up and top_down else ""
    return ["output resolution", *sizes, ratio]


def _ratio(top_down: int, bottom_up: int) -> str:
    return f"{top_down / bottom_up:.2f}" if bottom_up else ""


def _write(
    bu: nn.Module, td: TopDownNetwork, *, save: Path | None, drawing: Path | None, title: str
) -> None:
    if save is not None:
        save_topdown(td, save)
        print(f"saved to {save}")
    if drawing is not None:
        draw_both(bu, td, drawing, title=title)
        print(f"drawn to {drawing}")
