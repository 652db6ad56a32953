"""Search in two tiers: a shortlist from small vectors in memory, ranked by whole ones on disk."""

import copy
from typing import Any, Self

import numpy as np
from sentence_transformers.util import truncate_embeddings
from sentence_transformers.util.quantization import quantize_embeddings

from ..data.domain import Hidden
from ..errors import unknown
from ..models.encoding import Vectors, unit
from .index import Found, best_of, exact_search, refused

EXACT, BINARY = "exact", "binary"
_BLOCK = 2**24  # numbers of the cold tier that are held at once


def truncate(vectors: Vectors, size: int) -> Vectors:
    """The first ``size`` of (n, dim) dimensions, float32, each row brought to length 1 again.

    Raises:
        EmbkitError: a size below 1 or beyond the vectors.

    Example:
        >>> truncate(np.float32([[3, 4, 12]]), 2).round(1).tolist()
        [[0.6000000238418579, 0.800000011920929]]
    """
    dim = vectors.shape[1]
    if not 1 <= size <= dim:
        raise refused("size", size=size, dim=dim, fits=min(64, max(1, dim // 2)))
    return unit(np.array(truncate_embeddings(vectors, size), np.float32))


class TieredIndex:
    """Vectors in two tiers; finds what exact search over the whole vectors would find, mostly.

    The hot tier holds every document's first ``size`` dimensions and gives a shortlist. The cold
    tier holds the whole vectors: a search reads the rows of its shortlist, and ranks them by their
    whole dot product.

    Args:
        cold: unit vectors, shape (documents, dim); of a file, ``np.load(file, mmap_mode="r")``.
        shortlist: documents a query that are read from the cold tier.
        index: the hot tier's form. ``"exact"``: float32, compared one by one; ``"binary"``: a
            bit a dimension, compared by Hamming distance.

    Raises:
        EmbkitError: a size beyond the vectors, a shortlist below 1, or an unknown index.

    The idea is adaptive retrieval of Kusupati et al. 2022, https://arxiv.org/abs/2205.13147;
    faiss: Douze et al. 2024, https://arxiv.org/abs/2401.08281.

    Example:
        >>> TieredIndex(np.eye(4, dtype=np.float32), size=2, shortlist=4).search(
        ...     np.float32([[0, 0, 0, 1]]), k=1)[0].tolist()
        [[3]]
    """

    def __init__(
        self, cold: Vectors, *, size: int = 64, shortlist: int = 200, index: str = EXACT
    ) -> None:
        if index not in (EXACT, BINARY):
            raise unknown("index", index, (EXACT, BINARY))
        small = truncate(cold, size)
        self.cold, self.size, self.index, self.shortlist = cold, size, index, _checked(shortlist)
        self._hot: Any = small if index == EXACT else _bits(small)

    def replace(self, *, shortlist: int) -> Self:
        """The same tiers, made once, with another shortlist."""
        other = copy.copy(self)
        other.shortlist = _checked(shortlist)
        return other

    @property
    def hot_bytes(self) -> int:
        """Bytes that the hot tier holds in memory."""
        hot = self._hot
        return hot.nbytes if self.index == EXACT else hot.ntotal * hot.code_size

    def search(self, queries: Vectors, k: int = 10, hidden: Hidden = None) -> Found:
        """The k best documents of the shortlist by their whole dot product: (indices, scores), both
        (queries, min(k, documents)), best first; ties by lower index.

        Queries are whole vectors, (queries, dim).

        Raises:
            EmbkitError: k below 1 or beyond the shortlist, or queries of another dimension.
        """
        k = min(k, len(self.cold))
        if k > self.shortlist:
            fits = max(10 * k, 100)
            raise refused("too_short", shortlist=self.shortlist, k=k, fits=fits)
        if k < 1 or queries.ndim != 2 or queries.shape[1] != self.cold.shape[1]:
            return exact_search(queries, self.cold[:1], k)  # says what is wrong
        own = np.array([-1] * len(queries) if hidden is None else hidden)[:, None]  # (queries, 1)
        indices = np.empty((len(queries), k), np.int64)
        scores = np.empty((len(queries), k), np.float32)
        found = self._candidates(queries, self.shortlist)  # (queries, shortlist)
        found = np.sort(found, axis=1)  # ties fall to the lower number, and the disk reads on
        rows = max(1, _BLOCK // max(1, found.shape[1] * queries.shape[1]))
        for top in range(0, len(queries), rows):
            part = slice(top, top + rows)
            vectors = np.asarray(self.cold)[found[part]].astype(np.float32, copy=False)
            asked = queries[part, :, None].astype(np.float32, copy=False)
            whole = (vectors @ asked)[:, :, 0]  # (queries, shortlist)
            whole[found[part] == own[part]] = -np.inf
            indices[part], scores[part] = best_of(found[part], whole, k)
        indices[np.isneginf(scores)] = -1
        return indices, scores

    def _candidates(self, queries: Vectors, many: int) -> np.ndarray:
        """The places of the hot tier's best, best first, (queries, many)."""
        small, many = truncate(queries, self.size), min(many, len(self.cold))
        if self.index == EXACT:
            return exact_search(small, self._hot, many)[0]
        return self._hot.search(quantize_embeddings(small, precision="ubinary"), many)[1]

    def recall(self, queries: Vectors, k: int = 10) -> float:
        """The share of exact search's k best that the two tiers find, on your queries."""
        exact, _ = exact_search(queries, self.cold, k)
        return overlap(self.search(queries, k)[0], exact)

    def shortlist_for_recall(
        self, queries: Vectors, k: int = 10, *, recall: float = 0.99, deepest: int = 2000
    ) -> int | None:
        """The shortest shortlist, k or more, with which recall reaches a figure over the queries
        given; None where even ``deepest`` does not do.

        Take queries that are not those to be measured later.
        """
        exact, _ = exact_search(queries, self.cold, k)
        found = self._candidates(queries, deepest)  # (queries, deepest)
        same = exact[:, :, None] == found[:, None, :]  # (queries, k, deepest)
        places = np.sort(np.where(same.any(2), same.argmax(2) + 1, deepest + 1), axis=None)
        if not len(places):
            return k
        least = int(places[int(np.ceil(recall * len(places) - 1e-9)) - 1])
        return None if least > deepest else max(k, least)

    def __repr__(self) -> str:
        return (
            f"TieredIndex({len(self.cold):,} documents: {self.size} dimensions as "
            f"{self.index!r} in {self.hot_bytes / 2**20:.1f} MB of memory, {self.cold.shape[1]} "
            f"in a cold tier of {self.cold.nbytes / 2**20:.1f} MB, shortlist {self.shortlist:,})"
        )


def _checked(shortlist: int) -> int:
    if shortlist < 1:
        raise refused("shortlist", shortlist=shortlist)
    return shortlist


def overlap(found: np.ndarray, wanted: np.ndarray) -> float:
    """The mean share of each row of ``wanted``, shape (queries, k), that ``found`` has, too."""
    if not wanted.size:
        return 1.0
    return float((wanted[:, :, None] == found[:, None, :]).any(axis=2).mean())


def _bits(vectors: Vectors) -> Any:
    """An index of faiss over the signs of vectors."""
    import faiss

    made = faiss.IndexBinaryFlat(8 * -(-vectors.shape[1] // 8))
    made.add(quantize_embeddings(vectors, precision="ubinary"))
    return made
