"""The same operator in torch's, numpy's and mathematics' spellings: none of them is carried whole."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from td_transform import plan_topdown, receptive_field, to_topdown
from td_transform.errors import UnknownOperatorError
from tests.fields.networks import Apply
from tests.fields.oracle import compare
from tests.transform.bodies import SIZE, blocks, trained, unit

Function = Callable[[Tensor], Tensor]


def tokens(x: Tensor) -> Tensor:
    return x.flatten(2).transpose(1, 2)


# what gives a map of the size that it gets
SPELLINGS: dict[str, Function] = {
    "bounds": lambda x: x.clip(0, 6) + torch.clip(x, max=6) + x.clamp_min(0),
    "functions by another name": lambda x: torch.divide(torch.multiply(x, 2).absolute(), 2),
    "one tensor": lambda x: torch.special.expit(x).log1p().erf().exp2().tan().sinh().atan(),
    "two tensors": lambda x: x.maximum(x * 2).fmod(2).hypot(x).lerp(x, 0.5) * x.less(x + 1),
    "three tensors": lambda x: x.addcdiv(x, x.sigmoid() + 1).masked_fill_(x < 0, 0.0),
    "activations": lambda x: F.hardshrink(x) + F.softshrink(x) + F.tanhshrink(x),
    "a slope": lambda x: F.prelu(x, torch.full((1,), 0.2)),
    "softmax": lambda x: nn.Softmin(1)(x) + F.softmin(x, dim=1) + F.gumbel_softmax(x, dim=1),
    "noise": lambda x: x * torch.bernoulli(torch.full_like(x, 0.9)),
    "a mask in place": lambda x: x * torch.empty(x.shape[0], 1, 1, 1).bernoulli_(0.9),
    "numpy's words": lambda x: x * x.mean(axis=(2, 3), keepdims=True) + x.sum(axis=1, keepdims=True),
    "norms": lambda x: x / x.norm(dim=1, keepdim=True) + torch.norm(x, 2, (2, 3), keepdim=True),
    "norms of linalg": lambda x: x / torch.linalg.vector_norm(x, 2, (2, 3), True),
    "the norm of all": lambda x: x / x.norm() + x.prod() + x.std(),
    "a variance by position": lambda x: x / x.var((2, 3), False, True),
    "variance and mean": lambda x: x - torch.var_mean(x, (2, 3), keepdim=True)[1],
    "reductions": lambda x: x * x.logsumexp(1, keepdim=True) + x.prod(1, True),
    "values and places": lambda x: x * x.median(1, True)[0] + x.max(dim=1, keepdims=True).values,
    "all of the largest": lambda x: x.topk(x.shape[1], 1)[0],
    "turned": lambda x: x.flatten(2).mT.mT.reshape(x.shape),
    "moved": lambda x: torch.movedim(x, 1, -1).moveaxis(-1, 1),
    "moved together": lambda x: x.movedim((2, 3), (1, 2)).movedim((0, 3), (0, 1)),
    "swapped": lambda x: x.swapdims(1, 3).swapaxes(1, 3),
    "mirrored": lambda x: torch.fliplr(x) + torch.flipud(x),
    "narrow": lambda x: x.narrow(1, 0, x.shape[1]) + torch.narrow(x, -3, 0, x.size(1)),
    "one row": lambda x: x * x.select(2, 0).unsqueeze(2),
    "parted": lambda x: x.unflatten(1, (2, -1)).flatten(1, 2),
    "parted from the end": lambda x: torch.unflatten(x, -3, (-1, 2)).flatten(-4, -3),
    "broadcast": lambda x: torch.broadcast_to(x.mean((2, 3), keepdim=True), x.shape) * x,
    "a product and a sum": lambda x: torch.baddbmm(
        x.flatten(2), torch.bmm(x.flatten(2), x.flatten(2).mT).softmax(-1), x.flatten(2)
    ).view(x.shape),
    "parts by number": lambda x: torch.cat([*x.tensor_split(2, 1), *torch.tensor_split(x, 4, dim=1)], 1)[
        :, : x.shape[1]
    ],
    "stacked": lambda x: torch.hstack([*x.chunk(2, 1)]) + torch.vstack([x[None], x[None]]).mean(0),
    "degrees": lambda x: x.deg2rad() + torch.rad2deg(x),
    "rotated": lambda x: x.rot90(1, (2, 3)).rot90(3, (2, 3)) + torch.rot90(x, 2, (-2, -1)),
    "power pooling": lambda x: x * F.lp_pool2d(x, 2, x.shape[2:]),
    "places in order": lambda x: x * x.kthvalue(2, 1, True)[0] * torch.aminmax(x, dim=1, keepdim=True)[1],
    "put together": lambda x: F.fold(F.unfold(x, 3, padding=1), x.shape[2:], 3, padding=1),
    "pair by pair": lambda x: x * F.pairwise_distance(x, x + 1)[..., None],
    "similarity": lambda x: x * F.cosine_similarity(x, x.roll(1, 1), dim=1)[:, None],
    "neighbours": lambda x: F.pad(x.diff(dim=3), (0, 1)) + torch.diff(x, dim=2, prepend=x[:, :, :1]),
    "neighbouring channels": lambda x: x.diff(dim=1, prepend=x[:, :1]),
    "quantiles": lambda x: x * (x > x.flatten(2).quantile(0.5, dim=2)[:, :, None, None]),
    "as many as lie below": lambda x: x * torch.bucketize(x, torch.ones(3)) * torch.searchsorted(
        torch.ones(3), x.detach()
    ),
    "the largest until here": lambda x: x.cummax(3)[0] + x.logcumsumexp(2) + x.cummin(1).values,
    "positions in order": lambda x: x.gather(3, x.argsort(3)) + x.take_along_dim(x.argsort(2), 2),
    "channels in order": lambda x: torch.take_along_dim(x, x.argsort(1), dim=1),
    "a gate of the largest": lambda x: x * torch.zeros(x.shape[:2]).scatter_(
        1, x.mean((2, 3)).topk(4, 1)[1], 1.0
    )[:, :, None, None],
    "sums by place": lambda x: x + torch.zeros_like(x).scatter_add(2, x.argsort(2), x),
    "the largest positions": lambda x: x * tokens(x).gather(
        1, tokens(x).norm(dim=2).topk(8, 1)[1][:, :, None].expand(-1, -1, x.shape[1])
    ).mean(1)[:, :, None, None],
    "other images": lambda x: x + x.index_select(0, torch.arange(x.shape[0])),
}  # fmt: skip
WIDTHS = {"td": [32, 16, 8], "uniform": [16, 16, 16], "reversed": [8, 16, 32]}


@pytest.mark.parametrize("arrangement", WIDTHS)
@pytest.mark.parametrize("name", SPELLINGS)
def test_widths_change_around_it(name: str, arrangement: str) -> None:
    model = blocks(lambda width: Apply(SPELLINGS[name]))
    plan = plan_topdown(model, input_size=SIZE, arrangement=arrangement)
    assert [level.width for level in plan.levels] == WIDTHS[arrangement]
    assert plan.opaque == ()


# positions or channels that are picked by their number
NUMBERED: dict[str, Function] = {
    "channels": lambda x: x.index_select(1, torch.arange(x.shape[1] - 1, -1, -1)),
    "positions": lambda x: x.gather(3, torch.arange(x.shape[3] - 1, -1, -1).expand_as(x)),
    # 8 positions of 8 channels are no map of 8 by 8
    "tokens": lambda x: x * tokens(x)[
        torch.arange(x.shape[0])[:, None], tokens(x).norm(dim=2).topk(8, 1)[1]
    ].mean(1)[:, :, None, None],
}  # fmt: skip


@pytest.mark.parametrize("name", NUMBERED)
def test_what_is_picked_by_its_number_is_carried_along(name: str) -> None:
    model = blocks(lambda width: Apply(NUMBERED[name]))
    plan = plan_topdown(model, input_size=SIZE)
    assert [level.width for level in plan.levels] == WIDTHS["td"]
    assert plan.opaque
    with pytest.raises(UnknownOperatorError, match="positions by their number"):
        plan_topdown(model, input_size=SIZE, arrangement="uniform")


class Linear(nn.Module):
    """A fully connected layer as a formula."""

    def __init__(self, formula: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.rand(7, 32)), nn.Parameter(torch.zeros(7))
        self.formula = formula

    def forward(self, x: Tensor) -> Tensor:
        return self.formula(x.mean((2, 3)), self.weight, self.bias)


CLASSIFIERS: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "t": lambda x, w, b: x @ w.t() + b,
    "T": lambda x, w, b: torch.mm(x, w.T) + b,
    "mT": lambda x, w, b: torch.linalg.matmul(x, w.mT).add(b),
    "addmm": lambda x, w, b: torch.addmm(b, x, w.t()),
    "distances": lambda x, w, b: b - torch.cdist(x, w),
    "similarities": lambda x, w, b: F.cosine_similarity(x[:, None], w[None], dim=-1) + b,
}


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_a_classifier_of_ones_own_follows_the_last_width(name: str) -> None:
    model = nn.Sequential(
        *list(blocks(lambda width: nn.Identity()))[:-3], Linear(CLASSIFIERS[name])
    )
    td = to_topdown(model, input_size=SIZE)
    assert [level.width for level in td.plan.levels] == WIDTHS["td"]
    assert td.plan.opaque == ()
    trained(td)


PICKED: dict[str, Function] = {
    "largest channel": lambda x: x * x.max(1, keepdim=True)[0],
    "means of channels": lambda x: x * torch.std_mean(x.flatten(2), 2)[1][..., None, None],
    "mean of several results": lambda x: x * torch.var_mean(x, 1, keepdim=True)[1],
    "sorted": lambda x: x.sort(1)[0],
}


@pytest.mark.parametrize("name", PICKED)
def test_receptive_fields_of_several_results(name: str) -> None:
    """They were refused, or crashed where the map was flattened."""
    net = nn.Sequential(unit(3, 8), Apply(PICKED[name]), unit(8, 8, 2), nn.Conv2d(8, 4, 3))
    fields = receptive_field(net, (3, 24, 32))
    maps = [row for row in fields if len(fields.trace_shape(row)) == 4]
    assert compare(fields, maps, 4, torch.Generator().manual_seed(0)) > 10
