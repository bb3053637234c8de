"""A network that runs on tiles of an image, and gives what it gives on the whole."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor, fx, nn

from td_transform.analyse import behind_front
from td_transform.errors import TopDownError, check_positive
from td_transform.operators.registry import Gathering
from td_transform.tiles.parts import Network, Part, Reading, lent, wanted_parts
from td_transform.tiles.stretches import Stretch, stretches, tiled_nodes
from td_transform.trace import Trace, trace

_COMBINE: dict[Gathering | None, Callable[[Tensor, Tensor], Tensor]] = {
    "mean": torch.add,
    "sum": torch.add,
    "max": torch.maximum,
    "min": torch.minimum,
}


def tiled(model: nn.Module, *, tile: int | None = None, budget: int = 2**30) -> TiledNetwork:
    """A network, bottom-up or top-down, that runs on tiles of an image.

    It gives what the network gives on the whole image, up to rounding: every tile carries the halo
    that its layers read, padding stays where the image ends, and the head's global pooling is taken
    over all tiles. Every level is run by itself, tile by tile, where the budget has room for its map.

    Args:
        model: a network in eval mode that maps images (N, C, H, W) to logits or to a map; it is
            shared, not copied.
        tile: input pixels along a tile's side; by default as many as the budget allows.
        budget: bytes that maps and tiles may take at a time, without the image, its pyramid and
            the parameters.

    Raises:
        TopDownError: an option is no positive number. The network itself is looked at in its first
            run, since everything depends on the image's size.

    Example:
        >>> import torch
        >>> from torch import nn
        >>> net = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        >>> image = torch.rand(1, 3, 100, 100)
        >>> torch.allclose(tiled(net.eval(), tile=32)(image), net(image), atol=1e-6)
        True
    """
    for name, value in (("tile", tile), ("budget", budget)):
        if value is not None:
            check_positive(name, value)
    return TiledNetwork(model, tile, budget)


class TiledNetwork(nn.Module):
    """What `tiled` returns: images (N, C, H, W) to what the network gives; without gradients."""

    def __init__(self, model: nn.Module, tile: int | None, budget: int) -> None:
        super().__init__()
        self.model = model
        self.tile = tile
        self.budget = budget
        self._networks: dict[tuple[int, ...], Network] = {}

    def extra_repr(self) -> str:
        return f"tile={self.tile}, budget={self.budget:,}"

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        """
        Raises:
            TopDownError: the network trains, an operator before the global pooling reads the whole
                map (squeeze-excite, instance norm, attention), or the budget is too small.
        """
        training = next((p for p, m in self.model.named_modules() if m.training), None)
        if training is not None:
            raise TopDownError(
                f"module '{training}'", seen="training mode",
                expected="eval mode: batch statistics are those of the whole image",
                remedy="call model.eval()",
            )  # fmt: skip
        size = tuple(images.shape[1:])
        if size not in self._networks:
            self._networks[size] = Network(_on_images(trace(self.model, size, any_output=True)))
        run = _Run(self._networks[size], self.model, images, self.tile, self.budget)
        try:
            return run.result()
        except TopDownError:
            raise
        except (IndexError, RuntimeError, ValueError) as error:
            raise TopDownError(
                f"model {type(self.model).__name__}", seen=f"on tiles {type(error).__name__}: {error}",
                expected="operators whose parts fit together",
                remedy="run the network on the whole image",
            ) from error  # fmt: skip


def _on_images(traced: Trace) -> Trace:
    """The same trace, where the network's input is an image.

    Raises:
        TopDownError: the network makes an image of its input itself, which can't be done on tiles.
    """
    front = behind_front(traced).front
    if front is not None:
        raise TopDownError(
            f"model {type(traced.model).__name__}",
            seen=f"an input {front.input_size} of which {', '.join(front.steps)} make an image",
            expected="a network whose input is an image", remedy="run the network on the whole input",
        )  # fmt: skip
    return traced


class _Run:
    """One forward pass.

    Args:
        network: the model, traced at the images' size.
        model: its own modules.
        images: (N, C, H, W).
    """

    def __init__(
        self, network: Network, model: nn.Module, images: Tensor, tile: int | None, budget: int
    ) -> None:
        self._network = network
        self._images = images
        self._modules: Mapping[str, nn.Module] = dict(model.named_modules(remove_duplicate=False))
        whole, tiles, self._head = tiled_nodes(network)
        self._gathering = network.gathering(self._head)
        self._tiles = frozenset(tiles)
        self._values: dict[fx.Node, Any] = {}
        for node in whole:
            self._values[node] = self._given(node)
        self._stretches = stretches(
            network, tiles, pooled=self._gathering is not None, tile=tile, budget=budget,
            batch=len(images),
        )  # fmt: skip

    def result(self) -> Tensor:
        """What the network gives."""
        for stretch in self._stretches:
            self._run(stretch)
        output: Any = self._network.trace.graph.output_node().args[0]
        return self._value(output)  # type: ignore[no-any-return]

    def _run(self, stretch: Stretch) -> None:
        """Every tile of a stretch; the map that it started from is dropped."""
        network, target = self._network, stretch.target
        made: Tensor | None = None
        for part in stretch.parts(network):
            value = self._tile(stretch, part)
            if stretch.kept:
                if made is None:
                    made = value.new_empty(self._shape(target, network.size(target)))
                network.cut(target, made, network.whole(target), part).copy_(value)
            else:
                made = self._gathered(made, value, part)
        self._values = {n: v for n, v in self._values.items() if n not in self._tiles}
        self._values[target if stretch.kept else self._head] = made

    def _tile(self, stretch: Stretch, part: Part) -> Tensor:
        order = list(stretch.nodes)
        parts = wanted_parts(stretch.nodes, order, stretch.target, part)
        last = {n: node for node in order for n in stretch.nodes[node].sources}
        values: dict[fx.Node, Any] = {}
        for node in order:
            if node not in parts:
                continue
            values[node] = self._part(stretch.nodes[node], parts, values)
            for source in stretch.nodes[node].sources:
                if last[source] is node:
                    values.pop(source, None)
        return values[stretch.target]  # type: ignore[no-any-return]

    def _part(
        self, reading: Reading, parts: Mapping[fx.Node, Part], values: Mapping[fx.Node, Any]
    ) -> Any:
        """One node's part, from parts of its inputs."""
        network, node, wanted = self._network, reading.node, parts[reading.node]
        given = reading.needs(wanted)
        first = reading.first(given)
        sides = tuple(end - start for start, (_, end) in zip(first, wanted, strict=True))

        def argument(source: fx.Node) -> Any:
            if source in reading.sources:
                if source in values:
                    return network.cut(source, values[source], parts[source], given)
                # a copy: an operator may write into it
                whole = network.whole(source)
                return _copied(network.cut(source, self._values[source], whole, given))
            if network.is_map(source):
                return lent(self._images, self._shape(source, sides))
            return self._value(source)

        result = self._call(node, argument)
        own = tuple(
            (start, start + length)
            for start, length in zip(first, network.sides(node, result), strict=True)
        )
        if any(have < end for (_, have), (_, end) in zip(own, wanted, strict=True)):
            raise TopDownError(
                network.trace.place(node), seen=f"{own} of the map from {given} of its input",
                expected=f"{wanted}", remedy="run the network on the whole image",
            )  # fmt: skip
        return network.cut(node, result, own, wanted)

    def _gathered(self, before: Tensor | None, value: Tensor, part: Part) -> Tensor:
        """The global pooling over one more tile."""
        network, head, gathering = self._network, self._head, self._gathering
        (source,) = head.all_input_nodes
        pooled: Tensor = self._call(head, lambda n: value)
        if gathering == "mean":
            share = prod(e - s for s, e in part) / prod(network.size(source))
            pooled = pooled * share
        return pooled if before is None else _COMBINE[gathering](before, pooled)

    def _value(self, node: fx.Node) -> Any:
        """What is computed from whole maps: the head, and sizes."""
        if node not in self._values:
            if node in self._tiles:
                return lent(self._images, self._shape(node, self._network.size(node)))
            self._values[node] = self._call(node, self._value)
        return self._values[node]

    def _given(self, node: fx.Node) -> Any:
        """The image, its pyramid and the parameters."""
        if node.op == "placeholder":
            return self._images
        if node.op == "get_attr":
            return self._network.trace.tensor(str(node.target))
        return self._call(node, lambda n: self._values[n])

    def _call(self, node: fx.Node, argument: Any) -> Any:
        args, kwargs = fx.node.map_arg((node.args, dict(node.kwargs)), argument)
        target: Any = node.target
        if node.op == "call_module":
            return self._modules[target](*args, **kwargs)
        if node.op == "call_method":
            return getattr(args[0], target)(*args[1:], **kwargs)
        return target(*args, **kwargs)

    def _shape(self, node: fx.Node, sides: Sequence[int]) -> list[int]:
        """Of a map of these images with so many positions."""
        shape = list(self._network.trace.values[node].shape)
        for place, side in zip(self._network.propagation.places(node) or (), sides, strict=True):
            shape[place] = side
        return [len(self._images), *shape[1:]]


def _copied(value: Any) -> Any:
    if isinstance(value, (tuple, list)):
        return type(value)(_copied(each) for each in value)
    return value.clone()
