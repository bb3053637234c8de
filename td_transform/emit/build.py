"""Layers from their plans, on the meta device: shapes and counts, no values yet."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import torch
from torch import Size, fx, nn

from td_transform.emit.initialise import fill, initialises_itself
from td_transform.emit.own import OwnLayer, OwnLayers
from td_transform.errors import UnknownOperatorError
from td_transform.layers import (
    ChannelsLast,
    FunctionLayer,
    Merge,
    OwnPyramid,
    OwnUpsample,
    Pyramid,
    Unit,
    Upsample,
    is_own,
)
from td_transform.layers.dimensions import DIMENSIONS
from td_transform.layers.parameters import dtype_of_layers
from td_transform.operators import module_operator
from td_transform.operators.resizing import preserve_size, set_kernel
from td_transform.plan import LayerPlan, LevelPlan, OwnPlan, Plan, UnitPlan, UpsamplePlan
from td_transform.trace import Trace, apply_anew


class LayerBuilder:
    """Makes the modules that a plan names from the bottom-up model's skeleton.

    Args:
        trace: the traced bottom-up model.
        plan: what names them.
    """

    def __init__(self, trace: Trace, plan: Plan) -> None:
        self._trace = trace
        self._options = plan.options
        self._dtype = dtype_of_layers(trace.skeleton)
        self._own = OwnLayers(plan.options, len(plan.image_size) - 1, self._dtype, self._unit_on)
        self._nodes: dict[str, fx.Node] = {n.name: n for n in trace.graph.nodes}
        # what parts of new units are modelled on, where their class doesn't initialise all tensors
        self.models: dict[nn.Module, nn.Module] = {}

    def layer(self, plan: LayerPlan, *, size_preserving: bool) -> nn.Module:
        """A bottom-up layer with the widths and kernel of its plan, with or without its stride."""
        module = _copy(self._trace.skeleton.get_submodule(plan.source))
        operator = module_operator(module)
        if plan.sizes and operator is not None and operator.resize is not None:
            operator.resize(module, dict(plan.sizes))
        if plan.kernel is not None:
            set_kernel(module, plan.kernel)
        if size_preserving or plan.kernel is not None:
            module = preserve_size(module)
        return self._computed(module, plan.source)

    def _computed(self, module: nn.Module, source: str) -> nn.Module:
        """The same with its weights computed as those of the bottom-up module."""
        apply_anew(module, source, self._trace.reparametrised)
        return module

    def unit(self, plan: UnitPlan) -> Unit:
        """A new unit: its convolution, norm and activation are of the bottom-up model's kinds."""
        width = plan.width_in if plan.pre_activation else plan.width_out
        norm = self._resized(plan.norm, width)
        if norm is not None and plan.norm_channels_last:
            norm = ChannelsLast(norm)
        activation = self._activation(plan)
        unit = Unit(
            self._conv(plan),
            norm,
            activation,
            pre_activation=plan.pre_activation,
            norm_last=plan.norm_last,
        )
        return unit.requires_grad_(True)  # whatever the layers that it is modelled on do

    def _unit_on(self, plan: UnitPlan, device: torch.device) -> Unit:
        """A new unit with values, if that isn't the meta device."""
        unit = self.unit(plan)
        if device.type != "meta":
            for part in unit.modules():
                if part in self.models:
                    fill(part, self.models[part], "modelled", device)
            fill(unit, None, "fresh", device)
        return unit

    def lift(self, plan: UnitPlan | OwnPlan) -> nn.Module:
        return self._own.lift(plan) if isinstance(plan, OwnPlan) else self.unit(plan)

    def merge(self, plan: UnitPlan | OwnPlan) -> nn.Module:
        if isinstance(plan, OwnPlan):
            return self._own.merge(plan)
        return Merge(self.unit(plan), kind=self._options.merge)  # type: ignore[arg-type]

    def upsample(self, plan: UpsamplePlan) -> nn.Module:
        kind: Any = self._options.upsample
        if is_own(kind):
            return OwnUpsample(self._own.upsample(plan), len(plan.factors))
        upsample = Upsample(plan.factors, kind=kind, channels=plan.channels)
        return upsample.to("meta", self._dtype)

    def pyramid(
        self, levels: Sequence[LevelPlan], image: Size, preprocess: nn.Module | None
    ) -> Pyramid | OwnPyramid:
        """The pyramid of levels; `image` is the shape (N, C, H, W) that they are made from."""
        kind: Any = self._options.pyramid
        strides = [level.strides for level in levels]
        if is_own(kind):
            made = [
                self._own.level(level.strides, image) if level.lift is not None else None
                for level in levels
            ]
            return OwnPyramid(made, strides, preprocess, channels=image[1])
        skipped = [level.strides for level in levels if level.lift is None]
        return Pyramid(
            strides, kind=kind, preprocess=preprocess, skipped=skipped, channels=image[1]
        )

    def own_layers(self, module: nn.Module) -> list[OwnLayer]:
        """What is the user's own in a module that was made here."""
        return self._own.within(module)

    def _conv(self, plan: UnitPlan) -> nn.Module:
        node = self._nodes[plan.conv]
        source = self._trace.module(node)
        if not isinstance(source, nn.modules.conv._ConvNd):
            positional = node.args[2] if len(node.args) > 2 else None
            bias = node.kwargs.get("bias", positional) is not None
            kind: Any = DIMENSIONS[len(plan.kernel)].conv
            source = kind(plan.width_in, plan.width_out, plan.kernel, bias=bias, device="meta")
        conv: Any = _copy(source)
        conv.dilation = (1,) * len(plan.kernel)
        # a grouped or depthwise leading convolution is no model for a lift
        conv.groups = 1
        operator = module_operator(conv)
        if operator is None or operator.resize is None:
            raise UnknownOperatorError(
                self._trace.place(node),
                seen=f"a {type(conv).__name__}, which can't be given other widths",
                expected="a convolution that new layers can be modelled on",
                remedy="register it with an Operator that has a `resize` rule",
            )
        set_kernel(conv, plan.kernel)
        operator.resize(conv, {"in": plan.width_in, "out": plan.width_out})
        preserve_size(conv)
        return self._modelled(conv, self._nodes[plan.conv])

    def _resized(self, name: str | None, width: int) -> nn.Module | None:
        if name is None:
            return None
        source = self._trace.module(self._nodes[name])
        if source is None:
            return None
        norm = _copy(source)
        operator = module_operator(norm)
        if operator is not None and operator.resize is not None:
            operator.resize(norm, {"channels": width})
        return self._modelled(norm, self._nodes[name])

    def _modelled(self, module: nn.Module, node: fx.Node) -> nn.Module:
        """A part of a new unit, which may need values like those of the part that it is modelled on."""
        source = self._trace.module(node)
        if source is not None and not initialises_itself(module):
            self.models[module] = self._trace.model.get_submodule(str(node.target))
        return self._computed(module, str(node.target))

    def _activation(self, plan: UnitPlan) -> nn.Module | None:
        if plan.activation is None:
            return None
        node = self._nodes[plan.activation]
        module = self._trace.module(node)
        if module is not None:
            activation = _copy(module)
            operator = module_operator(activation)
            width = plan.width_in if plan.pre_activation else plan.width_out
            if operator is not None and operator.resize is not None and _counts(activation) > 1:
                operator.resize(activation, {"channels": width})
            return self._modelled(activation, node)
        arguments = [a for a in node.args[1:] if not isinstance(a, fx.Node)]
        target: Any = node.target
        return FunctionLayer(target, *arguments, **node.kwargs)


def _copy(module: nn.Module) -> nn.Module:
    """A leaf layer is copied flat: its meta tensors are replaced, never written to. Methods of its own
    that it keeps among its attributes would go on reading the original's."""
    keeps_methods = any(getattr(kept, "__self__", None) is module for kept in vars(module).values())
    if keeps_methods or next(module.children(), None) is not None:
        return copy.deepcopy(module)
    twin = copy.copy(module)
    for attribute, value in vars(module).items():
        if isinstance(value, dict):  # parameters and buffers, and hooks
            twin.__dict__[attribute] = value.copy()
    return twin


def _counts(module: nn.Module) -> int:
    """Channels that an activation with parameters has (PReLU)."""
    return int(getattr(module, "num_parameters", 1))
