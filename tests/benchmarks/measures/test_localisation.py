"""Heatmaps against objects: against scikit-learn's metrics, and on cases worked out by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import (
    auc,
    jaccard_score,
    precision_recall_curve,
    precision_score,
    recall_score,
)

from benchmarks.errors import BenchmarkError
from benchmarks.measures.localisation import HELD_OUT_STEP, compare, mean


def test_agrees_with_scikit_learn() -> None:
    generator = torch.Generator().manual_seed(5)
    heatmaps = torch.rand(40, 9, 7, generator=generator)
    objects = torch.rand(40, 9, 7, generator=generator) > 0.6
    found = compare(heatmaps, objects, threshold=0.3).figures()
    marked, true = (heatmaps > 0.3).flatten(1).numpy(), objects.flatten(1).numpy()
    heat = heatmaps.flatten(1).numpy()
    assert found.precision == pytest.approx(precision_score(true.ravel(), marked.ravel()))
    assert found.recall == pytest.approx(recall_score(true.ravel(), marked.ravel()))
    assert found.iou == pytest.approx(jaccard_score(true, marked, average="samples"))
    peaks = heat.argmax(1)
    assert found.pointing == pytest.approx(np.take_along_axis(true, peaks[:, None], 1).mean())
    assert found.inside == pytest.approx(((heat * true).sum(1) / heat.sum(1)).mean())
    # the trapezoids under the curve are near the steps that average precision sums
    curves = [precision_recall_curve(t, h)[:2] for t, h in zip(true, heat, strict=True)]
    areas = [auc(recall, precision) for precision, recall in curves]
    assert found.pxap == pytest.approx(np.mean(areas), abs=0.02)
    assert found.images == 40


@pytest.mark.parametrize(
    ("heat", "area"),
    [
        # the object's two pixels first and third: (1/1 + 2/3) / 2
        ([0.9, 0.8, 0.7, 0.1], 5 / 6),
        ([0.9, 0.1, 0.8, 0.1], 1.0),
        # all as hot: the share of the object
        ([1.0, 1.0, 1.0, 1.0], 0.5),
    ],
)
def test_area_under_the_pixel_precision_recall_curve(heat: list[float], area: float) -> None:
    objects = torch.tensor([[[True, False], [True, False]]])
    found = compare(torch.tensor(heat).view(1, 2, 2), objects)
    assert found.pxap == pytest.approx([area])


def test_perfect_empty_and_nothing() -> None:
    objects = torch.zeros(2, 4, 4, dtype=torch.bool)
    objects[:, 1:3, 1:3] = True
    perfect = compare(objects.float(), objects).figures()
    shares = (perfect.precision, perfect.recall, perfect.iou, perfect.pxap, perfect.inside)
    assert shares == (1, 1, 1, 1, 1)
    assert (perfect.pointing, perfect.box) == (1, 1)
    silent = compare(torch.zeros(2, 4, 4), objects).figures()
    assert math.isnan(silent.precision)
    assert math.isnan(silent.inside)
    assert (silent.recall, silent.iou, silent.pointing, silent.box) == (0, 0, 0, 0)
    none = compare(torch.zeros(0, 4, 4), torch.zeros(0, 4, 4, dtype=torch.bool)).figures()
    assert none.images == 0
    assert all(map(math.isnan, (none.recall, none.iou, none.pxap, none.box)))


def test_a_mask_of_the_whole_image_is_the_chance_line() -> None:
    objects = torch.rand(30, 8, 8, generator=torch.Generator().manual_seed(1)) > 0.7
    share = objects.double().mean((1, 2))
    found = compare(torch.ones(30, 8, 8), objects).figures()
    assert found.recall == 1
    # counted over all pixels, and the mean over images, which are of one size
    for figure in (found.precision, found.pxap, found.inside, found.iou, found.pointing):
        assert figure == pytest.approx(share.mean().item())


def test_the_boxes_threshold_is_chosen_on_images_that_are_not_judged() -> None:
    """Held-out images ask for 0.5; at every other threshold they are wrong, the others right."""
    objects = torch.zeros(10, 10, 10, dtype=torch.bool)
    objects[:, :4, :4] = True
    heatmaps = torch.full((10, 10, 10), 0.45)
    heatmaps[:, :4, :4] = 0.52
    held_out = torch.arange(10) % HELD_OUT_STEP == 0
    heatmaps[~held_out] = torch.where(objects[~held_out], 0.4, 0.1)
    found = compare(heatmaps, objects)
    assert found.box_threshold in (0.45, 0.5)
    assert np.isnan(found.box[held_out.numpy()]).all()
    # nothing is marked there at that threshold
    assert not found.box[~held_out.numpy()].any()


def test_an_image_without_an_object_has_no_curve() -> None:
    objects = torch.zeros(2, 3, 3, dtype=torch.bool)
    objects[0, 0, 0] = True
    found = compare(torch.rand(2, 3, 3), objects)
    assert np.isnan(found.pxap).tolist() == [False, True]
    assert found.figures().pxap == found.pxap[0]
    assert mean(np.array([math.nan, 0.25])) == 0.25


def test_the_threshold_itself_is_not_marked() -> None:
    found = compare(torch.full((1, 1, 2), 0.25), torch.ones(1, 1, 2).bool(), threshold=0.25)
    assert (found.hits.tolist(), found.missed.tolist()) == ([0], [2])


def test_objects_have_to_be_bool() -> None:
    with pytest.raises(BenchmarkError, match=r"float32.*torch.bool.*threshold first"):
        compare(torch.rand(1, 2, 2), torch.rand(1, 2, 2))
