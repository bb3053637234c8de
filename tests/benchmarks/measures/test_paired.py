"""Two networks on the same images, from numbers whose comparison is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from benchmarks.measures.paired import compare_pairs, mcnemar


def test_the_ratio_is_the_median_of_the_images_both_get_right() -> None:
    bu = [1.0, 2.0, -1.0, 3.0, None, None]
    td = [2.0, 6.0, 1.0, -1.0, 5.0, None]  # ×2, ×3, -, -, ×0, -
    found = compare_pairs([bu], [td])
    assert found is not None
    assert (found.images, found.told) == (4, 3)
    assert found.advantage == pytest.approx(math.log(2.0))


def test_no_image_is_right_for_both() -> None:
    assert compare_pairs([[-1.0, 1.0]], [[1.0, -1.0]]) is None


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    outside = 0
    for seed in range(200):
        random = np.random.default_rng(seed)
        bu = random.gamma(4, 0.5, 50)
        td = 1.2 * bu * np.exp(0.5 * random.standard_normal(50))
        found = compare_pairs([bu.tolist()], [td.tolist()])
        assert found is not None
        outside += not found.low <= math.log(1.2) <= found.high
    assert outside <= 0.05 * 200 + 2 * math.sqrt(0.05 * 0.95 * 200)


def test_runs_that_differ_widen_the_interval() -> None:
    bu = np.random.default_rng(0).gamma(4, 0.5, 100)
    alike = compare_pairs([bu.tolist()] * 2, [(1.1 * bu).tolist()] * 2)
    unlike = compare_pairs([bu.tolist()] * 2, [(0.6 * bu).tolist(), (1.6 * bu).tolist()])
    assert alike is not None
    assert unlike is not None
    assert (alike.state, unlike.state) == (True, None)


def test_mcnemar_is_the_exact_test() -> None:
    advantage, low, high, p = mcnemar(9, 1, 100)
    assert p == pytest.approx(2 * stats.binom.cdf(1, 10, 0.5))
    assert advantage == pytest.approx(8.0)
    assert low < advantage < high
    assert mcnemar(0, 0, 100)[0] == 0
    assert mcnemar(1, 9, 100)[0] == pytest.approx(-8.0)
