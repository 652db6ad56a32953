"""Long documents found by their passages: vectors lie on passages, labels on documents."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..data.passages import cut
from ..errors import EmbkitError
from ..models.loading import as_model
from ..models.window import cut_for, late_vectors
from ..recipes.views import Passages as Cut
from .index import BM25, Dense, Index


@dataclass(frozen=True)
class Passages:
    """A model that searches passages and finds documents:
    ``ek.evaluate(ek.search.Passages("minilm", size=128), domain)``.

    A document scores what its best passage scores, or the mean of its ``best`` best ones.

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
        cut([], self.size, self.overlap)  # fails for what does not fit
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
        said += ", headings" * self.headings + ", late" * self.late
        return said + (f", mean of {self.best}" if self.best > 1 else "")

    def model(self) -> Passages:
        """The same with its model loaded: what ``as_model`` gives for it."""
        return replace(self, of=as_model(self.of))


class PassageIndex(Index):
    """Documents cut into passages, which are encoded (or counted, for BM25) once, and searched."""

    def __init__(self, how: Passages, texts: Sequence[str], *, cache: bool = True) -> None:
        model = as_model(how.of)
        self._texts, self._how = list(texts), how
        self.cut = cut_for(model, self._texts, how.size, how.overlap, how.headings)
        self._starts = np.cumsum([0, *(len(own) for own in self.cut[:-1])])
        own = [self._shown(d, p) for d, found in enumerate(self.cut) for p in range(len(found))]
        spans = [[passage[:2] for passage in found] for found in self.cut]
        vectors = late_vectors(model, self._texts, spans) if how.late else None
        words = isinstance(model, str)
        self._index = BM25(own) if words else Dense(model, own, cache=cache, vectors=vectors)
        self.size, self.least = len(self._texts), self._index.least

    def __len__(self) -> int:
        """How many passages there are: vectors of the index."""
        return sum(map(len, self.cut))

    def scores(self, queries: Sequence[str]) -> Iterator[np.ndarray]:
        for block in self._index.scores(queries):
            yield best_mean(block, self._starts, self._how.best)

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


def best_mean(scores: np.ndarray, starts: np.ndarray, n: int = 1) -> np.ndarray:
    """Scores of passages, (queries, passages), as those of their documents: each the mean of its n
    best, or of all where it has fewer. ``starts``: where each document's passages begin.
    """
    if n == 1:
        return np.maximum.reduceat(scores, starts, axis=1)
    parts = np.split(scores, starts[1:], axis=1)
    return np.stack([np.sort(part, axis=1)[:, -n:].mean(axis=1) for part in parts], axis=1)


def matching(index: Any, query: str, texts: Sequence[str], places: Sequence[int]) -> list[str]:
    """The texts at some places; of what an index has cut, the passage that matches best."""
    index = getattr(index, "dense", index)  # of a fusion
    cut_up = isinstance(index, PassageIndex)
    return index.matched(query, places) if cut_up else [texts[place] for place in places]


def cut_by(part: Cut, model: Any) -> Any:
    """A model as ``Passages`` of it where a recipe's part says how documents are cut; else as it
    is."""
    return Passages(model, part.size, part.overlap, part.headings) if part.size else model


def by_recipe(what: Any) -> Any:
    """A Run whose recipe cuts documents, as ``Passages`` of it; anything else as it is."""
    part = getattr(getattr(what, "recipe", None), "passages", None)
    return cut_by(part, what) if part else what


def index_of(
    model: Any, texts: Sequence[str], *, cache: bool = True
) -> BM25 | Dense | PassageIndex:
    """Documents made ready for a search by what ``as_model`` takes, or by ``Passages`` of it; for a
    Run whose recipe cuts documents, by their passages."""
    model = as_model(by_recipe(model))
    if isinstance(model, str):
        return BM25(texts)
    return (PassageIndex if isinstance(model, Passages) else Dense)(model, texts, cache=cache)
