"""Calls at another image size than a network was converted for, at which a node of it doesn't run."""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, fx

from td_transform.errors import TopDownError
from td_transform.layers.dimensions import by
from td_transform.layers.parameters import dtype_of_layers
from td_transform.plan import Plan
from td_transform.trace import make_skeleton


def bound_to_size(
    network: fx.GraphModule, plan: Plan, ends: Sequence[str], images: Any, error: Exception
) -> TopDownError | None:
    """The error for a network that doesn't run at the size of these images; None where that is its own,
    or isn't what it failed at (memory, devices, types).

    Args:
        network: the one that was called.
        plan: what it was built from.
        ends: the node at which each level ends.
        images: what it was called with.
        error: what came of that.
    """
    sides, own = _sides(images), tuple(plan.input_size[1:])
    if sides is None or sides == own or len(sides) != len(own) or _runs(network, images):
        return None
    place = _place(ends, network.graph, error)
    return TopDownError(
        "images",
        seen=f"{by(sides)} of them{f', at which {place} does not run' if place else ''}",
        expected="; ".join((f"{by(own)}, as the network was converted for", *plan.frozen)),
        remedy=f"pass images of {by(own)}, or convert the model with "
        f"input_size={(plan.input_size[0], *sides)} where it runs on such images itself",
    )


def _runs(network: fx.GraphModule, images: Any) -> bool:
    """Does it run on images as large as these, without their values?"""
    dtype = dtype_of_layers(network)
    try:
        with torch.no_grad(), torch.device("meta"):
            make_skeleton(network).forward(
                [torch.empty(image.shape, dtype=dtype) for image in images]
                if isinstance(images, (tuple, list))
                else torch.empty(images.shape, dtype=dtype)
            )
    except Exception:
        return False
    return True


def _sides(images: Any) -> tuple[int, ...] | None:
    """(H, W) of the images, if they are numbers (a compiler's aren't)."""
    image = images[0] if isinstance(images, (tuple, list)) and images else images
    if not isinstance(image, Tensor):
        return None
    sides = tuple(image.shape[2:])
    return sides if all(type(side) is int for side in sides) else None


def _place(ends: Sequence[str], graph: fx.Graph, error: Exception) -> str | None:
    """The node whose line of the generated code was running."""
    lines = [
        frame.line for frame in traceback.extract_tb(error.__traceback__)
        if "eval_with_key" in frame.filename and frame.line
    ]  # fmt: skip
    name = lines[-1].partition(" = ")[0].strip() if lines else ""
    names = [node.name for node in graph.nodes]
    if name not in names:
        return None
    level = sum(names.index(end) < names.index(name) for end in ends)
    where = f"level {level}" if level < len(ends) else "the head"
    return f"node '{name}' of {where}"
