"""Image sets by name: the whole set as one uint8 tensor, decoded once and cached next to the data."""

from __future__ import annotations

import hashlib
import json
import os
import re
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.error import URLError

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.errors import BenchmarkError
from benchmarks.files import save_file
from benchmarks.subjects.image_folders import Splits, decode, folder_side, splits_of
from td_transform.torchvision_cpu import import_torchvision

# goes into every cache's key: raise it when decoding changes
_CACHE_VERSION = 1
_SHUFFLE_SEED = 20200614
_DIGITS_SIDE = 28
# the authors cut 128 pixels out of images of 156
_IMAGENETTE_SIDE = 156
_IMAGENETTE_CROP = 128
_IMAGENETTE_CLASSES = {
    "n01440764": "tench",
    "n02102040": "English springer",
    "n02979186": "cassette player",
    "n03000684": "chain saw",
    "n03028079": "church",
    "n03394916": "French horn",
    "n03417042": "garbage truck",
    "n03425413": "gas pump",
    "n03445777": "golf ball",
    "n03888257": "parachute",
}


@dataclass(frozen=True, eq=False)
class ImageSet:
    """A data set in memory; images are uint8 (N, C, H, W), labels int64 (N,).

    Args:
        name: what it was loaded by.
        classes: the names of labels 0, 1, ...
        train_images, train_labels: what networks learn from (a part of it validates). These images
            may be larger than `size`, to be cropped.
        test_images, test_labels: what they are tested on.
    """

    name: str
    classes: tuple[str, ...]
    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor

    @property
    def size(self) -> tuple[int, int, int]:
        """(C, H, W) of what a network reads: the size of the test images."""
        channels, height, width = self.test_images.shape[1:]
        return channels, height, width

    def to(self, device: torch.device | str) -> ImageSet:
        """The same images on a device."""
        tensors = (self.train_images, self.train_labels, self.test_images, self.test_labels)
        return ImageSet(self.name, self.classes, *(tensor.to(device) for tensor in tensors))


def load(
    spec: str,
    *,
    root: Path | None = None,
    limits: tuple[int | None, int | None] = (None, None),
) -> ImageSet:
    """Load a data set; what is not in `root` yet is downloaded.

    Args:
        spec: `digits` (scikit-learn's, enlarged to 28 x 28; needs no files), `mnist`,
            `fashion-mnist`, `cifar10` (torchvision's files, or the folders cifar10/train and
            cifar10/test with a folder of images per class), `imagenette` (160 px; 128 are
            cut out of 156), `imagenette-64` and `imagenette-32` (the same at a half and a quarter of
            the size), or `imagefolder:/path` with the folders train and test (or val), or only a
            folder per class, of which a fifth is kept for testing. `imagefolder:/path@64` makes
            images of 64 pixels.
        root: where data sets lie; `default_root()` where None.
        limits: how many training and test images at most; of each, the first ones in a fixed shuffle that
            takes all classes in turn.

    Raises:
        BenchmarkError: there is no such data set, its files are missing and can't be downloaded, or
            a limit is below 1.

    Example:
        >>> digits = load("digits", limits=(100, 50))
        >>> digits.size, digits.train_images.dtype, len(digits.test_labels)
        ((1, 28, 28), torch.uint8, 50)
    """
    name, _, path = spec.partition(":")
    if name == "imagefolder" and path:
        images = _image_folder(spec, path)
    elif spec in _SOURCES:
        images = _SOURCES[spec].load(root or default_root())
    else:
        raise BenchmarkError(
            f"data '{spec}'", seen="no such data set",
            expected=f"{', '.join(_SOURCES)} or imagefolder:/path", remedy="name one of these",
        )  # fmt: skip
    train = _first(images.train_images, images.train_labels, limits[0], f"data '{spec}', training")
    test = _first(images.test_images, images.test_labels, limits[1], f"data '{spec}', test")
    return ImageSet(spec, images.classes, *train, *test)


