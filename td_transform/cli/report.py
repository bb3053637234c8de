"""`td-transform report`: all that there is to know of a model's conversion, on one page."""

from __future__ import annotations

import warnings as python_warnings
from pathlib import Path
from typing import Annotated

import tyro

from td_transform.cli.choices import with_functions
from td_transform.cli.files import check_folder, check_libraries
from td_transform.cli.model_names import ModelName, load_model
from td_transform.cli.terminal import progress
from td_transform.options import Options
from td_transform.report import write_report
from td_transform.trace import make_skeleton
from td_transform.transform import to_topdown


def report(
    model: ModelName,
    *,
    options: Annotated[Options, tyro.conf.arg(name="")] = Options(),  # noqa: B008
    out: Annotated[Path, tyro.conf.arg(metavar="FILE.html", aliases=["-o"])] = Path("report.html"),
) -> None:
    """Write one HTML page on a model and its top-down network.

    On it: plan, drawing, costs, receptive fields, what is opaque or fixed. It needs no other file.

    For instance:
        td-transform report resnet18
        td-transform report timm:resnet26 --output-stride 4 -o resnet26.html

    Args:
        model: a torchvision name (resnet18), a timm name (timm:resnet26), or
            package.module:callable, which is called without arguments.
        options: those of `to_topdown`.
        out: the file to write.
    """
    check_folder(out)
    check_libraries("td-transform report", "report", "jinja2", "matplotlib")
    with progress(f"building {model}"):
        bu = load_model(model)
    with progress("converting it"), python_warnings.catch_warnings():
        python_warnings.simplefilter("ignore")  # they are on the page
        td = to_topdown(make_skeleton(bu), **with_functions(options))
    with progress("counting, drawing and following fields"):
        write_report(bu, td, out, title=model)
    print(f"written to {out}")
