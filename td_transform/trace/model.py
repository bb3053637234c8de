"""Trace: a model becomes a graph with shapes, without touching the model.

The graph is made from a skeleton: a copy of the model's structure whose parameters live on the meta
device, in eval mode (so that auxiliary heads stay out). Module-level `torch.fx` tracing keeps the
user's modules and names; the leaves are the modules that the operator registry knows.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn

from td_transform.errors import TraceError
from td_transform.operators import TensorInfo, node_operator
from td_transform.operators.rules import keep
from td_transform.trace.symbolic import Tracer, decided_graph, defaults_of


@dataclass(frozen=True)
class Trace:
    """A traced model.

    Args:
        graph: the graph; `call_module` targets are module paths of the model.
        skeleton: the model's structure on the meta device.
        model: the user's own model, only ever read.
        values: per node its shape (`TensorInfo`), or its value where it is no tensor.
        input_size: (C, H, W).
        decisions: the outcomes of control flow on sizes at that input size.
    """

    graph: fx.Graph
    skeleton: nn.Module
    model: nn.Module
    values: Mapping[fx.Node, Any]
    input_size: tuple[int, int, int]
    decisions: tuple[bool, ...] = ()

    def module(self, node: fx.Node) -> nn.Module | None:
        """The module that a node calls, None for functions and methods."""
        if node.op != "call_module":
            return None
        return self.skeleton.get_submodule(str(node.target))

    def place(self, node: fx.Node) -> str:
        """Where a node stands in the user's code: its name, module path and source line."""
        stack = node.meta.get("nn_module_stack") or {}
        path = next(reversed(stack.values()))[0] if stack else ""
        if node.op == "call_module":
            path = str(node.target)
        where = f"node '{node.name}'" + (f" in module '{path}'" if path else "")
        line = self._source_line(node)
        return f"{where} ({line})" if line else where

    def _source_line(self, node: fx.Node) -> str:
        """Stack traces are costly, so they are recorded in a second trace, when an error needs one."""
        tracer = Tracer(self.skeleton, self.decisions)
        tracer.record_stack_traces = True
        graph = tracer.trace(self.skeleton, defaults_of(self.skeleton))
        twin = next((n for n in graph.nodes if n.name == node.name), None)
        text = (twin.stack_trace if twin is not None else None) or ""
        lines = [x.strip() for x in text.splitlines() if x.strip().startswith("File")]
        own = [x for x in lines if "/torch/" not in x and "/td_transform/" not in x]
        return own[-1].removeprefix("File ") if own else ""


def trace(
    model: nn.Module,
    input_size: tuple[int, int, int] | None = None,
    *,
    any_output: bool = False,
) -> Trace:
    """Trace a model and compute the shape of every tensor in it.

    Args:
        model: a CNN with one image input ``(N, C, H, W)`` and one tensor output.
        input_size: (C, H, W); see `guess_input_size` for what holds without it.
        any_output: several outputs will do as well (a backbone's maps, a dictionary).

    Raises:
        TraceError: the model can't be traced, or can't run at that size; the text names the module.
    """
    check_convertible(model)
    if input_size is not None:
        _check_input_size(input_size)
    skeleton = make_skeleton(model)
    graph, decisions = decided_graph(skeleton, input_size or _likely_size(model))
    _check_ends(graph, any_output=any_output)
    size = input_size or guess_input_size(model, graph)
    values = _Shapes(skeleton, graph).propagate(size)
    return Trace(graph, skeleton, model, values, size, decisions)


def _check_input_size(size: tuple[int, int, int]) -> None:
    if len(size) != 3 or not all(isinstance(s, int) and s > 0 for s in size):
        raise TraceError(
            "argument 'input_size'",
            seen=repr(size),
            expected="three positive integers (C, H, W), without the batch",
            remedy="pass for example input_size=(3, 224, 224)",
        )


def _check_ends(graph: fx.Graph, *, any_output: bool) -> None:
    """One image in, one tensor out; arguments fixed at their defaults are dropped."""
    for node in reversed(list(graph.nodes)):
        unused = node.op != "output" and not node.users and node.prev.op != "root"
        if unused or getattr(node.target, "__name__", "") in ("_assert", "_assert_is_none"):
            graph.erase_node(node)
    inputs = [n.name for n in graph.nodes if n.op == "placeholder"]
    if len(inputs) != 1:
        raise TraceError(
            f"inputs {inputs}",
            seen=f"{len(inputs)} inputs",
            expected="one image tensor (N, C, H, W)",
            remedy="wrap the model in a module whose forward takes the image alone",
        )
    output = next(n for n in graph.nodes if n.op == "output")
    if not any_output and not isinstance(output.args[0], fx.Node):
        raise TraceError(
            f"output {output.args[0]}",
            seen=f"a {type(output.args[0]).__name__} of outputs",
            expected="one tensor of logits",
            remedy="wrap the model in a module whose forward returns the logits alone",
        )


def guess_input_size(model: nn.Module, graph: fx.Graph) -> tuple[int, int, int]:
    """The model's own configuration, else the first convolution's channels at 224 x 224 pixels."""
    if (configured := _configured_size(model)) is not None:
        return configured
    unshuffled = 1
    for node in graph.nodes:
        module = model.get_submodule(str(node.target)) if node.op == "call_module" else None
        factor = getattr(module, "downscale_factor", None)
        if factor is None and getattr(node.target, "__name__", "") == "pixel_unshuffle":
            factor = node.kwargs.get("downscale_factor", node.args[-1])
        if isinstance(factor, int):
            unshuffled *= factor**2
        if isinstance(module, nn.Conv2d):
            return module.in_channels // unshuffled, 224, 224
    return 3, 224, 224


