"""The space of two models of the same documents: aligned, drawn once for both, measured.

Maps that were fitted apart cannot be compared: one map is fitted to both sets of vectors. Before
that the second model's space is rotated onto the first's (orthogonal Procrustes), which changes no
similarity within it; so what did not change lies at the same place on both sides.
"""

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd

from ..data.domain import Domain, Hidden, right_documents
from ..errors import unknown
from ..models.encoding import Vectors, encode_as
from ..models.loading import as_model
from ..search.index import BM25, exact_search
from . import geometry
from .geometry import refused
from .maps import Map, project

COLOURS = ("group", "found", "drift")
CLASSES = 10  # colours that can be told apart
MEASURES = ("alignment", "uniformity", "anisotropy", "effective rank", "hubness", "separation")
HIGHER = ("effective rank", "separation")  # where that is better


@dataclass(frozen=True, eq=False, repr=False)
class Space:
    """Two models' vectors of one domain's documents, and the map of them."""

    domain: Domain
    names: tuple[str, str]
    models: tuple[Any, Any]  # as ``encode`` takes them
    before: Vectors  # unit vectors of the documents, (documents, dim)
    after: Vectors  # the same of the second model, rotated onto ``before``
    rotation: np.ndarray  # what rotated them, (dim, dim)
    map: Map
    k: int = 15  # neighbours that measures look at

    @cached_property
    def ids(self) -> list[str]:
        """The documents' ids, in the order of all arrays."""
        return list(self.domain.corpus)

    @cached_property
    def _places(self) -> dict[str, int]:
        return {document: place for place, document in enumerate(self.ids)}

    @cached_property
    def near(self) -> tuple[np.ndarray, np.ndarray]:
        """Each document's k nearest others, before and after, shape (documents, k) each."""
        return geometry.neighbours(self.before, self.k), geometry.neighbours(self.after, self.k)

    @cached_property
    def drift(self) -> np.ndarray:
        """How far each document moved, 1 - cosine, shape (documents,)."""
        return 1.0 - (self.before * self.after).sum(axis=1)

    @cached_property
    def overlap(self) -> np.ndarray:
        """How much of each document's neighbourhood stayed (Jaccard), shape (documents,)."""
        return geometry.neighbour_overlap(*self.near)

    def queries(self, split: str) -> tuple[Vectors, Vectors]:
        """Unit vectors of a split's queries, before and after (rotated), in the split's order."""
        return self.encode([self.domain.queries[q] for q in self.domain.split(split)])

    def _sides(self, split: str) -> list[tuple[Vectors, Vectors]]:
        """The vectors of a split's queries and of the documents, before and after."""
        return list(zip(self.queries(split), (self.before, self.after), strict=True))

    def encode(self, texts: Sequence[str], *, cache: bool = True) -> tuple[Vectors, Vectors]:
        """Unit vectors of texts as queries, before and after (rotated), (texts, dim) each."""
        first, second = (encode_as(m, texts, "query", cache=cache) for m in self.models)
        dim = self.before.shape[1]
        return _padded(first, dim), _padded(second, dim) @ self.rotation

    def place(self, query: str, k: int = 5) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]:
        """Where a query falls, before and after, with the documents that it finds.

        A query was not there when the map was fitted: it is drawn at the mean place of the k
        documents it finds, each weighing its similarity above the next one's. Gives the places,
        shape (2, 2), a row before and one after; and the documents' numbers, best first.
        """
        asked, places, lists = self.encode([query], cache=False), [], []
        sides = (self.before, self.after), (self.map.before, self.map.after)
        for vector, documents, points in zip(asked, *sides, strict=True):
            found, scores = exact_search(vector, documents, k + 1)
            weights = np.maximum(scores[0] - scores[0, -1], 1e-6)[:k]
            lists.append(found[0, :k])
            places.append(np.average(points[lists[-1]], axis=0, weights=weights))
        return np.array(places), (lists[0], lists[1])

    def _right(self, split: str) -> list[list[int]]:
        """For each query of a split the numbers of its right documents."""
        judged = self.domain.split(split).values()
        return [[self._places[d] for d in right_documents(row)] for row in judged]

    def _hidden(self, split: str) -> Hidden:
        return self.domain.hidden(self.domain.split(split), self.domain.corpus)

    def similarities(self, split: str) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Similarities of a split's queries to a right and to a hard wrong document.

        The wrong one is the best that BM25 finds: neither model chose it, so that neither is
        evaluated on its own mistakes. Where it finds none, one is drawn at random. Of several
        right documents the nearest counts. Each of both kinds comes (before, after).
        """
        right = self._right(split)
        asked = [self.domain.queries[q] for q in self.domain.split(split)]
        words, hidden = BM25(list(self.domain.corpus.values())), self._hidden(split)
        ranked, _ = words.search(asked, max(map(len, right)) + 1, hidden)
        draw = np.random.default_rng(0)
        wrong = []
        for row, known in zip(ranked, right, strict=True):
            others = [d for d in row if d >= 0 and d not in known]
            others = others or [d for d in draw.permutation(len(self.ids)) if d not in known]
            wrong.append(others[0])
        found = []
        for queries, documents in self._sides(split):
            best = [(documents[r] @ q).max() for q, r in zip(queries, right, strict=True)]
            found.append((np.array(best), (queries * documents[wrong]).sum(axis=1)))
        before, after = found
        return {"right": (before[0], after[0]), "wrong": (before[1], after[1])}

    def measures(self, split: str | None = None) -> pd.DataFrame:
        """The measures of ``geometry`` and ``separation``, a column a model, and which way is
        better; queries are those of a split.

        Separation is how often a right document's similarity is above a hard wrong one's, over all
        pairs (the area under the ROC): 0.5 tells nothing apart.
        """
        from sklearn.metrics import roc_auc_score

        split = split or self.domain.test_splits[0]
        right = self._right(split)
        rows = np.repeat(np.arange(len(right)), list(map(len, right)))
        documents = np.concatenate(right).astype(int)
        similar, values = self.similarities(split), {}
        kinds = np.repeat([1, 0], len(right))
        for side, (asked, vectors) in enumerate(self._sides(split)):
            cosines = np.concatenate([similar["right"][side], similar["wrong"][side]])
            values[self.names[side]] = (
                geometry.alignment(asked[rows], vectors[documents]),
                geometry.uniformity(vectors),
                geometry.anisotropy(vectors),
                geometry.effective_rank(vectors),
                geometry.hubness(self.near[side]),
                float(roc_auc_score(kinds, cosines)),
            )
        index = pd.Index(MEASURES, name=f"queries of {split}")
        better = np.where(index.isin(HIGHER), "higher", "lower")
        return pd.DataFrame(values, index=index).assign(better=better)

    def colours(self, by: str = "group") -> np.ndarray:
        """What each document is coloured by: strings for classes, numbers for amounts.

        ``group``: the domain's groups, coarsened to ten at most. ``found``: whether a test query's
        first ten hold it, by which model; taken for groups, too, where the domain has none.
        ``drift``: how far it moved.
        """
        if by not in COLOURS:
            raise unknown("colour", by, COLOURS)
        if by == "drift":
            return self.drift
        groups = [self.domain.groups.get(d, "") for d in self.ids]
        return self._found() if by == "found" or len({*groups}) < 2 else np.array(coarse(groups))

    def _found(self) -> np.ndarray:
        """Of each document that a test query asks for: which model's first ten hold it."""
        hits = np.zeros((2, len(self.ids)), dtype=bool)
        asked = np.zeros(len(self.ids), dtype=bool)
        for split in self.domain.test_splits:
            right = self._right(split)
            asked[[d for row in right for d in row]] = True
            for side, (queries, documents) in enumerate(self._sides(split)):
                ranked, _ = exact_search(queries, documents, 10, self._hidden(split))
                for row, known in zip(ranked, right, strict=True):
                    hits[side, np.intersect1d(row, known)] = True
        words = np.array(["neither", "before only", "after only", "both"])
        return np.where(asked, words[hits[0] + 2 * hits[1]], "not asked")

    def __repr__(self) -> str:
        before, after = self.names
        return f"Space({before!r} and {after!r}, {len(self.ids):,} documents; {self.map!r})"


