"""Halos, tiles and the inverse query, against running the network on parts of the image."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from td_transform import ReceptiveFields, TopDownError, receptive_field, tiled
from tests.fields.networks import random_network
from tests.networks import TOPOLOGIES
from tests.torchvision_networks import build

NET = nn.Sequential(
    nn.Conv2d(3, 4, 5, padding=2), nn.MaxPool2d(2), nn.Conv2d(4, 4, 3, padding=1), nn.MaxPool2d(2)
)


def outputs(net: nn.Module, fields: ReceptiveFields, images: Tensor, key: str) -> Tensor:
    """The map of a module of NET, or of the whole network."""
    with torch.no_grad():
        return net(images) if not key else net[: int(key) + 1](images)  # type: ignore[index]


@pytest.mark.parametrize(
    ("key", "halo"), [("0", (2, 2)), ("1", (2, 2)), ("2", (4, 4)), ("3", (4, 4))]
)
def test_halo_counted_by_hand(key: str, halo: tuple[int, int]) -> None:
    """A 5x5 window reaches two pixels, a 3x3 one at stride 2 one position of two pixels more."""
    assert receptive_field(NET, (3, 32, 32)).halo(key) == (halo, halo)


def test_halo_of_resnet18() -> None:
    """435 pixels at stride 32 (the trunk's last field), of which the position's own are 32."""
    halos = receptive_field(build("resnet18"), (3, 224, 224)).halo("layer4")
    assert [before + after + 32 for before, after in halos] == [435, 435]


@pytest.mark.parametrize("key", ["0", "1", "2", "3"])
def test_the_tile_gives_those_positions(key: str) -> None:
    torch.manual_seed(0)
    net, images = NET.double(), torch.rand(1, 3, 40, 36, dtype=torch.float64)
    fields = receptive_field(net, (3, 40, 36))
    whole = outputs(net, fields, images, key)
    height, width = whole.shape[2:]
    for box in ((0, 0, 1, 1), (3, 2, 5, 9), (height - 2, 0, height, width), (0, 0, height, width)):
        tile = fields.tile(key, box)
        (top, left, bottom, right), (a, b, c, d) = tile.pixels, tile.positions
        part = outputs(net, fields, images[..., top:bottom, left:right], key)[..., a:c, b:d]
        torch.testing.assert_close(part, whole[..., box[0] : box[2], box[1] : box[3]])


@pytest.mark.parametrize("name", ["dense", "anti-aliased", "residual"])
def test_reaches_is_the_inverse_of_box(name: str) -> None:
    fields = receptive_field(TOPOLOGIES[name](), (3, 32, 32))
    key = [n for n, row in fields.items() if row.output_size == (8, 8)][-1]
    for pixel in ((0, 0), (5, 17), (31, 31)):
        seeing = [
            (row, column)
            for row in range(8)
            for column in range(8)
            for top, left, bottom, right in [fields.box(key, (row, column))]
            if top <= pixel[0] < bottom and left <= pixel[1] < right
        ]
        rows, columns = zip(*seeing, strict=True)
        expected = (min(rows), min(columns), max(rows) + 1, max(columns) + 1)
        assert fields.reaches(pixel, key) == expected


def test_a_pixel_that_nobody_reads() -> None:
    fields = receptive_field(nn.Conv2d(3, 4, 1, stride=2), (3, 8, 8))
    assert fields.reaches((1, 1), "") == (0, 0, 0, 0)
    assert fields.reaches((2, 4), "") == (1, 2, 2, 3)


@pytest.mark.parametrize(
    ("part", "count"),
    [(0, 12), *(pytest.param(part, 150, marks=pytest.mark.exhaustive) for part in range(1, 4))],
)
def test_random_networks_on_tiles(part: int, count: int) -> None:
    """Whatever is not refused by name gives what the whole image gives."""
    compared, refusals = 0, list[str]()
    for seed in range(1000 * part, 1000 * part + count):
        net, size = random_network(seed)
        net = net.eval().double()
        images = torch.rand(2, *size, dtype=torch.float64)
        with torch.no_grad():
            expected = net(images)
        try:
            found = tiled(net, tile=max(5, min(size[1:]) // 2 + seed % 3))(images)
        except TopDownError as error:
            refusals.append(error.remedy)
            continue
        torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)
        compared += 1
    assert compared > count // 6
    assert set(refusals) <= {"run the network on the whole image"}


def test_pixels_are_the_inputs_where_the_forward_resizes_it() -> None:
    """The pyramid is of the larger image there; fields and tiles are of what the model gets."""
    net = nn.Sequential(nn.Upsample(scale_factor=2.0), nn.Conv2d(3, 4, 3, padding=1)).eval()
    assert receptive_field(net, (3, 16, 16))["1"].size_max == (2, 2)
    images = torch.rand(1, 3, 32, 32)
    torch.testing.assert_close(tiled(net, tile=16)(images), net(images))


@pytest.mark.parametrize(
    ("ask", "text"),
    [
        (lambda f: f.tile("0", (0, 0, 33, 2)), r"box .* of '0'.*ends are exclusive"),
        (lambda f: f.tile("0", (3, 3, 3, 4)), r"box .* of '0'"),
        (lambda f: f.tile("0", (0, 1)), r"box .* of '0'"),
        (lambda f: f.reaches((32, 0), "0"), r"pixel \(32, 0\).*count from \(0, 0\)"),
        (lambda f: f.halo("7"), "name '7'"),
    ],
)
def test_what_does_not_exist(ask: object, text: str) -> None:
    fields = receptive_field(NET, (3, 32, 32))
    with pytest.raises(TopDownError, match=text):
        ask(fields)  # type: ignore[operator]


def test_windows_over_maps_that_see_everything_add_nothing() -> None:
    net = nn.Sequential(
        nn.Conv2d(1, 2, 7, padding=3), nn.Conv2d(2, 2, 7, padding=3), nn.Conv2d(2, 2, 3, padding=1)
    )
    fields = receptive_field(net, (1, 4, 4))
    assert [fields[key].covers_image for key in "012"] == [True, True, True]
    assert [fields[key].adds_nothing for key in "012"] == [False, True, True]
    assert "nothing new" in str(fields)
