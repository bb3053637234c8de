"""Sizes that remember how they were computed: integers that pass for integers everywhere.

``x.shape[2] // 2`` gives the integer that the forward expects, and keeps the expression behind it, so
that a recorded graph computes the size anew for every image. What leaves arithmetic (``range(n)``,
``int(n)``, ``math.sqrt(n)``, a list's index) is an ordinary number: frozen.
"""

from __future__ import annotations

import math
import operator as op
from collections.abc import Callable
from typing import Any, Protocol

_ARITHMETIC = {
    "add": op.add, "sub": op.sub, "mul": op.mul, "floordiv": op.floordiv, "truediv": op.truediv,
    "mod": op.mod, "pow": op.pow,
}  # fmt: skip
_UNARY: dict[str, Callable[[Any], Any]] = {
    "neg": op.neg, "pos": op.pos, "abs": op.abs,
    "ceil": math.ceil, "floor": math.floor, "trunc": math.trunc,
}  # fmt: skip
_COMPARISONS = ("eq", "ne", "lt", "le", "gt", "ge")


class UnhashableSizeError(TypeError):
    """A size was looked up in a table; caches keyed by sizes would freeze it, or keep it too long."""


class Observer(Protocol):
    """Who wants to know what becomes of a size."""

    hashable_sizes: bool

    def decided(self, outcome: bool) -> None:
        """A branch was taken on a size."""


class Expression:
    """How a size was computed: an operator and its arguments, down to ``size`` of a node.

    Args:
        target: the operator, or "size".
        args: numbers, expressions, or the node whose size it is.
        observer: whose recording the size belongs to.
        value: what it comes to in this recording.
    """

    __slots__ = ("args", "node", "observer", "target", "value")

    def __init__(
        self, target: Any, args: tuple[Any, ...], observer: Observer, value: float
    ) -> None:
        self.target = target
        self.args = args
        self.observer = observer
        self.value = value
        self.node: Any = None  # where it stands in the graph, once something asked for it


class _Tracked:
    """What recorded integers and floats share."""

    expression: Expression


class Size(_Tracked, int):
    """A recorded integer."""

    def __new__(cls, value: int, expression: Expression) -> Size:
        size = int.__new__(cls, value)
        size.expression = expression
        return size

    def __divmod__(self, other: Any) -> Any:
        return self // other, self % other

    def __bool__(self) -> bool:
        return _decide(self, int.__bool__(self))

    def __reduce__(self) -> Any:
        return int, (int.__int__(self),)  # copies and pickles are frozen


class Ratio(_Tracked, float):
    """A recorded float: a quotient of sizes, say."""

    def __new__(cls, value: float, expression: Expression) -> Ratio:
        ratio = float.__new__(cls, value)
        ratio.expression = expression
        return ratio

    def __bool__(self) -> bool:
        return _decide(self, float.__bool__(self))

    def __reduce__(self) -> Any:
        return float, (float.__float__(self),)


def _recorded(value: Any, target: Any, args: tuple[Any, ...], observer: Observer) -> Any:
    """The value with its expression; what is neither an integer nor a float stays plain."""
    if type(value) is int:
        return Size(value, Expression(target, args, observer, value))
    if type(value) is float:
        return Ratio(value, Expression(target, args, observer, value))
    return value


def plain(value: Any) -> Any:
    """The same number without its history."""
    if isinstance(value, Size):
        return int.__int__(value)
    return float.__float__(value) if isinstance(value, Ratio) else value


def _decide(size: _Tracked, outcome: bool) -> bool:
    size.expression.observer.decided(outcome)
    return outcome


def _origin(value: Any) -> Any:
    return value.expression if isinstance(value, _Tracked) else value


def _binary(function: Callable[[Any, Any], Any], *, swapped: bool) -> Callable[[Any, Any], Any]:
    def method(self: Any, other: Any) -> Any:
        if not isinstance(other, (int, float)):
            return NotImplemented
        left, right = (other, self) if swapped else (self, other)
        value = function(plain(left), plain(right))
        origins = (_origin(left), _origin(right))
        return _recorded(value, function, origins, self.expression.observer)

    return method


def _unary(function: Callable[[Any], Any]) -> Callable[[Any], Any]:
    def method(self: Any) -> Any:
        value = function(plain(self))
        return _recorded(value, function, (self.expression,), self.expression.observer)

    return method


def _rounded(self: Any, digits: int | None = None) -> Any:
    args = (self.expression,) if digits is None else (self.expression, digits)
    value = round(plain(self)) if digits is None else round(plain(self), digits)
    return _recorded(value, round, args, self.expression.observer)


def _comparison(base: type, name: str) -> Callable[[Any, Any], Any]:
    compare = getattr(base, name)

    def method(self: Any, other: Any) -> Any:
        outcome = compare(self, other)
        return outcome if outcome is NotImplemented else _decide(self, outcome)

    return method


def _hash(self: Any) -> int:
    if not self.expression.observer.hashable_sizes:
        raise UnhashableSizeError(f"unhashable type: '{type(self).__name__}'")
    return hash(plain(self))


for _kind, _base in ((Size, int), (Ratio, float)):
    for _name, _function in _ARITHMETIC.items():
        setattr(_kind, f"__{_name}__", _binary(_function, swapped=False))
        setattr(_kind, f"__r{_name}__", _binary(_function, swapped=True))
    for _name, _unary_function in _UNARY.items():
        setattr(_kind, f"__{_name}__", _unary(_unary_function))
    for _name in _COMPARISONS:
        setattr(_kind, f"__{_name}__", _comparison(_base, f"__{_name}__"))
    _kind.__round__ = _rounded  # type: ignore[method-assign,assignment]
    _kind.__hash__ = _hash  # type: ignore[method-assign]
