"""Values that meta tensors don't have: a part of the graph computed on the model's own parameters."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx.node import Target

from td_transform.layers.parameters import parameters_of
from td_transform.trace.writer import GraphWriter


class RealValues(fx.Interpreter):
    """Computes nodes of an unfinished graph for a batch of zeros; the model is only read.

    Args:
        model: the user's model; zeros stand in for parameters on the meta device.
        writer: has the graph, which may grow between two calls of `of`.
        is_recorded: is it the skeleton itself, for want of a model?
    """

    def __init__(self, model: nn.Module, writer: GraphWriter, *, is_recorded: bool) -> None:
        super().__init__(model, garbage_collect_values=False, graph=writer.graph)
        self._model = model
        self._is_recorded = is_recorded
        self._writer = writer
        self._leaves: dict[str, nn.Module] = {}
        first = next((p for p in parameters_of(model) if not p.is_meta), None)
        self.device = first.device if first is not None else torch.device("cpu")

    def leaf(self, path: Target) -> nn.Module:
        """A copy of one of the model's modules, in eval mode."""
        path = str(path)
        if path not in self._leaves:
            module = self._model.get_submodule(path)
            memo = {id(t): self._real(t) for t in (*parameters_of(module), *module.buffers())}
            leaf = copy.deepcopy(module, memo)
            leaf.eval()
            for part in leaf.modules():
                if self._is_recorded:
                    vars(part).pop("forward")  # the recorder's, which is on the skeleton now
            self._leaves[path] = leaf
        return self._leaves[path]

    def of(self, nodes: Iterable[fx.Node]) -> dict[fx.Node, Any]:
        """The values of these nodes."""
        wanted = list(nodes)
        needed = set(wanted)
        for node in reversed(self.graph.nodes):
            if node in needed:
                needed.update(node.all_input_nodes)
        self.env = {}
        for node in self.graph.nodes:
            if node in needed:
                self.env[node] = self.run_node(node)
        return {node: self.env[node] for node in wanted}

    def run_node(self, n: fx.Node) -> Any:
        if n.op == "placeholder":
            image = self._writer.values[n]
            return torch.zeros(image.shape, dtype=image.dtype, device=self.device)
        return super().run_node(n)

    def fetch_attr(self, target: str) -> Tensor:
        if target in self._writer.constants:
            return self._writer.constants[target].to(self.device, copy=True)
        path, _, name = target.rpartition(".")
        return self._real(getattr(self._model.get_submodule(path), name))

    def _real(self, tensor: Tensor) -> Tensor:
        if tensor.is_meta:
            return torch.zeros_like(tensor, device=self.device)
        return tensor.detach().to(self.device, copy=True)

    def call_module(self, target: Target, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return self.leaf(target)(*args, **kwargs)
