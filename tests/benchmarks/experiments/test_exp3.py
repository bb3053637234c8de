"""Exp. 3 from training to pictures and table, on small images."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.image import imread
from PIL import Image
from torch import nn

from benchmarks.errors import BenchmarkError
from benchmarks.executors.execute import execute
from benchmarks.executors.local import rows_of
from benchmarks.experiments import EXPERIMENTS
from benchmarks.experiments.exp3_gradcam import right_in_all
from benchmarks.measures.explain_faithfulness import FAITHFULNESS
from benchmarks.measures.localisation import FIGURES
from benchmarks.runs.jobs import EVEN_HEAT, OWN_HEAT, POOLED_HEAT, Job, Row
from benchmarks.runs.profiles import PROFILES, Profile, Setting, narrowed
from benchmarks.runs.workspace import JobFailed, Place, Workspace
from benchmarks.subjects.datasets import load

SMOKE = PROFILES["smoke"]


def run(name: str, profile: Profile, folder: Path) -> tuple[list[Job], list[Row]]:
    jobs = list(EXPERIMENTS[name].jobs(profile))
    place = Place(root=folder, quiet=True)
    execute(jobs, place)
    return jobs, rows_of(jobs, Workspace(place))


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("results")


def test_localisation_has_rows_per_scaling_the_control_and_chance(results: Path) -> None:
    _, rows = run("exp3-localisation", SMOKE, results)
    own = [
        (arrangement, heatmap, scaling)
        for scaling in ("centred", "min-max")
        for arrangement, heatmap in (("bu", OWN_HEAT), ("td", OWN_HEAT), ("td", POOLED_HEAT))
    ]
    described = [(row["arrangement"], row["heatmap"], row["scaling"]) for row in rows]
    assert described == [*own, (None, EVEN_HEAT, None)]
    # all are looked at on the same images
    assert len({row["images"] for row in rows}) == 1
    for row in rows:
        assert row["threshold"] == 0.2
        shares = [float(str(row[name])) for name in FIGURES]
        assert all(0 <= share <= 1 for share in shares)
    # no scaling changes the order of a map's pixels above its cut, so most of the area stays
    assert rows[1]["pxap"] == pytest.approx(rows[4]["pxap"], abs=0.15)
    chance = rows[-1]
    assert chance["recall"] == 1
    assert chance["pxap"] == pytest.approx(chance["inside"])
    for bottom_up, *others in (rows[0:3], rows[3:6]):
        assert "less_bu" not in bottom_up
        for row in others:
            differences: Any = row["less_bu"]
            for name, (value, low, high) in differences.items():
                assert low <= value <= high
                assert value == pytest.approx(_number(row, name) - _number(bottom_up, name))
    # what is done is done: the same rows, not new ones
    assert run("exp3-localisation", SMOKE, results)[1] == rows


def test_scaling_is_a_choice(results: Path) -> None:
    _, rows = run("exp3-localisation", narrowed(SMOKE, scaling=("min-max",)), results)
    assert [row["scaling"] for row in rows] == ["min-max"] * 3 + [None]
    (job,) = EXPERIMENTS["exp3-gradcam"].jobs(narrowed(SMOKE, scaling=("min-max",)))
    assert job.config.scaling == "min-max"


def test_faithfulness_needs_no_objects(results: Path) -> None:
    profile = narrowed(SMOKE, localisation_images=12)
    _, rows = run("exp3-faithfulness", profile, results)
    described = [(row["arrangement"], row["heatmap"]) for row in rows[:5]]
    assert described == [
        ("bu", EVEN_HEAT), ("td", EVEN_HEAT), ("bu", OWN_HEAT), ("td", OWN_HEAT), ("td", POOLED_HEAT),
    ]  # fmt: skip
    for row in rows:
        assert all(0 <= float(str(row[name])) <= 1 for name in FAITHFULNESS)
    # a whole image loses nothing
    assert [row["drop"] for row in rows[:2]] == [0, 0]
    table = EXPERIMENTS["exp3-faithfulness"].table(rows)
    assert "need no boxes or masks" in table
    # any data set may be asked about
    other = replace(SMOKE, explained=(Setting("resnet18-imagenette", "imagenette", True),))
    assert len(EXPERIMENTS["exp3-faithfulness"].jobs(other)) == 1


def _number(row: Row, name: str) -> float:
    return float(str(row[name]))


def test_pictures_have_a_panel_per_level_and_image(results: Path) -> None:
    jobs, rows = run("exp3-gradcam", SMOKE, results)
    assert [(r["layer"], r["picture"]) for r in rows] == [
        ("every level", "levels.png"), ("last", "last.png"),
    ]  # fmt: skip
    shapes = {}
    for row in rows:
        picture = imread(results / "runs" / jobs[0].id / str(row["picture"]))
        shapes[row["layer"]] = picture.shape[:2]
        # the heatmaps are coloured
        assert np.ptp(picture[..., :3], axis=2).max() > 0.3
    # image and three levels across two networks; two images down three rows
    assert shapes["every level"][1] > shapes["every level"][0]
    assert shapes["last"][0] > shapes["last"][1]
    assert f"runs/{jobs[0].id}/levels.png" in EXPERIMENTS["exp3-gradcam"].table(rows)


def test_no_image_that_both_get_right_is_a_failed_job() -> None:
    images = load("digits", limits=(10, 10))

    class Never(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.zeros(len(x), 11).index_fill(1, torch.tensor(10), 1.0)

    with pytest.raises(JobFailed, match="no test image that both"):
        right_in_all([Never()], images, 2, seed=0)


def test_a_users_masks(tmp_path: Path) -> None:
    """Bright squares on grey: the objects are told from the background by masks alone."""
    draw = np.random.default_rng(0)
    for number in range(60):
        side = ("left", "right")[number % 2]
        picture = draw.integers(60, 90, (28, 28)).astype(np.uint8)
        mask = np.zeros_like(picture)
        x, y = (2 if side == "left" else 16) + draw.integers(0, 4), draw.integers(2, 18)
        picture[y : y + 8, x : x + 8] = 250
        mask[y : y + 8, x : x + 8] = 255
        for kind, content in (("images", picture), ("masks", mask)):
            folder = tmp_path / kind / ("test" if number < 20 else "train") / side
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(content).save(folder / f"{number}.png")
    data = f"imagefolder:{tmp_path}/images"
    whole = replace(PROFILES["smoke"], train_limit=None, test_limit=None)
    profile = narrowed(whole, data=data, learning_rate=0.05, batch=10)
    with pytest.raises(BenchmarkError, match="--masks"):
        EXPERIMENTS["exp3-localisation"].jobs(profile)
    profile = narrowed(profile, masks=f"imagefolder:{tmp_path}/masks")
    _, rows = run("exp3-localisation", profile, tmp_path / "results")
    assert {row["arrangement"] for row in rows} == {"bu", "td", None}
    assert len({row["images"] for row in rows}) == 1
    assert all(float(str(row["recall"])) > 0 for row in rows)
