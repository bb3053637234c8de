"""Trainings: the recipe's numbers, the same result every time, and going on after any interruption."""

from __future__ import annotations

import math
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from benchmarks.errors import BenchmarkError
from benchmarks.executors.local import attempt, state
from benchmarks.files import save_file
from benchmarks.measures import training
from benchmarks.measures.training import Trainer, accuracy, learning_rate, sgd, split
from benchmarks.runs import workspace
from benchmarks.runs.arithmetic import arithmetic
from benchmarks.runs.interrupts import Interrupted, held_back, interruptible
from benchmarks.runs.jobs import Job, TrainConfig
from benchmarks.runs.workspace import BudgetSpent, JobFailed, Place, Workspace
from benchmarks.subjects.datasets import load
from benchmarks.subjects.networks import Normalised

CONFIG = TrainConfig(
    model="tests.benchmarks.measures.test_training:small_network", arrangement="bu", data="digits",
    augmented=True, run=0, epochs=3, batch=50, learning_rate=0.1, weight_decay=1e-3,
    train_limit=400, test_limit=100, norm_momentum=0.1,
)  # fmt: skip
STEPS = math.ceil(360 / 50)


def small_network() -> nn.Module:
    """A network that trains in no time; dropout's random numbers have to be the same, too."""
    return nn.Sequential(
        nn.Conv2d(1, 8, 5, stride=2), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.5),
        nn.Conv2d(8, 16, 3, stride=2), nn.BatchNorm2d(16), nn.ReLU(), nn.AdaptiveAvgPool2d(1),
        nn.Flatten(), nn.Linear(16, 10),
    )  # fmt: skip


def _workspace(folder: Path, **options: Any) -> Workspace:
    return Workspace(Place(root=folder, quiet=True, **options))


