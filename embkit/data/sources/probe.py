"""The general probe: a retrieval task that no lesson trains on."""

from __future__ import annotations

import random
from functools import lru_cache

from ...session import profile
from ..domain import Domain
from . import python_code

PROBE = "general"  # the probe's name as a domain, and of its test split
DOCUMENTS = 1_500


def general_probe(
    documents: int | None = None, queries: int | None = None, seed: int = 0
) -> Domain:
    """A general task that needs no download: from what a function does, in words, to its code.

    Its one split, ``general``, holds the test queries of ``python_code`` in its workshop size.
    A model that was trained on another domain and lost general ability scores less here than
    before: ``ek.evaluate(run, ek.data.general_probe())``. For a model of code it is no such probe.

    Args:
        documents: functions to search, never fewer than are right; default: 1,500, in ``smoke`` no
            more than are right.
        queries: how many are asked; default: all, in ``smoke`` 60.
        seed: of which others stand beside the right ones, and of which queries are asked.
    """
    small = profile() == "smoke"
    documents = (0 if small else DOCUMENTS) if documents is None else documents
    return _probe(documents, 60 if small and queries is None else queries, seed)


@lru_cache(maxsize=2)
def _probe(documents: int, queries: int | None, seed: int) -> Domain:
    code = python_code.load("workshop")
    asked = {q: dict(judged) for s in code.test_splits for q, judged in code.qrels[s].items()}
    if queries is not None and queries < len(asked):
        some = random.Random(seed).sample(sorted(asked), queries)
        asked = {query: asked[query] for query in some}
    right = {document for judged in asked.values() for document in judged}
    rest = sorted(set(code.corpus) - right)
    random.Random(seed).shuffle(rest)
    kept = sorted(right) + rest[: max(0, documents - len(right))]
    return Domain(
        name=PROBE,
        profile="workshop",
        corpus={document: code.corpus[document] for document in kept},
        queries={query: code.queries[query] for query in asked},
        qrels={"train": {}, "dev": {}, PROBE: asked},
        test_splits=(PROBE,),
        about=code.about,
    )
