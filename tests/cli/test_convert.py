"""The commands `td-transform convert` and `report`: torchvision's models, timm's and a user's own."""

from __future__ import annotations

import json
import re
import sys
import warnings
from pathlib import Path

import pytest
from torch import nn

from td_transform import Plan
from td_transform.cli import main
from td_transform.cli.model_names import load_model
from td_transform.cost import Cost, cost_table
from td_transform.saving import load_topdown
from td_transform.torchvision_cpu import import_torchvision
from tests.cli.failing import failure


def cells(line: str) -> list[str]:
    return re.split(r"\s{2,}", line)


def test_resnet18_is_converted_and_saved(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "td.pt"
    size = ["--input-size", "3", "64", "64"]
    main(["convert", "resnet18", *size, "--output-stride", "4", "--save", str(file)])
    plan, table = capsys.readouterr().out.split("\n\n")
    assert plan.startswith("ResNet, 3x64x64: td, output stride 4, add-concat, nearest, gaussian")
    build = import_torchvision().models.resnet18
    td = load_topdown(file, build())
    header, _, parameters, multiply_adds, activations, resolution, saved = table.splitlines()
    count = sum(p.numel() for p in td.parameters())
    assert cells(header) == ["per image", "bottom-up", "top-down", "ratio"]
    ratio = f"{count / 11_689_512:.2f}"
    assert cells(parameters) == ["parameters", "11,689,512", f"{count:,}", ratio]
    assert cells(multiply_adds)[:2] == ["multiply-adds", "148,557,824"]
    assert cells(activations)[:2] == ["activations, bytes", "1,801,728"]
    assert cells(resolution) == ["output resolution", "2x2", "16x16", "8.00"]
    assert saved == f"saved to {file}"


@pytest.mark.parametrize("spec", ["timm:resnet10t", "resnet10t"])
def test_a_timm_model_is_converted(spec: str, capsys: pytest.CaptureFixture[str]) -> None:
    main(["convert", spec, "--input-size", "3", "64", "64", "--arrangement", "reversed"])
    printed = capsys.readouterr().out
    assert printed.startswith("ResNet, 3x64x64: reversed,")
    assert "output resolution" in printed


def test_a_users_own_model_is_converted_with_all_options(
    user_model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    options = "--arrangement uniform --merge concat --upsample bilinear --pyramid maxpool"
    size = ["--input-size", "1", "28", "28"]
    main(["convert", f"{user_model}:build", *size, *options.split(), "--weights", "inherit"])
    printed = capsys.readouterr().out
    assert "uniform, output stride 1, concat, bilinear, maxpool, inherit weights" in printed
    assert cells(printed.splitlines()[-1]) == ["output resolution", "14x14", "28x28", "2.00"]


def test_both_networks_are_drawn(user_model: str, tmp_path: Path) -> None:
    file = tmp_path / "networks.svg"
    main(["convert", f"{user_model}:ready", "--input-size", "1", "28", "28", "--draw", str(file)])
    assert "<svg" in file.read_text()


def test_the_warnings_of_a_plan_are_printed_once(
    user_model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        main(["convert", f"{user_model}:flattens", "--input-size", "1", "28", "28"])
    assert capsys.readouterr().out.count("warning: ") == 1


def test_figures_of_the_table() -> None:
    bottom_up = Cost(parameters=40, multiply_adds=2000, activation_bytes=0, output_size=(7, 5))
    top_down = Cost(parameters=60, multiply_adds=9000, activation_bytes=8, output_size=(28, 20))
    assert cost_table(bottom_up, top_down).lines() == [
        "per image           bottom-up  top-down  ratio",
        "------------------  ---------  --------  -----",
        "parameters                 40        60   1.50",
        "multiply-adds           2,000     9,000   4.50",
        "activations, bytes          0         8",
        "output resolution         7x5     28x20   4.00",
    ]


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        ("resnet81", "no such model in torchvision or timm; .* perhaps you mean .*resnet18"),
        ("timm:resnet26ddd", "no such model in timm; .* perhaps you mean .*timm:resnet26d"),
        ("torchvision:resnet26", "no such model in torchvision; .* perhaps you mean .*resnet18"),
        ("resnet18.a1_in2k", "perhaps you mean timm:resnet18.a1_in1k"),
        ("torchvision:resnet18.a1_in1k", "no such model in torchvision"),
        ("qqqqqqqq", "list_models"),
        ("users_own.nothing:build", "no module named 'users_own.nothing'"),
        ("users_own/nets.py:build", "'users_own/nets.py' is no module's name"),
        ("users_own.nets:built", "has no 'built'; .* perhaps you mean build"),
        ("users_own.nets:sized", "it needs the arguments width;"),
        ("users_own.nets:number", "it returns a int;"),
        ("users_own.nets:word", "it can't be called;"),
        ("users_own.nets:raises", r"ZeroDivisionError: division by zero \(in .*nets.py, line 39\)"),
        ("users_own.broken:build", r"No module named 'of_nobody' \(in .*broken.py, line 1\)"),
        ("users_own.unfinished:build", r"SyntaxError: .*unfinished.py, line 1"),
    ],
)
def test_a_wrong_model_is_explained_in_a_paragraph(
    spec: str, text: str, user_model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    printed = failure(capsys, spec)
    assert f"model '{spec}': " in printed
    assert re.search(text, printed)


def test_what_must_be_installed_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    assert "Remedy: install timm (pip install timm)" in failure(capsys, "timm:resnet26")
    assert "install timm" in failure(capsys, "resnet26")
    monkeypatch.setitem(sys.modules, "torchvision", None)
    assert "pip install torchvision timm" in failure(capsys, "resnet18")
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert "pip install 'td-transform[fields]'" in failure(capsys, "resnet18", "--draw", "a.svg")


def test_a_missing_folder_is_named_before_the_work(capsys: pytest.CaptureFixture[str]) -> None:
    assert "no folder 'nowhere'" in failure(capsys, "resnet18", "--save", "nowhere/td.pt")


def test_a_builder_that_takes_init_weights_is_told_not_to() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert isinstance(load_model("googlenet"), nn.Module)
        assert isinstance(load_model("resnet18"), nn.Module)


# What a script and a person get


def test_convert_gives_a_script_one_object(
    user_model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    size = ["--input-size", "1", "28", "28"]
    main(["convert", f"{user_model}:build", *size, "--json", "--save", "td.pt"])
    told = json.loads(capsys.readouterr().out)
    td = load_topdown(tmp_path / "td.pt", load_model(f"{user_model}:build"))
    assert told["files"] == {"saved": "td.pt"}
    assert told["top_down"]["parameters"] == sum(p.numel() for p in td.parameters())
    assert told["bottom_up"]["output_size"] == [14, 14]
    assert Plan.from_json(json.dumps(told["plan"])) == td.plan


def test_report_writes_a_page(
    user_model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    size = ["--input-size", "1", "28", "28"]
    main(["report", f"{user_model}:flattens", *size, "--merge", "add", "-o", "page.html"])
    assert capsys.readouterr().out == "written to page.html\n"
    page = (tmp_path / "page.html").read_text()
    assert f"<h1>{user_model}:flattens, upside down</h1>" in page
    assert "merge=&#39;add&#39;" in page
    assert page.count('<p class="warning">') == 1


def test_of_several_outputs_one_is_counted(user_model: str) -> None:
    model = f"{user_model}:several"
    main(["convert", model, "--input-size", "1", "28", "28", "--output", "1"])
    with pytest.raises(SystemExit):
        main(["convert", model, "--input-size", "1", "28", "28"])


def test_functions_of_her_own_by_their_path(
    user_model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    model = f"{user_model}:build"
    main(["convert", model, "--upsample", f"{user_model}:doubled", "--skip-levels", "1"])
    shown = capsys.readouterr().out
    assert f"add-concat, {user_model}:doubled, gaussian" in shown
    assert "stage 1, no lift" in shown
    for name, text in (
        ("doubbled", "perhaps you mean doubled"),
        ("word", "a str; expected a func"),
    ):
        with pytest.raises(SystemExit):
            main(["convert", model, "--lift", f"{user_model}:{name}"])
        assert text in capsys.readouterr().err
