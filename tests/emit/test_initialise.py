"""Fresh values are distributed as the layers' classes distribute them, and follow torch's seed."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import nn

from td_transform import to_topdown
from td_transform.emit.initialise import materialise
from tests.networks import TOPOLOGIES


@pytest.mark.parametrize(
    "build",
    [
        lambda: nn.Conv2d(64, 1100, 3, device="meta"),  # more than one block of values
        lambda: nn.Conv2d(64, 32, 3, groups=8, device="meta"),
        lambda: nn.Linear(300, 200, device="meta"),
        lambda: nn.ConvTranspose2d(32, 48, 2, device="meta"),
    ],
)
def test_as_the_class_does(build: object) -> None:
    torch.manual_seed(0)
    layer: nn.Module = build()
    materialise(layer, torch.device("cpu"))
    ours = {name: p.detach().clone() for name, p in layer.named_parameters()}
    layer.reset_parameters()
    for name, theirs in layer.named_parameters():
        bound = theirs.abs().max()
        assert ours[name].abs().max() == pytest.approx(bound.item(), rel=0.1)
        assert ours[name].std().item() == pytest.approx(theirs.std().item(), rel=0.2)
        assert ours[name].mean().abs() < bound / 4
        assert ours[name].unique().numel() > 0.9 * min(ours[name].numel(), 2**16)


def test_the_seed_decides_whatever_the_threads() -> None:
    def values() -> list[torch.Tensor]:
        torch.manual_seed(3)
        td = to_topdown(TOPOLOGIES["deep stem"](), input_size=(3, 32, 32))
        return [p.detach() for p in td.parameters()]

    threads = torch.get_num_threads()
    first = values()
    torch.set_num_threads(threads + 1)
    second = values()
    torch.set_num_threads(threads)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    weights = [p for p in first if p.dim() == 4]
    assert not any(torch.equal(a, b) for a, b in pairwise(weights))
