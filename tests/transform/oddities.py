"""Tiny networks, each with something odd in it that real networks have, one a kind of defect."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations, parametrize, spectral_norm, weight_norm

from tests.transform.odd_attention import (
    BatchNormOfTokens,
    GlobalContext,
    HeadedAttention,
    MultiheadAttention,
    NonLocal,
    PositionEncoding,
    Unfold,
    WindowAttention,
)
from tests.transform.odd_heads import (
    AttentionPool,
    BilinearHead,
    CosineHead,
    MLPHead,
    PlainAttentionPool,
)
from tests.transform.plain import Apply, Function, Network, Residual, in_a_chain, unit


class NormAct(nn.BatchNorm2d):
    """A normalisation that ends with an activation of its own."""

    def __init__(self, width: int, act: nn.Module) -> None:
        super().__init__(width)
        self.act = act

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.act(super().forward(x))
        return out


class PaddedConv(nn.Conv2d):
    """TensorFlow's padding for an even map at this stride, as a layer (efficientnet_pytorch)."""

    def __init__(self, width_in: int, width_out: int, stride: int) -> None:
        super().__init__(width_in, width_out, 3, stride, bias=False)
        last = 1 if stride == 2 else 2
        self.pad = nn.ZeroPad2d((last // 2, (last + 1) // 2) * 2)

    def forward(self, x: Tensor) -> Tensor:
        padded = self.pad(x)
        return F.conv2d(padded, self.weight, None, self.stride, self.padding, groups=self.groups)


class Blur(nn.Module):
    """One fixed kernel, repeated for every channel there is."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)
        row = torch.tensor([1.0, 2.0, 1.0])
        self.register_buffer("kernel", (row[:, None] * row / 16)[None, None])

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        return F.conv2d(x, self.kernel.repeat(x.shape[1], 1, 1, 1), padding=1, groups=x.shape[1])


class RMSNorm(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.conv = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = x * torch.rsqrt(x.pow(2).mean(1, keepdim=True) + 1e-6)
        out: Tensor = self.conv(x * self.weight[:, None, None])
        return out


class CoordinateConv(nn.Module):
    """Appends both coordinates to its map."""

    def __init__(self, width_in: int, width_out: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width_in + 2, width_out, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        n, _, h, w = x.shape
        rows = torch.linspace(-1, 1, h, device=x.device, dtype=x.dtype)
        columns = torch.linspace(-1, 1, w, device=x.device, dtype=x.dtype)
        rows = rows.view(1, 1, h, 1).expand(n, 1, h, w)
        columns = columns.view(1, 1, 1, w).expand(n, 1, h, w)
        out: Tensor = self.conv(torch.cat([x, rows, columns], 1))
        return out


class SpaceToDepth(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(4 * width, 2 * width, 3, padding=1)
        self.norm = nn.BatchNorm2d(2 * width)

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        x = x.view(n, c, h // 2, 2, w // 2, 2).permute(0, 3, 5, 1, 2, 4)
        x = x.reshape(n, 4 * c, h // 2, w // 2)
        return F.relu(self.norm(self.conv(x)))


class ConditionalConv(nn.Module):
    """Each image has its own mixture of kernels (CondConv)."""

    def __init__(self, width: int, out: int | None = None, stride: int = 1) -> None:
        super().__init__()
        self.out, self.stride = out or width, stride
        self.routing = nn.Linear(width, 3)
        self.kernels = nn.Parameter(torch.randn(3, self.out * width * 9) / (3 * width**0.5))

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        mixture = torch.sigmoid(self.routing(x.mean((2, 3))))
        kernels = (mixture @ self.kernels).view(n * self.out, c, 3, 3)
        y = F.conv2d(x.reshape(1, n * c, h, w), kernels, None, self.stride, 1, groups=n)
        return y.view(n, self.out, *y.shape[2:])


def conditional_transition() -> nn.Module:
    """The coarsest stage is entered by a kernel that depends on the image."""
    network = Network()
    network.stages[3] = ConditionalConv(16, 32, stride=2)
    return network


class Parted(nn.Module):
    """Parts of a map through convolutions of their own, beside each other again (MixNet)."""

    def __init__(self, width_in: int, width_out: int) -> None:
        super().__init__()
        self.half = width_in // 2
        self.first = nn.Conv2d(self.half, width_out // 2, 1)
        self.second = nn.Conv2d(self.half, width_out // 2, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        left, right = torch.split(x, [self.half, self.half], 1)
        return torch.cat([self.first(left), self.second(right)], 1)


def parts_of_a_wide_map() -> nn.Module:
    """A map six times as wide as its stage, taken apart: what flows in and out scales differently."""
    network = Network()
    network.stages[4] = nn.Sequential(unit(32, 192), Parted(192, 32))
    return network


class Shuffled(nn.Module):
    """Channels in groups, whose order is turned around."""

    def __init__(self, width: int, groups: int = 4) -> None:
        super().__init__()
        self.groups, self.mix = groups, nn.Conv2d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        n, c, h, w = x.shape
        groups = x.view(n, self.groups, c // self.groups, h, w)
        return self.mix(groups.flip(1).reshape(n, c, h, w))


class FunctionalNorms(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.scale, self.shift = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))
        self.mix = nn.Conv2d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = F.group_norm(x, 4, self.scale, self.shift)
        last = F.layer_norm(x.permute(0, 2, 3, 1), (len(self.scale),), self.scale)
        return self.mix(last.permute(0, 3, 1, 2))


class InPlaceNorm(nn.Module):
    """Norm and activation in one function, with the width as an integer."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        self.weight, self.bias = nn.Parameter(torch.ones(width)), nn.Parameter(torch.zeros(width))
        self.conv = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x)
        scale = self.weight.abs().view(1, self.width, 1, 1) + 1e-5
        return F.leaky_relu(x * scale + self.bias.view(1, self.width, 1, 1), 0.01)


def coordinates_first() -> nn.Module:
    network = Network()
    network.stem = nn.Sequential(CoordinateConv(3, 8), nn.BatchNorm2d(8), nn.ReLU())
    return network


def space_to_depth() -> nn.Module:
    network = Network()
    network.stages = nn.Sequential(
        Residual(unit(8, 8)), SpaceToDepth(8), Residual(unit(16, 16)),
        SpaceToDepth(16), Residual(unit(32, 32)),
    )  # fmt: skip
    return network


def computed_everywhere(compute: Callable[[nn.Module], nn.Module]) -> Callable[[], nn.Module]:
    """A network whose every convolution's weight is computed."""

    def build() -> nn.Module:
        network = Network()
        for module in network.modules():
            if isinstance(module, (nn.Conv2d, nn.Linear)):
                compute(module)
        return network

    return build


def _block(function: Callable[[Tensor], Tensor]) -> Callable[[], nn.Module]:
    return lambda: Network(lambda width: Function(width, function))


def _of(block: Callable[[int], nn.Module]) -> Callable[[], nn.Module]:
    return lambda: Network(block)


class Symmetric(nn.Module):
    """A user's own parametrisation."""

    def forward(self, weight: Tensor) -> Tensor:
        return weight + weight.flip(-1)


def custom_parametrization(module: nn.Module) -> nn.Module:
    return parametrize.register_parametrization(module, "weight", Symmetric())


def norms_that_activate() -> nn.Module:
    """Their activations write in place: a second one on their output would spoil the gradient."""
    network = Network(block=lambda width: nn.Sequential(nn.Conv2d(width, width, 1), nn.ReLU()))
    for module in list(network.modules()):
        if isinstance(module, nn.Sequential) and isinstance(module[1], nn.BatchNorm2d):
            module[1] = NormAct(module[1].num_features, nn.ReLU(inplace=True))
            module[2] = nn.Identity()
    return network


def padded_by_layers() -> nn.Module:
    network = Network(lambda width: nn.Sequential(PaddedConv(width, width, 1), nn.ReLU()))
    for module in network.modules():
        if isinstance(module, nn.Sequential) and isinstance(module[0], nn.Conv2d):
            old = module[0]
            module[0] = PaddedConv(old.in_channels, old.out_channels, old.stride[0])
    return network


ODDITIES: dict[str, Callable[[], nn.Module]] = {
    "attention pooling": lambda: Network(head=PlainAttentionPool()),
    "attention pooling with positions": lambda: Network(head=AttentionPool()),
    "bilinear pooling": lambda: Network(head=BilinearHead()),
    "padding layers in convolutions": padded_by_layers,
    "MLP head": lambda: Network(head=MLPHead()),
    "cosine classifier": lambda: Network(head=CosineHead()),
    "weight_norm by hooks": computed_everywhere(weight_norm),
    "spectral_norm by hooks": computed_everywhere(spectral_norm),
    "weight_norm": computed_everywhere(parametrizations.weight_norm),
    "spectral_norm": computed_everywhere(parametrizations.spectral_norm),
    "custom parametrization": computed_everywhere(custom_parametrization),
    "max with indices": _block(lambda x: x * torch.sigmoid(x.max(1, keepdim=True)[0])),
    "min with indices": _block(lambda x: x * torch.min(x, dim=1, keepdim=True).values),
    "sort": _block(lambda x: x * torch.sort(x, dim=1)[0].mean(1, keepdim=True)),
    "maximum of maps": _block(lambda x: torch.max(x, torch.flip(x, [3]))),
    "zeros_like": _block(lambda x: torch.where(x > 0, x, torch.zeros_like(x))),
    "eye": _block(lambda x: torch.einsum("nchw,cd->ndhw", x, torch.eye(x.shape[1]).to(x))),
    "eye of positions": _block(lambda x: x @ torch.eye(x.shape[3]).to(x)),
    "arange": _block(
        lambda x: x * (1 + torch.arange(x.shape[1], device=x.device).to(x)).view(1, -1, 1, 1)
    ),
    "expand to the map": _block(lambda x: x + x.mean((2, 3), keepdim=True).expand(x.shape)),
    "coordinates in blocks": _of(lambda width: CoordinateConv(width, width)),
    "coordinates first": coordinates_first,
    "blur": _of(Blur),
    "RMS norm": _of(RMSNorm),
    "space to depth": space_to_depth,
    "conditional convolution": _of(ConditionalConv),
    "conditional transition": conditional_transition,
    "parts of a wide map": parts_of_a_wide_map,
    "global context": _of(GlobalContext),
    "non-local": _of(NonLocal),
    "multi-head attention": _of(MultiheadAttention),
    "window attention": _of(WindowAttention),
    "heads as integers": _of(HeadedAttention),
    "norm of tokens": _of(BatchNormOfTokens),
    "groups in another order": _of(Shuffled),
    "functional norms": _of(FunctionalNorms),
    "repeated": _block(lambda x: x.mean(1, keepdim=True).repeat(1, x.shape[1], 1, 1) * x),
    "repeated in place": _block(
        lambda x: x[:, :2].repeat_interleave(x.shape[1] // 2, 1) + torch.roll(x, 1, 3)
    ),
    "largest": _block(lambda x: x * x.topk(2, dim=1)[0].sum(1, keepdim=True)),
    "power": _block(lambda x: x * torch.rsqrt(1 + (x**2).sum(1, keepdim=True))),
    "linspace": _block(
        lambda x: x * torch.linspace(0, 1, x.shape[1], device=x.device).view(1, -1, 1, 1)
    ),
    "channel by channel": _block(
        lambda x: (torch.einsum("nchw,ndhw->ncd", x, x).softmax(-1) @ x.flatten(2)).view_as(x)
    ),
    "unfold": _of(Unfold),
    "conditional convolution in a chain": lambda: in_a_chain(ConditionalConv),
    "there and back": lambda: in_a_chain(
        lambda _: Apply(lambda x: F.interpolate(F.avg_pool2d(x, 2), size=x.shape[-2:]))
    ),
    "position encoding": _of(PositionEncoding),
    "widths as integers": _of(InPlaceNorm),
    "norms that activate": norms_that_activate,
}
