"""Inference: a network handed to a runtime that fuses and lays out what torch runs operator by operator."""

from __future__ import annotations

import copy
import importlib.util
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from td_transform.errors import TopDownError

Backend = Literal["auto", "onnxruntime", "openvino", "compile"]
Run = Callable[[Tensor], Tensor]

# what the result may differ by, relative to the largest logit
_TOLERANCE = 1e-4
_ROUNDS = 3


class OptimizedNetwork(nn.Module):
    """What `optimize_for_inference` returns: images of the example's shape to logits.

    Args:
        run: the network in its runtime.
        backend: which one that is.
        shape: of the images.
    """

    def __init__(self, run: Run, backend: str, shape: torch.Size) -> None:
        super().__init__()
        self._run = run
        self.backend = backend
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
        return f"backend={self.backend}, shape={tuple(self.shape)}"


def optimize_for_inference(
    model: nn.Module, example: Tensor, *, backend: Backend = "auto"
) -> OptimizedNetwork:
    """The same function in a runtime for inference, with the weights as they are now.

    Args:
        model: a network, bottom-up or top-down; it is left as it is.
        example: images (N, C, H, W) of the shape that it will be called with.
        backend: `onnxruntime`, `openvino` (both on the CPU), or `compile`: torch's compiler with
            frozen weights, channels last, on the example's device. `auto` is the faster of the first
            two on the example, of those that are installed; `compile` where there is none, and for
            an example that doesn't live on the CPU.

    Raises:
        TopDownError: the backend is unknown or not installed, or gives other logits on the example.

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
    names = _candidates(example) if backend == "auto" else [backend]
    runs = {name: _built(name, frozen, example) for name in names}
    with torch.no_grad():
        expected = frozen(example)
    for name, run in runs.items():
        _check(name, run(example), expected)
    fastest = (
        min(runs, key=lambda name: _seconds(runs[name], example)) if len(runs) > 1 else names[0]
    )
    return OptimizedNetwork(runs[fastest], fastest, example.shape)


def _candidates(example: Tensor) -> list[str]:
    on_cpu = example.device.type == "cpu"
    found = [n for n, needed in _NEEDS.items() if on_cpu and not any(map(_is_missing, needed))]
    return found or ["compile"]


def _is_missing(package: str) -> bool:
    return importlib.util.find_spec(package) is None


def _built(backend: str, model: nn.Module, example: Tensor) -> Run:
    missing = [package for package in _NEEDS.get(backend, ()) if _is_missing(package)]
    if missing:
        raise TopDownError(
            f"backend '{backend}'", seen=f"no package {', '.join(missing)}",
            expected="it to be installed", remedy=f"pip install {' '.join(_NEEDS[backend])}",
        )  # fmt: skip
    return _BUILDERS[backend](model, example)


def _check(backend: str, found: Tensor, expected: Tensor) -> None:
    error = float((found - expected).abs().max() / expected.abs().max().clamp(min=1e-30))
    if not error <= _TOLERANCE:
        raise TopDownError(
            f"backend '{backend}'", seen=f"logits on the example that differ by {error:.1e}",
            expected=f"at most {_TOLERANCE:.0e} of the largest", remedy="pass another backend",
        )  # fmt: skip


def _seconds(run: Run, example: Tensor) -> float:
    """The best of some rounds."""
    times = []
    for _ in range(_ROUNDS):
        start = time.perf_counter()
        run(example)
        times.append(time.perf_counter() - start)
    return min(times)


def _onnxruntime(model: nn.Module, example: Tensor) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        program = torch.onnx.export(model, (example,), dynamo=True, verbose=False)
        if program is None:
            raise TopDownError(
                "backend 'onnxruntime'", seen="an export without a program",
                expected="an ONNX program", remedy="pass another backend",
            )  # fmt: skip
        program.save(path)
        session = onnxruntime.InferenceSession(path, options, ["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda images: torch.from_numpy(session.run(None, {name: images.numpy()})[0])


def _openvino(model: nn.Module, example: Tensor) -> Run:
    import openvino

    settings = {
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "PERFORMANCE_HINT": "LATENCY",
        # bfloat16, its default where the processor has it, is off by more than the tolerance
        "INFERENCE_PRECISION_HINT": "f32",
    }
    converted = openvino.convert_model(model, example_input=example)
    compiled = openvino.compile_model(converted, "CPU", settings)
    return lambda images: torch.from_numpy(compiled(images.numpy())[0].copy())


def _compile(model: nn.Module, example: Tensor) -> Run:
    from torch._inductor import config

    last = torch.channels_last if example.dim() == 4 else torch.preserve_format
    model = model.to(memory_format=last)  # type: ignore[call-overload]
    compiled = torch.compile(model, fullgraph=True, dynamic=False)

    def run(images: Tensor) -> Tensor:
        with torch.no_grad(), config.patch(freezing=True):
            return compiled(images.to(memory_format=last))  # type: ignore[no-any-return]

    return run


_NEEDS = {"onnxruntime": ("onnxruntime", "onnx", "onnxscript"), "openvino": ("openvino",)}
_BUILDERS: dict[str, Callable[[nn.Module, Tensor], Run]] = {
    "onnxruntime": _onnxruntime, "openvino": _openvino, "compile": _compile,
}  # fmt: skip
