"""A user's own package, in the working directory."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

USER_MODEL = """
from torch import nn


def build():
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(4, 8, 3, padding=1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10),
    )


def flattens():
    return nn.Sequential(*list(build())[:5], nn.Flatten(), nn.Linear(8 * 14 * 14, 10))


def sized(width, depth=1):
    return build()


class Several(nn.Sequential):
    def forward(self, x):
        return x, super().forward(x)


def several():
    return Several(*build())


def number():
    return 3


def doubled(spec):
    return nn.Upsample(scale_factor=spec.factor, mode="bicubic")


def raises():
    return 1 / 0


ready = build()
word = "build"
"""


@pytest.fixture
def user_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The working directory holds a package with this module."""
    (tmp_path / "users_own").mkdir()
    (tmp_path / "users_own" / "nets.py").write_text(USER_MODEL)
    (tmp_path / "users_own" / "broken.py").write_text("import of_nobody")
    (tmp_path / "users_own" / "unfinished.py").write_text("def build(")
    monkeypatch.chdir(tmp_path)
    for name in ("users_own", "users_own.nets"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return "users_own.nets"
