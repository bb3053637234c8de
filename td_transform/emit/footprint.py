"""What every node of a graph multiplies and keeps for the backward pass, found on meta tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from td_transform.layers.parameters import dtype_of_layers, parameters_of
from td_transform.operators import module_operator, run_one_step, step_axis
from td_transform.plan import Work
from td_transform.storages import Storages, not_kept, storage_of
from td_transform.trace import ModuleState

# images of a run: an axis of one would hide what is wrong with the others
BATCH = 2


@dataclass(frozen=True)
class Footprint:
    """One forward pass of `BATCH` images in eval mode, with every parameter trained.

    Args:
        multiply_adds: per node.
        saved: per node the storages that it saves for the backward pass, which others may save too;
            parameters, buffers and the images don't count.
        made: per node the storage of its output.
        sizes: bytes per storage.
        own: the storages of parameters, buffers and images.
    """

    multiply_adds: dict[fx.Node, int] = field(default_factory=dict)
    saved: dict[fx.Node, set[int]] = field(default_factory=dict)
    made: dict[fx.Node, int] = field(default_factory=dict)
    sizes: dict[int, int] = field(default_factory=dict)
    own: set[int] = field(default_factory=set)

    def work(self, nodes: Iterable[fx.Node], known: set[int]) -> Work:
        """The work of some nodes for an image; storages known already are left out, and added."""
        nodes = list(nodes)
        new = {key for node in nodes for key in self.saved.get(node, ())} - known
        known |= new
        return Work(
            sum(self.multiply_adds.get(node, 0) for node in nodes) // BATCH,
            sum(self.sizes[key] for key in new) // BATCH,
        )


class MetaRun(fx.Interpreter):
    """Runs a graph on the meta device and writes its footprint down.

    Args:
        module: what the graph's paths belong to, in eval mode and on the meta device.
        graph: from images (N, C, H, W) to logits.
        size: (C, H, W) of an image.
    """

    def __init__(self, module: nn.Module, graph: fx.Graph, size: tuple[int, ...]) -> None:
        super().__init__(module, graph=graph)
        self.extra_traceback = False
        self.footprint = Footprint()
        self.not_run: set[int] = set()
        self._size = size
        self._products = _Products()
        self._saved = _Saved(self.footprint)

    def on_images(self) -> Tensor:
        """The logits, connected to every parameter that the graph reads."""
        dtype = dtype_of_layers(self.module)
        images = torch.empty(BATCH, *self._size, device="meta", dtype=dtype)
        tensors = (*parameters_of(self.module), *self.module.buffers(), images)
        self.footprint.own.update(storage_of(tensor) for tensor in tensors)
        with (
            _kept(self.module),
            _trained(self.module),
            torch.device("meta"),  # of tensors that a forward makes without saying where
            torch.enable_grad(),
            self._products,
            _AffineNorms(self._saved.keep),
            saved_tensors_hooks(self._saved.keep, not_kept),
        ):
            logits: Tensor = self.run(images)
        return logits

    def run_node(self, n: fx.Node) -> Any:
        before = self._products.multiply_adds
        self._saved.by(n)
        module = self.fetch_attr(str(n.target)) if n.op == "call_module" else None
        result = self._passed(module, n) if module is not None else None
        if result is None and module is not None:
            result = self._stepped(module, n)
        if result is None:
            result = super().run_node(n)
        self.footprint.multiply_adds[n] = self._products.multiply_adds - before
        if isinstance(result, Tensor):
            self.footprint.made[n] = self._saved.storages.add(result)
        return result

    def get_attr(self, target: Any, args: Any, kwargs: Any) -> Any:
        """Tensors that a forward brought along are kept with their values."""
        found = super().get_attr(target, args, kwargs)
        return found.to("meta") if isinstance(found, Tensor) else found

    def call_function(self, target: Any, args: Any, kwargs: Any) -> Any:
        """Some functions make their tensors where they always do (`torch.normal` of numbers)."""
        found = super().call_function(target, args, kwargs)
        return found.to("meta") if isinstance(found, Tensor) and not found.is_meta else found

    def _passed(self, module: nn.Module, n: fx.Node) -> Tensor | None:
        """A stranger's layer that is known to keep shapes: perhaps it can't run on meta tensors."""
        if n.kwargs or len(n.args) != 1 or not isinstance(n.args[0], fx.Node):
            return None
        x: Tensor = self.env[n.args[0]]
        operator = module_operator(module)
        torchs_own = type(module).__module__.startswith("torch.nn.")
        if (
            torchs_own
            or operator is None
            or not operator.keeps_shape
            or operator.resize is not None
        ):
            return None
        self.not_run.update(id(p) for p in parameters_of(module))
        return x.contiguous()

    def _stepped(self, module: nn.Module, n: fx.Node) -> Any:
        """A recurrent layer, run for one step: the others make and keep as much."""
        args, kwargs = self.fetch_args_kwargs_from_env(n)
        axis = step_axis(module, next(iter(args), None))
        if axis is None:
            return None
        sizes, before = self.footprint.sizes, self._products.multiply_adds
        known = {*sizes, *self.footprint.own, storage_of(args[0])}
        result = run_one_step(module, axis, *args, **kwargs)
        steps = args[0].shape[axis]
        self._products.multiply_adds += (steps - 1) * (self._products.multiply_adds - before)
        sizes.update({key: steps * sizes[key] for key in sizes.keys() - known})
        return result


class _Saved:
    """Writes down what a node saves; knows nothing of the run, which holds what autograd made."""

    def __init__(self, footprint: Footprint) -> None:
        self.storages = Storages(footprint.sizes)
        self._footprint = footprint
        self._saving: set[int] = set()

    def by(self, node: fx.Node) -> None:
        """What is saved from now on is saved by this node."""
        self._saving = self._footprint.saved.setdefault(node, set())

    def keep(self, tensor: Tensor) -> None:
        storage = self.storages.add(tensor)
        if storage not in self._footprint.own:
            self._saving.add(storage)


@contextmanager
def _kept(module: nn.Module) -> Iterator[None]:
    """What a forward keeps for its next call (a membrane's voltage) is as it was."""
    state = ModuleState(module)
    try:
        yield
    finally:
        state.restore()


@contextmanager
def _trained(module: nn.Module) -> Iterator[None]:
    """Every parameter trains meanwhile."""
    frozen = [p for p in parameters_of(module) if not p.requires_grad and p.is_floating_point()]
    for parameter in frozen:
        parameter.requires_grad_(True)
    try:
        yield
    finally:
        for parameter in frozen:
            parameter.requires_grad_(False)


class _Products(TorchDispatchMode):
    """Counts multiply-adds with torch's own table of operators."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.multiply_adds = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        result = func(*args, **kwargs)
        if func._overloadpacket in flop_registry:
            flops = flop_registry[func._overloadpacket](*args, **kwargs, out_val=result)
            self.multiply_adds += flops // 2
        return result


class _AffineNorms(TorchFunctionMode):
    """Runs batch norms in eval mode as what they are, which saves the same tensors.

    On meta tensors torch takes milliseconds for each. In training it also keeps two statistics a
    channel, whatever the batch.

    Args:
        keep: is given those statistics.
    """

    def __init__(self, keep: Callable[[Tensor], object]) -> None:
        super().__init__()
        self._keep = keep

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func is F.batch_norm:
            return self._affine(*args, **kwargs)
        return func(*args, **kwargs)

    def _affine(
        self,
        x: Tensor,
        mean: Tensor | None,
        variance: Tensor | None,
        weight: Tensor | None = None,
        bias: Tensor | None = None,
        training: bool = False,
        *rest: Any,
        **more: Any,
    ) -> Tensor:
        if training or weight is None or bias is None:
            # running statistics may be parameters that don't train
            mean, variance = (None if t is None else t.detach() for t in (mean, variance))
            return F.batch_norm(x, mean, variance, weight, bias, training, *rest, **more)
        self._keep(torch.empty(2 * BATCH, len(weight), dtype=weight.dtype, device="meta"))
        shape = (-1, *[1] * (x.dim() - 2))
        return torch.addcmul(bias.view(shape), x, weight.view(shape))
