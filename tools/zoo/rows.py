"""One row: what a model becomes in each arrangement, or the error."""

from __future__ import annotations

import copy
import re
import traceback
import warnings
from collections.abc import Sequence
from typing import Any, Literal

import torch
from torch import Tensor, nn

from td_transform import TopDownError, TopDownNetwork, to_topdown
from td_transform.analyse import analyse
from td_transform.options import Arrangement
from td_transform.trace import trace
from tools.zoo.builders import Size
from tools.zoo.feature_info import difference, features
from tools.zoo.libraries import LIBRARIES, Library, on_meta

Row = dict[str, Any]


def row(library: str, name: str, arrangements: Sequence[Arrangement], *, real: bool = False) -> Row:
    """Convert one model at its own input size and its own finest stride.

    Args:
        library: the name of one of `LIBRARIES`.
        name: of the model.
        arrangements: which to convert to.
        real: also train each network a step on values; the models then live on the CPU.
    """
    torch.set_num_threads(1)
    known = LIBRARIES[library]
    families = known.families()
    result: Row = {"model": name, "family": families[name], "kind": known.kind(families[name])}
    try:
        model = known.build(name) if real else on_meta(known, name)
    except Exception as error:  # the library's own, whatever it is
        return {**result, "not built": _failure(error)}
    size = known.input_size(name, model)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            result["bottom_up"] = bottom_up(model, size)
        except Exception as error:
            failed = _failure(error)
            return {**result, **dict.fromkeys(arrangements, failed)}
        stride = result["bottom_up"]["levels"][0][0]
        for arrangement in arrangements:
            try:
                result[arrangement] = converted(model, size, arrangement, stride, real=real)
            except Exception as error:
                result[arrangement] = _failure(error)
    return result


def bottom_up(model: nn.Module, size: Size | None) -> Row:
    """The stages that are found, from fine to coarse, each (stride, width), and how timm's own list
    differs from them."""
    traced = trace(model, size)
    found = analyse(traced)
    ends = [stage.segments[-1].end for stage in found.stages]
    said = features(model)
    opinion = {"feature_info": difference(found, said)} if said else {}
    return {
        **opinion,
        "input_size": list(traced.input_size),
        "parameters": sum(p.numel() for p in model.parameters()),
        "levels": [
            [s.stride, found.trunk.width(end)] for s, end in zip(found.stages, ends, strict=True)
        ],
    }


def converted(
    model: nn.Module, size: Size | None, arrangement: Arrangement, stride: int, *, real: bool
) -> Row:
    """A checked network, and what it costs an image (`td_transform.cost.measure` says the same)."""
    device: Literal["meta"] | None = None if real else "meta"
    td = to_topdown(
        model, input_size=size, arrangement=arrangement, output_stride=stride, device=device
    )
    cost = td.plan.cost
    found: Row = {
        "levels": [[level.stride, level.width] for level in td.plan.levels],
        "parameters": sum(p.numel() for p in td.parameters()),
        "opaque": sorted({name.partition(" in ")[0] for name in td.plan.opaque}),
    }
    if cost is not None:
        found["multiply_adds"] = cost.total.multiply_adds
        found["multiply_adds_bottom_up"] = cost.bottom_up.multiply_adds
    if real:
        found["loss"] = trained(td)
    return found


def trained(td: TopDownNetwork) -> list[float]:
    """The loss of two images before and after a step with every parameter's gradient.

    Raises:
        ArithmeticError: a parameter has no gradient, or one that is not finite.
    """
    torch.manual_seed(0)
    images = torch.rand(2, *td.plan.input_size)
    td.train()
    state = copy.deepcopy(td.state_dict())
    before = _loss(td(images))
    before.backward()
    bad = [n for n, p in td.named_parameters() if p.requires_grad and not _is_finite(p.grad)]
    if bad:
        raise ArithmeticError(f"no finite gradient of {len(bad)} parameters, {bad[0]} among them")
    torch.optim.SGD(td.parameters(), lr=1e-3).step()
    with torch.no_grad():
        after = _loss(td(images))
    td.load_state_dict(state)
    return [float(before.detach()), float(after)]


def _loss(logits: Tensor) -> Tensor:
    return nn.functional.cross_entropy(logits, torch.arange(len(logits)))


def _is_finite(gradient: Tensor | None) -> bool:
    return gradient is not None and bool(gradient.isfinite().all())


def _failure(error: Exception) -> Row:
    """An error as data; one that is no `TopDownError` is a crash, and says where."""
    failed = {"error": type(error).__name__, "text": str(error)[:600]}
    if isinstance(error, TopDownError):
        return {**failed, "reason": _masked(error.seen)}
    last = traceback.extract_tb(error.__traceback__)[-1]
    return {**failed, "reason": f"CRASH in {last.name}", "crash": True}


def _masked(text: str) -> str:
    """What was seen, without names and numbers, so that the same kind reads the same."""
    text = re.sub(r"'[^']*'|\"[^\"]*\"", "'…'", text)
    text = re.sub(r"\b[a-z]+(_\d+|\.\w+)[\w.]*", "…", text)
    text = re.sub(r"\d[\d,.]*", "#", text)
    return re.sub(r"('…'[^,]*)(?:, \1)+", r"\1, …", text)[:160]


__all__ = ["Library", "Row", "bottom_up", "converted", "row", "trained"]
