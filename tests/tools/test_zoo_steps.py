"""Hybrids take a training step on values: what meta tensors can't show, such as code that is never run."""

from __future__ import annotations

import math

import pytest

from tools.zoo.rows import row

# one of the smallest per kind: attention in windows' heads, between channels, on folded patches, by
# lambda layers after norms that activate; squared activations; gated convolutions, channels-last
HYBRIDS = [
    "efficientvit_m0",
    "edgenext_xx_small",
    "mobilevitv2_050",
    "lambda_resnet26t",
    "convformer_s18",
    "test_mambaout",
]


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", HYBRIDS)
def test_a_step(name: str) -> None:
    found = row("timm", name, ["td"], real=True)["td"]
    assert "error" not in found, found["text"]
    assert all(map(math.isfinite, found["loss"]))
    assert found["loss"][1] != found["loss"][0]
