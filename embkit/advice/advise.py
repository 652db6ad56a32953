"""Should you fine-tune? Rules, what they say of evidence, and how far a curve is believed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .. import training
from ..data import Domain
from ..display import Shown, Table
from ..errors import EmbkitError
from ..evaluation.intervals import LEVEL, queries_needed
from ..evaluation.verdict import FINE_TUNE, KEEP, WORTH
from ..models.loading import load_model
from ..pairs.pairs import collect
from . import evidence as facts
from .evidence import FEW_PAIRS, INTERVAL, Evidence, gather

if TYPE_CHECKING:
    import pandas as pd

LARGE = 300_000_000  # parameters from which training all of them wants a large GPU
CLOSE = 0.02  # nDCG@10 that a prediction may be off
SEEDS = (42, 43, 44)  # of the run on all pairs that predictions are compared with


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
    """What the user asks for."""

    target: float | None = None  # nDCG@10
    query_ms: float | None = None  # milliseconds a query
    index_mb: float | None = None  # megabytes of all vectors

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


@dataclass(frozen=True, repr=False)
class Advice(Shown):
    """Whether to fine-tune, with what first, and the rules that say so."""

    decision: str  # fine-tune, keep the general model, label more first, or perhaps
    approach: str | None  # what to train first, where the decision is to train
    reasons: tuple[tuple[str, str], ...]  # (rule, what it says here), the one that decided first
    evidence: Evidence  # what all of it rests on
    limits: Limits  # what was asked for

    @property
    def answer(self) -> str:
        return self.decision + (f", {self.approach} first" if self.approach else "")

    def to_dict(self) -> dict[str, Any]:
        return {
            "decision": self.decision,
            "approach": self.approach,
            "reasons": [{"rule": rule, "says": text} for rule, text in self.reasons],
            "expected": self.evidence.expected,
            "limits": vars(self.limits),
            "evidence": self.evidence.to_dict(),
        }

    def table(self) -> Table:
        return Table([self.answer, ""], self.reasons)

    def _repr_html_(self) -> str:
        return self.table().to_html() + self.evidence._repr_html_()

    def __repr__(self) -> str:
        return "\n".join([self.answer, *(f"- {rule}: {text}" for rule, text in self.reasons)])


def advise(
    domain: Domain,
    model: str = "minilm",
    *,
    target: float | None = None,
    query_ms: float | None = None,
    index_mb: float | None = None,
    quiet: bool = False,
) -> Advice:
    """Measures a domain and says whether to fine-tune a general model on it.

    Where the general model is already good enough, or labels are too few, nothing is trained.
    Otherwise a few small runs are, and kept: the second call is free. No test split is read, so
    that a later test proves the advice right or wrong.

    Args:
        target: nDCG@10 that would do; 0 to 1.
        query_ms: milliseconds that encoding a query may take.
        index_mb: megabytes that all vectors may take.

    Raises:
        EmbkitError: no dev queries, a limit out of range, or the model cannot be had.
    """
    limits = Limits(target, query_ms, index_mb)
    evidence = gather(domain, model, train=False)
    if not untrained(evidence, limits):
        evidence = gather(domain, model, quiet=quiet)
    return decide(evidence, limits)


def decide(evidence: Evidence, limits: Limits | None = None) -> Advice:
    """What the rules say of evidence: the first that holds decides, remarks follow."""
    limits = limits or Limits()
    rule, why = next(iter((untrained(evidence, limits) | trained(evidence)).items()))
    approach, reasons = None, {rule: why}
    if THEN[rule] in (FINE_TUNE, TRY):
        approach, reasons["what first"] = _approach(evidence)
    reasons |= remarks(evidence, limits)
    return Advice(THEN[rule], approach, tuple(reasons.items()), evidence, limits)


def _approach(evidence: Evidence) -> tuple[str, str]:
    """Contrastive, unless a trial beats it by a paired test; LoRA on a large model."""
    tried = evidence.trials
    better = {n: t for n, t in tried.items() if t.over_contrastive > 0 and t.p_contrastive < LEVEL}
    best = max(better, key=lambda name: better[name].over_contrastive, default="contrastive")
    if trial := better.get(best):
        why = (
            f"{trial.over_contrastive:+.3f} nDCG@10 on dev over contrastive training on the same "
            f"{trial.pairs:,} pairs (p = {max(trial.p_contrastive, 0.001):.3f})"
        )
    else:
        beaten = ": on dev, nothing that was tried beats it by a paired test"
        why = "the plainest" + (beaten if len(tried) > 1 else "; nothing else was tried")
    if evidence.parameters >= LARGE:
        return f"LoRA, {best}", f"{why}; LoRA because of {evidence.parameters:,} parameters"
    return best, why


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


@dataclass(frozen=True, repr=False)
class CurveValidation(Shown):
    """What small runs predicted of the run on all pairs, one prediction a resampling."""

    pairs: int  # of the full run
    reached: float  # its nDCG@10 on dev, the mean over ``SEEDS``: one run alone is off by 0.01
    rows: tuple[dict[str, float], ...]  # ``seed``, ``expected``, ``low``, ``high``, ``error``

    @property
    def close(self) -> int:
        """How many predictions are off by ``CLOSE`` at most."""
        return sum(abs(row["error"]) <= CLOSE for row in self.rows)

    @property
    def covered(self) -> int:
        """In how many the interval holds what was reached."""
        return sum(row["low"] <= self.reached <= row["high"] for row in self.rows)

    def to_dict(self) -> dict[str, Any]:
        return vars(self) | {"close": self.close, "covered": self.covered}

    def table(self) -> Table:
        rows = []
        for row in self.rows:
            expected = INTERVAL.format(row["expected"], row["low"], row["high"])
            rows.append([f"{row['seed']:g}", expected, f"{row['error']:+.3f}"])
        caption = (
            f"{self.pairs:,} pairs reached {self.reached:.3f} on dev: {self.close} of "
            f"{len(self.rows)} predictions within {CLOSE}, {self.covered} intervals hold it"
        )
        return Table(["seed", "expected", "off by"], rows, caption)

    def __repr__(self) -> str:
        return f"{self}\n{self.table().caption}"


def validate_curve(
    domain: Domain,
    model: str = "minilm",
    *,
    sizes: Sequence[int] | None = None,
    resamplings: int = 10,
) -> CurveValidation:
    """Draws the small runs' pairs anew, several times, and compares with the run on all pairs.

    Args:
        sizes: pairs of the small runs; all below the domain's number of pairs.
        resamplings: how often; each trains all the small runs.

    Raises:
        EmbkitError: no resampling, or so few pairs that the small runs are the full one.
    """
    pairs = len(collect(domain, "human")[0])
    recipe, used = facts.default_recipe(pairs, model), facts.small_sizes(pairs, sizes)
    if resamplings < 1 or max(used) >= pairs:
        raise EmbkitError(
            f"{resamplings} resamplings of {', '.join(map(str, used))} out of {pairs:,} pairs",
            expected=f"one or more, and more pairs than {max(sizes or facts.SIZES):,}",
            hint="ek.advice.validate_curve(domain, sizes=(100, 200, 400), resamplings=10)",
        )
    full = [training.trainer.train(recipe.replace(seed=seed), domain) for seed in SEEDS]
    reached = sum(float(facts.on_dev(run, domain).mean()) for run in full) / len(full)
    base, rows = facts.untrained_on_dev(load_model(model), domain), []
    for seed in range(1, resamplings + 1):
        runs = facts.small_runs(recipe.replace(seed=seed), domain, used)
        curve = facts.curve_through(base, runs)
        expected, (low, high) = curve.at(pairs), curve.interval(pairs)
        row = {"seed": seed, "expected": expected, "low": low, "high": high}
        rows.append(row | {"error": expected - reached})
    return CurveValidation(pairs, reached, tuple(rows))
