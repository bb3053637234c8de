"""The paper's Fig. 6 from rows, and in its layout the strong attacks and the corruptions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from benchmarks.findings.aggregate import Group, Spread, group_of, select, spreads
from benchmarks.findings.figures import COLOURS, INK
from benchmarks.findings.published import published_curve
from benchmarks.findings.section import Drawing
from benchmarks.measures.attacks import ATTACKS, attack_title
from benchmarks.measures.corruptions import SEVERITIES
from benchmarks.measures.curves import Curve, Floats
from benchmarks.runs.jobs import Row
from benchmarks.subjects.arrangements import ARRANGEMENT_TITLES
from benchmarks.subjects.datasets import data_title
from benchmarks.subjects.networks import model_title

# Models of one data set are told apart by line and marker, networks of a model by colour.
Line = Literal["-", "--", ":", "-."]
LINES: tuple[Line, ...] = ("-", "--", ":", "-.")
MARKERS = ("o", "s", "^", "D")
# Points per curve: more can't be seen, and make the page heavy.
POINTS = 300
# The thicker line is seen where the two agree.
WIDTHS = {"bu": 2.4, "td": 1.3, "uniform": 1.3, "reversed": 1.3}
MEAN = "mean of all"

DataSet = tuple[str, bool]
Draw = Callable[[Axes, str, list[Row], "Style"], None]


class Style:
    """Line and marker of every model in a grid.

    Args:
        rows: all that the grid shows.
    """

    def __init__(self, rows: Sequence[Row]) -> None:
        self.models = list(dict.fromkeys(str(row["model"]) for row in rows))
        used = {str(row["arrangement"]) for row in rows}
        self.arrangements = [name for name in COLOURS if name in used]

    def line(self, model: str) -> Line:
        return LINES[self.models.index(model) % len(LINES)]

    def marker(self, model: str) -> str:
        return MARKERS[self.models.index(model) % len(MARKERS)]

    def legend(self, *, authors: bool) -> list[Line2D]:
        """An entry per network, and one for the authors' figures."""
        entries = [
            Line2D([], [], color=COLOURS[arrangement], linestyle=self.line(model),
                   label=f"{model_title(model)} {ARRANGEMENT_TITLES[arrangement]}")
            for model in self.models
            for arrangement in self.arrangements
        ]  # fmt: skip
        if authors:
            entries += [
                Line2D([], [], color=INK, marker=self.marker(model), linestyle="", markersize=4.5,
                       markerfacecolor="white", label=f"{model_title(model)}, authors")
                for model in self.models
            ]  # fmt: skip
        return entries


def robustness_drawing(rows: Sequence[Row]) -> Drawing | None:
    """Fig. 6: accuracy loss over L2, attacks by data sets; None without rows."""
    own = select(rows, kind="robustness")
    attacks = [attack for attack in ATTACKS if select(own, attack=attack)]
    if not attacks:
        return None
    figure = _grid(
        own, {attack: select(own, attack=attack) for attack in attacks}, _losses,
        x="L2 norm", y="accuracy loss\n(points)",
        authors=any(published_curve(group_of(row), str(row["attack"])) for row in own),
    )  # fmt: skip
    images = sorted({str(row["images"]) for row in own}, key=int)
    caption = (
        "Loss of test accuracy when perturbations up to an L2 norm are allowed (pixels in [0, 1]); "
        "a lower curve is the more robust network. Markers: the authors' curves at losses of 10, "
        f"25, 50 and 75 points (their end where a curve stays below). {' or '.join(images)} images "
        "per curve and run; with several runs, thin lines are single ones. For single pixels, "
        "Spatial and Shifts ours is the closest of all candidates and theirs the first that worked: "
        "there, only the final losses compare with theirs."
    )
    return Drawing("fig6_robustness", "Fig. 6: robustness", caption, figure)


def strong_drawing(rows: Sequence[Row]) -> Drawing | None:
    """Robust accuracy over the size of the perturbation; None without rows."""
    own = select(rows, kind="strong")
    if not own:
        return None
    panels: dict[str, list[Row]] = {}
    for row in own:
        norm = {"l2": "L2", "linf": "L∞"}.get(str(row["norm"]), str(row["norm"]))
        panels.setdefault(f"{row['attack']}, {norm}", []).append(row)
    figure = _grid(own, panels, _robust_accuracies, x="norm of the perturbation", y="accuracy (%)")
    caption = (
        "Beyond the paper: accuracy that is left under gradient attacks of a given size (pixels in "
        "[0, 1]). A higher curve is the more robust network."
    )
    return Drawing("strong_attacks", "Strong attacks", caption, figure)


def corruptions_drawing(rows: Sequence[Row]) -> Drawing | None:
    """Accuracy over severity; None without rows."""
    own = select(rows, kind="corruptions")
    if not own:
        return None
    panels: dict[str, list[Row]] = {MEAN: own}
    for row in own:
        panels.setdefault(str(row["corruption"]), []).append(row)
    figure = _grid(own, panels, _severities, x="severity", y="accuracy (%)")
    caption = (
        "Beyond the paper: test accuracy under common corruptions, severity 0 is the original "
        "image; bars are standard deviations over runs."
    )
    return Drawing("corruptions", "Common corruptions", caption, figure)


# One panel


