"""Lines and volumes: the rules of pictures with another number of axes."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_args

import pytest
import torch
from torch import nn

from td_transform import (
    StructureError,
    TopDownError,
    TraceError,
    load_topdown,
    plan_topdown,
    receptive_field,
    save_topdown,
    to_topdown,
)
from td_transform.cost import measure
from td_transform.draw import draw
from td_transform.layers import MergeKind
from td_transform.layers.pyramid import Pyramid, PyramidKind, gaussian_matrix
from td_transform.layers.upsample import Upsample, UpsampleKind
from td_transform.options import Arrangement
from td_transform.torchvision_cpu import import_torchvision
from tests.transform.lines_and_volumes import NETWORKS, Space, residual, with_idle_axis

KINDS: tuple[PyramidKind, ...] = get_args(PyramidKind)
UPSAMPLINGS: tuple[UpsampleKind, ...] = get_args(UpsampleKind)
SIZES = ((33,), (9, 33), (8, 9, 33))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", SIZES)
def test_levels_of_any_axes_have_the_rounded_up_size(
    kind: PyramidKind, size: tuple[int, ...]
) -> None:
    (level,) = Pyramid((4,), kind=kind, axes=len(size))(torch.rand(2, 3, *size))
    assert tuple(level.shape) == (2, 3, *(-(-side // 4) for side in size))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("axis", [2, 3, 4])
def test_a_volume_that_varies_along_one_axis_gives_the_level_of_a_line(
    kind: PyramidKind, axis: int
) -> None:
    line = torch.rand(2, 3, 33, generator=torch.Generator().manual_seed(0))
    volume = line[:, :, None, None].expand(2, 3, 8, 9, 33).movedim(-1, axis)
    (expected,) = Pyramid((2,), kind=kind, axes=1)(line)
    (level,) = Pyramid((2,), kind=kind, axes=3)(volume)
    torch.testing.assert_close(
        level.movedim(axis, -1), expected[:, :, None, None].expand(2, 3, 4, 5, 17)
    )


@pytest.mark.parametrize(("size", "factor"), [(5001, 2), (6000, 7)])
def test_a_long_line_needs_no_matrix(size: int, factor: int) -> None:
    """A second of sound has more samples than a picture has columns."""
    line = torch.rand(2, 1, size)
    (level,) = Pyramid((factor,), axes=1)(line)
    torch.testing.assert_close(level, line @ gaussian_matrix(size, factor, line).T)


@pytest.mark.parametrize("kind", UPSAMPLINGS)
@pytest.mark.parametrize("size", SIZES)
def test_upsampling_of_any_axes_gives_the_finer_size(
    kind: UpsampleKind, size: tuple[int, ...]
) -> None:
    upsample = Upsample(2, kind=kind, channels=4, axes=len(size))
    coarse = torch.rand(1, 4, *(-(-side // 2) for side in size))
    assert tuple(upsample(coarse, torch.rand(1, 1, *size)).shape) == (1, 4, *size)


@pytest.mark.parametrize("axes", [1, 3])
@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("arrangement", get_args(Arrangement))
def test_networks_train(axes: int, name: str, arrangement: Arrangement) -> None:
    space, case = Space(axes), axes + len(name) + len(arrangement)
    upsample, kind = UPSAMPLINGS[case % len(UPSAMPLINGS)], KINDS[case % len(KINDS)]
    td = to_topdown(
        NETWORKS[name](space),
        input_size=space.size(8),
        arrangement=arrangement,
        upsample=upsample,
        pyramid=kind,
    )
    assert td.plan.levels[-1].strides == (1,) * axes
    td(torch.rand(2, *space.size(8))).sum().backward()
    assert all(parameter.grad is not None for parameter in td.parameters())
    assert td.eval()(torch.rand(1, *space.size(9))).shape == (1, 3)


@pytest.mark.parametrize("axes", [1, 2])
@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize(
    ("upsample", "merge"),
    [
        ("nearest", "add-concat"),
        *(
            pytest.param(*options, marks=pytest.mark.exhaustive)
            for options in [
                ("bilinear", "add-concat"), ("transposed", "add-concat"), ("nearest", "concat"),
            ]
        ),
    ],
)  # fmt: skip
@pytest.mark.parametrize("arrangement", get_args(Arrangement))
def test_an_idle_axis_changes_nothing(
    axes: int, name: str, upsample: UpsampleKind, merge: MergeKind, arrangement: Arrangement
) -> None:
    """A network on lines is that on pictures of one row, and so on: logits and sizes agree."""
    options: dict[str, Any] = {"upsample": upsample, "merge": merge, "arrangement": arrangement}
    kind = KINDS[(axes + len(upsample) + len(name)) % len(KINDS)]
    plain, idle = Space(axes), Space(axes + 1, idle=True)
    torch.manual_seed(0)
    pair = [
        to_topdown(NETWORKS[name](space), input_size=space.size(8), pyramid=kind, **options)
        for space in (plain, idle)
    ]
    pair[1].load_state_dict(with_idle_axis(pair[0].state_dict(), pair[1].state_dict()))
    pair = [td.eval().double() for td in pair]  # sums in another order, by other kernels
    images = torch.rand(2, *plain.size(8), dtype=torch.float64)
    torch.testing.assert_close(pair[0](images), pair[1](images.unsqueeze(2)))
    assert [(1, *level.strides) for level in pair[0].plan.levels] == [
        level.strides for level in pair[1].plan.levels
    ]


def test_strides_that_differ_between_axes() -> None:
    """Time keeps its resolution where the bottom-up network keeps it, whatever the output stride."""
    space = Space(3, idle=True)
    strides = {
        stride: [
            level.strides
            for level in plan_topdown(
                residual(space), input_size=(2, 5, 16, 16), output_stride=stride
            ).levels
        ]
        for stride in (1, 2, 4)
    }
    assert strides[1] == [(1, 4, 4), (1, 2, 2), (1, 1, 1)]
    assert strides[2] == [(1, 4, 4), (1, 2, 2)]
    assert strides[4] == [(2, 8, 8), (2, 4, 4)]


class TwoSteps(nn.Module):
    """Downsamples space first and time after it, in one block (as R(2+1)D does)."""

    def __init__(self, width_in: int, width: int) -> None:
        super().__init__()
        self.space = nn.Conv3d(width_in, width, (1, 3, 3), (1, 2, 2), (0, 1, 1))
        self.time = nn.Conv3d(width, width, (3, 1, 1), (2, 1, 1), (1, 0, 0))
        self.shortcut = nn.Conv3d(width_in, width, 1, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.time(torch.relu(self.space(x))) + self.shortcut(x))


def test_a_block_that_changes_its_axes_one_after_the_other() -> None:
    model = nn.Sequential(
        nn.Conv3d(2, 4, 3, (1, 2, 2), 1), nn.ReLU(), TwoSteps(4, 6), TwoSteps(6, 8),
        nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(8, 3),
    )  # fmt: skip
    td = to_topdown(model, input_size=(2, 8, 16, 16), output_stride=2)
    assert [level.strides for level in td.plan.levels] == [(4, 8, 8), (4, 4, 4), (2, 2, 2)]
    upsamplings = {n for n, module in td.named_modules() if isinstance(module, Upsample)}
    assert upsamplings == {
        "levels.1.upsample", "levels.2.upsample", "levels.2.upsample_1x2x2", "levels.2.upsample_2x1x1",
    }  # fmt: skip
    assert td(torch.rand(2, 2, 7, 15, 13)).shape == (2, 3)


def test_strides_that_are_no_multiples() -> None:
    layers = [nn.Conv1d(1, 4, 5, 4, 2), nn.ReLU(), nn.Conv1d(4, 4, 3, 1, 1), nn.ReLU()]
    layers += [nn.Conv1d(4, 8, 3, 2, 1), nn.ReLU()]
    model = nn.Sequential(*layers, nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(8, 3))
    with pytest.raises(
        StructureError, match=r"at the strides 4, 8.* output_stride=3; .* pass output_stride=4"
    ):
        plan_topdown(model, input_size=(1, 64), output_stride=3)


@pytest.mark.parametrize(("axes", "kernel"), [(1, " 5, 3 "), (3, " 5x5x5, 3x3x3 ")])
def test_plan_file_picture_and_cost(axes: int, kernel: str, tmp_path: Path) -> None:
    space = Space(axes)
    model, size = residual(space), space.size(16)
    td = to_topdown(model, input_size=size).eval()
    assert kernel in str(td.plan)
    save_topdown(td, tmp_path / "td.pt")
    images = torch.rand(2, *size)
    torch.testing.assert_close(load_topdown(tmp_path / "td.pt", model).eval()(images), td(images))
    drawn = draw(model, td, tmp_path / "both.svg").read_text()
    assert "×".join(["16"] * axes) + " map" in drawn
    cost = measure(td, size)
    assert cost.output_size == size[1:]
    assert td.plan.cost is not None
    assert cost.multiply_adds == td.plan.cost.total.multiply_adds


def test_a_convolution_along_the_channels_is_no_map() -> None:
    """Efficient channel attention in a network on lines: its kernel slides over channels."""

    class Attention(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Conv1d(1, 1, 3, padding=1, bias=False)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            weights = self.conv(x.mean(-1).unsqueeze(1)).squeeze(1)
            return x * torch.sigmoid(weights).unsqueeze(-1)

    model = residual(Space(1))
    assert isinstance(model, nn.Sequential)
    model.insert(7, Attention())
    td = to_topdown(model, input_size=(2, 32), arrangement="uniform")
    assert td.plan.opaque == ()
    assert {level.width for level in td.plan.levels} == {5}
    fields = receptive_field(model, (2, 32))
    assert fields["7"].gated
    assert fields["7"].depth == fields["6"].depth


@pytest.mark.parametrize(
    ("axes", "size", "text"),
    [
        (1, None, r"None; expected two positive integers \(C, L\)"),
        (1, (1, 8, 8), "expected two positive integers"),
        (3, None, r"expected four positive integers \(C, D, H, W\)"),
        (3, (2, 8, 8), "expected four positive integers"),
    ],
)
def test_sizes_that_have_to_be_given(axes: int, size: tuple[int, ...] | None, text: str) -> None:
    with pytest.raises(TraceError, match=text):
        plan_topdown(residual(Space(axes)), input_size=size)


class Unsqueezed(nn.Module):
    """Puts the channels in front itself."""

    def __init__(self, axes: int) -> None:
        super().__init__()
        self.body = residual(Space(axes))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.body(x.unsqueeze(1).expand(-1, 2, *(-1,) * (x.dim() - 1)))
        return out


@pytest.mark.parametrize(
    ("axes", "text"),
    [
        (
            1,
            r"a tensor \(2, 2, 2, 32\), made of an image of size \(2, 32\); .*\(N, C, L\)\. .*the sides",
        ),
        (
            3,
            r"a tensor \(2, 2, 2, 8, 8, 8\), .*one of 5 dimensions \(N, C, D, H, W\)\. .*the sides",
        ),
    ],
)
def test_a_size_with_channels_of_a_model_that_puts_them_in_front(axes: int, text: str) -> None:
    sides = (32,) if axes == 1 else (8, 8, 8)
    with pytest.raises(TraceError, match=text):
        plan_topdown(Unsqueezed(axes), input_size=(2, *sides))
    assert plan_topdown(Unsqueezed(axes), input_size=sides).levels


@pytest.mark.parametrize("axes", [1, 3])
def test_a_size_is_written_with_the_models_own_axes(axes: int) -> None:
    space = Space(axes)
    wanted = r"input_size=\(C, L\)" if axes == 1 else r"input_size=\(C, D, H, W\)"
    with pytest.raises(TraceError, match=wanted):
        plan_topdown(residual(space), input_size=(5, *space.size(16)[1:]))


def test_a_box_on_a_line_is_no_picture() -> None:
    fields = receptive_field(residual(Space(1)), (2, 32))
    assert fields.box("3", (0,)) == (0, 7)
    with pytest.raises(TopDownError, match="images that are no pictures"):
        fields.show_on(torch.rand(2, 32), "3", (0,))


@pytest.mark.parametrize("axes", [1, 3])
def test_measured_fields_lie_within_those_of_the_graph(axes: int) -> None:
    space = Space(axes)
    td = to_topdown(residual(space), input_size=space.size(16))
    fields = receptive_field(td)
    name = fields["levels.1.merge"].name
    measured = receptive_field(td, method="gradient", nodes=[name], samples=4)[name]
    assert measured.box == fields.box(name, measured.position)


@pytest.mark.exhaustive
@pytest.mark.parametrize("arrangement", get_args(Arrangement))
@pytest.mark.parametrize("upsample", UPSAMPLINGS)
@pytest.mark.parametrize(
    ("name", "size", "strides"),
    [
        ("r3d_18", (3, 16, 112, 112), [(8, 16, 16), (4, 8, 8), (2, 4, 4), (1, 2, 2)]),
        ("mc3_18", (3, 16, 112, 112), [(1, 16, 16), (1, 8, 8), (1, 4, 4), (1, 2, 2)]),
        ("r2plus1d_18", (3, 16, 112, 112), [(8, 16, 16), (4, 8, 8), (2, 4, 4), (1, 2, 2)]),
        ("s3d", (3, 64, 224, 224), [(8, 32, 32), (8, 8, 8), (4, 4, 4), (2, 2, 2)]),
    ],
)
def test_torchvisions_video_networks(
    name: str,
    size: tuple[int, ...],
    strides: list[tuple[int, ...]],
    arrangement: Arrangement,
    upsample: UpsampleKind,
) -> None:
    with torch.device("meta"):
        model = getattr(import_torchvision().models.video, name)()
        td = to_topdown(
            model, input_size=size, arrangement=arrangement, upsample=upsample, output_stride=2
        )
    assert [level.strides for level in td.plan.levels] == strides
    assert td.plan.opaque == ()
    assert len(receptive_field(td)) > 80
