"""The quick searches against the slow ones: foolbox's own, and every candidate in order."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import eagerpy as ep
import foolbox.attacks as fa
import numpy as np
import pytest
import torch
from foolbox import PyTorchModel
from torch import Tensor, nn

from benchmarks.measures.attacks import ATTACKS
from benchmarks.measures.attacks.additive_noise import AdditiveGaussianNoiseAttack
from benchmarks.measures.attacks.blur import GaussianBlurAttack
from benchmarks.measures.attacks.contrast import ContrastReductionAttack
from benchmarks.measures.attacks.draws import Draws
from benchmarks.measures.attacks.pointwise import PointwiseAttack
from benchmarks.measures.attacks.salt_and_pepper import SaltAndPepperNoiseAttack
from benchmarks.measures.attacks.search import Search, Target
from benchmarks.measures.queries import Network, Queries
from benchmarks.measures.robustness import minimal_perturbations, predict
from benchmarks.runs.effort import Effort
from benchmarks.runs.workspace import BudgetSpent
from tests.benchmarks.measures.test_attacks import case

pytestmark = pytest.mark.exhaustive

NOISY = ("grey", "colour", "halves")
SMALL = ("peaks", *NOISY)


def target_for(model: str, *, limit: float = torch.inf) -> Target:
    network, images, labels = case(model)
    queries = Queries(Network.of(network, images, low_precision=False), labels)
    draws = Draws(range(len(images)), seed=0)
    return Target(images, labels, queries, draws, torch.full((len(images),), limit))


def by_foolbox(target: Target, attack: Any, **options: Any) -> Tensor:
    wrapped = PyTorchModel(target.network.model, bounds=(0, 1))
    found: Tensor = attack.run(wrapped, target.images, target.labels, **options)
    fooled = predict(target.network.model, found.clamp(0, 1)) != target.labels
    return torch.where(fooled[:, None, None, None], found.clamp(0, 1), target.images)


@pytest.mark.parametrize("model", SMALL)
@pytest.mark.parametrize(
    ("quick", "slow"),
    [
        (ContrastReductionAttack(steps=200), fa.LinearSearchContrastReductionAttack(steps=200)),
        (GaussianBlurAttack(steps=200), fa.GaussianBlurAttack(steps=200)),
    ],
)
def test_a_line_is_searched_as_foolbox_does(quick: Search, slow: Any, model: str) -> None:
    target = target_for(model)
    expected = by_foolbox(target, slow)
    torch.testing.assert_close(quick.search(target), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("model", NOISY)
def test_salt_and_pepper_is_foolboxs(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    target = target_for(model)
    steps: Iterator[int] = iter(range(10_000))

    def uniform(like: Any, shape: tuple[int, ...]) -> Any:
        count = shape[0]
        return ep.astensor(target.draws.uniform(range(count), [next(steps)] * count, shape[1:]))

    monkeypatch.setattr("foolbox.attacks.saltandpepper.ep.uniform", uniform)
    expected = by_foolbox(target, fa.SaltAndPepperNoiseAttack(steps=100))
    monkeypatch.undo()
    found = SaltAndPepperNoiseAttack(steps=100).search(target)
    torch.testing.assert_close(found, expected)
    assert (found != target.images).any()


@pytest.mark.parametrize("model", NOISY)
def test_pointwise_is_foolboxs(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    target = target_for(model)
    starts = SaltAndPepperNoiseAttack(steps=100).search(target)
    rows = (starts != target.images).flatten(1).any(1).nonzero().flatten()
    assert len(rows)
    for row in rows:
        own = Target(
            target.images[row, None], target.labels[row, None],
            Queries(target.network.network, target.labels[row, None]),  # type: ignore[attr-defined]
            Draws([0], seed=0), torch.tensor([torch.inf]), starts[row, None],
        )  # fmt: skip
        # the values in the order of their numbers, in both
        monkeypatch.setattr(Draws, "order", lambda self, row, step, count: list(range(count)))
        monkeypatch.setattr(np.random, "permutation", lambda values: np.array(values))
        points = ep.astensor(own.starts)
        expected = by_foolbox(own, fa.PointwiseAttack(), starting_points=points)
        found = PointwiseAttack().search(own)
        norms = [(image - own.images).norm().item() for image in (found, expected)]
        assert norms[0] == pytest.approx(norms[1], rel=5e-3)


@pytest.mark.parametrize("model", NOISY)
def test_the_first_noise_that_works_is_found(model: str) -> None:
    target = target_for(model)
    attack = AdditiveGaussianNoiseAttack(steps=400)
    found = attack.search(target)
    rows = torch.arange(len(target.images))
    works = torch.zeros(len(rows), 401, dtype=torch.bool)
    own = torch.zeros_like(rows)
    for step in range(1, 401):
        noisy = attack.candidates(target, rows, torch.full_like(rows, step))
        works[:, step] = predict(target.network.model, noisy) != target.labels
        own[(noisy == found).flatten(1).all(1)] = step
    first = works.int().argmax(1)
    # noise of less than half the norm that was found is not tried, though it may work by luck
    assert (own == first).float().mean() > 0.5
    for row in range(len(rows)):
        assert bool(own[row]) == bool(works[row].any())
        assert not works[row, int(0.7 * own[row]) : own[row]].any()


@pytest.mark.parametrize("attack", ATTACKS)
def test_low_precision_changes_no_answer(attack: str) -> None:
    options: dict[str, Any] = {"effort": Effort(steps=50, directions=20, max_pixels=64, grid=3)}
    for model in ("grey", "colour"):
        exact, quick = (
            minimal_perturbations(
                *case(model), ATTACKS[attack], **options, repeats=1, low_precision=low
            )
            for low in (False, True)
        )
        torch.testing.assert_close(quick.l2, exact.l2)


def test_every_success_is_confirmed_in_float32() -> None:
    class Rough(nn.Module):
        """Errs where it computes in bfloat16."""

        def forward(self, images: Tensor) -> Tensor:
            half = torch.is_autocast_enabled("cpu")
            return torch.tensor([[0.0, 9.0] if half else [1.0, 0.0]]).expand(len(images), 2)

    model = Rough().eval()
    network = Network(model, Network.of(model, torch.rand(1, 1, 2, 2), low_precision=True).quick, 0)
    queries = Queries(network, torch.zeros(3, dtype=torch.int64))
    assert not queries.fooled(torch.rand(3, 1, 2, 2), torch.arange(3)).any()


@pytest.mark.parametrize("attack", ATTACKS)
def test_an_interrupted_search_goes_on_within_a_batch(attack: str, tmp_path: Path) -> None:
    options: dict[str, Any] = {
        "effort": Effort(steps=60, directions=20, max_pixels=64, grid=3), "repeats": 2, "batch": 4,
    }  # fmt: skip
    first = ATTACKS[attack].starts_from
    if first:
        options["starts"] = minimal_perturbations(*case("grey"), ATTACKS[first], **options).images
    straight = minimal_perturbations(*case("grey"), ATTACKS[attack], **options)
    calls, asked = 0, 0

    def pause(seconds: float) -> None:
        nonlocal asked
        asked += 1
        if asked > 1:
            raise BudgetSpent

    for _ in range(500):
        calls, asked = calls + 1, 0
        try:
            found = minimal_perturbations(
                *case("grey"), ATTACKS[attack], **options, pause=pause,
                checkpoint=tmp_path / "checkpoint.pt",
            )  # fmt: skip
        except BudgetSpent:
            continue
        break
    assert calls > 1
    assert torch.equal(found.l2, straight.l2)
    assert torch.equal(found.images, straight.images)


@pytest.mark.parametrize(
    "attack", [name for name in ATTACKS if ATTACKS[name].authors and not ATTACKS[name].starts_from]
)
def test_the_authors_searches_are_no_closer(attack: str) -> None:
    effort = Effort(steps=200, max_pixels=64, grid=4)
    ours, authors = (
        minimal_perturbations(
            *case("halves"), ATTACKS[attack], effort=effort, distance=distance, repeats=3
        )
        for distance in ("l2", "linf")
    )
    assert torch.equal(ours.l2.isfinite(), authors.l2.isfinite())
    found = ours.l2.isfinite()
    assert found.any()
    assert authors.l2[found].mean() > ours.l2[found].mean()


def test_the_authors_pointwise_keeps_a_smaller_largest_change_only() -> None:
    target = target_for("halves")
    starts = SaltAndPepperNoiseAttack(steps=100).search(target)
    given = Target(target.images, target.labels, target.network, target.draws, target.limit, starts)
    found = PointwiseAttack(distance="linf").search(given)
    before, after = ((images - target.images).abs().amax((1, 2, 3)) for images in (starts, found))
    same = (found == starts).flatten(1).all(1)
    assert ((after < before) | same).all()
    assert (predict(target.network.model, found) != target.labels).all()


def test_pointwise_on_colour_images_of_32_pixels_ends() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 8, 3, stride=4), nn.Tanh(), nn.Flatten(), nn.Linear(512, 4))
    images = torch.rand(4, 3, 32, 32)
    labels = predict(model.eval(), images)
    found = minimal_perturbations(
        model, images, labels, ATTACKS["PointwiseAttack"], effort=Effort(steps=100), repeats=1
    )
    assert found.l2.isfinite().all()
    assert sum(found.questions.values()) < 4 * 10 * 3 * 32 * 32
