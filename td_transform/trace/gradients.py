"""Autograd functions of the user's own: one call in the graph, where their backward is another than that
of their forward (a straight-through estimator, a gradient that is reversed)."""

from __future__ import annotations

import functools
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.autograd.function import _SingleLevelFunction

from td_transform.layers import Applied
from td_transform.operators import Call, Operator, TensorInfo, function_operator, register_operator
from td_transform.operators.opaque import everything
from td_transform.operators.rules import same
from td_transform.operators.widths import Conflict
from td_transform.trace.source import is_users

_PLAIN = (type(None), bool, int, float, str)
_are_close = functools.partial(torch.allclose, rtol=1e-4, atol=1e-6, equal_nan=True)


class Listener(Protocol):
    """Who wants to know of autograd functions that are applied in this thread."""

    def applied(self, function: Any, args: tuple[Any, ...], run: Callable[[], Any]) -> Any:
        """Such a function is applied; `run` does it."""

    def asked_for_gradient(self, answer: bool) -> None:
        """`torch.is_grad_enabled` was called."""


_is_grad_enabled = torch.is_grad_enabled
_lock = threading.Lock()
_listeners: dict[int, Listener] = {}  # by thread


@contextmanager
def told_of_gradients(listener: Listener) -> Iterator[None]:
    """While this lasts, the listener does what this thread's autograd functions are asked to do, and is
    told who asks for the gradient."""
    thread = threading.get_ident()
    with _lock:
        _listeners[thread] = listener
        setattr(_SingleLevelFunction, "apply", classmethod(_apply))  # noqa: B010
        torch.is_grad_enabled = _asked
    try:
        yield
    finally:
        with _lock:
            del _listeners[thread]
            if not _listeners:
                delattr(_SingleLevelFunction, "apply")
                torch.is_grad_enabled = _is_grad_enabled


def _apply(function: Any, *args: Any) -> Any:
    run = functools.partial(super(_SingleLevelFunction, function).apply, *args)
    listener = _listeners.get(threading.get_ident())
    if listener is None or function.__module__.startswith("torch."):
        return run()
    return listener.applied(function, args, run)


def _asked() -> bool:
    answer = _is_grad_enabled()
    listener = _listeners.get(threading.get_ident())
    if listener is not None and is_users(sys._getframe(1).f_code.co_filename):
        listener.asked_for_gradient(answer)
    return answer


def is_plain(args: tuple[Any, ...]) -> bool:
    """Are all arguments tensors, numbers or strings, so that a graph can have them?"""
    return all(isinstance(x, (Tensor, *_PLAIN)) for x in args)


def has_own_gradient(function: Any, args: tuple[Any, ...]) -> bool:
    """Does its backward give another gradient than its forward would by itself, on random tensors?"""
    # one whose forward runs only within autograd, or on no random tensors, is kept as it is
    return _tried(_gradients_differ, function, args, otherwise=True)


def _gradients_differ(function: Any, args: tuple[Any, ...]) -> bool:
    with _aside():
        given, alone = _random(args), _random(args)
        mine = _gradients(function.apply(*given), given)
        its = _gradients(_forward(function, alone), alone)
        return not all(map(_are_close, mine, its))


def _tried(
    question: Callable[[Any, tuple[Any, ...]], bool],
    function: Any,
    args: tuple[Any, ...],
    *,
    otherwise: bool,
) -> bool:
    """The answer on small tensors, where all have one shape and the function takes them, else on some
    like those given."""
    for chosen in [_cut(args), args] if _have_one_shape(args) else [args]:
        with suppress(Exception):
            return question(function, chosen)
    return otherwise


def _have_one_shape(args: tuple[Any, ...]) -> bool:
    return len({tuple(x.shape) for x in args if isinstance(x, Tensor)}) == 1


def _cut(args: tuple[Any, ...]) -> tuple[Any, ...]:
    """At most four steps along an axis: enough to tell, in a network that applies it a hundred times."""
    return tuple(
        x[tuple(slice(0, 4) for _ in x.shape)] if isinstance(x, Tensor) else x for x in args
    )


def as_operator(function: Any, args: tuple[Any, ...]) -> Callable[..., Any]:
    """A function that applies it, which the registry knows: element-wise where it commutes with a change
    of order, else with the rule of the class, if it has one."""
    call = _caller(function)
    known = function_operator(function)
    if known is not None:
        role, infer, reach = known.role, known.infer, known.reach
    elif _is_elementwise(function, args):
        role, infer, reach = "combine", same, None
    else:
        role, infer, reach = "opaque", _unknown, everything
    operator = Operator(
        function.__name__, role, infer, reach=reach, as_module=lambda c: _layer(function, c)
    )
    register_operator(call, operator)
    return call


@functools.cache
def _caller(function: Any) -> Callable[..., Any]:
    def call(*args: Any) -> Any:
        return function.apply(*args)

    call.__name__, call.__qualname__ = function.__name__, function.__qualname__
    return call


def _unknown(call: Call) -> Any:
    raise Conflict("an autograd function that isn't element-wise")


def _layer(function: Any, call: Call) -> Applied:
    values = {
        i: call.values[arg] if isinstance(arg, torch.fx.Node) else arg
        for i, arg in enumerate(call.node.args)
    }
    return Applied(function, {i: v for i, v in values.items() if not isinstance(v, TensorInfo)})


def _is_elementwise(function: Any, args: tuple[Any, ...]) -> bool:
    return _have_one_shape(args) and _tried(_commutes_with_order, function, args, otherwise=False)


def _commutes_with_order(function: Any, args: tuple[Any, ...]) -> bool:
    with _aside(), torch.no_grad():
        given = _random(args)
        order = torch.randperm(max(1, next(x for x in given if isinstance(x, Tensor)).numel()))

        def shuffled(x: Any) -> Any:
            return x.flatten()[order].view(x.shape) if isinstance(x, Tensor) else x

        there, back = shuffled(function.apply(*given)), function.apply(*map(shuffled, given))
        return _are_close(there, back)


@contextmanager
def _aside() -> Iterator[None]:
    """What is tried out leaves no trace."""
    with torch._C.DisableTorchFunction(), torch.random.fork_rng([]), torch.enable_grad():
        yield


def _random(args: tuple[Any, ...]) -> list[Any]:
    """Random tensors like those given, the same at every call."""
    generator = torch.Generator().manual_seed(0)

    def like(x: Any) -> Any:
        if not isinstance(x, Tensor):
            return x
        if not x.dtype.is_floating_point:
            return torch.zeros(x.shape, dtype=x.dtype)
        return torch.randn(x.shape, generator=generator).to(x.dtype).requires_grad_()

    return [like(x) for x in args]


def _forward(function: Any, args: list[Any]) -> Any:
    if function.setup_context is not torch.autograd.Function.setup_context:
        return function.forward(*args)
    return function.forward(_Context(), *args)


class _Context:
    """Takes whatever a forward leaves for its backward."""

    def __getattr__(self, name: str) -> Any:
        return lambda *args, **kwargs: None


def _gradients(result: Tensor, args: list[Any]) -> list[Tensor]:
    learned = [x for x in args if isinstance(x, Tensor) and x.requires_grad]
    if not result.requires_grad:
        return [torch.zeros_like(x) for x in learned]
    weight = torch.linspace(0.5, 1.5, max(1, result.numel())).to(result.dtype).view(result.shape)
    found = torch.autograd.grad(result, learned, weight, allow_unused=True)
    return [torch.zeros_like(x) if g is None else g for x, g in zip(learned, found, strict=True)]
