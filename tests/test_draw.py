"""The drawing of both networks: real files that say what the plan says, and clear errors."""

from __future__ import annotations

import copy
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import torch
from torch import Tensor, nn

from td_transform import TopDownError, TopDownNetwork, to_topdown
from td_transform.draw import draw

SIZE = (3, 32, 48)


class Block(nn.Module):
    def __init__(self, width_in: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width_in, width, 3, stride, 1)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1)
        self.shortcut = nn.Conv2d(width_in, width, 1, stride) if stride > 1 else None

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.shortcut is None else self.shortcut(x)
        return torch.relu(self.conv2(torch.relu(self.conv1(x))) + shortcut)


class Tiny(nn.Sequential):
    """A downsampling stem, two stages of two blocks at strides 2 and 4."""

    def __init__(self) -> None:
        stem = [nn.Conv2d(3, 12, 5, 2, 2), nn.ReLU()]
        fine = [Block(12, 12, 1), Block(12, 12, 1)]
        coarse = [Block(12, 20, 2), Block(20, 20, 1)]
        super().__init__(
            *stem, *fine, *coarse, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(20, 7)
        )


class Chain(nn.Sequential):
    """Two units at strides 1 and 2."""

    def __init__(self) -> None:
        fine = [nn.Conv2d(3, 12, 5, 1, 2), nn.ReLU(), nn.MaxPool2d(2)]
        coarse = [nn.Conv2d(12, 20, 3, 1, 1), nn.ReLU()]
        super().__init__(*fine, *coarse, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(20, 7))


@pytest.fixture
def bu() -> Tiny:
    torch.manual_seed(0)
    return Tiny()


@pytest.fixture
def td(bu: Tiny) -> TopDownNetwork:
    return to_topdown(bu, input_size=SIZE)


def svg_texts(path: Path) -> list[str]:
    """What an SVG says, a line of text each."""
    found = ElementTree.parse(path).iter("{http://www.w3.org/2000/svg}text")
    return ["".join(element.itertext()).strip() for element in found]


def png_size(path: Path) -> tuple[int, int]:
    """Width and height in pixels, from the header."""
    data = path.read_bytes()
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    return int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")


def test_png_is_a_picture_with_ink(bu: Tiny, td: TopDownNetwork, tmp_path: Path) -> None:
    from matplotlib.image import imread

    path = draw(bu, td, tmp_path / "both.png")
    assert path == tmp_path / "both.png"
    width, height = png_size(path)
    assert width > height > 600
    assert len({tuple(pixel) for pixel in imread(path)[::3, ::3].reshape(-1, 4)}) > 10


def test_svg_says_what_the_plan_says(bu: Tiny, td: TopDownNetwork, tmp_path: Path) -> None:
    texts = svg_texts(draw(bu, td, tmp_path / "both.svg"))
    for i, level in enumerate(td.plan.levels):
        rows, columns = SIZE[1] // level.stride, SIZE[2] // level.stride
        facts = f"levels.{i}, stride {level.stride}, {rows}×{columns} map"
        channels = texts[texts.index(facts) + 1]
        assert channels == f"{level.width} channels"
        assert f"{rows}×{columns}" in texts
    assert texts.count("merge") == sum(level.merge is not None for level in td.plan.levels)
    assert texts.count("lift 5×5") == len(td.plan.levels)
    assert f"top-down, {td.plan.parameters:,} parameters" in texts
    assert f"{td.plan.head.width_in} channels → 7 logits" in texts


def test_svg_says_what_the_model_is(bu: Tiny, td: TopDownNetwork, tmp_path: Path) -> None:
    texts = svg_texts(draw(bu, td, tmp_path / "both.svg"))
    stages = {"stem": (2, "16×24", 12), "S1": (2, "16×24", 12), "S2": (4, "8×12", 20)}
    for name, (stride, size, width) in stages.items():
        facts = texts[texts.index(name) + 1 :]
        assert facts[:2] == [f"stride {stride}, {size} map", f"{width} channels"]
    assert "÷2 in its first block" in texts
    assert "20 channels → 7 logits" in texts
    count = sum(p.numel() for p in bu.parameters())
    assert f"bottom-up, {count:,} parameters" in texts