def fit_space(
    before: Any, after: Any, domain: Domain, *, method: str = "umap", k: int = 15
) -> Space:
    """Two models' vectors of a domain's documents, aligned, with one map fitted to both.

    Args:
        before, after: each a model's name or folder, a Run, a SentenceTransformer, or a function.
        method: of the map, ``umap`` or ``pca``.
        k: neighbours, of UMAP and of the measures.

    Fails for fewer documents than neighbours, a run on another domain, an unknown method.
    """
    from scipy.linalg import orthogonal_procrustes

    (first, name), (second, other) = _named(before, domain), _named(after, domain)
    texts = list(domain.corpus.values())
    geometry.checked_k(k, len(texts), (len(texts) - 1) // 2)
    a, b = (encode_as(model, texts, "document") for model in (first, second))
    dim = max(a.shape[1], b.shape[1])
    a, b = _padded(a, dim), _padded(b, dim)
    rotation = orthogonal_procrustes(b.astype(float), a.astype(float))[0].astype(np.float32)
    b = b @ rotation
    if name == other:
        name, other = f"{name}, before", f"{other}, after"
    return Space(
        domain, (name, other), (first, second), a, b, rotation, project(a, b, method, k=k), k
    )


def coarse(groups: Sequence[str], most: int = CLASSES) -> list[str]:
    """Group names made few: their first letters where these do, else the largest and ``other``."""
    if len(set(groups)) <= most:
        return [group or "none" for group in groups]
    letters = [group[:1] or "none" for group in groups]
    if 2 <= len(set(letters)) <= most:
        return letters
    largest = {group for group, _ in Counter(groups).most_common(most - 1) if group}
    return [group if group in largest else "other" for group in groups]


def _named(what: Any, domain: Domain) -> tuple[Any, str]:
    """A model and its name."""
    record = getattr(what, "record", None) or {}
    if record.get("domain_hash", domain.hash) != domain.hash:
        raise refused("another domain", own=record["domain"], domain=domain)
    if isinstance(what, str | os.PathLike):
        return as_model(what), "base" if what == "minilm" else str(what)
    return as_model(what), getattr(what, "label", type(what).__name__)


def _padded(vectors: Vectors, dim: int) -> Vectors:
    """Zeros behind shorter vectors: a space of fewer dimensions lies within a larger one."""
    return np.pad(vectors, ((0, 0), (0, dim - vectors.shape[1])))
