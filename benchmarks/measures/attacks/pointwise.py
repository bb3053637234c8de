"""Pointwise: every pixel of a misclassified image goes back as far as the class stays wrong."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from benchmarks.errors import BenchmarkError
from benchmarks.measures.attacks.named import Distance, NamedAttack
from benchmarks.measures.attacks.search import Search, Target, l2

_HALVINGS = 10
# A round that brings an image closer by less than this share of its L2 is its last.
_WORTHWHILE = 1e-3
# Rounds are few in practice; this bounds them where a network is erratic.
_ROUNDS = 20
_SAME = 1e-8


class PointwiseAttack(Search):
    """foolbox's search (Schott et al., arXiv 1805.09190), image by image.

    It sets value by value back, as long as the image stays misclassified, and then moves the others
    as close as ten halvings find. What was tried since an image last changed is not tried again. A
    value whose smallest move (1/1024 of the way) is too much is taken to be where it belongs,
    without trying larger ones. Rounds end where they gain less than 0.1 % of the L2.

    Args:
        distance: `linf`: only a smaller largest change counts, as for the authors.
    """

    def __init__(self, *, distance: Distance = "l2") -> None:
        self.distance = distance

    def varies(self, size: Sequence[int]) -> bool:
        return True

    def search(self, target: Target) -> Tensor:
        """Unchanged where there was no start.

        Raises:
            BenchmarkError: there are no starts.
        """
        if target.starts is None:
            raise BenchmarkError(
                "PointwiseAttack", seen="no images to start from",
                expected="misclassified ones", remedy="give the attack that makes them a name in "
                "`NamedAttack.starts_from`",
            )  # fmt: skip
        rounds = _Rounds(target, target.starts)
        rounds.set_back()
        rounds.move()
        return rounds.smallest if self.distance == "linf" else rounds.found.view_as(target.images)


class _Rounds:
    """The images on their way back."""

    def __init__(self, target: Target, starts: Tensor) -> None:
        self.target = target
        self.clean = target.images.flatten(1)
        self.found = starts.flatten(1).clone()
        # values that were tried since their image last changed
        self.tried = torch.zeros_like(self.found, dtype=torch.bool)
        self.smallest = starts.clone()
        self._largest = self._changes().amax(1)

    def set_back(self) -> None:
        """Values go back to the clean image's, until no further one can."""
        for number in range(_ROUNDS):
            asked = [self._to_try(row, number) for row in range(len(self.found))]
            if not any(asked):
                return
            for rows, places in self._side_by_side(asked):
                fresh = ~self.tried[rows, places]
                self._set_back_each(rows[fresh], places[fresh])

    def move(self) -> None:
        """Values that can't go back go as far as they can."""
        self.tried.zero_()
        active = [True] * len(self.found)
        for number in range(_ROUNDS, 2 * _ROUNDS):
            before = l2(self.found - self.clean)
            asked = [self._to_try(row, number) if on else [] for row, on in enumerate(active)]
            if not any(asked):
                return
            for rows, places in self._side_by_side(asked):
                fresh = ~self.tried[rows, places]
                self._move_each(rows[fresh], places[fresh])
            gained = before - l2(self.found - self.clean)
            active = (gained > _WORTHWHILE * before).tolist()

    def _to_try(self, row: int, number: int) -> list[int]:
        """The changed values of an image that are worth a try, shuffled anew in every round."""
        open_ = (self._changes()[row] > _SAME) & ~self.tried[row]
        places = open_.nonzero().flatten().tolist()
        return [places[i] for i in self.target.draws.order(row, number, len(places))]

    def _set_back_each(self, rows: Tensor, places: Tensor) -> None:
        fooled = self._fooled(rows, places, self.clean[rows, places])
        self._keep(rows[fooled], places[fooled], self.clean[rows[fooled], places[fooled]])
        self.tried[rows[~fooled], places[~fooled]] = True

    def _move_each(self, rows: Tensor, places: Tensor) -> None:
        wrong, right = self.found[rows, places], self.clean[rows, places]
        least = right
        for _ in range(_HALVINGS):
            least = (wrong + least) / 2
        # at the end of float32's digits there is no smaller move
        movable = least != wrong
        self.tried[rows[~movable], places[~movable]] = True
        rows, places, wrong, right = (part[movable] for part in (rows, places, wrong, right))
        moves = self._fooled(rows, places, least[movable])
        self.tried[rows[~moves], places[~moves]] = True
        rows, places, wrong, right = (part[moves] for part in (rows, places, wrong, right))
        back = self._fooled(rows, places, right)
        self._keep(rows[back], places[back], right[back])
        rows, places, wrong, right = (part[~back] for part in (rows, places, wrong, right))
        for _ in range(_HALVINGS):
            middle = (wrong + right) / 2
            fooled = self._fooled(rows, places, middle)
            wrong, right = torch.where(fooled, middle, wrong), torch.where(fooled, right, middle)
        self._keep(rows, places, wrong)

    def _fooled(self, rows: Tensor, places: Tensor, values: Tensor) -> Tensor:
        """Whether images stay misclassified with one value changed, (M,)."""
        if not len(rows):
            return torch.zeros_like(rows, dtype=torch.bool)
        candidates = self.found[rows]
        candidates[torch.arange(len(rows), device=rows.device), places] = values
        shape = (len(rows), *self.target.images.shape[1:])
        return self.target.network.fooled(candidates.view(shape), rows)

    def _keep(self, rows: Tensor, places: Tensor, values: Tensor) -> None:
        self.found[rows, places] = values
        self.tried[rows] = False
        largest = self._changes()[rows].amax(1) if len(rows) else self._largest[rows]
        smaller = rows[largest < self._largest[rows]]
        self.smallest.flatten(1)[smaller] = self.found[smaller]
        self._largest[rows] = largest.minimum(self._largest[rows])

    def _changes(self) -> Tensor:
        return (self.found - self.clean).abs()

    def _side_by_side(self, asked: Sequence[Sequence[int]]) -> Iterator[tuple[Tensor, Tensor]]:
        """The first value of every image that has one, then the second...: rows and places."""
        for step in range(max(map(len, asked))):
            pairs = [(row, places[step]) for row, places in enumerate(asked) if len(places) > step]
            rows, places = torch.tensor(pairs, device=self.found.device).unbind(1)
            yield rows, places


ATTACKS = (
    NamedAttack(
        name="PointwiseAttack", title="Pointwise", panel=3, family="correlated",
        starts_from="Salt&PepperNoiseAttack", make=lambda effort: PointwiseAttack(),
        authors=lambda effort: PointwiseAttack(distance="linf"),
    ),
)  # fmt: skip
