"""The skeleton: a copy of the model's structure on the meta device, which the trace works on."""

from __future__ import annotations

import copy
import inspect
import sys
from collections.abc import Iterable
from typing import Any

import torch
from torch import fx, nn
from torch.ao.nn.quantized import FloatFunctional
from torch.nn.parallel import DistributedDataParallel
from torch.nn.utils.prune import BasePruningMethod
from torch.utils._python_dispatch import is_traceable_wrapper_subclass

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
        if _quantises(type(module)):
            raise TraceError(
                place, seen="a quantised module", expected="a floating-point model",
                remedy="convert the model before quantising it",
            )  # fmt: skip
        if isinstance(module, fx.GraphModule) and _is_exported(module.graph):
            raise TraceError(
                place, seen="an exported program, in which modules and modes are gone",
                expected="a model of modules", remedy="convert the model before torch.export",
            )  # fmt: skip
        if any(isinstance(hook, BasePruningMethod) for hook in _pre_hooks(module)):
            raise TraceError(
                place, seen="a pruned weight", expected="plain parameters",
                remedy="call torch.nn.utils.prune.remove first",
            )  # fmt: skip
        for name, parameter in module._parameters.items():
            if parameter is not None:
                _check_parameter(f"{place}, parameter '{name}'", parameter)


def _quantises(kind: type[nn.Module]) -> bool:
    """A layer of torch's that computes with integers, or learns to."""
    package = kind.__module__.split(".")
    ours = package[0] == "torch" and bool({"quantized", "qat"}.intersection(package))
    return ours and kind is not FloatFunctional


def _is_exported(graph: fx.Graph) -> bool:
    """Does it compute with what stands behind torch's functions?"""
    return any(isinstance(node.target, torch._ops.OpOverload) for node in graph.nodes)


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
    if is_traceable_wrapper_subclass(parameter):
        raise TraceError(
            place, seen=f"a {type(parameter).__name__}", expected="plain parameters",
            remedy="convert the model before it is sharded or quantised",
        )  # fmt: skip
    if parameter.is_complex():
        raise TraceError(
            place, seen=f"dtype {parameter.dtype}", expected="parameters of real numbers",
            remedy="keep pairs of numbers, and call torch.view_as_complex in the model's forward",
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
        skeleton = copy.deepcopy(model, memo)
        skeleton.eval()  # one of the model's own may return nothing
    except Exception as error:
        raise TraceError(
            f"model {type(model).__name__}",
            seen=f"that it can't be copied ({first_line(error)})",
            expected="a model that copy.deepcopy takes",
            remedy="keep locks, files and generators out of its attributes, or give the module "
            "that holds them a __deepcopy__",
        ) from error
    _unwrap(skeleton)
    return skeleton


def _unwrap(skeleton: nn.Module) -> None:
    """What `torch.compile` made would be compiled anew for every size that is tried; what shares
    gradients among processes computes as what it holds."""
    compiled: Any = getattr(sys.modules.get("torch._dynamo"), "OptimizedModule", ())
    for module in skeleton.modules():
        if isinstance(module, compiled):
            vars(module)["forward"] = module._orig_mod.__call__
        elif isinstance(module, DistributedDataParallel):
            vars(module)["forward"] = module.module.__call__


def _on_meta(tensor: torch.Tensor) -> torch.Tensor:
    empty = torch.empty_like(tensor, device="meta", requires_grad=False)
    if isinstance(tensor, nn.Parameter):
        return nn.Parameter(empty, requires_grad=tensor.requires_grad)
    return empty
