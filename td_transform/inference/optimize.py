"""The fastest way to run a network on images of one shape."""

from __future__ import annotations

import contextlib
import copy
import math
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from td_transform.errors import TopDownError, first_line
from td_transform.inference.rewrite import in_fewer_multiplications
from td_transform.inference.runtimes import NEEDS, Run, built, is_missing
from td_transform.inference.timing import seconds

Backend = Literal["auto", "onnxruntime", "openvino", "compile", "eager"]

# what the result may differ by, relative to the largest logit
_TOLERANCE = 1e-4
# of the other's time, what a way may take to be taken instead of it: less is noise
_FASTER = 0.97
# how often two ways are compared: at least, at most, and for how many seconds in between
_ROUNDS, _MOST_ROUNDS, _SECONDS = 5, 25, 2.0


class OptimizedNetwork(nn.Module):
    """What `optimize_for_inference` returns: images of the example's shape to logits.

    Args:
        run: the network in its runtime.
        backend: which one that is.
        rewritten: convolutions that are computed in fewer multiplications.
        pieces: of a batch, that run side by side, each on a thread of its own.
        shape: of the images.
    """

    def __init__(
        self, run: Run, backend: str, rewritten: int, pieces: int, shape: torch.Size
    ) -> None:
        super().__init__()
        self._run = run
        self.backend = backend
        self.rewritten = rewritten
        self.pieces = pieces
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
        return (
            f"backend={self.backend}, rewritten={self.rewritten}, pieces={self.pieces}, "
            f"shape={tuple(self.shape)}"
        )


def optimize_for_inference(
    model: nn.Module, example: Tensor, *, backend: Backend = "auto"
) -> OptimizedNetwork:
    """The same function in a runtime for inference, with the weights as they are now.

    ONNX Runtime is also given the network with some convolutions in fewer multiplications (Winograd's
    for wide ones, 3 x 3 over an upsampled map at the coarse resolution), and keeps that where it is
    faster on the example; weights then take up to four times their memory. A batch that can be parted
    among torch's threads is also run in pieces, each on a thread of its own.

    Args:
        model: a network, bottom-up or top-down; it is left as it is.
        example: images (N, C, H, W) of the shape that it will be called with.
        backend: `onnxruntime`, `openvino` (both on the CPU), `compile`: torch's compiler with frozen
            weights, channels last, on the example's device, or `eager`: torch as it is. `auto` is
            the fastest on the example of `eager` and of the first two, of those that are installed;
            of `eager` and `compile` where there is none, and for an example that isn't on the CPU;
            one that can't run the network is left out.

    Raises:
        TopDownError: the example is none of the model's; the backend is unknown or not installed,
            can't run the network, or gives other logits on the example.

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
    frozen = copy.deepcopy(model).requires_grad_(False)
    frozen.eval()
    try:
        with torch.no_grad():
            expected = frozen(example)
    except TopDownError:
        raise
    except Exception as error:
        raise TopDownError(
            "argument 'example'",
            seen=first_line(error),
            expected="images that the model runs on",
            remedy="pass a batch (N, C, H, W) as you would pass it to the model in eval mode, where it is",
        ) from error
    if not isinstance(expected, Tensor):
        raise TopDownError(
            "the output", seen=f"a {type(expected).__name__}", expected="one tensor",
            remedy="wrap the network in a module whose forward returns one of its outputs",
        )  # fmt: skip
    if backend != "auto":
        fastest = _fastest(backend, frozen, example, expected)
    else:
        fastest = _fastest("eager", frozen, example, expected)
        for name in _candidates(example):
            # a runtime that can't run it is none of its ways; asked for by name, it says why
            with contextlib.suppress(TopDownError):
                fastest = _faster(fastest, _fastest(name, frozen, example, expected), example)
    return OptimizedNetwork(
        fastest.run, fastest.backend, fastest.rewritten, fastest.pieces, example.shape
    )


@dataclass(frozen=True)
class _Way:
    """A network in a runtime, its logits on the example, and what was changed to make it faster."""

    backend: str
    run: Run
    logits: Tensor
    rewritten: int = 0
    pieces: int = 1


def _candidates(example: Tensor) -> list[str]:
    on_cpu = example.device.type == "cpu"
    found = [n for n, needed in NEEDS.items() if on_cpu and not any(map(is_missing, needed))]
    return found or ["compile"]


def _fastest(backend: str, model: nn.Module, example: Tensor, expected: Tensor) -> _Way:
    """The network as it is, which has to be right; in pieces and rewritten where that is better."""
    best = _Way(backend, *built(backend, model, example))
    error = _error(best.logits, expected)
    if not error <= _TOLERANCE:
        raise TopDownError(
            f"backend '{backend}'", seen=f"logits on the example that differ by {error:.1e}",
            expected=f"at most {_TOLERANCE:.0e} of the largest", remedy="pass another backend",
        )  # fmt: skip
    if backend != "onnxruntime":
        return best
    threads = torch.get_num_threads()
    separable = threads > 1 and _is_separable(model, example, threads)
    for pieces in (1, threads) if separable else (1,):
        piece = example[: len(example) // pieces]
        for other, changed in _variants(model, piece):
            if (changed, pieces) != (0, 1):
                run, logits = built(backend, other, example, pieces)
                best = _better(best, _Way(backend, run, logits, changed, pieces), example, expected)
    return best


def _variants(model: nn.Module, piece: Tensor) -> Iterator[tuple[nn.Module, int]]:
    """The network as it is, and with so many convolutions rewritten."""
    yield model, 0
    other, changed = in_fewer_multiplications(model, piece)
    if changed:
        yield other, changed


def _is_separable(model: nn.Module, example: Tensor, pieces: int) -> bool:
    """Whether a batch falls into equal pieces whose logits are those of the whole."""
    if len(example) % pieces:
        return False
    noise = torch.rand(example.shape, generator=torch.Generator().manual_seed(0))
    images = example + noise.to(example)
    # what can't run a piece doesn't fall into pieces
    with torch.no_grad(), contextlib.suppress(Exception):
        parts = [model(part) for part in images.chunk(pieces)]
        return _error(torch.cat(parts), model(images)) <= _TOLERANCE
    return False


def _error(found: Tensor, expected: Tensor) -> float:
    if found.shape != expected.shape:
        return math.inf
    return float((found - expected).abs().max() / expected.abs().max().clamp(min=1e-30))


def _better(best: _Way, other: _Way, example: Tensor, expected: Tensor) -> _Way:
    """The other way, if it is as accurate as it has to be, and faster."""
    if not _error(other.logits, expected) <= _TOLERANCE:
        return best
    return _faster(best, other, example)


def _faster(best: _Way, other: _Way, example: Tensor) -> _Way:
    """The other way, if in most rounds it takes clearly less time."""
    ratios: list[float] = []
    end = time.perf_counter() + _SECONDS
    while len(ratios) < _ROUNDS or (len(ratios) < _MOST_ROUNDS and time.perf_counter() < end):
        ratios.append(_seconds(other.run, example) / _seconds(best.run, example))
    return other if statistics.median(ratios) < _FASTER else best


def _seconds(run: Run, example: Tensor) -> float:
    # on a GPU the copy waits for the logits
    return seconds(lambda: run(example).cpu(), example.device)
