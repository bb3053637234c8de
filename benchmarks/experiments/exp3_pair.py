"""What the comparisons of two networks' heatmaps share: the images, and the heatmaps."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.measures.explain import Explainer, scaled
from benchmarks.measures.localisation_pairs import Difference
from benchmarks.measures.training import predict
from benchmarks.runs.jobs import EVEN_HEAT, OWN_HEAT, POOLED_HEAT, Job, Row, Scaling
from benchmarks.runs.profiles import Profile, Setting
from benchmarks.runs.recipes import training
from benchmarks.runs.workspace import Workspace
from benchmarks.subjects.arrangements import PAIR, Arrangement
from benchmarks.subjects.datasets import ImageSet, as_floats, balanced_order

_CHUNK = 256


@dataclass(frozen=True, eq=False)
class Subject:
    """A network, and its maps of the pair's images.

    Args:
        arrangement: `bu` or `td`.
        network: in eval mode, for images in [0, 1].
        maps: (N, h, w) at the last map's resolution, not scaled; on the CPU.
    """

    arrangement: Arrangement
    network: nn.Module
    maps: Tensor


@dataclass(frozen=True, eq=False)
class Pair:
    """Two networks and the test images that both get right.

    Args:
        images: the data set.
        chosen: indices (N,) of its test images.
        bu, td: the networks.
    """

    images: ImageSet
    chosen: Tensor
    bu: Subject
    td: Subject

    @property
    def subjects(self) -> tuple[Subject, Subject]:
        return self.bu, self.td

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) of the images."""
        return self.images.size[1], self.images.size[2]


@dataclass(frozen=True, eq=False)
class Heat:
    """One sort of heatmaps of the pair's images.

    Args:
        subject: whose they are.
        kind: one of `benchmarks.runs.jobs.HEATMAPS`.
        scaling: to [0, 1]; None for all ones.
        heatmaps: (N, H, W), on the CPU.
    """

    subject: Subject
    kind: str
    scaling: Scaling | None
    heatmaps: Tensor = field(repr=False)

    @property
    def columns(self) -> Row:
        """What a row says of it."""
        return {
            "arrangement": self.subject.arrangement,
            "heatmap": self.kind,
            "scaling": self.scaling,
        }


def pair_jobs(
    kind: str, config: object, settings: Sequence[Setting], profile: Profile
) -> list[Job]:
    """A job per run and setting; it needs the trainings of both networks."""
    return [
        Job(
            kind,
            config,
            needs=tuple(training(setting, arrangement, run, profile) for arrangement in PAIR),
        )
        for run in range(profile.runs)
        for setting in settings
    ]


def pair_of(job: Job, workspace: Workspace, *, limit: int | None) -> Pair:
    """Load both networks and make their maps of the images that both get right.

    Args:
        job: needs the trainings of BU and TD.
        workspace: where it runs.
        limit: how many test images are looked at; all where None.
    """
    trained = job.needs[0].config
    images = workspace.data(trained)
    looked_at = balanced_order(images.test_labels, seed=trained.seed)[:limit].to(workspace.device)
    networks = [workspace.network(needed) for needed in job.needs]
    pictures, labels = images.test_images[looked_at], images.test_labels[looked_at]
    right = torch.stack([predict(network, pictures) == labels for network in networks])
    chosen = looked_at[right.all(0)]
    bu, td = (
        Subject(needed.config.arrangement, network, _maps(network, images, chosen, workspace))
        for needed, network in zip(job.needs, networks, strict=True)
    )
    return Pair(images, chosen, bu, td)


def _maps(network: nn.Module, images: ImageSet, chosen: Tensor, workspace: Workspace) -> Tensor:
    explainer = Explainer(network, input_size=images.size)
    found = [torch.zeros(0, *explainer.last.size)]
    for some in chosen.split(_CHUNK) if len(chosen) else ():
        workspace.pause_if_due()
        pictures, labels = as_floats(images.test_images[some]), images.test_labels[some]
        found += [maps.cpu() for maps in explainer.maps(pictures, labels, layers=[explainer.last])]
    return torch.cat(found)


def heats(pair: Pair, scaling: Scaling) -> Iterator[Heat]:
    """BU's heatmaps, TD's, and the control: TD's pooled to BU's resolution."""
    height, width = pair.bu.maps.shape[1:]
    coarse = F.adaptive_avg_pool2d(pair.td.maps, (height, width))
    for subject, kind, maps in (
        (pair.bu, OWN_HEAT, pair.bu.maps),
        (pair.td, OWN_HEAT, pair.td.maps),
        (pair.td, POOLED_HEAT, coarse),
    ):
        yield Heat(subject, kind, scaling, scaled(maps, pair.size, scaling=scaling))


def all_ones(pair: Pair, subject: Subject) -> Heat:
    """The chance line: every pixel is as hot as any other."""
    return Heat(subject, EVEN_HEAT, None, torch.ones(len(pair.chosen), *pair.size))


def json_shares(shares: Mapping[str, float]) -> Row:
    """An undefined figure is null."""
    return {name: None if math.isnan(share) else share for name, share in shares.items()}


def json_differences(found: Mapping[str, Difference]) -> Row:
    """From the figure's name to [value, low, high]; an undefined one is left out."""
    return {
        name: [d.value, d.low, d.high]
        for name, d in found.items()
        if not any(map(math.isnan, (d.value, d.low, d.high)))
    }
