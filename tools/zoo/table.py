"""Rows as a page in Markdown: what converts, by kind; what doesn't, by kind of error; every model."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch

from tools.zoo.feature_info import explanation
from tools.zoo.libraries import Library
from tools.zoo.rows import Row

_ARRANGEMENTS = ("td", "uniform", "reversed")


def page(library: Library, rows: Sequence[Row], command: str) -> str:
    """The page of one library.

    Args:
        library: where the models are from.
        rows: one a model.
        command: what wrote it.
    """
    built = sorted((r for r in rows if "not built" not in r), key=lambda r: str(r["model"]))
    lines = [
        f"# {library.name}'s models, turned upside down",
        "",
        f"Written by `{command}` ({library.name} {library.version}, torch {torch.__version__}): each "
        "model at its own input size, at `output_stride` = its own finest stride, on the meta device. "
        "Parameters and multiply-adds (of one image) in millions.",
        "",
        *_counts(built),
        *_errors(built),
        *_opinions(built),
        *_models(built),
        *_steps(built),
        *_refused(built),
    ]
    return "\n".join(lines) + "\n"


def _counts(rows: Sequence[Row]) -> Iterator[str]:
    yield "| arrangement | kind | tried | convert | |"
    yield "| --- | --- | ---: | ---: | ---: |"
    for arrangement in _ARRANGEMENTS:
        for kind in sorted({str(r["kind"]) for r in rows}):
            tried = [r[arrangement] for r in rows if r["kind"] == kind and arrangement in r]
            good = sum("error" not in result for result in tried)
            if tried:
                share = f"{good / len(tried):.1%}"
                yield f"| {arrangement} | {kind} | {len(tried)} | {good} | {share} |"
    yield ""


def _errors(rows: Sequence[Row]) -> Iterator[str]:
    """How often each kind of error came, under which arrangements, with models that it came for."""
    kinds: dict[tuple[str, str], dict[str, set[str]]] = {}
    for row in rows:
        for arrangement in _ARRANGEMENTS:
            if "error" in (result := row.get(arrangement, {})):
                kind = (str(result["error"]), _placeless(str(result["reason"])))
                kinds.setdefault(kind, {}).setdefault(str(row["model"]), set()).add(arrangement)
    yield "## Kinds of errors"
    yield ""
    yield "| error | seen | under | models | for example |"
    yield "| --- | --- | --- | ---: | --- |"
    for kind, models in sorted(kinds.items(), key=lambda found: -len(found[1])):
        refusing = set().union(*models.values())
        under = ", ".join(a for a in _ARRANGEMENTS if a in refusing)
        cells = [*kind, under, str(len(models)), ", ".join([*models][:4])]
        yield "| " + " | ".join(map(_cell, cells)) + " |"
    yield ""


def _opinions(rows: Sequence[Row]) -> Iterator[str]:
    """Whether the stages that are found are those that the library itself lists."""
    said = [row for row in rows if "feature_info" in row.get("bottom_up", {})]
    if not said:
        return
    yield "## Stages that the library lists itself"
    yield ""
    yield (
        "Its `feature_info` has the stride and width of every stage. Left out of the comparison: maps "
        "of the stem, entries that name no module, and the other stages where a list is of one "
        "stage's blocks alone."
    )
    yield ""
    yield "| kind | lists | agree | |"
    yield "| --- | ---: | ---: | ---: |"
    for kind in sorted({str(row["kind"]) for row in said}):
        lists = [row["bottom_up"]["feature_info"] for row in said if row["kind"] == kind]
        agree = lists.count("")
        yield f"| {kind} | {len(lists)} | {agree} | {agree / len(lists):.1%} |"
    yield ""
    yield "| model | stages that are found, and those of the list | why |"
    yield "| --- | --- | --- |"
    for row in said:
        if different := row["bottom_up"]["feature_info"]:
            cells = [row["model"], different, explanation(row["model"]) or "not explained"]
            yield "| " + " | ".join(map(_cell, cells)) + " |"
    yield ""


def _models(rows: Sequence[Row]) -> Iterator[str]:
    yield "## Models"
    yield ""
    yield (
        "| model | stages (stride: width) | opaque | parameters BU | td | uniform | reversed "
        "| multiply-adds BU | td | uniform | reversed |"
    )
    yield "| --- | --- | --- |" + " ---: |" * 8
    for row in rows:
        results = [row.get(arrangement, {}) for arrangement in _ARRANGEMENTS]
        if any("parameters" in result for result in results):
            yield "| " + " | ".join(map(_cell, _model(row, results))) + " |"
    yield ""


def _model(row: Row, results: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    good = [result for result in results if "parameters" in result]
    yield str(row["model"])
    yield ", ".join(f"{stride}: {width}" for stride, width in row["bottom_up"]["levels"])
    yield ", ".join(sorted({name for result in good for name in result["opaque"]}))
    yield _millions(row["bottom_up"]["parameters"])
    yield from (_figure(result, "parameters") for result in results)
    yield _millions(good[0].get("multiply_adds_bottom_up", 0))
    yield from (_figure(result, "multiply_adds") for result in results)


def _steps(rows: Sequence[Row]) -> Iterator[str]:
    """What a step on values did, where it was tried."""
    results = [(r["model"], a, r[a]) for r in rows for a in _ARRANGEMENTS if "loss" in r.get(a, {})]
    if not results:
        return
    yield "## A training step"
    yield ""
    yield "| model | arrangement | loss of two images | after the step |"
    yield "| --- | --- | ---: | ---: |"
    for model, arrangement, result in results:
        before, after = result["loss"]
        yield f"| {model} | {arrangement} | {before:.3f} | {after:.3f} |"
    yield ""


def _refused(rows: Sequence[Row]) -> Iterator[str]:
    yield "## Refused"
    yield ""
    yield "| model | arrangement | error |"
    yield "| --- | --- | --- |"
    for row in rows:
        texts: dict[str, list[str]] = {}
        for arrangement in _ARRANGEMENTS:
            if "error" in (result := row.get(arrangement, {})):
                texts.setdefault(f"{result['error']}: {result['text']}", []).append(arrangement)
        for text, arrangements in texts.items():
            yield f"| {row['model']} | {', '.join(arrangements)} | {_cell(_placeless(text))} |"


def _placeless(text: str) -> str:
    """Without the path of the installation."""
    return re.sub(r"[^\s(]*/site-packages/", "", text)


def _figure(result: Mapping[str, Any], key: str) -> str:
    if "error" in result:
        return "refused"
    return _millions(result[key]) if key in result else "–"


def _millions(count: int) -> str:
    return f"{count / 1e6:,.1f}"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
