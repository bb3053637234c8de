"""The skeleton: a copy of the model's structure on the meta device, which the trace works on."""

from __future__ import annotations

import copy
import inspect
import sys
from collections.abc import Iterable
from typing import Any

import torch
from torch import nn
from torch.ao.nn.quantized import FloatFunctional
from torch.nn.utils.prune import BasePruningMethod

from td_transform.errors import TraceError, first_line

# without PYTORCH_JIT, script modules are plain ones
_SCRIPTS = hasattr(torch.jit.ScriptModule, "define")


def check_convertible(model: nn.Module) -> None:
    """Refuse what no rule could handle: scripted, quantised, lazy, pruned, non-float models."""
    if not isinstance(model, nn.Module):
        raise TraceError(
            "argument 'model'", seen=f"a {type(model).__name__}", expected="a torch.nn.Module",
            remedy="pass the network itself, or a module whose forward calls it",
        )  # fmt: skip
    for path, module in model.named_modules():
        place = f"module '{path or type(model).__name__}' ({type(module).__name__})"
        if _SCRIPTS and isinstance(module, torch.jit.ScriptModule):
            raise TraceError(
                place, seen="a scripted module", expected="a plain nn.Module",
                remedy="pass the model as it was before torch.jit.script or torch.jit.trace; a class that "
                "is a torch.jit.ScriptModule is plain where PYTORCH_JIT=0 is set before torch is imported",
            )  # fmt: skip
        if ".quantized" in type(module).__module__ and type(module) is not FloatFunctional:
            raise TraceError(
                place, seen="a quantised module", expected="a floating-point model",
                remedy="convert the model before quantising it",
            )  # fmt: skip
        if any(isinstance(hook, BasePruningMethod) for hook in _pre_hooks(module)):
            raise TraceError(
                place, seen="a pruned weight", expected="plain parameters",
                remedy="call torch.nn.utils.prune.remove first",
            )  # fmt: skip
        for name, parameter in module._parameters.items():
            if parameter is not None:
                _check_parameter(f"{place}, parameter '{name}'", parameter)


def _pre_hooks(module: nn.Module) -> Iterable[object]:
    return module._forward_pre_hooks.values()


def hooks_left_out(model: nn.Module) -> tuple[str, ...]:
    """A sentence on the hooks that the user put on modules: they may read or change what passes."""
    hooked = [path for path, module in model.named_modules() if any(_own_hooks(module))]
    if not hooked:
        return ()
    more = f" and {len(hooked) - 1} more" if len(hooked) > 1 else ""
    return (f"the forward hooks of '{hooked[0] or type(model).__name__}'{more} are left out",)


def _own_hooks(module: nn.Module) -> Iterable[object]:
    for hook in (*module._forward_hooks.values(), *_pre_hooks(module)):
        owner = hook if inspect.isroutine(hook) else type(hook)
        if not str(getattr(owner, "__module__", "")).startswith("torch."):
            yield hook


def _check_parameter(place: str, parameter: nn.Parameter) -> None:
    if nn.parameter.is_lazy(parameter):
        raise TraceError(
            place, seen="an uninitialised (lazy) parameter", expected="a model with known shapes",
            remedy="run the model once on an image, then convert it",
        )  # fmt: skip
    if not parameter.is_floating_point():
        raise TraceError(
            place, seen=f"dtype {parameter.dtype}", expected="floating-point parameters",
            remedy="call model.float() first",
        )  # fmt: skip


def make_skeleton(model: nn.Module) -> nn.Module:
    """A copy of the structure on the meta device, in eval mode and without hooks."""
    memo: dict[int, Any] = {}
    for module in model.modules():
        for tensors in (module._parameters, module._buffers, vars(module)):
            for tensor in tensors.values():
                if isinstance(tensor, torch.Tensor) and id(tensor) not in memo:
                    memo[id(tensor)] = _on_meta(tensor)
        for name, value in vars(module).items():
            if "_hooks" in name and isinstance(value, dict):
                memo[id(value)] = type(value)()
    try:
        skeleton = copy.deepcopy(model, memo).eval()
    except Exception as error:
        raise TraceError(
            f"model {type(model).__name__}",
            seen=f"that it can't be copied ({first_line(error)})",
            expected="a model that copy.deepcopy takes",
            remedy="keep locks, files and generators out of its attributes, or give the module "
            "that holds them a __deepcopy__",
        ) from error
    _leave_uncompiled(skeleton)
    return skeleton


def _leave_uncompiled(skeleton: nn.Module) -> None:
    """What `torch.compile` made would be compiled anew for every size that is tried."""
    kind: Any = getattr(sys.modules.get("torch._dynamo"), "OptimizedModule", ())
    for module in skeleton.modules():
        if isinstance(module, kind):
            vars(module)["forward"] = module._orig_mod.__call__


def _on_meta(tensor: torch.Tensor) -> torch.Tensor:
    empty = torch.empty_like(tensor, device="meta", requires_grad=False)
    if isinstance(tensor, nn.Parameter):
        return nn.Parameter(empty, requires_grad=tensor.requires_grad)
    return empty
