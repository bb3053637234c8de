"""Recording: a model is run once on meta tensors, and the functions that it calls are its graph.

Whatever Python can run can be recorded: loops over lists, branches, dictionaries, custom classes. What
Python decides with ordinary numbers is decided for good; so the model is recorded again for another
batch and image size, and where the two recordings differ, the notes say what is frozen.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import importlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import fx, nn

from td_transform.errors import TopDownError, TraceError, first_line
from td_transform.layers.dimensions import DIMENSIONS, by
from td_transform.layers.parameters import dtype_of_layers
from td_transform.operators import TensorInfo
from td_transform.trace.batch import write_batch
from td_transform.trace.differences import compared, difference_between
from td_transform.trace.escaping import EscapedFunctions
from td_transform.trace.input_size import axes_of, check_axes, malformed_size
from td_transform.trace.memory import Memory
from td_transform.trace.outputs import chosen, logits_of
from td_transform.trace.randomness import generators_kept
from td_transform.trace.recorder import Recorder
from td_transform.trace.sizes import UnhashableSizeError
from td_transform.trace.source import failed_line
from td_transform.trace.state import Leftover, ModuleState

_BATCH, _OTHER_BATCH, _THIRD_BATCH = 2, 4, 6


@dataclasses.dataclass(frozen=True)
class Recording:
    """A recorded model.

    Args:
        graph: the graph; `call_module` and `get_attr` targets are paths of the skeleton, and
            `node.meta` has the module stack and the user's source line (``"source"``: file:line).
        values: per node its shape (`TensorInfo`), or its value where it is no tensor.
        notes: what is frozen as the recorded image decided it, a sentence each.
        lost: what the forward does for its next call and the graph doesn't, likewise.
    """

    graph: fx.Graph
    values: Mapping[fx.Node, Any]
    notes: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()


def record(
    skeleton: nn.Module,
    input_size: tuple[int, ...],
    *,
    is_leaf: Callable[[nn.Module], bool],
    model: nn.Module | None = None,
    output: int | str | None = None,
) -> Recording:
    """Record a model's forward.

    Args:
        skeleton: the model's structure on the meta device, in eval mode; unchanged afterwards but for
            the constants that the forward brought along (``_tensor_constant0``...).
        input_size: (C, H, W) of the image.
        is_leaf: which modules are recorded as one call; their inside isn't looked at.
        model: the user's model, read where the forward asks for the value of a tensor.
        output: which of several outputs is wanted: the name of an entry of a dictionary or
            dataclass (by default ``logits``), the index in a tuple or list.

    Raises:
        TraceError: the forward fails, or works for one batch size only.
    """
    # shapes on the meta device load it, and torch 2.7's can't be loaded under a recorder
    importlib.import_module("torch._dynamo")
    state = ModuleState(skeleton)
    chances: list[str] = []
    whole: set[str] = set()

    def run(
        batch: int,
        size: tuple[int, ...],
        values: Sequence[Any] = (),
        training: bool = False,
        leftovers: Sequence[Leftover] = (),
    ) -> Recorder:
        inside = {id(skeleton.get_submodule(path)) for path in whole}

        def new_recorder(hashable: bool) -> Recorder:
            return Recorder(
                skeleton,
                lambda module: id(module) in inside or is_leaf(module),
                model,
                state,
                hashable_sizes=hashable,
                known_values=values,
                training=training,
                leftovers=leftovers,
            )

        with generators_kept() as drawn:
            recorder = _recorded(skeleton, (batch, *size), new_recorder, output)
            if (source := drawn()) is not None:
                chances.append(source)
            return recorder

    try:
        first = run(_BATCH, input_size)
    except TraceError as error:
        try:
            run(_OTHER_BATCH, input_size)
        except TopDownError:
            raise error from None
        raise _bound_to_groups(error) from error
    drawn_from = chances[:1]
    check_axes(first.writer.graph, first.writer.values, skeleton)
    again = functools.partial(run, _BATCH, input_size)
    memory = Memory(first, again)
    whole.update(memory.modules(skeleton))
    if whole:
        first = again()
        memory = Memory(first, again)
    notes = [*first.notes, *memory.notes]
    notes += [
        f"what {source} decides in eval mode is fixed as it was drawn" for source in drawn_from
    ]
    if first.asked:
        other = functools.partial(run, values=first.values_read)
        if (frozen := _frozen(first, input_size, other)) is not None:
            notes.append(frozen)
    writer = first.writer
    for name, tensor in writer.constants.items():
        skeleton.register_buffer(name, tensor, persistent=False)
    return Recording(writer.graph, writer.values, tuple(notes), memory.lost)


def _frozen(
    first: Recorder,
    input_size: tuple[int, ...],
    run: Callable[[int, tuple[int, ...]], Recorder],
) -> str | None:
    """What other recordings show to be frozen; an error where that depends on the batch.

    A forward may hold for multiples of its size only, or run at no other size: the first other size
    is a multiple, and that a second one fails is no news.
    """
    channels, *sides = input_size
    multiple = (channels, *(side * k for side, k in zip(sides, (2, 3, 4), strict=False)))
    other = (channels, *(side + k for side, k in zip(sides, (32, 96, 160), strict=False)))
    difference = compared(first, lambda: run(_OTHER_BATCH, multiple))
    if difference is None:
        with contextlib.suppress(TopDownError):
            difference = difference_between(first, run(_BATCH, other))
    elif by_batch := compared(first, lambda: run(_OTHER_BATCH, input_size)):
        difference = compared(first, lambda: run(_BATCH, multiple))
        if not _frees_batch(first, lambda batch: run(batch, input_size)):
            raise _bound_to_batch(by_batch)
    return f"frozen at images of {by(sides)}: {difference}" if difference else None


def _frees_batch(first: Recorder, run: Callable[[int], Recorder]) -> bool:
    """Are numbers written anew, which other batches show to be multiples of the batch's size?"""
    with contextlib.suppress(TopDownError):
        others = {batch: run(batch).writer for batch in (_OTHER_BATCH, _THIRD_BATCH)}
        return write_batch(first.writer, _BATCH, others)
    return False


