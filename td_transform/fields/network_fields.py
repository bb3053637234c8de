"""The receptive fields of a network's tensors, by name."""

from __future__ import annotations

import csv
import operator
import warnings
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor, fx, nn

from td_transform.analyse import behind_front
from td_transform.emit import TopDownNetwork
from td_transform.errors import TopDownError
from td_transform.fields.maps import MapField
from td_transform.fields.plot import plot_sizes, show_box
from td_transform.fields.propagate import Propagation
from td_transform.fields.rows import (
    FieldRow,
    depths_of,
    make_row,
    module_paths,
    record,
    rows_table,
    slides,
)
from td_transform.fields.tile import Box, Tile, halo, reaching, tile
from td_transform.layers.dimensions import by
from td_transform.table import Table
from td_transform.trace import Trace, make_skeleton, trace
from td_transform.transform import to_topdown

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure


class ReceptiveFields(Mapping[str, FieldRow]):
    """The rows of a network by module path or node name, in the order of the graph.

    Args:
        traced: the traced network.

    Raises:
        TopDownError: an operator is unknown, or used in a way that its rule doesn't cover.
    """

    def __init__(self, traced: Trace) -> None:
        self.trace = traced
        self.input_size = traced.input_size
        propagation = Propagation(traced)
        self._nodes = {
            n.name: n for n in traced.graph.nodes if isinstance(propagation.fields.get(n), MapField)
        }
        self._maps: dict[str, MapField] = {
            name: propagation.fields[n] for name, n in self._nodes.items()
        }
        self._slides = {n: slides(propagation, n) for n in propagation.fields}
        self._depths = depths_of(self._slides)
        self._rows = {
            name: make_row(traced, propagation, node, self._depths[node])
            for name, node in self._nodes.items()
        }

    def __getitem__(self, key: str) -> FieldRow:
        """The row of a node, or of the last node inside a module ("" is the whole model)."""
        return self._rows[self._name(key)]

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)

    def __str__(self) -> str:
        return str(self.table)

    @property
    def table(self) -> Table:
        """A row per tensor: sizes and places in input pixels."""
        return rows_table(list(self._rows.values()))

    def box(self, key: str, position: tuple[int, ...], *, gates: bool = False) -> Box:
        """The pixels that one position sees: (top, left, bottom, right), ends exclusive.

        Args:
            key: a module path or node name.
            position: (row, column) of the map, a number for each axis.
            gates: with what it sees through gates and statistics of the whole map.

        Returns:
            The first pixel along every axis, then the ends, clipped to the image; zeros for a
            position that sees only padding.

        Raises:
            TopDownError: the name or the position doesn't exist.
        """
        name = self._name(key)
        size = self._rows[name].output_size
        if not _is_within(position, size):
            raise TopDownError(
                f"position {position} of '{key}'", seen=f"a map of {by(size)} positions",
                expected="a row and a column within it" if len(size) == 2
                else f"{len(size)} numbers within it",
                remedy=f"count from {(0,) * len(size)}",
            )  # fmt: skip
        seen = [
            axis.interval(p, gates=gates)
            for axis, p in zip(self._maps[name].axes, position, strict=True)
        ]
        if (0, 0) in seen:
            return (0, 0) * len(seen)
        return (*(start for start, _ in seen), *(end for _, end in seen))

    @cached_property
    def records(self) -> list[dict[str, Any]]:
        """The rows as plain data with the columns of `to_csv`, for JSON and data frames."""
        return [record(row) for row in self._rows.values()]

    def halo(self, key: str) -> tuple[tuple[int, int], ...]:
        """How many pixels before and after its own the positions of a map see: ((top, bottom),
        (left, right)), what a tile needs around it so that no position misses anything.

        A position's own pixels are as many as the map's stride. Gates and statistics of the whole
        map don't count: no halo is enough for those, and the row says `gated`.

        Example:
            >>> rf = receptive_field(nn.Conv2d(3, 4, 5, padding=2), (3, 32, 32))
            >>> rf.halo("")
            ((2, 2), (2, 2))
        """
        return tuple(map(halo, self._maps[self._name(key)].axes))

    def tile(self, key: str, box: Box) -> Tile:
        """What to cut from the image so that a box of positions comes out as on the whole image.

        Args:
            key: a module path or node name.
            box: (top, left, bottom, right) of the map, ends exclusive.

        Returns:
            The pixels, and the positions in the map that the network makes of them. The padding of
            those that stand at the image's border is the network's own.

        Raises:
            TopDownError: the name or a position doesn't exist.

        Example:
            >>> import torch
            >>> net = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.MaxPool2d(2))
            >>> image = torch.rand(1, 3, 32, 32)
            >>> tile = receptive_field(net, (3, 32, 32)).tile("1", (4, 4, 8, 8))
            >>> tile.pixels, tile.positions
            ((6, 6, 17, 17), (1, 1, 5, 5))
            >>> part = net(image[..., 6:17, 6:17])[..., 1:5, 1:5]
            >>> torch.allclose(part, net(image)[..., 4:8, 4:8], atol=1e-6)
            True
        """
        name = self._name(key)
        row, count = self._rows[name], len(self._maps[name].axes)
        sides = zip(box[:count], box[count:], row.output_size, strict=False)
        if len(box) != 2 * count or not all(0 <= low < high <= side for low, high, side in sides):
            raise TopDownError(
                f"box {box} of '{key}'", seen=f"a map of {by(row.output_size)} positions",
                expected="the first position along every axis, then the ends, within the map",
                remedy="count from 0; ends are exclusive",
            )  # fmt: skip
        before = [self._rows[n.name] for n in self._ancestors(name) if n.name in self._rows]
        return tile(self._maps[name].axes, box, row, before)

    def reaches(self, pixel: Sequence[int], key: str) -> Box:
        """Which positions of a map see a pixel, through windows: the inverse of `box`.

        Args:
            pixel: (row, column) of the image.
            key: a module path or node name.

        Returns:
            The smallest box of positions, ends exclusive; zeros where none sees it.

        Raises:
            TopDownError: the name or the pixel doesn't exist.
        """
        size = self.input_size[1:]
        if not _is_within(pixel, size):
            raise TopDownError(
                f"pixel {pixel}", seen=f"an image of {by(size)} pixels",
                expected="a pixel of the image, a number for each axis",
                remedy=f"count from {(0,) * len(size)}",
            )  # fmt: skip
        return reaching(self._maps[self._name(key)].axes, pixel)

    def _ancestors(self, name: str) -> list[fx.Node]:
        """A node and all that it is made from."""
        found = {self._nodes[name]: None}
        for node in reversed(self.trace.graph.nodes):
            if node in found:
                found.update(dict.fromkeys(node.all_input_nodes))
        return list(found)

    def to_csv(self, path: str | Path) -> None:
        """Write the rows; pairs become two columns, sizes in input pixels."""
        with Path(path).open("w", newline="") as file:
            writer = csv.DictWriter(file, fieldnames=list(self.records[0]))
            writer.writeheader()
            writer.writerows(self.records)

    def to_pandas(self) -> pandas.DataFrame:
        """The rows as a table with the columns of `to_csv`.

        Raises:
            ImportError: pandas is not installed.
        """
        import pandas

        return pandas.DataFrame(self.records)

    def plot(
        self, path: str | Path, *, versus: ReceptiveFields | None = None, title: str | None = None
    ) -> Path:
        """Draw the sizes over depth, this network's and its top-down counterpart's.

        Args:
            path: the picture to write, in any format that matplotlib knows by its suffix.
            versus: the other network's fields; by default those of `to_topdown(model)`, and none
                for a network that is top-down itself or can't be converted.
            title: the first line.

        Raises:
            TopDownError: the suffix is unknown.
        """
        return plot_sizes(self, _counterpart(self) if versus is None else versus, path, title=title)

    def show_on(
        self,
        image: Tensor,
        key: str,
        position: tuple[int, int],
        *,
        path: str | Path | None = None,
    ) -> Figure:
        """Draw what a position of a map sees on an image (C, H, W) with values in [0, 1].

        Args:
            image: one image of the size that was analysed.
            key: a module path or node name.
            position: (row, column) of the map.
            path: also write the picture there.
        """
        return show_box(self, image, key, position, path)

    def trace_shape(self, name: str) -> tuple[int, ...]:
        """The shape of a node's output in the trace, with a batch of two."""
        shape: tuple[int, ...] = self.trace.values[self._nodes[name]].shape
        return shape

    def main_path(self) -> list[FieldRow]:
        """The rows on the longest path from the image, the one with most convolutions."""
        heights: dict[fx.Node, int] = {}
        for node in reversed(self._depths):
            below = (heights[u] + self._slides[u] for u in node.users if u in heights)
            heights[node] = max(below, default=0)
        longest = max(self._depths.values())
        nodes = self._nodes.items()
        return [self._rows[name] for name, n in nodes if self._depths[n] + heights[n] == longest]

    def _name(self, key: str) -> str:
        if key in self._rows:
            return key
        if key in self._by_path:
            return self._by_path[key]
        near = [path for path in self._by_path if path.startswith(str(key).split(".")[0])]
        raise TopDownError(
            f"name '{key}'", seen=f"a network of {len(self._rows)} nodes without it",
            expected="a module path or a node name" + (f" such as '{near[0]}'" if near else ""),
            remedy="print the receptive fields to see all names",
        )  # fmt: skip

    @cached_property
    def _by_path(self) -> dict[str, str]:
        """Per module path the last node inside it."""
        found = {"": list(self._nodes)[-1]}
        for name, node in self._nodes.items():
            for path in module_paths(node):
                parts = path.split(".")
                found.update((".".join(parts[: i + 1]), name) for i in range(len(parts)))
        return found


def fields_of(model: nn.Module, input_size: tuple[int, ...] | None = None) -> ReceptiveFields:
    """Those of a model, at an image's size (C, H, W) or at the one that it was made for."""
    if input_size is None and isinstance(model, TopDownNetwork):
        input_size = model.plan.input_size
    return ReceptiveFields(behind_front(trace(model, input_size, any_output=True)))


def _is_within(place: object, sizes: Sequence[int]) -> bool:
    """Is it a position within a map or image of these sizes?"""
    try:
        numbers = tuple(map(operator.index, place))  # type: ignore[call-overload]
    except TypeError:
        return False
    return len(numbers) == len(sizes) and all(
        0 <= number < size for number, size in zip(numbers, sizes, strict=True)
    )


def _counterpart(fields: ReceptiveFields) -> ReceptiveFields | None:
    """The fields of a bottom-up model's top-down network; None where it has none."""
    model = fields.trace.model
    if isinstance(model, TopDownNetwork):
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            td = to_topdown(make_skeleton(model), input_size=fields.trace.model_input_size)
    except TopDownError:
        return None
    return fields_of(td)
