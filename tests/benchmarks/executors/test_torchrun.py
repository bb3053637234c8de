"""One training by two processes under torchrun: the same as by one, up to rounding."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import nn

from benchmarks.errors import BenchmarkError
from benchmarks.executors.execute import execute
from benchmarks.experiments import EXPERIMENTS
from benchmarks.runs.jobs import Job, Row
from benchmarks.runs.profiles import PROFILES, Profile, narrowed
from benchmarks.runs.store import Store
from benchmarks.runs.workspace import Place
from benchmarks.subjects.arrangements import Arrangement
from benchmarks.subjects.whole_batch_norm import WholeBatchNorm, normalise_whole_batches

pytestmark = pytest.mark.exhaustive

ROOT = Path(__file__).resolve().parents[3]
# few steps: rounding differs between one sum and two, and grows with every step
SIZES = {"train_limit": 301, "test_limit": 100, "learning_rate": 0.01, "batch": 128}


def profile_of(arrangement: Arrangement, epochs: int) -> Profile:
    return narrowed(PROFILES["smoke"], arrangements=(arrangement,), epochs=epochs, **SIZES)


def start_torchrun(results: Path, arrangement: Arrangement, epochs: int) -> subprocess.Popen[str]:
    sizes = [f"--{name.replace('_', '-')}={value}" for name, value in SIZES.items()]
    command = [
        sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
        "-m", "benchmarks", "exp1", "--profile", "smoke", "--device", "cpu", *sizes,
        "--arrangements", arrangement, "--epochs", str(epochs), "--results", str(results),
    ]  # fmt: skip
    return subprocess.Popen(
        command, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip


def alone(results: Path, profile: Profile) -> tuple[Job, Row]:
    job = EXPERIMENTS["exp1"].jobs(profile)[0]
    execute([job], Place(root=results, quiet=True))
    (row,) = Store(results).rows()
    return job, row


def weights(results: Path, job: Job) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = torch.load(
        results / "runs" / job.id / "model.pt", weights_only=True
    )
    return state


def assert_same(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert list(found) == list(expected)
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, atol=5e-4, rtol=5e-4)


def test_two_processes_train_as_one_does(tmp_path: Path) -> None:
    process = start_torchrun(tmp_path / "two", "td", 2)
    job, expected = alone(tmp_path / "one", profile_of("td", 2))
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    # only one of them tells and writes
    assert out.count("LeNetFC  digits") == 1
    (row,) = Store(tmp_path / "two").rows()
    assert row["job"] == expected["job"]
    assert row["processes"] == 2
    assert row["train_loss"] == pytest.approx(expected["train_loss"], abs=1e-4)
    assert row["test_accuracy"] == pytest.approx(expected["test_accuracy"], abs=0.02)
    assert_same(weights(tmp_path / "two", job), weights(tmp_path / "one", job))
    assert not (tmp_path / "two" / "runs" / job.id / "checkpoint.pt").exists()


def test_stopped_in_the_middle_one_process_goes_on(tmp_path: Path) -> None:
    epochs = 40
    profile = profile_of("bu", epochs)
    (job,) = EXPERIMENTS["exp1"].jobs(profile)
    checkpoint = tmp_path / "runs" / job.id / "checkpoint.pt"
    process = start_torchrun(tmp_path, "bu", epochs)
    while not checkpoint.exists() and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    _, err = process.communicate(timeout=60)
    assert process.returncode != 0
    assert "the same command goes on from here" in err
    epoch, _ = torch.load(checkpoint, weights_only=True)["position"]
    assert 0 < epoch < epochs
    assert Store(tmp_path).rows() == []
    _, row = alone(tmp_path, profile)
    _, expected = alone(tmp_path / "one", profile)
    assert row["train_loss"] == pytest.approx(expected["train_loss"], abs=0.02)


def test_torchrun_and_another_executor_exclude_each_other(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "x")
    with pytest.raises(BenchmarkError, match=r"torchrun.*'processes'.*leave out --executor"):
        execute([], Place(root=tmp_path), executor="processes")


def test_whole_batch_norm_is_batch_norm_of_the_whole_batch(tmp_path: Path) -> None:
    torch.manual_seed(0)
    images = torch.randn(7, 3, 5, 4, dtype=torch.float32) * 3 + 1
    weight = torch.randn(7, 3, 5, 4)
    norm = nn.BatchNorm2d(3, momentum=0.3)
    nn.init.uniform_(norm.weight)
    nn.init.uniform_(norm.bias)
    torch.save((images, weight, norm.state_dict()), tmp_path / "inputs.pt")
    context = torch.multiprocessing.get_context("spawn")
    processes = [context.Process(target=_normalise_share, args=(tmp_path, r)) for r in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        assert process.exitcode == 0
    x = images.clone().requires_grad_()
    y = norm(x)
    (y * weight).sum().backward()
    shares = [torch.load(tmp_path / f"share{rank}.pt") for rank in range(2)]
    assert x.grad is not None
    assert norm.weight.grad is not None
    for rank, share in enumerate(shares):
        torch.testing.assert_close(share["y"], y[rank::2].detach())
        torch.testing.assert_close(share["gradient"], x.grad[rank::2], atol=1e-5, rtol=1e-4)
        for name, value in norm.state_dict().items():
            torch.testing.assert_close(share["state"][name], value)
        torch.testing.assert_close(share["evaluated"], norm.eval()(images))
        norm.train()
    total = shares[0]["weight gradient"] + shares[1]["weight gradient"]
    torch.testing.assert_close(total, norm.weight.grad, atol=1e-4, rtol=1e-4)


def _normalise_share(folder: Path, rank: int) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    images, weight, state = torch.load(folder / "inputs.pt")
    plain = nn.BatchNorm2d(3, momentum=0.3)
    plain.load_state_dict(state)
    network = nn.Sequential(plain)
    normalise_whole_batches(network)
    norm = network[0]
    assert isinstance(norm, WholeBatchNorm)
    x = images[rank::2].clone().requires_grad_()
    y = network(x)
    (y * weight[rank::2]).sum().backward()
    found = {
        "y": y.detach(),
        "gradient": x.grad,
        "weight gradient": norm.weight.grad,
        "state": norm.state_dict(),
        "evaluated": norm.eval()(images).detach(),
    }
    torch.save(found, folder / f"share{rank}.pt")
    dist.destroy_process_group()


def test_a_batch_normalisation_of_ones_own_is_refused() -> None:
    class Own(nn.BatchNorm2d):
        """Activates as well."""

    with pytest.raises(BenchmarkError, match=r"'1' \(Own\).*in one process"):
        normalise_whole_batches(nn.Sequential(nn.Conv2d(1, 2, 1), Own(2)))