def data_title(data: str, augmented: bool = False) -> str:
    """As the paper writes it; the last part of a path."""
    title = _SOURCES[data].title if data in _SOURCES else data
    title = Path(data).name if ":" in data else title
    return f"{title}_aug" if augmented else title


def as_floats(images: Tensor) -> Tensor:
    """uint8 images as float32 in [0, 1].

    Example:
        >>> as_floats(torch.tensor([0, 255], dtype=torch.uint8))
        tensor([0., 1.])
    """
    return images.float() / 255


def default_root() -> Path:
    """The folder of the data sets: $TD_TRANSFORM_DATA, or ~/.cache/td_transform."""
    return Path(os.environ.get("TD_TRANSFORM_DATA") or Path.home() / ".cache" / "td_transform")


def balanced_order(labels: Tensor, *, seed: int) -> Tensor:
    """Indices (N,) of a shuffle in which every class comes once before any comes again."""
    shuffled = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    # the how-manieth of its class each one is
    own = F.one_hot(labels.cpu()[shuffled]).cumsum(0)
    turn = own.gather(1, labels.cpu()[shuffled][:, None]).flatten()
    return shuffled[turn.argsort(stable=True)]


def _first(images: Tensor, labels: Tensor, limit: int | None, what: str) -> tuple[Tensor, Tensor]:
    if limit is None:
        return images, labels
    if limit < 1:
        raise BenchmarkError(
            what, seen=f"a limit of {limit} images", expected="1 or more",
            remedy="choose another limit, or none",
        )  # fmt: skip
    chosen = balanced_order(labels, seed=_SHUFFLE_SEED)[:limit]
    return images[chosen], labels[chosen]


# The sets


def _digits(root: Path) -> ImageSet:
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = torch.tensor(bunch.images, dtype=torch.float32)[:, None] / 16
    images = F.interpolate(images, size=(_DIGITS_SIDE, _DIGITS_SIDE), mode="bilinear")
    pixels = (images * 255).round().to(torch.uint8)
    labels = torch.tensor(bunch.target, dtype=torch.int64)
    return _split(pixels, labels, tuple(map(str, range(10))))


def _split(images: Tensor, labels: Tensor, classes: tuple[str, ...]) -> ImageSet:
    """A fifth of every class is for testing."""
    order = balanced_order(labels, seed=_SHUFFLE_SEED)
    fifth = len(order) // 5
    test, train = order[:fifth].sort().values, order[fifth:].sort().values
    return ImageSet("", classes, images[train], labels[train], images[test], labels[test])


def _torchvision_set(root: Path, *, name: str) -> ImageSet:
    make = getattr(import_torchvision().datasets, name)
    parts = [_downloaded(name, root, partial(make, root, train=train)) for train in (True, False)]
    tensors: list[Tensor] = []
    for part in parts:
        images = torch.as_tensor(part.data)
        images = images[:, None] if images.dim() == 3 else images.permute(0, 3, 1, 2)
        tensors += [images.contiguous(), torch.as_tensor(part.targets, dtype=torch.int64)]
    return ImageSet("", tuple(map(str, parts[0].classes)), *tensors)


def _cifar10(root: Path) -> ImageSet:
    tree = root / "cifar10"
    if (tree / "train").is_dir():
        return _cached("data 'cifar10'", tree, side=None)
    return _torchvision_set(root, name="CIFAR10")


def _imagenette(root: Path, *, shrunk: int = 1) -> ImageSet:
    """With sides a whole part, one in `shrunk`, of the authors'."""
    side, crop = _IMAGENETTE_SIDE // shrunk, _IMAGENETTE_CROP // shrunk
    tree = root / "imagenette2-160"
    if not tree.is_dir():
        make = import_torchvision().datasets.Imagenette
        _downloaded("Imagenette", root, partial(make, root, size="160px"))
    images = _cached("data 'imagenette'", tree, side=side)
    margin = (side - crop) // 2
    centre = slice(margin, margin + crop)
    test = images.test_images[..., centre, centre].contiguous()
    labels = images.train_labels, images.test_labels
    classes = tuple(_IMAGENETTE_CLASSES.get(name, name) for name in images.classes)
    return ImageSet("", classes, images.train_images, labels[0], test, labels[1])


