"""What a network costs: parameters, multiply-adds, memory for activations, output resolution."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils.flop_counter import FlopCounterMode

from td_transform.analyse import analyse
from td_transform.emit import TopDownNetwork
from td_transform.errors import TopDownError, first_line
from td_transform.layers.dimensions import by
from td_transform.layers.parameters import parameters_of
from td_transform.storages import Storages, not_kept, storage_of
from td_transform.table import Table
from td_transform.trace import checked_input_size, make_skeleton, trace


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What one forward pass costs.

    Args:
        parameters: all of the module's, frozen ones and those of auxiliary heads too; no buffers.
        multiply_adds: of convolutions, linear layers and other matrix products, the pyramid's
            among them; norms, activations, poolings and sums are not counted.
        activation_bytes: what a forward pass keeps for the backward pass, in float32 and with
            every parameter trained: the bytes of all distinct tensors that autograd saves, beyond
            parameters, buffers and the input images. A tensor saved twice, or a view of it, counts
            once; the int64 indices of a max pooling count too. Dropout saves nothing, since the
            pass is in eval mode.
        output_size: (H, W), a number for each axis, of the last map before the head: a top-down
            network's finest level, what a bottom-up model's stages end in; None for a network
            without stages.
    """

    parameters: int
    multiply_adds: int
    activation_bytes: int
    output_size: tuple[int, ...] | None


def measure(model: nn.Module, input_size: tuple[int, ...], *, batch: int = 1) -> Cost:
    """The cost of a forward pass, found on the meta device: the model is neither run nor changed.

    Args:
        model: any module that maps images (N, C, H, W) to a result, top-down or not.
        input_size: (C, H, W).
        batch: images per pass; multiply-adds and activations are those of the whole batch.

    Raises:
        TopDownError: the model can't run at that size.

    Example:
        >>> from torch import nn
        >>> measure(nn.Conv2d(3, 8, 3, padding=1), (3, 32, 32)).multiply_adds
        221184
    """
    input_size = checked_input_size(model, input_size)
    parameters = sum(p.numel() for p in parameters_of(model))
    skeleton = make_skeleton(model).float()
    for parameter in parameters_of(skeleton):
        parameter.requires_grad_(parameter.is_floating_point())
    images = torch.empty(batch, *input_size, device="meta")
    saved = Storages()
    own = {storage_of(t) for t in (*parameters_of(skeleton), *skeleton.buffers(), images)}
    counter = FlopCounterMode(display=False)
    try:
        with torch.enable_grad(), counter, saved_tensors_hooks(saved.add, not_kept):
            skeleton(images)
    except Exception as error:
        raise _cannot_run(model, input_size, error) from error
    return Cost(
        parameters=parameters,
        multiply_adds=counter.get_total_flops() // 2,
        activation_bytes=sum(size for key, size in saved.sizes.items() if key not in own),
        output_size=_output_size(model, input_size),
    )


def _output_size(model: nn.Module, input_size: tuple[int, ...]) -> tuple[int, ...] | None:
    if isinstance(model, TopDownNetwork):
        plan = model.plan
        size = plan.image_size if plan.front else input_size
        return tuple(-(-s // f) for s, f in zip(size[1:], plan.levels[-1].strides, strict=True))
    try:
        found = analyse(trace(model, input_size))
    except TopDownError:
        return None
    return found.trunk.map_size(found.layout.head_start)


def _cannot_run(model: nn.Module, input_size: tuple[int, ...], error: Exception) -> TopDownError:
    return TopDownError(
        f"model {type(model).__name__}",
        seen=first_line(error),
        expected=f"a model that runs on an image of size {input_size}",
        remedy="pass the input_size=(C, H, W) that the model is made for",
    )


def cost_table(bottom_up: Cost, top_down: Cost) -> Table:
    """What both networks cost for one image, and the ratio.

    Args:
        bottom_up, top_down: what `measure` found.

    Example:
        >>> cost = Cost(parameters=8, multiply_adds=64, activation_bytes=512, output_size=(1, 1))
        >>> cost_table(cost, cost).rows[0]
        ['parameters', '8', '8', '1.00']
    """
    rows = [
        _row("parameters", bottom_up.parameters, top_down.parameters),
        _row("multiply-adds", bottom_up.multiply_adds, top_down.multiply_adds),
        _row("activations, bytes", bottom_up.activation_bytes, top_down.activation_bytes),
        _resolution_row(bottom_up.output_size, top_down.output_size),
    ]
    return Table(["per image", "bottom-up", "top-down", "ratio"], rows)


def _row(name: str, bottom_up: int, top_down: int) -> list[str]:
    return [name, f"{bottom_up:,}", f"{top_down:,}", _ratio(top_down, bottom_up)]


def _resolution_row(
    bottom_up: tuple[int, ...] | None, top_down: tuple[int, ...] | None
) -> list[str]:
    sizes = [by(size) if size is not None else "" for size in (bottom_up, top_down)]
    ratio = _ratio(top_down[-2:][0], bottom_up[-2:][0]) if bottom_up and top_down else ""
    return ["output resolution", *sizes, ratio]


def _ratio(top_down: int, bottom_up: int) -> str:
    return f"{top_down / bottom_up:.2f}" if bottom_up else ""
