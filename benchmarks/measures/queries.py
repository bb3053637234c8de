"""Asking a network whether an image fools it: most of what an attack costs.

Answers are float32's. Where bfloat16 is faster it is asked first, and only a candidate that it
finds clearly right is left at that: every success is confirmed in float32. Measured on a CPU with
AVX-512 BF16, NIN-light TD, milliseconds of one core per image: float32 2.3, with channels last 2.1,
bfloat16 with channels last 1.05, and with the norms fused into the convolutions a tenth less.
`torch.compile` with freezing gains hardly more, and compiles anew for every size of a batch: it is
left out.
"""

from __future__ import annotations

import copy
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise

import torch
from torch import Tensor, fx, nn
from torch.fx.experimental.optimization import fuse
from torch.nn.utils.fusion import fuse_conv_bn_eval

from td_transform.layers.unit import Unit

# bfloat16 must be faster than float32 by this factor to be asked first.
_PAYS = 1.3
# bfloat16's logits are believed when the lead of the label is this many times their largest error.
_SAFETY = 4.0
# Where more than this share of the candidates is asked again, bfloat16 is left out for a while.
_TOO_OFTEN = 0.45
_REMEMBERED = 0.9


@dataclass(frozen=True, eq=False)
class Network:
    """A network prepared for questions.

    Args:
        model: takes images in [0, 1]; in eval mode.
        quick: the same in bfloat16; None where that isn't faster.
        error: of the quick one's logits, at most.
        questions: how many images it was asked about, by precision.
    """

    model: nn.Module
    quick: nn.Module | None
    error: float
    questions: Counter[str] = field(default_factory=Counter)

    @staticmethod
    def of(model: nn.Module, images: Tensor, *, low_precision: bool | None = None) -> Network:
        """Try both precisions on some images (N, C, H, W), clean and under noise.

        Args:
            model: stays as it is.
            images: such as it will be asked about.
            low_precision: whether bfloat16 is asked first; if it is faster where None.
        """
        if low_precision is False or not len(images):
            return Network(model, None, 0.0)
        twin = with_fused_norms(copy.deepcopy(model).requires_grad_(False))
        quick = _Quick(twin.to(memory_format=torch.channels_last)).eval()  # type: ignore[call-overload]
        generator = torch.Generator().manual_seed(0)
        noise = torch.rand(images.shape, generator=generator).to(images)
        exact, seconds = _timed(model, torch.cat([images, noise, (images + noise) / 2]))
        rough, quicker = _timed(quick, torch.cat([images, noise, (images + noise) / 2]))
        error = (exact - rough).abs().max().item()
        if low_precision is None and seconds < _PAYS * quicker:
            return Network(model, None, 0.0)
        return Network(model, quick, error)


def with_fused_norms(model: nn.Module) -> nn.Module:
    """The network in eval mode, with batch norms in the convolutions before them, where it is known
    that these follow each other: in graphs, and in modules that call one child after the other.
    """
    if isinstance(model, fx.GraphModule):
        model = fuse(model, no_trace=True)
    for name, child in list(model.named_children()):
        setattr(model, name, with_fused_norms(child))
    if isinstance(model, nn.Sequential | Unit):
        for (name, conv), (after, norm) in pairwise(list(model.named_children())):
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                setattr(model, name, fuse_conv_bn_eval(conv, norm))
                setattr(model, after, nn.Identity())
    return model


class _Quick(nn.Module):
    """A network in bfloat16 with channels last."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        """Images (N, C, H, W) to float32 logits (N, classes)."""
        with torch.autocast(images.device.type, torch.bfloat16):
            logits: Tensor = self.network(images.contiguous(memory_format=torch.channels_last))
        return logits.float()


@torch.no_grad()
def _timed(model: nn.Module, images: Tensor) -> tuple[Tensor, float]:
    """Logits, and seconds: the processor's where it computes, so that other programs don't decide."""
    clock = time.perf_counter if images.is_cuda else time.process_time
    model(images)
    start = clock()
    logits: Tensor = model(images)
    if images.is_cuda:
        torch.cuda.synchronize()
    return logits, clock() - start


class Queries:
    """What an attack may ask about a batch of images.

    Every answer is noted. Given the notes of an interrupted search, the same search gets its
    answers from them, up to where it was interrupted.

    Args:
        network: under attack.
        labels: (N,) of the batch.
        notes: answers that were given already; new ones are added to it.
        pause: called before each question with the seconds that it may take; may raise to stop.
    """

    def __init__(
        self,
        network: Network,
        labels: Tensor,
        *,
        notes: list[Tensor] | None = None,
        pause: Callable[[float], None] | None = None,
    ) -> None:
        self.network = network
        self.labels = labels
        self.notes = [] if notes is None else notes
        self._pause = pause
        self._position = 0
        self._slowest = 0.0
        self._again = 0.0

    @property
    def model(self) -> nn.Module:
        """The network itself, for attacks that need its gradients."""
        return self.network.model

    def fooled(self, candidates: Tensor, rows: Tensor) -> Tensor:
        """Which candidates (M, C, H, W) of the images numbered `rows` (M,) are misclassified."""
        return self._noted(lambda: self._fooled(candidates, self.labels[rows]))

    def classes(self, images: Tensor) -> Tensor:
        """What images (M, C, H, W) are taken for, (M,)."""
        return self._noted(lambda: self._logits(self.network.model, images).argmax(1))

    def _noted(self, question: Callable[[], Tensor]) -> Tensor:
        if self._position == len(self.notes):
            if self._pause is not None:
                self._pause(self._slowest)
            start = time.perf_counter()
            self.notes.append(question().cpu())
            self._slowest = max(self._slowest, time.perf_counter() - start)
        self._position += 1
        return self.notes[self._position - 1].to(self.labels.device)

    def _fooled(self, candidates: Tensor, labels: Tensor) -> Tensor:
        doubtful = torch.ones_like(labels, dtype=torch.bool)
        if self.network.quick is not None and self._again <= _TOO_OFTEN:
            lead = _lead(self._logits(self.network.quick, candidates), labels)
            # not a number is doubtful too
            doubtful = ~(lead > _SAFETY * self.network.error)
            self._again += (1 - _REMEMBERED) * (doubtful.float().mean().item() - self._again)
        else:
            # after a while it is worth another try
            self._again *= 0.99
        fooled = torch.zeros_like(doubtful)
        if doubtful.any():
            logits = self._logits(self.network.model, candidates[doubtful])
            fooled[doubtful] = logits.argmax(1) != labels[doubtful]
        return fooled

    @torch.no_grad()
    def _logits(self, model: nn.Module, images: Tensor) -> Tensor:
        kind = "float32" if model is self.network.model else "bfloat16"
        self.network.questions[kind] += len(images)
        logits: Tensor = model(images)
        return logits


def _lead(logits: Tensor, labels: Tensor) -> Tensor:
    """How far the label's logit is above all others (M,)."""
    own = logits.gather(1, labels[:, None])
    others = logits.scatter(1, labels[:, None], -torch.inf)
    return own[:, 0] - others.amax(1)
