"""Attacks that use gradients, and AutoAttack: what the paper's ten attacks may flatter.

FGSM, PGD and DeepFool are foolbox's. AutoAttack is the reference (Croce & Hein, arXiv 2003.01690),
packaged as pyautoattack: APGD on cross-entropy, targeted APGD, targeted FAB, Square; the worst of
all counts. Its own signs that gradients are masked are kept with its results. FAB is also used to
minimise the L2 norm. Carlini-Wagner's attack is left out: see `MINIMAL`.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import foolbox.attacks as fa
import torch
from foolbox import PyTorchModel
from foolbox.attacks.base import Attack
from torch import Tensor, nn

from benchmarks.errors import BenchmarkError
from benchmarks.measures.attacks import NamedAttack
from benchmarks.measures.attacks.foolbox_attack import FoolboxAttack
from benchmarks.measures.attacks.search import Search, Target
from benchmarks.measures.robustness import check, predict, seeded
from benchmarks.runs.effort import StrongEffort

Norm = Literal["linf", "l2"]
NORMS: tuple[Norm, ...] = get_args(Norm)

# Rounding may carry a perturbation this far beyond its bound.
_SLACK = 1e-6
_RELATIVE_SLACK = 1e-3


@dataclass(frozen=True, eq=False)
class Case:
    """What an attack of bounded size is given: see `still_right`."""

    model: nn.Module
    images: Tensor
    labels: Tensor
    norm: Norm
    epsilon: float
    effort: StrongEffort
    seed: int
    signs: list[str]


@dataclass(frozen=True, eq=False)
class Outcome:
    """What an attack of bounded size left.

    Args:
        right: (N,) whether each image is right, and stays so.
        signs: what AutoAttack found that speaks for masked gradients; empty for other attacks.
    """

    right: Tensor
    signs: tuple[str, ...]


@dataclass
class Kept:
    """The batches of `still_right` that are done, to go on from.

    Args:
        right: (N,) as in `Outcome`; empty before the first batch.
        signs: as in `Outcome`.
        batches: how many are done.
    """

    right: list[bool] = field(default_factory=list)
    signs: list[str] = field(default_factory=list)
    batches: int = 0


def still_right(
    model: nn.Module,
    images: Tensor,
    labels: Tensor,
    *,
    attack: str,
    norm: Norm,
    epsilon: float,
    effort: StrongEffort | None = None,
    batch: int = 128,
    seed: int = 0,
    kept: Kept | None = None,
    pause: Callable[[], None] | None = None,
) -> Outcome:
    """Whether images are right, and stay so under an attack of bounded size.

    Args:
        model: takes images in [0, 1]; in eval mode; differentiable.
        images: (N, C, H, W) float, in [0, 1].
        labels: (N,).
        attack: a name of `FIXED`.
        norm: of the perturbation.
        epsilon: its bound, for images in [0, 1].
        effort: how long to search.
        batch: images attacked at once.
        seed: of all random draws; the global generators are left as they were.
        kept: of an interrupted call; it is filled after every batch.
        pause: called before every question to the network; may raise to stop.

    Raises:
        BenchmarkError: the model is in training mode, values lie outside [0, 1], or an attack left
            its bound.
    """
    check(model, images)
    clean_right = predict(model, images, batch=batch) == labels
    kept = Kept() if kept is None else kept
    right = torch.tensor(kept.right, device=images.device) if kept.right else clean_right.clone()
    asked = _Pausing(model, pause).eval() if pause else model
    batches = clean_right.nonzero().flatten().split(batch) if clean_right.any() else ()
    for chosen in batches[kept.batches :]:
        clean, wanted = images[chosen], labels[chosen]
        case = Case(asked, clean, wanted, norm, epsilon, effort or StrongEffort(), seed, kept.signs)
        with seeded(seed):
            found = FIXED[attack](case)
        _check_bound(found - clean, attack, norm, epsilon)
        right[chosen] = predict(model, found, batch=batch) == wanted
        kept.right, kept.batches = right.tolist(), kept.batches + 1
    return Outcome(right, tuple(dict.fromkeys(kept.signs)))


class _Pausing(nn.Module):
    """A network that can be interrupted before every question."""

    def __init__(self, network: nn.Module, pause: Callable[[], None]) -> None:
        super().__init__()
        self.network = network
        self.pause = pause

    def forward(self, images: Tensor) -> Tensor:
        """Images (N, C, H, W) to logits (N, classes)."""
        self.pause()
        logits: Tensor = self.network(images)
        return logits


def _fgsm(case: Case) -> Tensor:
    """One step."""
    kinds = {"linf": fa.LinfFastGradientAttack, "l2": fa.L2FastGradientAttack}
    return _by_foolbox(case, kinds[case.norm]())


def _pgd(case: Case) -> Tensor:
    """Many steps from a random start."""
    kinds = {"linf": fa.LinfPGD, "l2": fa.L2PGD}
    steps = case.effort.pgd_steps
    # of the bound: enough to cross it, however few steps there are (Madry et al., 1706.06083)
    return _by_foolbox(case, kinds[case.norm](steps=steps, rel_stepsize=2.5 / steps))


def _by_foolbox(case: Case, attack: Attack) -> Tensor:
    wrapped = PyTorchModel(case.model, bounds=(0, 1), device=case.images.device)
    found: Tensor = attack(wrapped, case.images, case.labels, epsilons=case.epsilon)[1]
    return found.detach()


def _auto_attack(case: Case) -> Tensor:
    """The worst of an ensemble, the package's standard one at the effort asked for."""
    from pyautoattack import AutoAttack
    from pyautoattack.autopgd_base import APGDAttack, APGDAttack_targeted

    effort = case.effort
    with torch.no_grad():
        classes = case.model(case.images[:1]).shape[1]
    common: dict[str, Any] = {
        "norm": {"linf": "Linf", "l2": "L2"}[case.norm], "eps": case.epsilon, "seed": case.seed,
        "device": case.images.device,
    }  # fmt: skip
    suite = AutoAttack(case.model, attacks=_members(classes), version="custom", **common)
    steps: dict[str, Any] = {"n_iter": effort.pgd_steps, "logger": suite.logger}
    suite.apgd = APGDAttack(case.model, n_restarts=effort.restarts, **steps, **common)
    suite.apgd_targeted = APGDAttack_targeted(case.model, n_restarts=1, **steps, **common)
    suite.fab.n_iter, suite.square.n_queries = effort.pgd_steps, effort.square_queries
    suite.square.n_restarts = effort.restarts
    suite.apgd_targeted.n_target_classes = suite.fab.n_target_classes = min(9, classes - 1)
    with _overheard(suite.logger) as messages:
        found, _ = suite.run_standard_evaluation(
            case.images, case.labels, batch_size=len(case.images)
        )
    case.signs.extend(_signs(messages))
    result: Tensor = found.detach()
    return result


