"""Subclasses of torch's layers that keep more than a weight: what is beside it follows its size."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from td_transform import ConversionError, register_operator, to_topdown
from td_transform.operators import module_operator, registry
from td_transform.operators.resizing import resize_conv
from tests.properties import check_network
from tests.transform.bodies import SIZE, blocks, trained


class Dirac(nn.Conv2d):
    """DiracNets: a kernel on top of an identity, which torch's `dirac_` has made."""

    def __init__(self, width_in: int, width: int) -> None:
        super().__init__(width_in, width, 3, padding=1)
        self.register_buffer("delta", nn.init.dirac_(self.weight.detach().clone()))

    def forward(self, x: Tensor) -> Tensor:
        kernel = self.delta + F.normalize(self.weight.flatten(1)).view_as(self.weight)
        return F.conv2d(x, kernel, self.bias, self.stride, self.padding, self.dilation)


def plain(*widths: int) -> nn.Sequential:
    body: list[nn.Module] = []
    for width_in, width in zip((3, *widths), widths, strict=False):
        body += [Dirac(width_in, width), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(
        *body[:-1], nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(widths[-1], 7)
    )


@pytest.mark.parametrize("arrangement", ["td", "uniform", "reversed"])
def test_an_identity_follows_the_kernel_and_the_widths(arrangement: Any) -> None:
    td = to_topdown(plain(8, 16, 32), input_size=SIZE, arrangement=arrangement)
    check_network(td, torch.rand(2, *SIZE), classes=7)
    made = [m for m in td.modules() if isinstance(m, Dirac)]
    assert {m.kernel_size for m in made} >= {(3, 3)}
    for conv in made:
        assert torch.equal(conv.delta, nn.init.dirac_(torch.empty_like(conv.weight)))


class Ghost(nn.BatchNorm2d):
    """A batch norm of each half of a batch, which counts its statistics for both."""

    def __init__(self, width: int) -> None:
        super().__init__(width)
        self.register_buffer("running_mean", torch.zeros(2 * width))
        self.register_buffer("running_var", torch.ones(2 * width))

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        mean, var = self.running_mean, self.running_var
        if not self.training:
            return F.batch_norm(x, mean[:c], var[:c], self.weight, self.bias)
        weight, bias = self.weight.repeat(2), self.bias.repeat(2)
        halves = x.reshape(n // 2, 2 * c, h, w)
        return F.batch_norm(halves, mean, var, weight, bias, True).view(n, c, h, w)


@pytest.mark.parametrize("arrangement", ["td", "uniform", "reversed"])
def test_statistics_of_parts_of_a_batch_are_as_many_times_as_wide(arrangement: Any) -> None:
    def normed(width: int) -> nn.Module:
        return nn.Sequential(nn.Conv2d(width, width, 3, padding=1), Ghost(width), nn.ReLU())

    td = to_topdown(blocks(normed), input_size=SIZE, arrangement=arrangement)
    norms = [m for m in td.modules() if isinstance(m, Ghost)]
    assert norms
    assert all(len(m.running_mean) == 2 * m.num_features for m in norms)
    trained(td)


class Grouped(nn.Module):
    """Spatial group enhancement: as many groups as the finest stage has channels."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1, 8, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        b, c, h, w = x.size()
        y = x.view(b * 8, -1, h, w)
        gate = (y * y.mean((2, 3), keepdim=True)).sum(1, keepdim=True).view(b, 8, h, w)
        gate = (gate * self.weight).view(b * 8, 1, h, w).sigmoid()
        return (y * gate).view(b, c, h, w)


@pytest.mark.parametrize("arrangement", ["td", "uniform", "reversed"])
def test_groups_of_one_channel_become_wider(arrangement: Any) -> None:
    body = blocks(Grouped)
    assert isinstance(body, nn.Sequential)
    model = nn.Sequential(body[0], blocks(Grouped)[1], *body[1:])  # type: ignore[index]
    td = to_topdown(model, input_size=SIZE, arrangement=arrangement)
    assert td.plan.opaque == ()
    check_network(td, torch.rand(2, *SIZE), classes=7)


class Local(nn.Module):
    """Stand-alone attention: its windows are cut out of what 1x1 convolutions make of a padded map."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.query, self.key = nn.Conv2d(width, width, 1), nn.Conv2d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        key = self.key(F.pad(x, [1, 1, 1, 1])).unfold(2, 3, 1).unfold(3, 3, 1)
        key = key.contiguous().view(n, c, h, w, -1)
        return torch.einsum("nchwk,nchwk->nchw", (self.query(x)[..., None] * key).softmax(-1), key)


class Attending(nn.Module):
    def __init__(self, width_in: int, width: int, stride: int) -> None:
        super().__init__()
        self.first, self.local = nn.Conv2d(width_in, width, 1), Local(width)
        self.down = nn.Conv2d(width_in, width, 1, stride)
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        y = F.avg_pool2d(self.local(F.relu(self.first(x))), self.stride)
        return F.relu(y + self.down(x))


@pytest.mark.parametrize("arrangement", ["td", "reversed"])
def test_windows_of_attention_keep_their_padding_before_pointwise_convolutions(
    arrangement: Any,
) -> None:
    body = [Attending(8, 16, 1), Attending(16, 24, 2), Attending(24, 32, 2)]
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 7)]
    model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), *body, *head)
    td = to_topdown(model, input_size=SIZE, arrangement=arrangement)
    check_network(td, torch.rand(2, *SIZE), classes=7)


class Silent(nn.Sequential):
    """TSN: its own `train` returns nothing."""

    def train(self, mode: bool = True) -> Any:
        super().train(mode)


def test_a_train_that_returns_nothing_is_called_all_the_same() -> None:
    td = to_topdown(Silent(*plain(8, 16)), input_size=SIZE)
    check_network(td, torch.rand(2, *SIZE), classes=7)


class Listed(nn.Conv2d):
    """Slimmable networks: the widths that a forward cuts its kernel to stand in a list."""

    def __init__(self, width_in: int, width: int) -> None:
        super().__init__(width_in, width, 3, padding=1)
        self.widths = [width // 2, width]

    def forward(self, x: Tensor) -> Tensor:
        gain = torch.ones(self.widths[-1], 1, 1, device=x.device)
        return F.conv2d(x, self.weight, self.bias, self.stride, self.padding) * gain


def test_a_new_layer_that_does_not_run_names_the_rule_that_helps(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = nn.Sequential(
        Listed(3, 8), nn.ReLU(), nn.MaxPool2d(2), Listed(8, 16), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 7),
    )  # fmt: skip
    with pytest.raises(ConversionError, match=r"Remedy: register the class .* and a `resize`"):
        to_topdown(model, input_size=SIZE)

    conv = module_operator(model[0])
    assert conv is not None

    def resize(module: Any, sizes: Any) -> None:
        resize_conv(module, sizes)
        module.widths = [sizes["out"] // 2, sizes["out"]]

    monkeypatch.setattr(registry, "_operators", dict(registry._operators))
    register_operator(Listed, replace(conv, resize=resize))
    check_network(to_topdown(model, input_size=SIZE), torch.rand(2, *SIZE), classes=7)
