"""Which of a forward's results is the one that is wanted."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from torch import Tensor, fx

from td_transform.errors import TraceError
from td_transform.operators import node_operator
from td_transform.trace.recorder import Recorder


def chosen(result: Any, output: int | str | None) -> Any:
    """The entry of a forward's result that is wanted."""
    entries: Mapping[Any, Any] | None = _fields(result)
    if isinstance(result, Mapping):
        entries = result
    elif entries is None and isinstance(output, int) and isinstance(result, (tuple, list)):
        entries = dict(enumerate(result))
    if entries is None:
        return result
    name = "logits" if output is None else output
    if isinstance(name, int) and isinstance(result, (tuple, list)) and name < 0:
        name += len(result)
    if isinstance(entries.get(name), Tensor):
        return entries[name]
    if output is None:
        given = {k: v for k, v in entries.items() if v is not None}
        only = next(iter(given.values())) if len(given) == 1 else None
        return only if isinstance(only, Tensor) else given
    raise TraceError(
        f"argument 'output' ({output!r})",
        seen=f"a forward that returns {list(entries)}",
        expected="the name or index of one of these, a tensor",
        remedy="pass one of these as output",
    )


def _fields(result: Any) -> dict[str, Any] | None:
    if hasattr(result, "_asdict"):
        return dict(result._asdict())
    if dataclasses.is_dataclass(result) and not isinstance(result, type):
        return {f.name: getattr(result, f.name) for f in dataclasses.fields(result)}
    return None


def logits_of(result: Any, recorder: Recorder) -> Any:
    """Of several outputs, the one that all others are activations of: probabilities beside logits."""
    if not isinstance(result, (tuple, list)) or not all(map(recorder.writer.knows, result)):
        return result
    nodes = [recorder.writer.node(tensor) for tensor in result]
    sources = {_before_activations(node, set(nodes)) for node in nodes}
    logits = next(iter(sources)) if len(sources) == 1 else None
    return result[nodes.index(logits)] if logits in nodes else result


def _before_activations(node: fx.Node, outputs: set[fx.Node]) -> fx.Node:
    """The output that another is made of by an activation."""
    known = node_operator(node, None) if node.op != "call_module" else None
    source = next(iter(node.all_input_nodes), None)
    is_activation = known is not None and known.role == "activation"
    return source if is_activation and source in outputs else node
