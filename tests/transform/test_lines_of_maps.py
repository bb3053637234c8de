"""Heads that make a line of a map, whose rows are squeezed or laid with the channels (spectrograms)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from td_transform import receptive_field, to_topdown
from td_transform.operators import run_one_step, step_axis
from td_transform.options import Arrangement
from tests.transform.plain import unit

SIZE = (1, 32, 48)
Line = Callable[["OnLines", Tensor], Tensor]


class OnLines(nn.Module):
    """Stages at strides 1, 2, 4 and 8, then a line of the time, whose mean is classified."""

    def __init__(self, line: Line, rows: int, last: nn.Module | None = None) -> None:
        super().__init__()
        widths, body = (8, 16, 32), []
        for width_in, width in zip((1, 8, 16), widths, strict=True):
            body += [unit(width_in, width), nn.MaxPool2d(2)]
        self.body = nn.Sequential(*body, unit(32, 64) if last is None else last)
        self.line, self.gate, self.fc = line, nn.Linear(64, 1), nn.Linear(64 * rows, 5)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.fc(self.line(self, self.body(x)))
        return logits


def attended(net: OnLines, x: Tensor) -> Tensor:
    line = x.permute(0, 2, 1, 3).squeeze(1).permute(0, 2, 1)
    weighted: Tensor = line * net.gate(line).softmax(1)
    return weighted.sum(1)


def high() -> nn.Module:
    return nn.Sequential(nn.Conv2d(32, 64, (4, 1)), nn.BatchNorm2d(64), nn.ReLU())


def pooled() -> nn.Module:
    return nn.Sequential(unit(32, 64), nn.MaxPool2d((4, 1)))


# the function, the rows that the line has, what stands before it
LINES: dict[str, tuple[Line, int, Callable[[], nn.Module] | None]] = {
    "squeezed": (lambda net, x: x.squeeze(2).mean(-1), 1, pooled),
    "squeezed behind a high kernel": (lambda net, x: x.squeeze(2).mean(-1), 1, high),
    "the only row": (lambda net, x: x[:, :, 0].mean(-1), 1, pooled),
    "everything squeezed": (lambda net, x: x.squeeze().mean(-1), 1, pooled),
    "attention over time": (attended, 1, high),
    "flattened": (lambda net, x: x.flatten(1, 2).mean(-1), 4, None),
    "mean and deviation": (
        lambda net, x: (x.flatten(1, 2).mean(-1) + x.flatten(1, 2).std(-1)), 4, None,
    ),
    "rows times channels": (
        lambda net, x: x.reshape(len(x), x.shape[1] * x.shape[2], x.shape[3]).mean(-1), 4, None,
    ),
    "as many rows as come": (lambda net, x: x.view(len(x), -1, x.shape[3]).mean(-1), 4, None),
}  # fmt: skip


@pytest.mark.parametrize("arrangement", ["td", "uniform", "reversed"])
@pytest.mark.parametrize("name", LINES)
def test_a_line_is_made_of_as_many_rows(name: str, arrangement: Arrangement) -> None:
    line, rows, last = LINES[name]
    model = OnLines(line, rows, last and last())
    with pytest.warns(UserWarning, match="vertical axis, or lays it with the channels"):
        td = to_topdown(model, input_size=SIZE, arrangement=arrangement)
    widths = [level.width for level in td.plan.levels]
    assert (
        widths
        == {"td": [64, 32, 16, 8], "uniform": [24] * 4, "reversed": [8, 16, 32, 64]}[arrangement]
    )
    assert td.get_submodule("head.fc").in_features == rows * widths[-1]
    assert td.plan.opaque == ()
    td(torch.rand(2, *SIZE)).sum().backward()


def test_it_is_the_mean_of_the_rows() -> None:
    """The network with the pooling, against its levels and the same written by hand."""
    with pytest.warns(UserWarning, match="to that size along it"):
        td = to_topdown(OnLines(*LINES["flattened"][:2]), input_size=SIZE).eval()
    x = torch.rand(2, *SIZE)
    finest = td.backbone()(x)[-1]
    assert finest.shape[2:] == SIZE[1:]
    rows = finest.unflatten(2, (4, -1)).mean(3).flatten(1, 2)
    torch.testing.assert_close(td(x), td.get_submodule("head.fc")(rows.mean(-1)))


def test_longer_inputs_have_longer_lines() -> None:
    with pytest.warns(UserWarning, match="vertical axis"):
        td = to_topdown(OnLines(*LINES["flattened"][:2]), input_size=SIZE)
    assert td(torch.rand(2, 1, 32, 80)).shape == (2, 5)
    assert receptive_field(td, SIZE)


def test_a_reduced_axis_needs_no_rows() -> None:
    model = OnLines(lambda net, x: F.adaptive_avg_pool2d(x, (1, None)).squeeze(2).amax(-1), 1)
    assert to_topdown(model, input_size=SIZE).plan.warnings == ()


def by_time(x: Tensor) -> Tensor:
    return x.permute(0, 3, 1, 2).flatten(2)


class Read(nn.Module):
    """Stages at strides 1, 2 and 4, whose columns a recurrent layer reads."""

    def __init__(self, rnn: nn.Module, line: Callable[[nn.Module, Tensor], Tensor]) -> None:
        super().__init__()
        self.body = nn.Sequential(
            unit(1, 8), nn.MaxPool2d(2), unit(8, 16), nn.MaxPool2d(2), unit(16, 32)
        )
        self.rnn, self.line, self.fc = rnn, line, nn.LazyLinear(5)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.fc(self.line(self.rnn, self.body(x)))
        return logits


RECURRENT: dict[str, tuple[nn.Module, Callable[[nn.Module, Tensor], Tensor]]] = {
    "the last step": (nn.GRU(256, 6, batch_first=True), lambda rnn, x: rnn(by_time(x))[0][:, -1]),
    "the state": (nn.LSTM(256, 6, batch_first=True), lambda rnn, x: rnn(by_time(x))[1][0][-1]),
    "both directions": (
        nn.LSTM(256, 6, 2, batch_first=True, bidirectional=True),
        lambda rnn, x: rnn(by_time(x))[0].mean(1),
    ),
    "time first, in the code's words": (
        nn.RNN(256, 6),
        lambda rnn, x: rnn(
            x.permute(3, 0, 1, 2).reshape(x.size(3), len(x), x.size(1) * x.size(2))
        )[1][0],
    ),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore:.*average-pooled")
@pytest.mark.parametrize("arrangement", ["td", "uniform", "reversed"])
@pytest.mark.parametrize("name", RECURRENT)
def test_a_recurrent_layer_reads_the_last_width(name: str, arrangement: Arrangement) -> None:
    model = Read(*RECURRENT[name])
    before = model(torch.rand(2, *SIZE))
    td = to_topdown(model, input_size=SIZE, arrangement=arrangement)
    assert td.plan.levels[-1].width == {"td": 8, "uniform": 16, "reversed": 32}[arrangement]
    assert td.get_submodule("head.rnn").weight_ih_l0.shape[1] == 8 * td.plan.levels[-1].width
    assert td.plan.opaque == ()
    td(torch.rand(2, *SIZE)).sum().backward()
    assert all(p.grad is not None for p in td.parameters())
    assert model(torch.rand(2, *SIZE)).shape == before.shape


def test_a_recurrent_layer_costs_what_its_gates_multiply() -> None:
    model = Read(*RECURRENT["the last step"])
    model(torch.rand(2, *SIZE))
    steps, rows, hidden = SIZE[2] // 4, SIZE[1] // 4, 6
    read = to_topdown(model, input_size=SIZE).plan
    gates = 3 * hidden * (read.levels[-1].width * rows + hidden)
    assert read.cost.head.multiply_adds == steps * gates + hidden * 5


@pytest.mark.parametrize("shape", [(5, 7, 4), (7, 4)])
@pytest.mark.parametrize(
    "layer",
    [
        nn.RNN(4, 3),
        nn.GRU(4, 3, 2, batch_first=True),
        nn.LSTM(4, 3, bidirectional=True),
        nn.LSTM(4, 6, batch_first=True, proj_size=2),
    ],
)
def test_one_step_tells_the_shapes_of_all(layer: nn.RNNBase, shape: tuple[int, ...]) -> None:
    x = torch.rand(shape)
    axis = step_axis(layer, x)
    assert axis is not None
    found, expected = run_one_step(layer, axis, x), layer(x)
    assert _shapes(found) == _shapes(expected)
    assert step_axis(nn.Linear(4, 3), x) is None


def _shapes(tree: Any) -> Any:
    return tree.shape if isinstance(tree, Tensor) else [_shapes(part) for part in tree]
