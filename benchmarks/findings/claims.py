"""The claims of the paper's abstract and sections 3.2 and 4, judged by our rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

from benchmarks.findings import field_verdicts as fields
from benchmarks.findings import robustness_verdicts as robust
from benchmarks.findings import verdicts
from benchmarks.findings.aggregate import Cell, Group, current, group_of
from benchmarks.findings.published import PAPER_CELLS, least_published_accuracy
from benchmarks.findings.verdicts import MARGIN, SLIGHT, Rule, Verdict
from benchmarks.measures.attacks import of_families
from benchmarks.measures.attacks.named import Family
from benchmarks.measures.paired import CRITERION as PAIRED_CRITERION
from benchmarks.runs.jobs import Row
from benchmarks.subjects.arrangements import PAIR

BEYOND = "beyond the spread of its L2"
MAJORITY = f"more than half of the cases (network, data, attack), {BEYOND}"
NOTE = (
    "A cell is a network and a data set. "
    f"The spread of an L2: {PAIRED_CRITERION}. With a single attacked run the interval says nothing "
    "about how trainings differ. A claim does not hold where the opposite is found beyond the spread, "
    "or more often than half; it is undecided where differences are within the spread, or where "
    "single runs have none."
)
NOT_PRINTED = "no figures printed"
SPREAD = "the pooled standard deviation over runs"


@dataclass(frozen=True, kw_only=True)
class Claim:
    """One sentence of the paper that can be true or false.

    Args:
        text: what is claimed.
        source: section or figure; `beyond the paper` for what the paper doesn't say.
        paper: the paper's or its authors' figure.
        criterion: when it is said to hold.
        rule: from rows, as `current` returns them, to the verdict.
    """

    text: str
    source: str
    paper: str
    criterion: str
    rule: Rule


@dataclass(frozen=True)
class Judged:
    """A claim and what our rows say about it."""

    claim: Claim
    verdict: Verdict


def judge(rows: Sequence[Row]) -> list[Judged]:
    """All claims, in the paper's order.

    The paper's networks and data decide. Where none of them was run, whatever was run does, and
    the verdict names it.
    """
    chosen = _in_scope(current(rows))
    return [Judged(claim, claim.rule(chosen)) for claim in CLAIMS]


def _in_scope(rows: Sequence[Row]) -> list[Row]:
    counts = [row for row in rows if row["kind"] == "parameters"]
    others = [row for row in rows if row["kind"] != "parameters"]
    inside = [row for row in others if group_of(row).cell in PAPER_CELLS]
    return counts + (inside or others)


def _published_accuracies() -> str:
    parts = []
    for cell in PAPER_CELLS:
        bu, td = (
            least_published_accuracy(Group(cell.model, name, cell.data, cell.augmented))
            for name in PAIR
        )
        if bu is not None and td is not None:
            parts.append(f"{cell.title}: BU ≥ {100 * bu:.1f} %, TD ≥ {100 * td:.1f} %")
    return f"{NOT_PRINTED}; the losses in Fig. 6 bound them: " + "; ".join(parts)


_FIELDS = (
    Claim(
        text="The example's effective receptive fields are those that Eq. 1 gives.",
        source="3.2, Fig. 2",
        paper="BU 3 and 18; TD 12σ + 2, 12σ + 10, at the last merge 3 and 12σ + 14; with σ = 2/3 these "
        "are 10, 18 and 22",
        criterion="receptive_field() gives the six figures for both example networks.",
        rule=fields.fields_agree,
    ),
    Claim(
        text="Already after its first layer TD sees as much as BU does only at its last.",
        source="3.2",
        paper="18 pixels both, in the example",
        criterion="In the example and in each of the four networks as compiled here, the field after "
        "TD's first convolution is at least the one after BU's last.",
        rule=fields.starts_coarse,
    ),
)

_ACCURACY = (
    Claim(
        text="Top-down processing is applicable to various architectures and tasks.",
        source="abstract; 4.1",
        paper="4 networks, 3 data sets",
        criterion="TD is on par with BU (next claim) for at least two networks and two data sets.",
        rule=verdicts.applicable,
    ),
    Claim(
        text="TD networks are on par with their BU baselines.",
        source="4.1, Fig. 4",
        paper=_published_accuracies(),
        criterion=f"In every cell TD's mean test accuracy plus or minus {SPREAD} is at most "
        f"{100 * MARGIN:.0f} point below BU's; a spread that reaches across that margin decides "
        "nothing.",
        rule=verdicts.on_par("bu"),
    ),
    Claim(
        text="In some cases TD networks surpass their BU baselines.",
        source="4.1, Fig. 4",
        paper=NOT_PRINTED,
        criterion=f"In one cell or more TD's mean exceeds BU's by more than {SPREAD}.",
        rule=verdicts.surpasses,
    ),
    Claim(
        text="Of the filter arrangements TD_rev performs best.",
        source="4.1, Fig. 4",
        paper=NOT_PRINTED,
        criterion=f"In more than half of the cells TD_rev's mean exceeds TD's and TD_uni's, each by "
        f"more than {SPREAD}.",
        rule=verdicts.reversed_best,
    ),
    Claim(
        text="TD_rev comes at the cost of more parameters.",
        source="4.1, Fig. 4",
        paper="LeNetFC ×4.00; NIN-light ×1.01; ResNet32 ×1.07; NIN ×1.01",
        criterion="For every network TD_rev has more parameters than TD.",
        rule=verdicts.counts_grow("td", "reversed"),
    ),
    Claim(
        text="The gap from TD to TD_rev is small.",
        source="4.1, Fig. 4",
        paper=NOT_PRINTED,
        criterion=f"In every cell TD's mean plus or minus {SPREAD} is at most {100 * MARGIN:.0f} "
        "point below TD_rev's.",
        rule=verdicts.on_par("reversed"),
    ),
    Claim(
        text="NIN's three TD variants reach roughly the same performance.",
        source="4.1, Fig. 4",
        paper=NOT_PRINTED,
        criterion=f"On every data set the highest and the lowest mean differ by at most "
        f"{100 * MARGIN:.0f} point, plus or minus {SPREAD}.",
        rule=verdicts.variants_agree,
    ),
    Claim(
        text="The networks have the parameter counts of Table 1.",
        source="4, Table 1",
        paper="16 counts, in thousands",
        criterion="All sixteen counts, rounded as the paper rounds them, are the paper's.",
        rule=verdicts.counts_agree,
    ),
    Claim(
        text="TD networks have more parameters than their BU baselines.",
        source="4, Table 1",
        paper="LeNetFC ×1.88; NIN-light ×3.42; ResNet32 ×1.13; NIN ×3.47",
        criterion="For every network TD has more parameters than BU.",
        rule=verdicts.counts_grow("bu", "td"),
    ),
)

_NOISE = of_families("single pixel", "uncorrelated", "correlated")
_ALL_TEN = of_families(*get_args(Family))
_SPATIAL = of_families("spatial")


def _robustness_claim(
    text: str, attacks: Sequence[str], named: str, *, source: str = "4.2, Fig. 6"
) -> Claim:
    return Claim(
        text=text,
        source=source,
        paper=robust.published_tally(attacks),
        criterion=f"{named}: TD is the more robust in {MAJORITY}.",
        rule=robust.more_robust(attacks),
    )


_ROBUSTNESS = (
    _robustness_claim(
        "Coarse-to-fine processing is a line of defence against attacks that introduce "
        "high-frequency noise.",
        _NOISE,
        "All noise attacks, single pixels and Pointwise",
        source="abstract",
    ),
    _robustness_claim(
        "TD networks are more robust under most attacks.", _ALL_TEN, "All ten attacks"
    ),
    _robustness_claim(
        "TD networks are visibly more resilient against uncorrelated noise.",
        of_families("uncorrelated"),
        "Salt and pepper, additive Gaussian and uniform, blended uniform noise",
    ),
    _robustness_claim(
        "They are more robust against correlated noise.", of_families("correlated"), "Pointwise"
    ),
    _robustness_claim(
        "They are more robust against blurring.", of_families("blur"), "Gaussian blur"
    ),
    Claim(
        text="They are not more robust against spatial attacks.",
        source="4.2, Fig. 6",
        paper=robust.published_tally(_SPATIAL),
        criterion="Spatial, Shifts: in more than half of the cases the interval rules out that TD "
        "needs 10 % more L2 (or loses 5 points less).",
        rule=robust.no_gain(_SPATIAL),
    ),
    Claim(
        text="Against the spatial attack ResNet32's TD is substantially less robust.",
        source="4.2",
        paper=robust.published_tally(("SpatialAttack",), models=("resnet32",)),
        criterion=f"Spatial, ResNet32 only: TD is the less robust in {MAJORITY}.",
        rule=robust.less_robust(("SpatialAttack",), models=("resnet32",)),
    ),
)


def _level_claim(level: str, cell: Cell, published: Cell | None = None) -> Claim:
    return Claim(
        text=f"On {cell.title.split(', ')[1]} the {level}-resolution input is the most vulnerable.",
        source="4.2, Fig. 5",
        paper=robust.published_levels(published or cell),
        criterion=f"{cell.title}: test accuracy, mean over the attacks, is lowest when only "
        f"the {level} level is perturbed, and lower than with each other level by more than {SPREAD} "
        f"(with a single run: by {robust.ERRORS:.0f} standard errors of the share of images).",
        rule=robust.most_vulnerable(level, cell),
    )


_LEVELS = (
    _level_claim("medium", Cell("nin-light", "mnist", False)),
    _level_claim("high", Cell("nin-light", "fashion-mnist", False)),
    _level_claim("high", Cell("nin", "cifar10", True)),
)

_EXPLANATION = (
    Claim(
        text="TD's last feature map, which Grad-CAM reads, is as fine as the image, unlike BU's.",
        source="abstract; 4.3 (a), Fig. 7, 8",
        paper="shown as pictures",
        criterion="In each of the four networks as compiled here the last convolution's map has the "
        "image's size in TD, and a smaller one in BU. What the heatmaps show is to be looked at.",
        rule=fields.ends_fine,
    ),
    *(
        Claim(
            text=f"Grad-CAM of TD localises objects with higher precision on {name}.",
            source="abstract; 4.3 (b), Fig. 9",
            paper=NOT_PRINTED,
            criterion=f"NIN-light: TD's precision exceeds BU's by more than {SPREAD}.",
            rule=verdicts.precision_higher(data),
        )
        for data, name in (("mnist", "MNIST"), ("fashion-mnist", "Fashion-MNIST"))
    ),
    Claim(
        text="TD's recall is slightly lower on Fashion-MNIST.",
        source="4.3 (b), Fig. 9",
        paper=NOT_PRINTED,
        criterion=f"NIN-light: TD's recall is below BU's by more than {SPREAD}, but by less than "
        f"{100 * SLIGHT:.0f} points.",
        rule=verdicts.recall_slightly_lower("fashion-mnist"),
    ),
)

_BEYOND = (
    Claim(
        text="TD networks are also more robust against strong attacks.",
        source="beyond the paper",
        paper="not tested",
        criterion="FGSM, PGD, DeepFool, FAB, AutoAttack: TD keeps more accuracy, or needs "
        f"a larger L2, beyond the spread ({SPREAD}; with a single run {robust.ERRORS:.0f} standard "
        "errors of the share of images) in more than half of the cases (attack, norm, size, network, "
        f"data), without those in which both keep less than {100 * robust.LOST:.0f} %.",
        rule=robust.survives_strong_attacks,
    ),
    Claim(
        text="TD networks are also more robust against common corruptions.",
        source="beyond the paper",
        paper="not tested",
        criterion="Accuracy, mean over corruptions and severities, is higher beyond the spread "
        "(as above) in more than half of the cells.",
        rule=robust.survives_corruptions,
    ),
)

CLAIMS: tuple[Claim, ...] = (
    *_FIELDS, *_ACCURACY, *_ROBUSTNESS, *_LEVELS, *_EXPLANATION, *_BEYOND,
)  # fmt: skip
