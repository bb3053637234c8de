"""The shape of every tensor of a graph, found by running it on the meta device."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx, nn

from td_transform.errors import TraceError
from td_transform.operators import TensorInfo, node_operator


class Shapes(fx.Interpreter):
    """Runs the graph on meta tensors and keeps shapes only."""

    def __init__(self, skeleton: nn.Module, graph: fx.Graph) -> None:
        super().__init__(skeleton, graph=graph)
        self.extra_traceback = False
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
        return self.env[n.args[0]].contiguous() if operator.keeps_shape else None

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
