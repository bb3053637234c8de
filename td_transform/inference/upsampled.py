"""A 3 x 3 convolution over a map that was upsampled by 2, computed where the map is coarse."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

# which of the 3 taps fall together on each of the 2 positions that an odd and an even output reads
_ODD = ((1, 1, 0), (0, 0, 1))
_EVEN = ((1, 0, 0), (0, 1, 1))


class OverUpsampled(nn.Module):
    """conv(upsample(x)), nearest by 2, as four 2 x 2 convolutions of x: 4 taps an output, not 9.

    Between two coarse positions lie an odd output and the even one after it, and both read those two.
    So one convolution gives all four, whose channels are then laid out as pixels.

    Args:
        weight: (K, C, 3, 3), of a convolution of stride 1 and padding 1.
        bias: (K,) or None.
    """

    weight: Tensor
    bias: Tensor | None

    def __init__(self, weight: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        k, c = weight.shape[:2]
        taps = torch.tensor((_ODD, _EVEN), dtype=torch.float64, device=weight.device)
        four = torch.einsum("sua,tvb,kcab->kstcuv", taps, taps, weight.detach().double())
        self.register_buffer("weight", four.reshape(4 * k, c, 2, 2).to(weight))
        self.register_buffer("bias", None if bias is None else bias.detach().repeat_interleave(4))

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, h, w) to (N, K, 2h, 2w)."""
        x = F.pixel_shuffle(F.conv2d(x, self.weight, self.bias, padding=1), 2)
        # no view: what is added in place must not be carried over to the map with its borders
        return x[:, :, 1:-1, 1:-1].clone()
