"""Strong attacks, perturbed levels, and the experiments made of them."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import get_args

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from benchmarks.errors import BenchmarkError
from benchmarks.executors.execute import execute
from benchmarks.experiments import EXPERIMENTS, OWNERS, exp2, exp2_scales
from benchmarks.measures.attacks import ATTACKS
from benchmarks.measures.corruptions import CORRUPTIONS
from benchmarks.measures.robustness import minimal_perturbations, predict
from benchmarks.measures.scales import choices, level_count, name_of
from benchmarks.measures.scales import still_right as right_at_levels
from benchmarks.measures.strong_attacks import FIXED, MINIMAL, NORMS, Norm
from benchmarks.measures.strong_attacks import still_right as right_under_attack
from benchmarks.runs.effort import Effort, StrongEffort
from benchmarks.runs.jobs import Job, Row
from benchmarks.runs.profiles import PROFILES, Profile, Setting
from benchmarks.runs.store import Store
from benchmarks.runs.workspace import Place
from benchmarks.subjects.networks import Normalised, Statistics, build

QUICK = StrongEffort(pgd_steps=20, restarts=1, square_queries=50)


class Linear(nn.Module):
    """Three classes, the third of which is never near: the distance of the boundary is known."""

    def __init__(self) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.weight = nn.Parameter(torch.randn(64, generator=generator))

    def forward(self, images: Tensor) -> Tensor:
        margin = self.margin(images)
        return torch.stack([margin, torch.zeros_like(margin), torch.full_like(margin, -50)], 1)

    def margin(self, images: Tensor) -> Tensor:
        return (images - 0.5).flatten(1) @ self.weight


def linear_case() -> tuple[Linear, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    model = Linear().eval()
    images = 0.5 + 0.05 * torch.randn(6, 1, 8, 8, generator=generator)
    # at distances from 0.1 to 0.35 of the boundary, on both sides of it
    wanted = torch.tensor([0.1, -0.15, 0.2, -0.25, 0.3, -0.35]) * model.weight.norm()
    along = (wanted - model.margin(images)) / model.weight.norm() ** 2
    images = (images + (along[:, None] * model.weight).view_as(images)).detach()
    return model, images, predict(model, images)


def radii(model: Linear, images: Tensor, norm: Norm) -> Tensor:
    dual = {"l2": model.weight.norm(), "linf": model.weight.abs().sum()}[norm]
    return (model.margin(images).abs() / dual).detach()


# Strong attacks


@pytest.mark.parametrize(("attack", "norm"), list(product(FIXED, NORMS)))
def test_an_attack_of_bounded_size_fools_exactly_what_it_can_reach(attack: str, norm: Norm) -> None:
    model, images, labels = linear_case()
    distances = radii(model, images, norm)
    between = distances.sort().values[2:4].mean().item()
    right = right_under_attack(
        model, images, labels, attack=attack, norm=norm, epsilon=between, effort=QUICK
    )
    assert right.right.tolist() == (distances > between).tolist()


@pytest.mark.parametrize("attack", FIXED)
def test_what_is_wrong_from_the_start_is_not_right_under_attack(attack: str) -> None:
    model, images, labels = linear_case()
    some = labels.clone()
    some[0] = 1 - some[0]
    for given, expected in ((some, 5), (1 - labels, 0)):
        right = right_under_attack(
            model, images, given, attack=attack, norm="linf", epsilon=1e-5, effort=QUICK
        )
        assert right.right.sum() == expected


@pytest.mark.parametrize(("attack", "within"), [("DeepFool", 0.03), ("FAB", 0.03)])
def test_minimal_attacks_find_the_distance_of_the_boundary(attack: str, within: float) -> None:
    model, images, labels = linear_case()
    found = minimal_perturbations(model, images, labels, MINIMAL[attack], effort=QUICK)
    torch.testing.assert_close(found.l2, radii(model, images, "l2"), rtol=within, atol=0)


@pytest.mark.parametrize("norm", get_args(Norm))
def test_two_classes_are_enough_for_the_ensemble(norm: Norm) -> None:
    class Two(Linear):
        def forward(self, images: Tensor) -> Tensor:
            return super().forward(images)[:, :2]

    _, images, labels = linear_case()
    right = right_under_attack(
        Two().eval(), images, labels, attack="AutoAttack", norm=norm, epsilon=0.5, effort=QUICK
    )
    assert not right.right.any()


@pytest.mark.parametrize("attack", ["PGD", "AutoAttack"])
def test_the_top_down_network_is_attacked_end_to_end(attack: str) -> None:
    torch.manual_seed(0)
    statistics = Statistics(torch.full((1, 1, 1), 0.3), torch.full((1, 1, 1), 0.2))
    model = build(
        "lenet-fc", arrangement="td", size=(1, 28, 28), classes=10, statistics=statistics
    ).eval()
    images = torch.rand(2, 1, 28, 28, requires_grad=True)
    (gradient,) = torch.autograd.grad(model(images).max(1).values.sum(), images)
    # the finest level alone reaches every pixel
    assert (gradient != 0).float().mean() > 0.9
    labels = predict(model, images.detach())
    right = right_under_attack(
        model, images.detach(), labels, attack=attack, norm="linf", epsilon=0.5, effort=QUICK
    )
    assert not right.right.all()
    assert not model.training


def test_a_network_in_training_mode_is_refused() -> None:
    model, images, labels = linear_case()
    with pytest.raises(BenchmarkError, match=r"call model.eval\(\)"):
        right_under_attack(
            model.train(), images, labels, attack="FGSM", norm="l2", epsilon=0.1, effort=QUICK
        )


@pytest.mark.parametrize("wrong", [0.3, torch.nan])
def test_an_attack_that_leaves_its_bound_is_not_believed(
    monkeypatch: pytest.MonkeyPatch, wrong: float
) -> None:
    model, images, labels = linear_case()
    monkeypatch.setitem(FIXED, "FGSM", lambda case: case.images + wrong)
    with pytest.raises(
        BenchmarkError, match=r"attack FGSM: a perturbation of linf norm .* at most 0.1"
    ):
        right_under_attack(model, images, labels, attack="FGSM", norm="linf", epsilon=0.1)


# Perturbed levels


class OneLevel(nn.Module):
    """Reads one of its three levels only: class 1 where that image is bright."""

    plan = SimpleNamespace(levels=(None,) * 3)

    def __init__(self, level: int) -> None:
        super().__init__()
        self.level = level

    def forward(self, images: Tensor | list[Tensor]) -> Tensor:
        seen = images[self.level] if isinstance(images, list) else images
        mean = seen.mean((1, 2, 3))
        return torch.stack([torch.full_like(mean, 0.5), mean], 1)


def three_levels(level: int) -> Normalised:
    return Normalised(OneLevel(level), statistics=Statistics.none(), channels=1).eval()


@pytest.mark.parametrize("read", range(3))
def test_only_the_named_levels_get_the_perturbed_image(read: int) -> None:
    clean, perturbed = torch.full((3, 1, 4, 4), 0.2), torch.full((3, 1, 4, 4), 0.9)
    perturbed[2] = clean[2]  # the attack found nothing
    labels = torch.tensor([0, 1, 0])  # the second is wrong from the start
    for levels in choices(3):
        right = right_at_levels(three_levels(read), clean, perturbed, labels, levels, batch=2)
        assert right.tolist() == [read not in levels, False, True]


def test_levels_of_a_real_network() -> None:
    torch.manual_seed(0)
    model = build("lenet-fc", arrangement="td", size=(1, 28, 28), classes=10).eval()
    assert level_count(model) == 3
    clean, perturbed = torch.rand(4, 1, 28, 28), torch.rand(4, 1, 28, 28)
    labels = predict(model, clean)
    everything = right_at_levels(model, clean, perturbed, labels, range(3))
    assert torch.equal(everything, predict(model, perturbed) == labels)
    assert right_at_levels(model, clean, perturbed, labels, ()).all()


def test_names_of_levels() -> None:
    names = [name_of(levels, 3) for levels in choices(3)]
    assert names == ["high", "medium", "low", "high-medium", "high-low", "medium-low"]
    assert [name_of(levels, 2) for levels in choices(2)] == ["level0", "level1"]
    assert len(choices(5)) == 15


def test_levels_errors() -> None:
    images, labels = torch.rand(1, 1, 28, 28), torch.zeros(1, dtype=torch.int64)
    bottom_up = build("lenet-fc", arrangement="bu", size=(1, 28, 28), classes=10).eval()
    with pytest.raises(BenchmarkError, match="a LeNetFC without levels; expected a network that"):
        right_at_levels(bottom_up, images, images, labels, (0,))
    with pytest.raises(BenchmarkError, match=r"levels: \[3\]; expected numbers from 0 .* to 2"):
        right_at_levels(three_levels(0), images, images, labels, (3,))


# The experiments


def tiny_profile() -> Profile:
    settings = (Setting("lenet-fc", "digits"),)
    return replace(
        PROFILES["smoke"],
        settings=settings,
        arrangements=("bu", "td"),
        epochs=1,
        train_limit=300,
        test_limit=50,
        attack_images=4,
        strong_images=4,
        corruption_images=20,
    )


def kind_of(jobs: list[Job], kind: str) -> list[Job]:
    return [job for job in jobs if job.kind == kind]


def test_what_is_run() -> None:
    jobs = exp2.jobs(PROFILES["paper"])
    robust = kind_of(jobs, "robustness")
    assert {job.config.attack for job in robust} == set(ATTACKS)
    # eight cells of the paper, BU and TD; the two of ResNet32 with all four arrangements
    assert len(robust) == 10 * (6 * 2 + 2 * 4)
    assert all(job.config.effort == Effort() and job.config.repeats == 3 for job in robust)
    assert len(kind_of(jobs, "strong")) == 20 * (3 * 2 + 2)
    assert len(kind_of(jobs, "corruptions")) == 20 * len(CORRUPTIONS)
    assert len({job.id for job in jobs}) == len(jobs)
    levels = exp2_scales.jobs(PROFILES["paper"])
    assert len(levels) == 10 * 8
    assert {job.needs[1].id for job in levels} <= {job.id for job in robust}
    assert EXPERIMENTS["exp2"] is exp2.EXPERIMENT
    assert OWNERS["scales"] == "exp2-scales"


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> list[Row]:
    folder: Path = tmp_path_factory.mktemp("results")
    profile = tiny_profile()
    chosen = {"ShiftsAttack", "BlendedUniformNoiseAttack", "FGSM", "DeepFool", "contrast"}
    jobs = [
        job
        for job in [*exp2.jobs(profile), *exp2_scales.jobs(profile)]
        if chosen & {job.setting.get("attack"), job.setting.get("corruption")}
    ]
    execute(jobs, Place(root=folder, device="cpu", profile="smoke", quiet=True))
    return Store(folder).rows()


def of_kind(rows: list[Row], kind: str) -> list[Row]:
    found = [row for row in rows if row["kind"] == kind]
    assert all(row["status"] == "done" for row in found)
    return found


def test_rows_of_the_ten_attacks(rows: list[Row]) -> None:
    found = of_kind(rows, "robustness")
    assert len(found) == 2 * 2
    for row in found:
        assert row["experiment"] == "exp2"
        assert isinstance(row["l2"], list)
        assert len(row["l2"]) == row["images"] == 4
        wrong = row["l2"].count(-1)
        assert row["clean_accuracy"] == pytest.approx(1 - wrong / 4)
        norms = [value for value in row["l2"] if isinstance(value, float) and value >= 0]
        assert norms == [round(value, 4) for value in norms]


def test_rows_of_strong_attacks_and_corruptions(rows: list[Row]) -> None:
    strong = of_kind(rows, "strong")
    fixed = [row for row in strong if row["attack"] == "FGSM"]
    assert [(row["norm"], row["epsilon"]) for row in fixed[:6]] == [
        ("linf", 0.05), ("linf", 0.1), ("linf", 0.3), ("l2", 0.5), ("l2", 1.0), ("l2", 2.0),
    ]  # fmt: skip
    assert all(row["robust_accuracy"] <= row["clean_accuracy"] for row in strong)  # type: ignore[operator]
    minimal = [row for row in strong if row["attack"] == "DeepFool"]
    assert all(row["norm"] == "l2" and len(row["l2"]) == 4 for row in minimal)  # type: ignore[arg-type]
    corrupted = of_kind(rows, "corruptions")
    assert [row["severity"] for row in corrupted] == [1, 2, 3, 4, 5] * 2
    assert all(row["images"] == 20 and row["corruption"] == "contrast" for row in corrupted)


def test_rows_of_perturbed_levels(rows: list[Row]) -> None:
    found = of_kind(rows, "scales")
    assert len(found) == 2 * 6
    assert {row["perturbed"] for row in found} == {name_of(levels, 3) for levels in choices(3)}
    assert all(row["arrangement"] == "td" and row["experiment"] == "exp2-scales" for row in found)
    assert all(row["accuracy"] <= row["clean_accuracy"] for row in found)  # type: ignore[operator]


def test_tables(rows: list[Row]) -> None:
    text = exp2.EXPERIMENT.table(rows)
    for words in ("Blended uniform noise", "BU", "TD", "FGSM", "contrast", "L2 at 10 points"):
        assert words in text
    assert "authors'" not in text.replace("the authors' foolbox", "")
    # the authors' figures stand below ours where there are some
    published = [{**row, "data": "mnist"} for row in rows if row["kind"] == "robustness"]
    assert re.search(r"authors' +(\d\S* +)*1\.28", exp2.EXPERIMENT.table(published))
    assert "high-medium" in exp2_scales.EXPERIMENT.table(rows)
    assert exp2.EXPERIMENT.table([]) == exp2_scales.EXPERIMENT.table([]) == ""


def test_the_seed_is_the_networks(rows: list[Row]) -> None:
    assert {row["seed"] for row in rows} == {0}
    assert not np.isnan([row["seconds"] for row in rows]).any()  # type: ignore[arg-type]