def _downloaded(name: str, root: Path, make: Callable[..., Any]) -> Any:
    """torchvision's data set; it downloads only what is not there."""
    try:
        return make(download=True)
    except (URLError, RuntimeError, OSError) as error:
        reason = " ".join(str(error).split())
        raise BenchmarkError(
            f"data set {name} in {root}", seen=f"its files are not there, and {reason}",
            expected="the files as torchvision lays them out, or internet access",
            remedy="name the folder that holds them (--data-root, or TD_TRANSFORM_DATA)",
        ) from error  # fmt: skip


def _image_folder(spec: str, path: str) -> ImageSet:
    sized = re.fullmatch(r"(.+)@(\d+)", path)
    folder, side = (sized[1], int(sized[2])) if sized else (path, None)
    return _cached(f"data '{spec}'", Path(folder).expanduser(), side=side)


def _cached(what: str, tree: Path, *, side: int | None) -> ImageSet:
    """The images of folders, decoded once: `tree/.td_transform/<key>.pt` holds them afterwards.

    The key is a hash of every file's name, size and time of change, and of how it was decoded.
    """
    splits = splits_of(what, tree)
    key = hashlib.sha256(json.dumps([_CACHE_VERSION, side, splits.fingerprint()]).encode())
    cache = tree / ".td_transform" / f"{key.hexdigest()[:16]}.pt"
    if cache.exists():
        return _from_cache(cache, splits.classes)
    images = _decoded(what, splits, side)
    tensors = [images.train_images, images.train_labels, images.test_images, images.test_labels]
    try:
        cache.parent.mkdir(exist_ok=True)
        save_file(cache, tensors)
    except OSError as error:
        warnings.warn(f"{what}: decoded, but not cached: {error}", stacklevel=2)
    return images


def _from_cache(cache: Path, classes: tuple[str, ...]) -> ImageSet:
    return ImageSet("", classes, *torch.load(cache, weights_only=True))


def _decoded(what: str, splits: Splits, side: int | None) -> ImageSet:
    samples = [*splits.train, *splits.test]
    images = decode(samples, side or folder_side(what, splits))
    labels = torch.tensor([label for _, label in samples])
    if not splits.test:
        return _split(images, labels, splits.classes)
    n = len(splits.train)
    return ImageSet("", splits.classes, images[:n], labels[:n], images[n:], labels[n:])


@dataclass(frozen=True)
class _Source:
    """A data set with a name.

    Args:
        title: as the paper writes it.
        load: from the folder of all data sets.
        on_black: grey objects on a black background.
    """

    title: str
    load: Callable[[Path], ImageSet]
    on_black: bool = False


_SOURCES: dict[str, _Source] = {
    "digits": _Source("digits", _digits, on_black=True),
    "mnist": _Source("MNIST", partial(_torchvision_set, name="MNIST"), on_black=True),
    "fashion-mnist": _Source(
        "Fashion-MNIST", partial(_torchvision_set, name="FashionMNIST"), on_black=True
    ),
    "cifar10": _Source("CIFAR10", _cifar10),
    "imagenette": _Source("Imagenette", _imagenette),
    "imagenette-64": _Source("Imagenette, 64 pixels", partial(_imagenette, shrunk=2)),
    "imagenette-32": _Source("Imagenette, 32 pixels", partial(_imagenette, shrunk=4)),
}
ON_BLACK = tuple(name for name, source in _SOURCES.items() if source.on_black)
IMAGENETTE = tuple(name for name in _SOURCES if name.startswith("imagenette"))
