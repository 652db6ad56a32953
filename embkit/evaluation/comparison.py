"""compare(), which makes a Report of several approaches."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from ..errors import EmbkitError, unknown
from .intervals import WORTH, holm
from .report import Report, base_of
from .scores import Scores


def compare(
    scores: Sequence[Scores], baseline: str = "base", *, asked: Sequence[str] | None = None
) -> Report:
    """Put approaches side by side, each tested against the baseline on nDCG@10, query by query.

    One row an approach, split and subset; the highest nDCG@10 of each first. ``p_vs_base`` is each
    test's own p; ``p_holm`` the same, corrected for the comparisons that were asked for (Holm).
    Intervals and tests are over clusters of queries (``intervals.clusters``) and over seeds.

    Args:
        scores: scores of one domain, the baseline's among them.
        baseline: the approach (or label) to compare with. Where several scores bear that name,
            each approach meets the one with its own base model, else the first.
        asked: names (or labels) of the approaches whose comparison was planned: the family of
            tests that p is corrected for; default: all that are given.

    Fails for no scores, the same scores twice, scores of different domains, a missing baseline, or
    approaches that were not scored on the same queries.
    """
    scores = list(scores)
    if not scores:
        hint = "ek.compare([ek.evaluate('minilm', domain), ek.evaluate(run, domain)])"
        raise EmbkitError("no scores to compare", expected="at least the baseline's", hint=hint)
    first = scores[0]
    for other in scores:
        other.check_domain(first.domain, first.domain_hash)
    names = Counter((s.label, s.base_model, s.recipe_hash, s.meta.get("seed")) for s in scores)
    (name, *_), times = names.most_common(1)[0]
    if times > 1:
        expected = "each approach once; other labels for those that differ"
        hint = 'give each its own meta["label"], or drop one'
        raise EmbkitError(f"the scores of {name!r} are given twice", expected=expected, hint=hint)
    if base_of(first, scores, baseline) is None:
        raise unknown("baseline", baseline, [s.label for s in scores])

    # each approach against its baseline, row by row
    rows = []
    for one in scores:
        base = base_of(one, scores, baseline)
        for row in one.rows():
            if one is not base and row["queries"]:
                place = (row["split"], "ndcg@10", row["subset"])
                test = one.test(base, *place)
                row |= {"p_vs_base": test.p, "delta_vs_base": test.delta}
                row["delta_vs_base_ci"] = [*test.estimate.within(-1.0, 1.0)]
                row |= {"wins": test.wins, "ties": test.ties, "losses": test.losses}
                row["visible_vs_base"] = test.estimate.visible
                row["needed_vs_base"] = test.estimate.needed(WORTH)
            rows.append(row)
    # the tests that were asked for are one family
    named = {name for one in scores for name in (one.label, one.approach)}
    if strange := [name for name in asked or () if name not in named]:
        raise unknown("approach", strange[0], named)
    family = named if asked is None else {*asked}
    tested = [r for r in rows if r["p_vs_base"] is not None]
    tested = [row for row in tested if {row["label"], row["approach"]} & family]
    for row, p in zip(tested, holm([row["p_vs_base"] for row in tested]), strict=True):
        row["p_holm"] = p
    # the best of each split and subset first
    splits = list(dict.fromkeys(row["split"] for row in rows))
    subsets = [None, *dict.fromkeys(row["subset"] for row in rows if row["subset"])]
    best = lambda row: math.inf if row["ndcg@10"] is None else -row["ndcg@10"]  # noqa: E731
    rows.sort(key=lambda r: (splits.index(r["split"]), subsets.index(r["subset"]), best(r)))
    return Report(rows, baseline=baseline, tests=len(tested), scores=scores)
