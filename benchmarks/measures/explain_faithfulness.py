"""What heatmaps are worth where no object is marked: does the network itself heed what they show?

*Average drop* and *increase* are of Grad-CAM++ (Chattopadhay et al. 2018), *deletion* and
*insertion* of RISE (Petsiuk et al. 2018). They need no boxes or masks.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor, nn

from benchmarks.measures.localisation import THRESHOLD, Array

# from no pixel to all of them
STEPS = 10


@dataclass(frozen=True, eq=False)
class Faithfulness:
    """Image by image, (N,) each, shares; p is the softmax of the class that is explained.

    Args:
        drop: what p loses where the image is multiplied by its heatmap, as a share of p, 0 where it
            gains. Small is good.
        increase: does p gain there?
        deletion: p, the mean over steps, while pixels are replaced by the image's mean colour, the
            hottest first. Small is good.
        insertion: p while they are put back, the hottest first. Large is good.
        marked: the share of pixels that the heatmap marks: how wide it spreads.
    """

    drop: Array
    increase: Array
    deletion: Array
    insertion: Array
    marked: Array


FAITHFULNESS = tuple(field.name for field in fields(Faithfulness))


@torch.no_grad()
def faithfulness(
    network: nn.Module,
    images: Tensor,
    labels: Tensor,
    heatmaps: Tensor,
    *,
    threshold: float = THRESHOLD,
    seed: int = 0,
) -> Faithfulness:
    """Ask the network about images that heatmaps have changed.

    Args:
        network: from images in [0, 1] to logits, in eval mode.
        images: (N, C, H, W).
        labels: the classes that are explained, (N,).
        heatmaps: (N, H, W) with values in [0, 1].
        threshold: a heatmap marks the pixels where it is greater.
        seed: of the order in which pixels of the same heat come; a constant heatmap's pixels come
            in a random order, which is the chance line.

    Example:
        >>> network = nn.Sequential(nn.Flatten(), nn.Linear(16, 3))
        >>> images, labels = torch.rand(2, 1, 4, 4), torch.tensor([0, 1])
        >>> faithfulness(network, images, labels, torch.ones(2, 4, 4)).drop.tolist()
        [0.0, 0.0]
    """
    whole = _probability(network, images, labels)
    masked = _probability(network, images * heatmaps[:, None], labels)
    rank = heat_ranks(heatmaps, seed=seed)
    pixels = rank[0].numel()
    blank = images.mean(dim=(2, 3), keepdim=True)
    deletion, insertion = torch.zeros_like(whole), torch.zeros_like(whole)
    for step in range(STEPS + 1):
        hottest = (rank < round(step / STEPS * pixels))[:, None]
        deletion += _probability(network, torch.where(hottest, blank, images), labels)
        insertion += _probability(network, torch.where(hottest, images, blank), labels)
    return Faithfulness(
        drop=((whole - masked).clamp(min=0) / whole).cpu().numpy(),
        increase=(masked > whole).double().cpu().numpy(),
        deletion=(deletion / (STEPS + 1)).cpu().numpy(),
        insertion=(insertion / (STEPS + 1)).cpu().numpy(),
        marked=(heatmaps > threshold).double().mean(dim=(1, 2)).cpu().numpy(),
    )


def heat_ranks(heatmaps: Tensor, *, seed: int) -> Tensor:
    """Each pixel's place in its image from the hottest, 0, on: (N, H, W).

    Pixels of the same heat come in an order that is drawn, as a heatmap that is constant over large
    parts would else be read from its upper left corner.
    """
    flat = heatmaps.flatten(1)
    drawn = torch.randperm(flat.shape[1], generator=torch.Generator().manual_seed(seed))
    drawn = drawn.to(flat.device)
    order = drawn[flat[:, drawn].argsort(dim=1, descending=True, stable=True)]
    return order.argsort(dim=1).view_as(heatmaps)


def _probability(network: nn.Module, images: Tensor, labels: Tensor) -> Tensor:
    """Of the labels, (N,)."""
    return network(images).double().softmax(1).gather(1, labels[:, None])[:, 0]  # type: ignore[no-any-return]
