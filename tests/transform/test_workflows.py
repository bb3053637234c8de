"""A conversion amid what users do with their models: wrap, shard, quantise, export, compile them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
import torch
import torch.distributed as dist
from torch import fx, nn
from torch.nn.parallel import DistributedDataParallel
from torch.testing._internal.two_tensor import TwoTensor

from td_transform import build, plan_topdown, to_topdown
from td_transform.errors import StructureError, TopDownError, TraceError
from td_transform.layers.images import readable
from tests.networks import TOPOLOGIES

SIZE = (3, 32, 32)


def chain() -> nn.Module:
    torch.manual_seed(0)
    return TOPOLOGIES["chain"]()


def test_what_is_converted_in_inference_mode_trains() -> None:
    model = chain()
    with torch.inference_mode():
        networks = [
            to_topdown(model, input_size=SIZE),
            build(plan_topdown(model, input_size=SIZE), model),
        ]
    for td in networks:
        td(torch.rand(2, *SIZE)).sum().backward()
        assert all(p.grad is not None for p in td.parameters())


def test_a_model_that_shares_its_gradients_is_what_it_holds() -> None:
    model, store = chain(), dist.HashStore()
    dist.init_process_group("gloo", store=store, rank=0, world_size=1, timeout=timedelta(seconds=9))
    try:
        wrapped = to_topdown(DistributedDataParallel(model), input_size=SIZE)
    finally:
        dist.destroy_process_group()
    plain = to_topdown(model, input_size=SIZE)
    assert [p.shape for p in wrapped.parameters()] == [p.shape for p in plain.parameters()]


def exported() -> nn.Module:
    graph = fx.Graph()
    graph.output(graph.call_function(torch.ops.aten.relu.default, (graph.placeholder("x"),)))
    return nn.Sequential(chain(), fx.GraphModule({}, graph))


def learning_to_be_quantised() -> nn.Module:
    model = nn.Sequential(chain()).train()
    qconfig = torch.ao.quantization.get_default_qat_qconfig("fbgemm")
    convolution = nn.Conv2d(3, 3, 1)
    convolution.qconfig = qconfig  # type: ignore[assignment]
    return nn.Sequential(torch.ao.nn.qat.Conv2d.from_float(convolution), model)


def sharded() -> nn.Module:
    weight = torch.rand(8, 8, 1, 1)
    layer = nn.Conv2d(8, 8, 1, bias=False)
    layer.weight = nn.Parameter(TwoTensor(weight, weight))
    return nn.Sequential(chain(), layer)


REFUSED: dict[str, tuple[Callable[[], nn.Module], type[TopDownError], str]] = {
    "exported": (exported, TraceError, r"an exported program, .* before torch\.export"),
    "to be quantised": (
        learning_to_be_quantised, TraceError, r"a quantised module; .* before quantising it",
    ),
    "sharded": (sharded, TraceError, r"'weight': a TwoTensor; .* before it is sharded or quantised"),
    "top-down": (
        lambda: to_topdown(chain(), input_size=SIZE), StructureError,
        r"a top-down network; .*Remedy: convert the model that it was made from",
    ),
}  # fmt: skip


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("case", REFUSED)
def test_what_is_past_conversion_is_refused(case: str) -> None:
    make, kind, text = REFUSED[case]
    with pytest.raises(kind, match=text):
        plan_topdown(make(), input_size=SIZE)


def test_a_compiler_may_leave_the_number_of_channels_open() -> None:
    compiled = torch.compile(
        lambda x: readable(x, 3), fullgraph=True, backend="eager", dynamic=True
    )
    for images in (torch.rand(2, 3, 8, 8), torch.rand(3, 3, 4, 4)):
        torch.testing.assert_close(compiled(images), images)
