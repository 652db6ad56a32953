"""Encode, search exactly, search by words (BM25)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from ..data.domain import Hidden
from ..data.text_checks import UNSPACED
from ..errors import EmbkitError
from ..models.encoding import Vectors, encode_as, listed

Found = tuple[np.ndarray, np.ndarray]  # indices and scores, both (queries, k)
_WIDTH = 65_536  # documents that are read at once
_WORD = rf"[^\W{UNSPACED}]{{2,}}|[{UNSPACED}]"


def exact_search(
    queries: Vectors, documents: Vectors, k: int = 10, hidden: Hidden = None, *, block_mb: int = 256
) -> Found:
    """Exact search: the k documents with the largest dot product, in blocks of bounded memory.

    Args:
        queries: shape (queries, dim).
        documents: shape (documents, dim); a memory-mapped array will do.
        hidden: for each query a place that it must not see, -1 for none: ``Domain.hidden``.
        block_mb: the largest score block, in MB.

    Returns:
        (indices, scores), both (queries, min(k, documents)), best first; ties by lower index.

    Raises:
        EmbkitError: k below 1, or different dimensions.
    """
    checked_k(k)
    if queries.ndim != 2 or documents.ndim != 2 or queries.shape[1] != documents.shape[1]:
        raise EmbkitError(
            f"queries of shape {queries.shape} cannot be compared with documents of shape "
            f"{documents.shape}",
            expected="two arrays (n, dim) with the same dim",
            hint="encode both with the same model and the same truncation",
        )
    blocks = _products(queries, documents, block_mb)
    return places_of(blocks, min(k, len(documents)), hidden=hidden)


def _products(queries: Vectors, documents: Vectors, block_mb: float = 256) -> Iterator[np.ndarray]:
    """The dot products of some queries with all documents, block by block."""
    height = max(1, int(block_mb * 2**20 / 4 / max(1, len(documents))))
    for top in range(0, len(queries), height):
        asked = queries[top : top + height]
        block = np.empty((len(asked), len(documents)), np.float32)
        for left in range(0, len(documents), _WIDTH):  # of a file, only a part is in memory
            part = slice(left, left + _WIDTH)
            block[:, part] = asked @ np.asarray(documents[part], np.float32).T
        if not np.isfinite(block).all():
            raise EmbkitError(
                "a query or document vector holds NaN or infinity",
                expected="finite numbers",
                hint="ek.encode() refuses such vectors when they are made",
            )
        yield block


def checked_k(k: int) -> None:
    """Fails for a k below 1."""
    if k < 1:
        raise EmbkitError(f"k={k}", expected="k of 1 or more", hint="k=10")


def _among(block: np.ndarray, k: int) -> Found:
    """The k best of each row, by index; of equal ones, those of lower index."""
    if k < block.shape[1]:
        import torch

        values, places = torch.topk(torch.from_numpy(block), k + 1, dim=1)
        indices = np.sort(places[:, :k].numpy(), axis=1)
        for row in np.flatnonzero((values[:, k - 1] == values[:, k]).numpy()):
            kth = block[row, indices[row]].min()  # a tie at the border: the lower indices win
            above, level = np.flatnonzero(block[row] > kth), np.flatnonzero(block[row] == kth)
            indices[row] = np.sort(np.concatenate([above, level[: k - len(above)]]))
    else:
        indices = np.broadcast_to(np.arange(k), block.shape)
    return indices, np.take_along_axis(block, indices, axis=1)


def best_of(indices: np.ndarray, scores: np.ndarray, k: int) -> Found:
    """The k best of each row, best first: (indices, scores); ties by place."""
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(indices, order, axis=1), np.take_along_axis(scores, order, axis=1)


def places_of(
    blocks: Iterable[np.ndarray], k: int, least: float = -np.inf, hidden: Hidden = None
) -> Found:
    """The k best places of every row of some blocks, best first; ties by lower index. What scores
    no more than ``least``, or is a row's hidden place, is not found: index -1, score -inf."""
    found: list[Found] = [(np.empty((0, k), np.int64), np.empty((0, k), np.float32))]
    done = 0
    for block in blocks:
        own = np.array([] if hidden is None else hidden[done : done + len(block)], np.int64)
        block[np.flatnonzero(own >= 0), own[own >= 0]] = -np.inf
        found.append(best_of(*_among(block, k), k))
        done += len(block)
    indices, scores = (np.concatenate(each) for each in zip(*found, strict=True))
    nothing = scores <= least
    indices[nothing], scores[nothing] = -1, -np.inf
    return indices, scores


