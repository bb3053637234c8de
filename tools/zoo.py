"""`td-transform convert` over all of torchvision's CNNs, as a table in Markdown.

Run as ``python -m tools.zoo > docs/zoo.md`` (with names for some models alone); it takes about
ten minutes on two cores. The
models live on the meta device, so that the largest need no memory.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator

import torch
from torch import nn
from tqdm import tqdm

from td_transform import TopDownError, plan_topdown, to_topdown
from td_transform.analyse import analyse
from td_transform.cost import Cost, measure
from td_transform.torchvision_cpu import import_torchvision
from td_transform.trace import trace

SIZE = (3, 224, 224)
TABLE = (
    "| model | levels (stride: width) | parameters BU | TD | multiply-adds BU | TD | TD, own stride "
    "| activations BU | TD | TD, own stride |\n| --- | --- |" + " ---: |" * 8
)
HEADER = """# torchvision's models, turned upside down

Written by `python -m tools.zoo` (torchvision {version}, torch {torch}): every model of
`torchvision.models`, converted at 224 x 224 pixels with the defaults (arrangement `td`,
`output_stride=1`) and at the bottom-up model's own finest stride. Parameters and multiply-adds
(of one image) in millions; activation memory is what autograd keeps of one image, in MB.

{table}"""


def main() -> None:
    """Print the table; what is refused comes last, with the error."""
    warnings.simplefilter("ignore")
    models = import_torchvision().models
    version = import_torchvision().__version__
    print(HEADER.format(table=TABLE, version=version, torch=torch.__version__))
    refused = []
    names = sys.argv[1:] or models.list_models(module=models)
    for name in tqdm(names, disable=None, file=sys.stderr):
        try:
            for line in rows(name, _build(models, name)):
                print(line, flush=True)
        except TopDownError as error:
            refused.append(f"| {name} | {error.seen}; expected {error.expected} |")
    print("\n## Refused\n\n| model | why |\n| --- | --- |")
    print("\n".join(refused))


def rows(name: str, model: nn.Module) -> Iterator[str]:
    """The table's row for one model."""
    plan = plan_topdown(model, input_size=SIZE)
    own = _own_stride(model)
    bottom_up = measure(model, SIZE)
    top_down = measure(to_topdown(model, input_size=SIZE), SIZE)
    same = (
        measure(to_topdown(model, input_size=SIZE, output_stride=own), SIZE)
        if own > 1
        else top_down
    )
    levels = ", ".join(f"{level.stride}: {level.width}" for level in plan.levels)
    costs = [
        _millions(bottom_up.parameters), _millions(plan.parameters),
        *(_millions(c.multiply_adds) for c in (bottom_up, top_down, same)),
        *(_megabytes(c) for c in (bottom_up, top_down, same)),
    ]  # fmt: skip
    yield f"| {name} | {levels} | {' | '.join(costs)} |"


def _own_stride(model: nn.Module) -> int:
    """The stride of the bottom-up model's finest stage."""
    return analyse(trace(model, SIZE)).stages[0].stride


def _build(models: object, name: str) -> nn.Module:
    builder = models.get_model_builder(name)  # type: ignore[attr-defined]
    return builder().to("meta")  # type: ignore[no-any-return]


def _millions(count: int) -> str:
    return f"{count / 1e6:,.1f}"


def _megabytes(cost: Cost) -> str:
    return f"{cost.activation_bytes / 1e6:,.1f}"


if __name__ == "__main__":
    main()
