"""The recorder: while a forward runs on meta tensors, every function is written into a graph."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from td_transform.operators import function_operator, module_operator
from td_transform.operators.mutation import assigned
from td_transform.trace.constructors import dtype_of, name_of, reported_constructors
from td_transform.trace.execution import Executor
from td_transform.trace.gradients import (
    as_operator,
    has_own_gradient,
    is_plain,
    told_of_gradients,
)
from td_transform.trace.modes import Mode, settled
from td_transform.trace.source import is_users, user_line
from td_transform.trace.state import Leftover, ModuleState
from td_transform.trace.targets import (
    RANK_READS,
    SIZE_READS,
    TAKES_NUMBERS,
    Target,
    attribute_of,
    is_method,
    public,
    turned,
)
from td_transform.trace.trees import describe, has_tensors, mapped, parts, tensors
from td_transform.trace.writer import META, GraphWriter

# in a node's meta: does the module hand on the tensor that it gets, outside of training?
HANDS_ON = "hands_on"
_NUMBERS = (bool, int, float)
_Execution = Callable[[], Any]
_GRAD_MODES = ("recorder.py", "grad_mode.py", "_contextlib.py")


class Recorder(TorchFunctionMode):
    """Records one run of a skeleton.

    Args:
        skeleton: the model on the meta device.
        is_leaf: which modules are recorded as one call.
        model: the user's model, whose parameters give values where a forward asks for them.
        state: what the skeleton's modules hold, to put back after the run.
        hashable_sizes: may sizes be looked up in tables (and be frozen there)?
        known_values: tensors' values that an earlier recording asked for.
        training: which way do branches on ``self.training`` go?
        leftovers: what an earlier run left in the modules, for this one to find.
    """

    def __init__(
        self,
        skeleton: nn.Module,
        is_leaf: Callable[[nn.Module], bool],
        model: nn.Module | None,
        state: ModuleState,
        *,
        hashable_sizes: bool = False,
        known_values: Iterable[Any] = (),
        training: bool = False,
        leftovers: Sequence[Leftover] = (),
    ) -> None:
        super().__init__()
        self.hashable_sizes = hashable_sizes
        self.decisions: list[tuple[str, bool]] = []
        # modules that branch on their mode, and where
        self.switches: dict[tuple[str, str], None] = {}
        self.leftovers: list[Leftover] = []  # what the run has left in the modules
        self.failed_in: str | None = None  # the innermost module that an error came out of
        self.failed_on: tuple[Any, ...] = ()  # and the shapes of its arguments
        self.writer = GraphWriter(skeleton, self)
        self.asked = False  # has the forward seen a number that may depend on the image's size?
        self._executor = Executor(skeleton, model, self.writer, known_values)
        self._skeleton = skeleton
        self._is_leaf = is_leaf
        self._state = state
        self._left_out: dict[str, None] = {}
        self._calls: dict[str, int] = {}
        self._paused = 0
        self._training = training
        self._found = leftovers

    @property
    def notes(self) -> list[str]:
        """What the graph leaves out of the forward, a sentence each."""
        return [*self._executor.notes, *self._left_out]

    @property
    def values_read(self) -> list[Any]:
        """The values of tensors that the forward asked for, in order."""
        return self._executor.values

    def decided(self, outcome: bool) -> None:
        self.decisions.append((user_line(), outcome))

    # -- running -------------------------------------------------------------------------------

    def run(self, image: Tensor, input_name: str) -> Any:
        """Run the forward on that image; the result is the forward's own, made of carriers."""
        node = self.writer.create("placeholder", input_name, (), {}, describe(image))
        with self._pause():
            carrier = self.writer.adopt(image, node)
        with (
            torch.enable_grad(),
            self._intercepted(),
            told_of_gradients(self),
            reported_constructors(),
            self,
        ):
            return self._skeleton(carrier)

    @contextmanager
    def _intercepted(self) -> Iterator[None]:
        """Module calls pass through the recorder; afterwards the skeleton is as it was."""
        for path, module in self._skeleton.named_modules():
            if path:
                vars(module)["forward"] = _Intercepted(self, path, module)
            torchs_own = type(module).__module__.startswith("torch.")
            if not torchs_own and not self._is_leaf(module):
                vars(module)["training"] = Mode(self._training, partial(self._switched, path))
        for each in self._found:
            each.put_back()
        try:
            yield
            self.leftovers = [each for each in self._state.leftovers() if self._matters(each)]
        finally:
            self._state.restore()

    def _switched(self, path: str) -> None:
        self.switches[path, user_line()] = None

    def _matters(self, leftover: Leftover) -> bool:
        """Is it made of images, or a number that changes? Tables and sizes are found again."""
        if type(leftover.after) in _NUMBERS:
            return isinstance(leftover.before, _NUMBERS) and leftover.before != leftover.after
        return any(map(self.writer.depends_on_image, tensors(leftover.after)))

    @contextmanager
    def _pause(self) -> Iterator[None]:
        """What runs meanwhile belongs to a call that is recorded as a whole."""
        self._paused += 1
        try:
            yield
        finally:
            self._paused -= 1

    # -- modules -------------------------------------------------------------------------------

    def call_module(
        self, module: nn.Module, path: str, forward: Callable[..., Any], args: Any, kwargs: Any
    ) -> Any:
        """A module of the skeleton is called: a node where it is a leaf, else its forward."""
        if self._paused:
            return forward(*args, **kwargs)
        stack = self.writer.stack
        calls = self._calls[path] = self._calls.get(path, -1) + 1
        stack[f"{path}@{calls}" if calls else path] = (path, type(module))
        try:
            if not self._is_leaf(module) or self._is_another(module):
                return forward(*args, **kwargs)
            with self._pause():
                target = Target("call_module", path, args, kwargs)
                return self._record(
                    target, lambda: self._executor.leaf(path, forward, args, kwargs)
                )
        except Exception:
            if self.failed_in is None:
                self.failed_in, self.failed_on = path, describe(args)
            raise
        finally:
            stack.popitem()

    def _is_another(self, module: nn.Module) -> bool:
        """Has the forward given a known layer another stride, say, so that its functions tell, not it?"""
        return module_operator(module) is not None and self._state.is_changed(module)

    # -- functions -----------------------------------------------------------------------------

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        args = tuple(map(settled, args))
        kwargs = {name: settled(value) for name, value in (kwargs or {}).items()}
        if self._paused or func is torch.device:
            return self._executor.function(func, args, kwargs)
        with self._pause():
            return self._function(func, args, kwargs)

    def _function(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        if (attribute := attribute_of(func)) is not None:
            return self._attribute(func, *attribute, args)
        name = getattr(func, "__name__", "")
        if name in SIZE_READS and is_method(func):
            return self._size(func, name, args, kwargs)
        if name in TAKES_NUMBERS and is_method(func):
            args = (args[0], *mapped(args[1:], self._number, (Tensor, slice)))
        if func is Tensor.type:
            return self._type(*args, **kwargs)
        if func is torch._C._set_grad_enabled:
            self._set_gradient(args[0])
            return func(*args)
        if str(func).startswith("prims."):  # the inside of an operator that didn't report itself
            self.writer.escaped = True
            return self._executor.function(func, args, kwargs)
        if func is Tensor.__setitem__ and len(args) == 3:
            target = Target("call_function", assigned, args, {})
            self._record(target, lambda: self._executor.function(assigned, args, {}))
            return None
        return self._record(
            public(func, args, kwargs), lambda: self._executor.function_or_real(func, args, kwargs)
        )

    def operator(self, func: Any, name: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Record what torch's dispatcher saw, under a public name; nothing while another call runs."""
        if self._paused:
            return func(*args, **kwargs)
        with self._pause():
            target = Target("call_function", name, args, kwargs)
            return self._record(target, lambda: self._executor.function_or_real(func, args, kwargs))

    def applied(self, function: Any, args: tuple[Any, ...], run: _Execution) -> Any:
        """An autograd function of the user's own: its forward is recorded, or one call where its backward
        is no derivative of that."""
        if self._paused:
            return run()
        versions = [_version(x) for x in tensors(args)]
        result = run()
        with self._pause():
            if not has_own_gradient(function, args):
                return result
            writes = versions != [_version(x) for x in tensors(args)]
            if writes or not is_plain(args) or not isinstance(result, Tensor):
                line = function.forward.__code__.co_firstlineno
                note = f"{function.__name__}'s own backward is left out, its forward's is used "
                self._left_out[f"{note}({user_line().rpartition(':')[0]}:{line})"] = None
                return result
            target = Target("call_function", as_operator(function, args), args, {})
            return self._record(target, lambda: torch.empty_like(result, device=META))

    def asked_for_gradient(self, answer: bool) -> None:
        if not self._paused:
            self._left_out[f"torch.is_grad_enabled() is fixed at {answer} ({user_line()})"] = None

    def _record(self, target: Target, execute: _Execution) -> Any:
        """Execute a call; where tensors come out of it, or are written into, put it in the graph."""
        given = [x for x in tensors((target.args, target.kwargs)) if self.writer.knows(x)]
        versions = [_version(x) for x in given]
        result = execute()
        written = [x for x, v in zip(given, versions, strict=True) if _version(x) != v]
        if not isinstance(result, (Tensor, bool)) and target.target not in RANK_READS:
            self.asked = self.asked or target.op != "call_module"
        if not written and not has_tensors(result):
            return result
        args, kwargs = self.writer.arguments(target.args), self.writer.arguments(target.kwargs)
        node = self.writer.create(target.op, target.target, args, kwargs, describe(result))
        if target.op == "call_module" and not written:
            node.meta[HANDS_ON] = any(result is x for x in target.args)
        self._note_what_is_left_out(target)
        returned = self.writer.adopt_all(result, node, written)
        for tensor in written:
            self.writer.overwrite(tensor, node, is_value=tensor is result)
        return returned

    def _attribute(self, func: Any, name: str, kind: str, args: tuple[Any, ...]) -> Any:
        """``x.name`` is read or written."""
        if kind != "__get__":
            if name == "data" and isinstance(args[1], Tensor):
                self.writer.replace(args[0], args[1])
            return self._executor.function(func, args, {})
        if name == "shape":
            return self._size(func, name, args, {})
        if name == "data":
            target = Target("call_method", "detach", args, {})
            return self._record(target, lambda: self._executor.function(Tensor.detach, args, {}))
        result = self._executor.function(func, args, {})
        if not isinstance(result, Tensor):
            return result
        target = turned(args[0], name) or Target("call_function", getattr, (args[0], name), {})
        return self._record(target, lambda: result)

    def _size(self, func: Any, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """``x.shape``, ``x.size(i)``, ``x.numel()``, ``len(x)``."""
        tensor, result = args[0], self._executor.function(func, args, kwargs)
        if not self.writer.knows(tensor):
            return result
        self.asked = True
        if name == "__len__":
            return result  # Python wants an ordinary integer
        sizes = [self.writer.axis(tensor, i) for i in range(tensor.dim())]
        if name in ("numel", "nelement"):
            product: Any = 1
            for size in sizes:
                product = product * size
            return product
        if isinstance(result, torch.Size):
            return torch.Size(sizes)
        return sizes[kwargs.get("dim", args[1] if len(args) > 1 else 0)]

    def _number(self, value: Tensor | slice) -> Any:
        """A size or bound that a model keeps as a tensor of one integer is a number."""
        if isinstance(value, slice):
            return slice(*mapped(list(parts(value).values()), self._number))
        is_integer = not (value.dim() or value.dtype.is_floating_point or value.dtype.is_complex)
        if not is_integer or value.dtype is torch.bool or self.writer.depends_on_image(value):
            return value
        return self._function(Tensor.__int__, (value,), {})

    def _type(self, tensor: Tensor, dtype: Any = None, **kwargs: Any) -> Any:
        """``x.type()``, or ``x.type(torch.FloatTensor)``."""
        if dtype is None:
            return name_of(tensor.dtype)
        return self._function(Tensor.to, (tensor, dtype_of(dtype)), {})

    def _note_what_is_left_out(self, target: Target) -> None:
        """The recording is one of eval mode, and of functions' forwards."""
        operator = function_operator(target.target)
        follows = operator is not None and operator.as_module is not None
        frozen = target.kwargs.get("training") is False and target.kwargs.get("p", 1) > 0
        if frozen and not follows:
            name = getattr(target.target, "__name__", target.target)
            self._left_out[f"{name} runs as in eval mode, also in training ({user_line()})"] = None

    def _set_gradient(self, enabled: bool) -> None:
        """The user's `no_grad`, not that of torch's own checkpoints: they take it back."""
        frame: FrameType | None = sys._getframe()
        while frame is not None and frame.f_code.co_filename.endswith(_GRAD_MODES):
            frame = frame.f_back
        if frame is not None and is_users(frame.f_code.co_filename):
            self.writer.with_gradient = enabled


class _Intercepted:
    """Stands in for the forward of one module of the skeleton."""

    def __init__(self, recorder: Recorder, path: str, module: nn.Module) -> None:
        self._call = (module, path, module.forward)
        self._recorder = recorder

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._recorder.call_module(*self._call, args, kwargs)

    def __deepcopy__(self, memo: Any) -> _Intercepted:
        """A copied leaf runs unobserved, so whoever copies it takes this away."""
        return self


def _version(tensor: Tensor) -> int:
    """Counts what was written into a tensor."""
    with torch._C.DisableTorchFunction():
        return 0 if tensor.is_inference() else tensor._version