class Index:
    """Documents made ready for a search; each kind of search gives their ``scores``."""

    least = -np.inf  # what a document scores that is not found
    size: int  # documents

    def scores(self, queries: Sequence[str]) -> Iterator[np.ndarray]:
        """The scores of all documents, (some queries, documents), in blocks."""
        raise NotImplementedError

    def search(self, queries: Sequence[str], k: int = 10, hidden: Hidden = None) -> Found:
        """(indices, scores), both (queries, min(k, documents)), best first; ties by lower index.

        Where fewer are found, the row ends with index -1, score -inf.
        """
        checked_k(k)
        return places_of(self.scores(queries), min(k, self.size), self.least, hidden)

    def pair_scores(self, queries: Sequence[str], documents: Sequence[int]) -> np.ndarray:
        """The scores of (query, document) pairs, shape (pairs,)."""
        rows = (row for block in self.scores(queries) for row in block)
        return np.array([row[d] for row, d in zip(rows, documents, strict=True)], np.float32)


class Dense(Index):
    """Documents encoded once by one model, as ``encode_as`` does, and searched exactly.

    ``vectors`` are the documents', (documents, dim), where they are made in another way. One query
    alone, such as one that is typed, is not kept on disk.
    """

    def __init__(
        self,
        model: Any,
        texts: Sequence[str],
        *,
        cache: bool = True,
        vectors: Vectors | None = None,
    ) -> None:
        self._encode = lambda rows, kind: encode_as(
            model, rows, kind, cache=cache and (kind == "document" or len(rows) > 1)
        )
        self._documents = self._encode(texts, "document") if vectors is None else vectors
        self.size = len(self._documents)

    def scores(self, queries: Sequence[str]) -> Iterator[np.ndarray]:
        return _products(self._encode(queries, "query"), self._documents)

    def pair_scores(self, queries: Sequence[str], documents: Sequence[int]) -> np.ndarray:
        row = {query: i for i, query in enumerate(dict.fromkeys(queries))}  # kept by a search
        asked = self._encode(list(row), "query")[[row[query] for query in queries]]
        return np.einsum("ij,ij->i", asked, self._documents[np.asarray(documents)])


class BM25(Index):
    """Search by words: BM25 (bm25s, its Lucene variant), English stop words left out.

    A word has two letters or more; in scripts without spaces (Chinese, Japanese, Thai) each
    character is one. A document that shares no word with a query is not found: it scores 0.

    Example:
        >>> BM25(["iron deficiency anemia", "whooping cough"]).search(["iron"], k=1)[0].tolist()
        [[0]]
    """

    VERSION = 2  # of what is found; scores kept under another are counted anew
    least = 0.0

    def __init__(self, texts: Sequence[str]) -> None:
        import bm25s

        self._tokens = lambda rows: bm25s.tokenize(
            rows, token_pattern=_WORD, stopwords="en", show_progress=False, return_ids=False
        )
        tokens = self._tokens(listed(texts)) if len(texts) else []
        if not any(tokens):
            raise EmbkitError(
                f"BM25 of {len(texts)} texts without a single word to search by",
                expected="at least one text with a word that is no stop word",
                hint="ek.search.BM25(list(domain.corpus.values()))",
            )
        self._index, self.size = bm25s.BM25(k1=1.5, b=0.75), len(tokens)
        self._index.index(tokens, show_progress=False)

    def scores(self, queries: Sequence[str]) -> Iterator[np.ndarray]:
        for words in self._tokens(listed(queries)) if queries else []:
            known = [word for word in words if word in self._index.vocab_dict]
            found = self._index.get_scores(known) if known else np.zeros(self.size)
            yield np.asarray(found, np.float32)[None]
