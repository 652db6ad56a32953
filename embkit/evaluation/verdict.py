"""Should you fine-tune? A verdict from paired tests, or that there are too few queries for one."""

from __future__ import annotations

import html
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import fmean
from typing import Any

from ..errors import EmbkitError
from .metrics import holm
from .report import Report
from .scores import Scores, compare

WORTH = 0.02  # nDCG@10: a difference that would matter
LEVEL = 0.05  # of the tests, two-sided
_Z = 1.959964 + 0.841621  # normal quantiles of 0.975 (two-sided 5%) and 0.80 (power 80%)

FINE_TUNE, KEEP, MIXED = "fine-tune", "keep the general model", "mixed"
TOO_FEW, NOTHING = "too few test queries for a verdict", "nothing to compare"


@dataclass(frozen=True)
class Gain:
    """What an approach gains over the general model on one test split, by a paired test."""

    approach: str
    split: str
    delta: float  # mean difference in nDCG@10, and its 95% interval
    low: float
    high: float
    p: float  # corrected for the number of approaches and splits (Holm)
    queries: int
    sd: float  # of the differences over queries
    seconds: float | None = None  # of training, where known
    trained: int | None = None  # parameters, where known

    @property
    def needed(self) -> int:
        """Queries for a difference of ``WORTH`` to be seen; ``queries_needed`` has the formula."""
        return queries_needed(self.sd)

    def __str__(self) -> str:
        p = "p < 0.001" if self.p < 0.001 else f"p = {self.p:.3f}"
        return (
            f"{self.delta:+.3f} [{self.low:+.3f}, {self.high:+.3f}] on {self.split} "
            f"({self.queries:,} queries, {p})"
        )


@dataclass(frozen=True, repr=False)
class Verdict:
    """Whether to fine-tune or to keep the general model; shows itself as a sentence or a few."""

    decision: str  # FINE_TUNE, KEEP, MIXED, TOO_FEW or NOTHING
    text: str  # the decision and its reasons
    approach: str | None = None  # the one to take, where the decision is to fine-tune
    gains: tuple[Gain, ...] = ()  # every approach on every test split

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    def __repr__(self) -> str:
        return self.text

    def _repr_html_(self) -> str:
        first, _, rest = self.text.partition(": ")
        return f"<p><b>{html.escape(first)}</b>: {html.escape(rest)}</p>"


def queries_needed(sd: float, difference: float = WORTH) -> int:
    """Queries that a paired test needs to see a difference, at a level of 5% and a power of 80%.

    n = ((z₀.₉₇₅ + z₀.₈₀) · sd / difference)², which is 7.85 · (sd / difference)², rounded up;
    sd is the standard deviation, over queries, of the paired differences.
    """
    return max(2, math.ceil((_Z * sd / difference) ** 2))


def verdict(evidence: Report | Sequence[Scores], baseline: str = "base") -> Verdict:
    """Whether to keep the general model or to fine-tune, from paired tests on the test splits.

    Only what was trained is tested, each approach on each test split against the general model;
    the p values are corrected for their number (Holm). An approach is worth taking when it gains
    on some split and loses on none. The general model is kept when no approach gains and every
    interval ends below ``WORTH`` or the test had queries enough to see that much. Otherwise the
    queries do not suffice for a verdict.

    Args:
        evidence: a report of ``compare`` or ``leaderboard``, or the scores themselves.
        baseline: the general model's approach or label; a report brings its own.
    """
    if not isinstance(evidence, Report):
        evidence = compare(evidence, baseline=baseline)
    gains = _gains(evidence)
    if not gains:
        return Verdict(NOTHING, f"{NOTHING}: no fine-tuned model has been evaluated yet")
    # what gains on some split, by the corrected test, and loses on none, by the interval alone
    of: dict[str, list[Gain]] = {}
    for gain in gains:
        of.setdefault(gain.approach, []).append(gain)
    better = {gain.approach for gain in gains if gain.delta > 0 and gain.p < LEVEL}
    worse = {gain.approach for gain in gains if gain.high < 0}
    good = [name for name in of if name in better - worse]
    best = max(good, key=lambda name: fmean(gain.delta for gain in of[name]), default=None)
    # without a gain: is there none, or were the queries too few to see it?
    most = max(gains, key=lambda gain: gain.high)
    unsure = [gain for gain in gains if gain.high >= WORTH and gain.queries < gain.needed]
    if best is not None:
        others = [_beside(of[name], of[best]) for name in of if name != best]
        decision, text = FINE_TUNE, f"{best} gains {_told(of[best])} nDCG@10" + "".join(others)
    elif better:
        told = "; ".join(f"{name} {_told(of[name])}" for name in of)
        decision, text = MIXED, f"what gains on one test split loses on another: {told} nDCG@10"
    elif not unsure:
        seen = f"at best {most.approach} {most}"
        decision, text = KEEP, f"no approach gains what a paired test can see; {seen} nDCG@10"
    else:
        worst = max(unsure, key=lambda gain: gain.needed / gain.queries)
        decision = TOO_FEW
        text = (
            f"{worst.queries:,} on {worst.split}; about {worst.needed:,} are needed to see "
            f"a difference of {WORTH}. So far at best {most.approach} {most} nDCG@10"
        )
    return Verdict(decision, f"{decision}: {text}", best, gains)


def _gains(report: Report) -> tuple[Gain, ...]:
    if report.baseline is None:
        raise EmbkitError(
            "a report without a baseline",
            expected="a report of compare() or leaderboard(), with the general model in it",
            hint="ek.evaluation.verdict.verdict(ek.leaderboard(domain))",
        )
    rows = [
        row
        for row in report.rows
        if row["recipe_hash"] and not row["subset"] and row["delta_vs_base"] is not None
    ]
    labels = Counter(row["label"] for row in rows if row["split"] == rows[0]["split"])
    adjusted = holm([row["p_vs_base"] for row in rows])
    return tuple(
        Gain(
            approach=row["label"]
            + (f" ({row['recipe_hash'][:6]})" if labels[row["label"]] > 1 else ""),
            split=row["split"],
            delta=row["delta_vs_base"],
            low=row["delta_vs_base_ci"][0],
            high=row["delta_vs_base_ci"][1],
            p=p,
            queries=row["queries"],
            sd=row["sd_vs_base"] or 0.0,
            seconds=row["train_seconds"],
            trained=row["trainable_params"],
        )
        for row, p in zip(rows, adjusted, strict=True)
    )


def _told(gains: Sequence[Gain]) -> str:
    return " and ".join(map(str, gains))


def _beside(gains: Sequence[Gain], best: Sequence[Gain]) -> str:
    """Another approach in half a sentence: what it gains, and whether it is cheaper."""
    text = f"; {gains[0].approach} {_told(gains)}"
    mine, theirs = gains[0].trained, best[0].trained
    if mine and theirs and mine < theirs:
        text += f", with {mine / theirs:.1%} of the trained parameters"
    mine_s, theirs_s = gains[0].seconds, best[0].seconds
    if mine_s and theirs_s and mine_s < 0.8 * theirs_s:
        text += f", trained in {mine_s:,.0f} s instead of {theirs_s:,.0f} s"
    return text
