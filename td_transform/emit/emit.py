"""Emit: a plan becomes a network, which is checked and given its values."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import nn

from td_transform.analyse import BottomUp
from td_transform.emit.check import check_graph, check_values
from td_transform.emit.costs import costed, parts
from td_transform.emit.footprint import Footprint
from td_transform.emit.graph import GraphWriter
from td_transform.emit.initialise import fill, fill_tensor, initialise, share
from td_transform.emit.network import TopDownNetwork
from td_transform.emit.placed import Placed, PlacedTensor
from td_transform.emit.recompute import choose
from td_transform.errors import unforeseen
from td_transform.layers.parameters import parameters_of
from td_transform.options import Init
from td_transform.plan import Plan


@dataclass(frozen=True)
class Draft:
    """A network on the meta device: checked, its plan with what an image costs, without values."""

    network: TopDownNetwork
    model: nn.Module
    modules: tuple[Placed, ...]
    tensors: tuple[PlacedTensor, ...]


def draft(bottom_up: BottomUp, plan: Plan) -> Draft:
    """Write the network of a plan and check it.

    Args:
        bottom_up: the analysed bottom-up model that the plan was made from.
        plan: what to build.

    Raises:
        ConversionError: what was built is not the network of the plan.
    """
    trace = bottom_up.trace
    with unforeseen(trace.model):
        writer = GraphWriter(bottom_up, plan)
        writer.write()
        tree = writer.tree
        network = TopDownNetwork(tree.root, writer.graph, plan, tuple(writer.level_ends))
        found = check_graph(network, bottom_up)
        network.plan = costed(network, found, bottom_up)
        _spare_memory(network, found)
    return Draft(network, trace.model, tuple(tree.modules), tuple(tree.tensors))


def _spare_memory(network: TopDownNetwork, found: Footprint) -> None:
    plan = network.plan
    if plan.options.memory_budget is None or plan.cost is None:
        return
    _, *levels, _ = parts(network)
    paths = [level.path for level in plan.levels]
    named = list(zip(paths, levels, strict=True))
    choice = choose(named, found, plan.cost, plan.options.memory_budget)
    network.plan = replace(plan, recomputation=choice.summary)
    network.recompute(choice.pieces)


def emit(
    draft: Draft, *, init: Init | None = None, device: Literal["meta"] | None = None
) -> TopDownNetwork:
    """Give a drafted network its values.

    Args:
        draft: the network.
        init: called on every new module (`nn.Module.apply`) after its default initialisation.
        device: `meta` leaves new layers without values.

    Raises:
        ConversionError: it would share tensors with the bottom-up model.
    """
    network, model = draft.network, draft.model
    with unforeseen(model):
        _fill(draft, device)
        check_values(network, model)
    if init is not None:
        for placed in draft.modules:
            if placed.values in ("fresh", "made"):
                initialise(placed.module, init)
    network.train(model.training)
    return network


def _fill(draft: Draft, device: Literal["meta"] | None) -> None:
    first = next(parameters_of(draft.model), None)
    home = first.device if first is not None else torch.device("cpu")
    if device is not None:
        home = torch.device(device)
    for tensor in draft.tensors:
        fill_tensor(tensor.owner, tensor.name, tensor.source, tensor.values, home)
    for placed in draft.modules:
        if placed.made is None:
            fill(placed.module, placed.source, placed.values, home)
        elif home.type != "meta":
            share(placed.module, placed.made(home))
