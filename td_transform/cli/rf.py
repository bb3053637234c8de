"""`td-transform rf`: the receptive field of every tensor."""

from __future__ import annotations

import json as json_text
import warnings as python_warnings
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import tyro
from torch import nn

from td_transform.cli.choices import with_functions
from td_transform.cli.files import check_folder, check_libraries
from td_transform.cli.model_names import ModelName, load_model
from td_transform.cli.terminal import progress
from td_transform.errors import TopDownError
from td_transform.fields import Comparison, ReceptiveFields, compare, receptive_field
from td_transform.options import Options
from td_transform.trace import make_skeleton
from td_transform.transform import to_topdown


def rf(
    model: ModelName,
    *,
    options: Annotated[Options, tyro.conf.arg(name="")] = Options(),  # noqa: B008
    topdown: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
    plot: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None,
    csv: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None,
    json: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False,
) -> None:
    """Print the receptive field of every tensor of a model (paper, 3.2, Eq. 1).

    For instance:
        td-transform rf resnet18
        td-transform rf resnet18 --topdown --plot rf.png
        td-transform rf my_package.models:build --input-size 1 28 28 --csv rf.csv
        td-transform rf resnet18 --json | jq '.rows[-1].size_max_vertical'

    Args:
        model: a torchvision name (resnet18), a timm name (timm:resnet26), or
            package.module:callable, which is called without arguments.
        options: of the top-down network.
        topdown: print the fields of the top-down network, and how both compare.
        plot: draw the sizes over depth into this file, both networks together.
        csv: write the rows to this file.
        json: print one JSON object instead: the rows, the comparison, the files that were written.
    """
    for file in (plot, csv):
        check_folder(file)
    if plot is not None:
        check_libraries("option --plot", "fields", "matplotlib")
    with progress(f"building {model}"):
        bu = load_model(model)
    with progress("following its fields"):
        fields = receptive_field(bu, options.input_size)
    shown, versus, comparison = fields, None, None
    if topdown:
        with progress("following those of the top-down network"):
            shown = versus = _of_topdown(bu, options)
        comparison = compare(fields, versus)
    elif plot is not None:
        # a model that can't be converted has a curve of its own all the same
        with suppress(TopDownError), progress("following those of the top-down network"):
            versus = _of_topdown(bu, options)
    if not json:
        print(shown)
        if comparison is not None:
            print("", comparison, sep="\n")
    files = {}
    if csv is not None:
        shown.to_csv(csv)
        files["written"] = csv
    if plot is not None:
        with progress("drawing"):
            files["drawn"] = fields.plot(plot, versus=versus, title=model)
    if json:
        print(json_text.dumps(_as_data(shown, comparison, files), indent=1))
    else:
        print("".join(f"{done} to {file}\n" for done, file in files.items()), end="")


def _of_topdown(bu: nn.Module, options: Options) -> ReceptiveFields:
    with python_warnings.catch_warnings():
        python_warnings.simplefilter("ignore")  # `convert` prints them with the plan
        return receptive_field(to_topdown(make_skeleton(bu), **with_functions(options)))


def _as_data(
    shown: ReceptiveFields, comparison: Comparison | None, files: dict[str, Path]
) -> dict[str, Any]:
    return {
        "network": "bottom-up" if comparison is None else "top-down",
        "input_size": shown.input_size,
        "rows": shown.records,
        "comparison": None if comparison is None else asdict(comparison),
        "files": {done: str(file) for done, file in files.items()},
    }
