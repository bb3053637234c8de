"""The options of a conversion: stated once, as a dataclass that the signatures follow."""

from __future__ import annotations

import difflib
import functools
import inspect
import operator
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from typing import (
    Any,
    Concatenate,
    Literal,
    ParamSpec,
    SupportsFloat,
    SupportsIndex,
    TypeVar,
    get_args,
    get_origin,
    get_type_hints,
)

import torch
from torch import nn

from td_transform.errors import TopDownError
from td_transform.layers import MergeKind, PyramidKind, UpsampleKind, is_own
from td_transform.layers.own import LiftFactory, MergeFactory, PyramidFactory, UpsampleFactory

Arrangement = Literal["td", "uniform", "reversed"]
Weights = Literal["fresh", "inherit"]
Init = Callable[[nn.Module], None]

P = ParamSpec("P")
Chosen = TypeVar("Chosen")
Result = TypeVar("Result")


@dataclass(frozen=True, kw_only=True)
class Options:
    """How to turn a network upside down; the defaults are the paper's.

    Args:
        input_size: (C, H, W), or (C, L) and (C, D, H, W) for networks on lines and volumes. Without
            it: the model's own configuration (timm's `pretrained_cfg`), else the first convolution's
            channels at 224 x 224 pixels; a network on lines or volumes needs it. Of a model that makes
            its maps of something else (electrodes over time, a waveform), the size of that, without
            the batch: the pyramid is of the map that its first convolution reads.
        arrangement: `td` reverses the stages with their widths, `uniform` gives all the median
            width, `reversed` keeps widths and depths in bottom-up order (paper, 3.3); blocks that
            only run at their own resolution stay with it.
        output_stride: input pixels per step of the last stage; 1 is the paper's, the bottom-up
            model's finest stride costs about what the bottom-up model costs. Along an axis that the
            bottom-up model keeps finer (a video's time), its own finest stride.
        merge: how upsampled features and lift are joined: `add-concat` (paper, Fig. 3), `add`
            or `concat`; or a function of your own that makes a module from a `MergeSpec`.
        upsample: how a map is brought to the next resolution: `nearest` (paper, 3.1), `bilinear`
            or `transposed`; or a function of an `UpsampleSpec`.
        pyramid: how the image is blurred and downsampled, see `Pyramid`; or a function that makes
            a level from a `PyramidSpec`.
        lift: a function of your own that makes a lift from a `LiftSpec`; by default lifts have the
            stem's form.
        weights: `fresh`, or `inherit` to share those of layers whose shapes agree.
        memory_budget: what training may keep for the backward pass: bytes an image, or up to 1 a
            share of what the network would keep. The finest levels are recomputed in the backward
            pass, as many as that asks for; gradients and running statistics stay the same. Under
            the `torch.compile` of a torch before 2.9 everything is kept.
        leaf_modules: paths of modules that are carried along whole; their inside isn't looked at.
        output: which of several outputs the logits are: the name of an entry of a dictionary or
            dataclass (by default `logits`), the index in a tuple or list.
        stages: paths of the modules that hold the stages, from fine to coarse; what stands before
            the first is the stem. By default they are found: a stage begins where the resolution
            falls.
        skip_levels: strides of levels, as the plan shows them, that get no lift and no merge: the
            map is only upsampled there and goes on.

    Raises:
        TopDownError: an option has a value that is not offered.
    """

    input_size: tuple[int, ...] | None = None
    arrangement: Arrangement = "td"
    output_stride: int = 1
    merge: MergeKind | MergeFactory = "add-concat"
    upsample: UpsampleKind | UpsampleFactory = "nearest"
    pyramid: PyramidKind | PyramidFactory = "gaussian"
    lift: LiftFactory | None = None
    weights: Weights = "fresh"
    memory_budget: float | None = None
    leaf_modules: tuple[str, ...] = ()
    output: int | str | None = None
    stages: tuple[str, ...] = ()
    skip_levels: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        for several in ("leaf_modules", "stages", "skip_levels"):
            object.__setattr__(self, several, _several(several, getattr(self, several)))
        if isinstance(self.output_stride, SupportsIndex):
            object.__setattr__(self, "output_stride", operator.index(self.output_stride))
        for name, hint in get_type_hints(type(self)).items():
            _check_choice(name, getattr(self, name), hint)
        if not isinstance(self.output_stride, int) or self.output_stride < 1:
            raise TopDownError(
                "argument 'output_stride'", seen=repr(self.output_stride),
                expected="a positive integer", remedy="pass output_stride=1, the default",
            )  # fmt: skip
        budget = self.memory_budget
        if budget is not None and not (isinstance(budget, SupportsFloat) and budget > 0):
            raise TopDownError(
                "argument 'memory_budget'", seen=repr(budget),
                expected="bytes an image, or a share up to 1", remedy="pass memory_budget=0.5",
            )  # fmt: skip


