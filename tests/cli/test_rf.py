"""The command `td-transform rf`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from td_transform import receptive_field, to_topdown
from td_transform.cli import main
from td_transform.cli.model_names import load_model
from td_transform.fields import ReceptiveFields


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
