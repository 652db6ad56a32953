"""What the rows of a report say: dev chooses what to take, the tests say what it is worth."""

from __future__ import annotations

import html
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ..display import some_of
from ..errors import EmbkitError
from .intervals import FEWEST, LEVEL, WORTH, holm

FINE_TUNE, SWITCH = "fine-tune", "take another model, untrained"
KEEP, MIXED = "keep the general model", "mixed"
TOO_FEW, NOTHING = "too few test queries for a verdict", "nothing to compare"
NO_CHOICE = "nothing to choose by"
Row = dict[str, Any]


@dataclass(frozen=True)
class Gain:
    """What an approach gains over the general model on one test split, by a paired test."""

    approach: str
    split: str
    delta: float  # mean difference in nDCG@10, and its 95% interval
    low: float
    high: float
    p: float  # corrected for the number of splits (Holm)
    queries: int
    clusters: int  # of queries, that vary independently
    over: str  # groups, documents or queries
    seeds: int
    needed: int | None  # queries that show a difference of ``WORTH``; None: more seeds are needed

    def __str__(self) -> str:
        p = "p < 0.001" if self.p < 0.001 else f"p = {self.p:.3f}"
        within = "" if self.clusters == self.queries else f" in {self.clusters:,} {self.over}"
        return (
            f"{self.delta:+.3f} [{self.low:+.3f}, {self.high:+.3f}] on {self.split} "
            f"({some_of(self.queries, 'query', 'queries')}{within}, {p})"
        )


@dataclass(frozen=True, repr=False)
class Verdict:
    """Whether to fine-tune or to keep the general model; shows itself as a sentence or a few."""

    decision: str  # one of the names above
    text: str  # the decision and its reasons
    approach: str | None = None  # what dev chose
    gains: tuple[Gain, ...] = ()  # of that approach, on each test split

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)

    def __repr__(self) -> str:
        return self.text

    def _repr_html_(self) -> str:
        first, _, rest = self.text.partition(": ")
        return f"<p><b>{html.escape(first)}</b>: {html.escape(rest)}</p>"


def decided(rows: Sequence[Row], baseline: str | None) -> Verdict:
    """What ``verdict`` says of a report's rows."""
    rivals = _rivals(rows, baseline)
    if not any(map(_trained, rivals.values())):
        return _said(NOTHING, "no fine-tuned model has been evaluated yet")
    name = _chosen(rivals)
    if name is None:
        told = ", ".join(rivals)
        return _said(NO_CHOICE, f"dev has scored none of {told}; the tests may not choose")
    gains = _gains(name, rivals[name])
    decision, why = _decided([gain for gain in gains if gain.clusters >= FEWEST])
    told = f"{name}, chosen on dev, {why} {' and '.join(map(str, gains))} nDCG@10"
    if decision == TOO_FEW:
        asked = max(gains, key=lambda gain: (gain.needed or math.inf) / gain.queries)
        more = f"about {asked.needed:,} are" if asked.needed else "more seeds, not queries, are"
        few = f"{asked.queries:,} on {asked.split}; {more} needed to see a difference of {WORTH}"
        told = f"{few}. {told}"
    elif decision == FINE_TUNE and not _trained(rivals[name]):
        decision = SWITCH
    beside = _beside(name, rivals)
    unknown = [other for other, (row, *_) in rivals.items() if row["dev"] is None and other != name]
    if unknown:
        beside += f"; not scored on dev, so not looked at: {', '.join(unknown)} (evaluate again)"
    one_seed = "; one seed: of these weights, not of the method" if gains[0].seeds == 1 else ""
    return _said(decision, told + beside + one_seed * _trained(rivals[name]), name, gains)


def _said(decision: str, text: str, name: str | None = None, gains: Sequence[Gain] = ()) -> Verdict:
    return Verdict(decision, f"{decision}: {text}", name, tuple(gains))


