"""The emitted network is a good citizen of PyTorch."""

from __future__ import annotations

import copy
import pickle
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import fx, nn
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils import parameters_to_vector

from td_transform import TopDownNetwork, load_topdown, save_topdown, to_topdown
from tests.networks import TOPOLOGIES

SIZE = (3, 32, 32)
NAMES = [
    "chain",
    "strided chain",
    "deep stem",
    "pre-activation",
    "dense",
    "patchify",
    "channel shuffle",
]
SOME = pytest.mark.parametrize("name", NAMES)
# what goes through torch's compiler takes seconds a network
SLOW = pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=() if n == "pre-activation" else pytest.mark.exhaustive) for n in NAMES],
)


def convert(name: str, **options: Any) -> TopDownNetwork:
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return to_topdown(TOPOLOGIES[name](), input_size=SIZE, **options)


@SLOW
def test_compiles_as_one_graph(name: str) -> None:
    td = convert(name).eval()
    torch.compiler.reset()
    compiled = torch.compile(td, fullgraph=True, backend="aot_eager")
    x = torch.rand(2, *SIZE)
    torch.testing.assert_close(compiled(x), td(x))
    compiled(x).sum().backward()
    assert all(p.grad is not None for p in td.parameters())


@SOME
@pytest.mark.parametrize("options", [{}, {"memory_budget": 0.7}], ids=["plain", "recomputed"])
def test_a_backbone_is_the_levels_of_the_network(name: str, options: dict[str, Any]) -> None:
    td = convert(name, **options).eval()
    seen: dict[str, torch.Tensor] = {}

    class Seen(fx.Interpreter):
        def run_node(self, n: fx.Node) -> Any:
            seen[n.name] = super().run_node(n)
            return seen[n.name]

    backbone, x = copy.deepcopy(td.backbone()), torch.rand(2, *SIZE)
    Seen(td).run(x)
    maps = backbone(x)
    for level, end, found in zip(td.plan.levels, td.level_ends, maps, strict=True):
        torch.testing.assert_close(found, seen[end])
        sides = (-(-32 // stride) for stride in level.strides)
        assert found.shape == (2, level.width, *sides)
    assert backbone.widths == tuple(found.shape[1] for found in maps)
    assert backbone.strides == tuple(level.stride for level in td.plan.levels)
    assert not backbone.training
    sum(found.sum() for found in maps).backward()
    assert all(p.grad is not None for p in backbone.parameters())
    assert set(backbone.state_dict()) < set(td.state_dict())
    assert all(p.grad is None for p in td.parameters())


def test_a_backbone_has_the_modules_of_its_network() -> None:
    td = convert("chain")
    shared = {id(p) for p in td.backbone().parameters()}
    assert shared == {id(p) for part in (td.pyramid, td.levels) for p in part.parameters()}


@SLOW
def test_exports_with_a_dynamic_batch(name: str) -> None:
    td = convert(name).eval()
    batch = torch.export.Dim("batch", min=1, max=64)
    exported = torch.export.export(td, (torch.rand(2, *SIZE),), dynamic_shapes=({0: batch},))
    x = torch.rand(5, *SIZE)
    torch.testing.assert_close(exported.module()(x), td(x))


@SLOW
def test_onnx(name: str, tmp_path: Path) -> None:
    import onnxruntime

    td = convert(name).eval()
    file = tmp_path / "td.onnx"
    batch = torch.export.Dim("batch", min=1, max=64)
    torch.onnx.export(
        td, (torch.rand(2, *SIZE),), file, dynamo=True, verbose=False, dynamic_shapes=({0: batch},)
    )
    session = onnxruntime.InferenceSession(file)
    x = torch.rand(3, *SIZE)
    (logits,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    np.testing.assert_allclose(logits, td(x).detach().numpy(), rtol=1e-3, atol=1e-4)


@SOME
def test_deepcopy(name: str) -> None:
    td = convert(name).eval()
    twin = copy.deepcopy(td)
    x = torch.rand(2, *SIZE)
    assert isinstance(twin, TopDownNetwork)
    assert twin.plan == td.plan
    assert not twin.training
    assert str(twin.levels) == str(td.levels)
    torch.testing.assert_close(twin(x), td(x))
    with torch.no_grad():
        next(twin.parameters()).add_(1)
    assert not torch.equal(next(twin.parameters()), next(td.parameters()))


@pytest.mark.parametrize("options", [{}, {"memory_budget": 0.5}])
def test_a_pickled_network_is_the_same(options: dict[str, Any]) -> None:
    """With a function that no proxy can call, which fx's own pickles trace anew."""

    class Net(nn.Sequential):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = self[0](x)
            x = self[1](x + torch.zeros(x.shape[0], 1, *x.shape[2:], device=x.device))
            return x.mean((2, 3))

    model = Net(nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 4, 3, 2, 1))
    td = to_topdown(nn.Sequential(model, nn.Linear(4, 2)), input_size=SIZE, **options).eval()
    x = torch.rand(2, *SIZE)
    for module in (td, td.backbone()):
        twin = pickle.loads(pickle.dumps(module))
        assert type(twin).__mro__[1:] == type(module).__mro__[1:]
        assert (twin.plan, twin.level_ends) == (module.plan, module.level_ends)
        assert not twin.training
        assert twin.__dict__.get("_pieces") == module.__dict__.get("_pieces")
        torch.testing.assert_close(twin(x), module(x))


@SOME
def test_state_dict_round_trip(name: str, tmp_path: Path) -> None:
    td, other = convert(name).eval(), convert(name).eval()
    for p in td.parameters():
        nn.init.normal_(p, std=0.1)
    other.load_state_dict(td.state_dict())
    x = torch.rand(2, *SIZE)
    torch.testing.assert_close(other(x), td(x))
    save_topdown(td, tmp_path / "td.pt")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        loaded = load_topdown(tmp_path / "td.pt", TOPOLOGIES[name]()).eval()
    torch.testing.assert_close(loaded(x), td(x))


@SOME
def test_channels_last(name: str) -> None:
    td = convert(name).eval()
    x = torch.rand(2, *SIZE)
    plain = td(x)
    last = td.to(memory_format=torch.channels_last)(x.to(memory_format=torch.channels_last))
    torch.testing.assert_close(last, plain, rtol=1e-4, atol=1e-5)


@SOME
def test_autocast_bfloat16(name: str) -> None:
    td = convert(name).eval()
    x = torch.rand(2, *SIZE)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = td(x)
        logits.float().sum().backward()
    torch.testing.assert_close(logits.float(), td(x), rtol=0.1, atol=0.1)
    assert all(p.grad is not None for p in td.parameters())


@SOME
def test_double_and_the_gradient_as_one_vector(name: str) -> None:
    td = convert(name).double()
    td(torch.rand(2, *SIZE, dtype=torch.float64)).sum().backward()
    vector = parameters_to_vector(p.grad for p in td.parameters())
    assert vector.numel() == parameters_to_vector(td.parameters()).numel() == td.plan.parameters


def test_half_precision_model_gives_a_half_precision_network() -> None:
    model = TOPOLOGIES["deep stem"]().bfloat16()
    td = to_topdown(model, input_size=SIZE)
    assert {p.dtype for p in td.parameters()} == {torch.bfloat16}
    assert td(torch.rand(2, *SIZE, dtype=torch.bfloat16)).dtype is torch.bfloat16


def test_it_can_be_traced_again() -> None:
    td = convert("deep stem").eval()
    x = torch.rand(2, *SIZE)
    torch.testing.assert_close(torch.fx.symbolic_trace(td)(x), td(x))


def _train_one_step(rank: int, folder: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    td = convert("pre-activation")
    parallel = DistributedDataParallel(td)
    for step in range(2):  # a parameter without a gradient fails in the second step
        torch.manual_seed(10 * step + rank)
        parallel(torch.rand(4, *SIZE)).square().mean().backward()
    torch.save(parameters_to_vector(p.grad for p in td.parameters()), f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.exhaustive
def test_distributed_data_parallel(tmp_path: Path) -> None:
    mp.spawn(_train_one_step, args=(str(tmp_path),), nprocs=2)
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    torch.testing.assert_close(first, second)
