"""Run the channel rules over a piece of graph."""

from __future__ import annotations

from collections.abc import Iterable

from torch import fx, nn

from td_transform.operators import (
    Call,
    Dims,
    Inference,
    Operator,
    TensorInfo,
    module_operator,
    node_operator,
)
from td_transform.operators.opaque import OPAQUE, fits, opaque, settled
from td_transform.operators.remembering import remember
from td_transform.operators.widths import Conflict, Variable, Width
from td_transform.trace import HANDS_ON, Trace


def operator_of(trace: Trace, node: fx.Node) -> Operator:
    """The registry's entry for a node; what it doesn't know is opaque, but for what does nothing
    outside of training and holds no values: that is a dropout of its own kind."""
    module = trace.module(node)
    known = node_operator(node, module)
    if known is None and module is not None and node.meta.get(HANDS_ON) and not module.state_dict():
        known = module_operator(nn.Dropout())
    return known or OPAQUE


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

    A node that no rule can follow is opaque: it pins the widths that it reads.

    Args:
        trace: the traced model.
        nodes: the nodes, in the order of the graph.
        inference: holds the dimensions of the tensors that flow in; takes those of the nodes.
        passed: nodes that hand on their first input as it is (operators that the plan drops).
    """
    for node in nodes:
        if node in inference.dims:
            continue
        if node.op == "get_attr":
            inference.dims[node] = _parameter_dims(trace, inference, node)
            continue
        call = call_of(trace, node, inference)
        dims = call.dims() if node in passed else _dims(trace, call)
        inference.dims[node] = settled(dims, trace.values[node])
        remember(inference, inference.dims[node], trace.values[node])


def _dims(trace: Trace, call: Call) -> Dims:
    operator = operator_of(trace, call.node)
    if operator is OPAQUE:
        reason = "no rule"
    else:
        inference, state = call.inference, call.inference.widths.state()
        try:
            found: Dims = operator.infer(call)
        except Conflict as error:
            reason = str(error)
        except Exception:  # arguments that the rule doesn't expect, whatever Python says of them
            reason = "a use that its rule doesn't cover"
        else:
            if fits(inference, found, trace.values[call.node]):
                return found
            reason = "a use that its rule doesn't cover"
        inference.widths.restore(state)
        inference.sizes.pop(call.node, None)
        inference.literals.pop(call.node, None)
    call.inference.opaque[call.node] = reason
    dims: Dims = opaque(call)
    return dims


def _parameter_dims(trace: Trace, inference: Inference, node: fx.Node) -> Dims:
    """Dimensions of a parameter used directly: variables, until an operator says what they are.

    Integers are data (an index, a mask), whose size stays; so is what is repeated (1), but for the
    width of a kernel over images of one channel.
    """
    info = trace.values[node]
    if not isinstance(info, TensorInfo):
        return ()
    if not info.dtype.is_floating_point:
        return tuple(map(Width.of, info.shape))
    is_kernel = 1 in info.shape and _is_kernel(trace, node)
    return tuple(
        inference.widths.variable(Variable(str(node.target), f"dimension {i}"), size)
        if size > 1 or is_kernel
        else Width.of(size)
        for i, size in enumerate(info.shape)
    )


def _is_kernel(trace: Trace, tensor: fx.Node) -> bool:
    """Is it, or what is made of it in the same shape, the weight of a convolution?"""
    for user in tensor.users:
        if user.op == "call_function" and operator_of(trace, user).role == "conv":
            if tensor in (*user.args[1:2], user.kwargs.get("weight")):
                return True
        elif trace.values.get(user) == trace.values[tensor] and _is_kernel(trace, user):
            return True
    return False
