"""Recording: whatever way a forward is written, its graph computes the same for other images."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import threading
from typing import Any

import pytest
import torch
from torch import Tensor, fx, nn

from td_transform.errors import TraceError
from td_transform.operators import TensorInfo, module_operator
from td_transform.trace import make_skeleton
from td_transform.trace.recording import Recording, record
from tests.trace import constructs as c
from tests.trace import modules as m

SIZE = (3, 16, 16)


def is_leaf(module: nn.Module) -> bool:
    return module_operator(module) is not None or isinstance(
        module, (nn.MultiheadAttention, m.Gate)
    )


@dataclasses.dataclass(frozen=True)
class Case:
    """A network, and what a recording of it says: nothing where the graph holds for every image."""

    network: type[nn.Module]
    notes: tuple[str, ...] = ()
    at_other_sizes: bool = True


CASES = [
    Case(c.ChunkedLoop), Case(c.SplitUnpacked), Case(c.Unbound), Case(c.IteratedTensor),
    Case(m.Checkpointed), Case(m.CheckpointedOldStyle),
    Case(m.AutogradFunction), Case(m.StraightThrough),
    Case(m.LeafWithBranches), Case(m.DataDependentShape), Case(m.Wrapped),
    Case(m.FunctionalDropout),
    Case(c.FloatOfParameter, notes=("bool() of a tensor", "float() of a tensor is fixed at 0.37")),
    Case(c.ValueOfTheImage, notes=("bool() of a tensor is fixed at True",)),
    Case(c.AssertsOnSizes), Case(c.SizesInViews), Case(c.SizesOfTuples), Case(c.SizesInArithmetic),
    Case(c.LenAndNumel),
    Case(c.SizesKeptInTensors, notes=tuple(
        f"int() of a tensor is fixed at {number}" for number in (4, 2, 6, 2, 6))),
    Case(c.LoopOverList), Case(c.KeywordArguments), Case(c.ImageInKeywords),
    Case(c.DictionaryOutput), Case(c.DataclassOutput), Case(c.NamedTupleOutput),
    Case(c.InPlaceOperators), Case(c.InPlaceModule), Case(c.SlicesAssigned),
    Case(c.WrittenThroughViews),
    Case(m.ScriptedFunction), Case(m.DecoratedFunctions), Case(m.Attention), Case(m.MultiheadLeaf),
    Case(m.Contexts), Case(m.Parametrised), Case(c.ConstantsInForward), Case(c.TensorsOfPython),
    Case(c.ValuesAndIndices), Case(c.TablesBySize), Case(m.StopsGradient),
    Case(m.StateKept, notes=("(seen) for others to read",)),
    Case(m.RepeatedModule), Case(c.IndexedByTensors), Case(m.CacheOnTheModule),
    Case(c.TurnedAndCut),
    Case(m.OwnDictionary), Case(m.Probabilities), Case(m.FloatFunctionals), Case(c.IntOfBatch),
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


def logits(result: Any) -> Any:
    if isinstance(result, dict):
        return result["logits"]
    if isinstance(result, tuple) and not hasattr(result, "_fields"):
        return result[-1]
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
    lines = [note for note in recording.notes if "for others to read" not in note]
    assert all("constructs.py:" in note for note in lines)
    for key, value in before.items():
        torch.testing.assert_close(model.state_dict()[key], value, rtol=0, atol=0)


def test_shapes_lines_and_modules_are_written_down() -> None:
    model = seeded(c.LoopOverList)
    _, recording = recorded(model)
    nodes = {str(n.target): n for n in recording.graph.nodes if n.op == "call_module"}
    node = nodes["convs.1"]
    assert recording.values[node] == TensorInfo((2, 8, 16, 16), torch.float32)
    assert list(node.meta["nn_module_stack"].values()) == [("convs.1", nn.Conv2d)]
    code = c.LoopOverList.middle.__code__
    assert node.meta["source"] == f"{code.co_filename}:{code.co_firstlineno + 3}"
    assert set(recording.values) == set(recording.graph.nodes)


class _LeafTracer(fx.Tracer):
    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return is_leaf(m)


def test_module_stacks_are_those_of_symbolic_tracing() -> None:
    class Block(nn.Module):
        def __init__(self, inner: nn.Module) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, x: Tensor) -> Any:
            return self.inner(x).relu() + x

    block = Block(nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)))
    model = nn.Sequential(block, Block(nn.Conv2d(3, 3, 1)), block).eval()
    _, recording = recorded(model)
    traced = _LeafTracer().trace(model)
    assert len(traced.nodes) == len(recording.graph.nodes)
    for ours, theirs in zip(recording.graph.nodes, traced.nodes, strict=True):
        assert (ours.op, str(ours.target)) == (theirs.op, str(theirs.target))
        assert ours.meta.get("nn_module_stack") == theirs.meta.get("nn_module_stack")


def test_gradients_are_the_models() -> None:
    """Stopped where the forward stops them, through everything that writes in place."""
    for network in (m.Contexts, c.InPlaceOperators, c.SlicesAssigned, m.StopsGradient,
                    m.Parametrised, m.CheckpointedOldStyle, m.ScriptedFunction,
                    m.AutogradFunction, m.StraightThrough):  # fmt: skip
        model = seeded(network)
        _, recording = recorded(model)
        twin = seeded(network)
        image = torch.rand(2, *SIZE)
        fx.GraphModule(model, recording.graph)(image).square().sum().backward()
        logits(twin(image)).square().sum().backward()
        for (name, p), q in zip(model.named_parameters(), twin.parameters(), strict=True):
            assert q.grad is not None, name
            torch.testing.assert_close(p.grad, q.grad, msg=f"{network.__name__}.{name}")


def test_without_a_model_zeros_stand_in_for_its_values() -> None:
    skeleton = make_skeleton(seeded(m.LeafWithBranches))
    graph = record(skeleton, SIZE, is_leaf=is_leaf).graph
    assert [n.target for n in graph.nodes if n.op == "call_module"] == [
        "first", "gate", "second", "fc",
    ]  # fmt: skip


def test_an_output_can_be_named() -> None:
    _, recording = recorded(seeded(c.DictionaryOutput), output="features")
    (output,) = (n for n in recording.graph.nodes if n.op == "output")
    assert output.args[0].op == "placeholder"
    with pytest.raises(TraceError, match=r"\['features', 'logits', 'none'\]"):
        recorded(seeded(c.DictionaryOutput), output="missing")


class Several(c.Network):
    def forward(self, x: Tensor) -> Any:
        return [self.first(x), (x,), self.second(self.first(x))]


def test_of_a_list_an_output_can_be_counted() -> None:
    _, recording = recorded(seeded(Several), output=2)
    (output,) = (n for n in recording.graph.nodes if n.op == "output")
    assert output.args[0].target == "second"
    for wrong in (1, 3):  # a tuple in its place, and none
        with pytest.raises(TraceError, match=r"\[0, 1, 2\].*pass one of these as output"):
            recorded(seeded(Several), output=wrong)


class Failing(c.Network):
    def middle(self, x: Tensor) -> Any:
        with torch.no_grad():
            return self.second(torch.cat([x, x], 1))


class OverTheBatch(c.Network):
    def middle(self, x: Tensor) -> Any:
        return torch.stack([x[i] for i in range(x.shape[0])])


class TwoImages(nn.Module):
    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return x + y


def test_errors_name_the_module_and_the_line() -> None:
    line = Failing.middle.__code__.co_firstlineno + 2
    match = rf"'second' \(Conv2d, .*test_recording.py:{line}\): an input with 16 channels"
    with pytest.raises(TraceError, match=match):
        recorded(seeded(Failing))
    with pytest.raises(TraceError, match="4 images instead of 2: other operators from 'stack'"):
        recorded(seeded(OverTheBatch))
    with pytest.raises(TraceError, match="2 inputs; expected one image"):
        recorded(seeded(TwoImages))


def test_nothing_stays_patched() -> None:
    for network in (m.StateKept, m.StraightThrough, Failing, m.CacheOnTheModule, c.TablesBySize):
        skeleton = make_skeleton(seeded(network))
        before = {path: dict(vars(m)) for path, m in skeleton.named_modules()}
        cache = getattr(skeleton, "cache", {})
        with contextlib.suppress(TraceError):
            record(skeleton, SIZE, is_leaf=is_leaf)
        assert {path: dict(vars(m)) for path, m in skeleton.named_modules()} == before
        assert cache == {}
        assert torch.is_grad_enabled()
        assert type(torch.is_grad_enabled).__name__ == "builtin_function_or_method"
        assert "apply" not in vars(torch.autograd.function._SingleLevelFunction)
        assert type(torch.zeros(1) + 1) is Tensor
        assert not torch.overrides._get_current_function_mode_stack()


def test_threads_record_side_by_side() -> None:
    networks = [
        c.ConstantsInForward, m.Attention, c.WrittenThroughViews, m.ScriptedFunction, m.StraightThrough,
    ] * 2  # fmt: skip
    expected = [str(recorded(seeded(n))[1].graph) for n in networks]
    models = [seeded(n) for n in networks]
    found: dict[int, str] = {}

    def work(i: int) -> None:
        found[i] = str(recorded(models[i])[1].graph)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(networks))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[i] for i in range(len(networks))] == expected


def test_the_users_model_is_only_read() -> None:
    model = seeded(c.ValueOfTheImage).train()
    before = copy.deepcopy(model.state_dict())
    recorded(model)
    assert model.training
    assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())


def test_a_plain_network_is_recorded_once() -> None:
    """No size was ever asked for, so nothing can depend on one."""
    runs = 0

    class Counted(c.Network):
        def middle(self, x: Tensor) -> Any:
            nonlocal runs
            runs += 1
            return x.flatten(2).unflatten(2, (-1, 4)).flatten(2)[:, :, :, None]

    recorded(seeded(Counted))
    assert runs == 1
