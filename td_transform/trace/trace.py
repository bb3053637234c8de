"""Trace: a model becomes a graph with shapes, without touching the model.

A skeleton, a copy of the model's structure whose parameters live on the meta device, in eval mode (so
that auxiliary heads stay out), is run once and recorded; the user's modules and names stay in the graph.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import fx, nn

from td_transform.errors import TraceError
from td_transform.layers.parameters import parameters_of
from td_transform.operators import TensorInfo, module_operator
from td_transform.trace.convolutions import is_conventional
from td_transform.trace.input_size import checked_input_size, guess_input_size
from td_transform.trace.recording import Recording, record
from td_transform.trace.reparametrised import Reparametrisations, make_plain, reparametrised
from td_transform.trace.skeleton import check_convertible, hooks_left_out, make_skeleton


@dataclass(frozen=True)
class Front:
    """What stands before the maps of a model whose input is none (electrodes over time, a waveform).

    Args:
        graph: from the model's input to the map.
        input_size: of the model's input, without the batch.
        steps: what is called there, in order.
    """

    graph: fx.Graph
    input_size: tuple[int, ...]
    steps: tuple[str, ...]


@dataclass(frozen=True)
class Trace:
    """A traced model.

    Args:
        graph: the graph; `call_module` targets are module paths of the model.
        skeleton: the model's structure on the meta device.
        model: the user's own model, only ever read.
        values: per node its shape (`TensorInfo`), or its value where it is no tensor.
        input_size: (C, H, W) of what the graph reads.
        notes: what is frozen as that input size decided it, a sentence each.
        lost: what the forward keeps for its next call and the graph doesn't, likewise.
        reparametrised: by path, how computed weights (weight norm) come about; plain in the skeleton.
        front: what makes that of the model's own input, where it is something else.
    """

    graph: fx.Graph
    skeleton: nn.Module
    model: nn.Module
    values: Mapping[fx.Node, Any]
    input_size: tuple[int, ...]
    notes: tuple[str, ...] = ()
    lost: tuple[str, ...] = ()
    reparametrised: Reparametrisations = field(default_factory=dict)
    front: Front | None = None

    @property
    def model_input_size(self) -> tuple[int, ...]:
        """The size of what the model itself reads, without the batch."""
        return self.input_size if self.front is None else self.front.input_size

    @property
    def front_parameters(self) -> int:
        """How many parameters stand in the front."""
        found: dict[int, int] = {}
        for node in () if self.front is None else self.front.graph.nodes:
            module = self.module(node)
            own = [self.tensor(str(node.target))] if node.op == "get_attr" else []
            for tensor in own if module is None else parameters_of(module):
                if isinstance(tensor, nn.Parameter):
                    found[id(tensor)] = tensor.numel()
        return sum(found.values())

    def module(self, node: fx.Node) -> nn.Module | None:
        """The module that a node calls, None for functions and methods."""
        return self._modules[str(node.target)] if node.op == "call_module" else None

    @cached_property
    def _modules(self) -> dict[str, nn.Module]:
        return dict(self.skeleton.named_modules(remove_duplicate=False))

    def tensor(self, path: str) -> torch.Tensor:
        """A parameter or buffer of the model, or a constant that its forward brought along."""
        owner, _, name = path.rpartition(".")
        for root in (self.model, self.skeleton):
            module = root.get_submodule(owner)
            if hasattr(module, name):
                found: torch.Tensor = getattr(module, name)
                return found
        raise KeyError(path)

    def path(self, node: fx.Node) -> str:
        """The path of the module that a node belongs to, "" for the model's own forward."""
        if node.op == "call_module":
            return str(node.target)
        stack = node.meta.get("nn_module_stack") or {}
        return str(next(reversed(stack.values()))[0]) if stack else ""

    def place(self, node: fx.Node) -> str:
        """Where a node stands in the user's code: its name, module path and source line."""
        path = self.path(node)
        where = f"node '{node.name}'" + (f" in module '{path}'" if path else "")
        line = node.meta.get("source")
        return f"{where} ({line})" if line else where


