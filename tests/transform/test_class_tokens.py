"""Class tokens beside the map: the stages' own, and those that are handed on."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from tests.properties import check_network
from tests.transform.bodies import SIZE, TokenBlock, convert

BOTH = pytest.mark.parametrize(
    ("arrangement", "widths"), [("td", [16, 12, 8]), ("uniform", [12, 12, 12])]
)


class TokenStage(nn.Module):
    """Its own class token is put before the positions, and taken away again."""

    def __init__(self, width_in: int, width: int) -> None:
        super().__init__()
        self.down, self.norm = nn.Conv2d(width_in, width, 2, 2), nn.LayerNorm(width)
        self.token = nn.Parameter(torch.randn(1, 1, width))
        self.blocks = nn.Sequential(TokenBlock(width), TokenBlock(width))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        x = self.down(x)
        n, c, h, w = x.shape
        tokens = self.norm(x.flatten(2).transpose(1, 2))
        tokens = self.blocks(torch.cat([self.token.expand(n, -1, -1), tokens], dim=1))
        return tokens[:, 1:].reshape(n, h, w, c).permute(0, 3, 1, 2).contiguous(), tokens


class ClassTokens(nn.Module):
    """Stages with class tokens of their own; the head reads the last one's (CoaT-Lite)."""

    def __init__(self) -> None:
        super().__init__()
        self.stages = nn.ModuleList([TokenStage(3, 8), TokenStage(8, 12), TokenStage(12, 16)])
        self.norm, self.head = nn.LayerNorm(16), nn.Linear(16, 7)

    def forward(self, x: Tensor) -> Tensor:
        for stage in self.stages:
            x, tokens = stage(x)
        logits: Tensor = self.head(self.norm(tokens)[:, 0])
        return logits


@BOTH
def test_class_tokens_are_the_stages_own_and_the_head_reads_the_last(
    arrangement: str, widths: list[int]
) -> None:
    td = convert(ClassTokens(), arrangement=arrangement, output_stride=2)
    assert [level.width for level in td.plan.levels] == widths
    assert [level.stride for level in td.plan.levels] == [8, 4, 2]
    tokens = {n: tuple(p.shape) for n, p in td.named_parameters() if n.endswith(".token")}
    assert sorted(tokens.values()) == sorted((1, 1, width) for width in widths)
    assert "class tokens" not in str(td.plan)  # none has to be made up
    images = torch.rand(2, *SIZE)
    check_network(td, images, classes=7)
    # the head reads nothing but the token, which the last level's own one is behind
    (last,) = (p for n, p in td.named_parameters() if n.startswith("levels.2") and n in tokens)
    before = td(images)
    with torch.no_grad():
        last.copy_(torch.randn_like(last))  # a norm doesn't see a constant
    assert not torch.allclose(before, td(images))


class HandedOn(nn.Module):
    """Two class tokens are handed on from stage to stage beside the map; each of the head's
    classifiers reads one (PiT, with a distillation token)."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 2, 2)
        self.tokens = nn.Parameter(torch.randn(1, 2, 8))
        self.fine = nn.Sequential(TokenBlock(8), TokenBlock(8))
        self.down, self.widen = nn.Conv2d(8, 16, 3, 2, 1, groups=8), nn.Linear(8, 16)
        self.coarse = nn.Sequential(TokenBlock(16), TokenBlock(16))
        self.head, self.other = nn.Linear(16, 7), nn.Linear(16, 7)

    def stage(self, x: Tensor, tokens: Tensor, blocks: nn.Module) -> tuple[Tensor, Tensor]:
        (n, c, h, w), count = x.shape, tokens.shape[1]
        both = blocks(torch.cat([tokens, x.flatten(2).transpose(1, 2)], dim=1))
        return both[:, count:].transpose(1, 2).reshape(n, c, h, w), both[:, :count]

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x, tokens = self.stage(x, self.tokens.expand(x.shape[0], -1, -1), self.fine)
        _, tokens = self.stage(self.down(x), self.widen(tokens), self.coarse)
        logits: Tensor = self.head(tokens[:, 0]) + self.other(tokens[:, 1])
        return logits / 2


@pytest.mark.parametrize(("arrangement", "width"), [("td", 8), ("uniform", 12), ("reversed", 16)])
def test_class_tokens_that_are_handed_on(arrangement: str, width: int) -> None:
    """They stay as many as they are, which is as many as images were traced, at other batches too."""
    td = convert(HandedOn(), arrangement=arrangement, output_stride=2)
    assert [level.stride for level in td.plan.levels] == [4, 2]
    assert td.plan.levels[-1].width == width
    check_network(td, torch.rand(3, *SIZE), classes=7)