def _losses(panel: Axes, attack: str, rows: list[Row], style: Style) -> None:
    for group, own in _by_network(rows).items():
        colour, line = COLOURS[group.arrangement], style.line(group.model)
        curve = Curve.of(own)
        if len(curve.runs) > 1:
            for run in curve.runs:
                panel.step(*_thinned(Curve((run,))), where="post", color=colour, linestyle=line,
                           linewidth=0.5, alpha=0.5)  # fmt: skip
        panel.step(*_thinned(curve), where="post", color=colour, linestyle=line,
                   linewidth=WIDTHS[group.arrangement])  # fmt: skip
        published = published_curve(group, attack)
        if published:
            reached = {float(k): l2 for k, l2 in published.l2_at_loss.items() if l2 is not None}
            reached = reached or {published.plateau: published.max_l2}
            panel.scatter(
                list(reached.values()), list(reached), marker=style.marker(group.model), s=18,
                facecolor="white", edgecolor=colour, linewidth=1.1, zorder=3,
            )  # fmt: skip
    # where nothing was fooled there is still an axis to read
    panel.set_xlim(0, max(panel.get_xlim()[1], 1))
    panel.set_ylim(0, max(panel.get_ylim()[1], 5))


def _robust_accuracies(panel: Axes, _: str, rows: list[Row], style: Style) -> None:
    for group, own in _by_network(rows).items():
        colour, line = COLOURS[group.arrangement], style.line(group.model)
        listed = [row for row in own if isinstance(row.get("l2"), list)]
        if listed:
            norms, loss = _thinned(Curve.of(listed))
            clean = 100 * float(np.mean([l2 != -1 for row in listed for l2 in _list(row["l2"])]))
            panel.step(norms, clean - loss, where="post", color=colour, linestyle=line,
                       linewidth=WIDTHS[group.arrangement])  # fmt: skip
        found = spreads([row for row in own if row.get("epsilon") is not None], "robust_accuracy",
                        by=("epsilon",))  # fmt: skip
        points = [(_number(epsilon), spread) for (_, epsilon), spread in found.items()]
        _errorbars(panel, points, group, style)
    panel.set(ylim=(0, 102))
    panel.set_xlim(left=0)


def _severities(panel: Axes, _: str, rows: list[Row], style: Style) -> None:
    for group, own in _by_network(rows).items():
        # the mean of all corruptions is taken within each run
        runs = {row.get("run") for row in own}
        flat = [
            {**own[0], "run": run, "severity": severity, "accuracy": _mean(chosen, "accuracy")}
            for run in runs
            for severity in SEVERITIES
            if (chosen := select(own, run=run, severity=severity))
        ]
        clean = [
            {**own[0], "run": run, "severity": 0,
             "accuracy": _mean(select(own, run=run), "clean_accuracy")}
            for run in runs
        ]  # fmt: skip
        found = spreads([*clean, *flat], "accuracy", by=("severity",))
        points = [(_number(severity), spread) for (_, severity), spread in found.items()]
        _errorbars(panel, points, group, style)
    panel.set(ylim=(0, 102), xticks=(0, *SEVERITIES))


def _errorbars(
    panel: Axes, points: Sequence[tuple[float, Spread]], group: Group, style: Style
) -> None:
    if points:
        points = sorted(points, key=lambda point: point[0])
        panel.errorbar(
            [x for x, _ in points], [100 * spread.mean for _, spread in points],
            yerr=[0 if np.isnan(s.deviation) else 100 * s.deviation for _, s in points],
            color=COLOURS[group.arrangement], linestyle=style.line(group.model), marker=".",
            capsize=2, linewidth=WIDTHS[group.arrangement],
        )  # fmt: skip


# The grid


def _grid(
    rows: Sequence[Row],
    lines: Mapping[str, list[Row]],
    draw: Draw,
    *,
    x: str,
    y: str,
    authors: bool = False,
) -> Figure:
    """A line of panels per key, a column per data set."""
    style = Style(rows)
    sets = list(dict.fromkeys(_data_set(row) for row in rows))
    width, height = max(9.0, 2.9 * len(sets)), 1.1 + 1.55 * len(lines)
    figure = Figure(figsize=(width, height), layout="constrained")
    panels = figure.subplots(len(lines), len(sets), squeeze=False)
    for row_of_panels, (key, own) in zip(panels, lines.items(), strict=True):
        for panel, data_set in zip(row_of_panels, sets, strict=True):
            chosen = [row for row in own if _data_set(row) == data_set]
            if chosen:
                draw(panel, key, chosen, style)
            else:
                panel.text(0.5, 0.5, "not run", ha="center", va="center", color=INK,
                           transform=panel.transAxes)  # fmt: skip
            panel.grid(color="#dddddd", linewidth=0.6)
            panel.spines[["top", "right"]].set_visible(False)
            panel.tick_params(labelsize=8)
        row_of_panels[0].set_ylabel(f"{attack_title(key)}\n{y}", fontsize=8)
    for panel, data_set in zip(panels[0], sets, strict=True):
        panel.set_title(data_title(*data_set))
    for panel in panels[-1]:
        panel.set_xlabel(x)
    entries = style.legend(authors=authors)
    columns = max(2, int(width / 2.2))
    figure.legend(handles=entries, loc="outside upper center", ncols=columns, frameon=False)
    return figure


def _data_set(row: Row) -> DataSet:
    return str(row["data"]), bool(row["augmented"])


def _by_network(rows: Sequence[Row]) -> dict[Group, list[Row]]:
    found: dict[Group, list[Row]] = {}
    for row in rows:
        found.setdefault(group_of(row), []).append(row)
    return found


def _thinned(curve: Curve) -> tuple[Floats, Floats]:
    """L2 and loss of at most `POINTS` steps, the first and the last among them."""
    l2, loss = curve.points
    chosen = np.unique(np.linspace(0, len(l2) - 1, POINTS).round().astype(int))
    return l2[chosen], loss[chosen]


def _mean(rows: Sequence[Row], value: str) -> float:
    return float(np.mean([_number(row[value]) for row in rows]))


def _number(value: Any) -> float:
    return float(value)


def _list(value: Any) -> list[float | None]:
    return list(value)