def _likely_size(model: nn.Module) -> tuple[int, int, int]:
    """Before there is a graph: the model's own configuration, else its first convolution's."""
    channels = next((m.in_channels for m in model.modules() if isinstance(m, nn.Conv2d)), 3)
    return _configured_size(model) or (channels, 224, 224)


def _configured_size(model: nn.Module) -> tuple[int, int, int] | None:
    """What timm's models say of themselves."""
    size = (getattr(model, "pretrained_cfg", None) or {}).get("input_size")
    return tuple(size) if size is not None else None


def check_convertible(model: nn.Module) -> None:
    """Refuse what no rule could handle: scripted, quantised, lazy, parametrised, non-float models."""
    for path, module in model.named_modules():
        place = f"module '{path or type(model).__name__}' ({type(module).__name__})"
        if isinstance(module, torch.jit.ScriptModule):
            raise TraceError(
                place, seen="a scripted module", expected="a plain nn.Module",
                remedy="pass the model as it was before torch.jit.script or torch.jit.trace",
            )  # fmt: skip
        if ".quantized" in type(module).__module__:
            raise TraceError(
                place, seen="a quantised module", expected="a floating-point model",
                remedy="convert the model before quantising it",
            )  # fmt: skip
        if hasattr(module, "parametrizations"):
            raise TraceError(
                place, seen="a parametrised weight", expected="plain parameters",
                remedy="call torch.nn.utils.parametrize.remove_parametrizations first",
            )  # fmt: skip
        for name, parameter in module._parameters.items():
            if parameter is not None:
                _check_parameter(f"{place}, parameter '{name}'", parameter)


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
    return copy.deepcopy(model, memo).eval()


def _on_meta(tensor: torch.Tensor) -> torch.Tensor:
    empty = torch.empty_like(tensor, device="meta", requires_grad=False)
    if isinstance(tensor, nn.Parameter):
        return nn.Parameter(empty, requires_grad=tensor.requires_grad)
    return empty


class _Shapes(fx.Interpreter):
    """Runs the graph on meta tensors and keeps shapes only."""

    def __init__(self, skeleton: nn.Module, graph: fx.Graph) -> None:
        super().__init__(skeleton, graph=graph)
        self.shapes: dict[fx.Node, Any] = {}
        self._running: fx.Node | None = None

    def run_node(self, n: fx.Node) -> Any:
        self._running = n
        result = self._unchanged(n) if n.op.startswith("call") else None
        if result is None:
            result = super().run_node(n)
        self.shapes[n] = _describe(result)
        return result

    def _unchanged(self, n: fx.Node) -> Any:
        """What keeps shapes isn't run: torch takes milliseconds to find that out on meta, and a
        leaf module with control flow could not run there at all."""
        module = self.fetch_attr(str(n.target)) if n.op == "call_module" else None
        operator = node_operator(n, module)
        if operator is None or not n.args or not isinstance(n.args[0], fx.Node):
            return None
        keeps = operator.infer is keep and (module is not None or operator.role == "activation")
        return self.env[n.args[0]].contiguous() if keeps or operator.role == "norm" else None

    def propagate(self, input_size: tuple[int, int, int]) -> dict[fx.Node, Any]:
        first = next(iter(self.module.parameters()), None)
        dtype = first.dtype if first is not None else torch.float32
        try:
            with torch.no_grad():
                self.run(torch.empty(2, *input_size, device="meta", dtype=dtype))
        except Exception as error:
            raise self._explain(error, input_size) from error
        return self.shapes

    def _explain(self, error: Exception, input_size: tuple[int, int, int]) -> TraceError:
        node = self._running
        channels = self._channel_mismatch(node) if node is not None else None
        if channels is not None:
            return TraceError(
                f"node '{node}'",
                seen=f"an input with {channels[0]} channels",
                expected=f"{channels[1]} channels, as its convolution has",
                remedy=f"pass input_size=(C, H, W) with the model's own channels, not {input_size}",
            )
        return TraceError(
            f"node '{node}'",
            seen=f"{type(error).__name__}: {error}".splitlines()[0],
            expected=f"a model that runs on an image of size {input_size}",
            remedy="pass the input_size=(C, H, W) that the model is made for; an input too small "
            "for the model's levels can't be downsampled that often",
        )

    def _channel_mismatch(self, node: fx.Node) -> tuple[int, int] | None:
        if node.op != "call_module" or not isinstance(node.args[0], fx.Node):
            return None
        wanted = getattr(self.fetch_attr(str(node.target)), "in_channels", None)
        info = self.shapes.get(node.args[0])
        if wanted is None or not isinstance(info, TensorInfo) or info.shape[1] == wanted:
            return None
        return info.shape[1], wanted


def _describe(value: Any) -> Any:
    if isinstance(value, torch.Tensor):
        return TensorInfo(tuple(value.shape), value.dtype)
    if isinstance(value, (tuple, list)):
        return tuple(_describe(v) for v in value)
    return value
