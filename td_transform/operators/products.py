"""Channel rules of matrix products, attention and distances, and of a choice between tensors.

A sum over two dimensions lets their widths agree. A product of two maps, of queries and keys, has
the positions of both.
"""

from __future__ import annotations

from typing import Any

from torch import fx

from td_transform.operators.dimensions import Dim, Dims, Spatial, TensorInfo
from td_transform.operators.registry import Call
from td_transform.operators.rules import as_width, same
from td_transform.operators.widths import Conflict, Variable, Width

# a dimension and its size in the bottom-up model
Sized = tuple[Dim, int]


def matmul(call: Call) -> Dims:
    """(..., n, k) times (..., k, m).

    Raises:
        Conflict: a factor is a vector, or mixes the positions of a map along one of its axes.
    """
    return _product(call, *_factors(call))


def matmul_and_sum(call: Call) -> Dims:
    """A tensor to which (..., n, k) times (..., k, m) is added.

    Raises:
        Conflict: as for a product; or tensors are given by name.
    """
    if len(call.node.args) < 3:
        raise Conflict("tensors by name")
    added, left, right = call.node.args[:3]
    product = list(zip(_product(call, left, right), call.values[call.node].shape, strict=True))
    return _broadcast(call, [sized_dims(call, added), product])


def _factors(call: Call) -> list[fx.Node]:
    """The two tensors, which may be one twice."""
    return call.tensors if len(call.tensors) == 2 else call.tensors * 2


def _product(call: Call, left: Any, right: Any) -> Dims:
    if min(len(call.dims(left)), len(call.dims(right))) < 2:
        raise Conflict("a product with a vector")
    first, second = sized_dims(call, left), sized_dims(call, right)
    agreed(call, [first[-1], second[-2]])
    lead = _broadcast(call, [first[:-2], second[:-2]])
    return whole_maps(call, (*lead, first[-2][0], second[-1][0]))


def attention(call: Call) -> Dims:
    """Queries (..., n, e), keys (..., m, e) and values (..., m, d)."""
    named = enumerate(("query", "key", "value"))
    query, key, value = (sized_dims(call, call.option(name, i)) for i, name in named)
    agreed(call, [query[-1], key[-1]])
    agreed(call, [key[-2], value[-2]])
    lead = [query[:-2], key[:-2], value[:-2]]
    mask = call.option("attn_mask", 3)
    if isinstance(mask, fx.Node):
        own = sized_dims(call, mask)
        lead.append(own[:-2])
        _broadcast(call, [own[-2:], [query[-2], key[-2]]])
    return (*_broadcast(call, lead), query[-2][0], value[-1][0])


def multihead(call: Call) -> tuple[Dims, Dims | None]:
    """`nn.MultiheadAttention`: its output, and the weights of keys for queries.

    Raises:
        Conflict: keys or values have widths of their own.
    """
    module: Any = call.module
    if not module._qkv_same_embed_dim:
        raise Conflict("keys and values of other widths than the queries")
    query = call.dims()
    width = as_width(query[-1])
    for tensor in call.tensors[1:3]:
        call.inference.widths.equate(as_width(call.dims(tensor)[-1]), width)
    call.inference.widths.require_multiple(width, int(module.num_heads))
    call.size(channels=width)
    return query, _numbers(call.values[call.node][1])


def einsum(call: Call) -> Dims:
    """A sum of products: dimensions of one letter agree.

    Raises:
        Conflict: it leaves dimensions without a name, or mixes the positions of a map along one of
            its axes.
    """
    equation, *operands = call.node.args
    if len(operands) == 1 and isinstance(operands[0], (tuple, list)):
        operands = list(operands[0])
    if not isinstance(equation, str) or "->" not in equation or "." in equation:
        raise Conflict("an einsum that doesn't name every dimension")
    inputs, _, output = equation.replace(" ", "").partition("->")
    found: dict[str, list[Sized]] = {}
    for letters, operand in zip(inputs.split(","), operands, strict=True):
        for letter, sized in zip(letters, sized_dims(call, operand), strict=True):
            found.setdefault(letter, []).append(sized)
    dims = {letter: agreed(call, group) for letter, group in found.items()}
    return whole_maps(call, tuple(dims[letter] for letter in output))


