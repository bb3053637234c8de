"""What networks cost, against figures computed by hand and against real passes."""

from __future__ import annotations

import warnings

import pytest
import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from td_transform import Plan, TopDownError, build, plan_topdown, to_topdown
from td_transform.cost import Cost, measure
from td_transform.plan import Work
from td_transform.torchvision_cpu import import_torchvision
from tests.networks import TOPOLOGIES


def by_hand() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(64, 10)
    )


def with_stages() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU(),
        nn.MaxPool2d(2, ceil_mode=True),
        nn.Conv2d(8, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 10),
    )  # fmt: skip


@pytest.mark.parametrize("batch", [1, 3])
def test_figures_of_a_network_computed_by_hand(batch: int) -> None:
    relu_output = 4 * 8 * 8 * 4  # what the ReLU and the pooling both keep
    pool_indices = 4 * 4 * 4 * 8
    linear_input = 64 * 4
    assert measure(by_hand(), (1, 8, 8), batch=batch) == Cost(
        parameters=4 * 9 + 4 + 64 * 10 + 10,
        multiply_adds=batch * (4 * 9 * 8 * 8 + 64 * 10),
        activation_bytes=batch * (relu_output + pool_indices + linear_input),
        output_size=None,
    )


def test_a_grouped_convolution_multiplies_within_its_groups() -> None:
    convolution = nn.Conv2d(8, 16, 3, padding=1, groups=4)
    assert measure(convolution, (8, 5, 5)).multiply_adds == 16 * 2 * 9 * 25


def test_resnet18_has_the_multiply_adds_that_the_literature_gives() -> None:
    cost = measure(import_torchvision().models.resnet18(), (3, 224, 224))
    assert cost.parameters == 11_689_512
    assert cost.multiply_adds == 1_814_073_344
    assert cost.output_size == (7, 7)


@pytest.mark.parametrize("side", [32, 29])
@pytest.mark.parametrize("top_down", [False, True])
def test_activations_are_what_a_training_pass_keeps(top_down: bool, side: int) -> None:
    model = with_stages()
    network = to_topdown(model, input_size=(3, side, side)) if top_down else model
    own = {address(t) for t in (*network.parameters(), *network.buffers())}
    images = torch.rand(2, 3, side, side)
    saved: dict[int, Tensor] = {}

    def keep(tensor: Tensor) -> Tensor:
        saved[address(tensor)] = tensor
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        logits = network.train()(images)
    kept = [t for key, t in saved.items() if key not in own | {address(images)}]
    assert logits.requires_grad
    found = measure(network, (3, side, side), batch=2)
    assert found.activation_bytes == sum(t.untyped_storage().nbytes() for t in kept)


def address(tensor: Tensor) -> int:
    return int(tensor.untyped_storage().data_ptr())


@pytest.mark.parametrize("side", [32, 29])
@pytest.mark.parametrize("output_stride", [1, 2])
def test_output_size_is_that_of_the_last_map(side: int, output_stride: int) -> None:
    model = with_stages()
    td = to_topdown(model, input_size=(3, side, side), output_stride=output_stride)
    for network in (model, td):
        assert measure(network, (3, side, side)).output_size == last_map(network, side)


def last_map(network: nn.Module, side: int) -> tuple[int, ...]:
    """The size of the map that the last convolution gives."""
    sizes: list[tuple[int, ...]] = []
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            module.register_forward_hook(lambda m, x, y: sizes.append(tuple(y.shape[-2:])))
    network(torch.rand(2, 3, side, side))
    return sizes[-1]


def test_the_model_is_neither_run_nor_changed() -> None:
    model = with_stages().train()
    model.register_forward_hook(lambda *_: pytest.fail("the model was run"))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    measure(model, (3, 32, 32))
    assert model.training
    assert all(p.device.type == "cpu" and p.grad is None for p in model.parameters())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_precision_and_frozen_parameters_do_not_matter() -> None:
    expected = measure(with_stages(), (3, 32, 32))
    assert measure(with_stages().half().requires_grad_(False), (3, 32, 32)) == expected


def test_a_model_that_cannot_run_at_the_size_is_named() -> None:
    with pytest.raises(
        TopDownError, match=r"model Sequential: RuntimeError.*\(1, 20, 20\).*Remedy"
    ):
        measure(by_hand(), (1, 20, 20))


@pytest.mark.parametrize("name", list(TOPOLOGIES))
def test_a_plan_says_what_both_networks_cost(name: str) -> None:
    size = (3, 32, 32)
    model = TOPOLOGIES[name]()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        td = to_topdown(model, input_size=size)
    assert td.plan.cost is not None
    for planned, network in ((td.plan.cost.total, td), (td.plan.cost.bottom_up, model)):
        found = measure(network, size)
        assert planned == Work(found.multiply_adds, found.activation_bytes)
    assert len(td.plan.cost.levels) == len(td.plan.levels)
    assert Plan.from_json(td.plan.to_json()) == td.plan


def test_the_table_of_a_plan_adds_up() -> None:
    plan = plan_topdown(with_stages(), input_size=(3, 32, 32))
    rows = [line.rsplit(maxsplit=2)[1:] for line in str(plan).splitlines()[3:-1]]
    figures = [[int(cell.replace(",", "")) for cell in row] for row in rows]
    assert plan.cost is not None
    assert [sum(column) for column in zip(*figures, strict=True)] == [
        plan.cost.total.multiply_adds, plan.cost.total.activation_bytes,
    ]  # fmt: skip
    assert f"({plan.cost.ratio:.1f} x the bottom-up model's)" in str(plan)


@pytest.mark.parametrize(("output_stride", "warned"), [(1, 1), (2, 0), (4, 0)])
def test_ten_times_the_multiply_adds_is_warned_of_once(output_stride: int, warned: int) -> None:
    with torch.device("meta"):
        model = import_torchvision().models.resnet18()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        td = to_topdown(model, input_size=(3, 64, 64), output_stride=output_stride)
    assert td.plan.cost is not None
    texts = [str(w.message) for w in caught if "multiply-adds" in str(w.message)]
    assert len(texts) == warned == (td.plan.cost.ratio > 10)
    # and a plan that is built once more, as an edited one is, says it once
    assert build(td.plan, model).plan.warnings == td.plan.warnings
    for text in texts:
        assert f"makes {td.plan.cost.ratio:.0f} times" in text
        assert "output_stride=4 costs about" in text