def _bound_to_groups(error: TraceError) -> TraceError:
    return TraceError(
        error.place,
        seen=error.seen,
        expected=f"a forward that runs with {_BATCH} images as it does with {_OTHER_BATCH}",
        remedy="take all images of a batch in one group, of x.shape[0], whatever their number",
    )


def _bound_to_batch(frozen: str) -> TraceError:
    return TraceError(
        f"a batch of {_OTHER_BATCH} images instead of {_BATCH}",
        seen=frozen,
        expected="a forward that does the same for every batch size",
        remedy="let it compute with x.shape[0] (without int(), range() or loops over the batch), or "
        "pass the path of the module around it in leaf_modules, which carries it along whole",
    )


def _recorded(
    skeleton: nn.Module,
    shape: tuple[int, ...],
    new_recorder: Callable[[bool], Recorder],
    output: int | str | None,
) -> Recorder:
    """Record, with more effort where the forward needs it.

    Sizes can't be looked up in tables at first (a cache would hand out another tensor's sizes), and
    only scripted functions need torch's dispatcher listened to.
    """
    hashable = escaping = False
    while True:
        recorder = new_recorder(hashable)
        image = torch.empty(shape, device="meta", dtype=dtype_of_layers(skeleton))
        try:
            if escaping:
                with EscapedFunctions(recorder):
                    result = recorder.run(image, _input_name(skeleton))
            else:
                result = recorder.run(image, _input_name(skeleton))
            recorder.writer.finish(logits_of(chosen(result, output), recorder))
            if escaping or not recorder.writer.escaped:
                return recorder
            escaping = True
        except TopDownError:
            raise
        except Exception as error:
            hash_failed = not hashable and _caused_by(error, UnhashableSizeError)
            escaped = not escaping and recorder.writer.escaped
            if not (hash_failed or escaped):
                raise _explained(error, recorder, skeleton, shape) from error
            hashable, escaping = hashable or hash_failed, escaping or escaped


def _caused_by(error: BaseException | None, kind: type[Exception]) -> bool:
    while error is not None:
        if isinstance(error, kind):
            return True
        error = error.__cause__ or error.__context__
    return False


def _input_name(skeleton: nn.Module) -> str:
    """What the forward calls its image."""
    parameters = inspect.signature(skeleton.forward).parameters.values()
    given = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    needed = [p.name for p in given if p.default is p.empty]
    if len(needed) > 1:
        raise TraceError(
            f"inputs {needed}",
            seen=f"{len(needed)} inputs",
            expected="one image tensor (N, C, H, W)",
            remedy="wrap the model in a module whose forward takes the image alone",
        )
    return given[0].name if given else "x"


def _explained(
    error: Exception, recorder: Recorder, skeleton: nn.Module, shape: tuple[int, ...]
) -> TraceError:
    path = recorder.failed_in
    module = skeleton.get_submodule(path) if path else skeleton
    name = type(module).__name__
    check_axes(recorder.writer.graph, recorder.writer.values, skeleton)
    given = next(iter(recorder.failed_on), None)
    axes = axes_of(module)
    place = f"module '{path or name}' ({name}, {failed_line(error.__traceback__)})"
    if axes is not None and isinstance(given, TensorInfo) and len(given.shape) != axes + 2:
        if len(shape) != axes + 2:
            raise malformed_size(shape[1:], axes)
        return TraceError(
            place,
            seen=f"a tensor {given.shape}, made of an image of size {tuple(shape[1:])}",
            expected=f"one of {axes + 2} dimensions (N, C, {DIMENSIONS[axes].sides})",
            remedy="pass as input_size what the model itself reads, without the batch: the sides alone, "
            "where it puts the channels in front of them",
        )
    wanted = getattr(module, "in_channels", None)
    if isinstance(given, TensorInfo) and wanted is not None and given.shape[1:2] != (wanted,):
        return TraceError(
            place,
            seen=f"an input with {given.shape[1]} channels",
            expected=f"{wanted} channels, as its convolution has",
            remedy=f"pass input_size={_written(shape)} with the model's own channels, not "
            f"{tuple(shape[1:])}",
        )
    return TraceError(
        place,
        seen=first_line(error),
        expected=f"a model that runs on an image of size {tuple(shape[1:])}",
        remedy=f"call model.eval()(torch.zeros{shape}) yourself: where that fails too, pass the "
        f"input_size={_written(shape)} that the model is made for, or a module around it that takes an "
        "image; where it works, convert again, since layers that a forward makes are there now, or pass "
        "the path of a module around that line in leaf_modules, which carries it along whole",
    )


def _written(shape: tuple[int, ...]) -> str:
    """An input size of as many axes in letters."""
    known = DIMENSIONS.get(len(shape) - 2, DIMENSIONS[2])
    return f"(C, {known.sides})"
