"""Encoding and exact search over several processes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..distributed import Team, team
from ..models.encoding import encode, encode_as
from ..models.vectors import Vectors
from .index import best_of, exact_search


def encode_across(
    model: Any, texts: Sequence[str], members: Team | None = None, **options: Any
) -> Vectors:
    """Unit vectors of texts, (texts, dim): each process encodes its part, every one gets all.

    Model and texts, as ``encode`` takes them, are the same in every process.

    Args:
        members: default: the processes launched together.
        options: of ``encode``.
    """
    members = members or team()
    mine = encode(model, list(texts)[members.part(len(texts))], **options) if texts else None
    parts = [part for part in members.gather(mine) if part is not None and len(part)]
    return np.concatenate(parts) if parts else np.empty((0, 0), np.float32)


class DenseAcross:
    """An index in parts: each process encodes, keeps and searches its own documents.

    Model, texts and queries are the same in every process.

    Args:
        members: default: the processes launched together.
        cache: whether embeddings are read from and kept on disk.
    """

    def __init__(
        self, model: Any, texts: Sequence[str], members: Team | None = None, *, cache: bool = True
    ) -> None:
        self.model, self.members, self.cache = model, members or team(), cache
        self._mine = self.members.part(len(texts))
        own = list(texts)[self._mine]
        self.vectors = encode_as(model, own, "document", cache=cache) if own else None

    def search(self, queries: Sequence[str], k: int = 10) -> tuple[np.ndarray, np.ndarray]:
        """(indices, scores), both (queries, min(k, documents)), the same in every process; best
        first, ties by lower index."""
        asked = encode_as(self.model, list(queries), "query", cache=self.cache)
        own = np.empty((0, asked.shape[1])) if self.vectors is None else self.vectors
        places, found = exact_search(asked, own, k)
        parts = self.members.gather((places + self._mine.start, found))
        # (queries, ≤ k · processes): parts lie in order, so that ties hold
        indices, scores = (np.concatenate(each, axis=1) for each in zip(*parts, strict=True))
        return best_of(indices, scores, k)
