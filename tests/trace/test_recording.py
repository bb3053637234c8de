"""Recording: whatever way a forward is written, its graph computes the same for other images."""

from __future__ import annotations

import copy
import dataclasses
import threading
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn

from td_transform.errors import TraceError
from td_transform.operators import TensorInfo, module_operator
from td_transform.trace.model import make_skeleton
from td_transform.trace.recording import Recording, record
from tests.trace import constructs as c

SIZE = (3, 16, 16)


def is_leaf(module: nn.Module) -> bool:
    return module_operator(module) is not None or isinstance(module, nn.MultiheadAttention)


@dataclasses.dataclass(frozen=True)
class Case:
    """A network, and what a recording of it says: nothing where the graph holds for every image."""

    network: type[nn.Module]
    notes: tuple[str, ...] = ()
    at_other_sizes: bool = True


CASES = [
    Case(c.ChunkedLoop), Case(c.SplitUnpacked), Case(c.Unbound), Case(c.IteratedTensor),
    Case(c.Checkpointed), Case(c.CheckpointedOldStyle),
    Case(c.AutogradFunction),
    Case(c.FloatOfParameter, notes=("bool() of a tensor is fixed at True", "float() of a tensor is fixed at 0.37")),
    Case(c.ValueOfTheImage, notes=("bool() of a tensor is fixed at True",)),
    Case(c.AssertsOnSizes), Case(c.SizesInViews), Case(c.SizesOfTuples), Case(c.SizesInArithmetic),
    Case(c.LenAndNumel),
    Case(c.LoopOverList), Case(c.KeywordArguments), Case(c.ImageInKeywords),
    Case(c.DictionaryOutput), Case(c.DataclassOutput), Case(c.NamedTupleOutput),
    Case(c.InPlaceOperators), Case(c.InPlaceModule), Case(c.SlicesAssigned),
    Case(c.WrittenThroughViews),
    Case(c.ScriptedFunction), Case(c.DecoratedFunctions), Case(c.Attention), Case(c.MultiheadLeaf),
    Case(c.Contexts), Case(c.Parametrised), Case(c.ConstantsInForward), Case(c.TensorsOfPython),
    Case(c.ValuesAndIndices), Case(c.TablesBySize), Case(c.StateKept), Case(c.StopsGradient),
    Case(c.RepeatedModule), Case(c.IndexedByTensors), Case(c.CacheOnTheModule),
    Case(c.FrozenByInt, notes=("frozen at images of 16x16: 16 (39 there)",), at_other_sizes=False),
    Case(c.FrozenByBranch, notes=("frozen at images of 16x16: a branch",), at_other_sizes=False),
    Case(c.FrozenByLoop, notes=("frozen at images of 16x16: other operators",), at_other_sizes=False),
    Case(c.PositionTable, at_other_sizes=False),
]  # fmt: skip


def recorded(model: nn.Module, **options: Any) -> tuple[nn.Module, Recording]:
    skeleton = make_skeleton(model)
    recording = record(skeleton, SIZE, is_leaf=is_leaf, model=model, **options)
    for name, tensor in skeleton.named_buffers():
        if name.startswith("_tensor_constant"):
            model.register_buffer(name, tensor)
    return skeleton, recording


def seeded(network: type[nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    return network().eval()


def logits(result: Any) -> Tensor:
    if isinstance(result, dict):
        return result["logits"]
    return result if isinstance(result, Tensor) else result.logits


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.network.__name__)
def test_a_recording_computes_what_the_model_does(case: Case) -> None:
    model = seeded(case.network)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    _, recording = recorded(model)
    runner = fx.GraphModule(model, recording.graph)
    shapes = [(2, 3, 16, 16), (5, 3, 16, 16)] + [(3, 3, 20, 24)] * case.at_other_sizes
    for shape in shapes:
        image = torch.rand(shape)
        with torch.no_grad():
            expected = logits(seeded(case.network)(image))
            torch.testing.assert_close(runner(image), expected, rtol=1e-5, atol=1e-6)
    assert len(recording.notes) == len(case.notes), recording.notes
    for note, expected_note in zip(recording.notes, case.notes, strict=True):
        assert expected_note in note
    assert all("constructs.py:" in note for note in recording.notes)
    for key, value in before.items():
        torch.testing.assert_close(model.state_dict()[key], value, rtol=0, atol=0)
