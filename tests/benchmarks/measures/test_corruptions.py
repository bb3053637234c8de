"""Common corruptions: what they leave is an image, and they are as strong as published."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from benchmarks.errors import BenchmarkError
from benchmarks.measures.corruptions import CORRUPTIONS, SEVERITIES, corrupt


@pytest.mark.parametrize("size", [(1, 28, 28), (3, 32, 32)], ids=["grey", "colour"])
@pytest.mark.parametrize("name", CORRUPTIONS)
def test_corrupted_images_are_images(name: str, size: tuple[int, int, int]) -> None:
    coarse = torch.rand(4, size[0], 7, 7, generator=torch.Generator().manual_seed(0))
    images = (nn.functional.interpolate(coarse, size[1:], mode="bilinear") * 255).byte()
    clean = images.float() / 255
    for severity in SEVERITIES:
        changed = corrupt(images, name, severity, seed=5)
        assert changed.shape == clean.shape
        assert changed.dtype == torch.float32
        assert 0 <= changed.min() <= changed.max() <= 1
        torch.testing.assert_close((changed * 255).round() / 255, changed)
        assert torch.equal(changed, corrupt(clean, name, severity, seed=5))
        distance = (changed - clean).abs().mean()
        assert 0.0005 < distance < 0.3


@pytest.mark.parametrize(
    ("name", "deviations"),
    [
        ("gaussian_noise", (0.04, 0.06, 0.08, 0.09, 0.10)),
        ("shot_noise", (0.0316, 0.0447, 0.0707, 0.0816, 0.1)),
        ("speckle_noise", (0.03, 0.05, 0.06, 0.08, 0.1)),
        ("impulse_noise", (0.05, 0.0707, 0.0866, 0.1118, 0.1323)),
    ],
)
def test_noise_has_the_published_deviation(name: str, deviations: tuple[float, ...]) -> None:
    grey = torch.full((4, 3, 64, 64), 0.5)
    measured = [corrupt(grey, name, severity).std().item() for severity in SEVERITIES]
    assert measured == pytest.approx(deviations, rel=0.08)


def test_digital_corruptions_do_what_they_say() -> None:
    colour = torch.tensor([0.2, 0.4, 0.1]).view(1, 3, 1, 1).expand(1, 3, 32, 32)
    brighter = corrupt(colour, "brightness", 3)[0, :, 0, 0]
    torch.testing.assert_close(brighter, torch.tensor([0.275, 0.55, 0.1375]), atol=0.003, rtol=0)
    half = torch.cat([torch.zeros(1, 1, 28, 14), torch.ones(1, 1, 28, 14)], 3)
    values = corrupt(half, "contrast", 2).unique()
    torch.testing.assert_close(values, torch.tensor([0.25, 0.75]), atol=0.003, rtol=0)
    assert len(corrupt(torch.rand(1, 1, 28, 28), "pixelate", 5)[0, 0].unique()) <= 18**2


@pytest.mark.parametrize("name", [n for n in CORRUPTIONS if "blur" in n])
def test_blurs_keep_the_mean_and_lose_detail(name: str) -> None:
    images = torch.rand(2, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    blurred = corrupt(images, name, 5)
    assert blurred.mean().item() == pytest.approx(images.mean().item(), abs=0.03)
    assert blurred.std() < 0.8 * images.std()


def test_corruption_errors_name_the_choices() -> None:
    images = torch.rand(1, 1, 28, 28)
    with pytest.raises(BenchmarkError, match="'rain'; expected one of gaussian_noise, shot_noise"):
        corrupt(images, "rain", 1)
    with pytest.raises(BenchmarkError, match="severity: 6; expected 1, 2, 3, 4 or 5"):
        corrupt(images, "contrast", 6)
    with pytest.raises(
        BenchmarkError, match=r"images: values from .*; expected values in \[0, 1\]"
    ):
        corrupt(images * 255, "contrast", 1)
