"""Sliding windows: kernel, stride, dilation and padding of an operator's call."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from td_transform.layers.dimensions import per_axis
from td_transform.operators.dimensions import Window
from td_transform.operators.registry import Call


def _numbers(call: Call, value: Any) -> tuple[int, ...]:
    """An integer or a sequence, as one number for each axis that the operator slides over."""
    return tuple(map(int, per_axis(value, len(call.shape()) - 2)))


def _steps(call: Call, value: Any) -> tuple[Fraction, ...]:
    return tuple(map(Fraction, _numbers(call, value)))


def _kernel(call: Call) -> tuple[int, ...]:
    """Of a convolution, as a module or a function."""
    if call.module is None:
        return call.shape(call.option("weight", 1))[2:]
    return _numbers(call, call.option("kernel_size", 0))


def conv_window(call: Call) -> Window:
    kernel, dilation = _kernel(call), _numbers(call, call.number("dilation", 5, 1))
    return Window(
        kernel,
        _steps(call, call.number("stride", 3, 1)),
        dilation,
        _sides(call, call.number("padding", 4, 0), kernel, dilation),
    )


def _sides(
    call: Call, padding: Any, kernel: tuple[int, ...], dilation: tuple[int, ...]
) -> tuple[tuple[int, int], ...]:
    if padding == "same":
        spans = [d * (k - 1) for d, k in zip(dilation, kernel, strict=True)]
        return tuple((span // 2, span - span // 2) for span in spans)
    sides = _numbers(call, 0 if padding == "valid" else padding)
    return tuple((side, side) for side in sides)


def transposed_window(call: Call) -> Window:
    steps = _steps(call, call.number("stride", 3, 1))
    return Window(
        _kernel(call),
        tuple(1 / step for step in steps),
        _numbers(call, call.number("dilation", 7, 1)),
        ((0, 0),) * len(steps),
    )


def transposed_padding(call: Call) -> tuple[int, ...]:
    """Of a transposed convolution, along each axis."""
    return _numbers(call, call.number("padding", 4, 0))


def max_pool_window(call: Call) -> Window:
    return _pool_window(call, _numbers(call, call.number("dilation", 4, 1)))


def average_pool_window(call: Call) -> Window:
    return _pool_window(call, _numbers(call, 1))


def power_pool_window(call: Call) -> Window:
    """Nothing is padded; a function is given the power before the kernel."""
    kernel, stride = _numbers(call, call.number("kernel_size", 2)), call.number("stride", 3)
    whole = ((0, 0),) * len(kernel)
    return Window(kernel, _steps(call, stride if stride else kernel), _numbers(call, 1), whole)


def _pool_window(call: Call, dilation: tuple[int, ...]) -> Window:
    kernel = _numbers(call, call.number("kernel_size", 1))
    stride = call.number("stride", 2)
    return Window(
        kernel,
        _steps(call, stride if stride else kernel),
        dilation,
        _sides(call, call.number("padding", 3, 0), kernel, dilation),
    )


def unshuffle_window(call: Call) -> Window:
    factor = int(call.option("downscale_factor", 1))
    return Window((factor,) * 2, (Fraction(factor),) * 2, (1, 1), ((0, 0),) * 2)


def shuffle_window(call: Call) -> Window:
    return Window(stride=(Fraction(1, int(call.option("upscale_factor", 1))),) * 2)


def resize_window(call: Call) -> Window:
    sizes = zip(call.shape()[2:], call.values[call.node].shape[2:], strict=True)
    return Window(stride=tuple(Fraction(before, after) for before, after in sizes))
