"""Values that meta tensors don't have: a part of the graph computed on the model's own parameters."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.fx.node import Target

from td_transform.operators import TensorInfo


class RealValues(fx.Interpreter):
    """Computes nodes of an unfinished graph for a batch of zeros, and reads the model only.

    Args:
        skeleton: the model on the meta device.
        model: the user's model; zeros stand in for parameters where it is missing or on meta.
        graph: the graph, which may grow between two calls of `of`.
    """

    def __init__(self, skeleton: nn.Module, model: nn.Module | None, graph: fx.Graph) -> None:
        super().__init__(skeleton, garbage_collect_values=False, graph=graph)
        self._skeleton = skeleton
        self._model = model if model is not None else skeleton
        self.constants: dict[str, Tensor] = {}
        self.image = TensorInfo((), torch.float32)
        self._leaves: dict[str, nn.Module] = {}
        first = next(self._model.parameters(), None)
        usable = first is not None and not first.is_meta
        self.device = first.device if usable and first is not None else torch.device("cpu")

    def constant(self, tensor: Tensor) -> str:
        """Keep a tensor that the forward brought along; the path that the skeleton will have it at."""
        number = len(self.constants)
        while hasattr(self._skeleton, f"_tensor_constant{number}"):
            number += 1
        name = f"_tensor_constant{number}"
        self.constants[name] = tensor.detach().clone()
        return name

    def leaf(self, path: Target) -> nn.Module:
        """A copy of one of the model's modules, in eval mode."""
        path = str(path)
        if path not in self._leaves:
            module = copy.deepcopy(self._model.get_submodule(path)).eval()
            if any(t.is_meta for t in (*module.parameters(), *module.buffers())):
                module = module.to_empty(device=self.device)
                for tensor in (*module.parameters(), *module.buffers()):
                    tensor.detach().zero_()
            self._leaves[path] = module
        return self._leaves[path]

    def of(self, nodes: Iterable[fx.Node]) -> dict[fx.Node, Any]:
        """The values of these nodes."""
        wanted = list(nodes)
        needed = set(wanted)
        for node in reversed(self.graph.nodes):
            if node in needed:
                needed.update(node.all_input_nodes)
        self.env = {}
        with torch.no_grad():
            for node in self.graph.nodes:
                if node in needed:
                    self.env[node] = self.run_node(node)
        return {node: self.env[node] for node in wanted}

    def run_node(self, n: fx.Node) -> Any:
        if n.op == "placeholder":
            return torch.zeros(self.image.shape, dtype=self.image.dtype, device=self.device)
        return super().run_node(n)

    def fetch_attr(self, target: str) -> Any:
        path, _, name = target.rpartition(".")
        tensor = self.constants.get(target)
        if tensor is None:
            tensor = getattr(self._model.get_submodule(path), name)
        assert isinstance(tensor, Tensor)
        if tensor.is_meta:
            return torch.zeros(tensor.shape, dtype=tensor.dtype, device=self.device)
        return tensor.detach().to(self.device, copy=True)

    def call_module(self, target: Target, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return self.leaf(target)(*args, **kwargs)
