"""Sliding windows: kernel, stride, dilation and padding of an operator's call."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from td_transform.operators.indexing import slice_window
from td_transform.operators.registry import Call, TensorInfo, Window


def pair(value: Any) -> tuple[int, int]:
    """An integer or a sequence of one or two, as (vertical, horizontal)."""
    if isinstance(value, int):
        return value, value
    values = tuple(int(v) for v in value)
    return (values[0], values[0]) if len(values) == 1 else (values[0], values[1])


def _steps(value: Any) -> tuple[Fraction, Fraction]:
    vertical, horizontal = pair(value)
    return Fraction(vertical), Fraction(horizontal)


def conv_window(call: Call) -> Window:
    if call.module is None:
        weight = call.option("weight", 1)
        kernel = pair(call.shape(weight)[-2:])
    else:
        kernel = pair(call.option("kernel_size", 0))
    dilation = pair(call.number("dilation", 5, 1))
    padding = call.number("padding", 4, 0)
    return Window(
        kernel,
        _steps(call.number("stride", 3, 1)),
        dilation,
        _sides(padding, kernel, dilation),
    )


def _sides(
    padding: Any, kernel: tuple[int, int], dilation: tuple[int, int]
) -> tuple[tuple[int, int], tuple[int, int]]:
    if padding == "valid":
        padding = 0
    if padding == "same":
        spans = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
        return (spans[0] // 2, spans[0] - spans[0] // 2), (spans[1] // 2, spans[1] - spans[1] // 2)
    vertical, horizontal = pair(padding)
    return (vertical, vertical), (horizontal, horizontal)


def transposed_window(call: Call) -> Window:
    if call.module is None:
        kernel = pair(call.shape(call.option("weight", 1))[-2:])
    else:
        kernel = pair(call.option("kernel_size", 0))
    vertical, horizontal = _steps(call.number("stride", 3, 1))
    return Window(kernel, (1 / vertical, 1 / horizontal), pair(call.number("dilation", 7, 1)))


def max_pool_window(call: Call) -> Window:
    return _pool_window(call, pair(call.number("dilation", 4, 1)))


def average_pool_window(call: Call) -> Window:
    return _pool_window(call, (1, 1))


def _pool_window(call: Call, dilation: tuple[int, int]) -> Window:
    kernel = pair(call.number("kernel_size", 1))
    stride = call.number("stride", 2)
    return Window(
        kernel,
        _steps(stride if stride else kernel),
        dilation,
        _sides(call.number("padding", 3, 0), kernel, dilation),
    )


def unshuffle_window(call: Call) -> Window:
    factor = int(call.option("downscale_factor", 1))
    return Window((factor, factor), _steps(factor))


def shuffle_window(call: Call) -> Window:
    factor = Fraction(1, int(call.option("upscale_factor", 1)))
    return Window(stride=(factor, factor))


def resize_window(call: Call) -> Window:
    before, after = call.shape(), call.values[call.node].shape
    return Window(stride=(Fraction(before[-2], after[-2]), Fraction(before[-1], after[-1])))


def index_window(call: Call) -> Window:
    """Slicing a map with a step."""
    if not isinstance(call.values.get(call.input), TensorInfo) or len(call.shape()) < 4:
        return Window()
    return Window(stride=slice_window(call.node.args[1], len(call.shape())))
