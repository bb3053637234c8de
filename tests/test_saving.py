"""A network is written as plain data and comes back with the same logits."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from td_transform import TopDownError, to_topdown
from td_transform.plan import Plan
from td_transform.saving import load_topdown, save_topdown
from td_transform.torchvision_cpu import import_torchvision


def bottom_up(widths: tuple[int, int] = (8, 16), *, classes: int = 10) -> nn.Sequential:
    first, second = widths
    return nn.Sequential(
        nn.Conv2d(3, first, 3, padding=1), nn.BatchNorm2d(first), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(first, second, 3, padding=1), nn.BatchNorm2d(second), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(second, classes),
    )  # fmt: skip


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A saved network of `bottom_up`."""
    path = tmp_path / "td.pt"
    save_topdown(to_topdown(bottom_up(), input_size=(3, 32, 32)), path)
    return path


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"arrangement": "uniform", "merge": "concat", "upsample": "transposed"},
        {"arrangement": "reversed", "output_stride": 2, "pyramid": "blur", "merge": "add"},
        {"weights": "inherit"},
    ],
)
def test_round_trip_gives_equal_logits(tmp_path: Path, options: dict[str, Any]) -> None:
    td = to_topdown(bottom_up(), input_size=(3, 32, 32), **options)
    images = torch.rand(4, 3, 32, 32)
    td(images)  # so that the running statistics are no longer those of a new network
    save_topdown(td, tmp_path / "td.pt")
    loaded = load_topdown(tmp_path / "td.pt", bottom_up())
    assert loaded.plan == td.plan
    assert torch.equal(loaded.eval()(images), td.eval()(images))


def test_round_trip_of_resnet18(tmp_path: Path) -> None:
    build = import_torchvision().models.resnet18
    td = to_topdown(build().eval(), input_size=(3, 64, 64), output_stride=4)
    save_topdown(td, str(tmp_path / "td.pt"))
    loaded = load_topdown(str(tmp_path / "td.pt"), build().eval(), map_location="cpu")
    images = torch.rand(1, 3, 64, 64)
    assert torch.equal(loaded(images), td(images))


@pytest.mark.parametrize("weights", ["fresh", "inherit"])
def test_loading_leaves_the_model_as_it_is(tmp_path: Path, weights: Any) -> None:
    save_topdown(
        to_topdown(bottom_up(), input_size=(3, 32, 32), weights=weights), tmp_path / "td.pt"
    )
    model = bottom_up()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    loaded = load_topdown(tmp_path / "td.pt", model)
    with torch.no_grad():
        for parameter in loaded.parameters():
            parameter.zero_()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_the_network_takes_the_mode_of_the_model(file: Path) -> None:
    assert load_topdown(file, bottom_up().train()).training
    assert not load_topdown(file, bottom_up().eval()).training


def test_the_file_is_plain_data(file: Path) -> None:
    content = torch.load(file, weights_only=True)
    assert Plan.from_json(content["plan"]).input_size == (3, 32, 32)
    assert all(isinstance(value, torch.Tensor) for value in content["state_dict"].values())


class Malicious:
    """Creates a folder when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.folder),)


def test_code_in_a_file_is_refused_and_not_run(file: Path, tmp_path: Path) -> None:
    content = torch.load(file, weights_only=True)
    torch.save(content | {"plan": Malicious(tmp_path / "harm")}, file)
    with pytest.raises(TopDownError, match="objects that are no plain data"):
        load_topdown(file, bottom_up())
    assert not (tmp_path / "harm").exists()
    torch.load(file, weights_only=False)
    assert (tmp_path / "harm").exists(), "the file would have done harm"


@pytest.mark.parametrize(
    ("content", "seen"),
    [
        ({"weight": torch.ones(1)}, "a checkpoint of another kind"),
        (torch.ones(1), "a checkpoint of another kind"),
        ({"format": "other/2", "plan": "", "state_dict": {}}, "format 'other/2'"),
        ({"format": "td_transform.topdown/2", "plan": "{}", "state_dict": {}}, "another version"),
        ({"format": "td_transform.topdown/2", "plan": 3, "state_dict": {}}, "another version"),
    ],
)
def test_a_checkpoint_of_another_kind_is_refused(tmp_path: Path, content: Any, seen: str) -> None:
    torch.save(content, tmp_path / "other.pt")
    with pytest.raises(TopDownError, match=f"other.pt': .*{seen}.*Remedy: write it with save_top"):
        load_topdown(tmp_path / "other.pt", bottom_up())


@pytest.mark.parametrize("content", [b"", b"no checkpoint", b"PK\x03\x04 half a zip file"])
def test_a_file_that_is_no_checkpoint_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "other.pt").write_bytes(content)
    with pytest.raises(TopDownError, match=r"other.pt': .*no.* checkpoint.*expected a file of for"):
        load_topdown(tmp_path / "other.pt", bottom_up())


def test_a_missing_file_is_the_usual_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        load_topdown(tmp_path / "none.pt", bottom_up())


def test_another_width_is_named_by_its_layer(file: Path) -> None:
    with pytest.raises(TopDownError) as caught:
        load_topdown(file, bottom_up((8, 24)))
    assert str(caught.value) == (
        f"file '{file}', layer 'levels.0.lift', width_out: the network of the given model has 24; "
        "expected 16, as in the file. Remedy: pass the bottom-up model that the network was made "
        "from, a Sequential, built with the same arguments (number of classes, widths) and the "
        "same version of its library"
    )


def test_another_number_of_classes_is_named_by_its_layer(file: Path) -> None:
    with pytest.raises(TopDownError, match=r"layer 'head.9', sizes, out: .* has 100; expected 10,"):
        load_topdown(file, bottom_up(classes=100))


def test_another_model_is_named_by_its_class(file: Path) -> None:
    model = import_torchvision().models.squeezenet1_1()
    with pytest.raises(TopDownError, match=r"plan, model: .* has 'SqueezeNet'; expected 'Seq"):
        load_topdown(file, model)


def test_a_model_that_cannot_be_converted_is_another_one(file: Path) -> None:
    with pytest.raises(TopDownError, match=r"the given Linear can't be converted .*a Seq"):
        load_topdown(file, nn.Linear(3, 3))


def test_weights_of_other_layers_are_refused(tmp_path: Path) -> None:
    td = to_topdown(bottom_up(), input_size=(3, 32, 32))
    td.get_submodule("head").add_module("9", nn.Linear(8, 5))
    save_topdown(td, tmp_path / "td.pt")
    with pytest.raises(TopDownError, match=r"size mismatch for head.9.weight.*after loading"):
        load_topdown(tmp_path / "td.pt", bottom_up())


def test_a_wrapper_is_not_saved(tmp_path: Path) -> None:
    wrapped = nn.DataParallel(to_topdown(bottom_up(), input_size=(3, 32, 32)))
    with pytest.raises(TopDownError, match="a DataParallel; expected a TopDownNetwork"):
        save_topdown(wrapped, tmp_path / "td.pt")  # type: ignore[arg-type]
    assert not (tmp_path / "td.pt").exists()
