"""What a training step keeps and needs, counted by the allocator itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile


@dataclass(frozen=True)
class Memory:
    """Bytes beyond what was there before the step.

    Args:
        kept: after the forward pass, for the backward pass.
        peak: the most at any time, gradients included.
    """

    kept: int
    peak: int


def memory(forward: Callable[[], Tensor], device: torch.device) -> Memory:
    """The memory of one forward and backward pass; `forward` gives the loss."""
    return _on_gpu(forward, device) if device.type == "cuda" else _on_cpu(forward)


def _on_cpu(forward: Callable[[], Tensor]) -> Memory:
    """The profiler records every allocation and release of torch's CPU allocator."""
    loss: Tensor | None = None
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as run:
        loss = forward()
        with torch.profiler.record_function("backward starts"):
            pass
        loss.backward()
    results = run.profiler.kineto_results if run.profiler is not None else None
    kept = current = peak = 0
    for event in sorted(results.events() if results else [], key=lambda event: event.start_ns()):
        if event.name() == "backward starts":
            kept = current
        elif event.name() == "[memory]":
            current += event.nbytes()
            peak = max(peak, current)
    return Memory(kept, peak)


def _on_gpu(forward: Callable[[], Tensor], device: torch.device) -> Memory:
    before = torch.cuda.memory_allocated(device)
    torch.cuda.reset_peak_memory_stats(device)
    loss = forward()
    kept = torch.cuda.memory_allocated(device) - before
    loss.backward()
    return Memory(kept, torch.cuda.max_memory_allocated(device) - before)
