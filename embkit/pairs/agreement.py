"""Agreement between annotators: Cohen's kappa, and the list of what they judged differently."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from dataclasses import dataclass

import numpy as np

from ..display import Table, table
from ..errors import EmbkitError
from .labels import GRADES, LabelStore, Pair

NOMINAL = 1.0 - np.eye(len(GRADES))  # how far two grades are apart: the same or not
LINEAR = np.abs(np.subtract.outer(range(len(GRADES)), range(len(GRADES)))).astype(float)


@dataclass(frozen=True)
class PairAgreement:
    """How far two annotators agree on what both have judged.

    Kappa (Cohen, A coefficient of agreement for nominal scales, 1960) is NaN where both gave one
    and the same grade throughout. Linearly weighted, 2 against 0 counts twice as much as 2 against
    1. ``interval`` is the 95% interval of ``kappa`` (queries resampled), NaN below two queries.
    Where all pairs agree, its low end allows for the disagreement that so few would not show.
    """

    first: str
    second: str
    items: int
    queries: int
    raw: float
    kappa: float
    weighted_kappa: float
    interval: tuple[float, float]


@dataclass(frozen=True)
class Disagreement:
    """A pair that got different grades: ``grades`` is annotator -> grade."""

    query: str
    document: str
    query_text: str
    document_text: str
    grades: dict[str, int]


@dataclass(frozen=True, repr=False)
class Agreement:
    """How far the annotators agree, and where they do not, widest apart first."""

    pairs: tuple[PairAgreement, ...]
    disagreements: tuple[Disagreement, ...]

    def table(self) -> Table:
        """The figures of each two annotators; text where one is undefined."""
        return table(
            {
                "annotators": f"{p.first} and {p.second}",
                "pairs": p.items,
                "queries": p.queries,
                "same grade": f"{p.raw:.2f}",
                "kappa": _figure(p.kappa),
                "95%": "–" if math.isnan(p.interval[0]) else "{:.2f} to {:.2f}".format(*p.interval),
                "weighted kappa": _figure(p.weighted_kappa),
            }
            for p in self.pairs
        )

    def _repr_html_(self) -> str:
        cells = [
            [d.query_text, d.document_text, ", ".join(f"{a}: {g}" for a, g in d.grades.items())]
            for d in self.disagreements[:10]
        ]
        widest = f"{len(self.disagreements)} disagreement(s); the widest are shown"
        apart = Table(["query", "document", "grades"], cells, widest)
        return self.table().to_html() + (apart.to_html() if cells else "")

    def __repr__(self) -> str:
        rows = self.table().cells
        pairs = "; ".join(f"{row[0]}: {row[1]} pairs, kappa {row[4]}" for row in rows)
        return f"Agreement({pairs}; {len(self.disagreements)} disagreement(s))"


def annotator_agreement(store: LabelStore) -> Agreement:
    """How far each two annotators agree on the pairs that both have judged; fails for no such."""
    labels, domain = store.labels(), store.domain
    found = [
        _pair_agreement(first, second, {p: (labels[first][p], labels[second][p]) for p in both})
        for first, second in itertools.combinations(sorted(labels), 2)
        if (both := sorted(labels[first].keys() & labels[second].keys()))
    ]
    if not found:
        said = f"{len(labels)} annotator(s), and no pair judged by two of them"
        expected = "the same pairs judged by at least two annotators"
        hint = "a second person: ek.widgets.Annotator(tasks, store, annotator='bob')"
        raise EmbkitError(said, expected=expected, hint=hint)
    given: dict[Pair, dict[str, int]] = defaultdict(dict)
    for name in sorted(labels):
        for pair, grade in labels[name].items():
            given[pair][name] = grade
    apart = sorted((min(by.values()) - max(by.values()), pair) for pair, by in given.items())
    disagreements = (
        Disagreement(q, d, domain.queries[q], domain.corpus[d], given[q, d])
        for distance, (q, d) in apart
        if distance
    )
    return Agreement(tuple(found), tuple(disagreements))


def _pair_agreement(first: str, second: str, both: dict[Pair, tuple[int, int]]) -> PairAgreement:
    rows = {query: row for row, query in enumerate(dict.fromkeys(q for q, _ in both))}
    counts = np.zeros((len(rows), 3, 3))  # one table a query: its pairs are not independent
    for (query, _), (a, b) in both.items():
        counts[rows[query], a, b] += 1
    rng, whole = np.random.default_rng(0), counts.sum(0)
    drawn = rng.multinomial(len(rows), np.full(len(rows), 1 / len(rows)), size=2000)
    resampled = kappas(np.tensordot(drawn, counts, 1))
    low, high = math.nan, math.nan
    if len(rows) > 1 and not np.isnan(resampled).all():
        low, high = np.nanpercentile(resampled, [2.5, 97.5]).tolist()
    same = float(np.trace(whole) / len(both))
    kappa, weighted = float(kappas(whole)), float(kappas(whole, LINEAR))
    if same == 1 and low == high:  # no disagreement was drawn: the rule of three
        chance = float((whole.sum(0) / len(both)) @ (whole.sum(1) / len(both)))
        low = (0.05 ** (1 / len(rows)) - chance) / (1 - chance)
    return PairAgreement(first, second, len(both), len(rows), same, kappa, weighted, (low, high))


def kappas(counts: np.ndarray, distance: np.ndarray = NOMINAL) -> np.ndarray:
    """Kappa of each table of counts (..., 3, 3), NaN where it is undefined."""
    by_chance = counts.sum(-1)[..., :, None] * counts.sum(-2)[..., None, :]
    by_chance = by_chance / np.maximum(counts.sum((-1, -2), keepdims=True), 1)
    apart, expected = ((distance * table).sum((-1, -2)) for table in (counts, by_chance))
    undefined = np.full_like(expected, np.nan)
    return 1 - np.divide(apart, expected, out=undefined, where=expected > 0)


def _figure(value: float) -> str:
    return "undefined (one grade only)" if math.isnan(value) else f"{value:.2f}"
