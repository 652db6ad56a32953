"""Words and meaning together: BM25 and a model, fused by their ranks."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..data.domain import Hidden
from ..errors import EmbkitError
from .index import BM25, Found, best_of, checked_k
from .passages import index_of

CONSTANT = 60  # of the paper: how much less a rank counts than the one before
DEPTH = 100  # ranks of either search that are fused
PLAIN = 0.5  # the weight of plain reciprocal rank fusion


@dataclass(frozen=True)
class Fusion:
    """A model that is to be fused with BM25: ``ek.evaluate(ek.search.Fusion(run), domain)``.

    ``"hybrid"`` is short for ``Fusion("minilm")``.

    Args:
        of: a Run, a model, its name, or a function ``list[str] -> (texts, dim)``.
        weight: the model's, 0 to 1; default: chosen on the domain's dev split.
    """

    of: Any = "minilm"
    weight: float | None = None

    def __post_init__(self) -> None:
        if self.weight is not None:
            _checked(self.weight)


def as_fusion(what: Any) -> Fusion | None:
    """The fusion that ``"hybrid"`` or a Fusion stands for; None for anything else."""
    if isinstance(what, str) and what == "hybrid":
        return Fusion()
    return what if isinstance(what, Fusion) else None


class Hybrid:
    """A model's search and BM25 over the same texts, fused by rank.

    A document scores weight / (60 + its rank by the model) + (1 - weight) / (60 + its rank by
    BM25), ranks from 1. What one of the two does not find gets nothing from it.

    Args:
        model: as for ``Dense``.
        weight: the model's share, 0 (BM25 alone) to 1 (the model alone); 0.5 orders as plain
            reciprocal rank fusion does. ``ek.evaluation.choose_weight`` chooses it on dev.
        depth: ranks of either search that are fused, at least k.

    Paper: Cormack, Clarke and Büttcher, Reciprocal rank fusion outperforms Condorcet and
    individual rank learning methods, 2009.
    """

    def __init__(
        self,
        model: Any,
        texts: Sequence[str],
        *,
        weight: float = PLAIN,
        cache: bool = True,
        depth: int = DEPTH,
    ) -> None:
        self.weight, self.depth = _checked(weight), depth
        self.dense, self.words = index_of(model, texts, cache=cache), BM25(texts)

    def lists(self, queries: Sequence[str], k: int, hidden: Hidden) -> list[np.ndarray]:
        """What the model and BM25 find, best first, each (queries, depth or k if that is more)."""
        depth = max(k, self.depth)
        return [side.search(queries, depth, hidden)[0] for side in (self.dense, self.words)]

    def search(self, queries: Sequence[str], k: int = 10, hidden: Hidden = None) -> Found:
        """(indices, scores), both (queries, min(k, documents)), best first; ties by lower index.

        Where fewer are found, the row ends with index -1, score -inf.
        """
        checked_k(k)
        dense, words = self.lists(queries, k, hidden)
        return fuse(dense, words, self.weight, k)


def fuse(dense: np.ndarray, words: np.ndarray, weight: float, k: int) -> Found:
    """Two lists of places, each (queries, n), best first, -1 for none: the k best of both fused."""
    both = np.concatenate([dense, words], axis=1)  # (queries, 2n)
    shares = ((weight, dense.shape[1]), (1 - weight, words.shape[1]))
    gains = np.concatenate([share / (CONSTANT + np.arange(1, n + 1)) for share, n in shares])
    gains = np.where(both >= 0, gains, 0.0)
    # by place: what both found stands twice, side by side, and the first takes the other's share
    order = np.argsort(both, axis=1, kind="stable")
    both, gains = (np.take_along_axis(values, order, axis=1) for values in (both, gains))
    twice = both[:, 1:] == both[:, :-1]
    second = gains[:, 1:] * twice
    gains[:, 1:] -= second
    gains[:, :-1] += second
    indices, scores = best_of(both, gains, min(k, dense.shape[1]))
    nothing = scores <= 0
    indices[nothing], scores[nothing] = -1, -np.inf
    return indices, scores


def _checked(weight: float) -> float:
    if not 0 <= weight <= 1:
        raise EmbkitError(f"weight={weight}", expected="0 to 1", hint=f"weight={PLAIN}")
    return weight