def _trained(
    folder: Path, config: TrainConfig = CONFIG
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The row and the weights."""
    at, job = _workspace(folder), Job("train", config)
    assert attempt(job, at)
    state_dict: dict[str, Tensor] = torch.load(at.file(job, "model.pt"), weights_only=True)
    return at.store.rows()[-1], state_dict


def _assert_same(first: dict[str, Tensor], second: dict[str, Tensor]) -> None:
    assert first.keys() == second.keys()
    for name, value in first.items():
        assert torch.equal(value, second[name]), name


# The recipe


@pytest.mark.parametrize(
    ("epochs", "rates"),
    [
        (10, [0.1] * 5 + [0.01] * 3 + [0.001] * 2),
        (5, [0.1] * 2 + [0.01] * 2 + [0.001]),
        (2, [0.1, 0.001]),
        (1, [0.1]),
    ],
)
def test_the_rate_falls_at_half_and_at_four_fifths(epochs: int, rates: list[float]) -> None:
    config = replace(CONFIG, epochs=epochs)
    found = [learning_rate(config, epoch) for epoch in range(epochs)]
    assert found == pytest.approx(rates)


def test_weight_decay_is_for_kernels_only() -> None:
    optimizer = sgd(small_network(), CONFIG)
    kernels, others = optimizer.param_groups
    assert [p.dim() for p in kernels["params"]] == [4, 4, 2]
    assert all(p.dim() == 1 for p in others["params"])
    assert (kernels["weight_decay"], others["weight_decay"]) == (1e-3, 0.0)
    assert all((g["momentum"], g["nesterov"]) == (0.9, True) for g in optimizer.param_groups)


def test_a_tenth_validates_and_every_run_draws_anew() -> None:
    first, second = split(1000, seed=1), split(1000, seed=2)
    assert (len(first[0]), len(first[1])) == (900, 100)
    assert sorted(torch.cat(first).tolist()) == list(range(1000))
    assert not torch.equal(first[1], second[1])
    a, b = (training.Seeds(0, run).of("split") for run in (0, 1))
    assert a != b


def test_decay_and_rate_reach_the_steps(tmp_path: Path) -> None:
    """With a gradient of zero, kernels shrink by rate x decay and nothing else changes."""
    config = replace(CONFIG, weight_decay=0.5, learning_rate=0.1)
    network = small_network()
    optimizer = sgd(network, config)
    before = {name: p.detach().clone() for name, p in network.named_parameters()}
    for parameter in network.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    for name, parameter in network.named_parameters():
        # a Nesterov step from rest counts the gradient 1 + 0.9 times
        share = 1 - 0.1 * 0.5 * 1.9 if parameter.dim() > 1 else 1.0
        assert torch.allclose(parameter, before[name] * share), name


# What comes out


def test_a_network_learns_and_its_weights_are_kept(tmp_path: Path) -> None:
    config = replace(CONFIG, model="lenet-fc", augmented=False, epochs=4, batch=16)
    row, _ = _trained(tmp_path, config)
    assert row["test_accuracy"] > 0.8
    assert row["validation_accuracy"] > 0.7
    assert (row["epochs"], row["parameters"], row["train_images"]) == (4, 7670, 360)
    at, job = _workspace(tmp_path), Job("train", config)
    network, images = at.network(job), at.data(config)
    assert isinstance(network, Normalised)
    assert not network.training
    assert accuracy(network, images.test_images, images.test_labels) == row["test_accuracy"]
    assert not at.checkpoint(job).exists()


def test_a_top_down_network_comes_back_as_it_was_trained(tmp_path: Path) -> None:
    config = replace(CONFIG, model="lenet-fc", arrangement="td", epochs=1, train_limit=100)
    row, _ = _trained(tmp_path, config)
    at = _workspace(tmp_path)
    network, images = at.network(Job("train", config)), at.data(config)
    assert accuracy(network, images.test_images, images.test_labels) == row["test_accuracy"]


def test_the_same_seed_gives_the_same_numbers(tmp_path: Path) -> None:
    first, second = (_trained(tmp_path / name) for name in "ab")
    _assert_same(first[1], second[1])
    for name in ("test_accuracy", "validation_accuracy", "train_loss"):
        assert first[0][name] == second[0][name]
    other = _trained(tmp_path / "c", replace(CONFIG, run=1))
    assert other[0]["train_loss"] != first[0]["train_loss"]


# Going on


class _Clock:
    """A time that advances by a second whenever it is read."""

    def __init__(self) -> None:
        self.now = 0.0

    def time(self) -> float:
        self.now += 1.0
        return self.now


@pytest.mark.parametrize("seconds", [2, STEPS + 1, STEPS + 5])
def test_a_spent_budget_stops_anywhere_and_another_machine_goes_on(
    seconds: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = Job("train", CONFIG)
    here = _workspace(tmp_path / "here", deadline=float(seconds))
    with monkeypatch.context() as patch:
        patch.setattr(workspace, "time", _Clock())
        with pytest.raises(BudgetSpent):
            attempt(job, here)
    assert state(job, here) == "started"
    there = _workspace(tmp_path / "there")
    shutil.copy(here.checkpoint(job), there.checkpoint(job))
    position = Trainer(job, there)
    assert position.epoch * STEPS + position.step == seconds - 2
    interrupted = _trained(tmp_path / "there")
    straight = _trained(tmp_path / "straight")
    _assert_same(interrupted[1], straight[1])
    assert interrupted[0]["train_loss"] == straight[0]["train_loss"]


@pytest.mark.usefixtures("ctrl_c")
def test_a_signal_in_the_middle_of_a_step_waits_for_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import signal

    job, at = Job("train", CONFIG), _workspace(tmp_path / "stopped")
    calls = []

    def backward_with_signal(*args: Any, **kwargs: Any) -> Tensor:
        calls.append(1)
        if len(calls) == STEPS + 3:
            signal.raise_signal(signal.SIGINT)
        return torch.nn.functional.cross_entropy(*args, **kwargs)

    class Functional:
        cross_entropy = staticmethod(backward_with_signal)

    with monkeypatch.context() as patch:
        patch.setattr(training, "F", Functional)
        with interruptible(), pytest.raises(Interrupted) as stopped:
            attempt(job, at)
    assert stopped.value.exit_code == 130
    trainer = Trainer(job, at)
    assert (trainer.epoch, trainer.step) == (1, 3)
    _assert_same(_trained(tmp_path / "stopped")[1], _trained(tmp_path / "straight")[1])


def test_a_checkpoint_holds_what_was_measured(tmp_path: Path) -> None:
    job, at = Job("train", CONFIG), _workspace(tmp_path)
    trainer = Trainer(job, at)
    trainer.run()
    again = Trainer(job, at)
    assert (again.epoch, again.step) == (3, 0)
    assert again.loss == trainer.loss
    assert 0 < again._seconds_before <= trainer.seconds
    momenta = [s["momentum_buffer"] for s in again.optimizer.state.values()]
    assert len(momenta) == len(list(again.network.parameters()))


# What goes wrong


def test_a_loss_that_is_no_number_ends_the_run(tmp_path: Path) -> None:
    job, at = Job("train", replace(CONFIG, learning_rate=1e30)), _workspace(tmp_path)
    with pytest.raises(JobFailed, match="the loss is nan in epoch"):
        Trainer(job, at).run()
    assert attempt(job, at)
    (row,) = at.store.rows()
    assert row["status"] == "failed"
    assert "the loss is nan" in str(row["message"])


def test_results_without_weights_are_an_error_with_a_remedy(tmp_path: Path) -> None:
    _trained(tmp_path)
    shutil.rmtree(tmp_path / "runs")
    with pytest.raises(BenchmarkError, match=r"no .*model.pt; .*delete the training's line"):
        _workspace(tmp_path).network(Job("train", CONFIG))


def test_nobody_sees_half_a_file(tmp_path: Path) -> None:
    path = tmp_path / "value.pt"
    save_file(path, {"a": torch.ones(2)})
    with pytest.raises((AttributeError, TypeError, RuntimeError)):
        save_file(path, {"a": (x for x in "generators can't be saved")})
    assert torch.load(path, weights_only=True)["a"].tolist() == [1, 1]
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.usefixtures("ctrl_c")
def test_signals_are_held_back_only_in_the_block() -> None:
    import signal

    order = []

    def interrupted_block() -> None:
        with held_back():
            signal.raise_signal(signal.SIGTERM)
            order.append("end of block")

    with interruptible():
        with pytest.raises(Interrupted, match="SIGTERM"):
            interrupted_block()
        with pytest.raises(Interrupted, match="SIGINT"):
            signal.raise_signal(signal.SIGINT)
    assert order == ["end of block"]
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


# Precision


def test_lower_precision_trains_as_well(tmp_path: Path) -> None:
    config = replace(CONFIG, epochs=8, augmented=False)
    whole, _ = _trained(tmp_path / "float32", config)
    half, weights = _trained(tmp_path / "bf16", replace(config, precision="bf16"))
    assert half["test_accuracy"] == pytest.approx(whole["test_accuracy"], abs=0.1)
    assert half["train_loss"] != whole["train_loss"]
    assert all(value.dtype != torch.bfloat16 for value in weights.values())


def test_precision_is_set_for_a_while() -> None:
    before = torch.backends.cuda.matmul.fp32_precision
    with arithmetic("tf32"):
        assert torch.backends.cuda.matmul.fp32_precision == "tf32"
        with arithmetic("float32"):
            assert torch.backends.cudnn.conv.fp32_precision == "ieee"
    assert torch.backends.cuda.matmul.fp32_precision == before


def test_images_larger_than_the_network_are_cropped(tmp_path: Path) -> None:
    images = load("digits", limits=(100, 50))
    smaller = replace_test_images(images)
    at, job = _workspace(tmp_path), Job("train", CONFIG)
    at._data[("digits", 400, 100)] = smaller
    trainer = Trainer(job, at)
    trainer.run()
    assert trainer.images.size == (1, 24, 24)
    assert math.isfinite(trainer.loss)


def replace_test_images(images: Any) -> Any:
    """The set with test images of 24 pixels, and training images of 28."""
    return replace(images, test_images=images.test_images[..., 2:26, 2:26])
