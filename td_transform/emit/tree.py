"""Emit: the modules of a network, each made once under its planned name, on the meta device."""

from __future__ import annotations

import copy
from collections.abc import Callable
from itertools import accumulate

import torch
from torch import fx, nn

from td_transform.analyse import attribute_of
from td_transform.emit.build import LayerBuilder
from td_transform.emit.placed import Placed, PlacedTensor, Values
from td_transform.layers import Scope
from td_transform.plan import LayerPlan, Plan, TensorPlan
from td_transform.trace import Trace


class ModuleTree:
    """What a network's graph calls and reads, and where its values come from.

    Args:
        trace: of the bottom-up model.
        plan: what is built.
        builder: makes the layers.
    """

    def __init__(self, trace: Trace, plan: Plan, builder: LayerBuilder) -> None:
        self._trace = trace
        self._builder = builder
        self._inherits = plan.options.weights == "inherit"
        self._planned = {
            path
            for segment in plan.segments
            for part in segment.held
            for path in accumulate(part.name.split("."), "{}.{}".format)
        }
        self.root = nn.Module()
        self.modules: list[Placed] = []
        self.tensors: list[PlacedTensor] = []

    def add(self, name: str, make: Callable[[], nn.Module], *, under: str = "") -> None:
        """Put a module where nothing of that name is yet.

        Args:
            name: its path.
            make: makes it.
            under: below this prefix stand the bottom-up model's own paths; scopes show as those.
        """
        *scopes, last = name.split(".")
        parent = self._scope(scopes, under)
        if last not in parent._modules:
            parent.add_module(last, make())

    def free(self, name: str) -> str:
        """A name for what the bottom-up model has no module for, which one of its own may have."""
        while name in self._planned:
            name += "_"
        return name

    def fresh(self, module: nn.Module) -> nn.Module:
        """A new module; one that is the user's own, or holds such a one, is theirs to initialise."""
        for part in module.modules():
            if part in self._builder.models:
                self.modules.append(Placed(part, self._builder.models[part], "modelled"))
        if not self._builder.own_layers(module):
            self.modules.append(Placed(module, None, "fresh"))
        return self.own(module)

    def own(self, module: nn.Module) -> nn.Module:
        """A module in which parts may be the user's own."""
        for own in self._builder.own_layers(module):
            self.modules.append(Placed(own.module, None, "made", own.made))
        return module

    def layer(self, plan: LayerPlan, *, size_preserving: bool) -> nn.Module:
        """A layer of the bottom-up model's."""
        source = self._trace.model.get_submodule(plan.source)
        module = self._builder.layer(plan, size_preserving=size_preserving)
        shared = plan.inherits and self._inherits
        self.modules.append(Placed(module, source, "shared" if shared else "fresh"))
        return module

    def carried(self, graph: fx.Graph, name: str) -> fx.GraphModule:
        """A piece of the bottom-up graph, with its layers as they are."""
        trace = self._trace
        targets = {str(n.target) for n in graph.nodes if n.op in ("call_module", "get_attr")}
        modules = {
            target: copy.deepcopy(attribute_of(trace.skeleton, target)) for target in targets
        }
        module = fx.GraphModule(modules, graph, name)
        self.modules.append(Placed(module, trace.model, "copied"))
        for name, constant in list(module.named_buffers(recurse=False)):
            if not constant.is_meta:  # the forward brought it along, with its values
                setattr(module, name, constant.to("meta"))
                self.tensors.append(PlacedTensor(module, name, constant, "copied"))
        return module

    def tensor(self, plan: TensorPlan, *, under: str) -> None:
        """A parameter or buffer that the forward reads itself."""
        value = self._trace.tensor(plan.source)
        *scopes, last = plan.name.split(".")
        owner = self._scope(scopes, under)
        if not hasattr(owner, last):
            trains = isinstance(value, nn.Parameter)
            new = torch.empty(plan.shape, dtype=value.dtype, device="meta")
            if trains:
                owner.register_parameter(last, nn.Parameter(new, value.requires_grad))
            else:
                owner.register_buffer(last, new)
            keeps = tuple(value.shape) == plan.shape
            inherits = plan.inherits and self._inherits
            values: Values = "copied" if not trains else "shared" if inherits else "fresh"
            self.tensors.append(PlacedTensor(owner, last, value, values if keeps else "fresh"))

    def _scope(self, names: list[str], under: str = "") -> nn.Module:
        """The module at a path, which may be new.

        Args:
            names: the parts of the path.
            under: below this prefix stand the bottom-up model's own paths; scopes show as those.
        """
        parent = self.root
        for i, name in enumerate(names):
            if name not in parent._modules:
                path = ".".join(names[: i + 1])
                within = path.removeprefix(f"{under}.") if under and path != under else ""
                parent.add_module(name, Scope(self._shown_as(within, name)))
            parent = parent.get_submodule(name)
        return parent

    def _shown_as(self, source: str, name: str) -> str:
        """The class of the bottom-up module that a scope stands for."""
        if name.isdigit() and not source:
            return "Level"
        try:
            module = self._trace.skeleton.get_submodule(source) if source else None
        except AttributeError:
            module = None
        return type(module).__name__ if module is not None else name.capitalize()
