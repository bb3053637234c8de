"""The maps that Grad-CAM looks at: where the levels of a network end."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import fx, nn
from torch.fx.passes.shape_prop import ShapeProp, TensorMetadata

from td_transform import TopDownNetwork
from td_transform.analyse import BottomUp, analyse
from td_transform.trace import trace


@dataclass(frozen=True)
class Layer:
    """A map that Grad-CAM looks at.

    Args:
        name: as in the paper's Fig. 7, from "Layer 1" on.
        node: the tensor's name in the network's graph.
        size: (H, W) of the map at the image size that it was found for.
    """

    name: str
    node: str
    size: tuple[int, int]


def find_layers(
    network: nn.Module, input_size: tuple[int, int, int]
) -> tuple[fx.Graph, tuple[Layer, ...]]:
    """The network's graph, and its maps from input to output (see `Explainer.layers`).

    Args:
        network: a bottom-up CNN or an emitted top-down network, bare.
        input_size: (C, H, W) of its images.
    """
    graph, ends = _ends(network, input_size)
    sizes = _map_sizes(network, graph, input_size)
    nodes = [*ends[:-1], _last_map(graph, ends[-1], sizes)]
    return graph, tuple(
        Layer(f"Layer {i}", node, sizes[node]) for i, node in enumerate(nodes, start=1)
    )


def _ends(network: nn.Module, size: tuple[int, int, int]) -> tuple[fx.Graph, list[str]]:
    """The graph, and the names of the tensors that levels end with; the head reads the last."""
    if isinstance(network, TopDownNetwork):
        return network.graph, list(network.level_ends)
    found = analyse(trace(network, size))
    return found.trace.graph, _bottom_up_ends(found)


def _bottom_up_ends(found: BottomUp) -> list[str]:
    first = found.stages[0].entry.start
    entering = [] if first is found.layout.image else [first.name]
    return [*entering, *found.level_ends[:-1], found.layout.head_start.name]


def _map_sizes(
    network: nn.Module, graph: fx.Graph, size: tuple[int, int, int]
) -> dict[str, tuple[int, int]]:
    """(H, W) of every tensor (N, C, H, W) of the graph."""
    twin = fx.GraphModule(network, copied(graph))
    reference = next(network.parameters())
    image = torch.zeros(1, *size, dtype=reference.dtype, device=reference.device)
    with evaluating(network), torch.no_grad():
        ShapeProp(twin).propagate(image)
    found = {n.name: n.meta.get("tensor_meta") for n in twin.graph.nodes}
    shapes = {k: tuple(v.shape) for k, v in found.items() if isinstance(v, TensorMetadata)}
    return {name: (shape[2], shape[3]) for name, shape in shapes.items() if len(shape) == 4}


def _last_map(graph: fx.Graph, head_start: str, sizes: Mapping[str, tuple[int, int]]) -> str:
    """The last map of the head that still has the resolution the head reads.

    Of a network with a classifier unit that is the unit's activation. Its mean over the map is the
    logit, so what speaks for the class with the largest logit is positive somewhere; at the map
    before the unit one digit in ten has an all-black heatmap.
    """
    names: list[str] = [n.name for n in graph.nodes]
    after = names[names.index(head_start) :]
    return [name for name in after if sizes.get(name) == sizes[head_start]][-1]


def copied(graph: fx.Graph) -> fx.Graph:
    """A graph of its own, to be changed."""
    twin = fx.Graph()
    placed: dict[fx.Node, fx.Node] = {}
    for node in graph.nodes:
        placed[node] = twin.node_copy(node, lambda n: placed[n])
    return twin


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Eval mode for a while; every module gets its own mode back."""
    modes = {module: module.training for module in network.modules()}
    network.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode
