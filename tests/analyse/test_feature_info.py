"""timm says of its models what stages they have: an outside opinion on what the analysis finds.

The sample here is one model a family; `python -m tools.zoo --library timm` compares all of them.
"""

from __future__ import annotations

from fnmatch import fnmatch

import pytest
from torch import nn

from td_transform import TopDownError
from td_transform.analyse import BottomUp, analyse
from td_transform.trace import trace
from tools.zoo.feature_info import difference, explanation, features
from tools.zoo.libraries import LIBRARIES, on_meta
from tools.zoo.sweep import sampled

TIMM = LIBRARIES["timm"]
QUICK = ["resnet10t", "mixnet_s", "dla46_c", "selecsls60", "lcnet_035"]

# the analysis refuses these: there is no one chain of stages
REFUSED = {
    "coat_[mst]*": "parallel resolutions",
    "convmixer*": "one resolution",
    "efficientvim*": "a classifier at every stage",
    "hiera_*": "tokens in an order that is not the map's",
    "hrnet*": "parallel resolutions",
    "nasnet*": "cells that read two tensors",
    "pnasnet*": "cells that read two tensors",
}


def found(name: str) -> tuple[BottomUp, nn.Module]:
    model = on_meta(TIMM, name)
    return analyse(trace(model, TIMM.input_size(name, model))), model


@pytest.mark.parametrize("name", QUICK)
def test_agrees(name: str) -> None:
    stages, model = found(name)
    assert difference(stages, features(model)) == ""


@pytest.mark.exhaustive
@pytest.mark.parametrize("name", sampled(TIMM.families(), 1))
def test_every_family(name: str) -> None:
    if any(fnmatch(name, pattern) for pattern in REFUSED):
        with pytest.raises(TopDownError, match="Remedy: "):
            found(name)
        return
    stages, model = found(name)
    said = features(model)
    assert said
    assert bool(difference(stages, said)) == bool(explanation(name))
