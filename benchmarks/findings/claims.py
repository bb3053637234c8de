"""The claims of the paper's abstract and sections 3.2 and 4, judged by our rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

from benchmarks.findings import accuracy_verdicts as accuracy
from benchmarks.findings import authors_verdicts as authors
from benchmarks.findings import count_verdicts as counts
from benchmarks.findings import field_verdicts as fields
from benchmarks.findings import localisation_verdicts as localised
from benchmarks.findings import robustness_verdicts as robust
from benchmarks.findings.accuracy_verdicts import MARGIN
from benchmarks.findings.aggregate import Cell, measured
from benchmarks.findings.judgement import Claim, Judged, judged
from benchmarks.findings.published import PAPER_CELLS
from benchmarks.measures.attacks import of_families
from benchmarks.measures.attacks.named import Family
from benchmarks.measures.paired import CRITERION as PAIRED_CRITERION
from benchmarks.runs.jobs import Row

BEYOND = "beyond the spread of its L2"
MAJORITY = f"more than half of the cases (network, data, attack), {BEYOND}"
NOTE = (
    "A cell is a network and a data set. A verdict (holds, does not hold, undecided) is given only to "
    "results of the paper's recipe, and over all cells only where all are there; other results show a "
    "trend (for, against, none), with the reason why they are no more. "
    "Intervals are over runs, of 95 %, by Welch; with a single run there is none, and nothing is "
    f"decided. The spread of an L2: {PAIRED_CRITERION}. The authors' own figures have no spread: "
    "each criterion is applied to them as far as sizes go."
)
NOT_PRINTED = "no figures printed"
_NO_ACCURACIES = authors.nothing("the accuracies of Fig. 4 were printed nowhere")
_NO_LOCALISATION = authors.nothing("the figures of Fig. 9 were printed nowhere")
_NOT_TESTED = authors.nothing("the paper tested none")
_POINT = f"{100 * MARGIN:.0f} point"
_NIN_CELLS = tuple(cell for cell in PAPER_CELLS if cell.model in ("nin", "nin-light"))


def judge(rows: Sequence[Row]) -> list[Judged]:
    """All claims, in the paper's order.

    Args:
        rows: of any number of results folders and configurations.
    """
    found = measured(rows)
    return [judged(claim, found) for claim in CLAIMS]


_FIELDS = (
    Claim(
        text="The example's effective receptive fields are those that Eq. 1 gives.",
        source="3.2, Fig. 2",
        paper="BU 3 and 18; TD 12σ + 2, 12σ + 10, at the last merge 3 and 12σ + 14; with σ = 2/3 these "
        "are 10, 18 and 22",
        criterion="receptive_field() gives the six figures for both example networks.",
        rule=fields.fields_agree,
        authors=authors.nothing("it compares with them"),
    ),
    Claim(
        text="Already after its first layer TD sees as much as BU does only at its last.",
        source="3.2",
        paper="18 pixels both, in the example",
        criterion="In the example and in each of the four networks as compiled here, the field after "
        "TD's first convolution is at least the one after BU's last.",
        rule=fields.starts_coarse,
        authors=authors.example_agrees,
    ),
)

_ACCURACY = (
    Claim(
        text="Top-down processing is applicable to various architectures and tasks.",
        source="abstract; 4.1",
        paper="4 networks, 3 data sets",
        criterion="TD is shown to be on par with BU (next claim) for at least two networks and two "
        "data sets.",
        kind="train",
        quantifier="some",
        rule=accuracy.applicable,
        authors=_NO_ACCURACIES,
    ),
    Claim(
        text="TD networks are on par with their BU baselines.",
        source="4.1, Fig. 4",
        paper=NOT_PRINTED,
        criterion=f"In every cell it is ruled out that TD's mean test accuracy is {_POINT} or more "
        "below BU's: one of the two one-sided tests (TOST) with Welch's interval, at 5 %. It does not "
        "hold where a larger deficit is shown.",
        kind="train",
        rule=accuracy.on_par,
        authors=_NO_ACCURACIES,
    ),
    Claim(
        text="In some cases TD networks surpass their BU baselines.",
        source="4.1, Fig. 4",
        paper=NOT_PRINTED,
        criterion="In one cell or more Welch's interval of TD's mean less BU's lies above 0, at 5 % "
        "divided by the number of cells.",
        kind="train",
        quantifier="some",
        rule=accuracy.surpasses,
        authors=_NO_ACCURACIES,
    ),
    Claim(
        text="Of the filter arrangements TD_rev performs best.",
        source="4.1, Fig. 4",
        paper=NOT_PRINTED,
        criterion="In more than half of the cells Welch's intervals of TD_rev's mean less TD's and "
        "less TD_uni's both lie above 0.",
        kind="train",
        networks=("td", "uniform", "reversed"),
        rule=accuracy.reversed_best,
        authors=_NO_ACCURACIES,
    ),
    Claim(
        text="TD_rev comes at the cost of more parameters.",
        source="4.1, Fig. 4",
        paper="LeNetFC ×4.00; NIN-light ×1.01; ResNet32 ×1.07; NIN ×1.01",
        criterion="For every network TD_rev has more parameters than TD.",
        rule=counts.counts_grow("td", "reversed"),
        authors=authors.counted(counts.counts_grow("td", "reversed")),
    ),
    Claim(
        text="The gap from TD to TD_rev is small.",
        source="4.1, Fig. 4",
        paper=NOT_PRINTED,
        criterion=f"In every cell TD's mean and TD_rev's differ by less than {_POINT}: both one-sided "
        "tests (TOST) with Welch's interval, at 5 %.",
        kind="train",
        networks=("td", "reversed"),
        rule=accuracy.small_gap,
        authors=_NO_ACCURACIES,
    ),
    Claim(
        text="NIN's three TD variants reach roughly the same performance.",
        source="4.1, Fig. 4",
        paper=NOT_PRINTED,
        criterion="For NIN and NIN-light on every data set any two of the three means differ by less "
        f"than {_POINT}: TOST for each pair, at 5 %.",
        kind="train",
        networks=("td", "uniform", "reversed"),
        cells=_NIN_CELLS,
        rule=accuracy.variants_agree,
        authors=_NO_ACCURACIES,
    ),
    Claim(
        text="The networks have the parameter counts of Table 1.",
        source="4, Table 1",
        paper="16 counts, in thousands",
        criterion="All sixteen counts, rounded as the paper rounds them, are the paper's.",
        rule=counts.counts_agree,
        authors=authors.counted(counts.counts_agree),
    ),
    Claim(
        text="TD networks have more parameters than their BU baselines.",
        source="4, Table 1",
        paper="LeNetFC ×1.88; NIN-light ×3.42; ResNet32 ×1.13; NIN ×3.47",
        criterion="For every network TD has more parameters than BU.",
        rule=counts.counts_grow("bu", "td"),
        authors=authors.counted(counts.counts_grow("bu", "td")),
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
        kind="robustness",
        quantifier="most",
        rule=robust.more_robust(attacks),
        authors=authors.more_robust(attacks),
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
        kind="robustness",
        quantifier="most",
        rule=robust.no_gain(_SPATIAL),
        authors=authors.no_gain(_SPATIAL),
    ),
    Claim(
        text="Against the spatial attack ResNet32's TD is substantially less robust.",
        source="4.2",
        paper=robust.published_tally(("SpatialAttack",), models=("resnet32",)),
        criterion=f"Spatial, ResNet32 only: TD is the less robust in {MAJORITY}.",
        kind="robustness",
        quantifier="most",
        cells=tuple(cell for cell in PAPER_CELLS if cell.model == "resnet32"),
        rule=robust.less_robust(("SpatialAttack",), models=("resnet32",)),
        authors=authors.less_robust(("SpatialAttack",), models=("resnet32",)),
    ),
)


def _level_claim(level: str, cell: Cell, published: Cell | None = None) -> Claim:
    return Claim(
        text=f"On {cell.title.split(', ')[1]} the {level}-resolution input is the most vulnerable.",
        source="4.2, Fig. 5",
        paper=robust.published_levels(published or cell),
        criterion=f"{cell.title}: test accuracy, mean over the attacks, is lowest when only "
        f"the {level} level is perturbed: Student's interval over runs of its difference from each "
        "other level, in the same run, lies below 0, at 5 %.",
        kind="scales",
        networks=("td",),
        cells=(cell,),
        rule=robust.most_vulnerable(level, cell),
        authors=authors.most_vulnerable(level, cell),
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
        authors=authors.nothing("the paper shows pictures"),
    ),
    *(
        Claim(
            text=f"Grad-CAM of TD localises objects with higher precision on {name}.",
            source="abstract; 4.3 (b), Fig. 9",
            paper=NOT_PRINTED,
            criterion=f"NIN-light, precision: {localised.CRITERION}, lies above 0.",
            kind="localisation",
            cells=(Cell("nin-light", data, False),),
            rule=localised.precision_higher(data),
            authors=_NO_LOCALISATION,
        )
        for data, name in (("mnist", "MNIST"), ("fashion-mnist", "Fashion-MNIST"))
    ),
    Claim(
        text="TD's recall is slightly lower on Fashion-MNIST.",
        source="4.3 (b), Fig. 9",
        paper=NOT_PRINTED,
        criterion=f"NIN-light, recall: {localised.CRITERION}, lies between "
        f"−{100 * localised.SLIGHT:.0f} points and 0.",
        kind="localisation",
        cells=(Cell("nin-light", "fashion-mnist", False),),
        rule=localised.recall_slightly_lower("fashion-mnist"),
        authors=_NO_LOCALISATION,
    ),
)

_BEYOND = (
    Claim(
        text="TD networks are also more robust against strong attacks.",
        source="beyond the paper",
        paper="not tested",
        criterion="FGSM, PGD, DeepFool, FAB, AutoAttack: TD keeps more of the same images (McNemar's exact "
        f"test, at 5 %), or needs a larger L2, {BEYOND}, in more than half of the cases (attack, norm, "
        f"size, network, data), without those in which both keep less than {100 * robust.LOST:.0f} %.",
        kind="strong",
        quantifier="most",
        rule=robust.survives_strong_attacks,
        authors=_NOT_TESTED,
    ),
    Claim(
        text="TD networks are also more robust against common corruptions.",
        source="beyond the paper",
        paper="not tested",
        criterion="Welch's interval of TD's mean accuracy, over corruptions and severities, less BU's lies "
        "above 0 in more than half of the cells, at 5 %.",
        kind="corruptions",
        quantifier="most",
        rule=robust.survives_corruptions,
        authors=_NOT_TESTED,
    ),
)

CLAIMS: tuple[Claim, ...] = (
    *_FIELDS, *_ACCURACY, *_ROBUSTNESS, *_LEVELS, *_EXPLANATION, *_BEYOND,
)  # fmt: skip
