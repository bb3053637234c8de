"""Draw a bottom-up model and its top-down network side by side."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from torch import nn

from td_transform.analyse import BottomUp
from td_transform.drawn_rows import Row, bottom_up_rows, by, top_down_rows
from td_transform.emit import TopDownNetwork, check_topdown
from td_transform.errors import TopDownError
from td_transform.layers import name_of
from td_transform.layers.parameters import parameters_of
from td_transform.plan import Plan, SegmentPlan
from td_transform.transform import analysed

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Point = tuple[float, float]
Colour = str | tuple[float, float, float, float]

# Inches of the figure: boxes and image squares from the smallest to the largest, then the grid.
_LENGTHS, _HEIGHTS, _SIDES = (1.0, 2.3), (0.26, 0.58), (0.14, 0.54)
_MARGIN, _TOP, _PITCH, _LEGEND = 0.35, 1.15, 1.02, 1.2
_IMAGE, _MERGE, _AFTER_BOX = 0.4, 1.72, 4.65
_BOXES = {"bottom-up": 1.15, "top-down": 2.35}
_INK, _GREY, _PALE = "#222222", "#666666", "#e8e8e8"
# All light enough for black letters, the finest stage the lightest.
_COLOURS, _LIGHTEST, _DARKEST = "YlGnBu", 0.1, 0.5


@dataclass(frozen=True)
class _Scale:
    """Log scales between the extreme strides (input pixels per step) and widths (channels)."""

    strides: tuple[int, int]
    widths: tuple[int, int]
    stages: int

    def by_stride(self, stride: int, sizes: tuple[float, float]) -> float:
        return sizes[1] - (sizes[1] - sizes[0]) * _log_share(stride, self.strides)

    def by_width(self, width: int) -> float:
        return _HEIGHTS[0] + (_HEIGHTS[1] - _HEIGHTS[0]) * _log_share(width, self.widths)

    def box(self, row: Row) -> tuple[float, float]:
        length = self.by_stride(row.stride, _LENGTHS) if row.stride else _LENGTHS[0]
        return length, self.by_width(row.width) if row.width else _HEIGHTS[0]

    def colour(self, row: Row) -> Colour:
        from matplotlib import colormaps

        if row.stage is None:
            return _PALE
        share = row.stage / (self.stages - 1)
        return colormaps[_COLOURS](_LIGHTEST + (_DARKEST - _LIGHTEST) * share)


def draw(
    model: nn.Module, td: TopDownNetwork, path: str | Path, *, title: str | None = None
) -> Path:
    """Draw a model and its top-down network side by side, images at the top, logits at the bottom.

    A box is a stage: the longer, the finer its map; the higher, the more channels it has. Both are
    on log scales that the legend gives (strides in input pixels per step of the map). A level has
    the colour of the bottom-up stage that it is made from.

    Args:
        model: the bottom-up model that `td` was made from; it is only read.
        td: what `to_topdown` returned.
        path: the file to write, `.svg` or `.png` (150 dots per inch).
        title: the first line; by default the model's class and its input size (C, H, W) in pixels.

    Returns:
        The path that was written.

    Raises:
        TopDownError: the file has another suffix, or `td` was made from another model.

    Example:
        >>> import tempfile
        >>> from td_transform import to_topdown
        >>> bu = nn.Sequential(
        ...     nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        ...     nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(),
        ...     nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10),
        ... )
        >>> td = to_topdown(bu, input_size=(1, 28, 28))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     draw(bu, td, Path(folder) / "both.svg").name
        'both.svg'
    """
    path = Path(path)
    if path.suffix.lower() not in (".svg", ".png"):
        raise TopDownError(
            "argument 'path'", seen=repr(str(path)), expected="a name that ends in .svg or .png",
            remedy=f"pass {str(path.with_suffix('.svg'))!r}",
        )  # fmt: skip
    check_topdown(td)
    import matplotlib

    bottom_up = analysed(model, td.plan.options)
    _check_origin(bottom_up, td.plan)
    figure = _figure(bottom_up, td.plan, title or f"{td.plan.model}, {by(td.plan.input_size)}")
    # an SVG with its letters as letters can be searched, and without a date it is reproducible
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "td_transform"}):
        figure.savefig(path, dpi=150, metadata={"Date": None})
    return path


def _check_origin(analysed: BottomUp, plan: Plan) -> None:
    name, known = type(analysed.trace.model).__name__, {n.name for n in analysed.trunk.order}
    parts = [part for level in plan.levels for part in level.parts]
    ends = [part.end for part in (*parts, plan.head) if isinstance(part, SegmentPlan)]
    if name != plan.model or not known.issuperset(ends):
        raise TopDownError(
            "argument 'td'", seen=f"a network made from a {plan.model} other than this {name}",
            expected="the top-down network of the model", remedy="pass to_topdown(model)",
        )  # fmt: skip


def _figure(analysed: BottomUp, plan: Plan, title: str) -> Figure:
    from matplotlib.figure import Figure

    columns = (bottom_up_rows(analysed), top_down_rows(analysed, plan))
    counts = (sum(p.numel() for p in parameters_of(analysed.trace.model)), plan.parameters)
    strides = sorted({1, *(row.stride for rows in columns for row in rows if row.stride)})
    widths = [row.width for rows in columns for row in rows if row.stride]
    scale = _Scale((strides[0], strides[-1]), (min(widths), max(widths)), len(analysed.stages))
    right = 2 * _MARGIN + _BOXES["bottom-up"] + _AFTER_BOX
    height = _TOP + _PITCH * max(map(len, columns)) + _LEGEND
    size = (right + _BOXES["top-down"] + _AFTER_BOX, height)
    figure = Figure(figsize=size)
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, size[0]), ylim=(height, 0))
    axes.axis("off")
    _text(axes, (_MARGIN, 0.38), title, size=15, weight="bold")
    lefts = (_MARGIN, right)
    images = {"bottom-up": "image", "top-down": f"{name_of(plan.options.pyramid)} pyramid"}
    for left, rows, (name, box), count in zip(lefts, columns, _BOXES.items(), counts, strict=True):
        _text(axes, (left, 0.85), f"{name}, {count:,} parameters", size=11, weight="bold")
        _text(axes, (left, _TOP + 0.1), images[name], colour=_GREY)
        _column(axes, rows, scale, left, left + box)
    _length_legend(axes, scale, strides, (_MARGIN + _BOXES["bottom-up"], height - _LEGEND))
    _height_legend(axes, scale, (right + _BOXES["top-down"], height - _LEGEND))
    return figure


def _column(axes: Axes, rows: Sequence[Row], scale: _Scale, left: float, box: float) -> None:
    bottom = 0.0
    for i, row in enumerate(rows):
        y = _TOP + _PITCH * (i + 0.5)
        length, height = scale.box(row)
        _rectangle(axes, (box, y - height / 2), (length, height), scale.colour(row))
        _text(axes, (box + length / 2, y), row.name, size=9, weight="bold", align="center")
        _text(axes, (box + _LENGTHS[1] + 0.15, y), "\n".join(row.facts))
        entry = (box + 0.25, y - height / 2)
        if row.merge:
            _rectangle(axes, (left + _MERGE - 0.28, y - 0.2), (0.56, 0.4), "white")
            _text(axes, (left + _MERGE, y), row.merge, align="center")
            _arrow(axes, (left + _MERGE + 0.28, y), (box, y))
            entry = (left + _MERGE, y - 0.2)
        if row.image:
            end = entry[0] - 0.28 if row.merge else box
            _image(axes, row, scale.by_stride(row.image[1], _SIDES), (left + _IMAGE, y), end)
        if i:
            turn = y - _PITCH / 2
            _arrow(axes, (box + 0.25, bottom), (box + 0.25, turn), (entry[0], turn), entry)
            _text(axes, (box + 0.36, turn), row.before, colour=_GREY)
        bottom = y + height / 2


def _image(axes: Axes, row: Row, side: float, place: Point, end: float) -> None:
    """A level of the pyramid, and the arrow to where it enters."""
    x, y = place
    _rectangle(axes, (x - side / 2, y - side / 2), (side, side), _PALE, hatch="++")
    _text(axes, (x, y + side / 2 + 0.11), row.image[0] if row.image else "", align="center")
    _arrow(axes, (x + side / 2, y), (end, y))
    _text(axes, (end - 0.12, y - 0.11), row.lift, colour=_GREY, align="right")


def _length_legend(axes: Axes, scale: _Scale, strides: Sequence[int], place: Point) -> None:
    """A ruler under the boxes that it measures."""
    x, y = place
    _text(axes, (x, y + 0.15), "box length: stride, input pixels per step of the map (log scale)")
    _rectangle(axes, (x, y + 0.36), (_LENGTHS[1], 0.0), _INK)
    for stride in strides:
        end = x + scale.by_stride(stride, _LENGTHS)
        _rectangle(axes, (end, y + 0.3), (0.0, 0.12), _INK)
        _text(axes, (end, y + 0.53), str(stride), align="center")


def _height_legend(axes: Axes, scale: _Scale, place: Point) -> None:
    x, y = place
    _text(axes, (x, y + 0.15), "box height: channels of the last map (log scale)")
    for i, width in enumerate(sorted(set(scale.widths))):
        height = scale.by_width(width)
        _rectangle(axes, (x + 1.0 * i, y + 0.58 - height / 2), (0.35, height), _PALE)
        _text(axes, (x + 1.0 * i + 0.45, y + 0.58), str(width))
    _text(axes, (x + 2.0, y + 0.58), "same colour: same bottom-up stage")


def _rectangle(axes: Axes, corner: Point, size: Point, colour: Colour, hatch: str = "") -> None:
    from matplotlib.patches import Rectangle

    axes.add_patch(Rectangle(corner, *size, facecolor=colour, edgecolor=_INK, lw=0.8, hatch=hatch))


def _arrow(axes: Axes, *points: Point) -> None:
    from matplotlib.patches import FancyArrowPatch
    from matplotlib.path import Path as Line

    style = "-|>,head_length=3.5,head_width=1.8"
    axes.add_patch(FancyArrowPatch(path=Line(points), arrowstyle=style, color=_INK, lw=0.9))


def _text(
    axes: Axes, place: Point, text: str, *, size: float = 8, weight: str = "normal",
    colour: str = _INK, align: Literal["left", "center", "right"] = "left",
) -> None:  # fmt: skip
    axes.text(*place, text, size=size, weight=weight, color=colour, ha=align, va="center")


def _log_share(value: int, ends: tuple[int, int]) -> float:
    """Where a value lies between two others on a log scale, from 0 to 1."""
    return math.log(value / ends[0]) / math.log(ends[1] / ends[0]) if ends[1] > ends[0] else 1.0
