"""Blocks of operators that networks outside of classification brought along: converted, run and trained."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from td_transform import plan_topdown
from td_transform.errors import UnknownOperatorError
from tests.properties import check_network
from tests.transform.bodies import SIZE, blocks, convert
from tests.transform.plain import Apply

WIDTHS = {"td": [32, 16, 8], "uniform": [16, 16, 16]}


class Quantised(nn.Module):
    """Every position takes the nearest of a table's vectors (VQ-VAE), with a straight-through gradient."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv, self.table = nn.Conv2d(width, width, 1), nn.Embedding(12, width)

    def forward(self, x: Tensor) -> Tensor:
        z = self.conv(x).permute(0, 2, 3, 1).contiguous()
        flat = z.view(-1, z.shape[-1])
        far = (
            flat.pow(2).sum(1, keepdim=True)
            + self.table.weight.pow(2).sum(1)
            - 2 * flat @ self.table.weight.t()
        )
        found = self.table(far.argmin(1)).view(z.shape)
        return (found + z - z.detach()).permute(0, 3, 1, 2)


class Looked(nn.Module):
    """A table of another width than the map."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.table, self.conv = nn.Embedding(12, width // 2), nn.Conv2d(width // 2, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        found = self.table(x.mean(1).mul(9).long().clamp(0, 11))
        return x + self.conv(found.permute(0, 3, 1, 2))


class OneHot(nn.Module):
    """The same with a table that is multiplied by a row of zeros and a one."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.rand(12, width))

    def forward(self, x: Tensor) -> Tensor:
        far = torch.cdist(x.flatten(2).transpose(1, 2), self.table[None])
        chosen = F.one_hot(far.argmin(-1), 12).float()
        return x + (chosen @ self.table).transpose(1, 2).reshape(x.shape)


class FourierUnit(nn.Module):
    """A convolution of frequencies (fast Fourier convolution)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(2 * width, 2 * width, 1), nn.BatchNorm2d(2 * width)

    def forward(self, x: Tensor) -> Tensor:
        n = x.shape[0]
        spectrum = torch.fft.rfftn(x, dim=(-2, -1), norm="ortho")
        parts = torch.stack((spectrum.real, spectrum.imag), dim=-1)
        parts = parts.permute(0, 1, 4, 2, 3).contiguous()
        parts = parts.view((n, -1, *parts.size()[3:]))
        parts = self.norm(self.conv(parts)).relu()
        parts = parts.view((n, -1, 2, *parts.size()[2:])).permute(0, 1, 3, 4, 2).contiguous()
        spectrum = torch.complex(parts[..., 0], parts[..., 1])
        return torch.fft.irfftn(spectrum, s=x.shape[-2:], dim=(-2, -1), norm="ortho")


class ChannelFilter(nn.Module):
    """A factor for each channel's frequencies, in one of two parts."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.rand(width, 2))

    def forward(self, x: Tensor) -> Tensor:
        factor = torch.view_as_complex(self.factor)[:, None, None]
        return torch.fft.irfft2(torch.fft.rfft2(x) * factor, s=x.shape[-2:])


class Mixed(nn.Module):
    """Tokens and channels mixed by Fourier transforms (FNet)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm, self.fc = nn.LayerNorm(width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.norm(x.flatten(2).transpose(1, 2))
        mixed = torch.fft.fft(torch.fft.fft(tokens, dim=-1), dim=-2).real
        return self.fc(tokens + mixed).transpose(1, 2).reshape(x.shape)


class Paired(nn.Module):
    """A gate of what two descriptions of a map have to do with each other."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.pair = nn.Bilinear(width, width, width)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.pair(x.mean((2, 3)), x.amax((2, 3))).sigmoid()[:, :, None, None]


