"""Tiles give what the whole image gives, on every topology, bottom-up and top-down."""

from __future__ import annotations

import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from td_transform import TopDownError, tiled, to_topdown
from tests.networks import TOPOLOGIES, cna, residual

# what keeps a topology from tiles, as the error calls it
REFUSED = {
    "squeeze-excite": "mean, which takes a map's positions apart, or pools them",
    "patchify": "GroupNorm, which reads the whole map",
    "channel shuffle": ", which computes with the size of a map",
    "functional": "",
    "excursion": "interpolate, whose windows depend on the size of the whole map",
}
TAKEN = [name for name in TOPOLOGIES if name not in REFUSED]


def network(name: str, *, topdown: bool) -> nn.Module:
    """In double precision, with statistics that a trained network could have."""
    torch.manual_seed(0)
    net = TOPOLOGIES[name]()
    if topdown:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            net = to_topdown(net, input_size=(3, 32, 32))
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.5, 2)
    return net.eval().double()


def assert_same(net: nn.Module, images: Tensor, **options: int) -> None:
    with torch.no_grad():
        expected = net(images)
    found = tiled(net, **options)(images)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("topdown", [False, True])
@pytest.mark.parametrize("name", TAKEN)
def test_logits_are_those_of_the_whole_image(name: str, topdown: bool) -> None:
    net = network(name, topdown=topdown)
    assert_same(net, torch.rand(2, 3, 36, 44, dtype=torch.float64), tile=11)


@pytest.mark.parametrize("options", [{"tile": 7}, {"tile": 64}, {"tile": 7, "budget": 1}, {}])
def test_odd_images_tiles_and_budgets(options: dict[str, int]) -> None:
    """Tiles that divide nothing, one tile only, no map kept between levels."""
    net = network("residual", topdown=True)
    assert_same(net, torch.rand(1, 3, 37, 29, dtype=torch.float64), **options)


@pytest.mark.parametrize("topdown", [False, True])
@pytest.mark.parametrize("name", REFUSED)
def test_what_reads_the_whole_map_is_named(name: str, topdown: bool) -> None:
    net = network(name, topdown=topdown)
    with pytest.raises(TopDownError, match="whole image") as error:
        tiled(net, tile=11)(torch.rand(1, 3, 32, 32, dtype=torch.float64))
    assert REFUSED[name] in str(error.value)


class Written(nn.Module):
    """Writes into the map that a level ends with."""

    def __init__(self) -> None:
        super().__init__()
        self.fine, self.coarse = cna(3, 8), cna(8, 8, 3, 2)

    def forward(self, x: Tensor) -> Tensor:
        x = F.hardswish(F.max_pool2d(self.fine(x), 2), inplace=True)
        return self.coarse(x).add_(1).amax((2, 3))


def test_maps_that_are_written_into_are_those_of_the_tile() -> None:
    torch.manual_seed(0)
    assert_same(Written().eval().double(), torch.rand(1, 3, 40, 40, dtype=torch.float64), tile=8)


def test_a_map_comes_out_whole() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(cna(3, 8), nn.MaxPool2d(3, 2, 1, ceil_mode=True), cna(8, 4, 5, 2))
    assert_same(net.eval().double(), torch.rand(2, 3, 41, 33, dtype=torch.float64), tile=9)


class Literal(nn.Module):
    """Has the sizes of its map written into its code."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x).view(-1, 8, 16, 16).mean((2, 3))


def test_sizes_that_are_numbers_are_refused() -> None:
    with pytest.raises(TopDownError, match=r"view, whose windows depend on the size"):
        tiled(Literal().eval(), tile=8)(torch.rand(1, 3, 16, 16))


def test_training_is_refused() -> None:
    with pytest.raises(TopDownError, match=r"eval mode.*call model.eval\(\)"):
        tiled(residual())(torch.rand(1, 3, 32, 32))


@pytest.mark.parametrize("option", ["tile", "budget"])
def test_options_are_positive(option: str) -> None:
    with pytest.raises(TopDownError, match=f"argument '{option}'.*positive integer"):
        tiled(residual(), **{option: 0})


def test_a_budget_that_no_tile_fits_says_how_much_does() -> None:
    net = network("residual", topdown=True)
    with pytest.raises(
        TopDownError, match=r"argument 'budget'.*tiles of one position.*or pass tile="
    ):
        tiled(net, budget=1000)(torch.rand(1, 3, 32, 32, dtype=torch.float64))


def test_the_budget_bounds_what_is_allocated() -> None:
    net = network("residual", topdown=True).float()
    images = torch.rand(1, 3, 256, 256)
    budget = 6_000_000
    tiles = tiled(net, budget=budget)
    tiles(images)
    assert peak(tiles, images) < 1.25 * budget + pyramid_bytes(images)
    assert peak(net, images) > 2 * peak(tiles, images)


def pyramid_bytes(images: Tensor) -> int:
    """Its levels and the matrices that they are made with, in double precision."""
    return 4 * images.shape[-1] ** 2 * 8


def peak(net: nn.Module, images: Tensor) -> int:
    """The most that torch's allocator holds at a time in a forward pass."""
    with torch.no_grad(), profile(activities=[ProfilerActivity.CPU], profile_memory=True) as run:
        net(images)
    assert run.profiler is not None
    events = sorted(run.profiler.kineto_results.events(), key=lambda event: event.start_ns())
    held = most = 0
    for event in events:
        if event.name() == "[memory]":
            held += event.nbytes()
            most = max(most, held)
    return most
