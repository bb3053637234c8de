"""The pyramid's matrices are made once, and serve whatever the next image is used for."""

from __future__ import annotations

import pytest
import torch

from td_transform.layers import pyramid
from td_transform.layers.pyramid import Pyramid


def test_matrices_first_made_for_inference_serve_training() -> None:
    pyramid._kept_weights.cache_clear()
    image = torch.rand(2, 3, 30, 22)
    levels = Pyramid((4, 2, 1))
    with torch.inference_mode():
        expected = [level.clone() for level in levels(image)]
    image.requires_grad_()
    found = levels(image)
    for level, other in zip(found, expected, strict=True):
        torch.testing.assert_close(level.detach(), other)
    found[0].sum().backward()
    assert image.grad is not None
    assert image.grad.abs().sum() > 0


@pytest.mark.parametrize(("side", "kept"), [(30, 2), (2**10, 0)])
def test_small_matrices_are_kept(side: int, kept: int) -> None:
    pyramid._kept_weights.cache_clear()
    levels = Pyramid((4, 2, 1))
    for _ in range(2):
        levels(torch.rand(1, 1, side, side))
    assert pyramid._kept_weights.cache_info().misses == kept


def test_each_precision_has_its_own() -> None:
    coarse = Pyramid((2,))(torch.rand(1, 1, 8, 8).double())[0]
    assert coarse.dtype == torch.float64
    assert Pyramid((2,))(torch.rand(1, 1, 8, 8))[0].dtype == torch.float32


@pytest.mark.parametrize("compiling", [True, False])
def test_what_traces_sees_how_they_are_made(
    compiling: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    pyramid._kept_weights.cache_clear()
    monkeypatch.setattr(torch.compiler, "is_compiling", lambda: compiling)
    Pyramid((2,))(torch.rand(1, 1, 8, 8))
    assert (pyramid._kept_weights.cache_info().currsize == 0) == compiling
