"""Trees of image files, one folder per class, decoded to one tensor."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from benchmarks.errors import BenchmarkError

_SUFFIXES = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".ppm", ".pgm", ".tif", ".tiff", ".webp"}
_TEST_NAMES = ("test", "val", "valid", "validation")
# beyond this, images of different sizes are made this large
_LARGEST_SIDE = 160

Sample = tuple[Path, int]


@dataclass(frozen=True)
class Splits:
    """The files of a tree.

    Args:
        tree: the folder that holds them all.
        classes: the names of the folders, sorted.
        train, test: files and their labels; no test files where the tree has no such folder.
    """

    tree: Path
    classes: tuple[str, ...]
    train: tuple[Sample, ...]
    test: tuple[Sample, ...]

    def fingerprint(self) -> list[tuple[str, int, int, int]]:
        """Name, label, bytes and time of change of every file."""
        return [
            (str(path.relative_to(self.tree)), label, status.st_size, status.st_mtime_ns)
            for path, label in (*self.train, *self.test)
            for status in [path.stat()]
        ]


def splits_of(what: str, tree: Path) -> Splits:
    """List the files of tree/train/CLASS and tree/test/CLASS, or of tree/CLASS.

    Args:
        what: the argument that named the tree, for errors.
        tree: its folder.

    Raises:
        BenchmarkError: there are no such folders, or their classes differ.
    """
    train_folder = tree / "train" if (tree / "train").is_dir() else tree
    test_folder = next((tree / name for name in _TEST_NAMES if (tree / name).is_dir()), None)
    if train_folder is tree:
        test_folder = None
    classes = _classes(train_folder)
    train = _samples(train_folder, classes)
    if not train:
        raise BenchmarkError(
            what, seen=f"no folder of images in {train_folder}",
            expected="train/CLASS/IMAGE and test/CLASS/IMAGE, or CLASS/IMAGE",
            remedy="name the folder that holds these",
        )  # fmt: skip
    if test_folder is not None and _classes(test_folder) != classes:
        raise BenchmarkError(
            what, seen=f"other classes in {test_folder.name} than in train",
            expected="the same folders in both", remedy="compare the names of the folders",
        )  # fmt: skip
    test = _samples(test_folder, classes) if test_folder is not None else ()
    return Splits(tree, classes, train, test)


def folder_side(what: str, splits: Splits) -> int:
    """The side that images are decoded to where the user names none.

    It is their own where all are squares of one size, else the shortest side among them, but no more
    than 160 pixels.
    """
    sizes = set()
    for path, _ in (*splits.train, *splits.test):
        with Image.open(path) as image:
            sizes.add(image.size)
    if len(sizes) == 1 and len(set(next(iter(sizes)))) == 1:
        return next(iter(sizes))[0]
    return min(min(min(size) for size in sizes), _LARGEST_SIDE)


def decode(samples: Sequence[Sample], side: int) -> Tensor:
    """Images (N, C, side, side) as uint8: the square in the middle, its side scaled to `side`.

    C is 1 where every image is grey, else 3.
    """
    with ThreadPoolExecutor() as pool:
        bar = tqdm(total=len(samples), desc="decoding", unit="image", disable=None, leave=False)
        images = []
        for image in pool.map(lambda sample: _square(sample[0], side), samples):
            images.append(image)
            bar.update()
        bar.close()
    if any(image.ndim == 3 for image in images):
        images = [i if i.ndim == 3 else np.repeat(i[:, :, None], 3, axis=2) for i in images]
        return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).contiguous()
    return torch.from_numpy(np.stack(images))[:, None]


def _square(path: Path, side: int) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    with Image.open(path) as opened:
        image = opened.convert("L" if opened.mode in ("1", "L", "I", "I;16", "F") else "RGB")
    shorter = min(image.size)
    left, top = (image.width - shorter) // 2, (image.height - shorter) // 2
    box = (left, top, left + shorter, top + shorter)
    if image.size != (side, side):
        image = image.resize((side, side), Image.Resampling.BILINEAR, box=box)
    return np.asarray(image)


def _classes(folder: Path) -> tuple[str, ...]:
    return tuple(
        sorted(p.name for p in folder.glob("*") if p.is_dir() and not p.name.startswith("."))
    )


def _samples(folder: Path, classes: Sequence[str]) -> tuple[Sample, ...]:
    return tuple(
        (path, label)
        for label, name in enumerate(classes)
        for path in sorted((folder / name).rglob("*"))
        if path.suffix.lower() in _SUFFIXES
    )
