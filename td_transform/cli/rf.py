"""`td-transform rf`: the receptive field of every tensor."""

from __future__ import annotations

import warnings as python_warnings
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import tyro

from td_transform.cli.files import check_folder
from td_transform.cli.model_names import load_model
from td_transform.fields import compare, receptive_field
from td_transform.options import Options
from td_transform.trace import make_skeleton
from td_transform.transform import to_topdown


def rf(
    model: Annotated[str, tyro.conf.Positional],
    *,
    options: Annotated[Options, tyro.conf.arg(name="")] = Options(),  # noqa: B008
    topdown: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
    plot: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None,
    csv: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None,
) -> None:
    """Print the receptive field of every tensor of a model (paper, 3.2, Eq. 1).

    Args:
        model: a torchvision name (resnet18), a timm name (timm:resnet26), or
            package.module:callable, which is called without arguments.
        options: of the top-down network.
        topdown: print the fields of the top-down network, and how both compare.
        plot: draw the sizes over depth into this file, both networks together.
        csv: write the rows to this file.
    """
    for file in (plot, csv):
        check_folder(file)
    bu = load_model(model)
    fields = receptive_field(bu, options.input_size)
    shown, versus = fields, None
    if topdown:
        with python_warnings.catch_warnings():
            python_warnings.simplefilter("ignore")  # `convert` prints them with the plan
            td = to_topdown(make_skeleton(bu), **asdict(options))
        shown = versus = receptive_field(td)
    print(shown)
    if versus is not None:
        print("", compare(fields, versus), sep="\n")
    if csv is not None:
        shown.to_csv(csv)
        print(f"written to {csv}")
    if plot is not None:
        print(f"drawn to {fields.plot(plot, versus=versus, title=model)}")
