"""How the command line reads, shows and completes the options of a conversion."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from types import NoneType
from typing import Any, Literal, Union, get_args, get_origin

from tyro.constructors import ConstructorRegistry, PrimitiveConstructorSpec, PrimitiveTypeInfo

from td_transform.cli.model_names import load_function
from td_transform.layers import is_own, name_of
from td_transform.options import Options, as_keywords

REGISTRY = ConstructorRegistry()


class Offered(tuple[str, ...]):
    """Names that completion offers beside any other text, which is taken too."""

    def __contains__(self, given: object) -> bool:
        return isinstance(given, str)


@REGISTRY.primitive_rule
def name_or_function(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Any] | None:
    """A rule for such an option: one of its names, or ``package.module:function`` as text."""
    parts = get_args(info.type)
    if not any(get_origin(part) is Callable for part in parts):
        return None
    choices = next((get_args(part) for part in parts if get_origin(part) is Literal), ())
    return PrimitiveConstructorSpec(
        nargs=1,
        metavar="|".join([*choices, "MODULE:FUNCTION"]),
        instance_from_str=lambda given: given[0],
        is_instance=lambda value: value is None or isinstance(value, str) or callable(value),
        str_from_instance=lambda value: [name_of(value)] if value is not None else ["None"],
        choices=Offered(choices) if choices else None,
    )


@REGISTRY.primitive_rule
def optional(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Any] | None:
    """A rule for what may be left out: shown as what it is, without the ``None``."""
    parts = get_args(info.type)
    if NoneType not in parts:
        return None
    rest: Any = Union[tuple(part for part in parts if part is not NoneType)]  # noqa: UP007
    made = PrimitiveTypeInfo.make(rest, info.markers)
    spec = ConstructorRegistry.get_primitive_spec(made)
    if not isinstance(spec, PrimitiveConstructorSpec):
        return None
    return replace(
        spec,
        is_instance=lambda value: value is None or spec.is_instance(value),
        str_from_instance=lambda v: ["None"] if v is None else spec.str_from_instance(v),
    )


def with_functions(options: Options) -> dict[str, Any]:
    """The options as keywords, with the functions that they name.

    Raises:
        TopDownError: a function is not there.
    """
    given = as_keywords(options)
    named = {o: given[o] for o in ("merge", "lift", "upsample", "pyramid")}
    return given | {
        option: load_function(option, choice)
        for option, choice in named.items()
        if isinstance(choice, str) and is_own(choice)
    }
