"""What courses and tutorials write: images that are warped or resized in the forward, kernels as
parameters, poolings of one's own, a number for each image, random numbers of Python."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from td_transform import TopDownNetwork, TraceError, plan_topdown, to_topdown
from tests.properties import check_network
from tests.transform.bodies import SIZE, Net, convert, pooled
from tests.transform.plain import unit

ARRANGEMENTS = pytest.mark.parametrize("arrangement", ["td", "uniform", "reversed"])


# Another image


class Warped(nn.Module):
    """A spatial transformer before the trunk."""

    def __init__(self) -> None:
        super().__init__()
        self.locate = nn.Sequential(nn.Conv2d(3, 4, 5, stride=4), nn.Flatten(), nn.Linear(196, 6))
        self.net = Net(pooled)

    def forward(self, x: Tensor) -> Tensor:
        theta = self.locate(x * 2 - 1).view(-1, 2, 3)
        grid = F.affine_grid(theta, list(x.size()), align_corners=False)
        return self.net(F.grid_sample(x, grid, align_corners=False))  # type: ignore[no-any-return]


@ARRANGEMENTS
def test_the_pyramid_is_of_the_warped_image(arrangement: str) -> None:
    model = Warped().eval()
    td = convert(model, arrangement=arrangement)
    alone = convert(model.net, arrangement=arrangement)
    assert [level.stride for level in td.plan.levels] == [4, 2, 1]
    locate = sum(p.numel() for p in model.locate.parameters())
    assert td.plan.front_parameters == locate
    assert td.plan.parameters == alone.plan.parameters + locate
    assert f"grid_sample); {locate:,} parameters, with the model's weights" in str(td.plan)
    check_network(td, torch.rand(2, *SIZE), classes=7)
    weights = td.get_parameter("front.body.locate.0.weight")
    torch.testing.assert_close(weights, model.locate[0].weight)
    assert weights is not model.locate[0].weight


def warped_within(width: int) -> nn.Module:
    class Within(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.locate = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 6))

        def forward(self, x: Tensor) -> Tensor:
            grid = F.affine_grid(self.locate(x).view(-1, 2, 3), list(x.shape), align_corners=False)
            return F.grid_sample(x, grid, align_corners=False)

    return Within()


@ARRANGEMENTS
def test_a_warp_between_blocks_has_any_width(arrangement: str) -> None:
    model = Net(pooled, lambda i, o, s: nn.Sequential(unit(i, o, s), warped_within(o)))
    td = convert(model, arrangement=arrangement)
    assert not td.plan.opaque
    check_network(td, torch.rand(2, *SIZE), classes=7)


@pytest.mark.parametrize(("size", "image"), [((64, 64), (64, 64)), ((48, 40), (48, 40))])
def test_the_pyramid_is_of_the_resized_image(size: tuple[int, int], image: tuple[int, int]) -> None:
    class Resizing(Net):
        def forward(self, x: Tensor) -> Any:
            return super().forward(F.interpolate(x / 255.0, size=size, mode="bilinear"))

    td = convert(Resizing(pooled))
    assert td.plan.image_size == (3, *image)
    assert [level.stride for level in td.plan.levels] == [4, 2, 1]
    assert td(torch.rand(2, *SIZE)).shape == (2, 7)


# Kernels as parameters


class Functional(nn.Module):
    """Every tensor is a parameter (MAML); the images have one channel."""

    def __init__(self, standardised: bool) -> None:
        super().__init__()
        self.standardised = standardised
        shapes = [(8, 1, 3, 3), (16, 8, 3, 3), (7, 16)]
        self.vars = nn.ParameterList(nn.Parameter(torch.randn(s) * 0.1) for s in shapes)

    def forward(self, x: Tensor) -> Tensor:
        *kernels, last = self.vars
        for w in kernels:
            if self.standardised:
                w = w - w.mean((1, 2, 3), keepdim=True)
            x = F.max_pool2d(F.relu(F.conv2d(x, w, padding=1)), 2)
        return F.linear(x.mean((2, 3)), last)


@pytest.mark.parametrize("standardised", [False, True])
@pytest.mark.parametrize(("arrangement", "width"), [("td", 8), ("uniform", 12), ("reversed", 16)])
def test_a_kernel_over_one_channel_reads_the_merged_map(
    arrangement: Any, width: int, standardised: bool
) -> None:
    td = to_topdown(Functional(standardised), input_size=(1, 16, 16), arrangement=arrangement)
    (kernel,) = (p for n, p in td.levels[1].named_parameters() if ".vars." in n)
    assert kernel.shape == (width, width, 3, 3)
    check_network(td, torch.rand(2, 1, 16, 16), classes=7)


class Noisy(nn.Module):
    """A kernel with a variance for each weight, over one channel (Bayes by backprop)."""

    def __init__(self, width_in: int, width: int) -> None:
        super().__init__()
        self.mean = nn.Parameter(torch.randn(width, width_in, 3, 3) * 0.1)
        self.rho = nn.Parameter(torch.full((width, width_in, 3, 3), -5.0))

    def forward(self, x: Tensor) -> Tensor:
        noise = torch.randn_like(self.mean) * self.rho.exp().log1p()
        return F.conv2d(x, self.mean + noise, padding=1)


@ARRANGEMENTS
def test_all_that_a_kernel_is_made_of_has_its_width(arrangement: Any) -> None:
    model = nn.Sequential(
        Noisy(1, 8), nn.ReLU(), nn.MaxPool2d(2), Noisy(8, 16), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 7),
    )  # fmt: skip
    td = to_topdown(model, input_size=(1, 16, 16), arrangement=arrangement)
    for layer in (m for m in td.levels.modules() if hasattr(m, "rho")):
        assert layer.rho.shape == layer.mean.shape
    check_network(td, torch.rand(2, 1, 16, 16), classes=7)


# Poolings and dropouts


class GeneralisedMean(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.p = nn.Parameter(torch.ones(1) * 3)

    def forward(self, x: Tensor) -> Tensor:
        x = x.clamp(min=1e-6).pow(self.p)
        return F.avg_pool2d(x, (x.size(-2), x.size(-1))).pow(1.0 / self.p).flatten(1)


@ARRANGEMENTS
def test_a_generalised_mean_is_the_heads(arrangement: str) -> None:
    class Pooled(Net):
        def __init__(self) -> None:
            super().__init__(lambda net, x: net.fc(net.pool(x)))
            self.pool = GeneralisedMean()

    td = convert(Pooled(), arrangement=arrangement)
    plain = convert(Net(pooled), arrangement=arrangement)
    assert [n for n, _ in td.named_parameters() if n.endswith(".p")] == ["head.pool.p"]
    assert td.plan.parameters == plain.plan.parameters + 1
    check_network(td, torch.rand(2, *SIZE), classes=7)


def test_a_dropout_that_is_wanted_in_eval_mode_stays() -> None:
    images = torch.rand(2, *SIZE)
    for always in (False, True):
        drop = lambda net, x, always=always: net.fc(  # noqa: E731
            F.dropout(x.mean((2, 3)), 0.5, training=always or net.training)
        )
        td = convert(Net(drop)).eval()
        assert torch.equal(td(images), td(images)) is not always
        assert not torch.equal(td.train()(images), td(images))


# A number for each image


@ARRANGEMENTS
def test_a_number_for_each_image(arrangement: str) -> None:
    """Discriminators, regression, two classes by one logit."""
    for number in (
        lambda net, x: net.fc(x.mean((2, 3)))[:, :1].squeeze(1),
        lambda net, x: net.fc(x.mean((2, 3))).logsumexp(1),
        lambda net, x: torch.sigmoid(net.attention(F.adaptive_avg_pool2d(x, 1))).view(-1),
    ):
        td = convert(Net(number), arrangement=arrangement)
        assert td(torch.rand(3, *SIZE)).shape == (3,)
        td(torch.rand(2, *SIZE)).sum().backward()
        assert td.get_parameter("levels.0.lift.conv.weight").grad is not None


def test_classes_are_no_logits() -> None:
    model = Net(lambda net, x: pooled(net, x).argmax(1))
    with pytest.raises(TraceError, match=r"numbers of torch.int64.*return.*the logits, not the cl"):
        plan_topdown(model, input_size=SIZE)


# What else is said or left alone


class Chances(Net):
    def forward(self, x: Tensor) -> Any:
        return super().forward(x if random.random() < 0.5 else x * 2)


class OfNumpy(Net):
    def forward(self, x: Tensor) -> Any:
        return super().forward(x * float(np.random.rand()))


class ByGradient(Net):
    """Dive into Deep Learning's batch norm asks so whether it trains."""

    def forward(self, x: Tensor) -> Any:
        return super().forward(x - x.mean() if torch.is_grad_enabled() else x)


