"""Known operators in uses that their rules do not cover: carried along, or refused in our words."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from td_transform import Operator, TopDownError, register_operator
from td_transform.operators import registry
from tests.properties import check_network
from tests.transform.bodies import SIZE, convert
from tests.transform.plain import Function, Network, Residual, in_a_chain


def moved(x: Tensor) -> Tensor:
    """A fifth of the channels by a pixel, and another one the other way, rounded down."""
    count = x.shape[1] // 5
    out = torch.zeros_like(x)
    out[:, :count, :, 1:] = x[:, :count, :, :-1]
    out[:, count : 2 * count, :, :-1] = x[:, count : 2 * count, :, 1:]
    out[:, 2 * count :] = x[:, 2 * count :]
    return out


def test_what_is_written_into_keeps_its_axes_whatever_is_written() -> None:
    td = convert(in_a_chain(lambda width: Function(width, moved)))
    assert [(level.stride, level.width) for level in td.plan.levels] == [(4, 32), (2, 16), (1, 8)]
    check_network(td, torch.rand(2, *SIZE), classes=7)


class Distances(nn.Module):
    """Every window's distance from a kernel, whose sizes are asked of the kernel itself (AdderNet)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.kernel = nn.Parameter(torch.rand(width, width, 3, 3))

    def forward(self, x: Tensor) -> Tensor:
        count, _, side, _ = self.kernel.shape
        windows = functional.unfold(x, side, padding=side // 2).unsqueeze(1)
        apart = (windows - self.kernel.view(count, -1, 1)).abs().mean(2)
        return apart.view(x.shape[0], count, *x.shape[2:])


def test_windows_as_large_as_a_parameter() -> None:
    network = Network(lambda width: Residual(Distances(width)))
    check_network(convert(network), torch.rand(2, *SIZE), classes=7)


def test_pythons_own_words_stay_out_of_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    """A rule that expects other arguments, a user's perhaps."""
    monkeypatch.setattr(registry, "_operators", dict(registry._operators))
    rule = lambda call: call.dims(call.node.args[5])  # noqa: E731
    register_operator(torch.sinc, Operator("sinc", "inert", rule))
    network = Network(lambda width: Function(width, torch.sinc))
    check_network(convert(network), torch.rand(2, *SIZE), classes=7)
    with pytest.raises(TopDownError, match=r"used in a way \(a use that its rule doesn't cover\)"):
        convert(network, arrangement="uniform")
