"""Exp. 3 (a): Grad-CAM of both networks at every level (paper, Fig. 7, 8)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from benchmarks.experiments.experiment import Experiment
from benchmarks.findings.section import Section
from benchmarks.findings.tables import gradcam_table
from benchmarks.measures.explain import Explainer
from benchmarks.measures.explain_layers import Layer
from benchmarks.measures.training import predict
from benchmarks.runs.jobs import Job, Row, Scaling
from benchmarks.runs.profiles import Profile
from benchmarks.runs.recipes import training
from benchmarks.runs.workspace import JobFailed, Workspace
from benchmarks.subjects.arrangements import PAIR
from benchmarks.subjects.datasets import ImageSet, as_floats, balanced_order, data_title
from benchmarks.subjects.networks import model_title

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Inches: the side of a picture, and the room for titles and labels.
_SIDE, _MARGIN = 1.5, 0.75
_CANDIDATES = 256


@dataclass(frozen=True, kw_only=True)
class GradcamConfig:
    """What the pictures of one pair depend on.

    Args:
        pictures: how many images the second picture shows.
        scaling: how heatmaps are brought to [0, 1]; see `benchmarks.measures.explain.scaled`.
    """

    pictures: int = 6
    scaling: Scaling = "centred"


@dataclass(frozen=True, eq=False)
class Explained:
    """One network's heatmaps.

    Args:
        name: what the picture calls it.
        layers: where.
        heatmaps: (layers, N, H, W) with values in [0, 1].
    """

    name: str
    layers: tuple[Layer, ...]
    heatmaps: Tensor


def jobs(profile: Profile) -> list[Job]:
    """A job per setting: the first run's networks."""
    config = GradcamConfig(pictures=profile.pictures, scaling=profile.scaling[0])
    return [
        Job(
            "gradcam",
            config,
            needs=tuple(training(setting, arrangement, 0, profile) for arrangement in PAIR),
        )
        for setting in profile.explained
    ]


def draw(job: Job, workspace: Workspace) -> Iterator[Row]:
    """Two pictures: one image at every level (Fig. 7), several at the last map (Fig. 8)."""
    config: GradcamConfig = job.config
    trained = job.needs[0].config
    images = workspace.data(trained)
    networks = [workspace.network(needed) for needed in job.needs]
    chosen = right_in_all(networks, images, config.pictures, seed=trained.seed)
    shown, labels = as_floats(images.test_images[chosen]), images.test_labels[chosen]
    every: list[Explained] = []
    last: list[Explained] = []
    for needed, network in zip(job.needs, networks, strict=True):
        name = needed.config.arrangement.upper()
        explainer = Explainer(network, input_size=images.size)
        for found, layers, n in ((every, explainer.layers, 1), (last, (explainer.last,), None)):
            heatmaps = explainer.heatmaps(
                shown[:n], labels[:n], layers=layers, scaling=config.scaling
            )
            found.append(Explained(name, layers, heatmaps.cpu()))
    names = [images.classes[label] for label in labels.tolist()]
    title = f"{model_title(trained.model)}, {data_title(trained.data, trained.augmented)}"
    pictures = {
        "every level": save(
            levels_figure(shown[0].cpu(), f"{title}: {names[0]}", every),
            workspace.file(job, "levels.png"),
        ),
        "last": save(
            images_figure(shown.cpu(), names, title, last), workspace.file(job, "last.png")
        ),
    }
    for layer, picture in pictures.items():
        yield {"layer": layer, "picture": picture.name, "images": len(chosen)}


def right_in_all(
    networks: Sequence[nn.Module], images: ImageSet, count: int, *, seed: int
) -> Tensor:
    """Indices (count,) of test images that all networks get right, of as many classes as there are.

    Raises:
        JobFailed: there is no such image.
    """
    order = balanced_order(images.test_labels, seed=seed).to(images.test_labels.device)
    found: list[Tensor] = []
    for some in order.split(_CANDIDATES):
        pictures, labels = images.test_images[some], images.test_labels[some]
        right = torch.stack([predict(network, pictures) == labels for network in networks])
        found.append(some[right.all(0)])
        if sum(map(len, found)) >= count:
            break
    chosen = torch.cat(found)[:count]
    if not len(chosen):
        raise JobFailed("there is no test image that both networks get right")
    return chosen


