"""The authors' own networks: with their weights loaded, the compiled networks give their logits."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from td_transform import Pyramid, TopDownNetwork, to_topdown
from td_transform.options import Arrangement
from tests.paper_data import ORACLES
from tests.paper_networks import STYLES

LEVELS = {"4": 0, "2": 1, "1": 2}  # the authors number their levels by stride
TENSORS = {
    "kernel": "weight", "bias": "bias", "gamma": "weight", "beta": "bias",
    "moving_mean": "running_mean", "moving_variance": "running_var",
}  # fmt: skip


def lenet_path(role: str) -> str:
    """The path in the compiled LeNetFC-TD for one of the authors' roles."""
    norm = "norm" if role.endswith(".bn") else "conv"
    role = role.removesuffix(".bn")
    if role.startswith("head"):
        return "head.classifier." + norm
    kind, stride = re.match(r"(feat|merge|stage)(\d)", role).groups()
    level = LEVELS[stride]
    inner = {
        "feat": "lift",
        "stage": f"stage.features.{2 - level}.units.0",
        "merge": "adapter" if "lowres" in role else "merge.unit",
    }[kind]
    return f"levels.{level}.{inner}.{norm}"


def resnet_path(role: str) -> str:
    """The path in the compiled ResNet32-TD for one of the authors' roles."""
    if role.startswith("head"):
        return {"head.bn": "head.bn", "head.dense": "head.fc"}[role]
    stride = re.match(r"[a-z]+(\d)", role)[1]
    level = LEVELS[stride]
    if role.startswith("feat"):
        return f"levels.{level}.lift.conv"
    block, layer = re.match(r"stage\d\.block(\d)\.(\w+)", role).groups()
    if layer.startswith("merge"):
        return f"levels.{level}.merge.unit.{'norm' if layer == 'merge_bn' else 'conv'}"
    layer = "projection" if layer.startswith("shortcut") else layer
    return f"levels.{level}.stage.blocks.{(2 - level) * 5 + int(block)}.{layer}"


def load(td: TopDownNetwork, arrays: np.lib.npyio.NpzFile, path: Callable[[str], str]) -> None:
    """Fill every tensor of the network from the authors' weights (kernels are HWIO)."""
    loaded = set()
    state = td.state_dict()
    for entry in json.loads(str(arrays["manifest_json"]))["weights"]:
        key = f"{path(entry['role'])}.{TENSORS[entry['weight']]}"
        value = torch.from_numpy(arrays[entry["key"]])
        if entry["weight"] == "kernel":
            value = value.permute(3, 2, 0, 1) if value.dim() == 4 else value.T
        assert state[key].shape == value.shape, key
        state[key].copy_(value)
        loaded.add(key)
    assert loaded == {k for k in state if not k.endswith("num_batches_tracked")}


@pytest.mark.parametrize(
    ("name", "arrangement", "file", "path"),
    [
        ("LeNetFC", "td", "LeNetFC_TD.npz", lenet_path),
        ("ResNet32", "td", "ResNet_TD.npz", resnet_path),
        ("ResNet32", "uniform", "ResNet_TD_uni.npz", resnet_path),
    ],
)
def test_authors_logits(
    name: str, arrangement: Arrangement, file: str, path: Callable[[str], str]
) -> None:
    arrays = np.load(ORACLES / file)
    images = torch.from_numpy(arrays["input_nhwc"]).permute(0, 3, 1, 2)
    size = tuple(images.shape[1:])
    model = STYLES[name]["modules"]()
    td = to_topdown(model, input_size=size, arrangement=arrangement).eval()
    load(td, arrays, path)
    with torch.no_grad():
        logits = td(images)
        double = td.double()(images.double())
    wanted = torch.from_numpy(arrays["logits"])
    torch.testing.assert_close(logits, wanted, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(double.float(), wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("size", "factor"), [(32, 2), (32, 4), (32, 8), (32, 16), (28, 2), (28, 4)]
)
def test_pyramid(size: int, factor: int) -> None:
    arrays = np.load(ORACLES / "pyramid.npz")
    image = torch.from_numpy(arrays[f"x{size}_nhwc"]).permute(0, 3, 1, 2)
    level = Pyramid((factor,))(image)[0].permute(0, 2, 3, 1)
    wanted = torch.from_numpy(arrays[f"tf{size}_f{factor}"])
    assert (level - wanted).abs().max() < 1e-6


def test_an_unloaded_network_gives_other_logits() -> None:
    """The comparison above can fail."""
    arrays = np.load(ORACLES / "LeNetFC_TD.npz")
    images = torch.from_numpy(arrays["input_nhwc"]).permute(0, 3, 1, 2)
    model: nn.Module = STYLES["LeNetFC"]["modules"]()
    logits = to_topdown(model, input_size=(1, 28, 28)).eval()(images)
    assert not torch.allclose(logits, torch.from_numpy(arrays["logits"]), rtol=1e-4, atol=1e-4)
