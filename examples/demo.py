"""A tour in a minute and a half on two CPU cores: convert, draw, train, explain.

Run it with ``python -m examples.demo``; the drawings go to ``demo/`` in the current folder.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn
from tqdm import tqdm

from benchmarks.measures.explain import Explainer
from benchmarks.subjects.models import LeNetFC, lenet_fc
from td_transform import TopDownNetwork, to_topdown
from td_transform.draw import draw
from td_transform.table import format_table
from td_transform.torchvision_cpu import import_torchvision

FOLDER = Path("demo")
SEED = 0
SIDE = 28
EPOCHS = 20
BATCH = 128
LEARNING_RATE = 0.1
EXPLAINED = (0, 2, 3, 5, 7)


@dataclass(frozen=True)
class Digits:
    """Images (N, 1, SIDE, SIDE) with values in [0, 1], and their labels (N,)."""

    train_images: Tensor
    train_labels: Tensor
    test_images: Tensor
    test_labels: Tensor


@dataclass(frozen=True)
class Result:
    """What came out of one training; `accuracy` is a share of the test set, `seconds` wall time."""

    name: str
    parameters: int
    accuracy: float
    seconds: float


def main() -> None:
    """Run all steps and list the files they wrote."""
    FOLDER.mkdir(exist_ok=True)
    torch.manual_seed(SEED)
    files = convert_resnet18()
    bu, td, drawing = convert_lenet()
    digits = load()
    compare(bu, td, digits)
    files += [drawing, explain(bu, td, digits)]
    heading("Files")
    print("\n".join(map(str, files)))


def heading(text: str) -> None:
    print(f"\n== {text}", flush=True)


def convert_resnet18() -> list[Path]:
    """A model of a library, as it comes; its weights play no role in the conversion."""
    heading("torchvision's ResNet-18, turned upside down")
    bu = import_torchvision().models.resnet18()
    td = to_topdown(bu, input_size=(3, 224, 224))
    print(td.plan)
    title = "ResNet-18, 3×224×224"
    return [draw(bu, td, FOLDER / f"resnet18{suffix}", title=title) for suffix in (".svg", ".png")]


def convert_lenet() -> tuple[LeNetFC, TopDownNetwork, Path]:
    """The paper's smallest network."""
    heading("LeNetFC, turned upside down")
    bu = lenet_fc()
    td = to_topdown(bu, input_size=(1, SIDE, SIDE))
    print(td.plan)
    return bu, td, draw(bu, td, FOLDER / "lenet_fc.png", title=f"LeNetFC, 1×{SIDE}×{SIDE}")


# Training


def load() -> Digits:
    """scikit-learn's 8 x 8 digits, enlarged; a fifth of every class is for testing."""
    bunch = load_digits()
    images = torch.tensor(bunch.images, dtype=torch.float32)[:, None] / 16
    images = F.interpolate(images, size=(SIDE, SIDE), mode="bilinear")
    labels = torch.tensor(bunch.target)
    train, test = train_test_split(
        torch.arange(len(labels)), test_size=0.2, stratify=labels, random_state=SEED
    )
    return Digits(images[train], labels[train], images[test], labels[test])


def compare(bu: nn.Module, td: nn.Module, digits: Digits) -> None:
    """Train both networks in the same way and print what came out."""
    heading(f"Both trained on {len(digits.train_labels)} digits for {EPOCHS} epochs")
    results = [train("bottom-up", bu, digits), train("top-down", td, digits)]
    rows = [
        [r.name, f"{r.parameters:,}", f"{100 * r.accuracy:.1f} %", f"{r.seconds:.0f} s"]
        for r in results
    ]
    print("\n".join(format_table(["network", "parameters", "test accuracy", "time"], rows)))


