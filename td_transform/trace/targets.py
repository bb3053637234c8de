"""The public names of what torch reports: functions, methods and attributes as a graph has them."""

from __future__ import annotations

import operator as op
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import torch
from torch.utils._device import _device_constructors

from td_transform.trace.sizes import plain

_OPERATORS: dict[str, Callable[..., Any]] = {
    "add": op.add, "sub": op.sub, "mul": op.mul, "div": op.truediv, "floor_divide": op.floordiv,
    "__floordiv__": op.floordiv, "remainder": op.mod, "pow": op.pow, "__pow__": op.pow,
    "add_": op.iadd, "sub_": op.isub, "mul_": op.imul, "div_": op.itruediv,
    "__ifloordiv__": op.ifloordiv,
    "matmul": op.matmul, "gt": op.gt, "ge": op.ge, "lt": op.lt, "le": op.le,
    "eq": op.eq, "ne": op.ne, "__eq__": op.eq, "__ne__": op.ne,
    "__and__": op.and_, "__or__": op.or_, "__xor__": op.xor,
    "__lshift__": op.lshift, "__rshift__": op.rshift, "__getitem__": op.getitem,
}  # fmt: skip
_SWAPPED: dict[str, Callable[..., Any]] = {
    "__rsub__": op.sub, "__rdiv__": op.truediv, "__rtruediv__": op.truediv, "__rpow__": op.pow,
    "__rfloordiv__": op.floordiv, "__rmod__": op.mod, "__rmatmul__": op.matmul,
    "__rlshift__": op.lshift, "__rrshift__": op.rshift, "__radd__": op.add, "__rmul__": op.mul,
}  # fmt: skip
_UNARY: dict[str, Callable[..., Any]] = {
    "neg": op.neg, "__neg__": op.neg, "__invert__": op.invert, "__pos__": op.pos,
}  # fmt: skip
# what they join along, where the tensors have that dimension
_STACKED: dict[Any, int] = {
    torch.vstack: 0,
    torch.row_stack: 0,
    torch.hstack: 1,
    torch.column_stack: 1,
    torch.dstack: 2,
}
# what they part
_PARTED: dict[str, Callable[[torch.Tensor], int]] = {
    "vsplit": lambda tensor: 0,
    "hsplit": lambda tensor: min(1, tensor.dim() - 1),
    "dsplit": lambda tensor: 2,
}
# torch takes numpy's words, too
_WORDS = {"axis": "dim", "keepdims": "keepdim"}

FACTORIES: frozenset[Any] = frozenset(_device_constructors())
VALUE_READS = frozenset(
    {
        "item", "tolist", "numpy", "__bool__", "__int__", "__float__", "__complex__", "__index__",
        "__contains__", "__array__", "is_nonzero", "equal", "allclose",
    }
)  # fmt: skip
RANK_READS = frozenset({"dim", "ndimension"})
SIZE_READS = frozenset({"size", "numel", "nelement", "__len__"})
TAKES_NUMBERS = frozenset(
    {"reshape", "view", "expand", "repeat", "narrow", "__getitem__", "__setitem__"}
)


class Target(NamedTuple):
    """How a graph calls it."""

    op: Literal["call_function", "call_method", "call_module"]
    target: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


def is_method(function: Any) -> bool:
    """Is it reached through a tensor, ``x.relu()``, and not by a name of its own?"""
    name = getattr(function, "__name__", "")
    # what stands behind ** and **= carries the names of `pow` and `pow_`, and is neither
    spellings = (name, f"__{name}__", f"__i{name.removesuffix('_')}__")
    return any(getattr(torch.Tensor, spelling, None) is function for spelling in spellings)


def attribute_of(function: Any) -> tuple[str, str] | None:
    """The attribute of a tensor that is read or written by this function, None for other functions."""
    kind = getattr(function, "__name__", "")
    if kind not in ("__get__", "__set__", "__delete__"):
        return None
    return function.__self__.__name__, kind


def public(function: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Target:
    """The call as most would have written it: operators for arithmetic, methods by name."""
    name, method = getattr(function, "__name__", ""), is_method(function)
    if method or getattr(torch, name, None) is function:
        kwargs = {_WORDS.get(word, word): value for word, value in kwargs.items()}
        if name == "narrow" and len(args) == 4 and _counts_from_the_front(args[2]):
            tensor, dim, start, length = args
            return _sliced(tensor, dim, slice(start, start + length))
        if name == "select" and len(args) == 3:
            return _sliced(*args)
    if name in _PARTED and (method or getattr(torch, name, None) is function) and len(args) == 2:
        return Target("call_method", "tensor_split", (*args, _PARTED[name](args[0])), {})
    if function in _STACKED and all(x.dim() > _STACKED[function] for x in args[0]):
        return Target("call_function", torch.cat, (args[0], _STACKED[function]), {})
    if not method:
        return Target("call_function", function, args, kwargs)
    if len(args) == 2 and not kwargs:
        if name in _OPERATORS:
            return Target("call_function", _OPERATORS[name], args, {})
        if name in _SWAPPED:
            return Target("call_function", _SWAPPED[name], (args[1], args[0]), {})
    if len(args) == 1 and not kwargs and name in _UNARY:
        return Target("call_function", _UNARY[name], args, {})
    return Target("call_method", name, args, kwargs)


def turned(tensor: torch.Tensor, attribute: str) -> Target | None:
    """``x.T`` and ``x.mT`` as methods; None for other attributes."""
    if attribute == "mT":
        return Target("call_method", "transpose", (tensor, -2, -1), {})
    if attribute == "T":
        return Target("call_method", "permute", (tensor, *reversed(range(tensor.dim()))), {})
    return None


def _counts_from_the_front(start: Any) -> bool:
    return isinstance(start, int) and plain(start) >= 0


def _sliced(tensor: torch.Tensor, dim: int, item: Any) -> Target:
    """An item along one dimension."""
    index = (*[slice(None)] * (dim % tensor.dim()), item)
    return Target("call_function", op.getitem, (tensor, index), {})
