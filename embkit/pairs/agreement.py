"""Agreement between annotators: Cohen's kappa, and the list of what they judged differently."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ..display import Table
from ..errors import EmbkitError
from .labels import GRADES, LabelStore, Pair


@dataclass(frozen=True)
class PairAgreement:
    """How far two annotators agree on what both have judged.

    ``kappa`` and ``weighted_kappa`` are scikit-learn's ``cohen_kappa_score``, NaN where both gave
    one and the same grade throughout. Linearly weighted, 2 against 0 counts twice as much as 2
    against 1. ``interval`` is the 95% interval of ``kappa`` (queries resampled), NaN where fewer
    than two queries are shared.

    Paper: Cohen, A coefficient of agreement for nominal scales, 1960.
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
        cells = [
            [
                f"{p.first} and {p.second}",
                str(p.items),
                str(p.queries),
                f"{p.raw:.2f}",
                _figure(p.kappa),
                "–" if math.isnan(p.interval[0]) else "{:.2f} to {:.2f}".format(*p.interval),
                _figure(p.weighted_kappa),
            ]
            for p in self.pairs
        ]
        head = ["annotators", "pairs", "queries", "same grade", "kappa", "95%", "weighted kappa"]
        return Table(head, cells)

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
    """How far each two annotators agree on the pairs that both have judged.

    Raises:
        EmbkitError: no two annotators have judged the same pair.
    """
    labels = store.labels()
    found = [
        _pair_agreement(first, second, {p: (labels[first][p], labels[second][p]) for p in both})
        for first, second in itertools.combinations(sorted(labels), 2)
        if (both := sorted(labels[first].keys() & labels[second].keys()))
    ]
    if not found:
        raise EmbkitError(
            f"{len(labels)} annotator(s), and no pair judged by two of them",
            expected="the same pairs judged by at least two annotators",
            hint="give a second person the same tasks: "
            "ek.widgets.Annotator(tasks, store, annotator='bob')",
        )
    given: dict[Pair, dict[str, int]] = defaultdict(dict)
    for name in sorted(labels):
        for pair, grade in labels[name].items():
            given[pair][name] = grade
    apart = {pair: max(by.values()) - min(by.values()) for pair, by in given.items()}
    domain = store.domain
    return Agreement(
        pairs=tuple(found),
        disagreements=tuple(
            Disagreement(q, d, domain.queries[q], domain.corpus[d], given[q, d])
            for q, d in sorted(given, key=lambda pair: (-apart[pair], pair))
            if apart[q, d]
        ),
    )


def _pair_agreement(first: str, second: str, both: dict[Pair, tuple[int, int]]) -> PairAgreement:
    ours, theirs = zip(*both.values(), strict=True)  # grades
    rows = {query: row for row, query in enumerate(dict.fromkeys(query for query, _ in both))}
    counts = np.zeros((len(rows), 3, 3))  # one table a query: its pairs are not independent
    for (query, _), (a, b) in both.items():
        counts[rows[query], a, b] += 1
    interval = (math.nan, math.nan)
    if len(rows) > 1:
        rng = np.random.default_rng(0)
        drawn = rng.multinomial(len(rows), np.full(len(rows), 1 / len(rows)), size=2000)
        resampled = _kappas(np.tensordot(drawn, counts, 1))
        if not np.isnan(resampled).all():
            low, high = np.nanpercentile(resampled, [2.5, 97.5])
            interval = (float(low), float(high))
    return PairAgreement(
        first=first,
        second=second,
        items=len(both),
        queries=len(rows),
        raw=float(np.mean([a == b for a, b in both.values()])),
        kappa=kappa(ours, theirs),
        weighted_kappa=kappa(ours, theirs, "linear"),
        interval=interval,
    )


def kappa(first: Sequence[int], second: Sequence[int], weights: str | None = None) -> float:
    """scikit-learn's kappa of two lists of grades; NaN without a warning where it is undefined."""
    from sklearn.metrics import cohen_kappa_score

    if len({*first, *second}) < 2:
        return math.nan
    return float(cohen_kappa_score(first, second, labels=list(GRADES), weights=weights))


def _kappas(counts: np.ndarray) -> np.ndarray:
    """Unweighted kappa of each table (draws, 3, 3): 2,000 calls of scikit-learn take seconds."""
    shares = counts / counts.sum((-1, -2), keepdims=True)
    agreed = np.trace(shares, axis1=-2, axis2=-1)
    by_chance = (shares.sum(-1) * shares.sum(-2)).sum(-1)
    undefined = np.full_like(agreed, np.nan)
    return np.divide(agreed - by_chance, 1 - by_chance, out=undefined, where=by_chance < 1)


def _figure(value: float) -> str:
    return "undefined (one grade only)" if math.isnan(value) else f"{value:.2f}"
