"""Invented rows for the tests of figures, claims and report: drawn at random, never measured."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np

from benchmarks.measures.attacks import ATTACKS
from benchmarks.measures.localisation import FIGURES
from benchmarks.runs.jobs import Row

COMMON: Row = {
    "status": "done",
    "profile": "cpu",
    "seconds": 1.5,
    "device": "cpu",
    "cpu": "invented",
    "cores": 2,
    "threads": 1,
    "torch": "0.0",
    "python": "3.0",
    "commit": "synthetic",
    "seed": 0,
    "finished": "2026-01-01T00:00:00+00:00",
}
KINDS = {
    "train": "exp1",
    "robustness": "exp2",
    "strong": "exp2",
    "corruptions": "exp2",
    "scales": "exp2-scales",
    "gradcam": "exp3-gradcam",
    "localisation": "exp3-localisation",
    "faithfulness": "exp3-faithfulness",
    "parameters": "table1",
}


def row(kind: str, arrangement: str | None = "td", **columns: Any) -> Row:
    """One row; NIN-light on MNIST, run 0, where nothing else is said."""
    network: Row = {
        "model": "nin-light", "arrangement": arrangement, "data": "mnist", "augmented": False,
        "run": 0,
    }  # fmt: skip
    found: Row = {**COMMON, "experiment": KINDS[kind], "kind": kind, **network, **columns}
    names = ("kind", "model", "arrangement", "data", "run")
    return {"job": " ".join(str(found[name]) for name in names), **found}


def accuracies(arrangement: str, values: Sequence[float], **columns: Any) -> list[Row]:
    """A training per run."""
    return [
        row("train", arrangement, run=run, test_accuracy=value, **columns)
        for run, value in enumerate(values)
    ]


def l2_row(arrangement: str, distances: Sequence[float | None], **columns: Any) -> Row:
    """One network under one attack."""
    listed = [None if value is None else round(float(value), 4) for value in distances]
    given = {"attack": "PointwiseAttack", "images": len(listed), "clean_accuracy": 1.0, **columns}
    return row("robustness", arrangement, l2=listed, **given)


def heat_row(arrangement: str | None, **columns: Any) -> Row:
    """What one network's own heatmaps, scaled as the authors did, are worth."""
    common = {"heatmap": "own", "scaling": "centred", "threshold": 0.2}
    return row("localisation", arrangement, **{**common, **columns})


def everything(seed: int = 0, *, attacks: Sequence[str] = ATTACKS, images: int = 60) -> list[Row]:
    """Rows of every kind: two models, two data sets, two runs."""
    rng = np.random.default_rng(seed)
    rows: list[Row] = []
    networks = [
        {"model": model, "data": data, "run": run}
        for model, data, run in product(
            ("lenet-fc", "nin-light"), ("mnist", "fashion-mnist"), (0, 1)
        )
    ]
    for network in networks:
        rows += _trained(network, rng)
        for arrangement in ("bu", "td"):
            rows += _attacked(network, arrangement, rng, attacks, images)
            rows.append(
                heat_row(arrangement, **network, images=images,
                         **{name: _share(rng, 0.6) for name in FIGURES})
            )  # fmt: skip
        rows += _levels(network, rng, attacks, images)
    return rows + [
        row("parameters", arrangement, model=model, data=None, run=None, parameters=count, paper=paper)
        for model, arrangement, count, paper in (
            ("lenet-fc", "bu", 7670, "8k"), ("lenet-fc", "td", 14452, "14k"),
        )
    ]  # fmt: skip


def _trained(network: dict[str, Any], rng: np.random.Generator) -> list[Row]:
    return [
        row("train", arrangement, **network, test_accuracy=_share(rng, 0.95), parameters=1000, epochs=5,
            validation_accuracy=_share(rng, 0.95))
        for arrangement in ("bu", "td", "uniform", "reversed")
    ]  # fmt: skip


def _attacked(
    network: dict[str, Any],
    arrangement: str,
    rng: np.random.Generator,
    attacks: Sequence[str],
    images: int,
) -> list[Row]:
    scale = 1.5 if arrangement == "td" else 1.0
    rows = [
        l2_row(arrangement, scale * rng.gamma(3, 1, images), **network, attack=attack)
        for attack in attacks
    ]
    rows += [
        row("strong", arrangement, **network, attack="PGD", norm="linf", epsilon=epsilon, images=images,
            clean_accuracy=0.97, robust_accuracy=_share(rng, 0.9 - 5 * epsilon))
        for epsilon in (0.05, 0.1, 0.15)
    ]  # fmt: skip
    rows.append(
        row("strong", arrangement, **network, attack="DeepFool", norm="l2", epsilon=None, images=images,
            clean_accuracy=0.97, robust_accuracy=None,
            l2=[-1, None, *np.round(scale * rng.gamma(3, 0.4, images - 2), 4).tolist()])
    )  # fmt: skip
    return rows + [
        row("corruptions", arrangement, **network, corruption=corruption, severity=severity,
            images=images, clean_accuracy=0.97, accuracy=_share(rng, 0.97 - 0.1 * severity))
        for corruption in ("fog", "shot noise")
        for severity in range(1, 6)
    ]  # fmt: skip


def _levels(
    network: dict[str, Any], rng: np.random.Generator, attacks: Sequence[str], images: int
) -> list[Row]:
    levels = ("high", "medium", "low", "high-medium", "high-low", "medium-low")
    return [
        row("scales", "td", **network, attack=attack, perturbed=level, images=images,
            accuracy=_share(rng, 0.8), clean_accuracy=0.97)
        for attack in attacks
        for level in levels
    ]  # fmt: skip


def _share(rng: np.random.Generator, middle: float) -> float:
    return float(np.clip(middle + rng.normal(0, 0.01), 0, 1))
