"""Analyse: sizes that are the same whatever the image and the widths."""

from __future__ import annotations

from torch import fx

from td_transform.operators import Inference
from td_transform.operators.widths import Width
from td_transform.trace import Trace


def write_out_numbers(trace: Trace, inference: Inference) -> None:
    """Sizes of 1 and counts of class tokens become numbers: then no region asks an earlier one for them."""
    numbers = {node for node in trace.graph.nodes if _is_number(inference, node)}
    for user in {user for node in numbers for user in node.users}:
        user.args, user.kwargs = fx.map_arg(
            (user.args, user.kwargs), lambda n: trace.values[n] if n in numbers else n
        )
    for node in numbers:
        trace.graph.erase_node(node)


def _is_number(inference: Inference, node: fx.Node) -> bool:
    dim = inference.dims.get(node)
    is_width = node.target == "size" and isinstance(dim, Width)
    return is_width and (dim == Width.of(1) or dim in inference.tokens)
