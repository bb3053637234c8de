"""How long a conversion takes, against plain tracing and shape propagation of the same model.

Run as ``python -m tools.conversion_time [MODEL]``. All are timed in turn in one process; shown are
the median and, in brackets, the quartiles of the rounds' ratios. The baseline is
`torch.fx.symbolic_trace` plus `ShapeProp` on meta tensors. Memory is what the process's peak
resident size grows by, against the parameters' bytes. At last come networks of one family, whose time
per node of the graph must stay flat.
"""

from __future__ import annotations

import copy
import resource
import sys

import torch

from td_transform import plan_topdown, to_topdown
from td_transform.cli.model_names import load_model
from td_transform.table import format_table
from tools.perf.measures import trace_and_propagate
from tools.perf.timing import in_turn

SIZE = (3, 224, 224)
RUNS = 5
FAMILY = ("efficientnet_b0", "efficientnet_b3", "efficientnet_b5", "efficientnet_b7")


def main() -> None:
    """Print seconds, ratios and bytes."""
    name = sys.argv[1] if len(sys.argv) > 1 else "resnet50"
    model = load_model(name)
    plan = plan_topdown(model, input_size=SIZE)
    before = _peak_bytes()
    td = to_topdown(model, input_size=SIZE)
    grown = _peak_bytes() - before
    parameters = sum(p.numel() * p.element_size() for p in td.parameters())
    buffers = sum(b.numel() * b.element_size() for b in td.buffers())
    del td
    on_meta = copy.deepcopy(model).to("meta")
    runs = {
        "symbolic_trace + shape propagation": lambda: trace_and_propagate(on_meta, SIZE),
        "plan_topdown": lambda: plan_topdown(model, input_size=SIZE),
        "to_topdown of the model on meta": lambda: to_topdown(on_meta, input_size=SIZE),
        'to_topdown with device="meta"': lambda: to_topdown(model, input_size=SIZE, device="meta"),
        "to_topdown": lambda: to_topdown(model, input_size=SIZE),
        "drawing as many values as it has parameters, alone": lambda: torch.empty(
            plan.parameters
        ).uniform_(-1, 1),
    }
    print(f"{name} at {SIZE}, torch {torch.__version__}, {torch.get_num_threads()} threads")
    for what, time in in_turn(runs, torch.device("cpu"), rounds=RUNS).items():
        print(f"{time.seconds:7.3f} s  {time!s:>20} x  {what}")
    print(f"parameters and buffers of the result {(parameters + buffers) / 1e6:,.0f} MB, ", end="")
    print(f"peak memory grew by {grown / 1e6:,.0f} MB\n")
    _print_growth()


def _print_growth() -> None:
    """Time per node of the emitted network, models on meta."""
    models = {name: load_model(name).to("meta") for name in FAMILY}
    nodes = {n: len(to_topdown(m, input_size=SIZE).graph.nodes) for n, m in models.items()}
    runs = {n: lambda m=m: to_topdown(m, input_size=SIZE) for n, m in models.items()}
    times = in_turn(runs, torch.device("cpu"), rounds=RUNS)
    cells = [
        [n, f"{nodes[n]:,}", f"{t.seconds:.2f}", f"{t.ratio * nodes[FAMILY[0]] / nodes[n]:.2f}"]
        for n, t in times.items()
    ]
    columns = ["model", "nodes", "seconds", "per node, against the smallest"]
    print("\n".join(format_table(columns, cells)))


def _peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


if __name__ == "__main__":
    main()
