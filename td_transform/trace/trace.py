"""Trace: a model becomes a graph with shapes, without touching the model.

The graph is made from a skeleton: a copy of the model's structure whose parameters live on the meta
device, in eval mode (so that auxiliary heads stay out). Module-level `torch.fx` tracing keeps the
user's modules and names; the leaves are the modules that the operator registry knows.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from torch import fx, nn

from td_transform.errors import TraceError
from td_transform.trace.input_size import check_input_size, guess_input_size, likely_size
from td_transform.trace.shapes import Shapes
from td_transform.trace.skeleton import check_convertible, make_skeleton
from td_transform.trace.source import is_users
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
        return self._modules[str(node.target)] if node.op == "call_module" else None

    @cached_property
    def _modules(self) -> dict[str, nn.Module]:
        return dict(self.skeleton.named_modules(remove_duplicate=False))

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
        frames = re.findall(r'File "(.+)", line (\d+)', text)
        own = [(file, line) for file, line in frames if is_users(file)]
        return f"{own[-1][0]}:{own[-1][1]}" if own else ""


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
        check_input_size(input_size)
    skeleton = make_skeleton(model)
    graph, decisions = decided_graph(skeleton, input_size or likely_size(model))
    _check_ends(graph, any_output=any_output)
    size = input_size or guess_input_size(model, graph)
    values = Shapes(skeleton, graph).propagate(size)
    return Trace(graph, skeleton, model, values, size, decisions)


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
