"""What a refusal advises works."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from td_transform import (
    ConversionError,
    StructureError,
    TraceError,
    UnknownOperatorError,
    register_operator,
    to_topdown,
)
from td_transform.operators import registry
from tests.transform.bodies import SIZE, Net, blocks, pooled, trained
from tests.transform.plain import Network


class Masked(nn.Module):
    """Every other channel is left out."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("mask", torch.arange(width) % 2 == 0)

    def forward(self, x: Tensor) -> Tensor:
        y = x.clone()
        y[:, self.mask] = 0.0
        return y


class MaskedBlock(nn.Module):
    """The same amid layers."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv, self.mask = nn.Conv2d(width, width, 1), torch.arange(width) % 2 == 0

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv(x)
        y[:, self.mask] = 0.0
        return y


@pytest.mark.filterwarnings("ignore")
def test_pythons_own_syntax_is_registered_with_the_module_around(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(UnknownOperatorError, match=r"register_operator\(Masked, Operator\(...\)\)"):
        to_topdown(blocks(Masked), input_size=SIZE, arrangement="uniform")
    with pytest.raises(UnknownOperatorError, match="move this code to a module of its own"):
        to_topdown(blocks(MaskedBlock), input_size=SIZE, arrangement="uniform")
    monkeypatch.setattr(registry, "_operators", dict(registry._operators))
    register_operator(Masked, like=nn.BatchNorm2d)
    td = to_topdown(blocks(Masked), input_size=SIZE, arrangement="uniform")
    assert {m.mask.sum().item() for m in td.modules() if isinstance(m, Masked)} == {8}
    trained(td)


class Running(nn.Module):
    """A norm by statistics that it keeps in every mode."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.scale, self.shift = (
            nn.Parameter(fill(width, 1, 1)) for fill in (torch.ones, torch.zeros)
        )
        self.register_buffer("mean", torch.zeros(1, width, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        self.mean = 0.9 * self.mean + 0.1 * x.detach().mean((0, 2, 3), keepdim=True)
        return (x - self.mean) * self.scale + self.shift


@pytest.mark.filterwarnings("ignore")
def test_a_norm_of_ones_own_is_like_torchs(monkeypatch: pytest.MonkeyPatch) -> None:
    remedy = r"register_operator\(Running, like=torch.nn.BatchNorm2d\) if its parameters are one a channel"
    with pytest.raises(UnknownOperatorError, match=remedy):
        to_topdown(blocks(Running), input_size=SIZE, arrangement="uniform")
    monkeypatch.setattr(registry, "_operators", dict(registry._operators))
    register_operator(Running, like=torch.nn.BatchNorm2d)
    td = to_topdown(blocks(Running), input_size=SIZE, arrangement="uniform")
    norms = [module for module in td.modules() if isinstance(module, Running)]
    assert {tuple(norm.scale.shape) for norm in norms} == {(16, 1, 1)}
    trained(td)
    assert all(norm.mean.abs().sum() > 0 for norm in norms)


class Picked(nn.Module):
    """Channels in another order, by masks or by their places."""

    def __init__(self, width: int, *, places: bool) -> None:
        super().__init__()
        even = torch.arange(width) % 2 == 0
        parts = [even, ~even]
        self.even, self.odd = [p.nonzero()[:, 0] for p in parts] if places else parts

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x[:, self.even], x[:, self.odd]], 1)


@pytest.mark.filterwarnings("ignore")
def test_a_mask_that_stays_the_same_is_kept_as_places() -> None:
    with pytest.raises(ConversionError, match=r"keep the places \(mask.nonzero\(\)\[:, 0\]\)"):
        to_topdown(blocks(lambda width: Picked(width, places=False)), input_size=SIZE)
    trained(to_topdown(blocks(lambda width: Picked(width, places=True)), input_size=SIZE))


class Deviation(Net):
    """How much the images of a group differ is one more feature (StyleGAN)."""

    def __init__(self, *, of_any_batch: bool) -> None:
        super().__init__(pooled, last=32)
        self.fc, self.of_any_batch = nn.Linear(33, 7), of_any_batch

    def forward(self, x: Tensor) -> Tensor:
        y = self.body(x).mean((2, 3))
        group = y.shape[0] if self.of_any_batch else 4
        assert y.shape[0] % group == 0
        deviation = y.reshape(group, -1).std(0).mean()
        out: Tensor = self.fc(F.pad(y, (0, 1)) + F.pad(deviation[None], (32, 0)))
        return out


