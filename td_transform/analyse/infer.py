"""Run the channel rules over a piece of graph."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import fx
from torch.nn import functional

from td_transform.errors import (
    StructureError,
    TopDownError,
    UnknownOperatorError,
    WidthConflictError,
)
from td_transform.operators import Call, Dims, Inference, Operator, TensorInfo, node_operator
from td_transform.operators.widths import Conflict, Variable, Width
from td_transform.trace import Trace


def operator_of(trace: Trace, node: fx.Node) -> Operator:
    """The registry's entry for a node.

    Raises:
        UnknownOperatorError: the registry has none; the text says how to register it.
    """
    module = trace.module(node)
    operator = node_operator(node, module)
    if operator is not None:
        return operator
    name = _name_of(type(module) if module is not None else node.target)
    raise UnknownOperatorError(
        trace.place(node),
        seen=f"the unknown operator {name}",
        expected="an operator with known strides and channel coupling",
        remedy=f"td_transform.register_operator({name}, like=torch.nn.ReLU) if it works "
        "element-wise, else with an Operator of its own",
    )


def _name_of(target: object) -> str:
    """An operator as one writes it in code."""
    if isinstance(target, str):
        return repr(target)
    name = str(getattr(target, "__name__", target))
    for prefix, module in (("torch", torch), ("torch.nn.functional", functional)):
        if getattr(module, name, None) is target:
            return f"{prefix}.{name}"
    return name


def call_of(trace: Trace, node: fx.Node, inference: Inference) -> Call:
    return Call(node, trace.module(node), inference, trace.values)


def infer(
    trace: Trace,
    nodes: Iterable[fx.Node],
    inference: Inference,
    *,
    passed: frozenset[fx.Node] = frozenset(),
) -> None:
    """The symbolic dimensions of some nodes, in graph order.

    Args:
        trace: the traced model.
        nodes: the nodes, in the order of the graph.
        inference: holds the dimensions of the tensors that flow in; takes those of the nodes.
        passed: nodes that hand on their first input as it is (operators that the plan drops).

    Raises:
        UnknownOperatorError: an operator is not in the registry.
        WidthConflictError: two widths that have to agree can't.
    """
    for node in nodes:
        if node in inference.dims:
            continue
        if node.op == "get_attr":
            inference.dims[node] = _parameter_dims(inference, node, trace.values[node])
            continue
        call = call_of(trace, node, inference)
        try:
            inference.dims[node] = (
                call.dims() if node in passed else operator_of(trace, node).infer(call)
            )
        except Conflict as conflict:
            raise WidthConflictError(
                trace.place(node),
                seen=str(conflict),
                expected="channels that agree and can be counted",
                remedy="register a module around this code with td_transform.register_operator",
            ) from conflict
        except TopDownError:
            raise
        except Exception as error:  # a rule that a stranger's use of its operator breaks
            raise StructureError(
                trace.place(node),
                seen=f"arguments that the rule for '{node.target}' can't read ({error!r})",
                expected="a use of the operator that its rule covers",
                remedy="register a module around this code with td_transform.register_operator",
            ) from error


def _parameter_dims(inference: Inference, node: fx.Node, info: object) -> Dims:
    """Dimensions of a parameter used directly: variables, until an operator says what they are."""
    if not isinstance(info, TensorInfo):
        return ()
    return tuple(
        inference.widths.variable(Variable(str(node.target), f"dimension {i}"), size)
        if size > 1
        else Width.of(size)
        for i, size in enumerate(info.shape)
    )
