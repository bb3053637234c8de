"""The tracer: which modules are leaves, and what becomes of control flow."""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Sequence
from types import FrameType, TracebackType
from typing import Any

import torch
from torch import fx, nn

from td_transform.errors import TopDownError, TraceError
from td_transform.operators import module_operator
from td_transform.trace.source import is_users


class _Undecided(fx.proxy.TraceError):
    """Control flow depends on a node whose value isn't known yet."""

    def __init__(self, node: fx.Node) -> None:
        super().__init__("symbolically traced variables cannot be used as inputs to control flow")
        self.node = node


class Tracer(fx.Tracer):
    """Leaves are the modules in the registry; remembers where tracing failed.

    Args:
        skeleton: the model to trace.
        decisions: the outcomes of its control flow, in the order in which they are met.
    """

    def __init__(self, skeleton: nn.Module, decisions: Sequence[bool] = ()) -> None:
        super().__init__()
        self._skeleton = skeleton
        self._decisions = iter(decisions)
        self.failed_in: str | None = None

    def to_bool(self, obj: fx.Proxy) -> bool:
        for decision in self._decisions:
            return decision
        raise _Undecided(obj.node)

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return module_operator(m) is not None or _depends_on_training(m)

    def call_module(self, m: nn.Module, forward: Any, args: Any, kwargs: Any) -> Any:
        path = self.path_of_module(m)
        try:
            return super().call_module(m, forward, args, kwargs)
        except Exception:
            self.failed_in = self.failed_in or path
            raise

    def trace_or_explain(self) -> fx.Graph:
        try:
            return self.trace(self._skeleton, defaults_of(self._skeleton))
        except (TopDownError, _Undecided):
            raise
        except Exception as error:
            raise self.explained(error) from error

    def explained(self, error: Exception) -> TraceError:
        path = self.failed_in
        module = self._skeleton.get_submodule(path) if path else self._skeleton
        name = type(module).__name__
        kind = "TraceError" if isinstance(error, _Undecided) else type(error).__name__
        return TraceError(
            f"module '{path or name}' ({name}, {_user_line(error.__traceback__)})",
            seen=f"{kind}: {error}".splitlines()[0],
            expected="a forward without control flow on tensor values",
            remedy=f"make it a leaf module by telling the registry what it does, for example "
            f"td_transform.register_operator({name}, like=torch.nn.ReLU) if it works element-wise",
        )


def decided_graph(
    skeleton: nn.Module, input_size: tuple[int, int, int]
) -> tuple[fx.Graph, tuple[bool, ...]]:
    """The graph, and its control flow on sizes as the input size decides it.

    Every decision that is met is found by running the graph up to there, and tracing starts again:
    while a model is traced, torch lets none of its modules run.
    """
    decisions: list[bool] = []
    while True:
        tracer = Tracer(skeleton, decisions)
        try:
            return tracer.trace_or_explain(), tuple(decisions)
        except _Undecided as undecided:
            value = _value(skeleton, undecided.node, input_size)
            if not isinstance(value, int):
                raise tracer.explained(undecided) from undecided
            decisions.append(bool(value))


def _value(skeleton: nn.Module, node: fx.Node, input_size: tuple[int, int, int]) -> Any:
    """What a node of an unfinished graph gives at that size, on the meta device."""
    needed = {node}
    for earlier in reversed(node.graph.nodes):
        if earlier in needed:
            needed.update(earlier.all_input_nodes)
    dtype = next((p.dtype for p in skeleton.parameters()), torch.float32)
    runner = fx.Interpreter(skeleton, garbage_collect_values=False, graph=node.graph)
    with torch.no_grad():
        for earlier in node.graph.nodes:
            if earlier.op == "placeholder":
                runner.env[earlier] = torch.empty(2, *input_size, device="meta", dtype=dtype)
            elif earlier in needed:
                runner.env[earlier] = runner.run_node(earlier)
    return runner.env[node]


def _depends_on_training(module: nn.Module) -> bool:
    """Has it no submodules and a forward that reads `training`? Tracing would freeze its mode."""
    if next(module.children(), None) is not None or isinstance(module, nn.Sequential):
        return False
    code = getattr(type(module).forward, "__code__", None)
    return code is not None and "training" in code.co_names


def _user_line(tb: TracebackType | None) -> str:
    """The last line of a traceback that is in neither torch nor this package."""
    frames: list[tuple[FrameType, int]] = list(traceback.walk_tb(tb))
    for frame, line in reversed(frames):
        if is_users(frame.f_code.co_filename):
            return f"{frame.f_code.co_filename}:{line}"
    return "source unknown"


def defaults_of(model: nn.Module) -> dict[str, Any]:
    """Arguments of forward beyond the first keep their default values."""
    parameters = list(inspect.signature(type(model).forward).parameters.values())[2:]
    return {p.name: p.default for p in parameters if p.default is not p.empty}
