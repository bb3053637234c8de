"""Warnings, notes and refusals: what is said is so, and the remedies work."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from td_transform import StructureError, TopDownError, plan_topdown, register_operator, to_topdown
from td_transform.operators import registry
from tests.transform.bodies import SIZE, Make, Net, blocks, chain, pooled, trained
from tests.transform.plain import unit


class FixedStatistics(nn.Module):
    """A norm whose running statistics are parameters that don't train."""

    def __init__(self, width_in: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width_in, width, 3, stride, 1)
        self.mean = nn.Parameter(torch.zeros(width), requires_grad=False)
        self.variance = nn.Parameter(torch.ones(width), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        return F.batch_norm(self.conv(x), self.mean, self.variance, training=True).relu()


class Written(nn.Module):
    """A norm that is written out."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1, width, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x * (x.pow(2).mean(1, keepdim=True) + 1e-6).rsqrt() * self.scale


def normed(width_in: int, width: int, stride: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(width_in, width, 3, stride, 1), Written(width), nn.ReLU())


class ByFours(nn.Module):
    """One norm for four channels each (e2cnn)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm3d(width // 4)

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        y: Tensor = self.norm(x.view(n, c // 4, 4, h, w))
        return y.view(n, c, h, w)


def by_fours(width_in: int, width: int, stride: int) -> nn.Module:
    return nn.Sequential(nn.Conv2d(width_in, width, 3, stride, 1), ByFours(width), nn.ReLU())


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("arrangement", ["td", "uniform", "reversed"])
def test_new_units_have_no_norm_that_takes_no_map(arrangement: Any) -> None:
    """They didn't run: torch's text was the error's."""
    td = to_topdown(Net(pooled, by_fours), input_size=SIZE, arrangement=arrangement)
    (warning,) = td.plan.warnings
    assert (
        "BatchNorm3d takes no maps as they are, so that lifts, merges and adapters have" in warning
    )
    assert [type(m) for m in td.get_submodule("levels.1.merge.unit").children()] == [
        nn.Conv2d,
        nn.ReLU,
    ]
    trained(td)


def test_a_norm_in_the_head_is_none_that_units_lack() -> None:
    model = Net(pooled, lambda width_in, width, stride: nn.Conv2d(width_in, width, 3, stride, 1))
    model.fc = nn.Sequential(nn.BatchNorm1d(32), nn.Linear(32, 7))  # type: ignore[assignment]
    assert to_topdown(model, input_size=SIZE).plan.warnings == ()


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("make", "remedy"),
    [
        (normed, "register_operator(Written, like=torch.nn.LayerNorm) before the conversion"),
        (FixedStatistics, "a module that normalises (torch.nn.BatchNorm2d"),
    ],
)
def test_that_new_units_lack_a_norm_is_said(make: Make, remedy: str) -> None:
    td = to_topdown(Net(pooled, make), input_size=SIZE)
    (warning,) = td.plan.warnings
    assert "lifts, merges and adapters have none" in warning
    assert remedy in warning
    trained(td)


def test_the_remedy_gives_new_units_the_norm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "_operators", dict(registry._operators))
    register_operator(Written, like=nn.LayerNorm)
    td = to_topdown(Net(pooled, normed), input_size=SIZE, arrangement="uniform")
    assert not td.plan.warnings
    assert isinstance(td.get_submodule("levels.1.lift.norm"), Written)
    assert isinstance(td.get_submodule("levels.1.merge.unit.norm"), Written)
    trained(td)


def test_layers_that_do_not_train_are_named_and_new_units_train() -> None:
    model = Net(pooled)
    model.body.requires_grad_(False)
    with pytest.warns(UserWarning, match=r"don't train in the bottom-up model \(module 'body\."):
        td = to_topdown(model, input_size=SIZE)
    frozen = [name for name, p in td.named_parameters() if not p.requires_grad]
    assert frozen
    assert all(".stage." in name for name in frozen)
    trained(td)
    assert not plan_topdown(model, input_size=SIZE, weights="inherit").warnings


class Branching(Net):
    def forward(self, x: Tensor) -> Any:
        if self.training:
            x = x + 0.1 * torch.randn_like(x)
        return super().forward(x)


class Dropping(Net):
    def forward(self, x: Tensor) -> Any:
        return F.dropout(super().forward(x), training=self.training)


class Same(Net):
    def forward(self, x: Tensor) -> Any:
        y = self.body(x)
        return pooled(self, y) if self.training else self.fc(y.mean((2, 3)))


def test_what_is_done_in_training_alone_is_said_to_be_left_out() -> None:
    (note,) = plan_topdown(Branching(pooled), input_size=SIZE).frozen
    assert note.startswith("what the model does in training alone is left out (branches at ")
    assert "test_what_is_said.py:" in note
    for network in (Dropping, Same):  # the one follows the network's mode, the other does no more
        assert plan_topdown(network(pooled), input_size=SIZE).frozen == ()


class Decoder(nn.Module):
    """Coarse maps that come back to the fine one."""

    def __init__(self) -> None:
        super().__init__()
        self.fine, self.coarse, self.fc = unit(3, 8), unit(8, 8, 2), nn.Linear(8, 7)

    def forward(self, x: Tensor) -> Any:
        x = self.fine(x)
        return self.fc((x + F.interpolate(self.coarse(x), scale_factor=2)).mean((2, 3)))


class Unrolled(nn.Module):
    """Tokens laid out window by window, so that a pooling takes the first of several parts (Hiera)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.fine, self.coarse = unit(3, 8, 2), nn.Linear(8, 8), nn.Linear(8, 8)
        self.fc = nn.Linear(8, 7)

    def forward(self, x: Tensor) -> Any:
        x = self.stem(x)
        n, c, h, w = x.shape
        x = x.view(n, c, h // 2, 2, w // 2, 2).permute(0, 3, 5, 2, 4, 1).reshape(n, h * w, c)
        x = x + self.fine(x)
        x = x.view(n, 4, -1, c).amax(1)
        return self.fc((x + self.coarse(x)).mean(1))


class Enlarging(Net):
    """What the first layer made is enlarged, not the image."""

    def __init__(self) -> None:
        super().__init__(pooled)
        self.first = unit(3, 3)

    def forward(self, x: Tensor) -> Any:
        return super().forward(F.interpolate(self.first(x), size=(48, 48)))


class WithoutGradient(Net):
    def forward(self, x: Tensor) -> Any:
        with torch.no_grad():
            y = self.body(x)
        return pooled(self, y)


def fractional(width_in: int, width: int, stride: int) -> nn.Module:
    pool = nn.FractionalMaxPool2d(2, output_ratio=0.7) if stride > 1 else nn.Identity()
    return nn.Sequential(pool, unit(width_in, width))


class FeaturesOfTwo(nn.Module):
    """No classifier, and what comes out is not the last map alone."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.last = chain(unit), unit(32, 32)

    def forward(self, x: Tensor) -> Tensor:
        x = self.body(x)
        return torch.cat([x.mean((2, 3)), self.last(x).mean((2, 3))], 1)


class Halves(nn.Module):
    """One resolution, with several tensors at once on the way."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.fc = unit(3, 8), nn.Linear(8, 7)

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.conv(x).chunk(2, 1)
        y: Tensor = self.fc(torch.cat([b, a], 1).mean((2, 3)))
        return y


class Picking(nn.Module):
    """Each image goes to the expert of its own (a mask as an index)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.experts = nn.ModuleList(unit(width, width) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        out = torch.zeros_like(x)
        for i, expert in enumerate(self.experts):
            mask = (x.mean((1, 2, 3)) > 0.5) == bool(i)
            out[mask] = expert(x[mask])
        return out


def picking(width_in: int, width: int, stride: int) -> nn.Module:
    return nn.Sequential(unit(width_in, width, stride), Picking(width))


REFUSED: dict[str, tuple[nn.Module, tuple[int, ...], str]] = {
    "decoder": (Decoder(), SIZE, "coarser maps of learned layers come back"),
    "unrolled": (Unrolled(), SIZE, "tokens in an order that is no map's, which become fewer"),
    "features": (FeaturesOfTwo(), SIZE, "nn.Sequential(model, nn.Linear(64, classes))"),
    "halves": (Halves(), SIZE, "features are not downsampled between learned layers"),
    "fraction": (Net(pooled, fractional), SIZE, "a map of 32x32 becomes one of 22x22"),
    "enlarged": (Enlarging(), SIZE, "resize the image before the first layer that learns"),
    "no gradient": (WithoutGradient(pooled), SIZE, "take torch.no_grad() and detach() out"),
    "picking": (
        Net(pooled, picking),
        SIZE,
        "choose with torch.where, or weigh, instead of picking",
    ),
    "sound": (Net(pooled), (1, 8000), "convert the network that follows by itself"),
    "list": (Net(lambda net, x: [pooled(net, x), x]), SIZE, "pass the index of the logits"),
    "names": (
        Net(lambda net, x: {"a": pooled(net, x), "b": x}),
        SIZE,
        "pass the name of the logits as output",
    ),
}


def test_a_classifier_behind_features_is_a_remedy() -> None:
    model = nn.Sequential(FeaturesOfTwo(), nn.Linear(64, 7))
    assert to_topdown(model, input_size=SIZE)(torch.rand(2, *SIZE)).shape == (2, 7)


@pytest.mark.parametrize("name", REFUSED)
def test_refusals_say_what_is_so(name: str) -> None:
    model, size, text = REFUSED[name]
    with pytest.raises(TopDownError) as caught:
        to_topdown(model, input_size=size)
    assert text in str(caught.value)


class Spectral(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.fft.hfft(torch.fft.ihfft(x), x.shape[3])


def test_a_remedy_names_functions_as_one_writes_them() -> None:
    with pytest.raises(TopDownError, match=r"register_operator\(torch\.fft\.ihfft, "):
        to_topdown(blocks(lambda width: Spectral()), input_size=SIZE, arrangement="uniform")


@pytest.mark.parametrize(
    ("shape", "remedy"),
    [(SIZE, r"x\[None\]"), ((32, 32), "one batch of images")],
)
def test_images_without_a_batch(shape: tuple[int, ...], remedy: str) -> None:
    td = to_topdown(Net(pooled), input_size=SIZE)
    with pytest.raises(TopDownError, match=rf"\(N, C, H, W\), a tensor\. Remedy: pass {remedy}"):
        td(torch.rand(shape))
    assert td(torch.rand(2, *SIZE)).shape == (2, 7)


UNREADABLE = {
    "channels": (torch.rand(2, 1, 32, 32), "1 channels in .*; expected 3, as .* pass images of 3"),
    "channels last": (torch.rand(2, 32, 32, 3), "32 channels in .*; expected 3, as .* pass images"),
    "integers": (torch.zeros(2, *SIZE, dtype=torch.uint8), r"torch\.uint8; .*\.float\(\) / 255"),
}


@pytest.mark.parametrize("images", UNREADABLE)
def test_images_that_the_network_can_not_read(images: str) -> None:
    td = to_topdown(Net(pooled), input_size=SIZE)
    given, text = UNREADABLE[images]
    for passed in (given, [given] * len(td.plan.levels)):
        with pytest.raises(TopDownError, match=text):
            td(passed)


def test_a_pooled_line_is_no_token() -> None:
    """Statistics pooling (N, C, 1) of speaker networks, and a convolution behind it."""
    body = nn.Conv1d(4, 8, 3, padding=1), nn.ReLU(), nn.Conv1d(8, 8, 3, padding=1)
    end = Statistics(), nn.Conv1d(16, 6, 1), nn.Flatten(), nn.Linear(6, 5)
    with pytest.raises(
        StructureError, match="one stage at stride 1: its features are not downsampled"
    ):
        plan_topdown(nn.Sequential(*body, *end), input_size=(4, 64))


class Statistics(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x.mean(2), x.std(2)], dim=1).unsqueeze(2)
