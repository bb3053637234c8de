"""What the transformation can't know, a user says: stages, levels to skip, layers of her own."""

from __future__ import annotations

import dataclasses
import warnings
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from td_transform import (
    LiftSpec,
    MergeSpec,
    Plan,
    PyramidSpec,
    TopDownError,
    TopDownNetwork,
    UpsampleSpec,
    build,
    load_topdown,
    plan_topdown,
    receptive_field,
    save_topdown,
    to_topdown,
)
from tests.networks import Classifier, Residual, chain, cna, dense, patchify, pre_activation
from tests.properties import check_network

SIZE = (3, 32, 32)


class Staged(nn.Module):
    """A stem, three stages by name, a pooling between the first two, and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = cna(3, 8)
        self.one = nn.Sequential(Residual(8, 8), Residual(8, 8))
        self.pool = nn.Sequential(nn.MaxPool2d(2), nn.Dropout(0.1))
        self.two = nn.Sequential(Residual(8, 16), Residual(16, 16))
        self.down = cna(16, 24, 3, 2)
        self.three = nn.Sequential(Residual(24, 24))
        self.head = Classifier(24)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pool(self.one(self.stem(x)))
        return self.head(self.three(self.down(self.two(x))))


def planned(model: nn.Module, **options: Any) -> Plan:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return plan_topdown(model, input_size=SIZE, **options)


def convert(model: nn.Module, **options: Any) -> TopDownNetwork:
    torch.manual_seed(0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return to_topdown(model, input_size=SIZE, **options)


@pytest.mark.parametrize(
    ("model", "stages"),
    [
        (Staged(), ["one", "two", "three"]),
        (dense(), ["1", "3", "5"]),
    ],
)
def test_stages_by_name_are_those_that_are_found(model: nn.Module, stages: list[str]) -> None:
    named, found = planned(model, stages=stages), planned(model)
    assert named.levels == found.levels
    assert named.head == found.head


@pytest.mark.parametrize("arrangement", ["td", "uniform", "reversed"])
@pytest.mark.parametrize(
    ("stages", "strides"), [(["two", "three"], [2, 1]), (["one", "three"], [4, 1])]
)
def test_other_stages_than_those_found(
    stages: list[str], strides: list[int], arrangement: str
) -> None:
    """The first stage goes into the stem; two stages become one, whose pooling goes."""
    td = convert(Staged(), stages=stages, arrangement=arrangement, output_stride=1)
    finest = td.plan.levels[-1].stride
    assert [level.stride // finest for level in td.plan.levels if level.made_from] == strides
    assert any("Dropout" in layer.operator for layer in td.plan.layers) == (stages[0] == "one")
    check_network(td, torch.rand(2, *SIZE), classes=7)


@pytest.mark.parametrize(
    ("stages", "text"),
    [
        (["one"], "argument 'stages': 1 stage; expected two or more stages"),
        (["one", "tow"], "'tow', which the model does not have; .*perhaps you mean 'two'"),
        (["one", "head"], "'head', in which no unit or block of the trunk lies"),
        (["one", "pool"], "'pool', in which no unit or block of the trunk lies"),
        (["two", "one"], "'one', which does not come after 'two'; .*in the order in which"),
        (["one", "two.0.body.1", "three"], "begins inside a block; .*Remedy: name 'two.0'"),
        (["one", "two", "two.1", "three"], "'two.1' at stride 2, behind 'two' at stride 2; .*leave"),
    ],
)  # fmt: skip
def test_stages_that_are_none(stages: list[str], text: str) -> None:
    with pytest.raises(TopDownError, match=text):
        planned(Staged(), stages=stages)


def test_a_stage_may_be_coarser_along_one_axis_alone() -> None:
    model = nn.Sequential(OrderedDict(
        one=nn.Sequential(nn.Conv2d(3, 8, 3, (2, 1), 1), nn.ReLU(), nn.Conv2d(8, 8, 3, 1, 1), nn.ReLU()),
        two=nn.Sequential(nn.Conv2d(8, 16, 3, (1, 2), 1), nn.ReLU(), nn.Conv2d(16, 16, 3, 1, 1), nn.ReLU()),
        pool=nn.AdaptiveAvgPool2d(1), flat=nn.Flatten(), head=nn.Linear(16, 7),
    ))  # fmt: skip
    found, named = planned(model), planned(model, stages=["one", "two"])
    assert [level.strides for level in named.levels] == [level.strides for level in found.levels]


# Levels to skip


@pytest.mark.parametrize("arrangement", ["td", "uniform", "reversed"])
@pytest.mark.parametrize("make", [chain, Staged, dense, patchify])
def test_a_skipped_level_is_only_upsampled(make: Any, arrangement: str) -> None:
    options: dict[str, Any] = {"arrangement": arrangement, "output_stride": 1}
    whole = planned(make(), **options)
    skipped = [level.stride for level in whole.levels][1:]
    td = convert(make(), **options, skip_levels=skipped)
    first, *others = td.plan.levels
    assert first == whole.levels[0]
    assert all(level.lift is None and level.merge is None for level in others)
    assert [level.stage for level in others] == [level.stage for level in whole.levels[1:]]
    assert str(td.plan).count("no lift") == len(others)
    assert "levels.1.lift" not in dict(td.named_modules())
    check_network(td, torch.rand(2, 3, 35, 29), classes=7)


def test_the_other_levels_stay_and_read_an_image_each() -> None:
    td = convert(Staged(), skip_levels=[2]).eval()
    assert [level.lift is None for level in td.plan.levels] == [False, True, False]
    image = torch.rand(2, *SIZE)
    torch.testing.assert_close(td([image, image]), td(image))
    assert not torch.allclose(td([image, torch.zeros_like(image)]), td(image))
    with pytest.raises(
        TopDownError, match=r"a sequence of 3; expected one tensor .*, or 2 of the full size"
    ):
        td([image] * 3)


@pytest.mark.parametrize(
    ("skipped", "text"),
    [
        ([4], "'skip_levels': stride 4, the coarsest level's; .*finer levels: 2 or 1.*starts from"),
        ([3], "'skip_levels': stride 3, no level's; .*finer levels: 2 or 1. Remedy: leave it out"),
    ],
)
def test_levels_that_can_not_be_skipped(skipped: list[int], text: str) -> None:
    with pytest.raises(TopDownError, match=text):
        planned(Staged(), skip_levels=skipped)


# Layers of her own


class Gate(nn.Module):
    """The lift decides how much of the coarse features passes."""

    def __init__(self, spec: MergeSpec) -> None:
        super().__init__()
        self.gate = nn.Conv2d(spec.channels, spec.channels, 1)
        self.strength = nn.Parameter(torch.full((spec.channels, 1, 1), 0.5))
        self.unit = spec.unit(2 * spec.channels)

    def forward(self, up: Tensor, lift: Tensor) -> Tensor:
        passed = up * torch.sigmoid(self.gate(lift)) * self.strength
        return self.unit(torch.cat([passed, lift], 1))


class Decoder(nn.Module):
    """A lift by two convolutions."""

    def __init__(self, spec: LiftSpec) -> None:
        super().__init__()
        self.first = nn.Conv2d(spec.image_channels, spec.channels, 3, padding=1)
        self.second = nn.Conv2d(spec.channels, spec.channels, 1)

    def forward(self, image: Tensor) -> Tensor:
        return self.second(self.first(image).relu())


def shuffled(spec: UpsampleSpec) -> nn.Module:
    conv = nn.Conv2d(spec.channels, spec.channels * spec.factor**2, 1)
    return nn.Sequential(conv, nn.PixelShuffle(spec.factor))


def averaged(spec: PyramidSpec) -> nn.Module:
    return nn.AvgPool2d(spec.stride, ceil_mode=True)


OWN: dict[str, Any] = {"merge": Gate, "lift": Decoder, "upsample": shuffled, "pyramid": averaged}


@pytest.mark.parametrize("options", [*({name: own} for name, own in OWN.items()), OWN])
@pytest.mark.parametrize("make", [chain, Staged, pre_activation])
def test_layers_of_her_own(make: Any, options: dict[str, Any]) -> None:
    td = convert(make(), **options, output_stride=1)
    check_network(td, torch.rand(2, 3, 35, 29), classes=7)
    made = {type(m) for m in td.modules()}
    for name, own in options.items():
        assert f":{own.__name__}" in str(td.plan)
        assert {"merge": Gate, "lift": Decoder, "upsample": nn.PixelShuffle}.get(
            name, nn.AvgPool2d
        ) in made
    receptive_field(td, SIZE)


def test_their_values_are_those_that_they_give_themselves() -> None:
    td = convert(Staged(), merge=Gate)
    gates = [m for m in td.modules() if isinstance(m, Gate)]
    assert len(gates) == 2
    assert all((gate.strength == 0.5).all() for gate in gates)
    assert all(gate.unit.conv.weight.std() > 0 for gate in gates)
    assert convert(Staged(), merge=Gate, device="meta").levels[1].merge.strength.is_meta
    double = convert(Staged().double(), **OWN)
    assert double(torch.rand(2, *SIZE, dtype=torch.double)).dtype == torch.double


def fails(spec: object) -> nn.Module:
    raise RuntimeError("no")


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"merge": lambda s: nn.Bilinear(1, 1, 1)}, r"'merge' \(.*<lambda>\): .*on \(2, 16, 4, 6\) and"),
        ({"lift": lambda s: nn.Conv2d(3, s.channels, 3)}, r"'lift' .*: a map \(2, \d+, 6, 10\)"),
        ({"upsample": lambda s: nn.Identity()}, r"'upsample' .*: a map \(2, \d+, 4, 6\).*\(2, \d+, 8"),
        ({"pyramid": lambda s: nn.MaxPool2d(2)}, r"'pyramid' .*a map \(2, 3, 16, 16\).*, 8, 8\)"),
        ({"merge": fails}, r"'merge' .*:fails\): RuntimeError: no"),
        ({"merge": lambda s: 3}, "'merge' .*: an? int, .*expected a torch.nn.Module"),
        ({"merge": 3}, "'merge': 3; expected 'add-concat' or 'add' or 'concat' or a function"),
        ({"lift": "stem"}, "'lift': 'stem'; expected a function. Remedy: leave lift= out"),
    ],
)  # fmt: skip
def test_layers_that_do_not_fit(options: dict[str, Any], text: str) -> None:
    with pytest.raises(TopDownError, match=text):
        convert(Staged(), **options)


def test_a_plan_from_a_file_knows_their_names(tmp_path: Path) -> None:
    td = convert(Staged(), **OWN).eval()
    save_topdown(td, tmp_path / "td.pt")
    loaded = load_topdown(tmp_path / "td.pt", Staged().eval(), **OWN)
    image = torch.rand(1, *SIZE)
    assert torch.equal(loaded(image), td(image))
    with pytest.raises(
        TopDownError, match=r"option 'merge': no function as argument; expected .*:Gate"
    ):
        load_topdown(tmp_path / "td.pt", Staged())
    with pytest.raises(
        TopDownError, match=r"option 'lift': .*:Gate as argument; expected .*:Decoder"
    ):
        load_topdown(tmp_path / "td.pt", Staged(), **{**OWN, "lift": Gate})
    plan = Plan.from_json(td.plan.to_json())
    with pytest.raises(
        TopDownError, match=r"argument '\w+': '.*:\w+', a function that the plan only"
    ):
        build(plan, Staged())
    build(dataclasses.replace(plan, options=td.plan.options), Staged())


class Chosen(nn.Module):
    """Chooses a method once, as snntorch's neurons do."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("scale", torch.tensor([2.0]))
        self.compute = self._scaled

    def forward(self, x: Tensor) -> Tensor:
        return self.compute(x)

    def _scaled(self, x: Tensor) -> Tensor:
        return x * self.scale


def test_a_module_that_keeps_a_method_of_its_own_reads_its_own_tensors() -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), Chosen(), nn.MaxPool2d(2), nn.Conv2d(8, 4, 3, padding=1),
        nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2),
    )  # fmt: skip
    td = to_topdown(model, input_size=(3, 16, 16), leaf_modules=["1"])
    kept = [module for module in td.modules() if isinstance(module, Chosen)]
    assert kept
    assert all(module.compute.__self__ is module for module in kept)
    assert td(torch.rand(2, 3, 16, 16)).isfinite().all()