def bilinear(call: Call) -> Dims:
    """The numbers of one vector times those of another, summed with weights (out, one, other)."""
    left, right = call.node.args[:2]
    one, other = call.dims(left), call.dims(right)
    for pair in zip(sized_dims(call, left)[:-1], sized_dims(call, right)[:-1], strict=True):
        agreed(call, list(pair))
    if call.module is None:
        weight = call.dims(call.option("weight", 2))
        for dim, last in zip(weight[1:], (one[-1], other[-1]), strict=True):
            call.inference.widths.equate(as_width(dim), as_width(last))
        if isinstance(bias := call.option("bias", 3), fx.Node):
            call.inference.widths.equate(as_width(call.dims(bias)[0]), as_width(weight[0]))
        return (*one[:-1], weight[0])
    features = int(call.option("out_features", 0))
    out = call.inference.widths.variable(Variable(call.name, "out"), features)
    call.size(one=as_width(one[-1]), other=as_width(other[-1]), out=out)
    return (*one[:-1], out)


def similarity(call: Call) -> Dims:
    """Of two tensors along a dimension of what they are broadcast to."""
    dims = list(same(call))
    del dims[int(call.option("dim", 2, 1))]
    return tuple(dims)


def pairwise(call: Call) -> Dims:
    """The distances of two tensors' vectors along the last dimension, one by one."""
    dims = same(call)
    return (*dims[:-1], Width.of(1)) if call.option("keepdim", 4, False) else dims[:-1]


def distances(call: Call) -> Dims:
    """(..., n, k) from (..., m, k): every one of the first to every one of the second."""
    first, second = (sized_dims(call, tensor) for tensor in _factors(call))
    agreed(call, [first[-1], second[-1]])
    lead = _broadcast(call, [first[:-2], second[:-2]])
    return whole_maps(call, (*lead, first[-2][0], second[-2][0]))


def choice(call: Call) -> Dims:
    """Element by element one of two, as a third tells.

    Raises:
        Conflict: it asks where a condition holds.
    """
    if len(call.node.args) + len(call.node.kwargs) != 3:
        raise Conflict("places rather than values")
    return same(call)


def sized_dims(call: Call, tensor: Any) -> list[Sized]:
    return list(zip(call.dims(tensor), call.shape(tensor), strict=True))


def agreed(call: Call, group: list[Sized]) -> Dim:
    """One dimension for all: positions where one has some, else widths that have to agree."""
    place = next((dim for dim, _ in group if isinstance(dim, Spatial)), None)
    if place is not None:
        for dim, size in group:
            _fix(call, dim, size)
        return place
    first, *others = (as_width(dim) for dim, _ in group)
    for other in others:
        call.inference.widths.equate(other, first)
    return first


def _broadcast(call: Call, leads: list[list[Sized]]) -> Dims:
    """Dimensions agree, counted from the last, but for those of size 1."""
    dims: list[Dim] = []
    for back in range(max(map(len, leads)), 0, -1):
        present = [lead[-back] for lead in leads if len(lead) >= back]
        for dim, size in present:
            if size == 1:
                _fix(call, dim, size)
        dims.append(agreed(call, [sized for sized in present if sized[1] != 1] or present[:1]))
    return tuple(dims)


def _fix(call: Call, dim: Dim, size: int) -> None:
    """A width keeps its bottom-up value."""
    if isinstance(dim, Width):
        call.inference.widths.equate(dim, Width.of(size))


def whole_maps(call: Call, dims: Dims) -> Dims:
    """A product that leaves some axes of a map has a matrix for the others."""
    axes = set(range(call.axes))
    read = [{d.axis for d in call.dims(t) if isinstance(d, Spatial)} for t in call.tensors]
    left = {dim.axis for dim in dims if isinstance(dim, Spatial)} & axes
    if any(axes <= found for found in read) and 0 < len(left) < len(axes):
        raise Conflict("a product along one axis of the map")
    return dims


def _numbers(info: Any) -> Dims | None:
    return tuple(map(Width.of, info.shape)) if isinstance(info, TensorInfo) else None