def levels_figure(image: Tensor, title: str, networks: Sequence[Explained]) -> Figure:
    """Fig. 7: a row per network, a column per level.

    Args:
        image: (C, H, W) in [0, 1].
        title: over the picture.
        networks: heatmaps of this image alone.
    """
    columns = 1 + max(len(network.layers) for network in networks)
    figure, axes = _grid(len(networks), columns, title)
    for row, network in zip(axes, networks, strict=True):
        _show(row[0], image)
        row[0].set_ylabel(network.name)
        panels = row[1 : 1 + len(network.layers)]
        for panel, layer, heatmap in zip(
            panels, network.layers, network.heatmaps[:, 0], strict=True
        ):
            _show(panel, image, heatmap)
            panel.set_title(f"{layer.name}, {_by(layer)}", fontsize=9)
    axes[0][0].set_title("image", fontsize=9)
    return figure


def images_figure(
    images: Tensor, names: Sequence[str], title: str, networks: Sequence[Explained]
) -> Figure:
    """Fig. 8: a column per image; the images, then a row of heatmaps per network.

    Args:
        images: (N, C, H, W) in [0, 1].
        names: their classes.
        title: over the picture.
        networks: heatmaps of one layer.
    """
    figure, axes = _grid(1 + len(networks), len(images), title)
    axes[0][0].set_ylabel("image")
    for panel, image, name in zip(axes[0], images, names, strict=True):
        _show(panel, image)
        panel.set_title(name, fontsize=9)
    for row, network in zip(axes[1:], networks, strict=True):
        row[0].set_ylabel(f"{network.name}, {_by(network.layers[0])}")
        for panel, image, heatmap in zip(row, images, network.heatmaps[0], strict=True):
            _show(panel, image, heatmap)
    return figure


def save(figure: Figure, path: Path) -> Path:
    """Write a PNG and return its path."""
    figure.savefig(path, dpi=150)
    return path


def _grid(rows: int, columns: int, title: str) -> tuple[Figure, list[list[Axes]]]:
    from matplotlib.figure import Figure

    size = (_SIDE * columns + _MARGIN, _SIDE * rows + _MARGIN)
    figure = Figure(figsize=size, layout="constrained")
    figure.suptitle(title, fontsize=10)
    axes = figure.subplots(rows, columns, squeeze=False)
    for panel in axes.flat:
        panel.set(xticks=[], yticks=[], frame_on=False)
    return figure, axes.tolist()


def _show(panel: Axes, image: Tensor, heatmap: Tensor | None = None) -> None:
    """The image, or the heatmap over the image in grey."""
    panel.set_frame_on(True)
    grey = heatmap is not None or len(image) == 1
    pixels = image.mean(0) if grey else image.permute(1, 2, 0)
    panel.imshow(pixels.numpy(), cmap="gray", vmin=0, vmax=1)
    if heatmap is not None:
        panel.imshow(heatmap.numpy(), cmap="jet", alpha=0.5, vmin=0, vmax=1)


def _by(layer: Layer) -> str:
    return "×".join(map(str, layer.size))


EXPERIMENT = Experiment(
    name="exp3-gradcam",
    summary="Grad-CAM at every level of both networks (Fig. 7, 8)",
    source="4.3 (a)",
    jobs=jobs,
    handlers={"gradcam": draw},
    sections=(
        Section(
            kind="gradcam", title="Exp. 3: Grad-CAM (Fig. 7 and 8)",
            table=gradcam_table, covered="Exp. 3, Grad-CAM",
        ),
    ),
)  # fmt: skip
