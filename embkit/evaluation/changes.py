"""What lies behind a mean: who wins on which queries, and what a gain costs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..data.domain import right_documents
from ..errors import EmbkitError
from .scores import Scores

if TYPE_CHECKING:
    import pandas as pd

    from ..data import Domain


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
        change = against.change(one, split, metric)
        won, lost = change[change > 0], change[change < 0]
        rows[one.label] = {
            "win": len(won),
            "tie": len(change) - len(won) - len(lost),
            "loss": len(lost),
            "mean win": won.mean(),
            "mean loss": lost.mean(),
        }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis(f"against {against.label}")


def top_changed_queries(
    before: Scores, after: Scores, domain: Domain, split: str, n: int = 5, metric: str = "ndcg@10"
) -> pd.DataFrame:
    """The queries that gained and lost most, with their texts and what would have been right.

    Args:
        before: scores of one approach.
        after: of another, over the same queries.
        domain: what was searched.
        split: whose queries.
        n: queries of either side at most.
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
    change = before.change(after, split, metric)
    change = change[change != 0].sort_values(ascending=False, kind="stable")
    few = min(n, -(-len(change) // 2))
    kept = dict.fromkeys([*change.index[:few], *change.index[len(change) - few :]])
    left, right = before.values(split, metric), after.values(split, metric)
    rows = [
        {
            "query": domain.queries[q],
            "right": "; ".join(domain.corpus[d] for d in right_documents(domain.qrels[split][q])),
            before.label: left[q],
            after.label: right[q],
            "change": change[q],
        }
        for q in kept
    ]
    return pd.DataFrame(rows)
