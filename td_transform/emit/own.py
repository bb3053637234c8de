"""Layers of the user's own, on the meta device, each run there once at the shapes of its place."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Size, nn

from td_transform.layers import LiftSpec, MergeSpec, PyramidSpec, UpsampleSpec
from td_transform.layers.dimensions import per_axis
from td_transform.layers.images import short
from td_transform.layers.own import Spec, check_shape, make
from td_transform.options import Options
from td_transform.plan import OwnPlan, UnitPlan, UpsamplePlan

# the first sides of a map that is small, and no square
_MAP = (4, 6, 8)


@dataclass(frozen=True)
class OwnLayer:
    """A module of the user's own, and how it is made again with values.

    Args:
        module: on the meta device.
        made: the same on a device.
    """

    module: nn.Module
    made: Callable[[torch.device], nn.Module]


class OwnLayers:
    """Makes the layers whose options are functions of the user's.

    Args:
        options: holds the functions.
        axes: of the maps.
        dtype: of the network.
        unit: makes a unit of the network's own form, with values if not on the meta device.
    """

    def __init__(
        self,
        options: Options,
        axes: int,
        dtype: torch.dtype,
        unit: Callable[[UnitPlan, torch.device], nn.Module],
    ) -> None:
        self._options = options
        self._dtype = dtype
        self._unit = unit
        self._axes = axes
        self._layers: dict[nn.Module, OwnLayer] = {}

    def merge(self, plan: OwnPlan) -> nn.Module:
        def unit(width: int) -> nn.Module:
            return self._unit(replace(plan.instead, width_in=width), torch.get_default_device())

        map_ = self._map(plan.width_out)
        spec = MergeSpec(plan.width_out, self._axes, unit)
        return self._make("merge", spec, (map_, map_), map_)

    def lift(self, plan: OwnPlan) -> nn.Module:
        spec = LiftSpec(plan.width_in, plan.width_out, plan.instead.kernel, self._axes)
        image, map_ = self._map(plan.width_in, 2), self._map(plan.width_out, 2)
        return self._make("lift", spec, (image,), map_)

    def upsample(self, plan: UpsamplePlan) -> nn.Module:
        spec = UpsampleSpec(plan.channels, short(plan.factors), self._axes)
        coarse, fine = self._map(plan.channels), self._map(plan.channels, plan.factors)
        return self._make("upsample", spec, (coarse,), fine)

    def level(self, strides: tuple[int, ...], image: Size) -> nn.Module:
        spec = PyramidSpec(image[1], short(strides), self._axes)
        size = (-(-side // stride) for side, stride in zip(image[2:], strides, strict=True))
        return self._make("pyramid", spec, (image,), Size((*image[:2], *size)))

    def within(self, module: nn.Module) -> list[OwnLayer]:
        """Those among the parts of a module."""
        return [self._layers[part] for part in module.modules() if part in self._layers]

    def _map(self, channels: int, scale: int | tuple[int, ...] = 1) -> Size:
        scales = per_axis(scale, self._axes)
        return Size((2, channels, *(s * side for s, side in zip(scales, _MAP, strict=False))))

    def _make(self, option: str, spec: Spec, inputs: tuple[Size, ...], wanted: Size) -> nn.Module:
        factory: Any = getattr(self._options, option)

        def made(device: torch.device | str) -> nn.Module:
            return make(option, factory, spec, device).to(self._dtype)

        module = made("meta")
        check_shape(option, factory, spec, module, inputs, wanted, self._dtype)
        self._layers[module] = OwnLayer(module, made)
        return module
