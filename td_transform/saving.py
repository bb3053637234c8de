"""Save a top-down network as plain data: its plan and its weights, no code."""

from __future__ import annotations

import copy
import json
import os
import pickle
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from td_transform.emit import TopDownNetwork, check_topdown
from td_transform.errors import TopDownError
from td_transform.layers import is_own, name_of
from td_transform.layers.own import LiftFactory, MergeFactory, PyramidFactory, UpsampleFactory
from td_transform.options import as_keywords
from td_transform.plan import Plan
from td_transform.transform import to_topdown

# of a plan: what it says about the network
_NO_PART = ("warnings", "replaced", "bound", "cost", "recomputation")
_FORMAT = "td_transform.topdown/2"


def save_topdown(td: TopDownNetwork, path: str | os.PathLike[str]) -> None:
    """Write a network's plan and weights to one file, for `load_topdown`.

    Args:
        td: what `to_topdown` returned.
        path: the file; one that is there is replaced.

    Raises:
        TopDownError: ``td`` is not the network itself but a wrapper, or another module.

    Example:
        >>> import tempfile
        >>> from torch import nn
        >>> bu = nn.Sequential(
        ...     nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        ...     nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(),
        ...     nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10),
        ... )
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_topdown(to_topdown(bu, input_size=(1, 28, 28)), f"{folder}/td.pt")
        ...     td = load_topdown(f"{folder}/td.pt", bu)
        >>> td.plan.input_size
        (1, 28, 28)
    """
    check_topdown(td)
    content = {"format": _FORMAT, "plan": td.plan.to_json(), "state_dict": td.state_dict()}
    with open(path, "wb") as file:
        torch.save(content, file)


def load_topdown(
    path: str | os.PathLike[str],
    model: nn.Module,
    *,
    map_location: str | torch.device | dict[str, str] | None = None,
    merge: MergeFactory | None = None,
    lift: LiftFactory | None = None,
    upsample: UpsampleFactory | None = None,
    pyramid: PyramidFactory | None = None,
) -> TopDownNetwork:
    """Build the network that `save_topdown` wrote, with its weights.

    No code is read from the file, so that a stranger's file can do no harm: the layers come from
    the bottom-up model, which has to be the one that the network was made from. Its weights don't
    matter, and stay as they are.

    Args:
        path: the file.
        model: the bottom-up model; the network lives on its device, in its train or eval mode.
        map_location: where the file's tensors are read to, as for `torch.load`; "cpu" reads a file
            from a machine with a GPU on one without.
        merge, lift, upsample, pyramid: the functions of your own that the network was made with;
            the file only knows their names.

    Raises:
        TopDownError: a function is missing, the file is none that `save_topdown` wrote, or the
            model is another one; the text names the first difference.
        OSError: the file can't be read.

    Example:
        >>> import tempfile
        >>> from torch import nn
        >>> from td_transform import save_topdown, to_topdown
        >>> bu = nn.Sequential(
        ...     nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        ...     nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(),
        ...     nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10),
        ... )
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_topdown(to_topdown(bu, input_size=(1, 28, 28)), f"{folder}/td.pt")
        ...     len(load_topdown(f"{folder}/td.pt", bu).plan.levels)
        2
    """
    content = _read(path, map_location)
    own = {"merge": merge, "lift": lift, "upsample": upsample, "pyramid": pyramid}
    plan = _with_functions(path, _plan(path, content["plan"]), own)
    td = _build(path, plan, model)
    if plan.options.weights == "inherit":
        # the network shares parameters with the model, which loading must not write into
        td = copy.deepcopy(td)
    _load_weights(path, td, content["state_dict"])
    return td


def _read(path: str | os.PathLike[str], map_location: Any) -> dict[str, Any]:
    try:
        content = torch.load(path, map_location=map_location, weights_only=True)
    except OSError:
        raise
    except pickle.UnpicklingError as error:
        raise _not_ours(path, "objects that are no plain data, or no checkpoint at all") from error
    except Exception as error:
        first = str(error).partition("\n")[0]
        raise _not_ours(
            path, f"no readable checkpoint ({type(error).__name__}: {first})"
        ) from error
    if not isinstance(content, dict) or set(content) != {"format", "plan", "state_dict"}:
        raise _not_ours(path, "a checkpoint of another kind")
    if content["format"] != _FORMAT:
        raise _not_ours(path, f"a checkpoint of format {content['format']!r}")
    return content


