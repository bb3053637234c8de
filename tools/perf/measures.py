"""What is measured of one network: time, memory, multiply-adds, share of the machine's peak."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, fx, nn
from torch.fx.passes.shape_prop import ShapeProp

from td_transform import optimize_for_inference, to_topdown
from td_transform.cost import measure
from tools.perf.memory import memory
from tools.perf.subjects import Size, Subject
from tools.perf.timing import Ratio, Run, in_turn

# the side of the square matrices whose product is the machine's peak
_SIDE = 2048


@dataclass(frozen=True)
class Row:
    """One network at one batch size; ratios of times are those of the same rounds.

    Args:
        name: the network's.
        batch: images a step.
        conversion: `to_topdown` of the model on meta against symbolic_trace and shape propagation.
        backend: what `optimize_for_inference` chose: convolutions rewritten, pieces of the batch.
        inference, training: per contestant (`BU`, `TD`, `by hand`, `... compiled`), against `TD`;
            in inference also what `optimize_for_inference` makes of it.
        multiply_adds: top-down against bottom-up.
        kept: bytes for the backward pass, top-down against bottom-up.
        kept_bytes, peak_bytes: of the top-down network.
        share: of the matrix-product peak that the top-down network's inference reaches.
        training_share: the same of a training step, which multiplies three times as much.
    """

    name: str
    batch: int
    conversion: Ratio
    backend: str
    inference: dict[str, Ratio]
    training: dict[str, Ratio]
    multiply_adds: float
    kept: float
    kept_bytes: int
    peak_bytes: int
    share: float
    training_share: float


@dataclass(frozen=True)
class Setting:
    """How everything is measured."""

    device: torch.device
    batch: int
    rounds: int
    compiled: bool


def measured(name: str, subject: Subject, setting: Setting) -> Row:
    """All figures of a network."""
    torch.manual_seed(0)
    torch.compiler.reset()
    model = subject.build().to(setting.device)
    td = subject.top_down(model)
    networks: dict[str, nn.Module] = {"TD": td, "BU": model}
    if subject.by_hand is not None:
        networks["by hand"] = subject.by_hand().to(setting.device)
    if setting.compiled:
        networks |= {f"{n} compiled": _compiled(m) for n, m in networks.items()}
    images = torch.rand(setting.batch, *subject.size, device=setting.device)
    device, rounds = setting.device, setting.rounds
    fast = optimize_for_inference(td, images)
    chosen = f"{fast.backend}, {fast.rewritten} rewritten, {fast.pieces} pieces"
    evaluated = {n: m.eval() for n, m in networks.items()} | {f"TD, {chosen}": fast}
    inference = {n: _inference(m, images) for n, m in evaluated.items()}
    times = in_turn({**inference, "peak": _product(device)}, device, rounds=rounds)
    training = {n: _training(m.train(), images) for n, m in networks.items()}
    steps = in_turn({**training, "peak": _product(device)}, device, rounds=rounds)
    costs = [measure(m, subject.size, batch=setting.batch) for m in (model, td)]
    used = [memory(_loss(m, images), device) for m in (model, td)]
    return Row(
        name=name,
        batch=setting.batch,
        conversion=_conversion(model, subject.size, rounds),
        backend=chosen,
        inference={n: times[n] for n in inference},
        training={n: steps[n] for n in training},
        multiply_adds=costs[1].multiply_adds / costs[0].multiply_adds,
        kept=used[1].kept / used[0].kept,
        kept_bytes=used[1].kept,
        peak_bytes=used[1].peak,
        share=_share(costs[1].multiply_adds, times),
        training_share=_share(3 * costs[1].multiply_adds, steps),
    )


def _compiled(model: nn.Module) -> nn.Module:
    twin = copy.deepcopy(model)
    twin.compile()
    return twin


def _inference(model: nn.Module, images: Tensor) -> Run:
    def run() -> None:
        with torch.no_grad():
            model(images)

    return run


def _loss(model: nn.Module, images: Tensor) -> Callable[[], Tensor]:
    return lambda: model(images).sum()


def _training(model: nn.Module, images: Tensor) -> Run:
    optimiser = torch.optim.SGD(model.parameters(), lr=1e-3)
    loss = _loss(model, images)

    def run() -> None:
        optimiser.zero_grad(set_to_none=False)
        loss().backward()
        optimiser.step()

    return run


def _product(device: torch.device) -> Run:
    left, right = torch.rand(2, _SIDE, _SIDE, device=device)
    return lambda: left @ right


def _share(multiply_adds: int, times: dict[str, Ratio]) -> float:
    return multiply_adds / times["TD"].seconds / (_SIDE**3 / times["peak"].seconds)


def trace_and_propagate(model: nn.Module, size: Size) -> None:
    """The baseline of a conversion: what any graph tool has to do, on meta tensors."""
    graph = fx.symbolic_trace(model)
    with torch.no_grad():
        ShapeProp(graph).propagate(torch.empty(1, *size, device="meta"))


def _conversion(model: nn.Module, size: Size, rounds: int) -> Ratio:
    on_meta = copy.deepcopy(model).to("meta").eval()

    def convert() -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            to_topdown(on_meta, input_size=size)

    runs = {"baseline": lambda: trace_and_propagate(on_meta, size), "conversion": convert}
    return in_turn(runs, torch.device("cpu"), rounds=rounds)["conversion"]
