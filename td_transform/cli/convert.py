"""`td-transform convert`: the plan of a top-down network, and what both networks cost."""

from __future__ import annotations

import json as json_text
import sys
import warnings as python_warnings
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import tyro
from torch import nn

from td_transform.cli.choices import with_functions
from td_transform.cli.files import check_folder, check_libraries
from td_transform.cli.model_names import ModelName, load_model
from td_transform.cli.terminal import painted, progress
from td_transform.cost import Cost, cost_table, measure
from td_transform.draw import draw as draw_both
from td_transform.emit import TopDownNetwork
from td_transform.options import Options
from td_transform.plan import Plan
from td_transform.saving import save_topdown
from td_transform.transform import to_topdown


def convert(
    model: ModelName,
    *,
    options: Annotated[Options, tyro.conf.arg(name="")] = Options(),  # noqa: B008
    save: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None,
    draw: Annotated[Path | None, tyro.conf.arg(metavar="FILE.svg|png")] = None,
    json: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
) -> None:
    """Convert a model; print the plan of the top-down network and what both networks cost.

    For instance:
        td-transform convert resnet18 --output-stride 4
        td-transform convert timm:resnet26 --input-size 3 128 128 --draw resnet26.svg
        td-transform convert my_package.models:build --save td.pt
        td-transform convert resnet18 --json | jq .top_down.parameters

    Args:
        model: a torchvision name (resnet18), a timm name (timm:resnet26), or
            package.module:callable, which is called without arguments.
        options: those of `to_topdown`.
        save: write the network to this file, for td_transform.load_topdown.
        draw: draw both networks into this file.
        json: print one JSON object instead: the plan, both costs, the files that were written.
    """
    for file in (save, draw):
        check_folder(file)
    if draw is not None:
        check_libraries("option --draw", "fields", "matplotlib")
    with progress(f"building {model}"):
        bu = load_model(model)
    with progress("converting it"), python_warnings.catch_warnings():
        # the plan that is printed below holds them
        python_warnings.filterwarnings("ignore", module=r"td_transform\.cli")
        td = to_topdown(bu, **with_functions(options))
    size = td.plan.input_size
    with progress("counting what both cost"):
        costs = measure(bu, size), measure(td, size)
    if not json:
        _print_plan(td.plan)
        print("", cost_table(*costs), sep="\n")
    files = _write(bu, td, save=save, drawing=draw, title=model)
    if json:
        print(_as_json(td.plan, costs, files))
    else:
        print("".join(f"{done} to {file}\n" for done, file in files.items()), end="")


def _print_plan(plan: Plan) -> None:
    title, *lines = str(plan).splitlines()
    print(painted(title, "bold", sys.stdout))
    for line in lines:
        warns = line.startswith("warning: ")
        print(painted(line, "yellow", sys.stdout) if warns else line)


def _as_json(plan: Plan, costs: tuple[Cost, Cost], files: dict[str, Path]) -> str:
    whole = {
        "plan": json_text.loads(plan.to_json()),
        "bottom_up": asdict(costs[0]),
        "top_down": asdict(costs[1]),
        "files": {done: str(file) for done, file in files.items()},
    }
    return json_text.dumps(whole, indent=1)


def _write(
    bu: nn.Module, td: TopDownNetwork, *, save: Path | None, drawing: Path | None, title: str
) -> dict[str, Path]:
    """The files by what was done to them."""
    files = {}
    if save is not None:
        with progress("saving it"):
            save_topdown(td, save)
        files["saved"] = save
    if drawing is not None:
        with progress("drawing both"):
            draw_both(bu, td, drawing, title=title)
        files["drawn"] = drawing
    return files