def _not_ours(path: str | os.PathLike[str], seen: str) -> TopDownError:
    return TopDownError(
        f"file '{os.fspath(path)}'", seen=seen, expected=f"a file of format {_FORMAT!r}",
        remedy="write it with save_topdown(td, path) of this version of td_transform; load a bare "
        "state_dict with td.load_state_dict",
    )  # fmt: skip


def _plan(path: str | os.PathLike[str], text: Any) -> Plan:
    try:
        return Plan.from_json(text)
    except (KeyError, TypeError, ValueError) as error:
        raise _not_ours(path, "a plan of another version of td_transform") from error


def _with_functions(path: str | os.PathLike[str], plan: Plan, given: Mapping[str, Any]) -> Plan:
    """The plan with the user's functions where it has their names; no file says what is run."""
    named = {
        o: name_of(getattr(plan.options, o)) for o in given if is_own(getattr(plan.options, o))
    }
    for option, function in given.items():
        wanted, found = named.get(option), None if function is None else name_of(function)
        if wanted == found:
            continue
        _, _, name = (wanted or "").rpartition(":")
        raise TopDownError(
            f"file '{os.fspath(path)}', option '{option}'",
            seen=f"{found or 'no function'} as argument",
            expected=f"{wanted}, which the network was made with" if wanted else "none",
            remedy=f"pass {option}={name} to load_topdown" if wanted else f"leave {option}= out",
        )  # fmt: skip
    functions = {option: given[option] for option in named}
    return replace(plan, options=replace(plan.options, **functions))


def _build(path: str | os.PathLike[str], plan: Plan, model: nn.Module) -> TopDownNetwork:
    """The network of the plan, with other weights."""
    remedy = (
        f"pass the bottom-up model that the network was made from, a {plan.model}, built with the "
        "same arguments (number of classes, widths) and the same version of its library"
    )
    try:
        td = to_topdown(model, **as_keywords(plan.options))
    except TopDownError as error:
        raise TopDownError(
            f"file '{os.fspath(path)}'",
            seen=f"the given {type(model).__name__} can't be converted with its options "
            f"({error.place}: {error.seen})",
            expected=f"the {plan.model} that the network was made from",
            remedy=remedy,
        ) from error
    difference = _first_difference(_compared(plan), _compared(td.plan), "plan")
    if difference is not None:
        place, was, now = difference
        raise TopDownError(
            f"file '{os.fspath(path)}', {place}",
            seen=f"the network of the given model has {_shown(now)}",
            expected=f"{_shown(was)}, as in the file",
            remedy=remedy,
        )
    return td


def _compared(plan: Plan) -> dict[str, Any]:
    """A plan as plain data, without what is no part of the network."""
    data: dict[str, Any] = json.loads(plan.to_json())
    return {key: value for key, value in data.items() if key not in _NO_PART}


def _first_difference(stored: Any, built: Any, place: str) -> tuple[str, Any, Any] | None:
    """The first place where nested plain data differ, and what stands there."""
    stored, built = _named(stored), _named(built)
    if isinstance(stored, dict) and isinstance(built, dict):
        name = stored.get("name")
        here = f"layer '{name}'" if name is not None and name == built.get("name") else place
        keys = dict.fromkeys((*stored, *built))
        pairs = [(f"{here}, {key}", stored.get(key), built.get(key)) for key in keys]
    elif isinstance(stored, list) and isinstance(built, list):
        if len(stored) != len(built):
            return f"{place}, length", len(stored), len(built)
        pairs = [(f"{place}[{i}]", *p) for i, p in enumerate(zip(stored, built, strict=True))]
    else:
        return None if stored == built else (place, stored, built)
    found = (_first_difference(was, now, where) for where, was, now in pairs)
    return next((difference for difference in found if difference is not None), None)


def _named(data: Any) -> Any:
    """Pairs of a name and a value, as of a layer's sizes, as a dictionary."""
    pairs = isinstance(data, list) and all(
        isinstance(pair, list) and len(pair) == 2 and isinstance(pair[0], str) for pair in data
    )
    return dict(data) if pairs and data else data


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _load_weights(path: str | os.PathLike[str], td: TopDownNetwork, weights: Any) -> None:
    try:
        td.load_state_dict(weights, strict=True)
    except RuntimeError as error:
        lines = [line.strip() for line in str(error).splitlines()]
        raise TopDownError(
            f"file '{os.fspath(path)}'",
            seen=f"weights of other layers ({' '.join(lines[1:3])})",
            expected="those of the network of its plan",
            remedy="save the network as to_topdown made it, and replace layers of it after loading",
        ) from error
