"""What must hold for every emitted network."""

from __future__ import annotations

import torch
from torch import Tensor, fx, nn

from td_transform import TopDownNetwork

SLIDING = (nn.Conv2d, nn.MaxPool2d, nn.AvgPool2d, nn.LPPool2d, nn.PixelUnshuffle)


def strided_layers(td: TopDownNetwork) -> list[str]:
    """Layers below the head that lower a resolution."""
    found = []
    for name, module in td.levels.named_modules():
        stride = getattr(module, "stride", 1)
        steps = (stride, stride) if isinstance(stride, int) else tuple(stride)
        unshuffles = isinstance(module, nn.PixelUnshuffle)
        if isinstance(module, SLIDING) and (steps != (1, 1) or unshuffles):
            found.append(name)
    return found


class Watch(fx.Interpreter):
    """Runs a network and keeps the size of the map that every level ends with."""

    def __init__(self, td: TopDownNetwork) -> None:
        super().__init__(td)
        self._ends = {name: i for i, name in enumerate(td.level_ends)}
        self.sizes: dict[int, tuple[int, ...]] = {}

    def run_node(self, n: fx.Node) -> object:
        result = super().run_node(n)
        if n.name in self._ends and isinstance(result, Tensor):
            self.sizes[self._ends[n.name]] = tuple(result.shape[2:])
        return result


def check_network(td: TopDownNetwork, images: Tensor, *, classes: int | None = None) -> None:
    """Forward and backward run, every parameter gets a gradient, levels rise as planned."""
    counted = sum(p.numel() for p in td.parameters())
    assert counted == td.plan.parameters, "the plan counts its parameters right"
    assert strided_layers(td) == []
    strides = [level.stride for level in td.plan.levels]
    assert strides == sorted(strides, reverse=True)
    assert len(set(strides)) == len(strides)
    td.zero_grad()
    watch = Watch(td)
    logits = watch.run(images)
    assert logits.shape[0] == images.shape[0]
    if classes is not None:
        assert logits.shape == (images.shape[0], classes)
    weight = torch.linspace(0.5, 1.5, logits.shape[1], device=logits.device)
    (logits * weight).sum().backward()
    missing = [name for name, p in td.named_parameters() if p.grad is None]
    assert missing == [], f"no gradient: {missing}"
    if not images.is_meta:
        assert torch.isfinite(logits).all()
        assert all(torch.isfinite(p.grad).all() for p in td.parameters())
    sizes = [watch.sizes[i] for i in range(len(strides))]
    assert sizes == [
        tuple(-(-side // s) for side, s in zip(images.shape[2:], level.strides, strict=True))
        for level in td.plan.levels
    ]
