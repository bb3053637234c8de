"""Channel counts as linear expressions: which width depends on which, and what a new width entails.

A width is ``const + sum(coefficient * variable)``. Every layer that sets its own output width
introduces a variable; a concatenation adds expressions, a split divides them, an addition equates
them. Solving the equations by substitution leaves the free variables; assigning those gives every
width of a inference.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple


class Variable(NamedTuple):
    """A width that something sets: a layer its output's, a slice its bound's.

    Args:
        owner: the module path or node that sets it.
        what: which of its widths.
    """

    owner: str
    what: str


# what flows into a segment
INFLOW = Variable("", "in")


@dataclass(frozen=True)
class Width:
    """A channel count as a linear expression over width variables."""

    const: Fraction = Fraction(0)
    terms: tuple[tuple[Variable, Fraction], ...] = ()

    @staticmethod
    def of(value: int) -> Width:
        return Width(Fraction(value))

    @staticmethod
    def variable(name: Variable) -> Width:
        return Width(terms=((name, Fraction(1)),))

    @property
    def variables(self) -> frozenset[Variable]:
        return frozenset(name for name, _ in self.terms)

    def __add__(self, other: Width) -> Width:
        terms = dict(self.terms)
        for name, coefficient in other.terms:
            terms[name] = terms.get(name, Fraction(0)) + coefficient
        kept = tuple(sorted((n, c) for n, c in terms.items() if c))
        return Width(self.const + other.const, kept)

    def __mul__(self, factor: Fraction | int) -> Width:
        factor = Fraction(factor)
        if not factor:
            return Width()
        return Width(self.const * factor, tuple((n, c * factor) for n, c in self.terms))

    def __sub__(self, other: Width) -> Width:
        return self + other * -1

    def evaluate(self, values: Mapping[Variable, int]) -> Fraction:
        return sum((c * values[n] for n, c in self.terms), self.const)


class Conflict(Exception):
    """Widths that can't be had: the message says what was seen."""


class Widths:
    """The width variables of a piece of graph, their bottom-up values and their equations."""

    def __init__(self) -> None:
        self.bottom_up: dict[Variable, int] = {}
        self.multiples: list[tuple[Width, int]] = []
        self._solved: dict[Variable, Width] = {}

    def variable(self, name: Variable, value: int) -> Width:
        """The variable of that name, made with its bottom-up value on first use."""
        self.bottom_up.setdefault(name, value)
        return Width.variable(name)

    def resolve(self, width: Width) -> Width:
        """The same width over free variables only."""
        while any(name in self._solved for name, _ in width.terms):
            total = Width(width.const)
            for name, coefficient in width.terms:
                total = total + self._solved.get(name, Width.variable(name)) * coefficient
            width = total
        return width

    def define(self, name: Variable, width: Width) -> None:
        """Name a width; where the name is taken already, the two have to be equal."""
        if name in self._solved or name in self.bottom_up:
            self.equate(Width.variable(name), width)
        else:
            self._solved[name] = self.resolve(width)

    def equate(self, left: Width, right: Width, *, keep: Variable = INFLOW) -> None:
        """Demand ``left == right``; the variable ``keep`` is the last to be solved for.

        Raises:
            Conflict: the two differ by a constant, whatever the variables are.
        """
        difference = self.resolve(left) - self.resolve(right)
        if not difference.terms:
            if difference.const:
                raise Conflict(f"widths that differ by {abs(difference.const)}")
            return
        name, coefficient = next(
            (term for term in difference.terms if term[0] != keep), difference.terms[0]
        )
        rest = difference - Width(terms=((name, coefficient),))
        self._solved[name] = rest * (-1 / coefficient)

    def state(self) -> tuple[int, int, int]:
        """How much is known, for `restore`."""
        return len(self.bottom_up), len(self._solved), len(self.multiples)

    def restore(self, state: tuple[int, int, int]) -> None:
        """Forget what was added since: every addition stands at the end of its table."""
        variables, solved, multiples = state
        for table, length in ((self.bottom_up, variables), (self._solved, solved)):
            while len(table) > length:
                table.popitem()
        del self.multiples[multiples:]

    def require_multiple(self, width: Width, of: int) -> None:
        """Demand that a width divides into ``of`` equal parts."""
        if of > 1:
            self.multiples.append((width, of))

    def free(self) -> list[Variable]:
        return [name for name in self.bottom_up if name not in self._solved]

    def known(self) -> list[Variable]:
        """All names, free or solved."""
        return [*self.bottom_up, *(n for n in self._solved if n not in self.bottom_up)]

    def value(self, width: Width, values: Mapping[Variable, int]) -> int | None:
        """The width under an assignment; None where it is no positive integer."""
        number = self.number(width, values)
        return number if number is not None and number > 0 else None

    def number(self, width: Width, values: Mapping[Variable, int]) -> int | None:
        """What may be negative, counted from the end: None where it is no integer."""
        result = self.resolve(width).evaluate(values)
        return int(result) if result.denominator == 1 else None

    def admits(self, values: Mapping[Variable, int]) -> bool:
        """Do all demanded divisions come out even under this assignment?"""
        return all(
            (v := self.value(width, values)) is not None and v % of == 0
            for width, of in self.multiples
        )