def _decided(gains: Sequence[Gain]) -> tuple[str, str]:
    """The decision, and the words before what was gained."""
    better = [gain for gain in gains if gain.delta > 0 and gain.p < LEVEL]
    worse = [gain for gain in gains if gain.high < 0]
    if better and worse:
        return MIXED, "gains on one test split and loses on another:"
    if better:
        return FINE_TUNE, "gains"
    if worse:
        return KEEP, "loses:"
    enough = [gain.queries >= (gain.needed or math.inf) for gain in gains]
    ruled_out = (g.high < WORTH or (g.low <= 0 and n) for g, n in zip(gains, enough, strict=True))
    if gains and all(ruled_out):
        return KEEP, "gains nothing that would matter:"
    return TOO_FEW, "so far"


def _rivals(rows: Sequence[Row], baseline: str | None) -> dict[str, list[Row]]:
    """What is compared with the general model: its rows, one a test split, by a name of its own."""
    if baseline is None:
        expected = "a report of compare() or leaderboard(), with the general model in it"
        hint = "ek.evaluation.verdict.verdict(ek.leaderboard(domain))"
        raise EmbkitError("a report without a baseline", expected=expected, hint=hint)
    rows = [r for r in rows if not r["subset"] and r["delta_vs_base"] is not None]
    labels = Counter(row["label"] for row in rows if row["split"] == rows[0]["split"])
    found: dict[str, list[Row]] = {}
    for row in rows:
        told = f" ({(row['recipe_hash'] or '')[:6]})" if labels[row["label"]] > 1 else ""
        found.setdefault(row["label"] + told, []).append(row)
    return found


def _trained(rows: Sequence[Row]) -> bool:
    return bool(rows[0]["recipe_hash"])


def _chosen(rivals: dict[str, list[Row]]) -> str | None:
    """The highest on dev, or the highest of the untrained ones where that is no worse by much."""
    dev = {name: rows[0]["dev"] for name, rows in rivals.items() if rows[0]["dev"] is not None}
    if not dev:
        return next(iter(rivals)) if len(rivals) == 1 else None
    free = [name for name in dev if not _trained(rivals[name])]
    best, cheap = max(dev, key=dev.__getitem__), max(free, key=dev.__getitem__, default=None)
    return cheap if cheap is not None and dev[cheap] > dev[best] - WORTH else best


def _gains(name: str, rows: Sequence[Row]) -> tuple[Gain, ...]:
    found = []
    for row, p in zip(rows, holm([row["p_vs_base"] for row in rows]), strict=True):
        known: Any = {key: row[key] for key in ("queries", "clusters", "over", "seeds")}
        known |= {"p": p, "delta": row["delta_vs_base"], "needed": row["needed_vs_base"]}
        low, high = row["delta_vs_base_ci"]
        found.append(Gain(name, row["split"], low=low, high=high, **known))
    return tuple(found)


def _beside(name: str, rivals: dict[str, list[Row]]) -> str:
    """What else is about as good on dev and what it costs; and the best that needs no training."""
    mine, told = rivals[name][0], ""
    free = [other for other in rivals if not _trained(rivals[other]) and other != name]
    best = max(free, key=lambda other: rivals[other][0]["dev"] or 0, default=None)
    for other, (row, *_) in rivals.items():
        dev, own = row["dev"], mine["dev"]
        close = dev is not None and own is not None and dev > own - WORTH
        if other == name or dev is None or not (close or other == best):
            continue
        told += f"; {other} has {dev:.3f} on dev where {name} has {own:.3f}"
        told += "" if _trained([row]) else ", untrained"
        share = (row["trainable_params"] or 0) / (mine["trainable_params"] or 1)
        told += f", with {share:.1%} of the trained parameters" if 0 < share < 1 else ""
        seconds, longer = row["train_seconds"], mine["train_seconds"]
        if seconds and longer and seconds < 0.8 * longer:
            told += f", trained in {seconds:,.0f} s instead of {longer:,.0f} s"
    return told