class Patches(nn.Module):
    """Windows of 2 by 2, each with a convolution over all of its values."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4 * width, 4 * width, 1)

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        cut = x.unfold(2, 2, 2).unfold(3, 2, 2).permute(0, 1, 4, 5, 2, 3)
        return F.pixel_shuffle(self.conv(cut.reshape(n, c * 4, h // 2, w // 2)), 2)


class Coordinates(nn.Module):
    """Two channels that say where a position is."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width + 2, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        rows, columns = (torch.linspace(-1, 1, size) for size in x.shape[2:])
        grid = torch.stack(torch.meshgrid(rows, columns, indexing="ij"))
        return self.conv(torch.cat([x, grid.expand(x.shape[0], -1, -1, -1)], 1))


class Decorrelated(nn.Module):
    """Channels after the inverse of what they have in common."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        flat = self.conv(x).flatten(2)
        common = flat @ flat.mT / flat.shape[2] + torch.eye(x.shape[1])
        return (torch.linalg.inv(common) @ flat).reshape(x.shape)


BLOCKS: dict[str, Callable[[int], nn.Module]] = {
    "a table of vectors": Quantised,
    "a table of another width": Looked,
    "a table by ones and zeros": OneHot,
    "convolution of frequencies": FourierUnit,
    "filter of frequencies": ChannelFilter,
    "mixed by frequencies": Mixed,
    "a pair of vectors": Paired,
    "patches": Patches,
    "coordinates": Coordinates,
    "an inverse": Decorrelated,
    "slopes": lambda width: Apply(lambda x: x + sum(torch.gradient(x, dim=(2, 3)))),
    "sums by place": lambda width: Apply(
        lambda x: x.index_add(0, torch.arange(x.shape[0]), x.sigmoid())
    ),
    "noise": lambda width: Apply(lambda x: x + 0.1 * torch.normal(0.0, 1.0, x.shape)),
}


@pytest.mark.parametrize("arrangement", ["td", "uniform"])
@pytest.mark.parametrize("name", BLOCKS)
def test_converts_and_trains(name: str, arrangement: str) -> None:
    torch.manual_seed(0)
    td = convert(blocks(BLOCKS[name]), arrangement=arrangement)
    assert [level.width for level in td.plan.levels] == WIDTHS[arrangement]
    assert td.plan.opaque == ()
    check_network(td, torch.rand(2, *SIZE), classes=7)
    tables = [p for name, p in td.named_parameters() if "table" in name]
    assert {len(table) for table in tables} <= {12}


@pytest.mark.parametrize("name", sorted(set(BLOCKS) - {"patches"}))
def test_other_sizes(name: str) -> None:
    td = convert(blocks(BLOCKS[name]))
    assert td(torch.rand(3, 3, 44, 37)).shape == (3, 7)


# values that stand at places by their number, or come in numbers that the rules don't follow
OPAQUE = {
    "sums by channel": lambda x: x.index_add(1, torch.arange(4), x[:, :4].sigmoid()),
    "windows of channels": lambda x: x * x.unfold(1, 4, 4).mean((1, 4))[:, None],
    "windows of positions in a row": lambda x: x * x.flatten(2).unfold(2, 4, 1).mean((2, 3))[
        :, :, None, None
    ],
    "half of the channels' frequencies": lambda x: torch.fft.irfft(torch.fft.rfft(x, dim=1), dim=1),
    "another diagonal": lambda x: x * x.diagonal(1, 2, 3).mean(-1)[..., None, None],
    "slopes at places": lambda x: x + torch.gradient(x, spacing=(torch.arange(x.shape[3]),), dim=3)[0],
    "along one axis": lambda x: x * torch.tensordot(x, torch.ones(x.shape[3], 5), 1).mean(3, True),
}  # fmt: skip


@pytest.mark.parametrize("name", OPAQUE)
def test_what_no_rule_follows_keeps_its_width(name: str) -> None:
    model = blocks(lambda width: Apply(OPAQUE[name]))
    assert plan_topdown(model, input_size=SIZE).opaque
    check_network(convert(model), torch.rand(2, *SIZE), classes=7)
    with pytest.raises(UnknownOperatorError):
        plan_topdown(model, input_size=SIZE, arrangement="uniform")
