"""Do converted hybrids learn? Each is trained for a minute on real images, and then tested.

``python -m tools.hybrids_learn`` prints a row per network, and exits with 1 where one of them isn't
above chance. The minute is the processor's, at one thread: other work on the machine costs
patience, not accuracy. docs/hybrids.md has the results.
"""

from __future__ import annotations

import importlib
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
import tyro
from torch import Tensor, nn

from benchmarks.findings.statistics import Interval, share_interval
from benchmarks.subjects.datasets import as_floats, load
from td_transform import to_topdown
from td_transform.analyse import analyse
from td_transform.table import Table
from td_transform.torchvision_cpu import import_torchvision
from td_transform.trace import trace

BATCH = 64
RATE = 1e-3  # AdamW's, after a warm-up of 20 steps


@dataclass(frozen=True)
class Arguments:
    """What to train, and on what.

    Args:
        networks: names of timm.
        seconds: of training each, of one processor.
        data: a data set by name, as for the benchmarks.
        data_root: where data sets lie.
        side: pixels that images are resized to.
        bottom_up: also train the bottom-up networks, for as long.
    """

    networks: tuple[str, ...] = (
        "mobilevitv2_050",  # linear attention within folded patches
        "efficientvit_b0",  # linear attention at several scales
        "edgenext_xx_small",  # attention between channels, channels-last
        "pvt_v2_b0",  # attention to a coarser map, on tokens
        "coatnet_pico_rw_224",  # tables of relative positions
    )
    seconds: float = 60
    data: str = "fashion-mnist"
    data_root: Path | None = None
    side: int = 64
    bottom_up: bool = False


def bottom_up(name: str, size: tuple[int, int, int], classes: int) -> nn.Module:
    """timm's network for images of that size; those with tables of positions have to be told."""
    import_torchvision()
    timm = importlib.import_module("timm")
    fixed = timm.get_pretrained_cfg(name).fixed_input_size
    sides = {"img_size": size[1]} if fixed else {}
    model: nn.Module = timm.create_model(name, num_classes=classes, in_chans=size[0], **sides)
    return model


def train(network: nn.Module, pixels: Tensor, labels: Tensor, seconds: float) -> int:
    """Until the time is over; returns the number of steps."""
    network.train()
    optimizer = torch.optim.AdamW(network.parameters(), lr=RATE, weight_decay=0.05)
    warm_up = torch.optim.lr_scheduler.LinearLR(optimizer, 0.05, total_iters=20)
    end, steps = time.process_time() + seconds, 0
    while time.process_time() < end:
        batch = torch.randint(len(labels), (BATCH,))
        loss = F.cross_entropy(network(pixels[batch]), labels[batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        warm_up.step()
        steps += 1
    return steps


def tested(network: nn.Module, pixels: Tensor, labels: Tensor) -> Interval:
    """The share of images that get their label."""
    with torch.no_grad():
        answers = torch.cat([network.eval()(part).argmax(1) for part in pixels.split(100)])
    return share_interval(int((answers == labels).sum()), len(labels))


def main(chosen: Arguments) -> None:
    """Train one after the other, and print the table."""
    torch.set_num_threads(1)
    found = load(chosen.data, root=chosen.data_root, limits=(20_000, 1_000))
    size = found.size[0], chosen.side, chosen.side
    pixels, test_pixels = (
        F.interpolate(as_floats(images), size[1:], mode="bilinear", antialias=True)
        for images in (found.train_images, found.test_images)
    )
    chance, rows, learned = 1 / len(found.classes), [], []
    for name in chosen.networks:
        torch.manual_seed(0)
        model = bottom_up(name, size, len(found.classes))
        finest = analyse(trace(model, size)).stages[0].stride
        networks: dict[str, nn.Module] = {"bu": model} if chosen.bottom_up else {}
        networks["td"] = to_topdown(model, input_size=size, output_stride=finest)
        for kind, network in networks.items():
            steps = train(network, pixels, found.train_labels, chosen.seconds)
            share = tested(network, test_pixels, found.test_labels)
            parameters = sum(p.numel() for p in network.parameters())
            interval = f"{share.low:.1%} to {share.high:.1%}"
            accuracy = [f"{share.estimate:.1%}", interval, f"{chance:.0%}"]
            rows.append([f"{name}, {kind}", f"{parameters:,}", str(steps), *accuracy])
            print(*rows[-1], sep=", ", file=sys.stderr, flush=True)
            learned.append(share.low > chance)
    header = ["network", "parameters", "steps", "test accuracy", "95 % interval", "chance"]
    print(Table(header, rows))
    sys.exit(not all(learned))


if __name__ == "__main__":
    main(tyro.cli(Arguments))
