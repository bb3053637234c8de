"""The paper's bar charts from rows: accuracies (Fig. 4), perturbed levels (5)."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.findings.aggregate import Cell, Spread, by_cell, group_of, select, spreads
from benchmarks.findings.published import published_scales
from benchmarks.findings.section import Drawing
from benchmarks.measures.attacks import ATTACKS, attack_title
from benchmarks.measures.scales import PAPER_NAMES, choices, name_of
from benchmarks.runs.jobs import Row
from benchmarks.subjects.arrangements import ARRANGEMENT_TITLES, ARRANGEMENTS
from benchmarks.subjects.datasets import data_title
from benchmarks.subjects.networks import model_title

# Okabe and Ito's colours, which the colour-blind can tell apart; BU is red and TD green as in the
# paper.
COLOURS: dict[str, str] = dict(
    zip(ARRANGEMENTS, ("#D55E00", "#009E73", "#56B4E9", "#0072B2"), strict=True)
)
LEVEL_COLOURS = ("#0072B2", "#E69F00", "#CC79A7", "#56B4E9", "#F0E442", "#009E73")
INK = "#222222"
HATCHES = ("", "///", "...", "xx", "\\\\\\", "++")
_ERROR = {"ecolor": INK, "elinewidth": 1, "capsize": 2.5}


@dataclass(frozen=True)
class Bars:
    """One series of a grouped bar chart, in percent; nan where there is nothing."""

    label: str
    colour: str
    hatch: str
    heights: tuple[float, ...]
    errors: tuple[float, ...]


# Fig. 4


def accuracy_drawing(rows: Sequence[Row]) -> Drawing | None:
    """Test accuracy per data set, model and arrangement; None without rows."""
    cells = by_cell(select(rows, kind="train"), "test_accuracy")
    if not cells:
        return None
    sets = list(dict.fromkeys((cell.data, cell.augmented) for cell in cells))
    figure, panels = row_of_panels(len(sets), width=max(3.4, 11 / len(sets)), height=3.6)
    for panel, (data, augmented) in zip(panels, sets, strict=True):
        own = {c: f for c, f in cells.items() if (c.data, c.augmented) == (data, augmented)}
        used = [name for name in ARRANGEMENTS if any(name in found for found in own.values())]
        series = [
            series_of(
                ARRANGEMENT_TITLES[name], COLOURS[name], "", [f.get(name) for f in own.values()]
            )
            for name in used
        ]
        grouped_bars(panel, [model_title(cell.model) for cell in own], series)
        panel.set_title(data_title(data, augmented))
        panel.set_ylim(*_tight(series))
        write_values(panel, series)
    panels[0].set_ylabel("test accuracy (%)")
    shared_legend(figure, panels)
    return Drawing(
        "fig4_accuracy",
        "Fig. 4: test accuracy",
        f"{runs_of(cells)}. The axes do not start at 0.",
        figure,
    )


# Fig. 5 and its supplement


def one_level_drawing(rows: Sequence[Row]) -> Drawing | None:
    """Accuracy when one level of the TD input is perturbed; None without rows."""
    return _levels_drawing(rows, 1, "fig5_one_level", "Fig. 5: one level perturbed")


def two_levels_drawing(rows: Sequence[Row]) -> Drawing | None:
    """Accuracy when two levels of the TD input are perturbed; None without rows."""
    return _levels_drawing(rows, 2, "fig5_two_levels", "Supplement to Fig. 5: two levels perturbed")


def _levels_drawing(rows: Sequence[Row], count: int, name: str, title: str) -> Drawing | None:
    own = [
        row for row in select(rows, kind="scales", arrangement="td")
        if len(str(row["perturbed"]).split("-")) == count
    ]  # fmt: skip
    if not own:
        return None
    cells = list(dict.fromkeys(group_of(row).cell for row in own))
    figure = Figure(figsize=(11, 0.6 + 2.9 * len(cells)), layout="constrained")
    panels = list(figure.subplots(len(cells), 1, squeeze=False)[:, 0])
    for panel, cell in zip(panels, cells, strict=True):
        _levels_panel(panel, cell, [row for row in own if group_of(row).cell == cell], count)
    shared_legend(figure, panels)
    images = sorted({str(row["images"]) for row in own}, key=int)
    caption = (
        f"Test accuracy of TD when {['', 'one level', 'two levels'][count]} of its input "
        "gets the perturbed image and the others the original one; dashed: accuracy on original "
        f"images; diamonds: the authors' figures. {' or '.join(images)} images per bar."
    )
    return Drawing(name, title, caption, figure)


def _levels_panel(panel: Axes, cell: Cell, rows: Sequence[Row], count: int) -> None:
    found = spreads(rows, "accuracy", by=("attack", "perturbed"))
    values = {(str(attack), str(level)): s for (_, attack, level), s in found.items()}
    attacks = [attack for attack in ATTACKS if attack in {key[0] for key in values}]
    levels = _ordered({key[1] for key in values}, count)
    series = [
        series_of(
            level.replace("-", " and ") if level in _paper_levels(count) else level,
            LEVEL_COLOURS[number % len(LEVEL_COLOURS)],
            HATCHES[number % len(HATCHES)],
            [values.get((attack, level)) for attack in attacks],
        )
        for number, level in enumerate(levels)
    ]
    grouped_bars(panel, [_wrapped(attack_title(attack)) for attack in attacks], series)
    clean = Spread.of(float(row["clean_accuracy"]) for row in rows)  # type: ignore[arg-type]
    panel.axhline(100 * clean.mean, color=INK, linestyle="--", linewidth=1, label="original images")
    published = [published_scales(cell, attack) for attack in attacks]
    places = bar_places(len(attacks), len(levels))
    for level, xs in zip(levels, places, strict=True):
        points = [(x, 100 * f[level]) for x, f in zip(xs, published, strict=True) if level in f]
        panel.scatter(
            [x for x, _ in points], [y for _, y in points], marker="D", s=16, color="white",
            edgecolor=INK, zorder=3, label="authors" if points else None,
        )  # fmt: skip
    panel.set(title=f"{cell.title}, TD", ylabel="test accuracy (%)", ylim=(0, 102))


def _ordered(levels: set[str], count: int) -> list[str]:
    known = [level for level in _paper_levels(count) if level in levels]
    return known + sorted(levels - set(known))


def _paper_levels(count: int) -> list[str]:
    three = len(PAPER_NAMES)
    return [name_of(levels, three) for levels in choices(three) if len(levels) == count]


# What the charts have in common


def row_of_panels(count: int, *, width: float, height: float) -> tuple[Figure, list[Axes]]:
    """A figure with panels side by side; sizes in inches, of one panel."""
    figure = Figure(figsize=(width * count, height), layout="constrained")
    return figure, list(figure.subplots(1, count, squeeze=False)[0])


def bar_places(groups: int, series: int) -> list[list[float]]:
    """Per series the centre of its bar in each group; groups stand at 0, 1, ..."""
    width = 0.8 / series
    return [[g + (s - (series - 1) / 2) * width for g in range(groups)] for s in range(series)]


def grouped_bars(panel: Axes, groups: Sequence[str], series: Sequence[Bars]) -> None:
    """Bars with standard deviations; a missing one leaves a gap."""
    for bars, places in zip(series, bar_places(len(groups), len(series)), strict=True):
        errors = [0 if math.isnan(error) else error for error in bars.errors]
        panel.bar(
            places, bars.heights, 0.8 / len(series), label=bars.label, color=bars.colour,
            hatch=bars.hatch, edgecolor="white", linewidth=0.6,
            yerr=errors if any(errors) else None, error_kw=_ERROR,
        )  # fmt: skip
    panel.set_xticks(range(len(groups)), groups)
    panel.spines[["top", "right"]].set_visible(False)
    panel.yaxis.grid(color="#dddddd", linewidth=0.6)
    panel.set_axisbelow(True)


def write_values(panel: Axes, series: Sequence[Bars]) -> None:
    """Each bar's height over it."""
    groups = len(series[0].heights)
    for bars, places in zip(series, bar_places(groups, len(series)), strict=True):
        for x, height, error in zip(places, bars.heights, bars.errors, strict=True):
            if not math.isnan(height):
                top = height + (0 if math.isnan(error) else error)
                panel.annotate(
                    f"{height:.1f}", (x, top), xytext=(0, 2), textcoords="offset points",
                    ha="center", fontsize=7, color=INK,
                )  # fmt: skip


