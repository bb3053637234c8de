"""Whether a claim holds: the rules for receptive fields, which need no rows."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.findings.verdicts import Verdict
from benchmarks.measures.fields import EXAMPLE, example_fields, network_ends
from benchmarks.runs.jobs import Row
from benchmarks.subjects.networks import model_title


def fields_agree(_: Sequence[Row]) -> Verdict:
    """The six figures of section 3.2."""
    found = example_fields()
    ours = "; ".join(f"{name}: {size}" for name, size in found.items())
    agree = sum(found[name] == size for name, size in EXAMPLE.items())
    return Verdict(ours, agree == len(EXAMPLE), f"{agree} of {len(EXAMPLE)} agree")


def starts_coarse(_: Sequence[Row]) -> Verdict:
    """TD's first convolution sees as much as BU's last, in the example and in all four networks."""
    example = example_fields()
    pairs = {
        "example": (example["TD, first convolution"], example["BU, last convolution"]),
        **{
            model_title(name): (ends.td_first, ends.bu_last)
            for name, ends in network_ends().items()
        },
    }
    holds = {name: first >= last for name, (first, last) in pairs.items()}
    ours = "; ".join(
        f"{name}: TD {first}, BU {last} pixels" for name, (first, last) in pairs.items()
    )
    named = ", ".join(name for name, does in holds.items() if does) or "none"
    return Verdict(ours, all(holds.values()), f"holds for: {named}")


def ends_fine(_: Sequence[Row]) -> Verdict:
    """TD's last feature map has the image's resolution, and BU's a lower one, in all networks."""
    found = {model_title(name): ends for name, ends in network_ends().items()}
    ours = "; ".join(
        f"{name}: TD {ends.td_map}×{ends.td_map}, BU {ends.bu_map}×{ends.bu_map}"
        for name, ends in found.items()
    )
    holds = [ends.bu_map < ends.td_map == ends.image for ends in found.values()]
    return Verdict(ours, all(holds), f"holds for {holds.count(True)} of {len(holds)} networks")
