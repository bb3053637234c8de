"""What a network does on a GPU; each test runs on the CPU, too, where it is proven without one."""

from __future__ import annotations

import copy
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from td_transform import (
    TopDownNetwork,
    load_topdown,
    optimize_for_inference,
    save_topdown,
    to_topdown,
)
from tests.networks import TOPOLOGIES
from tools.perf.memory import memory

ON_GPU = pytest.param(
    "cuda",
    marks=[
        pytest.mark.cuda,
        pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
    ],
)
anywhere = pytest.mark.parametrize("device", ["cpu", ON_GPU])
SIZE = (3, 32, 32)

model = TOPOLOGIES["pre-activation"]


@pytest.fixture(autouse=True)
def exact_products() -> Any:
    """Full precision in convolutions: TensorFloat-32 keeps ten bits."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    yield
    torch.backends.cudnn.allow_tf32 = before


def network(device: str, **options: Any) -> TopDownNetwork:
    """Converted where the model lives."""
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return to_topdown(model().to(device), input_size=SIZE, **options)


def images(device: str) -> Tensor:
    return torch.rand(4, *SIZE, generator=torch.Generator().manual_seed(0)).to(device)


def gradients(td: nn.Module, batch: Tensor) -> list[Tensor]:
    td(batch).float().square().sum().backward()
    return [p.grad for p in td.parameters() if p.grad is not None]


@anywhere
def test_a_network_lives_where_its_model_does(device: str) -> None:
    td = network(device).eval()
    assert {t.device.type for t in td.state_dict().values()} == {device}
    with torch.no_grad():
        found = td(images(device))
        expected = copy.deepcopy(td).cpu()(images("cpu"))
    assert found.device.type == device
    torch.testing.assert_close(found.cpu(), expected, rtol=1e-3, atol=1e-4)


@anywhere
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast(device: str, dtype: torch.dtype) -> None:
    td, batch = network(device), images(device)
    expected = td(batch)
    with torch.autocast(device, dtype):
        found = td(batch)
        assert found.dtype == dtype
        found.float().square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in td.parameters())
    assert (found - expected).norm() < 0.1 * expected.norm()


@anywhere
def test_channels_last(device: str) -> None:
    td = network(device).eval()
    batch = images(device)
    with torch.no_grad():
        expected = td(batch)
        td = td.to(memory_format=torch.channels_last)
        found = td(batch.to(memory_format=torch.channels_last))
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


@anywhere
def test_recomputed_levels_give_the_same_step_with_fewer_bytes(device: str) -> None:
    whole, spared = network(device), network(device, memory_budget=0.4)
    spared.load_state_dict(whole.state_dict())
    batch = images(device)
    used = [memory(lambda td=td: td(batch).sum(), torch.device(device)) for td in (whole, spared)]
    assert 1.8 * used[1].kept < used[0].kept
    assert used[1].peak < used[0].peak
    whole.zero_grad(), spared.zero_grad()
    for own, other in zip(gradients(whole, batch), gradients(spared, batch), strict=True):
        torch.testing.assert_close(other, own, rtol=1e-3, atol=1e-4)
    for own, other in zip(whole.buffers(), spared.buffers(), strict=True):
        torch.testing.assert_close(other, own)


@anywhere
def test_saved_there_loaded_here(device: str, tmp_path: Path) -> None:
    td = network(device).eval()
    save_topdown(td, tmp_path / "td.pt")
    here = load_topdown(tmp_path / "td.pt", model(), map_location="cpu").eval()
    assert {t.device.type for t in here.state_dict().values()} == {"cpu"}
    with torch.no_grad():
        found, expected = here(images("cpu")), td(images(device))
    torch.testing.assert_close(found, expected.cpu(), rtol=1e-3, atol=1e-4)


@anywhere
@pytest.mark.exhaustive
def test_compiled_training(device: str) -> None:
    td, batch = network(device), images(device)
    compiled = copy.deepcopy(td)
    compiled.compile(fullgraph=True)
    for own, other in zip(gradients(td, batch), gradients(compiled, batch), strict=True):
        torch.testing.assert_close(other, own, rtol=1e-2, atol=1e-3)


@anywhere
@pytest.mark.exhaustive
def test_inference_is_compiled_where_the_example_lives(device: str) -> None:
    td, batch = network(device).eval(), images(device)
    fast = optimize_for_inference(td, batch, backend="auto" if device == "cuda" else "compile")
    assert fast.backend == "compile"
    with torch.no_grad():
        expected = td(batch)
    assert (fast(batch) - expected).abs().max() <= 1e-4 * expected.abs().max()