def trace(
    model: nn.Module,
    input_size: tuple[int, ...] | None = None,
    *,
    any_output: bool = False,
    leaf_modules: Sequence[str] = (),
    output: int | str | None = None,
) -> Trace:
    """Record a model, and the shape of every tensor in it.

    Args:
        model: a CNN with one image input ``(N, C, H, W)`` and one tensor output.
        input_size: (C, H, W); see `guess_input_size` for what holds without it.
        any_output: several outputs will do as well (a backbone's maps, a dictionary).
        leaf_modules: paths of modules that are recorded as one call, besides those that `is_leaf`.
        output: which of several outputs is wanted: the name of an entry of a dictionary or
            dataclass (by default ``logits``), the index in a tuple or list.

    Raises:
        TraceError: the model can't be traced, or can't run at that size; the text names the module.
    """
    check_convertible(model)
    size = guess_input_size(model) if input_size is None else checked_input_size(model, input_size)
    skeleton = make_skeleton(model)
    computed = reparametrised(model)
    for path, applied in computed.items():
        make_plain(skeleton.get_submodule(path), applied)
    leaves = {id(_leaf(skeleton, path)) for path in leaf_modules}
    opened = {id(m) for m in skeleton.modules() if not is_conventional(m)} - leaves
    recording = record(
        skeleton,
        size,
        is_leaf=lambda m: id(m) in leaves or (id(m) not in opened and is_leaf(m)),
        model=model,
        output=output,
    )
    if not any_output:
        _check_output(recording)
    notes = (*recording.notes, *hooks_left_out(model))
    traced = Trace(
        recording.graph, skeleton, model, recording.values, size, notes, recording.lost, computed
    )
    _check_computed_weights(traced)
    return traced


def _leaf(skeleton: nn.Module, path: str) -> nn.Module:
    known: dict[str, nn.Module] = dict(skeleton.named_modules())
    if not path or path not in known:
        raise TraceError(
            f"argument 'leaf_modules' ({path!r})",
            seen="a path that the model has no module at",
            expected="paths of modules, as model.named_modules() gives them",
            remedy="pass one of those paths",
        )
    return known[path]


def is_leaf(module: nn.Module) -> bool:
    """Is a module recorded as one call? Those that the registry knows are, torch's own layers, and
    what a recording would freeze in eval mode."""
    own = type(module).__module__.startswith("torch.nn.modules.")
    containers = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
    if module_operator(module) is not None or (own and not isinstance(module, containers)):
        return True
    if next(module.children(), None) is not None:
        return False
    code = getattr(type(module).forward, "__code__", None)
    return code is not None and "training" in code.co_names


def _check_computed_weights(trace: Trace) -> None:
    """A computed weight is carried along with the layer that it belongs to, not on its own."""
    weights = {f"{p}.{each.tensor}" for p, found in trace.reparametrised.items() for each in found}
    for node in trace.graph.nodes:
        if node.op == "get_attr" and node.target in weights:
            raise TraceError(
                trace.place(node),
                seen=f"a computed weight ('{node.target}': weight norm, a parametrisation) that is "
                "read outside its layer",
                expected="computed weights in layers that are called",
                remedy="compute the weight in the module's own forward",
            )


def _check_output(recording: Recording) -> None:
    output = next(n for n in recording.graph.nodes if n.op == "output").args[0]
    if output is None:
        raise TraceError(
            "output of the model", seen="None", expected="one tensor of logits",
            remedy="return the logits at the end of the model's forward",
        )  # fmt: skip
    if not isinstance(output, fx.Node):
        named = isinstance(output, Mapping)
        raise TraceError(
            f"output {output}",
            seen=f"a {'dictionary' if named else 'list' if isinstance(output, list) else 'tuple'} "
            "of outputs",
            expected="one tensor of logits",
            remedy=f"pass the {'name' if named else 'index'} of the logits as output",
        )
    info = recording.values[output]
    if isinstance(info, TensorInfo) and not info.dtype.is_floating_point:
        raise TraceError(
            f"output {output}", seen=f"numbers of {info.dtype}, which nothing can be learned from",
            expected="one tensor of logits",
            remedy="return what those are made of: the logits, not the classes",
        )  # fmt: skip
