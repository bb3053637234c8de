"""Models whose input is no map: the pyramid is made of what they make of it."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from td_transform import (
    StructureError,
    TopDownError,
    TraceError,
    load_topdown,
    plan_topdown,
    receptive_field,
    save_topdown,
    tiled,
    to_topdown,
)
from td_transform.cost import measure
from td_transform.layers.dimensions import DIMENSIONS

pytestmark = pytest.mark.filterwarnings("ignore:output_stride")


def body(axes: int, width: int) -> nn.Sequential:
    kinds = DIMENSIONS[axes]
    layers: list[nn.Module] = []
    for width_in, width_out in ((width, 4), (4, 6)):
        conv = kinds.conv(width_in, width_out, 3, padding=1)  # type: ignore[arg-type]
        layers += [conv, nn.ReLU(), kinds.max_pool(2)]
    last = kinds.conv(6, 6, 3, padding=1)  # type: ignore[arg-type]
    pool = kinds.adaptive_pool(1)  # type: ignore[call-arg]
    return nn.Sequential(*layers, last, nn.ReLU(), pool, nn.Flatten(), nn.Linear(6, 3))


class Model(nn.Module):
    """A network behind a function of its input."""

    def __init__(self, front: Callable[[Tensor], Tensor], axes: int, width: int) -> None:
        super().__init__()
        self.front = front
        self.body = body(axes, width)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.body(self.front(x))
        return logits.view(x.shape[0], -1)


def spectrogram(x: Tensor) -> Tensor:
    window = torch.hann_window(16, device=x.device)
    found = torch.stft(x, 16, 8, window=window, return_complex=True)
    return found.abs().log1p().unsqueeze(1) - np.float64(0.5)


class FrozenFilters(nn.Module):
    """A spectrogram by convolutions that don't train, a norm of its bands, padding."""

    def __init__(self) -> None:
        super().__init__()
        self.filters = nn.Conv1d(1, 16, 8, stride=4, bias=False).requires_grad_(False)
        self.norm = nn.BatchNorm2d(16)

    def forward(self, x: Tensor) -> Tensor:
        bands = self.filters(x.unsqueeze(1)).square().unsqueeze(1)
        return self.norm(bands.transpose(1, 2)).transpose(1, 2)


# what makes the image, the input's size, and that of the image
FRONTS: dict[str, tuple[Callable[[], Callable[[Tensor], Tensor]], tuple[int, ...], tuple[int, ...]]] = {
    "electrodes over time": (lambda: lambda x: x.unsqueeze(1), (6, 32), (1, 6, 32)),
    "time over electrodes": (
        lambda: lambda x: x.unsqueeze(-1).permute(0, 3, 2, 1), (6, 32), (1, 32, 6),
    ),
    "bands of electrodes": (lambda: lambda x: x.flatten(1, 2), (2, 3, 32), (6, 32)),
    "channels last": (lambda: lambda x: x.permute(0, 3, 1, 2), (16, 12, 3), (3, 16, 12)),
    "frames first": (lambda: lambda x: x.transpose(1, 2), (4, 3, 8, 8), (3, 4, 8, 8)),
    "a waveform": (lambda: spectrogram, (128,), (1, 9, 17)),
    "frozen filters": (FrozenFilters, (132,), (1, 16, 32)),
}  # fmt: skip


@pytest.mark.parametrize("name", FRONTS)
def test_the_pyramid_stands_behind_the_front(name: str) -> None:
    """The network is that of what stands behind the front, on what the front makes."""
    make, size, image_size = FRONTS[name]
    torch.manual_seed(0)
    model = Model(make(), len(image_size) - 1, image_size[0]).eval()
    td = to_topdown(model, input_size=size)
    alone = to_topdown(model.body, input_size=image_size)
    assert td.plan.input_size == size
    assert td.plan.image_size == alone.plan.input_size == image_size
    assert "front: the pyramid is of what the model makes" in str(td.plan)
    of_levels = {n: p for n, p in td.state_dict().items() if not n.startswith("front.")}
    for own, other in zip(of_levels.values(), alone.state_dict().values(), strict=True):
        other.copy_(own)
    x = torch.rand(3, *size)
    with torch.no_grad():
        torch.testing.assert_close(td(x), alone(model.front(x)))
        torch.testing.assert_close(td([x, x, x]), td(x))
        if isinstance(model.front, nn.Module):
            torch.testing.assert_close(td.get_submodule("front")(x), model.front(x))


