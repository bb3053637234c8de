"""Grad-CAM of bottom-up and top-down networks at every level (paper, 4.3 a), through TorchCAM.

A level often ends in an addition or in a module that is called twice, where no hook can be placed.
So the network's graph is run with a probe, a module that passes its input on, behind every level;
the hooks sit on the probes, and the network's own modules never carry one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.fx.passes.shape_prop import ShapeProp, TensorMetadata

from benchmarks.errors import BenchmarkError
from benchmarks.subjects.networks import Normalised
from td_transform import TopDownNetwork
from td_transform.analyse import BottomUp, analyse
from td_transform.trace import trace

Scaling = Literal["min-max", "centred"]

# The rounding error of float32 arithmetic on a map, as a share of its largest value.
_ROUNDING = 1e-5


@dataclass(frozen=True)
class Layer:
    """A map that Grad-CAM looks at.

    Args:
        name: as in the paper's Fig. 7, from "Layer 1" on; "last" for the last map before the
            pooling.
        node: the tensor's name in the network's graph.
        size: (H, W) of the map at the image size that it was found for.
    """

    name: str
    node: str
    size: tuple[int, int]


class Explainer:
    """Grad-CAM heatmaps of one network.

    Args:
        network: a bottom-up CNN or an emitted top-down network, bare or inside `Normalised`; it is
            run in eval mode and left as it was: modes, gradients, running averages, hooks.
        input_size: (C, H, W) of the images.

    Attributes:
        layers: the maps of the paper's Fig. 7 from input to output. Bottom-up: what enters the
            first stage, unless that is the image, and the end of every stage. Top-down: what
            enters the first stage, unless that is the image, and the end of every level.
        last: the map that the head's pooling reads (paper, Fig. 8): after the classifier unit,
            where the network has one, and after a pre-activation network's last norm-act.

    Raises:
        BenchmarkError: the network has no stages (see `to_topdown`).

    Example:
        >>> from benchmarks.subjects.models import lenet_fc
        >>> explainer = Explainer(lenet_fc(), input_size=(1, 28, 28))
        >>> [(layer.name, layer.size) for layer in explainer.layers]
        [('Layer 1', (28, 28)), ('Layer 2', (14, 14)), ('Layer 3', (7, 7))]
        >>> explainer.heatmaps(torch.rand(2, 1, 28, 28), torch.tensor([3, 8])).shape
        torch.Size([3, 2, 28, 28])
    """

    layers: tuple[Layer, ...]
    last: Layer

    def __init__(self, network: nn.Module, *, input_size: tuple[int, int, int]) -> None:
        self._network = network
        self._bare = network
        if isinstance(network, Normalised):
            self._bare, input_size = network.network, (network.channels, *input_size[1:])
        self._graph, ends, head_start = _ends(self._bare, input_size)
        sizes = _map_sizes(self._bare, self._graph, input_size)
        self.layers = tuple(
            Layer(f"Layer {i}", node, sizes[node]) for i, node in enumerate(ends, start=1)
        )
        last = _last_map(self._graph, head_start, sizes)
        self.last = Layer("last", last, sizes[last])

    def heatmaps(
        self,
        images: Tensor,
        labels: Tensor,
        *,
        layers: Sequence[Layer] | None = None,
        scaling: Scaling = "min-max",
        batch: int = 128,
    ) -> Tensor:
        """What speaks for the labels, where in the image.

        Args:
            images: (N, C, H, W) with values in [0, 1].
            labels: the classes to explain, (N,).
            layers: where to look; all of `self.layers` by default.
            scaling: how a map, restored bilinearly to the image's size, is brought to [0, 1]:
                `min-max` from its minimum to its maximum; `centred`, as in the authors' published
                script, has the mean subtracted before the map is restored, is then cut at 0 and
                divided by its maximum. A map that is constant becomes 0 everywhere.
            batch: images per forward pass.

        Returns:
            Heatmaps (layers, N, H, W) with values in [0, 1].

        Raises:
            BenchmarkError: there is no such scaling.
        """
        if scaling not in get_args(Scaling):
            raise BenchmarkError(
                "argument 'scaling'", seen=repr(scaling),
                expected=" or ".join(map(repr, get_args(Scaling))),
                remedy="pass scaling='min-max', the default",
            )  # fmt: skip
        chosen = self.layers if layers is None else tuple(layers)
        probed = _with_probes(self._bare, self._graph, [layer.node for layer in chosen])
        found: list[Tensor] = []
        with _evaluating(self._network), torch.enable_grad():
            for some, classes in zip(images.split(batch), labels.split(batch), strict=True):
                maps = _torchcam_maps(probed, len(chosen), self._prepared(some), classes)
                size = images.shape[-2:]
                found.append(torch.stack([_restored(m, size, scaling) for m in maps]))
        return torch.cat(found, dim=1)

    def _prepared(self, images: Tensor) -> Tensor:
        """What the bare network reads; it takes part in the graph where no parameter does."""
        network = self._network
        ready = network.normalise(images) if isinstance(network, Normalised) else images
        return ready.detach().clone().requires_grad_()


# Where the levels are


def _ends(network: nn.Module, size: tuple[int, int, int]) -> tuple[fx.Graph, list[str], str]:
    """The graph, the names of the tensors that levels end with, and of the one the head reads."""
    if isinstance(network, TopDownNetwork):
        ends = _top_down_ends(network)
        return network.graph, ends, ends[-1]
    found = analyse(trace(network, size))
    return found.trace.graph, _bottom_up_ends(found), found.layout.head_start.name


def _bottom_up_ends(found: BottomUp) -> list[str]:
    first = found.stages[0].entry.start
    entering = [] if first is found.layout.image else [first.name]
    return [*entering, *found.level_ends[:-1], found.layout.head_start.name]


def _top_down_ends(network: TopDownNetwork) -> list[str]:
    """The first level's lift counts as a level of its own where blocks follow it."""
    first = network.plan.levels[0]
    lift = next(n.name for n in network.graph.nodes if n.target == first.lift.name)
    names = [n.name for n in network.graph.nodes]
    inside = list(network.graph.nodes)[names.index(lift) : names.index(network.level_ends[0]) + 1]
    enters_a_block = first.merge is None and any(len(n.all_input_nodes) > 1 for n in inside)
    return [lift, *network.level_ends] if enters_a_block else list(network.level_ends)


