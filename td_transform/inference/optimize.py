"""The fastest way to run a network on images of one shape."""

from __future__ import annotations

import contextlib
import copy
import time
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from td_transform.errors import TopDownError
from td_transform.inference.rewrite import in_fewer_multiplications
from td_transform.inference.runtimes import NEEDS, Run, built, is_missing

Backend = Literal["auto", "onnxruntime", "openvino", "compile", "eager"]

# what the result may differ by, relative to the largest logit
_TOLERANCE = 1e-4
_ROUNDS = 5


class OptimizedNetwork(nn.Module):
    """What `optimize_for_inference` returns: images of the example's shape to logits.

    Args:
        run: the network in its runtime.
        backend: which one that is.
        rewritten: convolutions that are computed in fewer multiplications.
        shape: of the images.
    """

    def __init__(self, run: Run, backend: str, rewritten: int, shape: torch.Size) -> None:
        super().__init__()
        self._run = run
        self.backend = backend
        self.rewritten = rewritten
        self.shape = shape

    def forward(self, images: Tensor) -> Tensor:
        """
        Raises:
            TopDownError: the images have another shape than the example.
        """
        if images.shape != self.shape:
            raise TopDownError(
                f"images of {tuple(images.shape)}", seen="another shape than the example's",
                expected=str(tuple(self.shape)),
                remedy="call optimize_for_inference with an example of this shape",
            )  # fmt: skip
        return self._run(images)

    def extra_repr(self) -> str:
        return f"backend={self.backend}, rewritten={self.rewritten}, shape={tuple(self.shape)}"


def optimize_for_inference(
    model: nn.Module, example: Tensor, *, backend: Backend = "auto"
) -> OptimizedNetwork:
    """The same function in a runtime for inference, with the weights as they are now.

    ONNX Runtime is also given the network with some convolutions in fewer multiplications (Winograd's
    for wide ones, 3 x 3 over an upsampled map at the coarse resolution), and keeps that where it is
    faster on the example; weights then take up to four times their memory.

    Args:
        model: a network, bottom-up or top-down; it is left as it is.
        example: images (N, C, H, W) of the shape that it will be called with.
        backend: `onnxruntime`, `openvino` (both on the CPU), `compile`: torch's compiler with frozen
            weights, channels last, on the example's device, or `eager`: torch as it is. `auto` is
            the fastest on the example of `eager` and of the first two, of those that are installed;
            of `eager` and `compile` where there is none, and for an example that isn't on the CPU;
            one that can't run the network is left out.

    Raises:
        TopDownError: the backend is unknown or not installed, can't run the network, or gives other
            logits on the example.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        >>> image = torch.rand(1, 3, 16, 16)
        >>> fast = optimize_for_inference(net, image, backend="onnxruntime")
        >>> torch.allclose(fast(image), net(image), atol=1e-5)
        True
    """
    if backend not in get_args(Backend):
        raise TopDownError(
            "argument 'backend'", seen=repr(backend),
            expected=" or ".join(map(repr, get_args(Backend))), remedy="pass backend='auto'",
        )  # fmt: skip
    frozen = copy.deepcopy(model).eval().requires_grad_(False)
    with torch.no_grad():
        expected = frozen(example)
    if backend != "auto":
        ways = _ways(backend, frozen, example, expected)
    else:
        ways = _ways("eager", frozen, example, expected)
        for name in _candidates(example):
            # a runtime that can't run it is none of its ways; asked for by name, it says why
            with contextlib.suppress(TopDownError):
                ways += _ways(name, frozen, example, expected)
    fastest = _fastest(ways, example)
    return OptimizedNetwork(fastest.run, fastest.backend, fastest.rewritten, example.shape)


@dataclass(frozen=True)
class _Way:
    """A network in a runtime, with so many convolutions rewritten."""

    backend: str
    run: Run
    rewritten: int = 0


def _candidates(example: Tensor) -> list[str]:
    on_cpu = example.device.type == "cpu"
    found = [n for n, needed in NEEDS.items() if on_cpu and not any(map(is_missing, needed))]
    return found or ["compile"]


def _ways(backend: str, model: nn.Module, example: Tensor, expected: Tensor) -> list[_Way]:
    """The network as it is, which has to be right, and rewritten, where that is accurate enough."""
    run, found = built(backend, model, example)
    error = _error(found, expected)
    if not error <= _TOLERANCE:
        raise TopDownError(
            f"backend '{backend}'", seen=f"logits on the example that differ by {error:.1e}",
            expected=f"at most {_TOLERANCE:.0e} of the largest", remedy="pass another backend",
        )  # fmt: skip
    ways = [_Way(backend, run)]
    if backend == "onnxruntime":
        other, changed = in_fewer_multiplications(model, example)
        if changed:
            run, found = built(backend, other, example)
            if _error(found, expected) <= _TOLERANCE:
                ways.append(_Way(backend, run, changed))
    return ways


def _error(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).abs().max() / expected.abs().max().clamp(min=1e-30))


def _fastest(ways: list[_Way], example: Tensor) -> _Way:
    """By the best of some rounds, in turn, so that a busy moment doesn't decide."""
    if len(ways) == 1:
        return ways[0]
    rounds = [[_seconds(way.run, example) for way in ways] for _ in range(_ROUNDS)]
    best = [min(times) for times in zip(*rounds, strict=True)]
    return ways[best.index(min(best))]


def _seconds(run: Run, example: Tensor) -> float:
    start = time.perf_counter()
    run(example)
    return time.perf_counter() - start