def _several(name: str, value: Any) -> tuple[Any, ...]:
    """A path or stride alone stands for a tuple of one."""
    if isinstance(value, str | int):
        return (value,)
    if not isinstance(value, Iterable):
        raise TopDownError(
            f"argument '{name}'", seen=repr(value), expected="a tuple", remedy="leave it out"
        )
    return tuple(value)


def _check_choice(name: str, value: object, hint: object) -> None:
    """One of the named kinds, or a function where the hint admits one."""
    parts = (hint, *get_args(hint))
    choices = next((get_args(part) for part in parts if get_origin(part) is Literal), ())
    takes_function = any(get_origin(part) is Callable for part in parts)
    is_default = value is None and type(None) in parts
    admitted = is_default or value in choices or (takes_function and is_own(value))
    if (choices or takes_function) and not admitted:
        expected = [*map(repr, choices), *(["a function"] if takes_function else [])]
        raise TopDownError(
            f"argument '{name}'", seen=repr(value), expected=" or ".join(expected),
            remedy=f"pass {name}={choices[0]!r}, the default" if choices else f"leave {name}= out",
        )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Conversion(Options):
    """The options of a network that is built, too.

    Args:
        init: called on every new module after its default initialisation, as by `nn.Module.apply`.
        device: `meta` leaves new layers without values, for those who load them afterwards with
            `load_state_dict(..., assign=True)`; by default they get some, on the model's device.
    """

    init: Init | None = None
    device: Literal["meta"] | None = None

    def __post_init__(self) -> None:
        if self.device not in (None, "meta"):
            raise TopDownError(
                "argument 'device'", seen=repr(self.device), expected="None or 'meta'",
                remedy="call td.to(device) on the result, or convert a model that lives there",
            )  # fmt: skip
        super().__post_init__()


def keywords(
    options: Callable[P, Chosen],
) -> Callable[[Callable[[nn.Module, Chosen], Result]], Callable[Concatenate[nn.Module, P], Result]]:
    """Makes ``function(model, options)`` a function of a model and the options' fields."""

    def decorate(
        function: Callable[[nn.Module, Chosen], Result],
    ) -> Callable[Concatenate[nn.Module, P], Result]:
        own = inspect.signature(options)

        @functools.wraps(function)
        def called(model: nn.Module, *args: P.args, **kwargs: P.kwargs) -> Result:
            if args:
                raise _by_position(args[0], next(iter(own.parameters)))
            for name in kwargs:
                if name not in own.parameters:
                    raise _unknown(name, list(own.parameters))
            # what inference mode makes could never be trained
            with torch.inference_mode(mode=False):
                return function(model, options(*args, **kwargs))

        called.__doc__ = _documented(function.__doc__ or "", options)
        model = next(iter(inspect.signature(function).parameters.values()))
        called.__signature__ = inspect.Signature(  # type: ignore[attr-defined]
            [model, *own.parameters.values()],
            return_annotation=inspect.signature(function).return_annotation,
        )
        return called  # type: ignore[return-value]

    return decorate


def _documented(doc: str, options: Callable[..., object]) -> str:
    """The documentation with that of the options' fields in the place of the line on `options`."""
    entries = "\n".join(
        cls.__doc__.partition("Args:\n")[2].partition("\n\n")[0].rstrip()
        for cls in reversed(getattr(options, "__mro__", ()))
        if cls is not object and cls.__doc__
    )
    return re.sub(r" +options: .*\n", lambda _: f"{entries}\n", doc)


def _by_position(given: object, name: str) -> TopDownError:
    return TopDownError(
        "arguments", seen=f"{given!r} behind the model, without a name",
        expected="options by name alone", remedy=f"write {name}={given!r}, if that is what you mean",
    )  # fmt: skip


def _unknown(name: str, known: list[str]) -> TopDownError:
    close = difflib.get_close_matches(name, known, n=1)
    return TopDownError(
        f"argument '{name}'", seen="an option that there is not", expected=", ".join(known),
        remedy=f"perhaps you mean {close[0]}" if close else "leave it out",
    )  # fmt: skip


def shaping(options: Options) -> Options:
    """Those options that shape the network, without those that only build it."""
    return Options(**as_keywords(options))


def as_keywords(options: Options) -> dict[str, Any]:
    """Those that shape the network, as `to_topdown` and `plan_topdown` take them."""
    return {field.name: getattr(options, field.name) for field in fields(Options)}