def _map_sizes(
    network: nn.Module, graph: fx.Graph, size: tuple[int, int, int]
) -> dict[str, tuple[int, int]]:
    """(H, W) of every tensor (N, C, H, W) of the graph."""
    twin = fx.GraphModule(network, _copied(graph))
    reference = next(network.parameters())
    image = torch.zeros(1, *size, dtype=reference.dtype, device=reference.device)
    with _evaluating(network), torch.no_grad():
        ShapeProp(twin).propagate(image)
    found = {n.name: n.meta.get("tensor_meta") for n in twin.graph.nodes}
    shapes = {k: tuple(v.shape) for k, v in found.items() if isinstance(v, TensorMetadata)}
    return {name: (shape[2], shape[3]) for name, shape in shapes.items() if len(shape) == 4}


def _last_map(graph: fx.Graph, head_start: str, sizes: Mapping[str, tuple[int, int]]) -> str:
    """The last map of the head that still has the resolution the head reads."""
    names: list[str] = [n.name for n in graph.nodes]
    after = names[names.index(head_start) :]
    return [name for name in after if sizes.get(name) == sizes[head_start]][-1]


# Running TorchCAM


def _with_probes(network: nn.Module, graph: fx.Graph, names: Sequence[str]) -> fx.GraphModule:
    """The network, sharing all its modules, with a probe behind each of these tensors."""
    twin = fx.GraphModule(network, _copied(graph))
    nodes = {n.name: n for n in twin.graph.nodes}
    for i, name in enumerate(names):
        twin.add_module(_probe(i), nn.Identity())
        with twin.graph.inserting_after(nodes[name]):
            probe = twin.graph.call_module(_probe(i), (nodes[name],))
        with twin.graph.inserting_after(probe):
            # what comes next may write into its input
            passed_on = twin.graph.call_function(torch.clone, (probe,))
        nodes[name].replace_all_uses_with(passed_on, delete_user_cb=lambda n, p=probe: n is not p)
    twin.recompile()
    return twin


def _probe(index: int) -> str:
    return f"probe_{index}"


def _copied(graph: fx.Graph) -> fx.Graph:
    twin = fx.Graph()
    placed: dict[fx.Node, fx.Node] = {}
    for node in graph.nodes:
        placed[node] = twin.node_copy(node, lambda n: placed[n])
    return twin


def _torchcam_maps(
    probed: fx.GraphModule, probes: int, images: Tensor, labels: Tensor
) -> list[Tensor]:
    """Grad-CAM (N, h, w) of every probe at its own resolution, not scaled."""
    from torchcam.methods import GradCAM

    names: list[nn.Module | str] = [_probe(i) for i in range(probes)]
    with GradCAM(probed, target_layer=names) as extractor:
        return extractor(labels.tolist(), probed(images), normalized=False)


def _restored(maps: Tensor, size: Sequence[int], scaling: Scaling) -> Tensor:
    """Maps (N, h, w) at the image's size, in [0, 1]."""
    if scaling == "centred":
        maps = maps - maps.mean(dim=(1, 2), keepdim=True)
    full = F.interpolate(maps[:, None], size=tuple(size), mode="bilinear")[:, 0]
    lowest = full.amin(dim=(1, 2), keepdim=True)
    above = full - lowest if scaling == "min-max" else full.clamp(min=0)
    high = above.amax(dim=(1, 2), keepdim=True)
    # what rounding leaves of a constant map is no heatmap
    noise = _ROUNDING * maps.abs().amax(dim=(1, 2), keepdim=True)
    return torch.where(high > noise, above / high, torch.zeros_like(above))


@contextmanager
def _evaluating(network: nn.Module) -> Iterator[None]:
    """Eval mode for a while; every module gets its own mode back."""
    modes = {module: module.training for module in network.modules()}
    network.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode
