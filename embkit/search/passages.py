"""Long documents found by their passages: vectors lie on passages, labels on documents."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np

from ..data import passages
from ..data.domain import Hidden
from ..errors import EmbkitError
from ..models.loading import as_model
from ..models.window import offsets_of
from .index import BM25, Dense, Found, best_mean, places_of, without


@dataclass(frozen=True)
class Passages:
    """A model that searches passages and finds documents:
    ``ek.evaluate(ek.search.Passages("minilm", size=128), domain)``.

    A document scores what its best passage scores.

    Args:
        of: a Run, a model, its name, a function ``list[str] -> (texts, dim)``, or ``"bm25"``.
        size: word pieces of a passage at most, those counted with which a model begins and ends a
            text; of a function and of BM25 words and single marks.
        overlap: pieces that a passage shares with the one before it, below half of the size.
        headings: whether the headings above a passage stand before it.
        best: over how many of its best passages a document's score is the mean.
        late: vectors of a passage's words as a window of the whole document gives them, pooled over
            the passage (late chunking, https://arxiv.org/abs/2409.04701); for models that pool by
            the mean.
    """

    of: Any = "minilm"
    size: int = 128
    overlap: int = 0
    headings: bool = False
    best: int = 1
    late: bool = False

    def __post_init__(self) -> None:
        passages.cut([], self.size, self.overlap)  # fails for what does not fit
        if self.best < 1:
            raise EmbkitError(f"best={self.best}", expected="1 or more", hint="best=1")
        if self.late and (self.headings or self.overlap):
            raise EmbkitError(
                "late=True with headings or an overlap",
                expected="passages as they stand in the text, each word in one",
                hint="ek.search.Passages(model, size=128, late=True)",
            )

    @property
    def told(self) -> str:
        """How the documents are cut, in a few words."""
        said = f"passages of {self.size}" + (f", {self.overlap} shared" if self.overlap else "")
        said += ", headings" if self.headings else ""
        return said + (f", mean of {self.best}" if self.best > 1 else "") + ", late" * self.late

    def model(self) -> Passages:
        """The same with its model loaded: what ``as_model`` gives for it."""
        return replace(self, of=as_model(self.of))


class PassageIndex:
    """Documents cut into passages, which are encoded (or counted, for BM25) once, and searched."""

    def __init__(self, how: Passages, texts: Sequence[str], *, cache: bool = True) -> None:
        model = as_model(how.of)
        self._texts, self._how, words = list(texts), how, isinstance(model, str)
        offsets, added = (None, 0) if words else offsets_of(model)
        size = max(how.size - added, passages.LEAST)
        self.cut = passages.cut(
            self._texts, size, how.overlap, headings=how.headings, offsets=offsets
        )
        self._starts = np.cumsum([0, *(len(own) for own in self.cut[:-1])])
        own = [self._shown(d, p) for d, found in enumerate(self.cut) for p in range(len(found))]
        self._index: Any
        if words:
            self._index = BM25(own)
        elif how.late:
            self._index = Dense(
                model, own, cache=cache, vectors=_late(model, self._texts, self.cut)
            )
        else:
            self._index = Dense(model, own, cache=cache)

    def __len__(self) -> int:
        """How many passages there are: vectors of the index."""
        return sum(map(len, self.cut))

    def search(self, queries: Sequence[str], k: int = 10, hidden: Hidden = None) -> Found:
        """(indices, scores) of documents, (queries, min(k, documents)), best first; ties by lower
        index. Where fewer are found, the row ends with index -1, score -inf."""
        if hidden is not None:
            return without(hidden, partial(self.search, queries), k)
        return places_of(self.scores(queries), min(k, len(self._texts)), self._index.least)

    def scores(self, queries: Sequence[str]) -> Iterator[np.ndarray]:
        """The scores of all documents, (some queries, documents), in blocks."""
        for block in self._index.scores(queries):
            yield best_mean(block, self._starts, self._how.best)

    def pair_scores(self, queries: Sequence[str], documents: Sequence[int]) -> np.ndarray:
        """The scores of (query, document) pairs, shape (pairs,)."""
        rows = (row for block in self.scores(queries) for row in block)
        return np.array([row[d] for row, d in zip(rows, documents, strict=True)], np.float32)

    def matched(self, query: str, documents: Sequence[int]) -> list[str]:
        """The passage of each of these documents (their places) that scores best for a query."""
        (scores,) = (row for block in self._index.scores([query]) for row in block)
        found = []
        for d in documents:
            start = self._starts[d]
            found.append(self._shown(d, int(np.argmax(scores[start : start + len(self.cut[d])]))))
        return found

    def _shown(self, document: int, passage: int) -> str:
        text = self._texts[document]
        return self.cut[document][passage].of(text, self._how.headings) or text


def _late(model: Any, texts: list[str], cut: list[list[passages.Passage]]) -> np.ndarray:
    from ..models.late import late_vectors

    return late_vectors(model, texts, [[(p.start, p.end) for p in own] for own in cut])