@pytest.mark.filterwarnings("ignore")
def test_statistics_over_images_are_over_all_of_them() -> None:
    with pytest.raises(TraceError, match=r"runs with 2 images as it does with 4.*one group"):
        to_topdown(Deviation(of_any_batch=False), input_size=SIZE)
    trained(to_topdown(Deviation(of_any_batch=True), input_size=SIZE))


class Steerable(nn.Module):
    """A convolution whose kernel is made of a few weights, and kept for eval mode (e2cnn)."""

    def __init__(self, width_in: int, width: int, stride: int = 1) -> None:
        super().__init__()
        self.shape, self.stride = (width, width_in, 3, 3), stride
        self.weights = nn.Parameter(torch.rand(width * width_in * 2))
        self.register_buffer("basis", torch.rand(2, 9))
        self.register_buffer("kernel", torch.zeros(self.shape))

    def expanded(self) -> Tensor:
        return (self.weights.view(-1, 2) @ self.basis).view(self.shape)

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.kernel, None, self.stride, 1)


class InTraining(Steerable):
    def forward(self, x: Tensor) -> Tensor:
        kernel = self.expanded() if self.training else self.kernel
        return F.conv2d(x, kernel, None, self.stride, 1)


class Always(Steerable):
    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.expanded(), None, self.stride, 1)


@pytest.mark.parametrize(
    ("layer", "text"),
    [
        (Steerable, r"buffer '0\.kernel' as a kernel, while nothing reads.*in eval mode as well"),
        (InTraining, r"an unknown kind \(InTraining\).*in training and eval mode alike"),
    ],
)
def test_kernels_are_made_in_every_forward(layer: type[Steerable], text: str) -> None:
    def network(kind: type[Steerable]) -> nn.Module:
        body = [kind(3, 8), nn.ReLU(), kind(8, 16, 2), nn.ReLU(), kind(16, 32, 2), nn.ReLU()]
        return nn.Sequential(*body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 7))

    with pytest.raises(StructureError, match=text):
        to_topdown(network(layer), input_size=SIZE)
    td = to_topdown(network(Always), input_size=SIZE)
    assert [level.width for level in td.plan.levels] == [32, 16, 8]
    trained(td)


class Leaky(nn.Module):
    """A voltage that every call adds to."""

    def __init__(self) -> None:
        super().__init__()
        self.reset()

    def reset(self) -> None:
        self.voltage = torch.zeros(())

    def forward(self, x: Tensor) -> Tensor:
        self.voltage = 0.9 * self.voltage + x
        return torch.sigmoid(self.voltage)


class Mirrored(nn.Module):
    """The mean over an image and its mirror image."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = (self.net(x) + self.net(x.flip(-1))) / 2
        return logits


def test_the_network_that_runs_on_copies_of_the_image_is_converted() -> None:
    model = Mirrored(Network())
    with pytest.raises(
        StructureError, match=r"run 2 times, each time on.*: convert model\.net, and"
    ):
        to_topdown(model, input_size=SIZE)
    mirrored = Mirrored(to_topdown(model.net, input_size=SIZE))
    mirrored(torch.rand(2, *SIZE)).square().sum().backward()
    assert all(p.grad is not None for p in mirrored.parameters())


class Steps(nn.Module):
    """The layers of one step, as often as there are steps."""

    def __init__(self, step: nn.Module) -> None:
        super().__init__()
        self.step = step

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = sum(self.step(x) for _ in range(3))  # type: ignore[assignment]
        return logits


def test_the_network_of_one_step_is_called_in_a_loop() -> None:
    body = [nn.Conv2d(3, 8, 3, padding=1), Leaky(), nn.Conv2d(8, 16, 3, 2, 1), Leaky()]
    step = nn.Sequential(*body, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 7))
    with pytest.raises(
        StructureError, match=r"run 3 times.*one step.*in a loop, and reset its layers"
    ):
        to_topdown(Steps(step), input_size=SIZE)
    td, images, found = to_topdown(step, input_size=SIZE).eval(), torch.rand(2, *SIZE), []
    for _ in range(2):
        for layer in (m for m in td.modules() if isinstance(m, Leaky)):
            layer.reset()
        found.append([td(images) for _ in range(3)])
        sum(found[-1]).sum().backward()  # type: ignore[union-attr]
    first, again = found
    assert not torch.equal(first[0], first[1])
    for before, after in zip(first, again, strict=True):
        torch.testing.assert_close(before, after)
