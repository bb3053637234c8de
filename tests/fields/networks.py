"""Random networks of every operator that moves positions, for the receptive-field oracle."""

from __future__ import annotations

import random
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Side = tuple[int, int]


class Apply(nn.Module):
    """A function of the map, with the options that were drawn for it."""

    def __init__(self, function: Callable[..., Tensor], **options: object) -> None:
        super().__init__()
        self.function, self.options = function, options

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x, **self.options)

    def extra_repr(self) -> str:
        return f"{getattr(self.function, '__name__', '')} {self.options}"


class Branches(nn.Module):
    """Branches of one size: added, multiplied, or concatenated and perhaps split again."""

    def __init__(self, first: nn.Module, second: nn.Module, how: str) -> None:
        super().__init__()
        self.first, self.second, self.how = first, second, how

    def forward(self, x: Tensor) -> Tensor:
        a, b = self.first(x), self.second(x)
        if self.how == "add":
            return a + b
        if self.how == "multiply":
            return a * torch.sigmoid(b)
        joined = torch.cat([a, b], 1)
        if self.how == "split":
            return joined.chunk(2, dim=1)[0]
        if self.how == "slice":
            return joined[:, 1:3] + joined[:, :2]
        if self.how == "depthwise":
            left, right = F.avg_pool2d(F.relu(joined), 3, 1, 1).split(joined.shape[1] // 2, 1)
            return left * 2 if self.training else right
        return joined


class Gate(nn.Module):
    """Squeeze-excite."""

    def __init__(self, channels: int, style: str) -> None:
        super().__init__()
        self.conv, self.fc, self.style = (
            nn.Conv2d(channels, channels, 1),
            nn.Linear(channels, channels),
            style,
        )

    def forward(self, x: Tensor) -> Tensor:
        if self.style == "conv":
            return x * torch.sigmoid(self.conv(F.adaptive_avg_pool2d(x, 1)))
        if self.style == "rows":
            return x * torch.sigmoid(self.conv(x.mean(2, keepdim=True)))
        n, c = x.shape[:2]
        return x * torch.sigmoid(self.fc(x.mean((2, 3)))).view(n, c, 1, 1)


class FixedFilter(nn.Module):
    def __init__(self, channels: int, stride: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels, 1, 3, 3))
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.weight, stride=self.stride, groups=x.shape[1])


def layer_norm(channels: int, style: str) -> nn.Module:
    norm = nn.LayerNorm(channels)

    class Norm(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = norm

        def forward(self, x: Tensor) -> Tensor:
            if style == "permuted":
                return self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)
            n, c, h, w = x.shape
            return self.norm(x.flatten(2).transpose(1, 2)).transpose(1, 2).reshape(n, c, h, w)

    return Norm()


