"""The rules of advice: when each holds, what it says, and where that comes from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..errors import EmbkitError
from ..evaluation.verdict import FINE_TUNE, KEEP, LEVEL, WORTH, queries_needed
from .evidence import FEW_PAIRS, Evidence

if TYPE_CHECKING:
    import pandas as pd

LABEL, TRY = "label more first", "perhaps: the full run decides"
CEILING = 0.9  # nDCG@10: what is missing above is more often a wrong label than a wrong model
FEW_DEV = 50  # dev queries: half an interval is then about 0.1
SPREAD = 0.25  # of paired differences over queries, where none was measured
FRAGMENTED = 2.0  # tokens a word from which a model hardly knows the words
ABOVE = "the general model's interval lies above"
PAIRED = "queries_needed: level 5%, power 80%; lesson 02"
HERNANDEZ = "Hernandez et al. 2021, arXiv:2102.01293"
NORTHCUTT = "Northcutt et al. 2021, label errors in test sets, arXiv:2103.14749"
TABLE = f"""
dev too small | fewer than {FEW_DEV} dev queries | {LABEL} | {PAIRED}
target met | {ABOVE} the target | {KEEP} | the interval over dev queries; lesson 02
at the ceiling | {ABOVE} {CEILING} nDCG@10, and no target above it | {KEEP} | {NORTHCUTT}
pairs too few | fewer than {FEW_PAIRS} training pairs | {LABEL} | small runs on ICD-10-CM; lesson 13
gain seen | a small run gains {WORTH} or more (p < {LEVEL}), or the curve's interval lies above \
the general model | {FINE_TUNE} | paired test on dev; {HERNANDEZ}
nothing to gain | no small run, nor the curve, leaves room for {WORTH} | {KEEP} | as above
unsure | otherwise | {TRY} | as above
target out of reach | the target lies above the curve's interval \
 | more pairs, a larger model, a reranker | {HERNANDEZ}
too slow | a query takes longer than the limit | fewer layers, int8, a smaller model \
 | lessons 06 and 12
too large | all vectors take more than the limit | Matryoshka sizes, quantisation \
 | Kusupati et al. 2022, arXiv:2205.13147; lesson 07
fragmented words | {FRAGMENTED:g} or more tokens a word | expect more of fine-tuning \
 | lessons 01 and 13
short queries | the shorter half of the queries does 0.1 nDCG@10 worse \
 | label short ones; prompts | lessons 01 and 08
words win | BM25 beats the general model by {WORTH} | hybrid search first \
 | Thakur et al. 2021, BEIR, arXiv:2104.08663
queries for a proof | fewer dev or test queries than a paired test needs \
 | label more queries before claiming anything | {PAIRED}
