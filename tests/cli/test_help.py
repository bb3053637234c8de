"""Help, examples and completion of `td-transform`."""

from __future__ import annotations

import ast
import re
import shlex
from collections.abc import Callable

import pytest
from torch import nn

from td_transform import TopDownError
from td_transform.cli import main
from tests.cli.failing import failure


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
