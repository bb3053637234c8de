"""Check a network against its plan before it is handed over."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, fx, nn

from td_transform.analyse import BottomUp
from td_transform.emit.footprint import Footprint, MetaRun
from td_transform.emit.misfits import check_spread, how_inputs_differ, is_cropped
from td_transform.emit.network import TopDownNetwork
from td_transform.errors import ConversionError
from td_transform.layers.dimensions import agreed
from td_transform.layers.parameters import dtype_of_layers
from td_transform.plan import LevelPlan, TensorPlan, UnitPlan
from td_transform.trace import Trace


def check_graph(network: TopDownNetwork, bottom_up: BottomUp) -> Footprint:
    """Run a network whose tensors are on the meta device, and hold it against its plan.

    Returns:
        What each of its nodes multiplies and keeps.

    Raises:
        ConversionError: it doesn't run, a level has another size or width than planned, or the
            gradient doesn't reach a parameter that it reaches in the bottom-up model.
    """
    trace = bottom_up.trace
    network.eval()
    run = _Run(network, bottom_up)
    logits = run.on_images()
    size = trace.input_size[1:]
    for number, (name, level) in enumerate(
        zip(network.level_ends, network.plan.levels, strict=True)
    ):
        _check_level(number, level, tuple(run.shapes[name]), size)
    if bottom_up.layout.classifies:
        _check_classes(tuple(logits.shape), trace)
    _check_reached(network, logits, run, bottom_up)
    return run.footprint


def check_values(network: TopDownNetwork, model: nn.Module) -> None:
    """Every tensor has values, and is the network's own unless it was to be inherited.

    Raises:
        ConversionError: a parameter or buffer is the bottom-up model's.
    """
    if network.plan.options.weights == "inherit":
        return
    owned = {id(t): name for name, t in _tensors(model)}
    for name, tensor in _tensors(network):
        if id(tensor) in owned:
            raise ConversionError(
                f"'{name}' of the top-down network",
                seen=f"the bottom-up model's own '{owned[id(tensor)]}'",
                expected="a network that shares nothing with the bottom-up model",
                remedy="give the module that holds it a __deepcopy__ that copies its tensors",
            )


def _tensors(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    yield from module.named_parameters()
    yield from module.named_buffers()


class _Run(MetaRun):
    """A run whose errors name the bottom-up node that they come from."""

    def __init__(self, network: TopDownNetwork, bottom_up: BottomUp) -> None:
        super().__init__(network, network.graph, network.plan.input_size)
        self._trace, self._trunk = bottom_up.trace, bottom_up.trunk
        self._finest = bottom_up.stages[0]
        self._is_finest = network.plan.levels[-1].strides == self._finest.strides
        self._ends = network.level_ends
        self._arrangement = network.plan.options.arrangement
        self._level = 0
        self.shapes: dict[str, Any] = {}
        self.gradient_ends: list[fx.Node] = []

    def run_node(self, n: fx.Node) -> Any:
        learned = any(_requires_grad(self.env[x]) for x in n.all_input_nodes)
        try:
            result = super().run_node(n)
            check_spread(n, self.env, result)
        except Exception as error:
            raise self._explained(n, error) from error
        if isinstance(result, Tensor):
            self.shapes[n.name] = result.shape
            if learned and not result.requires_grad:
                self.gradient_ends.append(n)
        if n.name in self._ends:
            self._level += 1
        return result

    def _explained(self, node: fx.Node, error: Exception) -> ConversionError:
        source = _origin(node, self._trace)
        place = self._trace.place(source) if source is not None else f"new node '{node.name}'"
        if isinstance(error, NotImplementedError) or "meta tensors" in str(error):
            return ConversionError(
                place,
                seen="that a shape or a branch depends on the values of a map",
                expected="code that is the same for all images",
                remedy="choose with torch.where, or weigh, instead of picking images by a mask; in the "
                "place of a mask that stays the same keep the places (mask.nonzero()[:, 0])",
                node=source.name if source is not None else None,
            )
        if source is None:  # a layer of a class of the model's, at a width that it didn't have
            return ConversionError(
                place,
                seen=how_inputs_differ(node, self.env, source, self._trunk, error),
                expected="layers that can be had at other widths than the model's",
                remedy="register the class of the model's layers that this one is made after, with "
                "td_transform.register_operator and a `resize` that sets all sizes its forward reads",
            )
        return ConversionError(
            place,
            seen=how_inputs_differ(node, self.env, source, self._trunk, error),
            expected="a node that runs at the planned widths and resolution",
            remedy=f"{self._remedy(source)}, or register the module around this code with "
            f"td_transform.register_operator{self._or_td()}",
            node=source.name,
            level=self._level if self._level < len(self._ends) else None,
        )

    def _or_td(self) -> str:
        is_uniform = self._arrangement == "uniform"
        return ", or use arrangement='td' where only 'uniform' changes widths" if is_uniform else ""

    def _remedy(self, source: fx.Node) -> str:
        if self._is_finest and is_cropped(source, self._trunk):
            return (
                "pad the convolutions and poolings before this code, so that its map has the image's "
                "size divided by the stride, and build the model for maps of that size"
            )
        if self._is_finest and self._arrangement == "reversed":
            return "use arrangement='td', under which every stage has the resolution that it had"
        if self._is_finest:  # what lowers the resolution itself doesn't run without doing so
            return "let a convolution or pooling of its own lower the resolution before this code"
        stride = agreed(self._finest.strides)
        return (
            f"pass output_stride={stride}, the bottom-up model's own, where maps keep their sizes"
        )


def _requires_grad(value: Any) -> bool:
    return isinstance(value, Tensor) and value.requires_grad


def _origin(node: fx.Node, trace: Trace) -> fx.Node | None:
    name = node.meta.get("bottom_up")
    return next((n for n in trace.graph.nodes if n.name == name), None)


def _check_level(
    number: int, level: LevelPlan, shape: tuple[int, ...], size: tuple[int, ...]
) -> None:
    sides = (-(-side // stride) for side, stride in zip(size, level.strides, strict=True))
    wanted = (2, level.width, *sides)
    if shape != wanted:
        is_odd = any(side % stride for side, stride in zip(size, level.strides, strict=True))
        raise ConversionError(
            f"level '{level.path}' (stride {agreed(level.strides)})",
            seen=f"a map of shape {shape}",
            expected=f"{wanted}, as planned",
            remedy="pass an input_size whose sides are multiples of the coarsest stride"
            if is_odd
            else "let what changes a map's size at one resolution (a padding, a crop) keep it in the model",
            level=number,
        )


def _check_classes(shape: tuple[int, ...], trace: Trace) -> None:
    output = next(n for n in reversed(trace.graph.nodes) if n.op == "output").args[0]
    wanted = trace.values[output].shape
    if shape != tuple(wanted):
        raise ConversionError(
            "output of the top-down network",
            seen=f"shape {shape}",
            expected=f"{tuple(wanted)}, as the bottom-up model's",
            remedy=f"put a classifier behind it: nn.Sequential(model, nn.Linear({wanted[1]}, classes))"
            if len(wanted) == 2
            else "pool the last map globally before the classifier",
        )


def _check_reached(network: TopDownNetwork, logits: Tensor, run: _Run, bottom_up: BottomUp) -> None:
    lost = _lost(network, _reached(logits) | run.not_run)
    # a surrogate gradient may be there in training alone
    if not lost or not _lost(network, _reached_in_training(network, bottom_up)):
        return
    unread = _unread(bottom_up.trace)
    skeleton, held = bottom_up.trace.skeleton, [h for s in network.plan.segments for h in s.held]
    kinds = {_kind(skeleton, name) for name in unread}
    sources = {part.name: part.source for part in held if isinstance(part, TensorPlan)}
    units = tuple(f"{unit}.conv." for unit in _new_units(network))
    for name in lost:
        if name.startswith(units):
            raise _without_gradient(name, run.gradient_ends, bottom_up.trace)
        if sources.get(name) not in unread and _kind(network, name) not in kinds:
            raise ConversionError(
                f"parameter '{name}' of the top-down network",
                seen="that no gradient reaches it",
                expected="a network that reads every parameter",
                remedy="register the module that computes with it with "
                "td_transform.register_operator, so that it is carried along whole",
            )


def _lost(network: TopDownNetwork, reached: set[int]) -> list[str]:
    return [n for n, p in network.named_parameters() if p.requires_grad and id(p) not in reached]


def _reached_in_training(network: TopDownNetwork, bottom_up: BottomUp) -> set[int]:
    network.train()
    run = _Run(network, bottom_up)
    try:
        return _reached(run.on_images()) | run.not_run
    except ConversionError:
        return set()
    finally:
        network.eval()


def _new_units(network: TopDownNetwork) -> list[str]:
    """The paths of the units that the bottom-up model has nothing for; all of them are to train."""
    parts = (part for level in network.plan.levels for part in level.parts)
    return [part.name for part in parts if isinstance(part, UnitPlan)]


def _without_gradient(name: str, ends: list[fx.Node], trace: Trace) -> ConversionError:
    """The error for a new layer that can't learn, and what stands between it and the logits."""
    stops = [n for n in ends if n.target == "detach"]
    where = ""
    if ends:
        last = (stops or ends)[-1]
        source = _origin(last, trace)
        where = f" (it ends at {trace.place(source) if source else repr(last.name)})"
    return ConversionError(
        f"parameter '{name}' of the top-down network",
        seen=f"that no gradient reaches it{where}",
        expected="new layers that can learn",
        remedy="give that step a gradient: a torch.autograd.Function with a backward of its own, used "
        "in eval mode as well"
        if ends and not stops
        else "take torch.no_grad() and detach() out of the model's forward; what is to stay as it is "
        "says so with requires_grad_(False)",
    )


def _kind(root: nn.Module, name: str) -> tuple[type[nn.Module], str]:
    """The class of the module that holds a parameter, and its name there."""
    path, _, parameter = name.rpartition(".")
    return type(root.get_submodule(path)), parameter


def _unread(trace: Trace) -> set[str]:
    """The parameters that no gradient reaches in the bottom-up model itself."""
    runner = fx.Interpreter(trace.skeleton, graph=trace.graph)
    dtype = dtype_of_layers(trace.skeleton)
    with torch.enable_grad(), torch.device("meta"):
        logits = runner.run(torch.empty(2, *trace.input_size, device="meta", dtype=dtype))
    reached = _reached(logits)
    named = trace.skeleton.named_parameters(remove_duplicate=False)
    return {name for name, parameter in named if id(parameter) not in reached}


def _reached(logits: Tensor) -> set[int]:
    """The ids of all parameters that the gradient of a tensor reaches."""
    found: set[int] = set()
    seen = set()
    stack = [logits.grad_fn]
    while stack:
        function = stack.pop()
        if function is None or function in seen:
            continue
        seen.add(function)
        variable = getattr(function, "variable", None)
        if variable is not None:
            found.add(id(variable))
        stack.extend(below for below, _ in function.next_functions)
    return found
