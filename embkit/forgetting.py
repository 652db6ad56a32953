"""What a model forgets: one general task before and after, and the mean of both models' weights."""

from __future__ import annotations

import random
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from .domains import Domain, load_domain
from .errors import EmbkitError

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

PROBE = "general"  # the probe's name as a domain, and of its test split
DOCUMENTS = 1_500


@lru_cache(maxsize=1)
def general_probe(documents: int = DOCUMENTS, seed: int = 0) -> Domain:
    """A general task that needs no download: what a function does, in words, to its code.

    Queries and functions are those of the test splits of ``python_code`` in its workshop size,
    beside other functions of the standard library. Nothing is to be trained on it: a model that
    was tuned to another domain and lost general ability scores less here than before. For a model
    that was tuned to code it is no such probe.

    Args:
        documents: functions to search, at least as many as are right.
        seed: of which others stand beside the right ones.

    Returns:
        A Domain with one test split, ``general``: ``ek.evaluate(run, ek.general_probe())``.
    """
    code = load_domain("python_code", profile="workshop")
    asked = {
        query: dict(code.qrels[split][query])
        for split in code.test_splits
        for query in code.qrels[split]
    }
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


def merge_weights(tuned: Any, start: Any, share: float = 0.5) -> SentenceTransformer:
    """A model whose weights are the weighted mean of a tuned model's and of its start's.

    Models fine-tuned from one start lie in one valley of the loss, so that their mean is a model,
    too (Wortsman et al. 2022, model soups, https://arxiv.org/abs/2203.05482; WiSE-FT,
    https://arxiv.org/abs/2109.01903): it often keeps most of the gain and forgets less.

    Args:
        tuned: a Run, a model, its name or folder.
        start: the model that it was fine-tuned from, likewise.
        share: of the tuned weights, 0 to 1.

    Raises:
        EmbkitError: a share outside 0 to 1, or models of different shapes.

    Example:
        >>> ek.evaluate(ek.merge_weights(run, "minilm"), domain, name="merged")  # doctest: +SKIP
    """
    import torch

    if not 0 <= share <= 1:
        raise EmbkitError(f"share={share}", expected="a number from 0 to 1", hint="share=0.5")
    merged, other = _fresh(tuned), _fresh(start)
    mine, theirs = merged.state_dict(), other.state_dict()
    fits = mine.keys() == theirs.keys() and all(mine[n].shape == theirs[n].shape for n in mine)
    if not fits:
        raise EmbkitError(
            "the two models have different weights",
            expected="a model, and the one that it was fine-tuned from",
            hint="run.recipe.model names the start",
        )
    with torch.no_grad():
        merged.load_state_dict(
            {
                name: torch.lerp(theirs[name], weight, share)
                if weight.is_floating_point()
                else weight
                for name, weight in mine.items()
            }
        )
    return merged


def _fresh(model: Any) -> SentenceTransformer:
    """A model of its own to write into."""
    from copy import deepcopy

    from .runs import Run
    from .search import load_model

    if isinstance(model, Run):
        return model.model()
    return deepcopy(model) if hasattr(model, "state_dict") else load_model(model)
