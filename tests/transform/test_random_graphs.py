"""Random networks with every oddity: trained a step, or refused by a typed error, and nothing else."""

from __future__ import annotations

import pytest

from tests.transform.random_graphs import check, draw


@pytest.mark.parametrize(
    "seeds",
    [
        range(8),
        *(pytest.param(range(a, a + 50), marks=pytest.mark.exhaustive) for a in (8, 58, 108)),
    ],
)
def test_nothing_but_a_typed_error_comes_out(seeds: range) -> None:
    outcomes = [check(draw(seed)) for seed in seeds]
    assert outcomes.count("trained") >= len(seeds) // 5
