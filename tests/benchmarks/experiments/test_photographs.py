"""The authors' ResNet18 on colour images in folders: a few steps, Fig. 7 and 8, and bfloat16."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from matplotlib.image import imread
from PIL import Image

from benchmarks.executors.execute import execute
from benchmarks.executors.local import rows_of
from benchmarks.experiments import EXPERIMENTS
from benchmarks.measures.explain import Explainer
from benchmarks.measures.training import Trainer
from benchmarks.runs.jobs import Row
from benchmarks.runs.profiles import PROFILES, Profile, narrowed
from benchmarks.runs.recipes import training
from benchmarks.runs.workspace import Place, Workspace
from benchmarks.subjects.arrangements import PAIR

pytestmark = pytest.mark.exhaustive

SIDE = 32
RUNS = 4


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A disc, red or blue, somewhere on noise."""
    tree = tmp_path_factory.mktemp("photographs")
    draw = np.random.default_rng(0)
    rows, columns = np.mgrid[:SIDE, :SIDE]
    for number in range(60):
        colour = ("red", "blue")[number % 2]
        pixels = draw.integers(60, 160, (SIDE, SIDE, 3))
        row, column = draw.integers(8, 24, 2)
        disc = (rows - row) ** 2 + (columns - column) ** 2 < 49
        pixels[disc] = (230, 30, 30) if colour == "red" else (30, 30, 230)
        folder = tree / ("test" if number < 20 else "train") / colour
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels.astype(np.uint8)).save(folder / f"{number}.png")
    return tree


@pytest.fixture
def profile(photographs: Path) -> Profile:
    found = narrowed(
        PROFILES["smoke"],
        model="resnet18-imagenette",
        data=f"imagefolder:{photographs}",
        epochs=4,
        batch=12,
        learning_rate=0.02,
        localisation_images=6,
        pictures=3,
    )
    return replace(found, train_limit=None)


def test_few_steps_give_both_pictures_and_a_table_without_boxes(
    profile: Profile, tmp_path: Path
) -> None:
    place = Place(root=tmp_path, quiet=True)
    rows: dict[str, list[Row]] = {}
    for name in ("exp3-gradcam", "exp3-faithfulness"):
        jobs = list(EXPERIMENTS[name].jobs(profile))
        execute(jobs, place)
        rows[name] = rows_of(jobs, Workspace(place))
    for row in rows["exp3-gradcam"]:
        picture = imread(tmp_path / "runs" / str(row["job"]) / str(row["picture"]))
        # photographs and heatmaps are coloured
        assert np.ptp(picture[..., :3], axis=2).max() > 0.3
    assert [row["picture"] for row in rows["exp3-gradcam"]] == ["levels.png", "last.png"]
    assert len(rows["exp3-faithfulness"]) == 8
    assert all(row["images"] for row in rows["exp3-faithfulness"])


def test_levels_are_those_of_the_papers_figure(profile: Profile, tmp_path: Path) -> None:
    """What enters the first group of blocks, then the output of each of the four groups."""
    workspace = Workspace(Place(root=tmp_path, quiet=True))
    setting = profile.explained[0]
    sides = {}
    for arrangement in PAIR:
        trainer = Trainer(training(setting, arrangement, 0, profile), workspace)
        layers = Explainer(trainer.network, input_size=(3, SIDE, SIDE)).layers
        sides[arrangement] = [layer.size[0] for layer in layers]
    assert sides == {"bu": [16, 16, 8, 4, 2], "td": [2, 4, 8, 16, 32]}


@pytest.mark.parametrize("arrangement", ["bu", pytest.param("td", marks=pytest.mark.exhaustive)])
def test_bfloat16_in_channels_last_is_within_the_spread_of_float32(
    arrangement: str, profile: Profile, tmp_path: Path
) -> None:
    """The mean loss over runs differs by less than runs do, and the network has learned."""
    half = replace(profile, precision="bf16", channels_last=True)
    found = {
        name: np.array([_loss(chosen, arrangement, run, tmp_path / name) for run in range(RUNS)])
        for name, chosen in (("float32", profile), ("bf16", half))
    }
    spread = found["float32"].std(ddof=1)
    assert abs(found["bf16"].mean() - found["float32"].mean()) < spread
    assert found["bf16"].max() < np.log(2)


def _loss(profile: Profile, arrangement: str, run: int, root: Path) -> float:
    """Of the last epoch."""
    job = training(profile.explained[0], arrangement, run, profile)  # type: ignore[arg-type]
    trainer = Trainer(job, Workspace(Place(root=root, quiet=True)))
    trainer.run()
    return trainer.loss
