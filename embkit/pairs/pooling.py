"""What is worth judging: the documents that several systems find for a query, in one pool."""

import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..data import Domain
from ..evaluation.ranking import indexed
from .labels import Pair, check_id
from .rules import refused


@dataclass(frozen=True)
class Task:
    """One document to be judged for one query; ``found_by`` is not shown while judging."""

    query: str
    document: str
    query_text: str
    document_text: str
    found_by: tuple[str, ...] = field(default=(), repr=False)

    @property
    def pair(self) -> Pair:
        """(query id, document id)."""
        return self.query, self.document


def candidates(
    domain: Domain,
    queries: str | Sequence[str],
    models: Mapping[str, Any],
    k: int = 5,
    *,
    n: int | None = None,
    seed: int = 0,
) -> list[Task]:
    """What is worth judging: for each query what any of the systems found, and what is known.

    A query's documents come in an order of the seed's, which hides what system found them.
    Pooling: Spärck Jones and van Rijsbergen, Report on the need for and provision of an "ideal"
    information retrieval test collection, 1975. Fails for an unknown split or id, or no system.

    Args:
        queries: a split's name, or ids of queries (a query may be in no split yet).
        models: name -> ``"bm25"``, a model or its name, or a function ``list[str] -> array``.
        n: queries to draw, at random; default: all, in their order.
    """
    ids = list(domain.split(queries)) if isinstance(queries, str) else list(dict.fromkeys(queries))
    for query in ids:
        check_id("query", query, domain.queries)
    if not isinstance(models, Mapping) or not models or not ids or k < 1 or n is not None and n < 1:
        raise refused("candidates", queries=len(ids), models=models, k=k, n=n)
    if n is not None and n < len(ids):
        ids = random.Random(seed).sample(ids, n)
    # what each system finds, then what is known
    names, texts = list(domain.corpus), list(domain.corpus.values())
    found: dict[str, dict[str, list[str]]] = {query: defaultdict(list) for query in ids}
    for name, model in models.items():
        index, asked = indexed(model, texts), [domain.queries[q] for q in ids]
        rows, _ = index.search(asked, k, domain.hidden(ids, names))
        for query, row in zip(ids, rows, strict=True):
            for index in row[row >= 0]:
                found[query][names[index]].append(name)
    for split in domain.qrels:
        for query, document in domain.right(split):
            if query in found:
                found[query][document].append("known")
    # an order that hides who found what
    tasks = []
    for query, by in found.items():
        documents, text = sorted(by), domain.queries[query]
        random.Random(f"{seed} {query}").shuffle(documents)
        tasks += [Task(query, d, text, domain.corpus[d], tuple(by[d])) for d in documents]
    return tasks
