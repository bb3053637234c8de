"""The errors users see: each names the place, what was seen, what was expected and one remedy."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager


class TopDownError(ValueError):
    """A model, an input or an option that cannot be turned upside down.

    Args:
        place: the node, module path and source line, or the argument, that the error is about.
        seen: what was found there.
        expected: what the rules need there.
        remedy: one thing that the user can do about it.
    """

    def __init__(self, place: str, *, seen: str, expected: str, remedy: str) -> None:
        self.place = place
        self.seen = seen
        self.expected = expected
        self.remedy = remedy
        super().__init__(f"{place}: {seen}; expected {expected}. Remedy: {remedy}")


class TraceError(TopDownError):
    """The model could not be turned into a graph."""


class UnknownOperatorError(TopDownError):
    """The graph holds an operator that the registry does not know."""


class WidthConflictError(TopDownError):
    """Two channel counts that have to agree cannot both be had."""


class ConversionError(TopDownError):
    """The network was planned, but what was built is not the network of the plan.

    Args:
        node: the bottom-up node whose copy doesn't run, where it is one.
        level: the number of the level that doesn't run, or comes out otherwise than planned.
    """

    def __init__(
        self,
        place: str,
        *,
        seen: str,
        expected: str,
        remedy: str,
        node: str | None = None,
        level: int | None = None,
    ) -> None:
        super().__init__(place, seen=seen, expected=expected, remedy=remedy)
        self.node = node
        self.level = level


class StructureError(TopDownError):
    """The graph has no stages that could be reversed."""


def check_positive(argument: str, value: object) -> None:
    """Counts and sizes.

    Raises:
        TopDownError: the value is no positive integer.
    """
    if not isinstance(value, int) or value < 1:
        raise TopDownError(
            f"argument '{argument}'", seen=repr(value), expected="a positive integer",
            remedy="leave it out",
        )  # fmt: skip


def first_line(error: Exception) -> str:
    """What torch or a user's own code raised, in one line."""
    return f"{type(error).__name__}: {error}".splitlines()[0]


@contextmanager
def unforeseen(model: object) -> Iterator[None]:
    """Whatever no rule foresaw has a type and a text that say so."""
    try:
        yield
    except TopDownError:
        raise
    except Exception as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        raise ConversionError(
            f"model {type(model).__name__}",
            seen=f"{first_line(error)} (in {last.name})",
            expected="a network that the rules cover, or an error that names what they don't",
            remedy="report this text with the model's code: it is a defect of td_transform",
        ) from error
