"""The front: what makes the image of a model's input that is none (electrodes over time, a waveform)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from td_transform.layers.images import batched


class InputFront(nn.Module):
    """What the bottom-up model does before the map that its first learned layer reads, run once on each
    input.

    Args:
        body: makes a map of an input.
        axes: of the input, behind its batch and its channels.
    """

    def __init__(self, body: nn.Module, axes: int) -> None:
        super().__init__()
        self.body = body
        self.axes = axes

    def forward(self, inputs: Tensor | Sequence[Tensor]) -> Tensor | tuple[Tensor, ...]:
        """The map (N, C, H, W) of an input; those of one input per level, from fine to coarse."""
        if isinstance(inputs, (tuple, list)):
            return tuple(self.body(batched(each, self.axes)) for each in inputs)
        made: Tensor = self.body(batched(inputs, self.axes))
        return made
