"""Draw the README's two Grad-CAM pictures, as in Fig. 7 and 8, from trained networks.

    python -m tools.gradcam_pictures --photographs RESULTS --garments RESULTS --data-root DATA

The first RESULTS holds ResNet18 bottom-up and top-down, trained on imagenette-32; the second LeNetFC
of both, trained on Fashion-MNIST. Imagenette's photographs may not be passed on, so the one that is
drawn is scikit-learn's china.jpg (by danielbuechele, CC BY 2.0). What is printed goes into the captions.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from PIL import Image
from sklearn.datasets import load_sample_image
from torch import Tensor, nn

from benchmarks.experiments.exp3_gradcam import (
    Explained,
    images_figure,
    levels_figure,
    right_in_all,
)
from benchmarks.measures.explain import Explainer
from benchmarks.measures.explain_layers import Layer
from benchmarks.runs.jobs import Row
from benchmarks.runs.workspace import Place, Workspace
from benchmarks.subjects.arrangements import PAIR
from benchmarks.subjects.datasets import ImageSet, as_floats
from tools.trained import trained

FOLDER = Path(__file__).parents[1] / "docs" / "images"
GARMENTS = 6
DPI, COLOURS = 100, 128


class Pair:
    """A bottom-up and a top-down network that learned the same."""

    def __init__(self, results: Path, data_root: Path, model: str, data: str) -> None:
        workspace = Workspace(Place(root=results, data_root=data_root, quiet=True))
        found = [
            trained(workspace, model=model, data=data, arrangement=arrangement)
            for arrangement in PAIR
        ]
        self.rows: list[Row] = [row for _, row in found]
        self.networks: list[nn.Module] = [workspace.network(job) for job, _ in found]
        self.images: ImageSet = workspace.data(found[0][0].config)

    def explained(self, images: Tensor, labels: Tensor, *, everywhere: bool) -> list[Explained]:
        """Both networks' heatmaps of images (N, C, H, W), at every level or at the last map."""
        found = []
        for name, network in zip(PAIR, self.networks, strict=True):
            explainer = Explainer(network, input_size=self.images.size)
            layers: Sequence[Layer] = explainer.layers if everywhere else (explainer.last,)
            heatmaps = explainer.heatmaps(images, labels, layers=layers)
            found.append(Explained(name.upper(), tuple(layers), heatmaps))
        return found

    def say(self) -> None:
        """How both were trained, for a caption."""
        for row in self.rows:
            print(
                f"{row['model']} {row['arrangement']}: {row['epochs']} epochs on "
                f"{row['train_images']} images, {100 * float(row['test_accuracy']):.1f} % of "  # type: ignore[arg-type]
                f"{row['test_images']} test images right"
            )


def main() -> None:
    """Write both pictures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--photographs", type=Path, required=True)
    parser.add_argument("--garments", type=Path, required=True)
    parser.add_argument("--data-root", type=Path, required=True)
    options = parser.parse_args()
    photograph(Pair(options.photographs, options.data_root, "resnet18-imagenette", "imagenette-32"))
    garments(Pair(options.garments, options.data_root, "lenet-fc", "fashion-mnist"))


def photograph(pair: Pair) -> None:
    """One photograph at every level, for the class that the bottom-up network takes it for."""
    image = square(load_sample_image("china.jpg"), pair.images.size[-1])[None]
    with torch.no_grad():
        classes = [network(image).argmax(1) for network in pair.networks]
    for arrangement, found in zip(PAIR, classes, strict=True):
        print(f"{arrangement} takes china.jpg for: {pair.images.classes[int(found)]}")
    title = f"ResNet18 on a photograph: {pair.images.classes[int(classes[0])]}"
    drawn = pair.explained(image, classes[0], everywhere=True)
    write(levels_figure(image[0], title, drawn), "gradcam_photograph.png")
    pair.say()


def garments(pair: Pair) -> None:
    """Some test images that both get right, at the last map."""
    chosen = right_in_all(pair.networks, pair.images, GARMENTS, seed=0)
    images, labels = as_floats(pair.images.test_images[chosen]), pair.images.test_labels[chosen]
    names = [pair.images.classes[label] for label in labels.tolist()]
    drawn = pair.explained(images, labels, everywhere=False)
    write(images_figure(images, names, "LeNetFC, Fashion-MNIST", drawn), "gradcam_garments.png")
    pair.say()


def square(photograph: object, side: int) -> Tensor:
    """(3, side, side) in [0, 1] from the middle of (H, W, 3) bytes."""
    pixels = torch.tensor(photograph).permute(2, 0, 1).float() / 255
    cut = min(pixels.shape[1:])
    top, left = ((length - cut) // 2 for length in pixels.shape[1:])
    middle = pixels[None, :, top : top + cut, left : left + cut]
    return F.interpolate(middle, (side, side), mode="bilinear", antialias=True)[0].clamp(0, 1)


def write(figure: Figure, name: str) -> None:
    """A PNG with few colours, to stay small."""
    path = FOLDER / name
    figure.savefig(path, dpi=DPI)
    with Image.open(path) as drawn:
        drawn.convert("RGB").quantize(COLOURS).save(path, optimize=True)
    print(f"{path}: {path.stat().st_size // 1000} kB")


if __name__ == "__main__":
    main()