def train(name: str, model: nn.Module, digits: Digits) -> Result:
    """SGD with Nesterov momentum; the rate falls tenfold at half and at 80 % of the epochs."""
    shorten_memory(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=LEARNING_RATE, momentum=0.9, nesterov=True)
    drops = [EPOCHS // 2, EPOCHS * 4 // 5]
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, drops, gamma=0.1)
    generator = torch.Generator().manual_seed(SEED)
    start = time.perf_counter()
    model.train()
    for _ in tqdm(range(EPOCHS), desc=name, unit="epoch", disable=None):
        train_epoch(model, digits, optimizer, generator)
        schedule.step()
    seconds = time.perf_counter() - start
    correct = predict(model, digits.test_images) == digits.test_labels
    parameters = sum(p.numel() for p in model.parameters())
    return Result(name, parameters, correct.float().mean().item(), seconds)


def shorten_memory(model: nn.Module) -> None:
    """The paper's running averages forget in 100 steps, too slowly for the few steps taken here."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 0.1


def train_epoch(
    model: nn.Module, digits: Digits, optimizer: torch.optim.Optimizer, generator: torch.Generator
) -> None:
    order = torch.randperm(len(digits.train_labels), generator=generator)
    for batch in order.split(BATCH):
        logits = model(digits.train_images[batch])
        loss = F.cross_entropy(logits, digits.train_labels[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()


@torch.no_grad()
def predict(model: nn.Module, images: Tensor) -> Tensor:
    """Classes (N,), with the model in eval mode."""
    model.eval()
    return torch.cat([model(batch).argmax(1) for batch in images.split(BATCH)])


# Grad-CAM


def explain(bu: LeNetFC, td: TopDownNetwork, digits: Digits) -> Path:
    """Grad-CAM of both networks on digits that both get right, at their last feature maps."""
    heading("Grad-CAM at the last feature map of both")
    chosen = pick(bu, td, digits)
    images, labels = digits.test_images[chosen], digits.test_labels[chosen]
    heatmaps: dict[str, Tensor] = {}
    for name, model in (("bottom-up", bu), ("top-down", td)):
        explainer = Explainer(model, input_size=(1, SIDE, SIDE))
        height, width = explainer.last.size
        print(f"{name}: a map of {height}×{width}")
        title = f"{name}\n{height}×{width} map"
        heatmaps[title] = explainer.heatmaps(images, labels, layers=[explainer.last])[0]
    return plot_heatmaps(images, labels, heatmaps, FOLDER / "grad_cam.png")


def pick(bu: nn.Module, td: nn.Module, digits: Digits) -> Tensor:
    """The first test image of each class to explain that both networks get right."""
    labels = digits.test_labels
    both = predict(bu, digits.test_images).eq(labels) & predict(td, digits.test_images).eq(labels)
    found = [torch.nonzero(both & (labels == digit)).flatten()[:1] for digit in EXPLAINED]
    return torch.cat(found)


def plot_heatmaps(images: Tensor, labels: Tensor, heatmaps: dict[str, Tensor], path: Path) -> Path:
    """A row per digit: the input, then each network's heatmap (N, SIDE, SIDE) over it."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(6.8, 1.7 * len(images) + 0.8), layout="constrained")
    axes = figure.subplots(len(images), 1 + len(heatmaps), squeeze=False)
    axes[0][0].set_title(f"input\n{SIDE}×{SIDE}")
    for row, (image, label) in enumerate(zip(images, labels, strict=True)):
        axes[row][0].set_ylabel(f"digit {label}")
        for column in axes[row]:
            column.imshow(image[0], cmap="gray")
            column.set(xticks=[], yticks=[])
    for column, (title, found) in enumerate(heatmaps.items(), start=1):
        axes[0][column].set_title(title)
        for row, heatmap in enumerate(found):
            shown = axes[row][column].imshow(heatmap, cmap="inferno", alpha=0.65, vmin=0, vmax=1)
    figure.colorbar(shown, ax=axes, shrink=0.4, label="Grad-CAM, share of each map's maximum")
    figure.savefig(path, dpi=150)
    return path


if __name__ == "__main__":
    main()
