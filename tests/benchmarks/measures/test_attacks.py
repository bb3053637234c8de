"""The ten attacks on tiny networks whose boundary is known, and the search over repetitions."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib.resources import files

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor, nn

from benchmarks.errors import BenchmarkError
from benchmarks.measures.attacks import ATTACKS
from benchmarks.measures.attacks.additive_noise import (
    AdditiveGaussianNoiseAttack,
    AdditiveUniformNoiseAttack,
)
from benchmarks.measures.attacks.draws import Draws
from benchmarks.measures.attacks.pointwise import PointwiseAttack
from benchmarks.measures.attacks.search import Target
from benchmarks.measures.attacks.single_pixel import SinglePixelAttack
from benchmarks.measures.attacks.spatial import SpatialAttack, moved
from benchmarks.measures.queries import Network, Queries, with_fused_norms
from benchmarks.measures.robustness import Perturbations, minimal_perturbations, predict
from benchmarks.runs.effort import Effort
from benchmarks.subjects.networks import build

SIDE = 8
EFFORT = Effort(steps=100, directions=20, max_pixels=SIDE**2, grid=4)


class Halves(nn.Module):
    """Class 0 where the left half is brighter than the right, by less than a pixel's worth."""

    def forward(self, images: Tensor) -> Tensor:
        left, right = images.mean(1).split(SIDE // 2, dim=2)
        return torch.stack([left.mean((1, 2)), right.mean((1, 2))], 1) * SIDE**2 / 2


class Peaks(nn.Module):
    """Class 1 where the brightest pixel is above 0.7: less contrast or a blur loses it."""

    def forward(self, images: Tensor) -> Tensor:
        peak = images.amax((1, 2, 3))
        return torch.stack([torch.full_like(peak, 0.7), peak], 1)


class Brighter(nn.Module):
    """Class 1 where the mean is above 0.9: noise can make it smaller, but never so large."""

    def forward(self, images: Tensor) -> Tensor:
        mean = images.mean((1, 2, 3))
        return torch.stack([torch.full_like(mean, 0.9), mean], 1)


def tiny_network(channels: int) -> nn.Sequential:
    torch.manual_seed(0)
    layers = [nn.Conv2d(channels, 8, 3, stride=2), nn.Tanh(), nn.Flatten(), nn.Linear(72, 4)]
    return nn.Sequential(*layers)


def halves_images(count: int = 6) -> Tensor:
    """Left halves that are a little brighter, by different amounts, with some structure."""
    generator = torch.Generator().manual_seed(1)
    images = 0.4 + 0.05 * torch.rand(count, 1, SIDE, SIDE, generator=generator)
    images[:, :, 1:7, 1:3] += torch.linspace(0.02, 0.2, count)[:, None, None, None]
    return images


def peaks_images() -> Tensor:
    """Bright spots of different heights, each on grey."""
    images = torch.full((3, 1, SIDE, SIDE), 0.3)
    images[:, :, 3:5, 3:5] = torch.tensor([0.75, 0.85, 1.0])[:, None, None, None]
    return images


MODELS: dict[str, tuple[Callable[[], nn.Module], Callable[[], Tensor]]] = {
    "halves": (Halves, halves_images),
    "peaks": (Peaks, peaks_images),
    "grey": (lambda: tiny_network(1), halves_images),
    "colour": (lambda: tiny_network(3), lambda: halves_images().expand(-1, 3, -1, -1) * 0.9),
}
# Symmetric changes never fool "halves".
ALWAYS_FOOLED = dict.fromkeys(ATTACKS, "halves") | {
    "GaussianBlurAttack": "peaks",
    "ContrastReductionAttack": "peaks",
}
CASES = [pytest.param(a, m, id=f"{a}-{m}") for a in ATTACKS for m in MODELS]


def case(name: str) -> tuple[nn.Module, Tensor, Tensor]:
    make, images = MODELS[name]
    model = make().eval()
    return model, images(), predict(model, images())


def target_of(model: nn.Module, images: Tensor, labels: Tensor) -> Target:
    queries = Queries(Network.of(model, images, low_precision=False), labels)
    draws = Draws(range(len(images)), seed=0)
    return Target(images, labels, queries, draws, torch.full((len(images),), torch.inf))


def run(attack: str, model: str, *, effort: Effort = EFFORT, repeats: int = 1) -> Perturbations:
    return minimal_perturbations(
        *case(model), ATTACKS[attack], effort=effort, repeats=repeats, batch=4
    )


def test_fused_norms_change_no_logits() -> None:
    torch.manual_seed(0)
    network = build("lenet-fc", arrangement="td", size=(1, 28, 28), classes=10)
    images = torch.rand(4, 1, 28, 28)
    # running averages that are not those of a fresh network
    network(images)
    network.eval()
    with torch.no_grad():
        expected = network(images)
        fused = with_fused_norms(network)
        assert not any(isinstance(module, nn.BatchNorm2d) for module in fused.modules())
        torch.testing.assert_close(fused(images), expected)


# The table


@pytest.mark.parametrize(("attack", "model"), CASES)
def test_what_an_attack_finds_is_an_image_that_is_misclassified(attack: str, model: str) -> None:
    network, images, labels = case(model)
    found = run(attack, model)
    assert found.images.shape == images.shape
    assert found.images.min() >= 0
    assert found.images.max() <= 1
    fooled = found.l2.isfinite()
    torch.testing.assert_close(
        (found.images - images).flatten(1).norm(dim=1), torch.where(fooled, found.l2, 0.0)
    )
    # the pointwise attack ends a rounding error from the boundary
    logits = network(found.images[fooled]).softmax(1)
    at_label = logits.gather(1, labels[fooled, None])[:, 0]
    assert (at_label <= logits.amax(1) + 1e-5).all()
    assert (predict(network, found.images[~fooled]) == labels[~fooled]).all()


@pytest.mark.parametrize("attack", ATTACKS)
def test_every_attack_succeeds_where_it_can(attack: str) -> None:
    assert run(attack, ALWAYS_FOOLED[attack]).l2[0].isfinite()


def test_the_table_has_the_papers_names() -> None:
    figure = json.loads(
        files("benchmarks.findings").joinpath("published_robustness.json").read_text()
    )
    assert set(ATTACKS) == set(figure["curves"]["MNIST"])
    assert [attack.panel for attack in ATTACKS.values()] == list(range(1, 11))


@pytest.mark.parametrize("attack", ATTACKS)
def test_more_repetitions_find_nothing_larger(attack: str) -> None:
    first = ATTACKS[attack].starts_from
    starts = run(first, "grey").images if first else None
    once, thrice = (
        minimal_perturbations(
            *case("grey"), ATTACKS[attack], effort=EFFORT, starts=starts, repeats=repeats
        )
        for repeats in (1, 3)
    )
    assert (thrice.l2 <= once.l2).all()


@pytest.mark.parametrize("attack", ATTACKS)
def test_the_same_seed_finds_the_same_and_leaves_the_generators_alone(attack: str) -> None:
    torch.manual_seed(3)
    np.random.seed(3)
    expected = torch.rand(1), np.random.rand()
    first, second = run(attack, "halves"), run(attack, "halves")
    torch.manual_seed(3)
    np.random.seed(3)
    torch.testing.assert_close(first.images, second.images, rtol=0, atol=0)
    run(attack, "halves")
    assert (torch.rand(1), np.random.rand()) == expected


# Minimal within its own step


@pytest.mark.parametrize("attack", ["BlendedUniformNoiseAttack", "ContrastReductionAttack"])
def test_a_line_search_ends_one_step_beyond_the_boundary(attack: str) -> None:
    name = ALWAYS_FOOLED[attack]
    network, images, labels = case(name)
    found = run(attack, name, effort=Effort(steps=1000, directions=20))
    fooled = found.l2.isfinite()
    assert fooled.any()
    # one step of 1/1000 of the way is at most a fiftieth of a change of a twentieth of the way
    less = images + 0.98 * (found.images - images)
    assert (predict(network, less[fooled]) == labels[fooled]).all()


def test_the_blur_is_the_first_of_the_search_that_works() -> None:
    network, images, labels = case("peaks")
    found = run("GaussianBlurAttack", "peaks")
    assert found.l2.isfinite().all()
    for index, norm in enumerate(found.l2):
        for step in range(1, EFFORT.steps + 1):
            sigma = SIDE * step / EFFORT.steps
            blurred = ndimage.gaussian_filter(images[index].numpy(), (0, sigma, sigma))
            blurred = torch.from_numpy(blurred)
            if predict(network, blurred[None]) != labels[index]:
                torch.testing.assert_close(
                    (blurred - images[index]).norm(), norm, atol=1e-4, rtol=0
                )
                break


def test_the_pixel_is_the_closest_of_all() -> None:
    network, images, labels = case("halves")
    found = run("SinglePixelAttack", "halves")
    for image, label, norm in zip(images, labels, found.l2, strict=True):
        changed = image.repeat(2 * SIDE**2, 1, 1, 1)
        flat = changed.view(2, SIDE**2, SIDE**2)
        flat[0].fill_diagonal_(0)
        flat[1].fill_diagonal_(1)
        norms = (changed - image).flatten(1).norm(dim=1)
        works = predict(network, changed) != label
        expected = norms[works].min() if works.any() else torch.tensor(torch.inf)
        torch.testing.assert_close(norm, expected)


def test_no_more_pixels_are_tried_than_asked_for() -> None:
    class Never(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            asked.extend(images)
            return torch.stack([images.sum((1, 2, 3)) * 0 + 1, images.sum((1, 2, 3)) * 0], 1)

    asked: list[Tensor] = []
    images = torch.full((2, 3, 4, 4), 0.5)
    images[:, :, 0] = 0.0
    labels = torch.zeros(2, dtype=torch.int64)
    target = target_of(Never().eval(), images, labels)
    SinglePixelAttack(max_pixels=5).search(target)
    assert 10 <= len(asked) <= 20
    asked.clear()
    SinglePixelAttack(max_pixels=16).search(target)
    # black pixels can't become black
    assert len(asked) == 2 * (2 * 16 - 4)
    changed = torch.stack(asked) != images[0]
    assert (changed[:, 0] == changed[:, 2]).all()
    assert (changed.sum((2, 3)) == 1).all()


@pytest.mark.parametrize("attack", ["SpatialAttack", "ShiftsAttack"])
def test_the_move_is_the_closest_of_the_grid(attack: str) -> None:
    network, images, labels = case("grey")
    found = run(attack, "grey")
    made = ATTACKS[attack].make(EFFORT)
    assert isinstance(made, SpatialAttack)
    tried = torch.stack([moved(images, move[None]) for move in made.moves()])
    assert len(tried) == 4 ** (3 if attack == "SpatialAttack" else 2)
    norms = (tried - images).flatten(2).norm(dim=2)
    wrong = torch.stack([predict(network, batch) != labels for batch in tried]) & (norms > 0)
    torch.testing.assert_close(found.l2, norms.where(wrong, torch.inf).amin(0))


def test_moves_agree_with_scipy() -> None:
    images = torch.rand(2, 3, 7, 7)
    shifted = moved(images, torch.tensor([[0.0, 2.0, -1.0]]))
    expected = ndimage.shift(images.numpy(), (0, 0, 2, -1), order=1)
    torch.testing.assert_close(shifted, torch.from_numpy(expected), atol=1e-5, rtol=1e-5)
    turned = moved(images, torch.tensor([[90.0, 0.0, 0.0]]))
    torch.testing.assert_close(turned, images.rot90(-1, (2, 3)), atol=1e-5, rtol=1e-5)
    both = moved(images, torch.tensor([[90.0, 1.0, 0.0]]))
    expected = ndimage.shift(images.rot90(-1, (2, 3)).numpy(), (0, 0, 1, 0), order=1)
    torch.testing.assert_close(both, torch.from_numpy(expected), atol=1e-5, rtol=1e-5)


def test_every_pixel_that_pointwise_changed_is_needed() -> None:
    network, images, labels = case("halves")
    found = run("PointwiseAttack", "halves")
    assert found.l2.isfinite().all()
    for image, changed, label in zip(images, found.images, labels, strict=True):
        for place in (changed - image).flatten().nonzero().flatten():
            back = changed.clone().flatten()
            back[place] = image.flatten()[place]
            assert predict(network, back.view(1, 1, SIDE, SIDE)) == label


@pytest.mark.parametrize("made", [AdditiveUniformNoiseAttack, AdditiveGaussianNoiseAttack])
def test_noise_grows_with_the_square_of_the_step(
    made: type[AdditiveUniformNoiseAttack] | type[AdditiveGaussianNoiseAttack],
) -> None:
    images = torch.full((1, 1, 100, 100), 0.5)
    target = target_of(Brighter().eval(), images, torch.tensor([0]))
    for number in (1, 2, 3):
        noisy = made(steps=10).candidates(target, torch.tensor([0]), torch.tensor([number]))
        deviation = (noisy - images).std().item()
        assert deviation == pytest.approx((number / 10) ** 2 / 3**0.5, rel=0.05)
    last = made(steps=10).candidates(target, torch.tensor([0]), torch.tensor([10]))
    assert last.aminmax() == (0, 1)


# Images that cannot be counted


@pytest.mark.parametrize("attack", ATTACKS)
def test_an_image_that_is_wrong_from_the_start_is_no_success(attack: str) -> None:
    network, images, labels = case("halves")
    labels = labels.clone()
    labels[2] = 1 - labels[2]
    found = minimal_perturbations(network, images, labels, ATTACKS[attack], effort=EFFORT)
    assert found.l2[2] == -1
    assert (found.l2 == -1).sum() == 1
    assert found.listed()[2] == -1
    assert torch.equal(found.images[2], images[2])


@pytest.mark.parametrize("attack", ATTACKS)
def test_all_images_wrong_from_the_start(attack: str) -> None:
    network, images, labels = case("halves")
    found = minimal_perturbations(network, images, 1 - labels, ATTACKS[attack], effort=EFFORT)
    assert (found.l2 == -1).all()


@pytest.mark.parametrize(
    "attack", ["PointwiseAttack", "Salt&PepperNoiseAttack", "BlendedUniformNoiseAttack"]
)
@pytest.mark.filterwarnings("error")
def test_an_image_without_a_start_does_not_lose_the_others(attack: str) -> None:
    images = torch.tensor([0.95, 0.2, 0.92])[:, None, None, None].expand(3, 1, SIDE, SIDE)
    labels = torch.tensor([1, 0, 1])
    found = minimal_perturbations(
        Brighter().eval(), images.clone(), labels, ATTACKS[attack], effort=EFFORT
    )
    assert found.l2.isfinite().tolist() == [True, False, True]
    assert found.listed()[1] is None
    assert torch.equal(found.images[1], images[1])


# Errors


def test_pointwise_says_that_it_needs_starts() -> None:
    with pytest.raises(BenchmarkError, match=r"no images to start from; .*NamedAttack.starts_from"):
        PointwiseAttack().search(target_of(*case("halves")))


def test_a_network_in_training_mode_is_refused() -> None:
    network, images, labels = case("halves")
    with pytest.raises(BenchmarkError, match=r"a model in training mode; .*call model.eval\(\)"):
        minimal_perturbations(network.train(), images, labels, ATTACKS["ShiftsAttack"])


def test_bytes_are_refused() -> None:
    network, images, labels = case("halves")
    with pytest.raises(
        BenchmarkError, match=r"values from .* to 1\d\d.*; expected values in \[0, 1\]"
    ):
        minimal_perturbations(network, images * 255, labels, ATTACKS["ShiftsAttack"])
