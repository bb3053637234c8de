"""Find a model by the name that a user types: torchvision's, timm's, or a function of their own."""

from __future__ import annotations

import difflib
import importlib
import inspect
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any

import tyro
from torch import nn

from td_transform.errors import TopDownError

# the argument of every command
ModelName = Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="MODEL")]


def load_model(spec: str) -> nn.Module:
    """Build the untrained model of a name.

    Args:
        spec: a classifier of torchvision (`resnet18`), one of timm (`timm:resnet26`, or the bare
            name where torchvision has none of it), or `package.module:callable`, which is called
            without arguments; modules are also found in the working directory.

    Raises:
        TopDownError: there is no such model, or its library is not installed.

    Example:
        >>> from td_transform.cli.model_names import load_model
        >>> type(load_model("torch.nn:Identity")).__name__
        'Identity'
    """
    library, colon, name = spec.rpartition(":")
    if library in _LIBRARIES:
        return _from_library(spec, name, (library,))
    if colon:
        with _working_directory_first():
            return _called(spec, _from_module(f"model '{spec}'", library, name))
    return _from_library(spec, name, tuple(_LIBRARIES))


def load_function(option: str, spec: str) -> Callable[..., Any]:
    """The function ``package.module:name`` that an option names.

    Raises:
        TopDownError: there is no such function.
    """
    module_name, _, name = spec.rpartition(":")
    place = f"argument '{option}' ('{spec}')"
    with _working_directory_first():
        found = _from_module(place, module_name, name)
    if not callable(found):
        raise TopDownError(
            place, seen=f"a {type(found).__name__}", expected="a function or a class",
            remedy=f"name a function that makes a layer from a {option.capitalize()}Spec",
        )  # fmt: skip
    function: Callable[..., Any] = found
    return function


def _torchvision_models() -> list[str]:
    from torchvision import models

    return list(models.list_models(module=models))


def _torchvision_model(name: str) -> nn.Module:
    from torchvision import models

    builder = models.get_model_builder(name)
    # the slow initialisation of its older networks is lost on a model that is to be converted
    options = {"init_weights": False} if _accepts(builder, "init_weights") else {}
    model: nn.Module = builder(**options)
    return model


def _timm_models() -> list[str]:
    import timm

    # the second list has their names with the tags of trained weights, which may set other options
    return [*timm.list_models(), *timm.list_models(pretrained=True)]


def _timm_model(name: str) -> nn.Module:
    import timm

    model: nn.Module = timm.create_model(name)
    return model


# per library: the names of its models, and how one is built
_LIBRARIES: dict[str, tuple[Callable[[], list[str]], Callable[[str], nn.Module]]] = {
    "torchvision": (_torchvision_models, _torchvision_model),
    "timm": (_timm_models, _timm_model),
}


def _accepts(builder: Callable[..., Any], argument: str) -> bool:
    """Does a function have this argument, or pass it on to the class that it returns?"""
    signature = inspect.signature(builder)
    if argument in signature.parameters:
        return True
    passes_on = any(p.kind is p.VAR_KEYWORD for p in signature.parameters.values())
    built = signature.return_annotation
    known = inspect.isclass(built) and built is not inspect.Signature.empty
    return passes_on and known and argument in inspect.signature(built).parameters


def _from_library(spec: str, name: str, libraries: tuple[str, ...]) -> nn.Module:
    known: dict[str, list[str]] = {}
    for library in libraries:
        if not _is_installed(library):
            continue
        list_models, build = _LIBRARIES[library]
        known[library] = list_models()
        if name in known[library]:
            return build(name)
    missing = [library for library in libraries if library not in known]
    raise TopDownError(
        f"model '{spec}'",
        seen=f"no such model in {' or '.join(known)}" if known else "no library to look in",
        expected="a model of torchvision, timm:NAME, or package.module:callable",
        remedy=_what_to_try(name, known, missing),
    )


