"""Draw the documentation's networks and its diagram: ``python -m tools.pictures``."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch
from torch import nn

from benchmarks.subjects.models import lenet_fc
from td_transform import to_topdown
from td_transform.draw import draw
from td_transform.torchvision_cpu import import_torchvision

FOLDER = Path(__file__).parents[1] / "docs" / "images"
# a step's name, what it gives, and that value's nouns
STEPS = (
    ("trace", "Trace", "a graph\nwith shapes"),
    ("analyse", "BottomUp", "trunk, regions,\nstages, head"),
    ("plan", "Plan", "levels of lift,\nmerge, stage"),
    ("emit", "TopDownNetwork", "a GraphModule\nthat trains"),
)
PITCH, BOX, INK, GREY = 2.7, (1.05, 0.7), "#222222", "#666666"
PHOTOGRAPH, DIGIT = (3, 224, 224), (1, 28, 28)


def main() -> None:
    """Write docs/images/*.svg and list them."""
    resnet18 = import_torchvision().models.resnet18()
    at_4: dict[str, Any] = {"output_stride": 4}
    drawn = [
        picture("resnet18", resnet18, PHOTOGRAPH, "ResNet-18"),
        picture("resnet18_stride_4", resnet18, PHOTOGRAPH, "ResNet-18, output stride 4", **at_4),
        *(
            picture(
                f"resnet18_{arrangement}", resnet18, PHOTOGRAPH, f"ResNet-18, {arrangement}",
                arrangement=arrangement, **at_4,
            )
            for arrangement in ("uniform", "reversed")
        ),
        picture("networks", lenet_fc(), DIGIT, "LeNetFC"),
        diagram(FOLDER / "architecture.svg"),
    ]  # fmt: skip
    print("\n".join(map(str, drawn)))


def picture(
    name: str, model: nn.Module, size: tuple[int, int, int], title: str, **options: Any
) -> Path:
    """A model and its top-down network under these options of a conversion."""
    with warnings.catch_warnings():
        # what output stride 1 costs is said on the pages
        warnings.simplefilter("ignore", UserWarning)
        td = to_topdown(model, input_size=size, **options)
    shown = f"{title}, {'×'.join(map(str, size))}"
    return draw(model, td, FOLDER / f"{name}.svg", title=shown)


def diagram(path: Path) -> Path:
    """The four steps of a conversion, what flows between them, and what they are told."""
    size = (PITCH * (len(STEPS) + 1) - 0.9, 3.6)
    figure = Figure(figsize=size)
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, size[0]), ylim=(0, size[1]))
    axes.axis("off")
    _text(axes, (0.6, 2), "your model", weight="bold")
    centres = [PITCH * (i + 0.72) for i in range(len(STEPS))]
    for x, (step, value, nouns) in zip(centres, STEPS, strict=True):
        _box(axes, (x, 2), step)
        after = x + PITCH / 2
        _text(axes, (after, 2.2), value, weight="bold")
        _text(axes, (after, 1.68), nouns, colour=GREY)
        _arrow(axes, (x + BOX[0] / 2, 2), (x + PITCH - BOX[0] / 2, 2))
    _arrow(axes, (1.1, 2), (centres[0] - BOX[0] / 2, 2))
    middle = sum(centres) / len(centres)
    _text(axes, (middle, 0.5), "operators: one registry", weight="bold")
    for x in centres:
        _arrow(axes, (middle, 0.7), (x, 2 - BOX[1] / 2))
    _text(axes, (centres[2], 3.2), "options", weight="bold")
    _arrow(axes, (centres[2], 3.05), (centres[2], 2 + BOX[1] / 2))
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "td_transform"}):
        figure.savefig(path, metadata={"Date": None})
    return path


def _box(axes: Axes, centre: tuple[float, float], text: str) -> None:
    corner = (centre[0] - BOX[0] / 2, centre[1] - BOX[1] / 2)
    axes.add_patch(
        FancyBboxPatch(
            corner,
            *BOX,
            boxstyle="round,pad=0,rounding_size=0.1",
            facecolor="#cdebc0",
            edgecolor=INK,
        )
    )
    _text(axes, centre, text, weight="bold", size=13)


def _text(
    axes: Axes, place: tuple[float, float], text: str, *, colour: str = INK, **style: Any
) -> None:
    axes.text(*place, text, ha="center", va="center", color=colour, **style)


def _arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float]) -> None:
    axes.annotate("", end, start, arrowprops={"arrowstyle": "-|>", "color": INK, "lw": 1})


if __name__ == "__main__":
    main()
