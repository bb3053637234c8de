"""Train one network; what was interrupted goes on from its checkpoint, to the same numbers."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from tqdm import tqdm

from benchmarks.files import save_file
from benchmarks.runs.arithmetic import arithmetic
from benchmarks.runs.interrupts import held_back
from benchmarks.runs.jobs import Job, Row, TrainConfig
from benchmarks.runs.recipes import (
    DROPS,
    MOMENTUM,
    VALIDATION_SHARE,
    Normalisation,
    augmentation_of,
    normalisation_of,
)
from benchmarks.runs.workspace import BudgetSpent, JobFailed, Workspace
from benchmarks.subjects.augment import augment, centre_crop, colour_components
from benchmarks.subjects.datasets import ImageSet, as_floats
from benchmarks.subjects.networks import Normalised, Statistics, build

_TEST_BATCH = 500


def train(job: Job, workspace: Workspace) -> list[Row]:
    """The handler of kind `train`: runs/<id>/model.pt and one row with the accuracies.

    Raises:
        JobFailed: the loss is not a number any more.
        BudgetSpent: the deadline is near; the checkpoint holds everything.
    """
    trainer = Trainer(job, workspace)
    trainer.run()
    return outcome(trainer)


def outcome(trainer: Trainer) -> list[Row]:
    """Test the network of a training that has run, and write it down."""
    job, workspace = trainer.job, trainer.workspace
    network, images = trainer.network, trainer.images
    test = accuracy(network, images.test_images, images.test_labels)
    held_out = trainer.validation
    validation_images = centre_crop(images.train_images[held_out], images.size[-1])
    validation = accuracy(network, validation_images, images.train_labels[held_out])
    state = {name: value.cpu().contiguous() for name, value in network.state_dict().items()}
    save_file(workspace.file(job, "model.pt"), state)
    return [
        {
            **asdict(job.config),
            "test_accuracy": test,
            "validation_accuracy": validation,
            "parameters": sum(p.numel() for p in network.parameters()),
            "train_loss": trainer.loss,
            "train_images": len(trainer.training),
            "test_images": len(images.test_labels),
            "seconds": round(trainer.seconds, 2),
        }
    ]


@dataclass(frozen=True)
class Seeds:
    """Independent seeds for everything random in a training."""

    seed: int
    run: int

    def of(self, *purpose: str | int) -> int:
        """A seed for one purpose, for example an epoch's order."""
        text = repr((self.seed, self.run, *purpose))
        return int.from_bytes(hashlib.sha256(text.encode()).digest()[:7], "big")


