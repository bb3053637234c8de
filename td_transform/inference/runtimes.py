"""Runtimes that can run a network: what they need, and how they are called."""

from __future__ import annotations

import importlib.util
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch
from torch import Tensor, nn

from td_transform.errors import TopDownError

Run = Callable[[Tensor], Tensor]


def is_missing(package: str) -> bool:
    return importlib.util.find_spec(package) is None


def built(backend: str, model: nn.Module, example: Tensor, pieces: int = 1) -> tuple[Run, Tensor]:
    """A network as the backend runs it, and its logits on the example.

    Args:
        pieces: of the batch, that run side by side; as many as torch has threads, or 1.
    """
    missing = [package for package in NEEDS.get(backend, ()) if is_missing(package)]
    if missing:
        raise TopDownError(
            f"backend '{backend}'", seen=f"no package {', '.join(missing)}",
            expected="it to be installed", remedy=f"pip install {' '.join(NEEDS[backend])}",
        )  # fmt: skip
    try:
        threads = torch.get_num_threads() // pieces
        run = BUILDERS[backend](model, example[: len(example) // pieces], threads)
        run = run if pieces == 1 else side_by_side(run, pieces)
        return run, run(example)
    except TopDownError:
        raise
    except Exception as error:
        raise TopDownError(
            f"backend '{backend}'", seen=f"{type(error).__name__}: {str(error).strip()[:200]}",
            expected="a network that it can run", remedy="pass another backend",
        ) from error  # fmt: skip


def side_by_side(run: Run, pieces: int) -> Run:
    """A batch in equal pieces, each on a thread of its own; a piece in the thread that calls."""
    others = ThreadPoolExecutor(pieces - 1)

    def whole(images: Tensor) -> Tensor:
        first, *rest = images.chunk(pieces)
        running = [others.submit(run, part) for part in rest]
        return torch.cat([run(first), *(part.result() for part in running)])

    return whole


def _onnxruntime(model: nn.Module, example: Tensor, threads: int) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    # its threads would spin on for tens of milliseconds, on processors that others want: a runtime
    # that is compared, torch's operators around it
    options.add_session_config_entry("session.force_spinning_stop", "1")
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


def _openvino(model: nn.Module, example: Tensor, threads: int) -> Run:
    import openvino

    settings = {
        "INFERENCE_NUM_THREADS": threads,
        "PERFORMANCE_HINT": "LATENCY",
        # bfloat16, its default where the processor has it, is off by more than the tolerance
        "INFERENCE_PRECISION_HINT": "f32",
    }
    converted = openvino.convert_model(model, example_input=example)
    compiled = openvino.compile_model(converted, "CPU", settings)
    return lambda images: torch.from_numpy(compiled(images.numpy())[0].copy())


def _compile(model: nn.Module, example: Tensor, threads: int) -> Run:
    from torch._inductor import config

    last = torch.channels_last if example.dim() == 4 else torch.preserve_format
    model = model.to(memory_format=last)  # type: ignore[call-overload]
    compiled = torch.compile(model, fullgraph=True, dynamic=False)

    def run(images: Tensor) -> Tensor:
        with torch.no_grad(), config.patch(freezing=True):
            return compiled(images.to(memory_format=last))  # type: ignore[no-any-return]

    return run


def _eager(model: nn.Module, example: Tensor, threads: int) -> Run:
    return torch.no_grad()(model)


NEEDS = {"onnxruntime": ("onnxruntime", "onnx", "onnxscript"), "openvino": ("openvino",)}
BUILDERS: dict[str, Callable[[nn.Module, Tensor, int], Run]] = {
    "onnxruntime": _onnxruntime, "openvino": _openvino, "compile": _compile, "eager": _eager,
}  # fmt: skip
