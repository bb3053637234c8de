"""Batch normalisation over the batches of all processes that train together."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from benchmarks.errors import BenchmarkError


def normalise_whole_batches(network: nn.Module) -> None:
    """Let a network's batch normalisations see the batches of all processes.

    Args:
        network: changed in place; its parameters and the names of its state stay.

    Raises:
        BenchmarkError: it holds a batch normalisation that is not torch's own.
    """
    kinds = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)
    for name, module in network.named_modules():
        if isinstance(module, _BatchNorm) and type(module) not in kinds:
            raise BenchmarkError(
                f"module '{name}' ({type(module).__name__})",
                seen="a batch normalisation with an own forward", expected="one of torch.nn's",
                remedy="train this network in one process, without torchrun",
            )  # fmt: skip
    if any(p.is_cuda for p in network.parameters()):
        nn.SyncBatchNorm.convert_sync_batchnorm(network)
        return
    for parent in list(network.modules()):
        for name, child in parent.named_children():
            if isinstance(child, _BatchNorm):
                setattr(parent, name, WholeBatchNorm.of(child))


class WholeBatchNorm(_BatchNorm):
    """Batch normalisation with mean and variance over the batches of all processes, on any device.

    Its state is that of `nn.BatchNorm2d`.
    """

    @classmethod
    def of(cls, module: _BatchNorm) -> WholeBatchNorm:
        """With the parameters, buffers and mode of another batch normalisation."""
        twin = cls(
            module.num_features, module.eps, module.momentum, module.affine,
            module.track_running_stats,
        )  # fmt: skip
        twin._parameters, twin._buffers = module._parameters, module._buffers
        return twin.train(module.training)

    def _check_input_dim(self, input: Tensor) -> None:
        """Any number of dimensions."""

    def forward(self, input: Tensor) -> Tensor:
        """A map or vector (N, C, ...) to one of the same shape."""
        if not self.training:
            return super().forward(input)
        over = [0, *range(2, input.dim())]
        shape = [1, -1] + [1] * (input.dim() - 2)
        count = _total(torch.tensor([input.numel() / input.shape[1]], device=input.device))
        mean = _total(input.float().sum(over)) / count
        centred = input.float() - mean.view(shape)
        variance = _total(centred.square().sum(over)) / count
        self._remember(mean.detach(), (variance * count / (count - 1)).detach())
        normalised = centred * (variance + self.eps).rsqrt().view(shape)
        if self.affine:
            normalised = normalised * self.weight.view(shape) + self.bias.view(shape)
        result: Tensor = normalised.to(input.dtype)
        return result

    @torch.no_grad()
    def _remember(self, mean: Tensor, variance: Tensor) -> None:
        if self.running_mean is None or self.running_var is None:
            return
        if self.num_batches_tracked is not None:
            self.num_batches_tracked.add_(1)
        momentum = self.momentum
        if momentum is None:
            momentum = 1.0 / float(self.num_batches_tracked or 1)
        self.running_mean.lerp_(mean, momentum)
        self.running_var.lerp_(variance, momentum)


def _total(value: Tensor) -> Tensor:
    """The sum over all processes."""
    total: Tensor = _Sum.apply(value)  # type: ignore[no-untyped-call]
    return total


class _Sum(torch.autograd.Function):
    """The sum over all processes; so is its gradient."""

    @staticmethod
    def forward(ctx: Any, value: Tensor) -> Tensor:
        total = value.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        total = gradient.contiguous().clone()
        dist.all_reduce(total)
        return total