def test_steps_between_levels(bu: Tiny, td: TopDownNetwork, tmp_path: Path) -> None:
    texts = svg_texts(draw(bu, td, tmp_path / "both.svg"))
    assert [t for t in texts if t.startswith("×")] == [
        "×2 nearest",
        "×2 nearest in its first block 20 → 12",
    ]


def test_plain_chain_has_no_stem(tmp_path: Path) -> None:
    bu = Chain()
    td = to_topdown(bu, input_size=SIZE, upsample="bilinear", pyramid="antialias")
    texts = svg_texts(draw(bu, td, tmp_path / "chain.svg"))
    assert "stem" not in texts
    assert {"T1 from S2", "T2 from S1", "÷2 by pooling", "antialias pyramid"} <= set(texts)
    assert "1×1 unit 20 → 12, ×2 bilinear" in texts


@pytest.mark.parametrize("arrangement", ["td", "uniform", "reversed"])
@pytest.mark.parametrize("output_stride", [1, 2])
def test_texts_do_not_overlap(
    arrangement: str, output_stride: int, bu: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from matplotlib.figure import Figure

    drawn: list[Figure] = []
    save = Figure.savefig

    def keep(figure: Figure, *args: Any, **options: Any) -> None:
        save(figure, *args, **options)
        drawn.append(figure)

    monkeypatch.setattr(Figure, "savefig", keep)
    td = to_topdown(bu, input_size=SIZE, arrangement=arrangement, output_stride=output_stride)
    draw(bu, td, tmp_path / "both.png")
    drawn[0].draw_without_rendering()
    boxes = [text.get_window_extent() for text in drawn[0].axes[0].texts if text.get_text()]
    canvas = drawn[0].bbox
    for i, box in enumerate(boxes):
        assert canvas.x0 <= box.x0 < box.x1 <= canvas.x1
        assert canvas.y0 <= box.y0 < box.y1 <= canvas.y1
        assert not any(box.overlaps(other) for other in boxes[:i])


def test_title(bu: Tiny, td: TopDownNetwork, tmp_path: Path) -> None:
    assert svg_texts(draw(bu, td, tmp_path / "a.svg"))[0] == "Tiny, 3×32×48"
    assert svg_texts(draw(bu, td, tmp_path / "b.svg", title="A & B"))[0] == "A & B"


def test_same_drawing_twice(bu: Tiny, td: TopDownNetwork, tmp_path: Path) -> None:
    first = draw(bu, td, tmp_path / "a.svg").read_text(encoding="utf-8")
    assert draw(bu, td, str(tmp_path / "b.svg")).read_text(encoding="utf-8") == first


@pytest.mark.parametrize("name", ["both.pdf", "both", "both.svg.gz"])
def test_other_suffix(bu: Tiny, td: TopDownNetwork, tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    text = f"argument 'path': {str(path)!r}; expected a name that ends in .svg or .png. Remedy: "
    with pytest.raises(TopDownError, match=f"^{re.escape(text)}"):
        draw(bu, td, path)
    assert not path.exists()


def test_network_of_another_model(td: TopDownNetwork, tmp_path: Path) -> None:
    with pytest.raises(TopDownError, match="argument 'td': a network made from a Tiny other than"):
        draw(Chain(), td, tmp_path / "both.svg")


def test_model_stays_as_it_is(bu: Tiny, td: TopDownNetwork, tmp_path: Path) -> None:
    before = copy.deepcopy(bu.state_dict())
    modules, modes = str(bu), [module.training for module in bu.modules()]
    draw(bu, td, tmp_path / "both.svg")
    assert str(bu) == modules
    assert [module.training for module in bu.modules()] == modes
    assert bu.state_dict().keys() == before.keys()
    assert all(torch.equal(value, before[name]) for name, value in bu.state_dict().items())
    assert not any(module._forward_hooks for module in bu.modules())
    assert all(p.grad is None for p in bu.parameters())
