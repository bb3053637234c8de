"""How long a table of receptive fields takes: models of torchvision, and networks of growing depth.

Run it with ``python -m tools.field_time``; it prints the tables of docs/receptive_fields.md.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from td_transform import receptive_field
from td_transform.table import format_table
from td_transform.torchvision_cpu import import_torchvision

MODELS = ("resnet18", "resnet50", "vgg16", "mobilenet_v3_large", "efficientnet_b7", "densenet201")
NODES = (500, 1000, 2000, 5000)
RUNS = 5


class DenseBlock(nn.Module):
    """Every layer's output joins the maps before it."""

    def __init__(self, layers: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Conv2d(4 + i, 1, 3, padding=1) for i in range(layers))

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = torch.cat([x, torch.relu(layer(x))], 1)
        return x


def chain(nodes: int) -> nn.Module:
    """Convolutions and activations in turn."""
    layers = [m for _ in range(nodes // 2) for m in (nn.Conv2d(4, 4, 3, padding=1), nn.ReLU())]
    return nn.Sequential(*layers)


def dense(nodes: int) -> nn.Module:
    return DenseBlock(nodes // 3)


def seconds(model: nn.Module, size: tuple[int, int, int]) -> tuple[float, int]:
    """The median time of a table, tracing included, after one run to warm up; and its rows."""
    times = []
    for _ in range(RUNS + 1):
        start = time.perf_counter()
        rows = len(receptive_field(model, size))
        times.append(time.perf_counter() - start)
    return statistics.median(times[1:]), rows


def models_table() -> list[str]:
    library = import_torchvision().models
    rows = []
    for name in MODELS:
        took, count = seconds(library.get_model_builder(name)().to("meta"), (3, 224, 224))
        rows.append([name, str(count), f"{took:.2f} s"])
    return format_table(["model", "rows", "time"], rows)


def growth_table() -> list[str]:
    kinds: dict[str, Callable[[int], nn.Module]] = {"chain": chain, "dense block": dense}
    rows = []
    for kind, make in kinds.items():
        for nodes in NODES:
            with torch.device("meta"):
                model = make(nodes)
            took, count = seconds(model, (4, 64, 64))
            rows.append([kind, str(count), f"{took:.2f} s", f"{1000 * took / count:.2f} ms"])
    return format_table(["network", "rows", "time", "per row"], rows)


def main() -> None:
    torch.set_num_threads(1)
    print("\n".join([*models_table(), "", *growth_table()]))


if __name__ == "__main__":
    main()
