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
    """A general task that needs no download: what a function does, in words, to its code.

    Queries and functions are those of the test splits of ``python_code`` in its workshop size,
    beside other functions of the standard library. Nothing is to be trained on it: a model that
    was tuned to another domain and lost general ability scores less here than before. For a model
    that was tuned to code it is no such probe.

    Args:
        documents: functions to search, never fewer than are right; default: 1,500, in ``smoke`` no
            more than are right.
        queries: how many are asked; default: all, in ``smoke`` 60.
        seed: of which others stand beside the right ones, and of which queries are asked.

    Returns:
        A Domain with one test split, ``general``: ``ek.evaluate(run, ek.data.general_probe())``.
    """
    small = profile() == "smoke"
    documents = (0 if small else DOCUMENTS) if documents is None else documents
    return _probe(documents, 60 if small and queries is None else queries, seed)


@lru_cache(maxsize=2)
def _probe(documents: int, queries: int | None, seed: int) -> Domain:
    code = python_code.load("workshop")
    asked = {
        query: dict(code.qrels[split][query])
        for split in code.test_splits
        for query in code.qrels[split]
    }
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
