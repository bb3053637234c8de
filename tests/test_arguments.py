"""What is no argument of a function is refused by name, with what was expected; spellings are taken."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from td_transform import (
    TopDownError,
    build,
    compare,
    optimize_for_inference,
    receptive_field,
    register_operator,
    save_topdown,
    to_topdown,
)
from td_transform.draw import draw

SIZE = (3, 32, 32)


def net() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(8, 16, 3, padding=1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 5),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("option", "value", "same"),
    [
        ("input_size", list(SIZE), SIZE),
        ("input_size", np.array(SIZE), SIZE),
        ("input_size", torch.Size(SIZE), SIZE),
        ("input_size", tuple(map(np.int64, SIZE)), SIZE),
        ("output_stride", np.int64(2), 2),
        ("leaf_modules", "0", ("0",)),
        ("leaf_modules", ["0"], ("0",)),
        ("skip_levels", 1, (1,)),
    ],
)
def test_spellings_of_an_option(option: str, value: Any, same: Any) -> None:
    found, expected = (
        to_topdown(net(), **{"input_size": SIZE, option: given}).plan for given in (value, same)
    )
    assert (found.options, str(found)) == (expected.options, str(expected))
    assert repr(getattr(found.options, option)) == repr(same)


@pytest.mark.parametrize(
    ("option", "value", "text"),
    [
        ("input_size", 32, r"32; expected three positive integers \(C, H, W\), without the batch"),
        ("input_size", torch.rand(1, 3, 8, 8), "tensor.*; expected three positive integers"),
        ("input_size", "3,32,32", "'3,32,32'; expected three positive integers"),
        ("output_stride", 1.0, "1.0; expected a positive integer"),
        ("memory_budget", "1", "'1'; expected bytes an image, or a share"),
        ("leaf_modules", None, "None; expected a tuple. Remedy: leave it out"),
        ("skip_levels", ("1",), "stride '1', no level's; expected strides"),
        ("init", nn.init.kaiming_normal_,
         r"\(torch.nn.init:kaiming_normal_\): AttributeError: .*, on a Conv2d; .*, by their class"),
    ],
)  # fmt: skip
def test_what_is_no_option(option: str, value: Any, text: str) -> None:
    with pytest.raises(TopDownError, match=f"argument '{option}'.*{text}"):
        to_topdown(net(), **{"input_size": SIZE, option: value})


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (lambda m, td: build("plan", m), "argument 'plan': a str; expected a Plan"),
        (lambda m, td: draw(m, m, Path("both.svg")), "argument 'td': a Sequential; expected a Top"),
        (lambda m, td: compare(m, None), "argument 'model': a NoneType"),
        (lambda m, td: register_operator(nn.Conv2d, 3), "argument 'operator': 3; expected an Operator"),
        (lambda m, td: optimize_for_inference(m, torch.rand(2, 4, 8, 8)), "argument 'example': Runtime"),
        (lambda m, td: receptive_field(m, SIZE, method="grad"), "argument 'method': 'grad'; expected"),
        (lambda m, td: receptive_field(m, SIZE, method="gradient", samples=0), "argument 'samples': 0"),
        (lambda m, td: receptive_field(m, SIZE, method="gradient", images=[1]), "'images': a list"),
        (lambda m, td: receptive_field(m, SIZE)[0], "name '0': a network of"),
        (lambda m, td: receptive_field(m, SIZE).box("0", 5), "position 5 of '0': a map of 32x32"),
        (lambda m, td: receptive_field(m, SIZE).box("0", (1.5, 1)), r"position \(1.5, 1\) of '0'"),
        (lambda m, td: receptive_field(m, SIZE).reaches(3, "0"), "pixel 3: an image of 32x32"),
        (lambda m, td: td("x"), "images: a str; expected a batch of images"),
        (lambda m, td: td(np.zeros((1, 3, 32, 32))), "images: a ndarray; expected a batch of images"),
        (lambda m, td: td([torch.rand(1, 3, 32, 32), torch.rand(1, 3, 16, 16)]),
         r"images: \(1, 3, 32, 32\) and \(1, 3, 16, 16\); expected images of one size"),
    ],
)  # fmt: skip
def test_what_is_no_argument(call: Callable[[Any, Any], Any], text: str) -> None:
    model = net()
    with pytest.raises(TopDownError, match=text):
        call(model, to_topdown(model, input_size=SIZE))


def test_a_folder_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        save_topdown(to_topdown(net(), input_size=SIZE), tmp_path / "missing" / "td.pt")
