"""A memory budget changes what is kept for the backward pass, and nothing else."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, fx, nn
from torch.nn.parallel import DistributedDataParallel

from benchmarks.subjects.models import nin_light, resnet32
from td_transform import TopDownError, TopDownNetwork, load_topdown, save_topdown, to_topdown
from td_transform.cost import measure
from tools.perf.memory import memory

SIZE = (3, 16, 16)
Make = Callable[[], nn.Module]


def small_resnet() -> nn.Module:
    return resnet32()


def with_dropout() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.3),
        nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(), nn.MaxPool2d(2),
        nn.Dropout2d(0.5), nn.Conv2d(8, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10),
    )  # fmt: skip


def both(make: Make, budget: float = 0.4) -> tuple[TopDownNetwork, TopDownNetwork]:
    """The network that keeps everything and the one that recomputes, with the same values."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        whole = to_topdown(make(), input_size=SIZE)
        spared = to_topdown(make(), input_size=SIZE, memory_budget=budget)
    spared.load_state_dict(whole.state_dict())
    assert spared.plan.recomputation is not None
    assert spared.plan.recomputation.levels
    return whole, spared


def stepped(network: nn.Module, images: Tensor) -> Tensor:
    torch.manual_seed(1)
    logits: Tensor = network(images)
    logits.float().square().sum().backward()
    return logits


def assert_same(whole: nn.Module, spared: nn.Module, **tolerance: float) -> None:
    """Gradients, and buffers: running statistics and how many batches they have seen."""
    for own, other in zip(whole.parameters(), spared.parameters(), strict=True):
        assert own.grad is not None
        torch.testing.assert_close(other.grad, own.grad, **tolerance)
    for own, other in zip(whole.buffers(), spared.buffers(), strict=True):
        torch.testing.assert_close(other, own, **tolerance)


@pytest.mark.parametrize("make", [small_resnet, with_dropout])
def test_a_step_is_that_of_the_network_that_keeps_everything(make: Make) -> None:
    whole, spared = both(make)
    images = torch.rand(4, *SIZE)
    for _ in range(2):
        torch.testing.assert_close(stepped(spared, images), stepped(whole, images), rtol=0, atol=0)
    assert_same(whole, spared, rtol=0, atol=0)
    seen = [b for n, b in spared.named_buffers() if n.endswith("num_batches_tracked")]
    assert {int(b) for b in seen} == {2}


@pytest.mark.parametrize("make", [small_resnet, with_dropout])
def test_it_keeps_what_the_plan_says(make: Make) -> None:
    whole, spared = both(make)
    images = torch.rand(4, *SIZE)
    used = [memory(lambda n=n: n(images).sum(), torch.device("cpu")) for n in (whole, spared)]
    assert spared.plan.recomputation is not None
    assert spared.plan.recomputation.kept_bytes <= 0.4 * measure(whole, SIZE).activation_bytes
    # beyond that each piece keeps the generator's state, for its dropouts
    states = len(spared._pieces) * torch.get_rng_state().numel()
    planned = 4 * spared.plan.recomputation.kept_bytes + states
    masks = used[0].kept - measure(whole, SIZE, batch=4).activation_bytes
    assert 0.95 * planned < used[1].kept < 1.05 * (planned + masks)
    assert used[0].kept > 2 * (used[1].kept - states)
    assert "recomputed in the backward pass: levels." in str(spared.plan)


@pytest.mark.exhaustive
@pytest.mark.parametrize("make", [small_resnet, with_dropout])
def test_compiled(make: Make) -> None:
    whole, spared = both(make)
    images = torch.rand(4, *SIZE)
    torch.compiler.reset()
    compiled = torch.compile(spared, fullgraph=True, backend="aot_eager")
    logits = stepped(compiled, images)
    torch.testing.assert_close(logits, stepped(whole, images), rtol=1e-4, atol=1e-5)
    assert_same(whole, spared, rtol=1e-3, atol=1e-4)


def test_autocast() -> None:
    whole, spared = both(with_dropout)
    images = torch.rand(4, *SIZE)
    for network in (whole, spared):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            logits = network(images)
        assert logits.dtype is torch.bfloat16
    whole, spared = both(small_resnet)
    for network in (whole, spared):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = network(images).float().sum()
        loss.backward()
    assert_same(whole, spared, rtol=0, atol=0)


def _train_one_step(rank: int, folder: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    torch.manual_seed(0)
    networks = both(with_dropout)
    images = torch.rand(4, *SIZE)
    for network in networks:
        stepped(DistributedDataParallel(network), images)
    learned = [[*(p.grad for p in n.parameters()), *n.buffers()] for n in networks]
    torch.save(learned, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.exhaustive
def test_distributed(tmp_path: Path) -> None:
    mp.spawn(_train_one_step, args=(str(tmp_path),), nprocs=2)
    for rank in range(2):
        whole, spared = torch.load(tmp_path / f"{rank}.pt")
        torch.testing.assert_close(spared, whole, rtol=0, atol=0)


def test_inference_copies_and_tracing_see_the_same_network(tmp_path: Path) -> None:
    whole, spared = both(small_resnet)
    images = torch.rand(2, *SIZE)
    wanted = whole.eval()(images)
    twin = copy.deepcopy(spared.eval())
    save_topdown(spared, tmp_path / "td.pt")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        loaded = load_topdown(tmp_path / "td.pt", small_resnet()).eval()
    networks: list[Any] = [spared, twin, loaded, fx.symbolic_trace(spared)]
    for network in networks:
        torch.testing.assert_close(network(images), wanted)
        with torch.no_grad():
            torch.testing.assert_close(network(images), wanted)
    assert loaded.plan.recomputation == spared.plan.recomputation
    kept = [memory(lambda n=n: n(images).sum(), torch.device("cpu")).kept for n in networks[:3]]
    assert len(set(kept)) == 1


@pytest.mark.parametrize("budget", [0.0, -1.0, 0.001])
def test_a_budget_that_cannot_be_met(budget: float) -> None:
    with pytest.raises(TopDownError, match=r"argument 'memory_budget'.*Remedy"):
        to_topdown(nin_light(), input_size=(1, 28, 28), memory_budget=budget)


def test_bytes_are_a_budget_too() -> None:
    model = with_dropout()
    whole = to_topdown(model, input_size=SIZE).plan.cost
    assert whole is not None
    allowed = whole.total.activation_bytes * 3 // 4
    plan = to_topdown(model, input_size=SIZE, memory_budget=allowed).plan
    assert plan.recomputation is not None
    assert len(plan.recomputation.levels) == 1
    assert plan.recomputation.kept_bytes <= allowed
