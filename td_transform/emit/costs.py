"""What an image costs, level by level, and the warning where that is much more than it was."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from torch import fx

from td_transform.analyse import BottomUp
from td_transform.emit.footprint import Footprint, MetaRun
from td_transform.emit.network import TopDownNetwork
from td_transform.plan import Plan, PlanCost

# from this ratio to the bottom-up model's multiply-adds on, the user is warned
_MUCH = 10


def costed(network: TopDownNetwork, found: Footprint, bottom_up: BottomUp) -> Plan:
    """The network's plan with what an image costs, found in a run of the network."""
    plan, trace = network.plan, bottom_up.trace
    known: set[int] = set()
    pyramid, *levels, head = (found.work(part, known) for part in parts(network))
    run = MetaRun(trace.skeleton, trace.graph, trace.input_size)
    run.on_images()
    bottom = run.footprint.work(trace.graph.nodes, set())
    cost = PlanCost(pyramid, tuple(levels), head, bottom)
    finest = bottom_up.stages[0].stride
    # a plan that is built once more has been warned of already
    warnings = dict.fromkeys((*plan.warnings, *_warned(plan, cost, finest)))
    return replace(plan, cost=cost, warnings=tuple(warnings))


def parts(network: TopDownNetwork) -> Iterator[list[fx.Node]]:
    """The nodes of the pyramid, of each level and of the head."""
    ends = iter(network.level_ends)
    end = next(ends, None)
    part: list[fx.Node] = []
    for node in network.graph.nodes:
        part.append(node)
        if node.target == "pyramid" or node.name == end:
            yield part
            part = []
            end = next(ends, None) if node.name == end else end
    yield part


def _warned(plan: Plan, cost: PlanCost, finest: int) -> Iterator[str]:
    if cost.ratio > _MUCH and plan.options.output_stride < finest:
        yield (
            f"output_stride={plan.options.output_stride} makes {cost.ratio:.0f} times the bottom-up "
            f"model's multiply-adds and keeps {cost.memory_ratio:.0f} times its activations; "
            f"output_stride={finest} costs about what the bottom-up model costs"
        )