def _what_to_try(name: str, known: dict[str, list[str]], missing: list[str]) -> str:
    install = f"install {' or '.join(missing)} (pip install {' '.join(missing)})"
    spellings: dict[str, str] = {}
    for library, names in known.items():
        for model in names:
            spellings.setdefault(model, model if library == "torchvision" else f"timm:{model}")
    close = difflib.get_close_matches(name, spellings, n=5)
    if close:
        found = f"perhaps you mean {', '.join(spellings[model] for model in close)}"
        return f"{found}; or {install}" if missing else found
    if missing:
        return install
    return "look at torchvision.models.list_models() and timm.list_models() for their names"


def _is_installed(library: str) -> bool:
    """timm needs torchvision, too."""
    from td_transform.torchvision_cpu import import_torchvision

    try:
        import_torchvision()
        importlib.import_module(library)
    except ModuleNotFoundError as error:
        if error.name in _LIBRARIES:
            return False
        raise
    return True


def _from_module(place: str, module_name: str, path: str) -> Any:
    _check_name(place, module_name)
    try:
        found: Any = _imported(module_name)
    except Exception as error:
        missing = error.name if isinstance(error, ModuleNotFoundError) else None
        if missing is None or not f"{module_name}.".startswith(f"{missing}."):
            raise _broken(place, error) from error
        raise TopDownError(
            place, seen=f"no module named '{missing}'",
            expected="package.module:callable",
            remedy="run from the folder that holds the module, or install its package",
        ) from error  # fmt: skip
    for name in path.split("."):
        if not hasattr(found, name):
            raise TopDownError(
                place, seen=f"module '{module_name}' has no '{path}'",
                expected="the name of a callable in it", remedy=_similar(found, name),
            )  # fmt: skip
        found = getattr(found, name)
    return found


def _imported(name: str) -> ModuleType:
    """A user's module may import torchvision, which a CPU-only torch can't load by itself."""
    from td_transform.torchvision_cpu import import_torchvision, names_missing_operator

    try:
        return importlib.import_module(name)
    except RuntimeError as error:
        if not names_missing_operator(error):
            raise
    import_torchvision()
    return importlib.import_module(name)


def _check_name(place: str, module_name: str) -> None:
    if not all(part.isidentifier() for part in module_name.split(".")):
        raise TopDownError(
            place, seen=f"'{module_name}' is no module's name",
            expected="package.module:callable", remedy="write the module as in an import statement",
        )  # fmt: skip


def _similar(owner: Any, name: str) -> str:
    names = [n for n in dir(owner) if not n.startswith("_") and callable(getattr(owner, n, None))]
    close = difflib.get_close_matches(name, names, n=5)
    return f"perhaps you mean {', '.join(close)}" if close else "check the name after the colon"


def _called(spec: str, build: Any) -> nn.Module:
    """A module that stands in the file is taken as it is."""
    if isinstance(build, nn.Module):
        return build
    needed = _required(build)
    if needed is None or needed:
        raise TopDownError(
            f"model '{spec}'",
            seen=f"it needs the arguments {', '.join(needed)}" if needed else "it can't be called",
            expected="a callable without required arguments that returns an nn.Module",
            remedy="write a function that builds the model, and name that",
        )
    try:
        model = build()
    except Exception as error:
        raise _broken(f"model '{spec}'", error) from error
    if not isinstance(model, nn.Module):
        raise TopDownError(
            f"model '{spec}'", seen=f"it returns a {type(model).__name__}",
            expected="a callable that returns an nn.Module", remedy="return the model itself",
        )  # fmt: skip
    return model


def _broken(place: str, error: Exception) -> TopDownError:
    last = traceback.extract_tb(error.__traceback__)[-1]
    return TopDownError(
        place,
        seen=f"{type(error).__name__}: {error} (in {last.filename}, line {last.lineno})",
        expected="code that runs",
        remedy="mend it; with TD_TRANSFORM_TRACEBACK=1 in the environment the whole traceback is shown",
    )


def _required(build: Any) -> list[str] | None:
    """The arguments without a default; None for what can't be called."""
    if not callable(build):
        return None
    try:
        parameters = inspect.signature(build).parameters.values()
    except ValueError:
        return []
    optional = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [p.name for p in parameters if p.default is p.empty and p.kind not in optional]


@contextmanager
def _working_directory_first() -> Iterator[None]:
    """A console script's own folder stands where `python -m` has the working directory."""
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        yield
    finally:
        sys.path.remove(here)
