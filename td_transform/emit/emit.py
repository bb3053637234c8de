"""Emit: a plan becomes a network, which is checked and given its values."""

from __future__ import annotations

import torch
from torch import nn

from td_transform.analyse import BottomUp
from td_transform.emit.check import check_graph, check_values
from td_transform.emit.graph import GraphWriter
from td_transform.emit.initialise import fill, fill_tensor
from td_transform.emit.network import TopDownNetwork
from td_transform.errors import unforeseen
from td_transform.options import Init
from td_transform.plan import Plan


def emit(bottom_up: BottomUp, plan: Plan, *, init: Init | None = None) -> TopDownNetwork:
    """Build the network of a plan.

    Args:
        bottom_up: the analysed bottom-up model that the plan was made from.
        plan: what to build.
        init: called on every new module (`nn.Module.apply`) after its default initialisation.

    Raises:
        ConversionError: what was built is not the network of the plan.
    """
    model = bottom_up.trace.model
    with unforeseen(model):
        writer = GraphWriter(bottom_up, plan)
        writer.write()
        network = TopDownNetwork(writer.root, writer.graph, plan, tuple(writer.level_ends))
        check_graph(network, bottom_up)
        _fill(writer, model)
        check_values(network, model)
    if init is not None:
        for placed in writer.modules:
            if placed.values == "fresh":
                placed.module.apply(init)
    network.train(model.training)
    return network


def _fill(writer: GraphWriter, model: nn.Module) -> None:
    first = next(model.parameters(), None)
    device = first.device if first is not None else torch.device("cpu")
    for tensor in writer.tensors:
        fill_tensor(tensor.owner, tensor.name, tensor.source, tensor.values, device)
    for placed in writer.modules:
        fill(placed.module, placed.source, placed.values, device)
