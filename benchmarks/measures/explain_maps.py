"""Grad-CAM through TorchCAM, at any tensor of a network's graph.

A level often ends in an addition or in a module that is called twice, where no hook can be placed.
So the network's graph is run with a probe, a module that passes its input on, behind every level;
the hooks sit on the probes, and the network's own modules never carry one.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, fx, nn

from benchmarks.measures.explain_layers import copied


def with_probes(network: nn.Module, graph: fx.Graph, names: Sequence[str]) -> fx.GraphModule:
    """The network, sharing all its modules, with a probe behind each of these tensors."""
    twin = fx.GraphModule(network, copied(graph))
    nodes = {n.name: n for n in twin.graph.nodes}
    for i, name in enumerate(names):
        twin.add_module(_probe(i), nn.Identity())
        with twin.graph.inserting_after(nodes[name]):
            probe = twin.graph.call_module(_probe(i), (nodes[name],))
        with twin.graph.inserting_after(probe):
            # what comes next may write into its input
            passed_on = twin.graph.call_function(torch.clone, (probe,))
        nodes[name].replace_all_uses_with(passed_on, delete_user_cb=lambda n, p=probe: n is not p)
    twin.recompile()
    return twin


def grad_cam(probed: fx.GraphModule, probes: int, images: Tensor, labels: Tensor) -> list[Tensor]:
    """Grad-CAM (N, h, w) of every probe at its own resolution, before any cut or scaling."""
    from torchcam.methods import GradCAM

    names: list[nn.Module | str] = [_probe(i) for i in range(probes)]
    with GradCAM(probed, target_layer=names) as extractor:
        # the cut at zero belongs to the scaling: the authors subtract the mean first
        extractor._relu = False
        scores = log_odds(probed(images), labels)
        return extractor(0, scores[:, None], normalized=False)


def log_odds(logits: Tensor, labels: Tensor) -> Tensor:
    """log(p / (1 - p)) of the labels' softmax p: logits (N, classes) to (N,).

    Its gradient is that of p divided by p (1 - p), a positive number that no scaled heatmap shows.
    But where the softmax is saturated its own gradient is lost in rounding, and this one isn't.
    """
    own = labels[:, None]
    others = logits.scatter(1, own, -torch.inf)
    return logits.gather(1, own)[:, 0] - others.logsumexp(1)


def _probe(index: int) -> str:
    return f"probe_{index}"
