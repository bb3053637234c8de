"""Execution of one recorded call: on meta tensors, or on real ones where these don't do."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from functools import partial
from typing import Any

import torch
from torch import Tensor, fx, nn

from td_transform.operators import module_operator, run_one_step, step_axis
from td_transform.trace.realvalues import RealValues
from td_transform.trace.source import user_line
from td_transform.trace.targets import FACTORIES, VALUE_READS
from td_transform.trace.trees import has_tensors, mapped, tensors
from td_transform.trace.writer import META, GraphWriter

_REPLACED = (Tensor, torch.device)
_NOT_ON_META = (NotImplementedError, RuntimeError, TypeError, ValueError)


class Executor:
    """Runs functions and leaf modules for their results' shapes.

    Args:
        skeleton: the model on the meta device.
        model: the user's model, whose parameters give values where a forward asks for them.
        writer: knows the graph up to here, to compute such values from.
        known_values: answers, from an earlier recording, to what this one will ask for.
    """

    def __init__(
        self,
        skeleton: nn.Module,
        model: nn.Module | None,
        writer: GraphWriter,
        known_values: Iterable[Any] = (),
    ) -> None:
        self.notes: dict[str, None] = {}
        self.values: list[Any] = []
        self._known_values = deque(known_values)
        self._skeleton = skeleton
        self._writer = writer
        self._real = RealValues(
            skeleton if model is None else model, writer, is_recorded=model is None
        )

    def function(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The result of a torch function on meta tensors, without recording what it is made of."""
        if func is torch._C._set_grad_enabled:
            return func(*args)
        args, kwargs = _on_meta(args), _on_meta(kwargs)
        if func in FACTORIES and kwargs.get("device") is None:
            kwargs["device"] = META
        if func in (Tensor.cpu, Tensor.cuda):
            return args[0]
        if func is Tensor.to and len(args) > 1 and isinstance(args[1], str):
            args = (args[0], META, *args[2:])
        with torch._C.DisableTorchFunctionSubclass(), torch.no_grad():
            return func(*args, **kwargs)

    def function_or_real(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        try:
            return self.function(func, args, kwargs)
        except _NOT_ON_META as error:
            return self._on_real(func, args, kwargs, error)

    def leaf(self, path: str, forward: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """The result of a leaf module; its forward runs unobserved."""
        if self._keeps_shape(path, args, kwargs):
            return torch.empty_like(args[0], device=META, memory_format=torch.contiguous_format)
        axis = step_axis(self._skeleton.get_submodule(path), next(iter(args), None))
        try:
            with torch._C.DisableTorchFunction(), torch.no_grad():
                call = forward if axis is None else partial(run_one_step, forward, axis)
                return call(*_on_meta(args), **_on_meta(kwargs))
        except _NOT_ON_META as error:
            return self._on_real(
                lambda *a, **k: self._real.leaf(path)(*a, **k), args, kwargs, error
            )

    def _keeps_shape(self, path: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        """Such modules needn't run: torch takes milliseconds for a norm's shape on the meta device,
        and a module with branches on values could not run there at all."""
        module = self._skeleton.get_submodule(path)
        operator = module_operator(module)
        if operator is None or kwargs or len(args) != 1 or not isinstance(args[0], Tensor):
            return False
        return operator.keeps_shape and not getattr(module, "inplace", False)

    def _on_real(
        self, call: Any, args: tuple[Any, ...], kwargs: dict[str, Any], error: Exception
    ) -> Any:
        """What a call gives on real tensors; the error from the meta device where it fails as well."""
        try:
            self._on_zeros(call, args, kwargs)
        except Exception:
            raise error from None  # cheap to find out: the part before it needn't be computed
        known = [x for x in tensors((args, kwargs)) if self._writer.knows(x)]
        # made in every recording, in the same place, whether the answer is known or not
        nodes = {id(x): self._writer.node(x) for x in known}
        name = getattr(call, "__name__", "")
        if name in VALUE_READS and self._known_values:
            return self._answer(name, self._known_values.popleft())
        result = self._real_result(call, args, kwargs, nodes)
        if has_tensors(result):
            return mapped(result, lambda x: torch.empty_like(x, device=META))
        return self._answer(name, result)

    def _on_zeros(self, call: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        def convert(x: Any) -> Any:
            if isinstance(x, torch.device):
                return self._real.device
            return torch.zeros_like(x, device=self._real.device) if x.is_meta else x.clone()

        with torch._C.DisableTorchFunction(), torch.no_grad():
            args, kwargs = (mapped(tree, convert, _REPLACED) for tree in (args, kwargs))
            call(*args, **kwargs)

    def _real_result(
        self, call: Any, args: tuple[Any, ...], kwargs: dict[str, Any], nodes: dict[int, fx.Node]
    ) -> Any:
        with torch._C.DisableTorchFunction(), torch.no_grad():
            found = self._real.of(nodes.values())
            real = {key: found[node] for key, node in nodes.items()}

            def convert(x: Any) -> Any:
                return self._real.device if isinstance(x, torch.device) else real.get(id(x), x)

            args, kwargs = (mapped(tree, convert, _REPLACED) for tree in (args, kwargs))
            return call(*args, **kwargs)

    def _answer(self, name: str, value: Any) -> Any:
        """A value that the forward asked for, written down."""
        if name in VALUE_READS:
            self.values.append(value)
            text = str(value) if isinstance(value, (bool, int, float)) else type(value).__name__
            note = f"{name.strip('_')}() of a tensor is fixed at {text} ({user_line()})"
            self.notes[note] = None
        return value


def _on_meta(tree: Any) -> Any:
    """Tensors and devices replaced by those of the meta device."""

    def convert(x: Any) -> Any:
        if isinstance(x, torch.device):
            return META
        return x if x.is_meta else torch.empty_like(x, device=META)

    with torch._C.DisableTorchFunction():
        tree = mapped(tree, convert, _REPLACED)
    if isinstance(tree, dict) and isinstance(tree.get("device"), (str, int)):
        tree["device"] = META
    return tree
