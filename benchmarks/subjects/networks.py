"""Build a network by name, with the normalisation of its images inside."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from benchmarks.errors import BenchmarkError
from benchmarks.subjects.arrangements import Arrangement
from benchmarks.subjects.models import lenet_fc, nin, nin_light, resnet18_imagenette, resnet32
from td_transform import to_topdown
from td_transform.cli.model_names import load_model
from td_transform.options import Init
from td_transform.torchvision_cpu import import_torchvision


@dataclass(frozen=True, eq=False)
class Statistics:
    """What is subtracted from images in [0, 1], and what they are divided by then.

    Args:
        mean: (C, H, W), or (C, 1, 1) for one value per channel.
        deviation: of the same shape.
    """

    mean: Tensor
    deviation: Tensor

    @classmethod
    def none(cls) -> Statistics:
        """Images are left as they are."""
        return cls(torch.zeros(1, 1, 1), torch.ones(1, 1, 1))


class Normalised(nn.Module):
    """A network with what is done to its images in front: it takes images in [0, 1].

    Args:
        network: the bare network, for normalised images (N, C, H, W).
        statistics: what to subtract and to divide by.
        channels: of the network's input; grey images are repeated where it has more.

    Example:
        >>> model = Normalised(nn.Flatten(), statistics=Statistics.none(), channels=1)
        >>> model(torch.ones(2, 1, 3, 3)).shape
        torch.Size([2, 9])
    """

    mean: Tensor
    deviation: Tensor

    def __init__(self, network: nn.Module, *, statistics: Statistics, channels: int) -> None:
        super().__init__()
        self.network = network
        self.channels = channels
        self.register_buffer("mean", statistics.mean.detach().clone())
        self.register_buffer("deviation", statistics.deviation.detach().clone())

    def forward(self, images: Tensor) -> Tensor:
        """Images (N, C, H, W) in [0, 1] to logits (N, classes)."""
        return self.network(self.normalise(images))  # type: ignore[no-any-return]

    def scales(self, images: Sequence[Tensor]) -> Tensor:
        """Logits (N, classes) of a top-down network that reads another image at each level.

        Args:
            images: one tensor (N, C, H, W) in [0, 1] per level, from fine to coarse (paper, Fig. 5).
        """
        return self.network([self.normalise(level) for level in images])  # type: ignore[no-any-return]

    def normalise(self, images: Tensor) -> Tensor:
        """Images (N, C, H, W) in [0, 1] as the bare network reads them."""
        normalised = (images - self.mean) / self.deviation
        return normalised.expand(-1, self.channels, -1, -1)


@dataclass(frozen=True)
class _Own:
    """One of the paper's networks.

    Args:
        title: as the paper writes it.
        size: (C, H, W) of the images that it is made for.
        build: from channels and classes.
        init: of its layers, and of the top-down networks' made from it.
    """

    title: str
    size: tuple[int, int, int]
    build: Callable[..., nn.Module]
    init: Init


def glorot_uniform(module: nn.Module) -> None:
    """Keras' default: kernels uniform in +-sqrt(6 / (fan-in + fan-out)), biases zero."""
    if isinstance(module, (nn.Conv2d, nn.Linear)):
        nn.init.xavier_uniform_(module.weight)
        _zero_bias(module)


def he_normal(module: nn.Module) -> None:
    """Kernels normal with variance 2 / fan-in, biases zero (He et al., 2015)."""
    if isinstance(module, (nn.Conv2d, nn.Linear)):
        nn.init.kaiming_normal_(module.weight)
        _zero_bias(module)


def _zero_bias(module: nn.Conv2d | nn.Linear) -> None:
    if module.bias is not None:
        nn.init.zeros_(module.bias)


_OWN: dict[str, _Own] = {
    "lenet-fc": _Own("LeNetFC", (1, 28, 28), lenet_fc, glorot_uniform),
    "nin-light": _Own("NIN-light", (1, 28, 28), nin_light, glorot_uniform),
    "nin": _Own("NIN", (3, 32, 32), nin, glorot_uniform),
    "resnet32": _Own("ResNet32", (3, 32, 32), resnet32, he_normal),
    "resnet18-imagenette": _Own("ResNet18", (3, 128, 128), resnet18_imagenette, he_normal),
}


def model_title(spec: str) -> str:
    """As the paper writes it; another model's own name."""
    return _OWN[spec].title if spec in _OWN else spec


def made_for(spec: str) -> tuple[int, int, int]:
    """(C, H, W) of the images that one of the paper's networks is made for."""
    return _OWN[spec].size


def build(
    spec: str,
    *,
    arrangement: Arrangement,
    size: tuple[int, int, int],
    classes: int,
    statistics: Statistics | None = None,
) -> Normalised:
    """A fresh network for images (N, C, H, W) in [0, 1].

    Args:
        spec: `lenet-fc`, `nin-light`, `nin`, `resnet32`, `resnet18-imagenette`, a classifier of
            torchvision, `timm:NAME`, or `package.module:callable` that needs no arguments.
        arrangement: `bu` for the network itself, else the top-down network with these widths.
        size: (C, H, W) of the images.
        classes: number of logits.
        statistics: of the images; without them they are not normalised.

    Raises:
        BenchmarkError: there is no such network, it can't be turned upside down, or a callable's
            network has another number of logits.

    Example:
        >>> build("lenet-fc", arrangement="td", size=(1, 28, 28), classes=10).network.plan.parameters
        14452
    """
    own = _OWN.get(spec)
    network, channels = _bottom_up(spec, size[0], classes)
    init = own.init if own is not None else None
    if arrangement != "bu":
        network_size = (channels, *size[1:])
        network = to_topdown(network, input_size=network_size, arrangement=arrangement, init=init)
    elif init is not None:
        network.apply(init)
    built = Normalised(network, statistics=statistics or Statistics.none(), channels=channels)
    _check_logits(spec, built, size, classes)
    return built


def _bottom_up(spec: str, channels: int, classes: int) -> tuple[nn.Module, int]:
    """The network, and the channels of its input."""
    if spec in _OWN:
        return _OWN[spec].build(in_channels=channels, classes=classes), channels
    library, _, name = spec.rpartition(":")
    torchvision = import_torchvision()
    if library in ("", "torchvision") and name in torchvision.models.list_models(
        module=torchvision.models
    ):
        # its models read colour images only
        return torchvision.models.get_model(name, num_classes=classes), 3
    if library in ("", "timm") and _is_timms(name):
        import timm

        return timm.create_model(name, num_classes=classes, in_chans=channels), channels
    model = load_model(spec)
    return model, next((p.shape[1] for p in model.parameters() if p.dim() == 4), channels)


def _is_timms(name: str) -> bool:
    if importlib.util.find_spec("timm") is None:
        return False
    import timm

    return bool(timm.is_model(name))


def _check_logits(spec: str, network: nn.Module, size: tuple[int, int, int], classes: int) -> None:
    if spec in _OWN:
        return
    network.eval()
    with torch.no_grad():
        logits = network(torch.zeros(1, *size))
    network.train()
    if not isinstance(logits, Tensor) or logits.shape != (1, classes):
        shape = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise BenchmarkError(
            f"model '{spec}'", seen=f"output {shape} for one image",
            expected=f"logits (1, {classes}), one per class of the data",
            remedy="name a model made for this number of classes",
        )  # fmt: skip