@pytest.fixture
def lines() -> Model:
    return Model(lambda x: x.unsqueeze(1), 2, 1).eval()


def test_tools_see_the_image(lines: Model, tmp_path: Path) -> None:
    td = to_topdown(lines, input_size=(6, 32))
    assert receptive_field(lines, (6, 32))["body.5"].stride == (4, 4)
    assert receptive_field(td)[td.level_ends[-1]].output_size == (6, 32)
    assert measure(td, (6, 32)).output_size == (6, 32)
    assert measure(lines, (6, 32)).output_size == (1, 8)
    save_topdown(td, tmp_path / "td.pt")
    again = load_topdown(tmp_path / "td.pt", lines)
    x = torch.rand(2, 6, 32)
    with torch.no_grad():
        torch.testing.assert_close(again.eval()(x), td.eval()(x))
        compiled = torch.compile(td, fullgraph=True, backend="eager")
        torch.testing.assert_close(compiled(x), td(x))


def test_inputs_that_do_not_fit(lines: Model) -> None:
    td = to_topdown(lines, input_size=(6, 32)).eval()
    with pytest.raises(
        TopDownError, match=r"\(2, 1, 6, 32\); expected a batch of images \(N, C, L\)"
    ):
        td(torch.rand(2, 1, 6, 32))
    with pytest.raises(TopDownError, match=r"an input \(6, 32\) of which unsqueeze make an image"):
        tiled(td)(torch.rand(2, 6, 32))


class TwoImages(nn.Module):
    """Every branch makes an image of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.rows, self.columns = nn.Conv2d(1, 4, 3), nn.Conv2d(1, 4, 3)
        self.fc = nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        rows = self.rows(x.unsqueeze(1)).mean((2, 3))
        columns = self.columns(x.transpose(1, 2).unsqueeze(1)).mean((2, 3))
        return self.fc(torch.cat([rows, columns], 1))


class LearnedBefore(Model):
    def __init__(self) -> None:
        super().__init__(lambda x: x.unsqueeze(1), 2, 1)
        self.mixing = nn.Linear(32, 32)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(self.mixing(x))


REFUSED: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], type[TopDownError], str]] = {
    "two images": (
        TwoImages, (6, 32), TraceError, "or an input of which the model makes such maps, one of each",
    ),
    "frames in the batch": (
        lambda: Model(lambda x: x.flatten(0, 1), 2, 3), (4, 3, 16, 16), TraceError,
        "input_size.*folds frames into the batch",
    ),
    "a learned layer before": (
        LearnedBefore, (6, 32), StructureError,
        r"mixing.*a learned layer before the tensor \(1, 6, 32\).*convert the network behind that layer",
    ),
    "no convolution": (lambda: nn.Linear(16, 4), (16,), TraceError, r"\(16,\); expected three positive"),
    "a single image": (lambda: body(2, 2), (16, 16), TraceError, r"\(16, 16\); expected three positive"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_no_image_is_refused(name: str) -> None:
    make, size, kind, text = REFUSED[name]
    with pytest.raises(kind, match=text):
        plan_topdown(make(), input_size=size)


# An axis that ends, and what else networks of electrodes have


def electrodes(*rest: nn.Module) -> nn.Sequential:
    """Time, then all electrodes at a time, then coarser time."""
    return nn.Sequential(
        nn.Unflatten(1, (1, 6)),
        nn.Conv2d(1, 4, (1, 5), padding=(0, 2)), nn.BatchNorm2d(4), nn.ReLU(),
        nn.Conv2d(4, 4, (1, 5), padding=(0, 2)), nn.BatchNorm2d(4), nn.ReLU(),
        nn.Conv2d(4, 6, (6, 1)), nn.BatchNorm2d(6), nn.ReLU(), nn.AvgPool2d((1, 4)),
        nn.Conv2d(6, 8, (1, 5), padding=(0, 2)), nn.BatchNorm2d(8), nn.ReLU(), nn.AvgPool2d((1, 2)),
        *rest,
    )  # fmt: skip


class Classifier(nn.Module):
    """A convolution as large as the map, and its axes taken away one after the other."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(8, 3, (1, 4))

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x).permute(0, 1, 3, 2).squeeze(3).squeeze(2)