more pairs | there is a curve | what labelling as many again is worth | {HERNANDEZ}
"""
ROWS = [[cell.strip() for cell in line.split("|")] for line in TABLE.strip().splitlines()]
THEN = {name: then for name, _, then, _ in ROWS}
Reasons = dict[str, str]  # the name of a rule that holds -> what it says here


@dataclass(frozen=True)
class Limits:
    """What the user asks for: nDCG@10, milliseconds a query, megabytes of vectors."""

    target: float | None = None
    query_ms: float | None = None
    index_mb: float | None = None

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            high = 1 if name == "target" else float("inf")
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if value is not None and not (number and 0 < value <= high):
                raise EmbkitError(
                    f"{name}={value!r}",
                    expected="a number above 0" + " and at most 1 (nDCG@10)" * (high == 1),
                    hint="ek.advise(domain, target=0.6, query_ms=20, index_mb=50)",
                )


def advice_rules() -> pd.DataFrame:
    """All rules in their order: the first of the upper ones that holds decides, the rest remark."""
    import pandas as pd

    return pd.DataFrame(ROWS, columns=["rule", "when", "then", "source"]).set_index("rule")


def needed(e: Evidence) -> int:
    """Queries that a paired test needs to see a difference of ``WORTH``, by the spread seen."""
    return queries_needed(max((trial.sd for trial in e.trials.values()), default=SPREAD))


def untrained(e: Evidence, limits: Limits) -> Reasons:
    """The rules that hold before anything is trained; the first decides."""
    held: Reasons = {}
    if e.dev_queries < FEW_DEV:
        held["dev too small"] = (
            f"{e.dev_queries} dev queries show no difference below about "
            f"{2 * SPREAD / max(e.dev_queries, 1) ** 0.5:.2f}; label {FEW_DEV} at least, and about "
            f"{needed(e):,} for test, to see one of {WORTH}"
        )
    if limits.target is not None and e.base_ci[0] >= limits.target:
        held["target met"] = f"{e.model} has {e.base_told} on dev; {limits.target:g} was asked"
    if e.base_ci[0] >= CEILING and (limits.target or 0) <= e.base:
        held["at the ceiling"] = (
            f"{e.model} has {e.base_told} on dev: look at what it misses before training "
            "anything; often the label is wrong"
        )
    if e.pairs < FEW_PAIRS:
        held["pairs too few"] = (
            f"{e.pairs} training pairs; below {FEW_PAIRS} a gain is unlikely, and a loss is "
            f"likely: label {FEW_PAIRS - e.pairs:,} more, or generate queries"
        )
    return held


def trained(e: Evidence) -> Reasons:
    """The rules that hold after the small runs; the first decides, and one always holds."""
    if not (e.trials and e.expected):
        return {"unsure": "nothing was trained yet"}
    held: Reasons = {}
    name, trial = max(e.trials.items(), key=lambda item: item[1].gain)
    middle, low, high = e.expected
    seen = trial.gain >= WORTH and trial.p * len(e.trials) < LEVEL
    if seen or (low > e.base and middle - e.base >= WORTH):
        held["gain seen"] = (
            f"{name} on {trial.pairs:,} pairs gains {trial.told} on dev; contrastive training on "
            f"all {e.pairs:,} should reach {e.expected_told} where {e.model} has {e.base:.3f}"
        )
    least = e.base + WORTH
    if high < least or (trial.high < WORTH and middle < least):
        held["nothing to gain"] = (
            f"the best small run, {name}, gains {trial.told} on dev, and all {e.pairs:,} pairs "
            f"should give {middle:.3f} where {e.model} has {e.base:.3f}: less than {WORTH} to be "
            "had"
        )
    held["unsure"] = (
        f"the small runs neither show a gain of {WORTH} nor rule it out; all {e.pairs:,} pairs: "
        f"{e.expected_told} where {e.model} has {e.base:.3f}"
    )
    return held


def remarks(e: Evidence, limits: Limits) -> Reasons:
    """The rules that remark, whichever decided."""
    held: Reasons = {}
    target, query_ms, index_mb = limits.target, limits.query_ms, limits.index_mb
    if target is not None and e.curve and e.expected and target > e.expected[2]:
        more = [n for n in (2**k * e.pairs for k in range(1, 11)) if e.curve.at(n) > target]
        told = f"about {more[0]:,} pairs by the curve" if more else "not by more pairs alone"
        held["target out of reach"] = (
            f"{target:g} lies above {e.expected[2]:.3f}, the most to expect of these pairs: "
            f"{told}; a larger model, or a reranker on top, are the other ways"
        )
    if query_ms is not None and e.query_ms > query_ms:
        held["too slow"] = (
            f"a query takes {e.query_ms:.1f} ms to encode, {query_ms:g} is the limit: "
            "distil into fewer layers, export to int8, or take a smaller model"
        )
    if index_mb is not None and e.index_mb > index_mb:
        held["too large"] = (
            f"vectors take {e.index_mb:,.1f} MB, {index_mb:g} is the limit: train "
            f"Matryoshka sizes, truncate to 1/{-(-e.index_mb // index_mb):.0f}, or quantise"
        )
    if e.fertility >= FRAGMENTED:
        held["fragmented words"] = (
            f"{e.fertility:.2f} tokens a word, {e.whole:.0%} of the words whole: {e.model} "
            "hardly knows these words, so that fine-tuning has more to give, and more to learn"
        )
    if e.short_gap <= -0.1:
        held["short queries"] = (
            f"short queries do worse by {-e.short_gap:.3f} nDCG@10: label short ones, and "
            "try a prompt on queries"
        )
    if e.bm25 >= e.base + WORTH:
        held["words win"] = (
            f"BM25 has {e.bm25:.3f} where {e.model} has {e.base:.3f}: put both together first"
        )
    if min(e.dev_queries, e.test_queries) < needed(e):
        held["queries for a proof"] = (
            f"{e.dev_queries:,} dev and {e.test_queries:,} test queries; about {needed(e):,} "
            f"are needed to see a difference of {WORTH}"
        )
    if e.curve is not None:
        held["more pairs"] = (
            f"twice as many should give {e.curve.at(2 * e.pairs) - e.curve.at(e.pairs):+.3f} "
            "nDCG@10 by the curve"
        )
    return held