class Trainer:
    """The state of one training, and the steps that change it.

    Args:
        job: of kind `train`; its checkpoint is loaded where there is one.
        workspace: where it runs.
    """

    # which of the processes that train together this is (`benchmarks.executors.torchrun`)
    member: tuple[int, ...] = ()

    def __init__(self, job: Job, workspace: Workspace) -> None:
        self.job, self.workspace = job, workspace
        self.config: TrainConfig = job.config
        self.device = workspace.device
        self.seeds = Seeds(self.config.seed, self.config.run)
        self.images = workspace.data(self.config)
        self.training, self.validation = split(
            len(self.images.train_labels), seed=self.seeds.of("split")
        )
        self.augmentation = augmentation_of(self.config.data, self.config.augmented)
        self.components = (
            colour_components(self.images.train_images) if self.augmentation.colour_jitter else None
        )
        self.network = self._fresh_network()
        self.optimizer = sgd(self.network, self.config)
        self.generator = torch.Generator()
        self.epoch = self.step = 0
        self.loss = self._seconds_before = 0.0
        self._start = time.perf_counter()
        self._losses: list[Tensor] = []
        self._step_seconds = 0.0
        callee = self._callee()
        self._forward: Callable[[Tensor], Tensor] = (
            torch.compile(callee, dynamic=False) if self.config.compile else callee
        )
        if workspace.checkpoint(job).exists():
            self._load()

    def _fresh_network(self) -> Normalised:
        torch.manual_seed(self.seeds.of("weights"))
        network = build(
            self.config.model,
            arrangement=self.config.arrangement,
            size=self.images.size,
            classes=len(self.images.classes),
            statistics=statistics_of(self.images, normalisation_of(self.config.data)),
        )
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d) and self.config.norm_momentum is not None:
                module.momentum = self.config.norm_momentum
        layout = torch.channels_last if self.config.channels_last else torch.preserve_format
        return network.to(self.device, memory_format=layout)  # type: ignore[call-overload, no-any-return]

    def _callee(self) -> nn.Module:
        """What is called to train the network."""
        return self.network

    @property
    def seconds(self) -> float:
        """Wall time so far, of all calls together."""
        return self._seconds_before + time.perf_counter() - self._start

    def run(self) -> None:
        """Train to the last epoch, with a checkpoint after each."""
        steps = math.ceil(len(self.training) / self.config.batch)
        done = self.epoch * steps + self.step
        place = self.workspace.place
        with tqdm(
            desc=self.job.label, total=self.config.epochs * steps, initial=done, unit="batch",
            position=place.line, leave=False, disable=place.quiet or None,
        ) as bar, arithmetic(self.config.precision):  # fmt: skip
            try:
                while self.epoch < self.config.epochs:
                    self._run_epoch(bar)
            except (KeyboardInterrupt, BudgetSpent):
                with held_back():
                    self._save()
                raise

    def _run_epoch(self, bar: tqdm[Any]) -> None:
        self.network.train()
        order = torch.randperm(
            len(self.training), generator=torch.Generator().manual_seed(self.seeds.of(self.epoch))
        )
        if self.step == 0:
            torch.manual_seed(self.seeds.of("dropout", self.epoch, *self.member))
            self.generator.manual_seed(self.seeds.of("augment", self.epoch))
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate(self.config, self.epoch)
        batches = self.training[order].split(self.config.batch)
        for batch in batches[self.step :]:
            self._pause_if_due()
            # a signal in the middle of a step would leave a state between two steps
            with held_back():
                self._step(batch.to(self.device))
            bar.update()
        with held_back():
            self._end_epoch(bar)

    def _pause_if_due(self) -> None:
        self.workspace.pause_if_due(3 * self._step_seconds)

    def _step(self, batch: Tensor) -> None:
        start = time.perf_counter()
        images = augment(
            as_floats(self.images.train_images[batch]), self.augmentation,
            side=self.images.size[-1], components=self.components, generator=self.generator,
        )  # fmt: skip
        loss = self._loss(images, self.images.train_labels[batch])
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self._losses.append(self._recorded(loss))
        self.step += 1
        # the first step may be far slower (compilation), so what was slow once is forgotten
        self._step_seconds = max(time.perf_counter() - start, 0.9 * self._step_seconds)

    def _loss(self, images: Tensor, labels: Tensor) -> Tensor:
        """The mean over a batch, to be differentiated."""
        if self.config.channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        half = self.config.precision == "bf16"
        with torch.autocast(self.device.type, torch.bfloat16) if half else nullcontext():
            logits = self._forward(images)
        return F.cross_entropy(logits.float(), labels)

    def _recorded(self, loss: Tensor) -> Tensor:
        """The batch's loss as it is reported."""
        return loss.detach()

    def _end_epoch(self, bar: tqdm[Any]) -> None:
        self.loss = torch.stack(self._losses).mean().item()
        if not math.isfinite(self.loss):
            raise JobFailed(f"the loss is {self.loss} in epoch {self.epoch + 1}")
        bar.set_postfix(loss=f"{self.loss:.3f}")
        self.epoch, self.step, self._losses = self.epoch + 1, 0, []
        self._save()

    def _save(self) -> None:
        state = {
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "position": (self.epoch, self.step),
            "seconds": self.seconds,
            "losses": torch.stack(self._losses).cpu() if self._losses else torch.zeros(0),
            "last_loss": self.loss,
            "augmentation": self.generator.get_state(),
            "dropout": torch.get_rng_state(),
            "dropout_cuda": (
                torch.cuda.get_rng_state(self.device) if self.device.type == "cuda" else None
            ),
        }
        save_file(self.workspace.checkpoint(self.job), state)

    def _load(self) -> None:
        """From any machine's checkpoint; the values are moved to this one's device."""
        path = self.workspace.checkpoint(self.job)
        state = torch.load(path, map_location="cpu", weights_only=True)
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.epoch, self.step = state["position"]
        self._seconds_before, self.loss = state["seconds"], state["last_loss"]
        self._losses = list(state["losses"].to(self.device))
        self.generator.set_state(state["augmentation"])
        torch.set_rng_state(state["dropout"])
        if state["dropout_cuda"] is not None and self.device.type == "cuda":
            torch.cuda.set_rng_state(state["dropout_cuda"], self.device)


def split(count: int, *, seed: int) -> tuple[Tensor, Tensor]:
    """Indices of the images to train on and, a tenth, to validate on."""
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    held_out = max(1, round(VALIDATION_SHARE * count))
    return order[held_out:], order[:held_out]


def sgd(network: nn.Module, config: TrainConfig) -> torch.optim.SGD:
    """SGD with Nesterov momentum; weight decay on kernels only."""
    parameters = list(network.parameters())
    groups = [
        {"params": [p for p in parameters if p.dim() >= 2], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if p.dim() < 2], "weight_decay": 0.0},
    ]
    return torch.optim.SGD(groups, lr=config.learning_rate, momentum=MOMENTUM, nesterov=True)


def learning_rate(config: TrainConfig, epoch: int) -> float:
    """Of an epoch, counted from 0: a tenth after half, a hundredth after 80 % of them."""
    passed = sum(epoch >= max(1, int(share * config.epochs)) for share in DROPS)
    return float(config.learning_rate / 10**passed)


def statistics_of(images: ImageSet, kind: Normalisation) -> Statistics:
    """What a network subtracts and divides by, from the training images."""
    if kind == "none":
        return Statistics.none()
    pixels = centre_crop(images.train_images, images.size[-1])
    parts = [as_floats(part).double() for part in pixels.split(1024)]
    mean = torch.stack([part.sum(0) for part in parts]).sum(0) / len(pixels)
    if kind == "pixel-mean":
        return Statistics(mean.float(), torch.ones_like(mean).float())
    squares = torch.stack([(part**2).sum(0) for part in parts]).sum(0) / len(pixels)
    channel, square = (value.mean((1, 2), keepdim=True) for value in (mean, squares))
    deviation = (square - channel**2).clamp_min(1e-8).sqrt()
    return Statistics(channel.float(), deviation.float())


@torch.no_grad()
def predict(network: nn.Module, images: Tensor) -> Tensor:
    """Classes (N,) of uint8 images (N, C, H, W), with the network in eval mode."""
    network.eval()
    return torch.cat([network(as_floats(part)).argmax(1) for part in images.split(_TEST_BATCH)])


def accuracy(network: nn.Module, images: Tensor, labels: Tensor) -> float:
    """The share of uint8 images (N, C, H, W) that get their label."""
    return float((predict(network, images) == labels).float().mean())
