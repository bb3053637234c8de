"""What is said of a claim, and how answers for single cells make one for all of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from benchmarks.runs.jobs import Row

VERDICTS = {True: "holds", False: "does not hold", None: "undecided"}
TRENDS = {True: "trend for", False: "trend against", None: "no trend"}
# between the reasons for a trend
SLICES = "; "
LABELS = (*VERDICTS.values(), *TRENDS.values(), "not run")


@dataclass(frozen=True)
class Verdict:
    """What our rows say about a claim.

    Args:
        ours: our figure with its interval, in a sentence; empty where nothing was run.
        holds: None where that can't be said.
        reason: what decided, case by case, with "; " between them.
        slice: why the rows are only a slice of the paper's recipe ("10 of 50 epochs"): they show a
            trend then. Empty where they decide.
    """

    ours: str
    holds: bool | None
    reason: str
    slice: str = ""

    @property
    def label(self) -> str:
        """A verdict, a trend, or `not run`.

        Example:
            >>> Verdict("TD better", True, "").label, Verdict("TD better", True, "", "one epoch").label
            ('holds', 'trend for')
        """
        if not self.ours:
            return "not run"
        answer = TRENDS if self.slice else VERDICTS
        return answer[self.holds]

    @property
    def why_a_trend(self) -> str:
        """The first of the reasons for a trend, and how many more there are."""
        return shortened(self.slice)


def shortened(reasons: str) -> str:
    """The first reason, and how many more there are.

    Example:
        >>> shortened("10 of 50 epochs; batch 32 instead of 128")
        '10 of 50 epochs, and 1 more'
    """
    first, *others = reasons.split(SLICES)
    return f"{first}, and {len(others)} more" if others else first


Rule = Callable[[Sequence[Row]], Verdict]


def not_run(what: str) -> Verdict:
    """No rows to judge by."""
    return Verdict("", None, f"no results of {what}")


def all_of(found: Iterable[bool | None]) -> bool | None:
    """True where all are; False where one is; None where what is left is unknown.

    Example:
        >>> all_of([True, None]), all_of([False, None]), all_of([True])
        (None, False, True)
    """
    states = list(found)
    if False in states:
        return False
    return None if None in states else True


def any_of(found: Iterable[bool | None]) -> bool | None:
    """True where one is; False where none is; None where one that is unknown could be.

    Example:
        >>> any_of([True, None]), any_of([False, None]), any_of([False])
        (True, None, False)
    """
    states = list(found)
    if True in states:
        return True
    return None if None in states else False


def majority(states: Iterable[bool | None]) -> bool | None:
    """True where more than half are; None where those that are unknown could make it so.

    Example:
        >>> majority([True, True, None]), majority([True, None]), majority([True, False])
        (True, None, False)
    """
    found = list(states)
    true, unknown = found.count(True), found.count(None)
    if 2 * true > len(found):
        return True
    return None if 2 * (true + unknown) > len(found) else False
