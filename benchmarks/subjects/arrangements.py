"""The networks that are compared: a bottom-up model, and what `to_topdown` makes of it."""

from __future__ import annotations

from typing import Literal, get_args

Arrangement = Literal["bu", "td", "uniform", "reversed"]

# in the paper's order
ARRANGEMENTS: tuple[Arrangement, ...] = get_args(Arrangement)
# what the paper compares
PAIR: tuple[Arrangement, Arrangement] = ("bu", "td")
ARRANGEMENT_TITLES: dict[str, str] = dict(
    zip(ARRANGEMENTS, ("BU", "TD", "TD_uni", "TD_rev"), strict=True)
)
