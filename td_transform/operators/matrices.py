"""Channel rules of what torch does with matrices beside products: diagonals, inverses, tables of pairs."""

from __future__ import annotations

from typing import Any

from td_transform.operators.dimensions import Dims, Spatial
from td_transform.operators.products import agreed, sized_dims, whole_maps
from td_transform.operators.registry import Call
from td_transform.operators.rules import as_width
from td_transform.operators.widths import Conflict, Width


def diagonal(dim1: int, dim2: int) -> Any:
    """The main diagonal of a matrix, behind the other dimensions; its place is by default at these.

    That of a map is no axis.

    Raises:
        Conflict: it is another one.
    """

    def infer(call: Call) -> Dims:
        if call.option("offset", 1, 0):
            raise Conflict("a diagonal beside the main one")
        dims = list(call.dims())
        places = [call.option("dim1", 2, dim1), call.option("dim2", 3, dim2)]
        first, second = (place % len(dims) for place in places)
        beside = [d for i, d in enumerate(dims) if i not in (first, second)]
        if isinstance(dims[first], Spatial) and isinstance(dims[second], Spatial):
            return (*beside, Width.of(call.values[call.node].shape[-1]))
        _check_square(call, first, second)
        return (*beside, dims[first])

    return infer


def of_squares(call: Call) -> Dims:
    """inv, cholesky, matrix_exp ...: a square matrix for each."""
    _check_square(call, -2, -1)
    return call.dims()


def numbers_of_squares(call: Call) -> Any:
    """det, slogdet: a number for each matrix, or several."""
    _check_square(call, -2, -1)
    lead = call.dims()[:-2]
    result = call.values[call.node]
    return (lead,) * len(result) if isinstance(result, tuple) else lead


def eigenvalues(call: Call) -> Any:
    """eigh, eigvalsh, svdvals: as many as rows, with the vectors where they are asked for."""
    _check_square(call, -2, -1)
    dims = call.dims()
    return (dims[:-1], dims) if isinstance(call.values[call.node], tuple) else dims[:-1]


def table_of_pairs(call: Call) -> Dims:
    """outer: each of the first vector with each of the second."""
    first, second = call.tensors if len(call.tensors) == 2 else call.tensors * 2
    return (*call.dims(first), *call.dims(second))


def grids(call: Call) -> tuple[Dims, ...]:
    """meshgrid: the places along each vector, at every place along the others."""
    dims = [call.dims(tensor)[0] for tensor in _given(call)]
    if call.option("indexing", len(call.node.args), "ij") == "xy":
        dims[:2] = dims[1::-1]
    return (tuple(dims),) * len(dims)


def _given(call: Call) -> list[Any]:
    first = call.node.args[0]
    return list(first if isinstance(first, (tuple, list)) else call.node.args)


def contracted(call: Call) -> Dims:
    """tensordot: sums over some dimensions of both; what is left stands one behind the other.

    Raises:
        Conflict: those aren't as large in both, or it mixes positions along one axis of the map.
    """
    left, right = call.node.args[:2]
    first, second = sized_dims(call, left), sized_dims(call, right)
    over: Any = call.option("dims", 2, 2)
    if isinstance(over, int):
        over = (range(len(first) - over, len(first)), range(over))
    gone, others_gone = [a % len(first) for a in over[0]], [b % len(second) for b in over[1]]
    for a, b in zip(gone, others_gone, strict=True):
        if first[a][1] != second[b][1]:
            raise Conflict("a sum over dimensions of other sizes")
        agreed(call, [first[a], second[b]])
    kept = [dim for i, (dim, _) in enumerate(first) if i not in gone]
    return whole_maps(
        call, (*kept, *(dim for i, (dim, _) in enumerate(second) if i not in others_gone))
    )


def _check_square(call: Call, first: int, second: int) -> None:
    """Rows and columns are the same dimension.

    Raises:
        Conflict: there are more of one.
    """
    dims, shape = call.dims(), call.shape()
    if shape[first] != shape[second]:
        raise Conflict("a matrix that isn't square")
    if dims[first] != dims[second]:
        call.inference.widths.equate(as_width(dims[first]), as_width(dims[second]))
