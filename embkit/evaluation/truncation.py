"""evaluate_sizes(model, domain, sizes) -> DimensionScores: what truncated vectors are worth."""

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

from ..data import Domain
from ..display import Shown, Table
from ..models.encoding import encode_as
from ..models.loading import as_model
from ..recipes.settings import matryoshka_sizes
from ..runs import Run, key_of, store
from ..search.hybrid import as_fusion
from ..search.index import exact_search
from ..search.passages import Passages, by_recipe
from ..search.tiered import truncate
from .metrics import ranking_from_arrays, refused
from .ranking import DEPTH, evaluate, score
from .report import with_interval
from .scores import Scores


class UntrainedDimension(UserWarning):
    """A size was asked of a model that was not trained for it; says what that costs."""


@dataclass(frozen=True, eq=False, repr=False)
class DimensionScores(Shown):
    """Scores of one model at several sizes of its vectors."""

    scores: dict[int, Scores]  # by size, the whole size first
    trained: tuple[int, ...]  # the sizes that training held the model to, the whole one among them

    @property
    def whole(self) -> int:
        """The largest size: the model's own."""
        return max(self.scores)

    @property
    def untrained(self) -> tuple[int, ...]:
        """The sizes that the model was not trained for."""
        return tuple(size for size in self.scores if size not in self.trained)

    def kept(self, size: int, split: str) -> float:
        """The share of the whole size's nDCG@10 that a size keeps; NaN of nothing."""
        whole = self.scores[self.whole].mean(split)
        return self.scores[size].mean(split) / whole if whole else math.nan

    def band(self, split: str) -> tuple[list[float], list[float], list[float]]:
        """nDCG@10 at each size, and the ends of its intervals: a series of ``plots.lines``."""
        rows = [(scores.mean(split), *scores.ci(split)) for scores in self.scores.values()]
        means, low, high = map(list, zip(*rows, strict=True))
        return means, low, high

    @property
    def notes(self) -> list[str]:
        """One sentence for each size that was not trained for, with what it loses."""
        told, whole = [], self.scores[self.whole]
        for size in self.untrained:
            changes = []
            for split in whole.per_query:
                change = fmean(whole.change(self.scores[size], split))
                changes.append(f"{change:+.3f} on {split!r} ({self.kept(size, split):.0%} kept)")
            at = f"{whole.label!r} at {size} of {self.whole} dimensions"
            told.append(f"{at}: not trained for, nDCG@10 {', '.join(changes)}")
        return told

    def table(self) -> Table:
        """nDCG@10 with its interval, and the share kept, of each size on each split."""
        splits = self.scores[self.whole].per_query
        head = ["dimensions", *(name for split in splits for name in (split, "kept"))]
        cells: list[list[str]] = []
        for size, scores in self.scores.items():
            cells.append([f"{size}{'' if size in self.trained else ' *'}"])
            for split in scores.per_query:
                cells[-1].append(with_interval(scores.mean(split), scores.ci(split), ".3f"))
                cells[-1].append(f"{self.kept(size, split):.1%}")
        note = "nDCG@10 with 95% intervals, and the share of the whole size's"
        note += "; * not trained for" if self.untrained else ""
        return Table(head, cells, f"{self.scores[self.whole].label!r}: {note}")

    def __repr__(self) -> str:
        return "\n".join([self.table().to_text(), *self.notes])


def evaluate_sizes(
    what: Any, domain: Domain, sizes: Sequence[int] | None = None, *, save: bool = True
) -> DimensionScores:
    """Scores a model with its vectors truncated to several sizes; the corpus is encoded once.

    Args:
        what: a Run, a model's name or folder, a SentenceTransformer, or any function
            ``list[str] -> (texts, dim)``.
        sizes: in any order; the whole size is scored beside them.
            Default: those that the run was trained for, else halves down to an eighth.
        save: whether the leaderboard keeps the sizes that the model was trained for.

    Fails for a size beyond the model, and for ``"bm25"``, which has none; warns
    (``UntrainedDimension``) of each size that the model was not trained for, with what it loses.
    Matryoshka representation learning: Kusupati et al. 2022, https://arxiv.org/abs/2205.13147
    """
    if as_fusion(what) or isinstance(by_recipe(what), Passages) or what == "bm25":
        raise refused("no vectors", what=what)
    base = evaluate(what, domain, save=save)
    model = as_model(what)
    documents = encode_as(model, list(domain.corpus.values()), "document")  # (documents, dim)
    asked = {
        split: encode_as(model, [domain.queries[q] for q in domain.split(split)], "query")
        for split in base.per_query
    }
    dim = documents.shape[1]
    learnt = matryoshka_sizes(what.recipe.matryoshka, dim) if isinstance(what, Run) else ()
    sizes = learnt or None if sizes is None else sizes
    scores = {dim: base}
    # search and score with the first numbers of each vector
    halves = {dim // 2, dim // 4, dim // 8} - {0}
    for size in sorted({*(halves if sizes is None else sizes)} - {dim}, reverse=True):
        small, per_query = truncate(documents, size), {}
        for split, queries in asked.items():
            ids = list(domain.split(split)), list(domain.corpus)
            found = exact_search(truncate(queries, size), small, DEPTH, domain.hidden(*ids))
            ranking = ranking_from_arrays(*ids, *found)
            per_query[split] = score(ranking, domain, split)
        name = f"{base.label}, truncated to {size}"
        meta = base.meta | {"dim": size, "label": name}
        scores[size] = replace(base, approach=name, per_query=per_query, meta=meta)
    # the leaderboard keeps what was trained for
    if save and isinstance(what, Run):
        kept = store(domain)
        for size in scores.keys() & set(learnt) - {dim}:
            scores[size].save(kept / f"{key_of(what.path, kept.name)}-{size}" / "scores.json")
    sized = DimensionScores(scores, tuple(sorted({dim, *learnt}, reverse=True)))
    for note in sized.notes:
        warnings.warn(note, UntrainedDimension, stacklevel=2)
    return sized
