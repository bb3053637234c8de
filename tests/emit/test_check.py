"""Every conversion is checked: what was built is held against the plan, and errors say where."""

from __future__ import annotations

import copy
import re
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from td_transform import ConversionError, Plan, TopDownError, plan_topdown, to_topdown
from td_transform.analyse import BottomUp, analyse
from td_transform.emit import TopDownNetwork, draft
from td_transform.emit.check import check_graph
from td_transform.emit.graph import GraphWriter
from td_transform.plan import Keep
from td_transform.trace import trace

SIZE = (3, 32, 32)


def chain(*middle: nn.Module) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(), *middle,
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10),
    )  # fmt: skip


def analysed() -> tuple[BottomUp, Plan]:
    model = chain()
    return analyse(trace(model, SIZE)), plan_topdown(model, input_size=SIZE)


def test_a_level_of_another_size_than_planned() -> None:
    """A convolution that keeps its stride where the plan said that it loses it."""
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.ReLU(),
        nn.Conv2d(8, 16, 3, stride=2, padding=1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10),
    )  # fmt: skip
    bottom_up, plan = analyse(trace(model, SIZE)), plan_topdown(model, input_size=SIZE)
    last = plan.levels[-1]
    kept = tuple(
        replace(segment, nodes=tuple(replace(node, change=Keep()) for node in segment.nodes))
        for segment in last.stage
    )
    wrong = replace(plan, levels=(*plan.levels[:-1], replace(last, stage=kept)))
    with pytest.raises(
        ConversionError, match=r"\(2, 8, 16, 16\); expected \(2, 8, 32, 32\), as planned"
    ):
        draft(bottom_up, wrong)


def test_a_level_of_another_width_than_planned() -> None:
    bottom_up, plan = analysed()
    stage = plan.levels[1].stage
    wide = replace(stage[-1], width_out=99)
    wrong = replace(
        plan, levels=(plan.levels[0], replace(plan.levels[1], stage=(*stage[:-1], wide)))
    )
    with pytest.raises(ConversionError, match=r"\(2, 8, 32, 32\); expected \(2, 99, 32, 32\)"):
        draft(bottom_up, wrong)


def test_a_node_that_does_not_run_is_named_with_its_source() -> None:
    bottom_up, plan = analysed()
    head = plan.head
    nodes = tuple(
        replace(node, layer=replace(node.layer, sizes=(("in", 5), ("out", 10))))
        if node.layer is not None and node.layer.operator == "Linear"
        else node
        for node in head.nodes
    )
    with pytest.raises(ConversionError) as caught:
        draft(bottom_up, replace(plan, head=replace(head, nodes=nodes)))
    assert re.match(
        r"node '_7' in module '7'.*: in the top-down network tensors of shape \(2, 8\), with which it "
        r"does not run; in the bottom-up model they are \(2, 16\); expected",
        str(caught.value),
    )


class Positions(nn.Module):
    """Adds a table of positions to a map of the size that it was made for."""

    def __init__(self, side: int) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.zeros(8, side, side))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.table


class Crossing(nn.Module):
    """A block that lowers the resolution by a view to the sizes that it was made for."""

    def __init__(self, side: int) -> None:
        super().__init__()
        self.side = side // 2
        self.conv = nn.Conv2d(8, 16, 1)
        self.shortcut = nn.Conv2d(8, 16, 1, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        parts = x.view(x.shape[0], 8, self.side, 2, self.side, 2)
        return self.conv(parts.amax((3, 5))) + self.shortcut(x)


@pytest.mark.parametrize(
    ("middle", "stride", "remedy"),
    [
        ([Positions(16), nn.Conv2d(8, 16, 3, 2, 1)], 1, r"pass output_stride=2, .* keep their sizes"),
        ([Crossing(16)], 2, r"let a convolution or pooling .* before this code"),
        # a map without its border
        (
            [nn.Conv2d(8, 8, 3), Positions(14), nn.Conv2d(8, 16, 3, 2, 1)],
            2,
            r"pad the convolutions and poolings before .* maps of that size",
        ),
    ],
)  # fmt: skip
def test_the_remedy_is_another_stride_only_where_it_helps(
    middle: list[nn.Module], stride: int, remedy: str
) -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.ReLU(), *middle, nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10),
    )  # fmt: skip
    with pytest.raises(
        ConversionError, match=rf"Remedy: {remedy}, or register the module around this code"
    ):
        to_topdown(model, input_size=SIZE, output_stride=stride)


class Shared(nn.Module):
    """A layer that gives itself out as its copy."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.BatchNorm2d(16)

    def __deepcopy__(self, memo: dict[int, object]) -> Shared:
        return self

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x)


def test_a_layer_that_can_not_be_copied_is_refused() -> None:
    model = chain(Shared())
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(TopDownError):
        to_topdown(model, input_size=SIZE)
    torch.testing.assert_close(model.state_dict(), before)


class Idle(nn.BatchNorm2d):
    """A known operator with a parameter that its forward doesn't read."""

    def __init__(self, width: int) -> None:
        super().__init__(width)
        self.idle = nn.Parameter(torch.ones(width))


def test_a_parameter_that_the_bottom_up_model_does_not_use_either() -> None:
    td = to_topdown(chain(Idle(16)), input_size=SIZE)
    assert any(name.endswith(".idle") for name, _ in td.named_parameters())


def test_a_parameter_that_only_the_top_down_network_does_not_read() -> None:
    bottom_up, plan = analysed()
    writer = GraphWriter(bottom_up, plan)
    writer.write()
    writer.tree.root.levels[0].lift.idle = nn.Parameter(torch.ones(1, device="meta"))
    network = TopDownNetwork(writer.tree.root, writer.graph, plan, tuple(writer.level_ends))
    with pytest.raises(ConversionError, match=r"levels\.0\.lift\.idle'.*no gradient reaches it"):
        check_graph(network, bottom_up)


@pytest.mark.parametrize("training", [True, False])
def test_the_network_is_in_the_models_mode(training: bool) -> None:
    model = chain(nn.Dropout()).train(training)
    model[2].train(not training)
    td = to_topdown(model, input_size=SIZE)
    assert {m.training for m in td.modules()} == {training}
    assert model[2].training is not training


def test_level_ends_are_the_maps_of_the_levels() -> None:
    td = to_topdown(chain(), input_size=SIZE)
    nodes = {n.name: n for n in td.graph.nodes}
    assert [str(nodes[name].target) for name in td.level_ends] == [
        "levels.0.lift",
        "levels.1.stage.1",
    ]
    assert {"level_0_image", "level_1_image"} <= set(nodes)
    assert copy.deepcopy(td).level_ends == td.level_ends
