"""The performance table: its oracles, its clock and its memory count."""

from __future__ import annotations

import json
import time
from functools import partial
from itertools import groupby
from pathlib import Path

import pytest
import torch

from td_transform.cost import measure
from tools.perf.__main__ import Arguments, main
from tools.perf.growth import chain
from tools.perf.handwritten import LeNetFCTD
from tools.perf.memory import memory
from tools.perf.subjects import subjects
from tools.perf.timing import in_turn

CPU = torch.device("cpu")
pytestmark = pytest.mark.exhaustive


@pytest.mark.parametrize("name", ["LeNetFC", "ResNet32"])
@pytest.mark.parametrize("training", [False, True])
def test_the_compiled_network_is_the_one_written_by_hand(name: str, training: bool) -> None:
    torch.manual_seed(0)
    subject = subjects(64)[name]
    assert subject.by_hand is not None
    td, hand = subject.top_down(subject.build()), subject.by_hand()
    own, theirs = hand.state_dict(), td.state_dict()
    assert [tuple(t.shape) for t in own.values()] == [tuple(t.shape) for t in theirs.values()]
    hand.load_state_dict(dict(zip(own, theirs.values(), strict=True)))
    images = torch.rand(4, *subject.size)
    torch.testing.assert_close(td.train(training)(images), hand.train(training)(images))


def work(seconds: float) -> None:
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


def test_times_are_ratios_of_the_same_rounds() -> None:
    runs = {"short": lambda: work(0.01), "long": lambda: work(0.03)}
    found = in_turn(runs, CPU, rounds=4)
    assert found["short"].ratio == 1
    assert found["long"].ratio == pytest.approx(3, rel=0.3)
    assert found["long"].low <= found["long"].ratio <= found["long"].high


def test_a_run_is_timed_after_one_of_its_own() -> None:
    """What ran before it has left other things in the caches."""
    order: list[str] = []
    runs = {name: partial(order.append, name) for name in ("one", "other")}
    in_turn(runs, CPU, rounds=2)
    turns = [(name, len([*group])) for name, group in groupby(order)]
    assert [name for name, _ in turns] == ["one", "other"] * 2
    assert min(length for _, length in turns) >= 2


def test_the_allocator_keeps_what_the_cost_says() -> None:
    model = chain(2).train()
    images = torch.rand(2, 3, 16, 16)
    model(images).sum().backward()
    found = memory(lambda: model(images).sum(), CPU)
    of_the_loss = 4
    assert found.kept == measure(model, (3, 16, 16), batch=2).activation_bytes + of_the_loss
    assert found.peak > found.kept


def test_one_network_prints_and_writes_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "perf.json"
    arguments = Arguments(
        networks=("LeNetFC",), batch=2, rounds=2, threads=1, device="cpu", compile=False,
        growth=False, json=file,
    )  # fmt: skip
    main(arguments)
    printed = capsys.readouterr().out
    assert torch.__version__ in printed
    assert "batch 2" in printed
    assert "by hand" in printed
    (row,) = json.loads(file.read_text())["rows"]
    of_the_model = 28**2 * 25 * 6 + 14**2 * 25 * 6 * 16 + 7**2 * (9 * 16 * 32 + 32 * 10)
    by_hand = measure(LeNetFCTD(), (1, 28, 28)).multiply_adds
    assert row["multiply_adds"] == pytest.approx(by_hand / of_the_model)
    assert row["inference"]["TD"]["ratio"] == 1
    assert row["inference"].keys() - row["training"].keys() == {f"TD, {row['backend']}"}
