"""How much a model should weigh beside BM25: chosen on dev, never on a test split."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from ..data import Domain
from ..display import Series
from ..models.loading import as_model
from ..search.hybrid import PLAIN, Hybrid, as_fusion, fuse
from ..search.passages import by_recipe
from .intervals import CLUSTERS, clusters
from .metrics import ranking_from_arrays, score_ranking

WEIGHTS = tuple(n / 10 for n in range(11))


class WeightChoice(NamedTuple):
    """The weight of a model beside BM25 that dev chose, and what each weight scores there."""

    weight: float
    dev: dict[float, float]  # weight -> nDCG@10 on dev; 0 is BM25 alone, 1 the model alone


def choose_weight(
    domain: Domain, model: Any = "minilm", *, weights: Sequence[float] = WEIGHTS
) -> WeightChoice:
    """Tries weights of a model beside BM25 on dev, which both search once.

    The best nDCG@10 wins, of equal ones the nearest to 0.5: plain reciprocal rank fusion, which a
    domain without a dev query gets.

    Args:
        model: a Run, a model, its name, or a function ``list[str] -> (texts, dim)``.
        weights: 0 to 1; see ``ek.search.Hybrid``.
    """
    dev, ids = dict[float, float](), domain.documents("dev")
    if domain.split("dev"):
        tried = by_weight(domain, Hybrid(model, [domain.corpus[d] for d in ids]), ids, weights)
        dev = {weight: float(values.mean()) for weight, values in tried.items()}
    best = max(dev, key=lambda w: (round(dev[w], 9), -abs(w - PLAIN)), default=PLAIN)
    return WeightChoice(best, dev)


def by_weight(
    domain: Domain, index: Hybrid, documents: Sequence[str], weights: Sequence[float]
) -> dict[float, Series]:
    """Weight -> nDCG@10 of each dev query, with an index of these documents."""
    judged, together = domain.split("dev"), clusters(domain, "dev")
    queries, ids, found = list(judged), list(documents), {}
    asked, hidden = [domain.queries[q] for q in queries], domain.hidden(queries, ids)
    dense, words = index.lists(asked, 10, hidden)
    for weight in weights:
        ranking = ranking_from_arrays(queries, ids, *fuse(dense, words, weight, 10))
        found[weight] = score_ranking(ranking, judged, ["ndcg@10"])["ndcg@10"]
        found[weight].attrs[CLUSTERS] = together
    return found


def weighed(what: Any, domain: Domain) -> Any:
    """``"hybrid"`` or a Fusion with its model loaded and its weight chosen; else what was given."""
    if (fusion := as_fusion(what)) is None:
        return what
    model = as_model(by_recipe(fusion.of))
    weight = choose_weight(domain, model).weight if fusion.weight is None else fusion.weight
    return replace(fusion, of=model, weight=weight)
