"""Stretches: a network cut where one map lives, so that each stretch runs tile by tile on its own.

The maps between stretches are kept whole. Few cuts keep little, but tiles then overlap by the fields
of many layers; so a network is cut wherever a level ends, as far as the budget goes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, prod

from torch import fx

from td_transform.errors import TopDownError
from td_transform.tiles.parts import Network, Part, Reading, wanted_parts

# of the budget, what a map that is kept whole may take
_KEPT = 0.6
# what a convolution takes besides its maps: torch lays input and output out in blocks
_WORKSPACE = 2


@dataclass(frozen=True)
class Stretch:
    """Nodes that are run tile by tile.

    Args:
        nodes: how each is run on parts, in order.
        target: the map that they make.
        kept: is that map kept whole? The last one is pooled instead.
        tile: its positions per tile, along each axis.
        bytes: what one image's tile needs at most, besides the maps that are kept whole.
    """

    nodes: dict[fx.Node, Reading]
    target: fx.Node
    kept: bool
    tile: tuple[int, ...]
    bytes: int

    def parts(self, network: Network) -> list[Part]:
        """The tiles of its target."""
        size = network.size(self.target)
        starts: list[Part] = [()]
        for side, length in zip(size, self.tile, strict=True):
            spans = [(s, min(s + length, side)) for s in range(0, side, length)]
            starts = [(*part, span) for part in starts for span in spans]
        return starts


def tiled_nodes(network: Network) -> tuple[list[fx.Node], list[fx.Node], fx.Node]:
    """What is at hand as whole maps, what is run on tiles, and where the head starts.

    Returns:
        The image, its pyramid and the parameters; the nodes on tiles, in order; and the global
        pooling, or the network's output where that is a map.

    Raises:
        TopDownError: the output is no tensor.
    """
    output = network.trace.graph.output_node().args[0]
    if not isinstance(output, fx.Node):
        raise TopDownError(
            f"output {output}", seen="several outputs", expected="one tensor",
            remedy="wrap the network in a module whose forward returns one of them",
        )  # fmt: skip
    whole: list[fx.Node] = []
    tiles: list[fx.Node] = []
    for node in network.nodes:
        at_hand = all(n in whole for n in node.all_input_nodes)
        if node.op in ("placeholder", "get_attr") or (at_hand and network.is_pyramid(node)):
            whole.append(node)
        elif network.is_number(node):
            continue
        elif network.gathering(node) and _is_all_that_follows(network, node, tiles, output):
            return whole, tiles, node
        else:
            tiles.append(node)
        if node is output:
            break
    return whole, tiles, output


def _is_all_that_follows(
    network: Network, node: fx.Node, tiles: Sequence[fx.Node], output: fx.Node
) -> bool:
    """Does the output read the maps before a node only through that node?"""
    before = set(tiles)
    seen: set[fx.Node] = set()
    open_ = [output]
    while open_:
        current = open_.pop()
        if current in before:
            return False
        if current is not node and current not in seen and not network.is_number(current):
            seen.add(current)
            open_ += current.all_input_nodes
    return True


def ends(network: Network, tiles: Sequence[fx.Node]) -> list[fx.Node]:
    """The last map of each resolution that lives alone, in order."""
    order = {node: i for i, node in enumerate(tiles)}
    last_use = {
        node: max((order.get(user, len(order)) for user in node.users), default=len(order))
        for node in tiles
    }
    alone: list[fx.Node] = []
    reach = 0
    for i, node in enumerate(tiles):
        if reach <= i and network.is_map(node):
            alone.append(node)
        reach = max(reach, last_use[node])
    sizes = [*map(network.size, alone), None]
    return [node for i, node in enumerate(alone) if sizes[i] != sizes[i + 1]]


def stretches(
    network: Network,
    tiles: Sequence[fx.Node],
    *,
    pooled: bool,
    tile: int | None,
    budget: int,
    batch: int,
) -> list[Stretch]:
    """A network's stretches.

    Args:
        tiles: the nodes that are run on tiles.
        pooled: is what they make pooled, tile by tile?
        tile: input pixels along each side; by default the largest that the budget allows.
        budget: bytes.
        batch: images.

    Raises:
        TopDownError: a node needs the whole map, or even the smallest tile is over the budget.
    """
    readings = {node: network.reading(node) for node in tiles}
    found: list[Stretch] = []
    held, start = 0, 0
    cuts = [n for n in ends(network, tiles) if batch * _whole(network, n) <= _KEPT * budget]
    for target in dict.fromkeys([*cuts, *tiles[-1:]]):
        end = tiles.index(target) + 1
        own = {node: readings[node] for node in tiles[start:end]}
        kept = target is not tiles[-1] or not pooled
        made = batch * _whole(network, target) if kept else 0
        room = max(budget - held - made, 0) // batch
        found.append(_stretch(network, own, target, kept=kept, tile=tile, room=room))
        held, start = made, end
    return found


def _whole(network: Network, node: fx.Node) -> int:
    return network.bytes_per_position(node) * prod(network.size(node))


def _stretch(
    network: Network,
    nodes: dict[fx.Node, Reading],
    target: fx.Node,
    *,
    kept: bool,
    tile: int | None,
    room: int,
) -> Stretch:
    size, image = network.size(target), network.trace.input_size[1:]
    largest = max(image) if tile is None else tile
    while True:
        # pixels to positions; a tile has one position at least
        sides = tuple(
            max(1, ceil(largest * count / side)) for count, side in zip(size, image, strict=True)
        )
        needed = _bytes(network, nodes, target, sides)
        if tile is not None or needed <= room:
            return Stretch(nodes, target, kept, sides, needed)
        if max(sides) == 1:
            raise TopDownError(
                "argument 'budget'", seen=f"{room:,} bytes an image for the tiles up to "
                f"node '{target.name}'",
                expected=f"at least {needed:,}, for tiles of one position",
                remedy="pass fewer images at a time, a larger budget, or pass tile=",
            )  # fmt: skip
        largest = ceil(largest / 2)


def _bytes(
    network: Network, nodes: dict[fx.Node, Reading], target: fx.Node, tile: tuple[int, ...]
) -> int:
    """What a tile in the middle of the map needs at most."""
    size = network.size(target)
    part = tuple(
        ((side - length) // 2, (side - length) // 2 + min(length, side))
        for side, length in zip(size, tile, strict=True)
    )
    order = list(nodes)
    parts = wanted_parts(nodes, order, target, part)
    last = {source: i for i, node in enumerate(order) for source in nodes[node].sources}
    live: dict[fx.Node, int] = {}
    most = 0
    for i, node in enumerate(order):
        if node not in parts:
            continue
        live[node] = network.bytes_per_position(node) * prod(e - s for s, e in parts[node])
        given = nodes[node].needs(parts[node])
        inputs = sum(
            network.bytes_per_position(n) * prod(e - s for s, e in given)
            for n in nodes[node].sources
        )
        most = max(most, sum(live.values()) + _WORKSPACE * (inputs + live[node]))
        live = {n: size for n, size in live.items() if last.get(n, -1) > i or n is target}
    return most
