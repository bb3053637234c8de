"""The command `td-transform`: convert a model, see what it costs and what its neurons see."""

from __future__ import annotations

import sys
import warnings as python_warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import tyro
from torch import nn

from td_transform.cli.model_names import load_model
from td_transform.cost import Cost, measure
from td_transform.emit import TopDownNetwork
from td_transform.errors import TopDownError
from td_transform.fields.compare import compare
from td_transform.fields.receptive_field import receptive_field
from td_transform.layers import MergeKind, PyramidKind, UpsampleKind
from td_transform.options import Arrangement, Weights
from td_transform.saving import save_topdown
from td_transform.table import format_table
from td_transform.trace import make_skeleton
from td_transform.transform import to_topdown

app = tyro.extras.SubcommandApp()


def main(args: Sequence[str] | None = None) -> None:
    """Run the command line; exits with code 2 where a model can't be converted.

    Args:
        args: the arguments; those that the process was started with by default.

    Example:
        >>> main(["convert", "resnet18", "--input-size", "3", "64", "64"])  # doctest: +SKIP
    """
    try:
        app.cli(prog="td-transform", description=_DESCRIPTION, args=args)
    except TopDownError as error:
        print("td-transform:", " ".join(str(error).split()), file=sys.stderr)
        raise SystemExit(2) from None


_DESCRIPTION = "Turn bottom-up CNNs into the top-down networks of Lelekas et al. (2020)."


@app.command
def convert(
    model: Annotated[str, tyro.conf.Positional],
    *,
    input_size: Annotated[tuple[int, int, int] | None, tyro.conf.arg(metavar="C H W")] = None,
    arrangement: Arrangement = "td",
    output_stride: int = 1,
    merge: MergeKind = "add-concat",
    upsample: UpsampleKind = "nearest",
    pyramid: PyramidKind = "gaussian",
    weights: Weights = "fresh",
    save: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None,
    draw: Annotated[Path | None, tyro.conf.arg(metavar="FILE.svg|png")] = None,
) -> None:
    """Convert a model; print the plan of the top-down network and what both networks cost.

    Args:
        model: a torchvision name (resnet18), a timm name (timm:resnet26), or
            package.module:callable, which is called without arguments.
        input_size: channels, rows and columns of an image.
        arrangement: how widths are laid out over depth (paper, 3.3).
        output_stride: input pixels per step of the last stage.
        merge: how upsampled features and lift are joined (paper, Fig. 3).
        upsample: how a map is brought to the next resolution (paper, 3.1).
        pyramid: how the image is blurred and downsampled.
        weights: inherit those of layers whose shapes agree, or start afresh.
        save: write the network to this file, for td_transform.load_topdown.
        draw: draw both networks into this file.
    """
    for file in (save, draw):
        _check_folder(file)
    bu = load_model(model)
    with python_warnings.catch_warnings():
        # the plan that is printed below holds them
        python_warnings.filterwarnings("ignore", module=r"td_transform\.cli")
        td = to_topdown(
            bu,
            input_size=input_size,
            arrangement=arrangement,
            output_stride=output_stride,
            merge=merge,
            upsample=upsample,
            pyramid=pyramid,
            weights=weights,
        )
    size = td.plan.input_size
    print(td.plan, "", *cost_table(measure(bu, size), measure(td, size)), sep="\n")
    _write(bu, td, save=save, drawing=draw, title=model)


@app.command
def rf(
    model: Annotated[str, tyro.conf.Positional],
    *,
    input_size: Annotated[tuple[int, int, int] | None, tyro.conf.arg(metavar="C H W")] = None,
    topdown: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
    output_stride: int = 1,
    plot: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None,
    csv: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None,
) -> None:
    """Print the receptive field of every tensor of a model (paper, 3.2, Eq. 1).

    Args:
        model: a torchvision name (resnet18), a timm name (timm:resnet26), or
            package.module:callable, which is called without arguments.
        input_size: channels, rows and columns of an image.
        topdown: print the fields of the top-down network, and how both compare.
        output_stride: of the top-down network.
        plot: draw the sizes over depth into this file, both networks together.
        csv: write the rows to this file.
    """
    for file in (plot, csv):
        _check_folder(file)
    bu = load_model(model)
    fields = receptive_field(bu, input_size)
    shown, versus = fields, None
    if topdown:
        with python_warnings.catch_warnings():
            python_warnings.simplefilter("ignore")  # `convert` prints them with the plan
            td = to_topdown(make_skeleton(bu), input_size=input_size, output_stride=output_stride)
        shown = versus = receptive_field(td)
    print(shown)
    if versus is not None:
        print("", compare(fields, versus), sep="\n")
    if csv is not None:
        shown.to_csv(csv)
        print(f"written to {csv}")
    if plot is not None:
        print(f"drawn to {fields.plot(plot, versus=versus, title=model)}")


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


def _check_folder(file: Path | None) -> None:
    """Before the work is done."""
    if file is not None and not file.parent.is_dir():
        raise TopDownError(
            f"file '{file}'", seen=f"no folder '{file.parent}'", expected="a folder that is there",
            remedy="create the folder, or name another",
        )  # fmt: skip


def _write(
    bu: nn.Module, td: TopDownNetwork, *, save: Path | None, drawing: Path | None, title: str
) -> None:
    if save is not None:
        save_topdown(td, save)
        print(f"saved to {save}")
    if drawing is not None:
        from td_transform.draw import draw

        draw(bu, td, drawing, title=title)
        print(f"drawn to {drawing}")
