"""A network in a runtime for inference gives the same logits."""

from __future__ import annotations

import importlib.util
import threading
import time
import warnings
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from td_transform import TopDownError, optimize_for_inference, to_topdown
from td_transform.inference import optimize, runtimes
from tests.networks import TOPOLOGIES

needs_openvino = pytest.mark.skipif(
    importlib.util.find_spec("openvino") is None, reason="needs openvino"
)
BACKENDS = ["onnxruntime", pytest.param("openvino", marks=needs_openvino), "compile", "auto"]


def network(name: str) -> nn.Module:
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return to_topdown(TOPOLOGIES[name](), input_size=(3, 32, 32))


@pytest.mark.exhaustive
@pytest.mark.parametrize("backend", BACKENDS)
def test_logits_are_those_of_the_network(backend: str) -> None:
    td = network("pre-activation")
    images = torch.rand(2, 3, 32, 32)
    fast = optimize_for_inference(td, torch.rand(2, 3, 32, 32), backend=backend)  # type: ignore[arg-type]
    assert td.training, "the network itself is left as it is"
    with torch.no_grad():
        expected = td.eval()(images)
    assert (fast(images) - expected).abs().max() <= 1e-4 * expected.abs().max()
    with pytest.raises(TopDownError, match=r"images of \(1, 3, 32, 32\).*\(2, 3, 32, 32\)"):
        fast(images[:1])


@pytest.mark.parametrize("backend", ["onnxruntime", "openvino"])
def test_a_missing_package_is_named(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(TopDownError, match=rf"no package {backend}.*pip install {backend}"):
        optimize_for_inference(nn.Conv2d(3, 4, 1), torch.rand(1, 3, 8, 8), backend=backend)  # type: ignore[arg-type]


def test_an_unknown_backend() -> None:
    with pytest.raises(TopDownError, match=r"argument 'backend'.*'onnxruntime' or 'openvino'"):
        optimize_for_inference(nn.Conv2d(3, 4, 1), torch.rand(1, 3, 8, 8), backend="tvm")  # type: ignore[arg-type]


def test_other_logits_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """As bfloat16 gives them."""
    net = nn.Conv2d(3, 4, 1)
    monkeypatch.setitem(
        runtimes.BUILDERS, "compile", lambda model, example, threads: lambda x: 1.001 * model(x)
    )
    with pytest.raises(TopDownError, match=r"differ by 1\.0e-03.*pass another backend"):
        optimize_for_inference(net, torch.rand(1, 3, 8, 8), backend="compile")


def test_the_network_is_frozen_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    net, images = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)), torch.rand(2, 3, 8, 8)
    monkeypatch.setitem(runtimes.BUILDERS, "compile", lambda model, example, threads: model)
    fast = optimize_for_inference(net, images, backend="compile")
    expected = net.eval()(images)
    nn.init.zeros_(net[0].weight)
    torch.testing.assert_close(fast(images), expected)
    with pytest.raises(TopDownError, match=r"images of \(1, 3, 8, 8\).*\(2, 3, 8, 8\)"):
        fast(images[:1])


