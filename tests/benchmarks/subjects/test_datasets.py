"""Data sets, and changes to training images."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Generator, Tensor

from benchmarks.errors import BenchmarkError
from benchmarks.subjects import augment, datasets, image_folders
from benchmarks.subjects.augment import Augmentation
from benchmarks.subjects.datasets import balanced_order, load


def _tree(
    root: Path, *, splits: tuple[str, ...], sizes: tuple[tuple[int, int], ...], mode: str = "RGB"
) -> Path:
    """Two classes, one image of each size in each; every image has one colour."""
    for split in splits:
        for number, name in enumerate(("cat", "dog")):
            folder = root / split / name
            folder.mkdir(parents=True)
            for index, size in enumerate(sizes):
                pixel = 40 * number + 3 * index
                colour = pixel if mode == "L" else (pixel, 255 - pixel, 7)
                Image.new(mode, size, colour).save(folder / f"{index}.png")
    return root


# Sets


@pytest.mark.parametrize(
    ("spec", "channels", "counts"),
    [
        ("digits", 1, (1438, 359)),
        ("mnist", 1, (60000, 10000)),
        ("fashion-mnist", 1, (60000, 10000)),
    ],
)
def test_named_sets_have_their_images(
    spec: str, channels: int, counts: tuple[int, int], request: pytest.FixtureRequest
) -> None:
    # digits come with scikit-learn
    images = load(spec, root=None if spec == "digits" else request.getfixturevalue("real_data"))
    assert images.size == (channels, 28, 28)
    assert (len(images.train_labels), len(images.test_labels)) == counts
    assert len(images.train_images) == counts[0]
    assert images.train_images.dtype == torch.uint8
    assert images.train_labels.dtype == torch.int64
    assert len(images.classes) == 10
    assert sorted(images.test_labels.unique().tolist()) == list(range(10))
    assert images.train_images.max() == 255


def test_limits_take_the_classes_in_turn(real_data: Path) -> None:
    first = load("mnist", root=real_data, limits=(100, 30))
    again = load("mnist", root=real_data, limits=(200, None))
    assert first.train_labels.bincount().tolist() == [10] * 10
    assert first.test_labels.bincount().tolist() == [3] * 10
    assert torch.equal(again.train_images[:100], first.train_images)
    assert len(again.test_labels) == 10000
    # a profile's limits hold for any data: a smaller set is taken whole
    assert len(load("digits", limits=(9999, None)).train_labels) == 1438


def test_balanced_order_has_every_image_once() -> None:
    labels = torch.tensor([0, 0, 0, 0, 1, 2, 2])
    order = balanced_order(labels, seed=1)
    assert sorted(order.tolist()) == list(range(7))
    assert sorted(labels[order[:3]].tolist()) == [0, 1, 2]
    assert labels[order[-2:]].tolist() == [0, 0]


def test_cifar10_is_read_from_folders_of_images(tmp_path: Path) -> None:
    _tree(tmp_path / "cifar10", splits=("train", "test"), sizes=((32, 32),) * 3)
    images = load("cifar10", root=tmp_path)
    assert images.size == (3, 32, 32)
    assert images.classes == ("cat", "dog")
    assert images.train_labels.tolist() == [0, 0, 0, 1, 1, 1]
    assert images.train_images[4, :, 0, 0].tolist() == [43, 212, 7]


@pytest.mark.parametrize(
    ("name", "side", "crop"), [("imagenette", 156, 128), ("imagenette-32", 39, 32)]
)
def test_imagenette_is_cropped_only_for_testing(
    tmp_path: Path, name: str, side: int, crop: int
) -> None:
    _tree(tmp_path / "imagenette2-160", splits=("train", "val"), sizes=((200, 160), (160, 213)))
    images = load(name, root=tmp_path)
    assert images.size == (3, crop, crop)
    assert images.train_images.shape == (4, 3, side, side)


def test_imagenettes_classes_have_names(tmp_path: Path) -> None:
    for split in ("train", "val"):
        folder = tmp_path / "imagenette2-160" / split / "n03028079"
        folder.mkdir(parents=True)
        Image.new("RGB", (160, 160)).save(folder / "one.JPEG")
    assert load("imagenette-32", root=tmp_path).classes == ("church",)


@pytest.mark.parametrize(
    ("sizes", "mode", "suffix", "shape"),
    [
        (((20, 20), (20, 20)), "RGB", "", (3, 20, 20)),
        (((20, 20), (20, 20)), "L", "", (1, 20, 20)),
        (((20, 30), (40, 24)), "RGB", "", (3, 20, 20)),
        (((300, 200), (400, 300)), "RGB", "", (3, 160, 160)),
        (((20, 30), (40, 24)), "RGB", "@12", (3, 12, 12)),
    ],
)
def test_folders_become_squares(
    sizes: tuple[tuple[int, int], ...], mode: str, suffix: str,
    shape: tuple[int, int, int], tmp_path: Path,
) -> None:  # fmt: skip
    _tree(tmp_path, splits=("train", "val"), sizes=sizes, mode=mode)
    images = load(f"imagefolder:{tmp_path}{suffix}")
    assert images.size == shape
    assert images.train_images[-1, 0].unique().tolist() == [43]


def test_a_fifth_is_kept_for_testing_where_folders_have_no_parts(tmp_path: Path) -> None:
    _tree(tmp_path, splits=("",), sizes=((8, 8),) * 10)
    images = load(f"imagefolder:{tmp_path}")
    assert images.test_labels.tolist() == [0, 0, 1, 1]
    assert len(images.train_labels) == 16
    tests = set(images.test_images[:, 0, 0, 0].tolist())
    assert tests.isdisjoint(images.train_images[:, 0, 0, 0].tolist())


def test_folders_are_decoded_once_and_again_when_a_file_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _tree(tmp_path, splits=("train", "test"), sizes=((8, 8),))
    decoded = []

    def counted(samples: list[image_folders.Sample], side: int) -> Tensor:
        decoded.append(len(samples))
        return image_folders.decode(samples, side)

    monkeypatch.setattr(datasets, "decode", counted)
    first, second = (load(f"imagefolder:{tmp_path}") for _ in range(2))
    assert decoded == [4]
    assert torch.equal(first.train_images, second.train_images)
    assert first.classes == second.classes
    Image.new("RGB", (8, 8), (99, 99, 99)).save(tmp_path / "train" / "cat" / "0.png")
    assert load(f"imagefolder:{tmp_path}").train_images[0].unique().tolist() == [99]
    assert decoded == [4, 4]


def test_where_no_cache_can_be_written_a_warning_says_so(tmp_path: Path) -> None:
    _tree(tmp_path, splits=("train", "test"), sizes=((8, 8),))
    (tmp_path / ".td_transform").write_text("a file stands where the folder should be")
    with pytest.warns(UserWarning, match="decoded, but not cached"):
        images = load(f"imagefolder:{tmp_path}")
    assert len(images.train_labels) == 2


def _two_class_folders_that_differ(root: Path) -> str:
    _tree(root, splits=("train", "test"), sizes=((8, 8),))
    (root / "test" / "dog").rename(root / "test" / "wolf")
    return f"imagefolder:{root}"


@pytest.mark.parametrize(
    ("spec", "limits", "text"),
    [
        ("imagenet", (None, None), r"no such data set; expected digits, mnist.*imagefolder:/path"),
        ("digits", (-1, None), r"training: a limit of -1 images; expected 1 or more"),
        ("digits", (None, 0), r"test: a limit of 0 images; expected 1 or more"),
        ("imagefolder:{empty}", (None, None), r"no folder of images in .*Remedy: name the folder"),
        ("imagefolder:{other}", (None, None), r"other classes in test than in train"),
    ],
)
def test_errors_name_the_remedy(
    spec: str, limits: tuple[int | None, int | None], text: str, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    _two_class_folders_that_differ(other)
    (tmp_path / "empty").mkdir()
    with pytest.raises(BenchmarkError, match=text):
        load(spec.format(empty=tmp_path / "empty", other=other), limits=limits)


def test_missing_files_without_internet(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from urllib.error import URLError

    def offline(*args: object, **kwargs: object) -> None:
        raise URLError("no route to host")

    monkeypatch.setattr("urllib.request.urlopen", offline)
    with pytest.raises(BenchmarkError, match=r"MNIST in .*not there.*Remedy: .*--data-root"):
        load("mnist", root=tmp_path)


def test_the_default_root_is_an_environment_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TD_TRANSFORM_DATA", "/somewhere")
    assert datasets.default_root() == Path("/somewhere")
    monkeypatch.delenv("TD_TRANSFORM_DATA")
    assert datasets.default_root() == Path.home() / ".cache" / "td_transform"


# Changes to training images


def _ramp(count: int = 64, side: int = 20) -> Tensor:
    """Images whose value is the column, 0 at the left and 1 at the right."""
    return torch.linspace(0, 1, side).expand(count, 3, side, side).clone()


def test_half_of_the_images_are_flipped() -> None:
    images = _ramp(1000)
    flipped = augment.random_flip(images, Generator().manual_seed(0))
    turned = (flipped[:, 0, 0, 0] == 1).float().mean()
    assert 0.4 < turned < 0.6
    assert torch.equal(flipped.sum((1, 2, 3)), images.sum((1, 2, 3)))


def test_shifts_are_up_to_a_tenth_and_repeat_the_border() -> None:
    images = _ramp(500, side=20)
    shifted = augment.random_shift(images, 0.1, Generator().manual_seed(0))
    # in the middle the value says how far it came: a step is 1/19
    steps = (shifted[:, 0, 10, 10] - images[:, 0, 10, 10]) * 19
    assert steps.abs().max() <= 2.001
    assert steps.min() < -1.8
    assert steps.max() > 1.8
    assert shifted.min() >= 0
    assert shifted.max() <= 1
    # moved to the right, the left border repeats
    assert torch.allclose(shifted[steps < -1.5][:, :, :, 0], torch.zeros(1), atol=1e-6)


def test_crops_are_inside_and_differ() -> None:
    images = torch.arange(36 * 36.0).reshape(1, 1, 36, 36).repeat(100, 1, 1, 1)
    crops = augment.random_crop(images, 32, Generator().manual_seed(0))
    assert crops.shape == (100, 1, 32, 32)
    corners = crops[:, 0, 0, 0].long()
    assert set((corners // 36).tolist()) == set((corners % 36).tolist()) == set(range(5))
    assert torch.equal(crops[0, 0, 1, 3] - crops[0, 0, 0, 0], torch.tensor(39.0))
    assert torch.equal(augment.centre_crop(images, 32)[0, 0, 0, 0], torch.tensor(2.0 * 36 + 2))


def test_colours_move_along_their_components() -> None:
    generator = Generator().manual_seed(0)
    grey = torch.rand(400, 1, 4, 4, generator=generator).expand(-1, 3, -1, -1)
    components = augment.colour_components(grey.contiguous())
    lengths = components.norm(dim=0)
    assert lengths.argmax() == 2
    assert lengths[2].item() == pytest.approx(3 / 12, rel=0.05)
    jittered = augment.jitter_colours(grey, components, 0.1, generator)
    change = (jittered - grey)[:, :, 0, 0]
    assert change.std().item() == pytest.approx(0.1 * 0.25 / math.sqrt(3), rel=0.2)
    assert torch.allclose(change[:, 0], change[:, 2], atol=1e-5)


def test_augmentation_is_the_same_for_the_same_generator() -> None:
    images = torch.rand(16, 3, 36, 36, generator=Generator().manual_seed(1))
    change = Augmentation(shift=0.1, flip=True, random_crop=True, colour_jitter=0.1)
    components = augment.colour_components(images)
    first, second, other = (
        augment.augment(
            images, change, side=32, components=components, generator=Generator().manual_seed(seed)
        )
        for seed in (3, 3, 4)
    )
    assert torch.equal(first, second)
    assert not torch.equal(first, other)
    nothing = augment.augment(images, Augmentation(), side=36, generator=Generator())
    assert torch.equal(nothing, images)
