"""The dimensions that a rule gives, against the shapes that torch gives at other widths and sizes.

The trace stands at one size, and the rules say how every dimension changes: with the channels, with an
axis of the map, or not at all. Then the same graph runs, with twice the channels or on another map.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn

from td_transform.analyse.infer import infer, operator_of
from td_transform.operators import Dim, Inference, Spatial
from td_transform.operators.widths import INFLOW, Width
from td_transform.trace import Trace, replaced, trace
from tests.transform.plain import Apply

WIDTH, SIZE = 8, (12, 16)
Function = Callable[[Tensor], Any]


def vector(x: Tensor) -> Tensor:
    """A number for each channel."""
    return x.mean((0, 2, 3))


def gram(x: Tensor) -> Tensor:
    """What every channel has to do with every other; it has an inverse."""
    return x.flatten(2) @ x.flatten(2).mT + torch.eye(x.shape[1])


def order(x: Tensor) -> Tensor:
    return x.mean((0, 2, 3)).argsort()


def indices(x: Tensor) -> Tensor:
    return x.mean(1).mul(3).long().clamp(0, 4)


POINTWISE: list[Callable[[Tensor], Any]] = [
    torch.celu, torch.selu, torch.rrelu, F.elu_, F.hardtanh_, F.leaky_relu_, torch.arcsin, torch.arccos,
    torch.arcsinh, torch.arccosh, torch.arctanh, torch.fix, torch.signbit, torch.isposinf,
    torch.isneginf, torch.digamma, torch.lgamma, torch.erfinv, torch.poisson, torch.special.erfc,
    torch.special.erfinv, torch.special.exp2, torch.special.expm1, torch.special.log1p,
    torch.special.logit, torch.special.ndtr, torch.special.entr, torch.special.sinc, torch.real,
    torch.angle, torch.conj, torch.conj_physical, torch.resolve_conj, torch.atleast_1d,
    torch.atleast_2d, torch.atleast_3d, torch.tril, torch.triu,
]  # fmt: skip
BESIDE_ITSELF = [
    torch.not_equal, torch.isclose, torch.arctan2, torch.logaddexp2, torch.ldexp,
    torch.special.xlogy, torch.special.xlog1py, torch.complex, torch.polar,
]  # fmt: skip
METHODS = ["byte", "char", "short", "int", "cfloat", "cdouble", "exponential_"]

OPERATORS: dict[str, Function] = {
    **{f"{f.__module__}.{f.__name__}": Apply(f) for f in POINTWISE},
    **{f.__name__: lambda x, f=f: f(x, x.mean((2, 3), keepdim=True)) for f in BESIDE_ITSELF},  # type: ignore[misc]
    **{name: lambda x, name=name: getattr(x.clone(), name)() for name in METHODS},  # type: ignore[misc]
    "threshold": lambda x: torch.threshold(x, 0.1, 20),
    "bits": lambda x: x.int() ^ x.bool(),
    "bitwise": lambda x: torch.bitwise_not(
        torch.bitwise_xor(torch.bitwise_and(x.int(), x.byte()), torch.bitwise_or(x.int(), 1))
    ),
    "shifts": lambda x: (x.int() << 1) + torch.bitwise_left_shift(x.int(), x.byte()),
    "shifts back": lambda x: (x.int() >> 1) + torch.bitwise_right_shift(x.int(), x.byte()),
    "randint_like": lambda x: torch.randint_like(x, 5),
    "renorm": lambda x: torch.renorm(x, 2, 1, 1.0),
    "special softmax": lambda x: torch.special.softmax(x, 1) * torch.special.log_softmax(x, dim=1),
    "special logsumexp": lambda x: torch.special.logsumexp(x, 1) + x.mean(1),
    "broadcast_tensors": lambda x: torch.broadcast_tensors(x, x.mean((2, 3), keepdim=True)),
    "broadcast_tensors of lines": lambda x: torch.broadcast_tensors(x.mean(2, True), x.mean(3, True)),
    "gradient": torch.gradient,
    "gradient along": lambda x: torch.gradient(x, dim=(2, 3), edge_order=2)[1],
    "gradient of channels": lambda x: x.mean((2, 3)) + torch.gradient(x.mean((2, 3)), dim=1)[0],
    "ravel": lambda x: torch.ravel(x[0, :, 0, 0]),
    "ravel of a map": lambda x: x[0, :, 0, 0] * torch.ravel(x[0].mean((1, 2), keepdim=True)),
    "tensordot": lambda x: torch.tensordot(x, x.mean((2, 3)), dims=([1], [1])),
    "tensordot of the last": lambda x: torch.tensordot(x.mean((2, 3)), x.mean((0, 2)), 1),
    "tensordot of two": lambda x: torch.tensordot(gram(x), x[0].flatten(1) @ x[0].flatten(1).mT),
    "tensordot of positions": lambda x: torch.tensordot(x.flatten(2), x.flatten(2), ([2], [2])),
    "tensordot along an axis": lambda x: torch.tensordot(x, torch.ones(x.shape[3], x.shape[3]), 1),
    "outer": lambda x: torch.outer(vector(x), vector(x)) + torch.ger(vector(x), vector(x) + 1),
    "outer with another": lambda x: torch.outer(vector(x), x.mean((0, 1, 3))),
    "meshgrid": lambda x: torch.meshgrid(
        torch.arange(x.shape[2]), torch.arange(x.shape[3]), indexing="ij"
    ),
    "meshgrid by columns": lambda x: torch.meshgrid(
        torch.linspace(-1, 1, x.shape[3]), torch.linspace(-1, 1, x.shape[2]), indexing="xy"
    ),
    "meshgrid of channels": lambda x: torch.meshgrid([vector(x), x.mean((0, 1, 2)), vector(x)]),
    "diagonal": lambda x: torch.diagonal(gram(x), dim1=1, dim2=2),
    "diagonal of the last": lambda x: torch.linalg.diagonal(gram(x)),
    "diagonal of the map": lambda x: x.mean((2, 3)) + x.diagonal(0, 2, 3).sum(-1),
    "diagonal of a matrix": lambda x: x[:, :, 0, 0].mT.mT + gram(x).diagonal(0, -1, -2),
    "inverse": lambda x: torch.inverse(gram(x)) + torch.linalg.inv(gram(x)),
    "pseudoinverse": lambda x: torch.linalg.pinv(gram(x)),
    "roots": lambda x: torch.linalg.cholesky(gram(x)) + torch.cholesky(gram(x)),
    "exponential": lambda x: torch.matrix_exp(gram(x)) + torch.linalg.matrix_exp(gram(x)),
    "power": lambda x: torch.matrix_power(gram(x), 2) + torch.linalg.matrix_power(gram(x), 3),
    "determinants": lambda x: torch.det(gram(x)) + torch.linalg.det(gram(x)),
    "logarithms of determinants": lambda x: torch.logdet(gram(x)),
    "signs of determinants": lambda x: torch.slogdet(gram(x)),
    "signs of determinants of linalg": lambda x: torch.linalg.slogdet(gram(x)),
    "eigenvalues": lambda x: torch.linalg.eigvalsh(gram(x)) + torch.linalg.svdvals(gram(x)),
    "eigenvectors": lambda x: torch.linalg.eigh(gram(x)),
    "matrix norm": lambda x: torch.linalg.matrix_norm(x) + torch.linalg.matrix_norm(x, dim=(2, 3)),
    "matrix norm kept": lambda x: x / torch.linalg.matrix_norm(x, "fro", (2, 3), True),
    "scatter_reduce": lambda x: x.scatter_reduce(1, x.argsort(1), x, "amax"),
    "index_add": lambda x: torch.index_add(vector(x), 0, order(x), vector(x) + 1),
    "index_add of images": lambda x: x.index_add(0, torch.arange(x.shape[0]), x * 2, alpha=0.5),
    "index_copy": lambda x: x.clone().index_copy_(0, torch.arange(1), x[:1]),
    "index_fill": lambda x: x.index_fill(0, torch.arange(1), 0.0),
    "index_reduce": lambda x: x.index_reduce(0, torch.arange(1), x[:1], "amax"),
    "windows": lambda x: x.unfold(2, 2, 2).unfold(3, 2, 2),
    "windows that overlap": lambda x: x.unfold(3, 3, 1),
    "permutation": lambda x: torch.randperm(x.shape[1]) + vector(x),
    "random integers": lambda x: torch.randint(0, 5, (x.shape[0], x.shape[1], 1, 1)) * x,
    "random integers by name": lambda x: torch.randint(high=5, size=(x.shape[1], x.shape[2])),
    "normal": lambda x: torch.normal(0.0, 1.0, (x.shape[0], x.shape[1], 1, 1)) + x,
    "normal around": lambda x: torch.normal(x, 1.0) + torch.normal(0.0, x.abs() + 1),
    "normal between": lambda x: torch.normal(x.mean(1, keepdim=True), x.abs() + 1),
    "one_hot": lambda x: F.one_hot(indices(x), 5),
    "one_hot of channels": lambda x: F.one_hot(indices(x), num_classes=x.shape[1]),
    "values": lambda x: x * torch.tensor([[[2.0]], [[3.0]]]).mean(0) + torch.scalar_tensor(2.0),
    "what is a tensor": lambda x: torch.as_tensor(x) + torch.asarray(x, dtype=torch.float32),
    "new values": lambda x: x * x.new_tensor([2.0]) + x.new_tensor(x),
    "logspace": lambda x: torch.logspace(0, 1, x.shape[1])[:, None, None] * x,
    "parts by name": lambda x: torch.split(x, split_size_or_sections=[4, 4], dim=1),
    "parts of one size": lambda x: torch.split(x, split_size_or_sections=4, dim=1)[0],
    "parts with sizes": lambda x: x.split_with_sizes([2, 6], 1)[1],
    "parts with named sizes": lambda x: x.split_with_sizes(split_sizes=[2, 6], dim=1)[0],
    "parts by lines": lambda x: [*torch.hsplit(x, 2), *x.vsplit(1), *x.mean(3).mT.dsplit(2)],
    "frequencies": lambda x: torch.fft.fft(x) + torch.fft.fft2(x) + torch.fft.fftn(x),
    "frequencies of channels": lambda x: torch.fft.fft(torch.fft.ifft(x, dim=1), x.shape[1], 1).real,
    "frequencies of tokens": lambda x: torch.fft.fft(torch.fft.fft(x.flatten(2)), dim=1).real,
    "back": lambda x: torch.fft.ifft2(torch.fft.fft2(x), dim=(2, 3)).real + torch.fft.ifftn(x).imag,
    "half of the frequencies": lambda x: torch.fft.rfft2(x, norm="ortho"),
    "half and channels": lambda x: torch.fft.rfftn(x, dim=(1, 2, 3)),
    "half along a line": lambda x: torch.fft.rfft(x, dim=2),
    "back from half": lambda x: torch.fft.irfft2(torch.fft.rfft2(x), s=x.shape[-2:]),
    "back from half by name": lambda x: torch.fft.irfftn(
        torch.fft.rfftn(x, s=x.shape[-2:]), s=(x.shape[2], x.shape[3]), dim=(2, 3)
    ),
    "back from half along a line": lambda x: torch.fft.irfft(torch.fft.rfft(x), n=x.shape[3]),
    "back to where it was": lambda x: torch.fft.irfft2(torch.fft.rfft2(x)),
    "shifted": lambda x: torch.fft.ifftshift(torch.fft.fftshift(torch.fft.fft2(x), dim=(2, 3))),
    "parts of complex numbers": lambda x: torch.imag(torch.fft.fft2(x)) + torch.fft.fft2(x).imag,
    "pairs": lambda x: torch.view_as_complex(torch.view_as_real(torch.complex(x, x))),
    "pairs in front": lambda x: torch.view_as_real(torch.fft.rfft2(x)).permute(0, 1, 4, 2, 3),
}  # fmt: skip
# sizes that follow the map's, but are no axes of it
NUMBERS = {
    "half of the frequencies", "half and channels", "half along a line", "back from half",
    "back from half by name", "back from half along a line", "back to where it was", "pairs in front",
    "diagonal of the map", "filter of frequencies",
}  # fmt: skip


class Around(nn.Module):
    """Layers and parameters, with the function that calls them."""

    def __init__(self, function: Callable[..., Any], **members: Any) -> None:
        super().__init__()
        self.function = function
        for name, member in members.items():
            setattr(self, name, member)

    def forward(self, x: Tensor) -> Any:
        return self.function(self, x)


def table(rows: int, width: int) -> nn.Parameter:
    return nn.Parameter(torch.rand(rows, width))


LAYERS: dict[str, Callable[[], nn.Module]] = {
    "embedding": lambda: Around(
        lambda m, x: m.table(indices(x)).permute(0, 3, 1, 2) + x, table=nn.Embedding(5, WIDTH)
    ),
    "embedding of its own width": lambda: Around(
        lambda m, x: m.table(indices(x)), table=nn.Embedding(5, 6, padding_idx=0)
    ),
    "embedding as a function": lambda: Around(
        lambda m, x: F.embedding(indices(x), m.table).permute(0, 3, 1, 2) + x, table=table(5, WIDTH)
    ),
    "bilinear": lambda: Around(
        lambda m, x: m.layer(x.mean((2, 3)), x.amax((2, 3))) + x.mean((2, 3)),
        layer=nn.Bilinear(WIDTH, WIDTH, WIDTH),
    ),
    "bilinear by position": lambda: Around(
        lambda m, x: m.layer(x.permute(0, 2, 3, 1), x.permute(0, 2, 3, 1)[..., :3]),
        layer=nn.Bilinear(WIDTH, 3, 5, bias=False),
    ),
    "bilinear as a function": lambda: Around(
        lambda m, x: F.bilinear(x.mean((2, 3)), x.amax((2, 3)), m.weight, m.bias),
        weight=nn.Parameter(torch.rand(5, WIDTH, WIDTH)), bias=nn.Parameter(torch.rand(5)),
    ),
    "similarity": lambda: Around(lambda m, x: m.layer(x, x + 1), layer=nn.CosineSimilarity(1)),
    "distance": lambda: Around(
        lambda m, x: m.layer(x, x + 1), layer=nn.PairwiseDistance(keepdim=True)
    ),
    "filter of frequencies": lambda: Around(
        lambda m, x: torch.fft.irfft2(
            torch.fft.rfft2(x) * torch.view_as_complex(m.weight)[:, None, None], s=x.shape[2:]
        ),
        weight=nn.Parameter(torch.rand(WIDTH, 2)),
    ),
}  # fmt: skip


def traced(model: nn.Module) -> tuple[Trace, Inference]:
    found = trace(model, (WIDTH, *SIZE), any_output=True)
    image = next(iter(found.graph.nodes))
    inference = Inference()
    inflow = inference.widths.variable(INFLOW, WIDTH)
    axes = (Spatial(axis, Fraction(1)) for axis in range(len(SIZE)))
    inference.dims[image] = (Width.of(found.values[image].shape[0]), inflow, *axes)
    infer(found, list(found.graph.nodes)[1:-1], inference)
    return found, inference


class Changed(fx.Interpreter):
    """The graph of a trace on a map of another width or size; every tensor's shape is as inferred."""

    def __init__(
        self, found: Trace, inference: Inference, width: int, size: tuple[int, ...]
    ) -> None:
        super().__init__(copy.deepcopy(found.skeleton).to_empty(device="cpu"), graph=found.graph)
        self.found, self.inference, self.size = found, inference, size
        self.values = {**inference.widths.bottom_up, INFLOW: width}
        self.is_numbered = False

    def run_node(self, n: fx.Node) -> Any:
        for path, width in self.inference.literals.get(n, {}).items():
            number = self.inference.widths.number(width, self.values)
            if path[0] in n.kwargs:
                n.kwargs = replaced(n.kwargs, path, number)
            else:
                n.args = replaced(n.args, path, number)
        if n.op == "call_module" and n in self.inference.sizes:
            resize, sizes = operator_of(self.found, n).resize, self.inference.sizes[n]
            assert resize is not None
            module = self.fetch_attr(str(n.target))
            resize(module, {name: self.whole(width) for name, width in sizes.items()})
            module.to_empty(device="cpu").reset_parameters()
        result = super().run_node(n)
        if n.op not in ("placeholder", "output"):
            self.check(n, result, self.inference.dims[n], self.found.values[n])
        return result

    def get_attr(self, target: str, args: Any, kwargs: Any) -> Any:
        (node,) = [n for n in self.found.graph.nodes if n.op == "get_attr" and n.target == target]
        if not self.found.values[node].dtype.is_floating_point:
            return self.found.tensor(target)
        return torch.rand([self.whole(dim) for dim in self.inference.dims[node]])

    def whole(self, width: Width) -> int:
        value = self.inference.widths.value(width, self.values)
        assert value is not None
        return value

    def check(self, node: fx.Node, result: Any, dims: Any, before: Any) -> None:
        if isinstance(result, (tuple, list)) and not isinstance(result, torch.Size):
            for each in zip(result, dims, before, strict=True):
                self.check(node, *each)
        elif isinstance(result, Tensor):
            assert len(dims) == result.dim()
            for dim, after, size in zip(dims, result.shape, before.shape, strict=True):
                assert self.follows(dim, size, after), (node, dims, tuple(result.shape))

    def follows(self, dim: Dim, before: int, after: int) -> bool:
        if isinstance(dim, Spatial):
            if dim.axis == -1:
                return after - dim.ahead == math.prod(self.size)
            return after - before == (self.size[dim.axis] - SIZE[dim.axis]) / dim.stride
        if self.inference.widths.resolve(dim).terms:
            return after == self.whole(dim)
        self.is_numbered = self.is_numbered or after != before
        return after == before or (self.size != SIZE and self.is_numbered)


CASES = {**{n: lambda n=n: Apply(OPERATORS[n]) for n in OPERATORS}, **LAYERS}  # type: ignore[misc]


@pytest.mark.parametrize("name", CASES)
def test_as_torch_has_them(name: str) -> None:
    torch.manual_seed(0)
    numbered = set()
    for width, size in ((WIDTH, SIZE), (2 * WIDTH, SIZE), (WIDTH, (24, 20)), (WIDTH, (14, 28))):
        found, inference = traced(CASES[name]())
        assert inference.opaque == {}
        assert inference.widths.resolve(Width.variable(INFLOW)).terms
        changed = Changed(found, inference, width, size)
        changed.run(torch.rand(found.values[next(iter(found.graph.nodes))].shape[0], width, *size))
        numbered.add(changed.is_numbered)
    assert (True in numbered) == (name in NUMBERS)
