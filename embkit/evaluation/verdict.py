"""Should you fine-tune? A verdict from paired tests, or that there are too few queries for one."""

from __future__ import annotations

import html
import math
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
    """What an approach gains over the general model on one test split, by a paired test.

    Args:
        approach: its label.
        split: the test split.
        delta: mean difference in nDCG@10, with ``low`` and ``high``, its 95% interval.
        p: of the paired test, corrected for the number of approaches and splits (Holm).
        queries: of the split.
        sd: standard deviation of the differences over queries.
        seconds: of training, where known.
        trained: parameters that were trained, where known.
    """

    approach: str
    split: str
    delta: float
    low: float
    high: float
    p: float
    queries: int
    sd: float
    seconds: float | None = None
    trained: int | None = None

    @property
    def needed(self) -> int:
        """Queries for a difference of ``WORTH`` to be seen; ``queries_needed`` has the formula."""
        return queries_needed(self.sd)

    @property
    def better(self) -> bool:
        """Whether it gains, by the corrected test."""
        return self.delta > 0 and self.p < LEVEL

    @property
    def worse(self) -> bool:
        """Whether it loses, by the interval alone: a loss should not be overlooked."""
        return self.high < 0

    def __str__(self) -> str:
        p = "p < 0.001" if self.p < 0.001 else f"p = {self.p:.3f}"
        return (
            f"{self.delta:+.3f} [{self.low:+.3f}, {self.high:+.3f}] on {self.split} "
            f"({self.queries:,} queries, {p})"
        )


@dataclass(frozen=True, repr=False)
class Verdict:
    """Whether to fine-tune or to keep the general model; shows itself as a sentence or a few.

    Args:
        decision: ``fine-tune``, ``keep the general model``, ``mixed``, ``too few test queries
            for a verdict`` or ``nothing to compare``.
        text: the decision and its reasons.
        approach: the approach to take, where the decision is to fine-tune.
        gains: every approach on every test split.
    """

    decision: str
    text: str
    approach: str | None = None
    gains: tuple[Gain, ...] = ()

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

    n = ((z₀.₉₇₅ + z₀.₈₀) · sd / difference)², which is 7.85 · (sd / difference)², rounded up.

    Args:
        sd: standard deviation, over queries, of the paired differences.
        difference: in the same units.

    Example:
        >>> queries_needed(0.2, 0.02)
        785
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

    Raises:
        EmbkitError: the baseline is missing, or the scores cannot be compared.
    """
    if not isinstance(evidence, Report):
        evidence = compare(evidence, baseline=baseline)
    gains = _gains(evidence)
    if not gains:
        return Verdict(NOTHING, f"{NOTHING}: no fine-tuned model has been evaluated yet")
    # what gains on some split and loses on none
    names = list(dict.fromkeys(gain.approach for gain in gains))
    of = {name: [gain for gain in gains if gain.approach == name] for name in names}
    good = [n for n in names if any(g.better for g in of[n]) and not any(g.worse for g in of[n])]
    if good:
        best = max(good, key=lambda name: fmean(gain.delta for gain in of[name]))
        others = [_beside(of[name], of[best]) for name in names if name != best]
        text = f"{FINE_TUNE}: {best} gains {_told(of[best])} nDCG@10" + "".join(others)
        return Verdict(FINE_TUNE, text, best, gains)
    if any(gain.better for gain in gains):
        told = "; ".join(f"{name} {_told(of[name])}" for name in names)
        text = f"{MIXED}: what gains on one test split loses on another: {told} nDCG@10"
        return Verdict(MIXED, text, None, gains)
    # no gain: is there none, or were the queries too few to see it?
    most = max(gains, key=lambda gain: gain.high)
    unsure = [gain for gain in gains if gain.high >= WORTH and gain.queries < gain.needed]
    if not unsure:
        seen = f"at best {most.approach} {most}"
        text = f"{KEEP}: no approach gains what a paired test can see; {seen} nDCG@10"
        return Verdict(KEEP, text, None, gains)
    worst = max(unsure, key=lambda gain: gain.needed / gain.queries)
    text = (
        f"{TOO_FEW}: {worst.queries:,} on {worst.split}; about {worst.needed:,} are needed to see "
        f"a difference of {WORTH}. So far at best {most.approach} {most} nDCG@10"
    )
    return Verdict(TOO_FEW, text, None, gains)


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
    labels = [row["label"] for row in rows if row["split"] == rows[0]["split"]]
    adjusted = holm([row["p_vs_base"] for row in rows])
    found = []
    for row, p in zip(rows, adjusted, strict=True):
        low, high = row["delta_vs_base_ci"]
        twice = labels.count(row["label"]) > 1
        gain = Gain(
            approach=row["label"] + (f" ({row['recipe_hash'][:6]})" if twice else ""),
            split=row["split"],
            delta=row["delta_vs_base"],
            low=low,
            high=high,
            p=p,
            queries=row["queries"],
            sd=row["sd_vs_base"] or 0.0,
            seconds=row["train_seconds"],
            trained=row["trainable_params"],
        )
        found.append(gain)
    return tuple(found)


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


__all__ = ["Gain", "Verdict", "queries_needed", "verdict"]
