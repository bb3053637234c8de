"""Random networks of everything that people put into them, from a seed, with random options."""

from __future__ import annotations

import random
import warnings
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from td_transform import (
    LiftSpec,
    MergeSpec,
    PyramidSpec,
    TopDownError,
    TopDownNetwork,
    UpsampleSpec,
    plan_topdown,
    receptive_field,
    to_topdown,
)
from td_transform.plan import Plan
from tests.properties import check_network
from tests.transform.random_parts import BLOCKS, DOWN, FUNCTIONS, HEADS, STEMS, functions


class Net(nn.Module):
    """A stem, stages by name, a head."""

    def __init__(self, stem: nn.Module, stages: list[nn.Module], head: nn.Module) -> None:
        super().__init__()
        self.stem, self.head, self.names = stem, head, [f"stage{i}" for i in range(len(stages))]
        for name, stage in zip(self.names, stages, strict=True):
            self.add_module(name, stage)

    def forward(self, x: Tensor) -> Any:
        x = self.stem(x)
        for name in self.names:
            x = getattr(self, name)(x)
        return self.head(x)


class OwnMerge(nn.Module):
    def __init__(self, spec: MergeSpec) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(spec.channels, *[1] * spec.axes))
        self.unit = spec.unit(spec.channels)

    def forward(self, up: Tensor, lift: Tensor) -> Tensor:
        out: Tensor = self.unit(up * self.gain + lift)
        return out


def own_lift(spec: LiftSpec) -> nn.Module:
    return nn.Conv2d(spec.image_channels, spec.channels, spec.kernel, padding="same")


def own_upsample(spec: UpsampleSpec) -> nn.Module:
    return nn.Sequential(
        nn.Upsample(scale_factor=spec.factor, mode="bicubic"),
        nn.Conv2d(spec.channels, spec.channels, 3, padding=1),
    )


def own_pyramid(spec: PyramidSpec) -> nn.Module:
    return nn.AvgPool2d(spec.stride, ceil_mode=True)


OWN: dict[str, Any] = {
    "merge": OwnMerge, "lift": own_lift, "upsample": own_upsample, "pyramid": own_pyramid,
}  # fmt: skip


@dataclass
class Drawn:
    """A network, the size that it is converted at, the options, and what it was made of."""

    model: nn.Module
    options: dict[str, Any]
    parts: list[str] = field(default_factory=list)


def _stages(rng: random.Random, width: int, parts: list[str]) -> tuple[list[nn.Module], int]:
    stages: list[nn.Module] = []
    favourite = rng.choice(sorted(BLOCKS))
    for number in range(rng.randint(2, 4)):
        layers: list[nn.Module] = []
        if number:
            name, out = rng.choice(sorted(DOWN)), rng.choice([8, 12, 16])
            parts.append(f"down {name} {width}->{out}")
            layers.append(DOWN[name](width, out))
            width = out
        for _ in range(rng.randint(0, 3)):
            name = rng.choice([favourite, rng.choice(sorted(BLOCKS)), "function"])
            made = functions(rng) if name == "function" else BLOCKS[name]
            layers.append(made(width))
            own = getattr(layers[-1], "function", None)
            known = [k for k, f in FUNCTIONS.items() if f is own]
            parts.append(known[0] if known else name)
        stages.append(nn.Sequential(*layers))
    return stages, width


def draw(seed: int) -> Drawn:
    """The network and the options of a seed; its modules are drawn from torch's own generator."""
    rng = random.Random(seed)
    torch.manual_seed(seed)
    size = (
        rng.choice([1, 3, 3, 3, 4]),
        rng.choice([16, 24, 29, 32, 32, 32, 35]),
        rng.choice([16, 32, 32, 32, 29, 40]),
    )
    stem, width = rng.choice(sorted(STEMS)), rng.choice([8, 12, 16])
    parts = [f"stem {stem} {size[0]}->{width}"]
    first = STEMS[stem](size[0], width)
    stages, last = _stages(rng, width, parts)
    head = rng.choice(sorted(HEADS))
    parts.append(f"head {head}")
    model = Net(first, stages, HEADS[head](last))
    return Drawn(model, _options(rng, size), [*parts, f"{len(stages)} stages"])


def _options(rng: random.Random, size: tuple[int, int, int]) -> dict[str, Any]:
    options: dict[str, Any] = {
        "input_size": size,
        "arrangement": rng.choice(["td", "td", "uniform", "reversed"]),
        "output_stride": rng.choice([1, 1, 2, 4, 3]),
    }
    if rng.random() < 0.4:
        options["merge"] = rng.choice(["add-concat", "add", "concat"])
        options["upsample"] = rng.choice(["nearest", "bilinear", "transposed"])
        options["pyramid"] = rng.choice(["gaussian", "blur", "antialias", "decimate", "maxpool"])
    if rng.random() < 0.2:
        options["weights"] = "inherit"
    if rng.random() < 0.2:
        options["memory_budget"] = rng.choice([0.5, 0.8])
    if rng.random() < 0.25:
        options["skip_levels"] = rng.sample([1, 2, 4, 8], rng.choice([1, 1, 2]))
    if rng.random() < 0.2:
        stages = ["stem", "stage0", "stage1", "stage2", "stage3", "stage1.0"]
        options["stages"] = sorted(rng.sample(stages, rng.choice([2, 2, 3])))
    if rng.random() < 0.25:
        options |= {name: OWN[name] for name in rng.sample(sorted(OWN), rng.choice([1, 2, 4]))}
    if rng.random() < 0.15:
        options["leaf_modules"] = [rng.choice(["stage0", "stage1", "stage0.0", "stem"])]
    return options


def check(drawn: Drawn) -> str:
    """Convert and train a step: `trained`, or the text of the typed error.

    Raises:
        Exception: anything that is no `TopDownError`, or a property that doesn't hold.
    """
    torch.manual_seed(0)
    size = drawn.options["input_size"]
    images = torch.rand(2, *size)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            drawn.model.train()(images)
        except Exception as error:
            return f"no network: {type(error).__name__}: {error}"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            td = to_topdown(drawn.model, **drawn.options)
        except TopDownError as error:
            if "is a defect of td_transform" in str(error):
                raise
            return f"{type(error).__name__}: {error}"
        _check_converted(td, drawn, images)
    return "trained"


def _check_converted(td: TopDownNetwork, drawn: Drawn, images: Tensor) -> None:
    plan = td.plan
    own = {name: drawn.options[name] for name in OWN if callable(drawn.options.get(name))}
    read = Plan.from_json(plan.to_json())
    assert replace(read, options=replace(read.options, **own)) == plan
    assert str(plan) == str(plan_topdown(drawn.model, **drawn.options))
    check_network(td.train(), images, classes=7)
    maps = td.backbone()(images)
    assert [found.shape[1] for found in maps] == [level.width for level in plan.levels]
    try:
        receptive_field(td, drawn.options["input_size"])
    except TopDownError as error:
        if "is a defect of td_transform" in str(error):
            raise
