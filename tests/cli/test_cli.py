"""The command `td-transform`, on models of torchvision, of timm and of a user's file."""

from __future__ import annotations

import ast
import json
import os
import re
import shlex
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
from torch import nn

from td_transform import Plan, TopDownError, receptive_field, to_topdown
from td_transform.cli import main
from td_transform.cli.model_names import load_model
from td_transform.cost import Cost, cost_table
from td_transform.fields import ReceptiveFields
from td_transform.saving import load_topdown
from td_transform.torchvision_cpu import import_torchvision

ROOT = Path(__file__).resolve().parents[2]

USER_MODEL = """
from torch import nn


def build():
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(4, 8, 3, padding=1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10),
    )


def flattens():
    return nn.Sequential(*list(build())[:5], nn.Flatten(), nn.Linear(8 * 14 * 14, 10))


def sized(width, depth=1):
    return build()


class Several(nn.Sequential):
    def forward(self, x):
        return x, super().forward(x)


def several():
    return Several(*build())


def number():
    return 3


def doubled(spec):
    return nn.Upsample(scale_factor=spec.factor, mode="bicubic")


def raises():
    return 1 / 0


ready = build()
word = "build"
"""


@pytest.fixture
def user_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The working directory holds a package with this module."""
    (tmp_path / "users_own").mkdir()
    (tmp_path / "users_own" / "nets.py").write_text(USER_MODEL)
    (tmp_path / "users_own" / "broken.py").write_text("import of_nobody")
    (tmp_path / "users_own" / "unfinished.py").write_text("def build(")
    monkeypatch.chdir(tmp_path)
    for name in ("users_own", "users_own.nets"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return "users_own.nets"


def failure(capsys: pytest.CaptureFixture[str], *args: str) -> str:
    """What a command that fails prints."""
    with pytest.raises(SystemExit) as caught:
        main(["convert", *args])
    assert caught.value.code == 2
    printed = capsys.readouterr().err
    assert printed.startswith("td-transform: ")
    assert printed.count("\n") == 1
    return printed


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


@pytest.mark.parametrize("topdown", [False, True])
def test_rf_gives_a_script_one_object(
    topdown: bool, user_model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    spec, size = f"{user_model}:build", (1, 28, 28)
    main([
        "rf", spec, "--input-size", *map(str, size), "--json", *(["--topdown"] if topdown else []),
    ])  # fmt: skip
    told = json.loads(capsys.readouterr().out)
    bu = load_model(spec)
    fields = receptive_field(to_topdown(bu, input_size=size) if topdown else bu, size)
    assert told["network"] == ("top-down" if topdown else "bottom-up")
    assert [row["name"] for row in told["rows"]] == list(fields)
    assert told["rows"][-1]["size_max_vertical"] == list(fields.values())[-1].size_max[0]
    assert (told["comparison"] is not None) is topdown


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


@pytest.mark.parametrize("command", ["convert", "rf", "report"])
def test_the_help_of_a_command_has_examples_that_parse(
    command: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(SystemExit, match="0"):
        main([command, "--help"])
    shown = capsys.readouterr().out
    examples = re.findall(rf"^ +td-transform ({command} .*)$", shown, re.MULTILINE)
    assert len(examples) >= 2
    asked = []
    for module in ("convert", "rf", "report"):
        # what a command does first, once its arguments are understood
        monkeypatch.setattr(f"td_transform.cli.{module}.load_model", _stopping(asked))
    for example in examples:
        with pytest.raises(SystemExit, match="2"):
            main(shlex.split(example.partition(" | ")[0]))
    assert len(asked) == len(examples)


def _stopping(asked: list[str]) -> Callable[[str], nn.Module]:
    def stop(spec: str) -> nn.Module:
        asked.append(spec)
        raise TopDownError(spec, seen="", expected="", remedy="")

    return stop


def test_the_list_of_commands_is_short(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["--help"])
    shown = capsys.readouterr().out
    assert "my_package" not in shown
    assert "--tyro-print-completion bash" in shown
    assert all(f"• {name}" in shown for name in ("convert", "rf", "report"))


@pytest.mark.parametrize("shell", ["bash", "zsh"])
def test_completion_knows_the_commands(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--tyro-print-completion", shell])
    script = capsys.readouterr().out
    assert all(f"'{word}'" in script for word in ("convert", "rf", "report", "--output-stride"))


def test_completion_offers_the_kinds_and_any_function_passes(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(SystemExit):
        main(["--tyro-print-completion", "bash"])
    (line,) = re.findall(r"^COMPLETION_SPEC = (.*)$", capsys.readouterr().out, re.MULTILINE)
    offered = {
        flag: option.get("choices")
        for option in ast.literal_eval(line)["subcommands"]["convert"]["options"]
        for flag in option["flags"]
    }
    assert offered["--arrangement"] == ["td", "uniform", "reversed"]
    assert offered["--merge"] == ["add-concat", "add", "concat"]
    assert offered["--upsample"] == ["nearest", "bilinear", "transposed"]
    assert offered["--pyramid"] == ["gaussian", "blur", "antialias", "decimate", "maxpool"]
    assert offered["--lift"] is None
    # what is none of them is read all the same: the second is a function, the first an error
    for given, text in (("sum", "expected 'add-concat' or 'add'"), ("no.where:f", "no.where")):
        assert text in failure(capsys, "resnet18", "--merge", given)


def test_the_help_shows_an_option_as_what_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["convert", "--help"])
    shown = capsys.readouterr().out
    assert "--memory-budget FLOAT" in shown
    assert "--input-size [INT [INT ...]]" in shown
    assert "{None}" not in shown


@pytest.mark.parametrize(
    "args", [[], ["convert"], ["convert", "x", "--arrangement", "no"], ["fly"]]
)
def test_what_cant_be_parsed_ends_with_2(
    args: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(args)
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "--help" in printed.err
    assert "\x1b" not in printed.err


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (KeyboardInterrupt(), 130, r"^$"),
        (
            PermissionError(13, "Permission denied", "td.pt"),
            2,
            r"^td-transform: .*denied: 'td.pt'$",
        ),
        (
            ZeroDivisionError("a\nb"),
            1,
            r"^td-transform: ZeroDivisionError: a b \(in .*, line \d+\);",
        ),
    ],
)
def test_every_end_has_its_code_and_no_traceback(
    error: BaseException, code: int, text: str,
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    def fail(spec: str) -> nn.Module:
        raise error

    monkeypatch.delenv("TD_TRANSFORM_TRACEBACK", raising=False)
    monkeypatch.setattr("td_transform.cli.convert.load_model", fail)
    with pytest.raises(SystemExit, match=str(code)):
        main(["convert", "resnet18"])
    assert re.search(text, capsys.readouterr().err.rstrip("\n"))


def test_who_wants_the_traceback_gets_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TD_TRANSFORM_TRACEBACK", "1")
    with pytest.raises(TopDownError, match="no such model"):
        main(["convert", "resnet81"])


@pytest.mark.exhaustive
def test_a_users_file_may_import_torchvision(tmp_path: Path) -> None:
    """On a CPU-only torch, too: in a process of its own, where nothing has imported it before."""
    (tmp_path / "nets.py").write_text("from torchvision.models import resnet18 as build")
    command = [sys.executable, "-m", "td_transform", "rf", "nets:build", "--json"]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=300,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["network"] == "bottom-up"


@pytest.mark.exhaustive
def test_a_reader_that_leaves_is_no_error() -> None:
    command = f"{sys.executable} -m td_transform rf resnet18 | true; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(
        ["bash", "-c", command], cwd=ROOT, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 141
    assert done.stderr == ""


def test_the_module_runs_as_a_program() -> None:
    command = [sys.executable, "-m", "td_transform", "convert", "torch.nn:Identity"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("td-transform: ")
    assert done.stderr.count("\n") == 1


def test_importing_the_package_stays_light() -> None:
    code = (
        "import sys, td_transform; "
        "print({'torchvision', 'timm', 'tyro', 'matplotlib'} & set(sys.modules))"
    )
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.stdout == "set()\n", done.stderr


def test_rf_prints_the_fields(user_model: str, capsys: pytest.CaptureFixture[str]) -> None:
    main(["rf", f"{user_model}:build", "--input-size", "1", "28", "28"])
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[:4] == ["node", "operator", "size", "stride"]
    assert [line.split()[-2] for line in lines if "Conv2d" in line] == ["3", "8"]


def test_rf_of_the_topdown_network_compares_draws_and_writes(
    user_model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main([
        "rf", f"{user_model}:build", "--input-size", "1", "28", "28", "--topdown",
        "--plot", "rf.png", "--csv", "rf.csv",
    ])  # fmt: skip
    text = capsys.readouterr().out
    assert "levels_1_merge_unit_conv" in text
    assert "bottom-up: first at depth" in text
    assert text.rstrip().endswith("drawn to rf.png")
    assert (tmp_path / "rf.png").stat().st_size > 10_000
    assert (tmp_path / "rf.csv").read_text().startswith("name,module_path,operator")


def test_rf_draws_the_network_that_the_options_ask_for(
    user_model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[ReceptiveFields | None] = []

    def plot(
        fields: ReceptiveFields, path: Path, *, versus: ReceptiveFields | None, title: str
    ) -> Path:
        drawn.append(versus)
        return path

    monkeypatch.setattr(ReceptiveFields, "plot", plot)
    main([
        "rf", f"{user_model}:build", "--input-size", "1", "28", "28", "--output-stride", "2",
        "--plot", "rf.png",
    ])  # fmt: skip
    (versus,) = drawn
    assert versus is not None
    assert [row.stride for row in versus.values() if row.operator == "Conv2d"][-1] == (2, 2)


def test_rf_into_a_folder_that_is_not_there(
    user_model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["rf", f"{user_model}:build", "--plot", "nowhere/rf.png"])
    assert "no folder 'nowhere'; expected a folder that is there" in capsys.readouterr().err


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
