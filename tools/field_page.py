"""The pictures and measured tables of docs/receptive_fields.md.

Run it with ``python -m tools.field_page`` (minutes); it writes docs/images/*.png and prints.
"""

from __future__ import annotations

from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import nn

from benchmarks.subjects.models import nin
from td_transform import MeasuredFields, ReceptiveFields, compare, receptive_field, to_topdown
from td_transform.table import format_table
from td_transform.torchvision_cpu import import_torchvision

FOLDER = Path("docs/images")
SAMPLES = 8
RESNET_STAGES = ("maxpool", "layer1", "layer2", "layer3", "layer4")
NIN_STAGES = ("features.stage1", "features.stage2", "features.stage3")


def main() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    resnet = import_torchvision().models.resnet18()
    page(resnet, (3, 224, 224), RESNET_STAGES, "ResNet-18", output_stride=4)
    page(nin(), (3, 32, 32), NIN_STAGES, "NIN", output_stride=1)


def page(
    model: nn.Module,
    size: tuple[int, int, int],
    stages: tuple[str, ...],
    name: str,
    *,
    output_stride: int,
) -> None:
    """Both networks of one model: the picture, the comparison, and theory against measurement."""
    td = to_topdown(model, input_size=size)
    fields = receptive_field(model, size)
    file = name.lower().replace("-", "")
    fields.plot(FOLDER / f"rf_{file}.png", versus=receptive_field(td), title=name)
    print(f"== {name}\n{compare(fields, td)}\n")
    print(measured_table(fields, measure(model, size, stages)))
    # at the paper's output stride a gradient through a ResNet takes more memory than it tells
    cheap = to_topdown(model, input_size=size, output_stride=output_stride)
    ends = level_ends(cheap)
    found = measure(cheap, size, ends)
    print(measured_table(receptive_field(cheap), found))
    draw_profiles(measure(model, size, stages[-1:]), found, name, FOLDER / f"effective_{file}.png")


def level_ends(td: nn.Module) -> tuple[str, ...]:
    return tuple(f"levels.{i}" for i in range(len(list(td.get_submodule("levels").children()))))


def measure(model: nn.Module, size: tuple[int, int, int], nodes: tuple[str, ...]) -> MeasuredFields:
    return receptive_field(model, size, method="gradient", nodes=nodes, samples=SAMPLES)


def measured_table(fields: ReceptiveFields, measured: MeasuredFields) -> str:
    rows = []
    for name, row in measured.items():
        top, left, bottom, right = fields.box(name, row.position)
        share = row.effective[0] / (bottom - top)
        rows.append([
            row.module_path or name, str(fields[name].size_max[0]), f"{bottom - top}x{right - left}",
            f"{row.support[0]}x{row.support[1]}", f"{row.effective[0]:.0f}x{row.effective[1]:.0f}",
            f"{share:.0%}",
        ])  # fmt: skip
    header = [
        "tensor",
        "field",
        "box of its centre",
        "gradient's support",
        "effective",
        "of the box",
    ]
    return "\n".join([*format_table(header, rows), ""])


def draw_profiles(
    bottom_up: MeasuredFields, top_down: MeasuredFields, name: str, path: Path
) -> None:
    """The gradient's magnitude over the image: the last map of each network."""
    figure = Figure(figsize=(8, 3.6), layout="constrained")
    panels = {"bottom-up, last stage": bottom_up, "top-down, last level": top_down}
    for i, (title, measured) in enumerate(panels.items()):
        node, row = list(measured.items())[-1]
        magnitude = measured.magnitude[node]
        axes = figure.add_subplot(1, 2, i + 1)
        shown = axes.imshow((magnitude / magnitude.max()).sqrt().numpy(), cmap="magma")
        axes.set_title(
            f"{name}, {title}\n{row.support[0]} pixels seen, {row.effective[0]:.0f} effective",
            size=9,
        )
        axes.set_xlabel("input pixels")
    figure.colorbar(shown, ax=figure.axes, label="square root of the gradient's share", shrink=0.8)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
