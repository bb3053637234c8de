"""Paired differences: against the formula, and their intervals by simulation."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from benchmarks.measures.localisation import FIGURES, compare
from benchmarks.measures.localisation_pairs import NOTHING, differences, paired


def test_paired_interval_by_the_formula() -> None:
    one, other = np.array([0.1, 0.5, 0.4, 0.9]), np.array([0.2, 0.7, 0.4, 1.0])
    change = other - one
    # the 97.5 % quantile of t with 3 degrees of freedom, from a printed table
    half = 3.182446 * change.std(ddof=1) / 2
    found = paired(one, other)
    assert (found.value, found.low, found.high) == pytest.approx(
        (change.mean(), change.mean() - half, change.mean() + half), rel=1e-6
    )


def test_pairs_with_an_undefined_member_are_left_out() -> None:
    found = paired(np.array([0.1, math.nan, 0.3, 0.2]), np.array([0.2, 0.5, math.nan, 0.3]))
    assert found.value == pytest.approx(0.1)
    assert paired(np.array([math.nan]), np.array([1.0])) == NOTHING
    single = paired(np.array([0.0]), np.array([1.0]))
    assert single.value == 1
    assert math.isnan(single.low)


def test_every_figure_has_a_difference_with_its_value_inside_the_interval() -> None:
    generator = torch.Generator().manual_seed(3)
    objects = torch.rand(60, 8, 8, generator=generator) > 0.6
    noise = torch.rand(60, 8, 8, generator=generator)
    blind, seeing = compare(noise, objects), compare((noise + objects) / 2, objects)
    found = differences(blind, seeing)
    assert sorted(found) == sorted(FIGURES)
    one, other = blind.figures(), seeing.figures()
    for name in FIGURES:
        difference = found[name]
        assert difference.value == pytest.approx(getattr(other, name) - getattr(one, name))
        assert difference.low <= difference.value <= difference.high
    for name in ("precision", "pxap", "inside"):
        assert found[name].low > 0


def test_the_bootstrap_of_precision_covers_what_is_true() -> None:
    """Two heatmaps as good as each other: 0 lies in most of the intervals."""
    inside = []
    for seed in range(40):
        generator = torch.Generator().manual_seed(seed)
        objects = torch.rand(40, 5, 5, generator=generator) > 0.5
        one, other = (torch.rand(40, 5, 5, generator=generator) for _ in range(2))
        found = differences(compare(one, objects), compare(other, objects))["precision"]
        inside.append(found.low <= 0 <= found.high)
    assert 34 <= sum(inside) <= 40
