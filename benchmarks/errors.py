"""The errors of a benchmark: in the form of a conversion's, where the fault isn't a conversion's."""

from __future__ import annotations


class BenchmarkError(ValueError):
    """An option, a data set, a results folder or an argument that a benchmark can't work with.

    Args:
        place: the argument, file or job that the error is about.
        seen: what was found there.
        expected: what is needed there.
        remedy: one thing that the user can do about it.

    Example:
        >>> print(BenchmarkError("batch", seen="0", expected="1 or more", remedy="raise it"))
        batch: 0; expected 1 or more. Remedy: raise it
    """

    def __init__(self, place: str, *, seen: str, expected: str, remedy: str) -> None:
        super().__init__(f"{place}: {seen}; expected {expected}. Remedy: {remedy}")