@pytest.mark.parametrize(
    "head", [Classifier(), nn.Sequential(nn.Conv2d(8, 3, (1, 4)), nn.Flatten())]
)
@pytest.mark.parametrize("arrangement", ["td", "uniform", "reversed"])
def test_a_convolution_over_a_whole_axis_lowers_its_resolution(
    head: nn.Module, arrangement: str
) -> None:
    model = electrodes(head)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        td = to_topdown(model, input_size=(6, 32), arrangement=arrangement)  # type: ignore[arg-type]
    assert [level.strides for level in td.plan.levels] == [(6, 4), (6, 1), (1, 1)]
    assert any("average-pooled to that size first" in str(each.message) for each in caught)
    assert td(torch.rand(2, 6, 32)).shape == (2, 3)


def test_a_depthwise_unit_over_all_electrodes_begins_a_stage() -> None:
    """EEGNet: such a unit is no part of the stem, for the resolution falls there."""
    model = nn.Sequential(
        nn.Unflatten(1, (1, 6)), nn.Conv2d(1, 4, (1, 5), padding=(0, 2)), nn.BatchNorm2d(4),
        nn.Conv2d(4, 8, (6, 1), groups=4), nn.BatchNorm2d(8), nn.ELU(), nn.AvgPool2d((1, 4)),
        nn.Conv2d(8, 8, (1, 5), padding=(0, 2), groups=8), nn.Conv2d(8, 8, 1), nn.BatchNorm2d(8),
        nn.ELU(), nn.AvgPool2d((1, 2)), nn.Flatten(), nn.Linear(32, 3),
    )  # fmt: skip
    plan = plan_topdown(model, input_size=(6, 32), output_stride=6)
    assert [level.strides for level in plan.levels] == [(6, 4), (6, 1)]


def test_one_stage_and_a_coarser_classifier() -> None:
    """A classifier in the head is no coarser map that comes back."""
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 3, 1),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(),
    )  # fmt: skip
    with pytest.raises(
        StructureError, match="one stage at stride 1: its features are not downsampled"
    ):
        plan_topdown(model, input_size=(1, 16, 16))


class Causal(nn.Conv1d):
    """It pads on both sides, and cuts off what lies ahead."""

    def __init__(self, width: int) -> None:
        super().__init__(width, width, 4, padding=3)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x)[..., : -self.padding[0]]  # type: ignore[operator, misc]


def test_a_causal_convolution_stays_as_it_is() -> None:
    model = nn.Sequential(
        nn.Conv1d(2, 4, 3, padding=1), nn.ReLU(), nn.MaxPool1d(2), Causal(4), nn.ReLU(),
        nn.MaxPool1d(2), Causal(4), nn.ReLU(), Causal(4), nn.ReLU(),
        nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(4, 3),
    )  # fmt: skip
    td = to_topdown(model, input_size=(2, 32))
    assert td(torch.rand(2, 2, 32)).shape == (2, 3)


def test_a_unit_with_the_form_of_a_block_keeps_its_name() -> None:
    """No layer takes the name of a module that others lie in."""
    depthwise = nn.Conv2d(6, 6, 3, padding=1, groups=6)
    model = nn.Sequential(
        nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ELU()),
        nn.MaxPool2d(2),
        nn.Sequential(nn.Conv2d(4, 6, 1), nn.BatchNorm2d(6), nn.ELU()),
        nn.Sequential(depthwise, nn.Conv2d(6, 6, 1), nn.BatchNorm2d(6), nn.ELU()),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 3),
    )  # fmt: skip
    td = to_topdown(model, input_size=(1, 16, 16))
    assert td(torch.rand(2, 1, 16, 16)).shape == (2, 3)