def space_to_depth(x: Tensor, block: int) -> Tensor:
    n, c, h, w = x.shape
    x = x.view(n, c, h // block, block, w // block, block).permute(0, 3, 5, 1, 2, 4).contiguous()
    return x.view(n, c * block * block, h // block, w // block)


def channel_shuffle(x: Tensor, groups: int) -> Tensor:
    n, c, h, w = x.shape
    return x.view(n, groups, c // groups, h, w).transpose(1, 2).reshape(n, c, h, w)


def sliced(x: Tensor, start: int, step: int) -> Tensor:
    return x[..., start::step, ::step] if step > 1 else x[:, :, start:, : -start or None]


Maker = Callable[[random.Random, int, Side], nn.Module]


def conv(r: random.Random, channels: int, size: Side) -> nn.Module:
    kernel = (r.randint(1, 5), r.randint(1, 5))
    padding = tuple(r.randint(0, (k - 1)) for k in kernel)
    mode = r.choice(["zeros"] * 3 + ["reflect", "replicate", "circular"])
    groups = r.choice([1, 1, channels])
    out = channels if groups > 1 else r.choice([2, 4])
    return nn.Conv2d(
        channels, out, kernel, (r.randint(1, 3), r.randint(1, 3)), padding,
        (r.randint(1, 3), r.randint(1, 2)), groups, padding_mode=mode,
    )  # fmt: skip


def same_conv(r: random.Random, channels: int, size: Side) -> nn.Module:
    # on a small map a dilated window could lie in the padding alone, and see nothing
    dilation = r.randint(1, 2) if min(size) > 8 else 1
    kernel = (r.randint(1, 5), r.randint(1, 4))
    return nn.Conv2d(channels, channels, kernel, padding="same", dilation=dilation)


def transposed(r: random.Random, channels: int, size: Side) -> nn.Module:
    stride = (r.randint(1, 3), r.randint(1, 2))
    kernel = tuple(s + r.randint(0, 2) for s in stride)
    padding = tuple(r.randint(0, k - 1) for k in kernel)
    # more output padding would add positions that see nothing
    extra = tuple(min(r.randint(0, s - 1), p) for s, p in zip(stride, padding, strict=True))
    return nn.ConvTranspose2d(channels, channels, kernel, stride, padding, extra)


def pool(r: random.Random, channels: int, size: Side) -> nn.Module:
    kernel = (r.randint(1, 4), r.randint(1, 4))
    padding = (r.randint(0, kernel[0] // 2), r.randint(0, kernel[1] // 2))
    stride, ceil = r.randint(1, 3), r.random() < 0.5
    kind = r.choice(["max", "average", "functional"])
    if kind == "max":
        return nn.MaxPool2d(kernel, stride, padding, r.randint(1, 2), ceil_mode=ceil)
    if kind == "average":
        return nn.AvgPool2d(kernel, stride, padding, ceil, r.random() < 0.5)
    return Apply(F.avg_pool2d, kernel_size=kernel, stride=stride, padding=padding, ceil_mode=ceil)


def adaptive(r: random.Random, channels: int, size: Side) -> nn.Module:
    sides = tuple(r.randint(2, max(2, s)) for s in size)
    return r.choice([nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d])(sides)


def resize(r: random.Random, channels: int, size: Side) -> nn.Module:
    mode = r.choice(["nearest", "nearest-exact", "bilinear", "bicubic", "area"])
    options: dict[str, object] = {"mode": mode}
    if r.random() < 0.5:
        options["size"] = tuple(r.randint(2, 2 * s) for s in size)
    else:
        options["scale_factor"] = r.choice([2.0, 3.0, 0.5, 1.5])
    if mode in ("bilinear", "bicubic"):
        options[r.choice(["align_corners", "antialias"])] = True
    return Apply(F.interpolate, **options)


def module_upsample(r: random.Random, channels: int, size: Side) -> nn.Module:
    return r.choice([nn.Upsample(scale_factor=2), nn.UpsamplingBilinear2d(scale_factor=2),
                     nn.Upsample(scale_factor=(2, 3), mode="bilinear")])  # fmt: skip


def pad(r: random.Random, channels: int, size: Side) -> nn.Module:
    amounts = [r.randint(0, 2) for _ in range(4)]
    kind = r.choice(
        [nn.ZeroPad2d, nn.ReflectionPad2d, nn.ReplicationPad2d, nn.CircularPad2d, F.pad]
    )
    # a map read in its padding alone would see nothing: a convolution that covers it follows
    if kind is F.pad:
        amounts = [r.randint(-1, 2) for _ in range(4)]
        return nn.Sequential(Apply(F.pad, pad=tuple(amounts)), nn.Conv2d(channels, channels, 3))
    return nn.Sequential(kind(tuple(amounts)), nn.Conv2d(channels, channels, 3))


def shuffle(r: random.Random, channels: int, size: Side) -> nn.Module:
    return r.choice([
        nn.Sequential(nn.Conv2d(channels, 4 * channels, 1), nn.PixelShuffle(2)),
        nn.Sequential(nn.PixelUnshuffle(2), nn.Conv2d(4 * channels, channels, 1)),
        nn.Sequential(Apply(space_to_depth, block=2), nn.Conv2d(4 * channels, channels, 1)),
        Apply(channel_shuffle, groups=2),
        nn.ChannelShuffle(2),
    ])  # fmt: skip


def pointwise(r: random.Random, channels: int, size: Side) -> nn.Module:
    return r.choice([nn.Identity(), nn.ReLU(), nn.BatchNorm2d(channels), nn.Dropout(), nn.GELU(),
                     nn.GroupNorm(1, channels), layer_norm(channels, "permuted"),
                     layer_norm(channels, "flattened"), nn.Hardswish()])  # fmt: skip


def other(r: random.Random, channels: int, size: Side) -> nn.Module:
    return r.choice([
        Apply(sliced, start=r.randint(0, 1), step=r.randint(1, 2)),
        FixedFilter(channels, r.randint(1, 2)),
        Gate(channels, r.choice(["conv", "linear", "rows"])),
    ])  # fmt: skip


def branches(r: random.Random, channels: int, size: Side) -> nn.Module:
    def branch() -> nn.Module:
        kind = r.choice(["identity", "one", "two", "bottle"])
        if kind == "identity":
            return nn.Identity()
        if kind == "bottle":  # leaves the resolution and comes back
            factor = tuple(s / -(-s // 2) for s in size)
            down = nn.MaxPool2d(2, ceil_mode=True)
            up = Apply(F.interpolate, size=size, mode=r.choice(["nearest", "bilinear"]))
            return nn.Sequential(down, same_conv(r, channels, size), up) if all(factor) else down
        return nn.Sequential(*[same_conv(r, channels, size) for _ in range(1 + (kind == "two"))])

    how = r.choice(["add", "multiply", "concatenate", "split", "slice", "depthwise"])
    return Branches(branch(), branch(), how)


MAKERS: list[Maker] = [
    conv, conv, same_conv, transposed, pool, pool, adaptive, resize, resize, module_upsample, pad,
    shuffle, pointwise, other, branches, branches, branches,
]  # fmt: skip


def random_network(seed: int) -> tuple[nn.Module, tuple[int, int, int]]:
    """A network of two to six random layers and the size of its image; the same for the same seed."""
    r = random.Random(seed)
    size = (2, r.randint(9, 40), r.randint(9, 40))
    layers: list[nn.Module] = []
    x = torch.zeros(1, *size)
    wanted = r.randint(2, 6)
    while len(layers) < wanted:
        layer = r.choice(MAKERS)(r, x.shape[1], (x.shape[2], x.shape[3])).eval()
        y = _run(layer, x)
        if y is not None:
            layers.append(layer)
            x = y
    return nn.Sequential(*layers), size


def _run(layer: nn.Module, x: Tensor) -> Tensor | None:
    """The output; None where the layer doesn't fit the map, or makes it huge."""
    try:
        with torch.no_grad():
            y = layer(x)
    except (RuntimeError, ValueError):
        return None
    fits = y.dim() == 4 and min(y.shape) > 0 and max(y.shape[2:]) <= 80 and y.shape[1] <= 16
    return y if fits else None