def shared_legend(figure: Figure, panels: Sequence[Axes]) -> None:
    """One legend over all panels, each entry once."""
    entries: dict[str, Artist] = {}
    for panel in panels:
        for handle, label in zip(*panel.get_legend_handles_labels(), strict=True):
            entries.setdefault(label, handle)
    figure.legend(
        list(entries.values()), list(entries), loc="outside upper center", ncols=len(entries),
        frameon=False,
    )  # fmt: skip


def series_of(label: str, colour: str, hatch: str, found: Sequence[Spread | None]) -> Bars:
    """In percent, from shares."""
    heights = tuple(math.nan if s is None else 100 * s.mean for s in found)
    errors = tuple(math.nan if s is None else 100 * s.deviation for s in found)
    return Bars(label, colour, hatch, heights, errors)


def _tight(series: Sequence[Bars]) -> tuple[float, float]:
    found = [
        (height, 0 if math.isnan(error) else error)
        for bars in series
        for height, error in zip(bars.heights, bars.errors, strict=True)
        if not math.isnan(height)
    ]
    low, high = min(h - e for h, e in found), max(h + e for h, e in found)
    room = max(0.2, (high - low) / 2)
    return max(0, low - room), min(high + room / 2, 102)


def runs_of(*cells: Mapping[Cell, Mapping[str, Spread]]) -> str:
    """What the captions say of means and deviations."""
    counts = {s.runs for group in cells for found in group.values() for s in found.values()}
    low, high = min(counts), max(counts)
    if high == 1:
        return "A single run of each network"
    return f"Mean and standard deviation over {high if low == high else f'{low} to {high}'} runs"


def _wrapped(title: str) -> str:
    return textwrap.fill(title, 10)
