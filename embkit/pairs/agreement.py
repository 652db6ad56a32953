"""Agreement between annotators: Cohen's kappa, and the list of what they judged differently."""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import EmbkitError
from .labels import GRADES, LabelStore, Pair, table


@dataclass(frozen=True)
class PairAgreement:
    """How far two annotators agree on what both have judged.

    ``kappa`` and ``weighted_kappa`` are NaN where they are undefined; ``interval`` is the 95%
    interval of ``kappa`` (queries resampled), NaN where fewer than two queries are shared.
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

    def rows(self) -> list[tuple[Any, ...]]:
        """The table's rows, as text where a figure is undefined."""
        return [
            (
                f"{p.first} and {p.second}",
                p.items,
                p.queries,
                f"{p.raw:.2f}",
                _figure(p.kappa),
                "–" if math.isnan(p.interval[0]) else "{:.2f} to {:.2f}".format(*p.interval),
                _figure(p.weighted_kappa),
            )
            for p in self.pairs
        ]

    def _repr_html_(self) -> str:
        head = ("annotators", "pairs", "queries", "same grade", "kappa", "95%", "weighted kappa")
        shown = [
            (d.query_text, d.document_text, ", ".join(f"{a}: {g}" for a, g in d.grades.items()))
            for d in self.disagreements[:10]
        ]
        title = f"<p>{len(self.disagreements)} disagreement(s); the widest:</p>"
        return table(head, self.rows()) + (
            title + table(("query", "document", "grades"), shown) if shown else ""
        )

    def __repr__(self) -> str:
        pairs = "; ".join(f"{row[0]}: {row[1]} pairs, kappa {row[4]}" for row in self.rows())
        return f"Agreement({pairs}; {len(self.disagreements)} disagreement(s))"


def annotator_agreement(store: LabelStore) -> Agreement:
    """How far each two annotators agree on the pairs that both have judged.

    Raises:
        EmbkitError: no two annotators have judged the same pair.
    """
    labels = store.labels()
    found = []
    for first, second in itertools.combinations(sorted(labels), 2):
        both = sorted(labels[first].keys() & labels[second].keys())
        if both:
            grades = [(labels[first][pair], labels[second][pair]) for pair in both]
            found.append(_pair_agreement(first, second, [q for q, _ in both], grades))
    if not found:
        raise EmbkitError(
            f"{len(labels)} annotator(s), and no pair judged by two of them",
            expected="the same pairs judged by at least two annotators",
            hint="give a second person the same tasks: Annotator(tasks, store, annotator='bob')",
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


def cohen_kappa(first: Sequence[int], second: Sequence[int], *, weighted: bool = False) -> float:
    """Cohen's kappa of two annotators' grades: how far they agree beyond chance.

    kappa = 1 − Σ w_ij O_ij / Σ w_ij E_ij, over the grades i of the first and j of the second.
    O_ij is the share of pairs with these grades, E_ij the product of the two annotators' own
    shares of i and of j. Unweighted, w_ij is 1 where i ≠ j, else 0: that is (p_o − p_e) /
    (1 − p_e). Weighted, w_ij = |i − j|: 2 against 0 counts twice as much as 2 against 1.

    Args:
        first: grades 0, 1 or 2, one a pair.
        second: the other annotator's, in the same order.
        weighted: linearly weighted.

    Returns:
        1 for the same grades, 0 for agreement by chance alone, below 0 for less than that; NaN
        where it is undefined: no pairs, or both gave one and the same grade throughout.

    Raises:
        EmbkitError: other grades, or two lists of different length.

    Example:
        >>> cohen_kappa([2, 2, 0, 0], [2, 0, 0, 0])
        0.5

    Paper: Cohen, A coefficient of agreement for nominal scales, 1960.
    """
    if len(first) != len(second) or not {*first, *second} <= GRADES.keys():
        raise EmbkitError(
            f"{len(first)} and {len(second)} grades, of {sorted({*first, *second})}",
            expected="two lists of the same length, of grades 0, 1 and 2",
            hint="cohen_kappa([2, 1, 0], [2, 0, 0])",
        )
    counts = np.zeros((3, 3))
    np.add.at(counts, (np.asarray(first, int), np.asarray(second, int)), 1)
    return float(_kappa(counts, weighted))


def _kappa(tables: np.ndarray, weighted: bool) -> np.ndarray:
    """Kappa of counts (..., 3, 3): first's grade by second's."""
    apart = np.abs(np.subtract.outer(np.arange(3), np.arange(3)))
    weights = apart if weighted else apart > 0
    total = tables.sum((-1, -2))
    chance = tables.sum(-1)[..., :, None] * tables.sum(-2)[..., None, :]
    seen, expected = (weights * tables).sum((-1, -2)) * total, (weights * chance).sum((-1, -2))
    nothing = np.full_like(expected, np.nan)
    return 1 - np.divide(seen, expected, out=nothing, where=expected > 0)


def _pair_agreement(
    first: str, second: str, queries: list[str], grades: list[tuple[int, int]]
) -> PairAgreement:
    rows = {query: row for row, query in enumerate(dict.fromkeys(queries))}
    tables = np.zeros((len(rows), 3, 3))  # one a query: its pairs are not independent
    for query, (a, b) in zip(queries, grades, strict=True):
        tables[rows[query], a, b] += 1
    interval = (math.nan, math.nan)
    if len(rows) > 1:
        rng = np.random.default_rng(0)
        drawn = rng.multinomial(len(rows), np.full(len(rows), 1 / len(rows)), size=2000)
        resampled = _kappa(np.tensordot(drawn, tables, 1), weighted=False)
        if not np.isnan(resampled).all():
            low, high = np.nanpercentile(resampled, [2.5, 97.5])
            interval = (float(low), float(high))
    counts = tables.sum(0)
    return PairAgreement(
        first=first,
        second=second,
        items=len(grades),
        queries=len(rows),
        raw=float(np.trace(counts) / len(grades)),
        kappa=float(_kappa(counts, weighted=False)),
        weighted_kappa=float(_kappa(counts, weighted=True)),
        interval=interval,
    )


def _figure(value: float) -> str:
    return "undefined (one grade only)" if math.isnan(value) else f"{value:.2f}"
