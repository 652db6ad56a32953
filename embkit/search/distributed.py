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

    Args:
        model: as ``encode`` takes it, the same in every process.
        texts: the same in every process.
        members: default: the processes launched together.
        options: of ``encode``.
    """
    members = members or team()
    mine = encode(model, list(texts)[members.part(len(texts))], **options) if texts else None
    parts = [part for part in members.gather(mine) if part is not None and len(part)]
    return np.concatenate(parts) if parts else np.empty((0, 0), np.float32)


class DenseAcross:
    """An index in parts: each process encodes, keeps and searches its own documents.

    Args:
        model: the same in every process.
        texts: all documents, the same in every process.
        members: default: the processes launched together.
        cache: whether embeddings are read from and kept on disk.
    """

    def __init__(
        self, model: Any, texts: Sequence[str], members: Team | None = None, *, cache: bool = True
    ) -> None:
        self.model, self.members, self.cache = model, members or team(), cache
        self.documents = len(texts)
        self._mine = self.members.part(len(texts))
        own = list(texts)[self._mine]
        self.vectors = encode_as(model, own, "document", cache=cache) if own else None

    def search(self, queries: Sequence[str], k: int = 10) -> tuple[np.ndarray, np.ndarray]:
        """(indices, scores), both (queries, min(k, documents)), the same in every process.

        Args:
            queries: the same in every process.
            k: how many; best first, ties by lower index.
        """
        asked = encode_as(self.model, list(queries), "query", cache=self.cache)
        return search_across(asked, self.vectors, self._mine.start, k, self.members)


def search_across(
    queries: Vectors, mine: Vectors | None, start: int, k: int, members: Team
) -> tuple[np.ndarray, np.ndarray]:
    """Exact search in documents that lie in parts: each process's best, merged.

    Args:
        queries: shape (queries, dim), the same in every process.
        mine: this process's documents, shape (own documents, dim); None without any.
        start: the place of its first document among all.
        k: how many.
        members: the processes.
    """
    if mine is None:
        found = (np.empty((len(queries), 0), np.int64), np.empty((len(queries), 0), np.float32))
    else:
        places, scores = exact_search(queries, mine, k)
        found = (places + start, scores)
    parts = members.gather(found)
    indices = np.concatenate([part[0] for part in parts], axis=1)  # (queries, ≤ k · processes)
    scores = np.concatenate([part[1] for part in parts], axis=1)
    return best_of(indices, scores, k)  # parts lie in order: ties hold
