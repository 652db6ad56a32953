"""Encode, search exactly, search by words (BM25). A GPU compares and ranks where there is one."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from ..data.domain import Hidden
from ..data.text_checks import UNSPACED
from ..errors import refusals
from ..models.encoding import Vectors, encode_as, listed
from ..session import device, products

Found = tuple[np.ndarray, np.ndarray]  # indices and scores, both (queries, k)
refused = refusals(__file__)
_WIDTH = 65_536  # documents that are read at once
_FEW = 32  # queries: for fewer the documents are not carried to a GPU
_WORD = rf"[^\W{UNSPACED}]{{2,}}|[{UNSPACED}]"


def exact_search(
    queries: Vectors, documents: Vectors, k: int = 10, hidden: Hidden = None, *, block_mb: int = 256
) -> Found:
    """Exact search: the k documents with the largest dot product, in blocks of bounded memory.

    Args:
        queries: shape (queries, dim).
        documents: shape (documents, dim); a memory-mapped array will do.
        hidden: for each query a place that it must not see, -1 for none: ``Domain.hidden``.
        block_mb: the largest score block, in MB; on a GPU it is a quarter of its free memory.

    Returns:
        (indices, scores), both (queries, min(k, documents)), best first; ties by lower index.

    Raises:
        EmbkitError: k below 1, or different dimensions.
    """
    checked_k(k)
    if queries.ndim != 2 or documents.ndim != 2 or queries.shape[1] != documents.shape[1]:
        raise refused("shapes", queries=queries.shape, documents=documents.shape)
    blocks = _products(queries, documents, block_mb)
    return places_of(blocks, min(k, len(documents)), hidden=hidden)


def _products(queries: Vectors, documents: Vectors, block_mb: float = 256) -> Iterator[Any]:
    """The dot products of some queries with all documents, block by block, where they are made."""
    import torch

    on = device() if len(queries) > _FEW else "cpu"
    if not on.startswith("cuda"):
        on = "cpu"
    else:
        block_mb = torch.cuda.mem_get_info(on)[0] / 2**22
    height = max(1, int(block_mb * 2**20 / 4 / max(1, len(documents))))
    for top in range(0, len(queries), height):
        asked = queries[top : top + height]
        block = torch.empty((len(asked), len(documents)), device=on)
        for left in range(0, len(documents), _WIDTH):  # of a file, only a part is in memory
            part = slice(left, left + _WIDTH)
            block[:, part] = _product(asked, np.asarray(documents[part], np.float32), on)
        if not torch.isfinite(block).all():
            raise refused("numbers")
        yield block


def _product(asked: Vectors, shown: Vectors, on: str) -> Any:
    """Dot products in whole fp32: near documents differ by less than TF32 keeps."""
    import torch

    if on == "cpu":
        return torch.from_numpy(asked @ shown.T)
    with products("highest"):
        return torch.tensor(asked, device=on) @ torch.tensor(shown, device=on).T


def checked_k(k: int) -> None:
    """Fails for a k below 1."""
    if k < 1:
        raise refused("k", k=k)


def _best(block: Any, k: int) -> tuple[Any, Any]:
    """The k best of each row of a tensor, best first; of equal ones, those of lower index."""
    import torch

    if k < block.shape[1]:
        values, places = torch.topk(block, k + 1, dim=1)
        places = places[:, :k].sort(dim=1).values
        for row in (values[:, k - 1] == values[:, k]).nonzero()[:, 0].tolist():
            kth = values[row, k - 1]  # a tie at the border: the lower indices win
            above, level = (block[row] > kth).nonzero(), (block[row] == kth).nonzero()
            places[row] = torch.cat([above, level[: k - len(above)]])[:, 0].sort().values
    else:
        places = torch.arange(k, device=block.device).expand(len(block), k)
    scores, order = block.gather(1, places).sort(dim=1, descending=True, stable=True)
    return places.gather(1, order), scores


def best_of(indices: np.ndarray, scores: np.ndarray, k: int) -> Found:
    """The k best of each row, best first: (indices, scores); ties by place."""
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(indices, order, axis=1), np.take_along_axis(scores, order, axis=1)


def places_of(
    blocks: Iterable[Any], k: int, least: float = -np.inf, hidden: Hidden = None
) -> Found:
    """The k best places of every row of some blocks, best first; ties by lower index. What scores
    no more than ``least``, or is a row's hidden place, is not found: index -1, score -inf."""
    import torch

    found: list[Found] = [(np.empty((0, k), np.int64), np.empty((0, k), np.float32))]
    done = 0
    for block in blocks:
        block = torch.as_tensor(block)
        own = torch.tensor([] if hidden is None else hidden[done : done + len(block)]).long()
        own = own.to(block.device)
        block[(own >= 0).nonzero()[:, 0], own[own >= 0]] = -torch.inf
        places, scored = _best(block, k)
        found.append((places.cpu().numpy(), scored.cpu().numpy()))
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

    def search(self, queries: Sequence[str], k: int = 10, hidden: Hidden = None) -> Found:
        return exact_search(self._encode(queries, "query"), self._documents, k, hidden)

    def scores(self, queries: Sequence[str]) -> Iterator[np.ndarray]:
        blocks = _products(self._encode(queries, "query"), self._documents)
        return (block.cpu().numpy() for block in blocks)

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
            raise refused("wordless", texts=len(texts))
        self._index, self.size = bm25s.BM25(k1=1.5, b=0.75), len(tokens)
        self._index.index(tokens, show_progress=False)

    def scores(self, queries: Sequence[str]) -> Iterator[np.ndarray]:
        for words in self._tokens(listed(queries)) if queries else []:
            known = [word for word in words if word in self._index.vocab_dict]
            found = self._index.get_scores(known) if known else np.zeros(self.size)
            yield np.asarray(found, np.float32)[None]
