"""The README's Grad-CAM pictures: what is drawn, and of which networks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.runs.workspace import Place, Workspace
from tools.gradcam_pictures import square
from tools.trained import trained


def test_a_photograph_becomes_the_square_in_its_middle() -> None:
    photograph = np.zeros((4, 8, 3), np.uint8)
    photograph[:, 2:6, 0] = 255
    found = square(photograph, 2)
    assert found[:, 0, 0].tolist() == pytest.approx([1, 0, 0])
    assert found.shape == (3, 2, 2)


def test_a_network_that_nobody_trained_is_asked_for_in_words(tmp_path: Path) -> None:
    with pytest.raises(SystemExit, match="run exp1 with --results first"):
        trained(Workspace(Place(root=tmp_path)), model="nin", data="cifar10", arrangement="td")