class InTraining(Net):
    def forward(self, x: Tensor) -> Any:
        return super().forward(x * random.random() if self.training else x)


@pytest.mark.parametrize(
    ("network", "note"),
    [
        (Chances, "what Python's random module decides in eval mode is fixed as it was drawn"),
        (OfNumpy, "what numpy's random module decides in eval mode is fixed as it was drawn"),
        (ByGradient, "torch.is_grad_enabled() is fixed at True ("),
        (InTraining, "what the model does in training alone is left out"),
    ],
)
def test_random_numbers_are_said_to_be_fixed_and_nobody_elses_change(
    network: type[Net], note: str
) -> None:
    before = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state()
    plan = plan_topdown(network(pooled), input_size=SIZE)
    (said,) = plan.frozen
    assert said.startswith(note)
    assert str(plan) == str(plan_topdown(network(pooled), input_size=SIZE))
    assert random.getstate() == before[0]
    assert np.random.get_state()[1].tolist() == before[1]


def test_hooks_are_said_to_be_left_out() -> None:
    model = Net(pooled)
    model.body[0][0] = nn.utils.spectral_norm(model.body[0][0])  # a hook of torch's own
    assert plan_topdown(model, input_size=SIZE).frozen == ()
    model.body[1].register_forward_hook(lambda module, given, result: result * 2)
    model.register_forward_pre_hook(lambda module, given: None)
    (said,) = plan_topdown(model, input_size=SIZE).frozen
    assert said == "the forward hooks of 'Net' and 1 more are left out"


def test_a_compiled_model_is_not_compiled_again() -> None:
    compiled = 0

    def backend(module: Any, inputs: Any) -> Any:
        nonlocal compiled
        compiled += 1
        return module

    model = Net(pooled)
    model.body = torch.compile(model.body, backend=backend)  # type: ignore[assignment]
    td = convert(torch.compile(model, backend=backend))  # type: ignore[arg-type]
    assert isinstance(td, TopDownNetwork)
    assert td(torch.rand(2, *SIZE)).shape == (2, 7)
    assert compiled == 0


def test_outputs_are_counted_from_the_end_as_well() -> None:
    class Exits(Net):
        def forward(self, x: Tensor) -> Any:
            y = self.body(x)
            return y.mean((2, 3)), pooled(self, y)

    assert convert(Exits(pooled), output=-1)(torch.rand(2, *SIZE)).shape == (2, 7)