class PaddedShortcut(nn.Module):
    """ResNet's option A, with channels of zeros that the forward makes on the CPU."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv3d(4, 6, 3, 2, 1), nn.BatchNorm3d(6), nn.ReLU(), nn.Conv3d(6, 6, 3, padding=1)
        )

    def forward(self, x: Tensor) -> Tensor:
        y = nn.functional.avg_pool3d(x, 1, 2)
        zeros = torch.zeros(y.size(0), 2, y.size(2), y.size(3), y.size(4))
        return torch.relu(self.body(x) + torch.cat([y, zeros], 1))


def test_zeros_made_on_the_cpu() -> None:
    model = nn.Sequential(
        nn.Conv3d(2, 4, 3, padding=1), nn.ReLU(), nn.Conv3d(4, 4, 3, padding=1), nn.ReLU(),
        PaddedShortcut(), nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(6, 3),
    )  # fmt: skip
    td = to_topdown(model, input_size=(2, 8, 8, 8))
    assert td(torch.rand(2, 2, 8, 8, 8)).shape == (2, 3)


class Rearranged(nn.Module):
    """Space to depth, column by column (as i-RevNet does it)."""

    def forward(self, x: Tensor) -> Tensor:
        columns = [c.reshape(x.shape[0], 8, -1) for c in x.permute(0, 2, 3, 1).split(2, dim=2)]
        return torch.stack(columns, 1).permute(0, 3, 2, 1)


def test_lost_axes_are_said_to_be_lost() -> None:
    model = nn.Sequential(Rearranged(), body(2, 12))
    lost = r"node '_1_0'.*\(2, 12, 8, 8\) in which the image's axes are lost.*leaf_modules"
    with pytest.raises(StructureError, match=lost):
        plan_topdown(model, input_size=(3, 16, 16))
    plan = plan_topdown(model, input_size=(3, 16, 16), leaf_modules=("0",))
    assert [level.stride for level in plan.levels] == [8, 4, 2, 1]


def test_positions_behind_a_pooling_stay() -> None:
    class Positions(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table = nn.Parameter(torch.ones(1, 6, 4, 4))

        def forward(self, x: Tensor) -> Tensor:
            return nn.functional.dropout(x + self.table, 0.1, training=self.training)

    model = body(2, 2)
    model.insert(6, Positions())
    td = to_topdown(model, input_size=(2, 16, 16))
    assert sum(p.numel() for p in td.parameters() if p.shape == (1, 6, 4, 4)) == 96


@pytest.mark.parametrize(("is_added", "strides"), [(False, [8, 4]), (True, [8, 4, 2])])
def test_a_depthwise_unit_alone_belongs_to_the_stem(is_added: bool, strides: list[int]) -> None:
    """The image's axes one after the other, ahead of blocks, as in efficient X3D; one that encodes
    positions is added, and belongs to the blocks."""

    class Depthwise(nn.Sequential):
        def __init__(self, width: int) -> None:
            conv = nn.Conv2d(width, width, (3, 1), padding=(1, 0), groups=width)
            super().__init__(conv, nn.BatchNorm2d(width), nn.ReLU())

        def forward(self, x: Tensor) -> Tensor:
            return x + super().forward(x) if is_added else super().forward(x)

    class Block(nn.Module):
        def __init__(self, width: int, stride: int) -> None:
            super().__init__()
            self.body = nn.Sequential(
                nn.Conv2d(width // stride, width, 3, stride, 1),
                nn.ReLU(),
                nn.Conv2d(width, width, 3, 1, 1),
            )
            self.skip = nn.Conv2d(width // stride, width, 1, stride)

        def forward(self, x: Tensor) -> Tensor:
            return torch.relu(self.body(x) + self.skip(x))

    model = nn.Sequential(
        nn.Conv2d(1, 4, (1, 3), 2, (0, 1)),
        Depthwise(4), Block(8, 2), Depthwise(8), Block(16, 2), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(16, 3),
    )  # fmt: skip
    plan = plan_topdown(model, input_size=(1, 32, 32), output_stride=strides[-1])
    assert [level.stride for level in plan.levels] == strides
