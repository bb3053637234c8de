"""Grad-CAM of bottom-up and top-down networks at every level (paper, 4.3 a)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.errors import BenchmarkError
from benchmarks.measures.explain_layers import Layer, evaluating, find_layers
from benchmarks.measures.explain_maps import grad_cam, with_probes
from benchmarks.runs.jobs import Scaling
from benchmarks.subjects.networks import Normalised

# The rounding error of float32 arithmetic on a map, as a share of its largest value.
_ROUNDING = 1e-5


class Explainer:
    """Grad-CAM heatmaps of one network.

    Args:
        network: a bottom-up CNN or an emitted top-down network, bare or inside `Normalised`; it is
            run in eval mode and left as it was: modes, gradients, running averages, hooks.
        input_size: (C, H, W) of the images.

    Attributes:
        layers: the maps of the paper's Fig. 7 from input to output. Bottom-up: what enters the
            first stage, unless that is the image, and the end of every stage. Top-down: the end of
            every level. The last one is `last`.
        last: the map that the head's pooling reads (paper, Fig. 8): after the classifier unit,
            where the network has one, and after a pre-activation network's last norm-act.

    Raises:
        BenchmarkError: the network has no stages (see `to_topdown`).

    Example:
        >>> from benchmarks.subjects.models import lenet_fc
        >>> explainer = Explainer(lenet_fc(), input_size=(1, 28, 28))
        >>> [(layer.name, layer.size) for layer in explainer.layers]
        [('Layer 1', (28, 28)), ('Layer 2', (14, 14)), ('Layer 3', (7, 7))]
        >>> explainer.heatmaps(torch.rand(2, 1, 28, 28), torch.tensor([3, 8])).shape
        torch.Size([3, 2, 28, 28])
    """

    layers: tuple[Layer, ...]
    last: Layer

    def __init__(self, network: nn.Module, *, input_size: tuple[int, int, int]) -> None:
        self._network = network
        self._bare = network
        if isinstance(network, Normalised):
            self._bare, input_size = network.network, (network.channels, *input_size[1:])
        self._graph, self.layers = find_layers(self._bare, input_size)
        self.last = self.layers[-1]

    def maps(
        self,
        images: Tensor,
        labels: Tensor,
        *,
        layers: Sequence[Layer] | None = None,
        batch: int = 128,
    ) -> list[Tensor]:
        """Grad-CAM's weighted sums of channels, as they come: of either sign, not scaled.

        As in the authors' published script, the weights are the gradients of the class's softmax.

        Args:
            images: (N, C, H, W) with values in [0, 1].
            labels: the classes to explain, (N,).
            layers: where to look; all of `self.layers` by default.
            batch: images per forward pass.

        Returns:
            Per layer (N, h, w), at its own resolution. A map is known up to a positive factor of
            each image's own.
        """
        chosen = self.layers if layers is None else tuple(layers)
        probed = with_probes(self._bare, self._graph, [layer.node for layer in chosen])
        found: list[list[Tensor]] = []
        with evaluating(self._network), torch.enable_grad():
            for some, classes in zip(images.split(batch), labels.split(batch), strict=True):
                found.append(grad_cam(probed, len(chosen), self._prepared(some), classes))
        return [torch.cat(parts) for parts in zip(*found, strict=True)]

    def heatmaps(
        self,
        images: Tensor,
        labels: Tensor,
        *,
        layers: Sequence[Layer] | None = None,
        scaling: Scaling = "centred",
        batch: int = 128,
    ) -> Tensor:
        """What speaks for the labels, where in the image.

        Args:
            images, labels, layers, batch: as for `maps`.
            scaling: as for `scaled`.

        Returns:
            Heatmaps (layers, N, H, W) with values in [0, 1].

        Raises:
            BenchmarkError: there is no such scaling.
        """
        found = self.maps(images, labels, layers=layers, batch=batch)
        return torch.stack([scaled(maps, images.shape[-2:], scaling=scaling) for maps in found])

    def _prepared(self, images: Tensor) -> Tensor:
        """What the bare network reads; it takes part in the graph where no parameter does."""
        network = self._network
        ready = network.normalise(images) if isinstance(network, Normalised) else images
        return ready.detach().clone().requires_grad_()


def scaled(maps: Tensor, size: Sequence[int], *, scaling: Scaling) -> Tensor:
    """Grad-CAM's maps restored bilinearly to the image's size and brought to [0, 1].

    Args:
        maps: (N, h, w), as `Explainer.maps` returns them.
        size: (H, W) of the image.
        scaling: `centred`, as in the authors' published script: the mean is subtracted, the map
            restored, cut at 0 and divided by its maximum. `min-max`: the map is cut at 0, restored,
            and scaled from its minimum to its maximum. A constant map becomes 0 everywhere.

    Returns:
        (N, H, W).

    Raises:
        BenchmarkError: there is no such scaling.

    Example:
        >>> scaled(torch.tensor([[[0.0, 1.0, 5.0]]]), (1, 3), scaling="centred")
        tensor([[[0., 0., 1.]]])
    """
    if scaling not in get_args(Scaling):
        raise BenchmarkError(
            "argument 'scaling'", seen=repr(scaling),
            expected=" or ".join(map(repr, get_args(Scaling))),
            remedy="pass scaling='centred', the default",
        )  # fmt: skip
    centred = scaling == "centred"
    levelled = maps - maps.mean(dim=(1, 2), keepdim=True) if centred else maps.clamp(min=0)
    full = F.interpolate(levelled[:, None], size=tuple(size), mode="bilinear")[:, 0]
    above = full.clamp(min=0) if centred else full - full.amin(dim=(1, 2), keepdim=True)
    high = above.amax(dim=(1, 2), keepdim=True)
    # what rounding leaves of a constant map is no heatmap
    noise = _ROUNDING * maps.abs().amax(dim=(1, 2), keepdim=True)
    return torch.where(high > noise, above / high, torch.zeros_like(above))
