"""Should you fine-tune? What evidence and rules say together, and how far a curve is believed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..data import Domain
from ..display import Shown, Table, table
from ..errors import EmbkitError
from ..evaluation.verdict import FINE_TUNE, LEVEL
from ..models.loading import load_model
from ..pairs.pairs import collect
from . import evidence as facts
from .evidence import INTERVAL, Evidence, gather
from .rules import THEN, TRY, Limits, remarks, trained, untrained

LARGE = 300_000_000  # parameters from which training all of them wants a large GPU
CLOSE = 0.02  # nDCG@10 that a prediction may be off
SEEDS = (42, 43, 44)  # of the run on all pairs that predictions are compared with


@dataclass(frozen=True, repr=False)
class Advice(Shown):
    """Whether to fine-tune, with what first, and the rules that say so."""

    decision: str  # fine-tune, keep the general model, label more first, or perhaps
    approach: str | None  # what to train first, where the decision is to train
    reasons: tuple[tuple[str, str], ...]  # (rule, what it says here), the one that decided first
    evidence: Evidence  # what all of it rests on
    limits: Limits  # what was asked for

    @property
    def expected(self) -> tuple[float, float, float] | None:
        """nDCG@10 on dev of contrastive training on all pairs, and its interval; None unknown."""
        return self.evidence.expected

    @property
    def answer(self) -> str:
        """The decision, and what to train first."""
        return self.decision + (f", {self.approach} first" if self.approach else "")

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "decision": self.decision,
            "approach": self.approach,
            "reasons": [{"rule": rule, "says": text} for rule, text in self.reasons],
            "expected": self.expected,
            "limits": vars(self.limits),
            "evidence": self.evidence.to_dict(),
        }

    def table(self) -> Table:
        """The answer, and one row a rule that holds."""
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
    if best in better:
        trial = better[best]
        why = (
            f"{trial.over_contrastive:+.3f} nDCG@10 on dev over contrastive training on the same "
            f"{trial.pairs:,} pairs (p = {max(trial.p_contrastive, 0.001):.3f})"
        )
    elif len(tried) > 1:
        why = "the plainest: on dev, nothing that was tried beats it by a paired test"
    else:
        why = "the plainest; nothing else was tried"
    if evidence.parameters >= LARGE:
        return f"LoRA, {best}", f"{why}; LoRA because of {evidence.parameters:,} parameters"
    return best, why


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
        """For JSON."""
        return vars(self) | {"close": self.close, "covered": self.covered}

    def table(self) -> Table:
        """One row a resampling; what they come to, below."""
        rows = [
            {
                "seed": f"{row['seed']:g}",
                "expected": INTERVAL.format(row["expected"], row["low"], row["high"]),
                "off by": f"{row['error']:+.3f}",
            }
            for row in self.rows
        ]
        caption = (
            f"{self.pairs:,} pairs reached {self.reached:.3f} on dev: {self.close} of "
            f"{len(self.rows)} predictions within {CLOSE}, {self.covered} intervals hold it"
        )
        return table(rows, caption=caption)

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
        domain: on what; train and dev alone are read.
        model: the general model.
        sizes: pairs of the small runs; all below the domain's number of pairs.
        resamplings: how often; each trains all the small runs.

    Raises:
        EmbkitError: no resampling, or so few pairs that the small runs are the full one.
    """
    from ..training.trainer import train

    pairs = len(collect(domain, "human")[0])
    recipe, used = facts.default_recipe(pairs, model), facts.small_sizes(pairs, sizes)
    if resamplings < 1 or max(used) >= pairs:
        raise EmbkitError(
            f"{resamplings} resamplings of {', '.join(map(str, used))} out of {pairs:,} pairs",
            expected=f"one or more, and more pairs than {max(sizes or facts.SIZES):,}",
            hint="ek.advice.validate_curve(domain, sizes=(100, 200, 400), resamplings=10)",
        )
    full = [train(recipe.replace(seed=seed), domain) for seed in SEEDS]
    reached = sum(float(facts.on_dev(run, domain).mean()) for run in full) / len(full)
    base, rows = facts.untrained_on_dev(load_model(model), domain), []
    for seed in range(1, resamplings + 1):
        runs = facts.small_runs(recipe.replace(seed=seed), domain, used)
        curve = facts.curve_through(base, runs)
        expected, (low, high) = curve.at(pairs), curve.interval(pairs)
        row = {"seed": seed, "expected": expected, "low": low, "high": high}
        rows.append(row | {"error": expected - reached})
    return CurveValidation(pairs, reached, tuple(rows))
