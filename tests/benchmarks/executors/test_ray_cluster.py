"""The Ray executor on a cluster of two machines, of which one is killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from filelock import FileLock

os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
from ray.cluster_utils import Cluster

from benchmarks.errors import BenchmarkError
from benchmarks.executors import ray_cluster
from benchmarks.executors.execute import execute
from benchmarks.experiments.exp3_localisation import LocalisationConfig
from benchmarks.runs.jobs import Job, in_order
from benchmarks.runs.profiles import PROFILES, narrowed
from benchmarks.runs.recipes import training
from benchmarks.runs.store import Store
from benchmarks.runs.workspace import BudgetSpent, Place

pytestmark = pytest.mark.exhaustive

MEGABYTES = 2**20


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A head that runs no jobs, and two workers that run one each."""
    memory = {"object_store_memory": 80 * MEGABYTES, "include_dashboard": False}
    quick = {"health_check_period_ms": 300, "health_check_failure_threshold": 3}
    made = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 0, "_system_config": quick, **memory}
    )
    for _ in range(2):
        made.add_node(num_cpus=1, object_store_memory=80 * MEGABYTES)
    yield made
    made.shutdown()


def jobs_of(epochs: int) -> list[Job]:
    """Two trainings, and a job that reads the networks of both."""
    profile = narrowed(
        PROFILES["smoke"], epochs=epochs, train_limit=301, test_limit=100, learning_rate=0.02
    )
    setting = profile.settings[0]
    trainings = tuple(training(setting, "td", run, profile) for run in range(2))
    return [Job("localisation", LocalisationConfig(images=20), needs=trainings)]


def test_a_killed_workers_job_is_done_by_the_other(cluster: Cluster, tmp_path: Path) -> None:
    jobs = jobs_of(8)
    trainings = jobs[0].needs
    place = Place(root=tmp_path, quiet=True)
    checkpoints = [tmp_path / "runs" / job.id / "checkpoint.pt" for job in trainings]
    with ThreadPoolExecutor(1) as pool:
        ending = pool.submit(execute, jobs, place, executor="ray", address=cluster.address)
        while not all(path.exists() for path in checkpoints):
            assert not ending.done(), ending.result()
            time.sleep(0.02)
        cluster.remove_node(next(iter(cluster.worker_nodes)), allow_graceful=False)
        assert Store(tmp_path).rows() == []
        ending.result(timeout=120)
    rows = Store(tmp_path).rows()
    done = [row["job"] for row in rows if row["status"] == "done"]
    # each once, and the one that needs the others after them; it has rows for every network
    assert sorted(map(str, done[:2])) == sorted(job.id for job in trainings)
    assert len(done) > 3
    assert set(done[2:]) == {jobs[0].id}
    assert len(rows) == len(done)
    assert not any(path.exists() for path in checkpoints)

    alone = Place(root=tmp_path / "alone", quiet=True)
    execute(trainings, alone)
    losses = {row["job"]: row["train_loss"] for row in Store(alone.root).rows()}
    assert {row["job"]: row["train_loss"] for row in rows[:2]} == losses


def test_what_is_done_is_skipped_and_a_spent_budget_ends_well(
    cluster: Cluster, tmp_path: Path
) -> None:
    jobs = jobs_of(1)
    place = Place(root=tmp_path, quiet=True, deadline=time.time() - 1)
    with pytest.raises(BudgetSpent):
        execute(jobs, place, executor="ray", address=cluster.address)
    assert Store(tmp_path).rows() == []
    execute(jobs, Place(root=tmp_path, quiet=True))
    rows = Store(tmp_path).rows()
    ray_cluster.execute(in_order(jobs), place, workers=1, address=cluster.address)
    assert Store(tmp_path).rows() == rows


def test_an_error_in_a_worker_is_told_and_reaches_what_depends_on_it(
    cluster: Cluster, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    config = jobs_of(1)[0].config
    broken = Job("no such kind", config)
    place = Place(root=tmp_path, quiet=True)
    with pytest.raises(BenchmarkError, match="2 of 2 jobs ended with an error"):
        execute([Job("localisation", config, needs=(broken,))], place, executor="ray",
                address=cluster.address)  # fmt: skip
    assert "KeyError: 'no such kind'" in capfd.readouterr().err
    assert Store(tmp_path).rows() == []


@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_lets_the_workers_write_their_checkpoints(cluster: Cluster, tmp_path: Path) -> None:
    command = [
        sys.executable, "-m", "benchmarks", "exp1", "--executor", "ray",
        "--ray-address", cluster.address, "--results", str(tmp_path), "--device", "cpu",
        "--arrangements", "td", "--epochs", "200", "--train-limit", "301", "--test-limit", "100",
    ]  # fmt: skip
    root = Path(__file__).resolve().parents[3]
    process = subprocess.Popen(command, cwd=root, stderr=subprocess.PIPE, text=True)
    while not (found := list(tmp_path.glob("runs/*/checkpoint.pt"))) and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGINT, err
    assert "the same command goes on from here" in err
    # an epoch has three steps; the worker has let go of the job
    epoch, step = torch.load(found[0], weights_only=True)["position"]
    assert 3 * epoch + step > 0
    with FileLock(found[0].with_name(".lock"), timeout=10):
        assert Store(tmp_path).rows() == []


def test_an_address_without_a_cluster_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(BenchmarkError, match=r"ray_address.*127\.0\.0\.1:9.*ray start --head"):
        execute(jobs_of(1), Place(root=tmp_path, quiet=True), executor="ray", address="127.0.0.1:9")
