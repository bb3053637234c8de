"""What a forward keeps for its next call (running statistics, a membrane's voltage), or does in training
alone: the graph of one run in eval mode has neither, so small modules that do so are recorded whole."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import cached_property
from itertools import groupby

from torch import nn

from td_transform.errors import TopDownError
from td_transform.layers.parameters import parameters_of
from td_transform.trace.differences import compared, difference_between
from td_transform.trace.recorder import Recorder
from td_transform.trace.state import Leftover


class Memory:
    """What a recorded graph leaves out of the forward.

    Args:
        first: the recording.
        again: records the same once more, with what the first one left, or in training mode.
    """

    def __init__(self, first: Recorder, again: Callable[..., Recorder]) -> None:
        self._first = first
        self._again = again

    def modules(self, skeleton: nn.Module) -> set[str]:
        """The paths of modules that can be carried along whole instead: without layers that learn in
        them, and without values that a recording had to ask the model for."""
        paths = [path for path, _ in self._kept]
        if self._does_more_in_training:
            paths += [path for path, _ in self._first.switches]
        if self._first.values_read:
            return set()
        return {path for path in paths if path and _is_small(skeleton.get_submodule(path))}

    @property
    def notes(self) -> Iterator[str]:
        """What is left out that no call depends on, a sentence each."""
        seen = [(each.path, each.name) for each in self._first.leftovers]
        unread = [each for each in seen if each not in self._kept]
        if unread:
            yield f"what the forward leaves in {_listed(unread)} for others to read is left out"
        if self._does_more_in_training:
            lines = ", ".join(dict.fromkeys(line for _, line in self._first.switches))
            yield f"what the model does in training alone is left out (branches at {lines})"

    @property
    def lost(self) -> tuple[str, ...]:
        """What is left out that the next call depends on."""
        if not self._kept:
            return ()
        return (
            f"what the forward keeps in {_listed(self._kept)} for its next call is lost; let a module "
            "of its own keep it, without learned layers in it: such a module is carried along whole",
        )

    @cached_property
    def _kept(self) -> list[tuple[str, str]]:
        """Module and attribute of what a next call finds, or a state dictionary has."""
        held = _held(self._first)
        others = [each for each in self._first.leftovers if not each.is_held]
        if others and compared(self._first, lambda: self._with(others)) is not None:
            held += [(each.path, each.name) for each in others]
        return held

    def _with(self, leftovers: Iterable[Leftover]) -> Recorder:
        return self._again(values=self._first.values_read, leftovers=tuple(leftovers))

    @cached_property
    def _does_more_in_training(self) -> bool:
        if not self._first.switches:
            return False
        try:
            training = self._again(training=True)
        except TopDownError:
            return True
        counts = set(_held(training)) - set(_held(self._first))
        return bool(counts) or difference_between(self._first, training) is not None


def _held(recorder: Recorder) -> list[tuple[str, str]]:
    """Module and name of the parameters and buffers that have other values than before."""
    changed = [(each.path, each.name) for each in recorder.leftovers if each.is_held]
    return [*changed, *(_parted(path) for path in recorder.writer.unwritten)]


def _parted(path: str) -> tuple[str, str]:
    module, _, name = path.rpartition(".")
    return module, name


def _is_small(module: nn.Module) -> bool:
    return all(next(parameters_of(child), None) is None for child in module.children())


def _listed(places: Iterable[tuple[str, str]]) -> str:
    """The first module with its attributes, and how many more there are."""
    modules = [
        (path, ", ".join(name for _, name in found))
        for path, found in groupby(dict.fromkeys(places), key=lambda place: place[0])
    ]
    path, names = modules[0]
    more = f" and {len(modules) - 1} more" if len(modules) > 1 else ""
    return f"module '{path}' ({names}){more}" if path else f"the model itself ({names}){more}"
