"""Pictures of receptive fields: sizes over depth, and boxes on an image."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from torch import Tensor

from td_transform.emit import TopDownNetwork
from td_transform.errors import TopDownError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from td_transform.fields.network_fields import ReceptiveFields

# colour-blind safe (Okabe and Ito); the paper draws bottom-up red and top-down green
_BOTTOM_UP, _TOP_DOWN, _INK = "#d55e00", "#009e73", "#222222"


def plot_sizes(
    fields: ReceptiveFields,
    versus: ReceptiveFields | None,
    path: str | Path,
    *,
    title: str | None = None,
) -> Path:
    """Field sizes (pixels) over depth along the longest path, of one or two networks."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.5, 4.5), layout="constrained")
    axes = figure.add_subplot()
    shown = [fields, *([versus] if versus is not None else [])]
    for one in shown:
        _draw_range(axes, one)
    side = max(fields.trace.input_size[1:])
    axes.axhline(side, color=_INK, lw=0.8, ls=":")
    axes.annotate(
        f"image: {side} pixels", (0, side), xytext=(0.12, -3), size=8, color=_INK, va="top",
        xycoords=("axes fraction", "data"), textcoords=("axes fraction", "offset points"),
    )  # fmt: skip
    axes.set_yscale("log", base=2)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.set_xlabel("depth: convolutions and poolings passed on the longest path")
    axes.set_ylabel("receptive field, input pixels")
    axes.set_title(title or f"{_name(fields)}, {side}-pixel images", size=11)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#dddddd", lw=0.6)
    axes.legend(frameon=False, loc="lower right")
    return _save(figure, path)


def _draw_range(axes: Axes, fields: ReceptiveFields) -> None:
    top_down = isinstance(fields.trace.model, TopDownNetwork)
    colour, name = (_TOP_DOWN, "top-down") if top_down else (_BOTTOM_UP, "bottom-up")
    # per depth the last tensor, after the additions and norms that follow a convolution
    last = {row.depth: row for row in fields.main_path() if not row.is_pooled}
    depths = sorted(last)
    smallest = [max(last[d].size_min) for d in depths]
    largest = [max(last[d].size_max) for d in depths]
    axes.fill_between(depths, smallest, largest, color=colour, alpha=0.18, lw=0)
    axes.plot(
        depths, largest, color=colour, lw=1.8, marker="o", ms=3, label=f"{name}: largest path"
    )
    axes.plot(depths, smallest, color=colour, lw=1.0, ls="--", label=f"{name}: smallest path")


def _name(fields: ReceptiveFields) -> str:
    model = fields.trace.model
    return model.plan.model if isinstance(model, TopDownNetwork) else type(model).__name__


def show_box(
    fields: ReceptiveFields,
    image: Tensor,
    key: str,
    position: tuple[int, ...],
    path: str | Path | None,
) -> Figure:
    """The image (C, H, W) in [0, 1] with the box of one position of a map."""
    from matplotlib.figure import Figure
    from matplotlib.patches import Rectangle

    size = fields.trace.input_size
    if len(size) != 3:
        raise TopDownError(
            f"input size {size}", seen="images that are no pictures",
            expected="(C, H, W)", remedy="ask fields.box(key, position) for the numbers",
        )  # fmt: skip
    if tuple(image.shape[-2:]) != size[1:] or image.dim() != 3:
        raise TopDownError(
            "argument 'image'", seen=f"shape {tuple(image.shape)}",
            expected=f"(C, {size[1]}, {size[2]}), the size that was analysed",
            remedy="resize the image, or analyse the network at its size",
        )  # fmt: skip
    row = fields[key]
    figure = Figure(figsize=(5.2, 5.2 * size[1] / size[2] + 0.6), layout="constrained")
    axes = figure.add_subplot()
    pixels = image.detach().cpu().float().clamp(0, 1).permute(1, 2, 0)
    # a grey image has one channel; the limits hold for it alone
    pixels = pixels.squeeze(2) if pixels.shape[2] == 1 else pixels
    axes.imshow(pixels.numpy(), cmap="gray", vmin=0, vmax=1, extent=(0, size[2], size[1], 0))
    top, left, bottom, right = fields.box(key, position)
    for colour, width in (("white", 4), (_BOTTOM_UP, 2)):
        corner, sides = (left, top), (right - left, bottom - top)
        axes.add_patch(Rectangle(corner, *sides, fill=False, edgecolor=colour, lw=width))
    seen = f"{bottom - top}×{right - left} pixels" + (
        ", and all through gates" if row.gated else ""
    )
    axes.set_title(f"{row.name} at {position} sees {seen}", size=10)
    axes.set_xlabel("input pixels")
    axes.set_ylabel("input pixels")
    if path is not None:
        _save(figure, path)
    return figure


def _save(figure: Figure, path: str | Path) -> Path:
    path = Path(path)
    known = figure.canvas.get_supported_filetypes()
    if path.suffix.lstrip(".").lower() not in known:
        raise TopDownError(
            f"file '{path}'", seen=f"the suffix '{path.suffix}'",
            expected=f"one of {', '.join(sorted(known))}", remedy="name a .png or .svg file",
        )  # fmt: skip
    # without a date the same fields give the same file
    metadata = {"Date": None} if path.suffix.lower() == ".svg" else None
    figure.savefig(path, dpi=150, metadata=metadata)
    return path
