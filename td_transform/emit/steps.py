"""Steps: a graph as a sequence of functions, some of which are run again in the backward pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import fx, nn
from torch.utils.checkpoint import checkpoint

from td_transform.emit.recompute import Piece, inputs

# What older compilers recompute writes its running statistics a second time.
_COMPILERS_RECOMPUTE = tuple(map(int, torch.__version__.split(".")[:2])) >= (2, 9)


@dataclass(frozen=True)
class Step:
    """A stretch of a graph.

    Args:
        function: of the network and the values that it takes; gives a tuple.
        takes, gives: the names of nodes.
        drops: what no later step takes.
        recomputed: is it run again in the backward pass?
        modules: paths of those that it calls.
    """

    function: Callable[..., tuple[Any, ...]]
    takes: tuple[str, ...]
    gives: tuple[str, ...]
    drops: tuple[str, ...]
    recomputed: bool
    modules: tuple[str, ...]


def steps_of(graph: fx.Graph, pieces: Sequence[Piece]) -> tuple[Step, ...]:
    """The steps of a graph, without its input and output; the pieces are recomputed."""
    starts = {piece[0]: piece for piece in pieces}
    within = {node for piece in pieces for node in piece}
    stretches: list[tuple[Piece, bool]] = []
    plain: list[fx.Node] = []
    for node in graph.nodes:
        if node in starts and plain:
            stretches.append((tuple(plain), False))
            plain = []
        if node in starts:
            stretches.append((starts[node], True))
        elif node not in within and node.op not in ("placeholder", "output"):
            plain.append(node)
    if plain:
        stretches.append((tuple(plain), False))
    places = {node: i for i, (nodes, _) in enumerate(stretches) for node in nodes}
    return tuple(
        _step(nodes, recomputed, i, places) for i, (nodes, recomputed) in enumerate(stretches)
    )


def _step(nodes: Piece, recomputed: bool, place: int, places: dict[fx.Node, int]) -> Step:
    def last_use(node: fx.Node) -> int:
        return max(places.get(user, len(places)) for user in node.users)

    taken = inputs(nodes)
    given = [n for n in nodes if n.users and last_use(n) > place]
    targets = dict.fromkeys(str(n.target) for n in nodes if n.op == "call_module")
    return Step(
        _function(nodes, taken, given, place),
        tuple(n.name for n in taken),
        tuple(n.name for n in given),
        tuple(n.name for n in taken if last_use(n) == place),
        recomputed,
        tuple(targets),
    )


def _function(
    nodes: Piece, taken: Sequence[fx.Node], given: Sequence[fx.Node], place: int
) -> Callable[..., tuple[Any, ...]]:
    graph = fx.Graph()
    placed = {node: graph.placeholder(node.name) for node in taken}
    for node in nodes:
        placed[node] = graph.node_copy(node, lambda n: placed[n])
    graph.output(tuple(placed[node] for node in given))
    code = graph.python_code("self")
    namespace = dict(code.globals)
    exec(compile(code.src, f"<td_transform step {place}>", "exec"), namespace)
    function: Callable[..., tuple[Any, ...]] = namespace["forward"]
    return function


def run_steps(network: nn.Module, steps: Sequence[Step], images: Any, output: Any) -> Any:
    """The output of a network, step by step; given as the names of nodes."""
    values = {"images": images}
    for step in steps:
        taken = [values[name] for name in step.takes]
        for name in step.drops:
            del values[name]
        again = step.recomputed and _can_recompute(images)
        given = _recomputed(network, step, taken) if again else step.function(network, *taken)
        values.update(zip(step.gives, given, strict=True))
    return fx.node.map_aggregate(output, lambda name: values[str(name)])


def _can_recompute(images: Any) -> bool:
    if torch.compiler.is_compiling() and not _COMPILERS_RECOMPUTE:
        return False
    return torch.is_grad_enabled() and not isinstance(images, fx.Proxy)


def _recomputed(network: nn.Module, step: Step, taken: list[Any]) -> tuple[Any, ...]:
    def run(*values: Any) -> tuple[Any, ...]:
        return step.function(network, *values)

    if torch.compiler.is_compiling():
        # the compiler writes buffers once itself
        given: tuple[Any, ...] = checkpoint(run, *taken, use_reentrant=False)
        return given
    contexts = lambda: (nullcontext(), _throwaway_buffers(network, step.modules))  # noqa: E731
    given = checkpoint(run, *taken, use_reentrant=False, context_fn=contexts)
    return given


@contextmanager
def _throwaway_buffers(network: nn.Module, paths: Sequence[str]) -> Iterator[None]:
    """What the second run writes (running statistics) goes into copies, so that it counts once."""
    modules = [module for path in paths for module in network.get_submodule(path).modules()]
    own = [(module, dict(module._buffers)) for module in modules]
    for module, buffers in own:
        module._buffers.update({n: b.clone() for n, b in buffers.items() if b is not None})
    try:
        yield
    finally:
        for module, buffers in own:
            module._buffers.update(buffers)
