"""The general probe: a retrieval task that no lesson trains on."""

from __future__ import annotations

import random
from functools import cache

from ...session import profile
from ..domain import Domain, shuffled
from . import python_code

PROBE = "general"  # the probe's name as a domain, and of its test split
DOCUMENTS, SMOKE_QUERIES = 1_500, 60


def general_probe() -> Domain:
    """A general task that needs no download: from what a function does, in words, to its code.

    Its one split, ``general``, holds the test queries of ``python_code`` in its workshop size,
    which search 1,500 functions; in ``smoke`` 60 of them, which search their right ones.
    A model that was trained on another domain and lost general ability scores less here than
    before: ``ek.evaluate(run, ek.data.general_probe())``. For a model of code it is no such probe.
    """
    return _probe(small=profile() == "smoke")


@cache
def _probe(small: bool) -> Domain:
    code = python_code.load("workshop")
    asked = {q: dict(judged) for s in code.test_splits for q, judged in code.qrels[s].items()}
    if small:
        some = random.Random(0).sample(sorted(asked), min(SMOKE_QUERIES, len(asked)))
        asked = {query: asked[query] for query in some}
    right = {document for judged in asked.values() for document in judged}
    rest = [] if small else shuffled(set(code.corpus) - right)
    kept = sorted(right) + rest[: max(0, DOCUMENTS - len(right))]
    return Domain(
        name=PROBE,
        profile="workshop",
        corpus={document: code.corpus[document] for document in kept},
        queries={query: code.queries[query] for query in asked},
        qrels={"train": {}, "dev": {}, PROBE: asked},
        test_splits=(PROBE,),
        about=code.about,
    )
