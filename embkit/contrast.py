"""What lies behind a mean: who wins on which queries, and what a gain costs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .domains import Domain
from .errors import EmbkitError
from .evaluation import Scores
from .report import Report, Row

if TYPE_CHECKING:
    import pandas as pd

TRAINING = ("train_seconds", "trainable_params")  # costs that a model as it came does not have


def win_tie_loss(
    scores: Sequence[Scores], against: Scores, split: str, metric: str = "ndcg@10"
) -> pd.DataFrame:
    """On how many queries each approach beats another one, equals it, and loses to it.

    Args:
        scores: of the same queries as ``against``.
        against: the approach that they are compared with.
        split: whose queries.
        metric: a column of the scores by query.

    Returns:
        One row an approach: ``win``, ``tie``, ``loss`` (queries), ``mean win`` and ``mean loss``
        (of the metric, over the queries won and lost; NaN where there are none).

    Raises:
        EmbkitError: other queries, an unknown split or metric.
    """
    import pandas as pd

    rows = {}
    for one in scores:
        change = per_query_change(against, one, split, metric)
        won, lost = change[change > 0], change[change < 0]
        rows[one.label] = {
            "win": len(won),
            "tie": len(change) - len(won) - len(lost),
            "loss": len(lost),
            "mean win": won.mean(),
            "mean loss": lost.mean(),
        }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis(f"against {against.label}")


def queries_behind(
    before: Scores, after: Scores, domain: Domain, split: str, n: int = 5, metric: str = "ndcg@10"
) -> pd.DataFrame:
    """The queries that gained and lost most, with their texts and what would have been right.

    Args:
        before: scores of one approach.
        after: of another, over the same queries.
        domain: what was searched.
        split: whose queries.
        n: so many of either side; fewer where fewer changed.
        metric: a column of the scores by query.

    Returns:
        One row a query, the largest gain first: ``query``, ``right`` (its right documents),
        the metric before and after, ``change``.

    Raises:
        EmbkitError: scores of another domain or of other queries.
    """
    import pandas as pd

    for one in (before, after):
        if one.domain_hash != domain.hash:
            raise EmbkitError(
                f"{one.label!r} was scored on {one.domain!r} ({one.domain_hash[:8]}), not on "
                f"{domain.name!r} ({domain.hash[:8]})",
                expected="scores of the domain that is given",
                hint="ek.evaluate(run, domain)",
            )
    change = per_query_change(before, after, split, metric)
    change = change[change != 0].sort_values(ascending=False, kind="stable")
    few = min(n, len(change) // 2 + len(change) % 2)
    kept = [q for q in dict.fromkeys([*change.index[:few], *change.index[-few:]]) if few]
    left, right = before.values(split, metric), after.values(split, metric)
    rows = [
        {
            "query": domain.queries[q],
            "right": "; ".join(
                domain.corpus[d] for d, g in domain.qrels[split][q].items() if g > 0
            ),
            before.label: left[q],
            after.label: right[q],
            "change": change[q],
        }
        for q in kept
    ]
    return pd.DataFrame(rows)


def per_query_change(before: Scores, after: Scores, split: str, metric: str) -> pd.Series:
    """What each query of ``before`` gains from ``after``, in its order.

    Raises:
        EmbkitError: they were not scored on the same queries.
    """
    a, b = before.values(split, metric), after.values(split, metric)
    if len(a) != len(b) or set(a.index) != set(b.index):
        raise EmbkitError(
            f"{len(a)} queries of {before.label!r} and {len(b)} of {after.label!r}, not the same",
            expected="scores of the same queries",
            hint="evaluate both on the same domain and profile",
        )
    return b.loc[a.index] - a


def pareto_front(
    report: Report | Sequence[Row],
    cost: str = "train_seconds",
    quality: str = "ndcg@10",
    split: str | None = None,
) -> list[Row]:
    """The rows that no other row beats in both: as cheap or cheaper, and better.

    Args:
        report: a report, or its rows.
        cost: a column where less is better. Rows without it are left out, but those of models
            that were never trained: their training cost nothing.
        quality: a column where more is better.
        split: the test split that is looked at; default: the first.

    Returns:
        The rows of the front, the cheapest first.

    Example:
        >>> rows = [{"train_seconds": s, "ndcg@10": q, "split": "test", "subset": None}
        ...         for s, q in ((0, 0.4), (9, 0.6), (20, 0.5))]
        >>> [row["ndcg@10"] for row in pareto_front(rows)]
        [0.4, 0.6]
    """
    front: list[Row] = []
    for row in sorted(priced(report, cost, quality, split), key=lambda r: (r[cost], -r[quality])):
        if not front or row[quality] > front[-1][quality]:
            front.append(row)
    return front


def priced(report: Any, cost: str, quality: str, split: str | None) -> list[Row]:
    """The rows of one split whose quality and cost are known; what needs no training costs 0."""
    rows = getattr(report, "rows", report)
    split = split or next((row["split"] for row in rows), None)
    found = []
    for row in rows:
        free = cost in TRAINING and row.get("trainable_params") == 0
        price = 0.0 if free and row.get(cost) is None else row.get(cost)
        shown = row["split"] == split and not row.get("subset")
        if shown and price is not None and row.get(quality) is not None:
            found.append(row | {cost: price})
    return found


__all__ = ["pareto_front", "priced", "queries_behind", "win_tie_loss"]