@pytest.mark.parametrize(("factor", "rewritten"), [(1.0, 3), (1.001, 0)])
def test_a_rewritten_network_is_taken_where_it_is_right_and_faster(
    factor: float, rewritten: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    net = nn.Conv2d(3, 4, 1).requires_grad_(False)

    class Other(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return factor * net(x)

    monkeypatch.setitem(runtimes.BUILDERS, "onnxruntime", lambda model, example, threads: model)
    monkeypatch.setattr(optimize, "in_fewer_multiplications", lambda model, x: (Other(), 3))
    monkeypatch.setattr(optimize, "_seconds", lambda run, x: 1 if isinstance(run, Other) else 2)
    fast = optimize_for_inference(net, torch.rand(1, 3, 8, 8), backend="onnxruntime")
    assert fast.rewritten == rewritten
    assert f"rewritten={rewritten}" in repr(fast)


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.exhaustive
@pytest.mark.parametrize(("batch", "pieces"), [(4, 2), (3, 1)])
def test_pieces_give_the_logits_of_the_whole(
    batch: int, pieces: int, two_threads: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(optimize, "_faster", lambda best, other, example: other)
    td = network("pre-activation").eval()
    images = torch.rand(batch, 3, 32, 32)
    fast = optimize_for_inference(td, torch.rand(batch, 3, 32, 32), backend="onnxruntime")
    assert fast.pieces == pieces
    with torch.no_grad():
        expected = td(images)
    assert (fast(images) - expected).abs().max() <= 1e-4 * expected.abs().max()


@pytest.mark.parametrize(("seconds", "pieces"), [(0.9, 2), (0.99, 1), (1.1, 1)])
def test_a_batch_is_run_in_pieces_where_that_is_clearly_faster(
    seconds: float, pieces: int, two_threads: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    net, images = nn.Sequential(nn.Conv2d(3, 4, 1), nn.Flatten()), torch.rand(4, 3, 8, 8)
    seen: set[int] = set()

    def build(model: nn.Module, example: Tensor, threads: int) -> runtimes.Run:
        def run(piece: Tensor) -> Tensor:
            assert piece.shape == example.shape
            seen.add(threading.get_ident())
            return model(piece).detach()  # type: ignore[no-any-return]

        return run

    whole = runtimes.side_by_side.__name__
    monkeypatch.setitem(runtimes.BUILDERS, "onnxruntime", build)
    monkeypatch.setattr(optimize, "in_fewer_multiplications", lambda model, x: (model, 0))
    monkeypatch.setattr(
        optimize, "_seconds", lambda run, x: seconds if whole in run.__qualname__ else 1
    )
    fast = optimize_for_inference(net, images, backend="onnxruntime")
    assert fast.pieces == pieces
    assert f"pieces={pieces}" in repr(fast)
    seen.clear()
    torch.testing.assert_close(fast(images), net(images).detach())
    assert len(seen) == pieces


class FixedBatch(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.reshape(4, -1)


@pytest.mark.parametrize(
    ("net", "batch", "separable"),
    [
        (nn.Conv2d(3, 4, 1), 4, True),
        (nn.Conv2d(3, 4, 1), 3, False),
        (nn.BatchNorm2d(3, track_running_stats=False), 4, False),
        (nn.Flatten(0), 4, True),
        (nn.Sequential(nn.Flatten(), nn.Softmax(0)), 4, False),
        (FixedBatch(), 4, False),
    ],
)
def test_what_mixes_images_is_not_parted(net: nn.Module, batch: int, separable: bool) -> None:
    images = torch.ones(batch, 3, 8, 8)
    assert optimize._is_separable(net.eval(), images, 2) == separable


def test_never_slower_than_the_network_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    net = nn.Conv2d(3, 4, 1)

    def slow(model: nn.Module, example: Tensor, threads: int) -> runtimes.Run:
        def run(images: Tensor) -> Tensor:
            time.sleep(0.02)
            return net(images).detach()

        return run

    monkeypatch.setattr(optimize, "NEEDS", {"onnxruntime": ()})
    monkeypatch.setitem(runtimes.BUILDERS, "onnxruntime", slow)
    fast = optimize_for_inference(net, torch.rand(1, 3, 8, 8))
    assert fast.backend == "eager"


def test_a_runtime_that_fails_is_named_or_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(model: nn.Module, example: Tensor, threads: int) -> runtimes.Run:
        raise RuntimeError("no operator aten::rot90")

    net, images = nn.Conv2d(3, 4, 1), torch.rand(1, 3, 8, 8)
    monkeypatch.setattr(optimize, "NEEDS", {"onnxruntime": ()})
    monkeypatch.setitem(runtimes.BUILDERS, "onnxruntime", fails)
    with pytest.raises(TopDownError, match=r"'onnxruntime'.*RuntimeError: no operator aten::rot90"):
        optimize_for_inference(net, images, backend="onnxruntime")
    assert optimize_for_inference(net, images).backend == "eager"