def _members(classes: int) -> list[str]:
    """The targeted loss needs four logits, the other difference of logits ratio three."""
    if classes > 3:
        return ["apgd-ce", "apgd-t", "fab-t", "square"]
    return (
        ["apgd-ce", "apgd-dlr", "fab", "square"] if classes == 3 else ["apgd-ce", "fab", "square"]
    )


@contextmanager
def _overheard(logger: logging.Logger) -> Iterator[list[str]]:
    """The warnings of a logger, and they go nowhere else."""
    messages: list[str] = []

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            messages.append(record.getMessage())

    listener, propagate = Listener(logging.WARNING), logger.propagate
    logger.addHandler(listener)
    logger.propagate = False
    try:
        yield messages
    finally:
        logger.removeHandler(listener)
        logger.propagate = propagate


# AutoAttack's warnings, by a part of their text (pyautoattack/checks.py)
_SIGNS = {
    r"randomized defense": "outputs are random",
    r"points with zero gradient": "zero gradients",
    r"Square Attack has decreased": "a black-box attack beats the white-box ones",
    r"dynamic defense": "the network changes while it is asked",
    r"probability distribution": "outputs are probabilities",
}


def _signs(messages: list[str]) -> list[str]:
    found = {
        sign: message
        for message in messages
        for pattern, sign in _SIGNS.items()
        if re.search(pattern, message)
    }
    return [sign for sign in _SIGNS.values() if sign in found]


class FabAttack(Search):
    """FAB (Croce & Hein, arXiv 1907.02044), which minimises the L2 norm.

    Args:
        steps: of the search.
    """

    def __init__(self, *, steps: int = 100) -> None:
        self.steps = steps

    def search(self, target: Target) -> Tensor:
        from pyautoattack.fab_pt import FABAttack_PT

        device = target.images.device
        # any size is allowed
        attack = FABAttack_PT(
            target.network.model, norm="L2", n_iter=self.steps, eps=torch.inf, device=device
        )
        found: Tensor = attack.perturb(target.images, target.labels).clamp(0, 1)
        fooled = target.network.fooled(found, torch.arange(len(found), device=device))
        return torch.where(fooled[:, None, None, None], found, target.images)


# attacks of bounded size
FIXED: dict[str, Callable[[Case], Tensor]] = {
    "FGSM": _fgsm, "PGD": _pgd, "AutoAttack": _auto_attack,
}  # fmt: skip
# For `benchmarks.measures.robustness.minimal_perturbations`, with a `StrongEffort`. Carlini-Wagner's
# attack is left out: on NIN-light BU (MNIST, 12 images) it comes as close as 100 steps of FAB (median
# L2 1.01 and 1.02) with 300 steps of 0.05 for each of its 9 weights, in three times FAB's time; with
# 100 of foolbox's steps (0.01) its median is 8.5, DeepFool's is 1.5 in a quarter of that time.
MINIMAL: dict[str, NamedAttack] = {
    attack.name: attack
    for attack in (
        NamedAttack(name="DeepFool", make=lambda effort: FoolboxAttack(fa.L2DeepFoolAttack())),
        NamedAttack(name="FAB", make=lambda effort: FabAttack(steps=effort.pgd_steps)),
    )
}


def _check_bound(change: Tensor, attack: str, norm: Norm, epsilon: float) -> None:
    order = torch.inf if norm == "linf" else 2
    largest = change.flatten(1).norm(p=order, dim=1).max().item()
    # not a number is beyond it too
    if not largest <= epsilon * (1 + _RELATIVE_SLACK) + _SLACK:
        raise BenchmarkError(
            f"attack {attack}", seen=f"a perturbation of {norm} norm {largest:g}",
            expected=f"at most {epsilon:g}",
            remedy="report it: its robust accuracy would be too low",
        )  # fmt: skip
