"""What the rows of a report say: dev chooses what to take, the tests say what it is worth."""

import html
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..files import filled
from .intervals import FEWEST, LEVEL, WORTH, holm
from .metrics import refused

FINE_TUNE, OTHER = "fine-tune", "take another model"  # how that was trained is not known
SWITCH = f"{OTHER}, untrained"
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


@dataclass(frozen=True, repr=False)
class Verdict:
    """Whether to fine-tune or to keep the general model; shows itself as a sentence or a few."""

    decision: str  # one of the names above
    text: str  # the decision and its reasons
    approach: str | None = None  # what dev chose
    gains: tuple[Gain, ...] = ()  # of that approach, on each test split

    def __repr__(self) -> str:
        return self.text

    def _repr_html_(self) -> str:
        first, _, rest = self.text.partition(": ")
        return f"<p><b>{html.escape(first)}</b>: {html.escape(rest)}</p>"


def decided(rows: Sequence[Row], baseline: str | None) -> Verdict:
    """What ``verdict`` says of a report's rows."""
    rivals = _rivals(rows, baseline)
    if not any(map(_trained, rivals.values())):
        return Verdict(NOTHING, f"{NOTHING}: no fine-tuned model has been evaluated yet")
    name, beside = _chosen(rivals)
    if name is None:
        told = f"dev has scored none of {', '.join(rivals)}; the tests may not choose"
        return Verdict(NO_CHOICE, f"{NO_CHOICE}: {told}")
    gains = _gains(name, rivals[name])
    decision, why = _decided([gain for gain in gains if gain.clusters >= FEWEST])
    if decision == FINE_TUNE and not _recorded(rivals[name]):
        decision = OTHER if _trained(rivals[name]) else SWITCH
    asked = max(gains, key=lambda gain: (gain.needed or math.inf) / gain.queries)
    text = filled(
        Path(__file__).with_name("verdict.jinja"),
        decision=decision,
        why=why,
        name=name,
        gains=gains,
        asked=asked if decision == TOO_FEW else None,
        worth=WORTH,
        rivals=rivals,
        beside=beside,
        unknown=[n for n, (row, *_) in rivals.items() if row["dev"] is None and n != name],
    )
    return Verdict(decision, text, name, gains)


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
        raise refused("no baseline")
    rows = [r for r in rows if not r["subset"] and r["delta_vs_base"] is not None]
    labels = Counter(row["label"] for row in rows if row["split"] == rows[0]["split"])
    found: dict[str, list[Row]] = {}
    for row in rows:
        told = f" ({(row['recipe_hash'] or '')[:6]})" if labels[row["label"]] > 1 else ""
        found.setdefault(row["label"] + told, []).append(row)
    return found


def _recorded(rows: Sequence[Row]) -> bool:
    return bool(rows[0]["recipe_hash"] or rows[0].get("trainable_params"))


def _trained(rows: Sequence[Row]) -> bool:  # or may be: one merged of others, one made elsewhere
    return _recorded(rows) or rows[0].get("trainable_params") != 0


def _chosen(rivals: dict[str, list[Row]]) -> tuple[str | None, set[str]]:
    """The highest on dev, or the highest of the untrained ones where that is no worse by much; and
    beside it what else is about as good there, and the next best that needs no training."""
    dev = {name: rows[0]["dev"] for name, rows in rivals.items() if rows[0]["dev"] is not None}
    if not dev:
        return next(iter(rivals)) if len(rivals) == 1 else None, set()
    order = sorted(dev, key=lambda name: -dev[name])
    free = [name for name in order if not _trained(rivals[name])]
    name = free[0] if free and dev[free[0]] > dev[order[0]] - WORTH else order[0]
    close = {other for other in order if dev[other] > dev[name] - WORTH}
    return name, (close | {*[other for other in free if other != name][:1]}) - {name}


def _gains(name: str, rows: Sequence[Row]) -> tuple[Gain, ...]:
    found = []
    for row, p in zip(rows, holm([row["p_vs_base"] for row in rows]), strict=True):
        over = row["queries"], row["clusters"], row["over"], row["seeds"], row["needed_vs_base"]
        low, high = row["delta_vs_base_ci"]
        found.append(Gain(name, row["split"], row["delta_vs_base"], low, high, p, *over))
    return tuple(found)
