"""What reads a sequence step by step."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn

from td_transform.operators.dimensions import TensorInfo
from td_transform.operators.registry import Call
from td_transform.operators.resizing import set_parameter
from td_transform.operators.rules import as_width
from td_transform.operators.widths import Width


def recurrent(call: Call) -> Any:
    """`nn.RNN`, `nn.GRU`, `nn.LSTM`: only the width that they read follows, their states are their own.

    The steps that come out are no axis of a map: each has seen others.
    """
    call.size(**{"in": as_width(call.dims()[-1])})
    return _numbers(call.values[call.node])


def step_axis(module: nn.Module, x: object) -> int | None:
    """Along which axis torch's recurrent layers step; None for all else, and for packed sequences."""
    if not isinstance(x, Tensor) or type(module) not in (nn.RNN, nn.GRU, nn.LSTM):
        return None
    return 1 if module.batch_first and x.dim() == 3 else 0


def run_one_step(forward: Any, axis: int, x: Tensor, *args: Any, **kwargs: Any) -> Any:
    """Results of the right shapes, every step's alike: torch takes milliseconds for each on the meta
    device."""
    output, state = forward(x.narrow(axis, 0, 1), *args, **kwargs)
    counts = [1] * output.dim()
    counts[axis] = x.shape[axis]
    return output.repeat(counts), state


def _numbers(value: Any) -> Any:
    if isinstance(value, TensorInfo):
        return tuple(map(Width.of, value.shape))
    return tuple(map(_numbers, value)) if isinstance(value, tuple) else None


def resize_recurrent(module: Any, sizes: Mapping[str, int]) -> None:
    """The first layer's weights, of both directions, for other inputs."""
    module.input_size = sizes["in"]
    module._flat_weights = [*module._flat_weights]  # a copied module shares the list
    for name in ("weight_ih_l0", "weight_ih_l0_reverse"):
        if hasattr(module, name):
            set_parameter(module, name, (getattr(module, name).shape[0], sizes["in"]))
