"""Hard negatives: documents that look right and are not, found in a ranking and put to rules."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..data import Domain
from ..display import Table
from ..errors import EmbkitError, unknown
from ..models.encoding import encode_as
from ..models.loading import as_model
from ..recipes.checks import CHOICES
from ..search.index import BM25, exact_search
from .rules import OUT, Known, Pair, Sieve

CrossEncoderScores = Callable[[list[tuple[str, str]]], Any]  # (query, document) -> scores


@dataclass(frozen=True, repr=False)
class Mined:
    """Negatives of each pair, their scores, and what every rule removed.

    Args:
        miner: what ranked the candidates.
        anchors: the pairs' queries, as text.
        positives: the pairs' right documents, by id.
        negatives: for each pair, n document ids, best-ranked first.
        scores: shape (pairs, n), the miner's scores of them; NaN where it gives none.
        positive_scores: shape (pairs,), the miner's scores of the positives; NaN likewise.
        candidates: how many were looked at.
        removed: rule -> how many candidates it removed, in the order of the rules.
        examples: rule -> a few (query, right document, removed document), as text.
        filled: places that no candidate was left for, and a random document took.
        corpus: document id -> text.
    """

    miner: str
    anchors: tuple[str, ...]
    positives: tuple[str, ...]
    negatives: tuple[tuple[str, ...], ...]
    scores: np.ndarray
    positive_scores: np.ndarray
    candidates: int
    removed: dict[str, int]
    examples: dict[str, list[tuple[str, str, str]]]
    filled: int
    corpus: Mapping[str, str]

    def __len__(self) -> int:
        return len(self.anchors)

    def triplets(self, n: int = 5, seed: int = 0) -> list[tuple[str, str, str]]:
        """A few (anchor, positive, hardest negative), as text."""
        texts, rows = self.corpus, np.random.default_rng(seed).permutation(len(self))[:n]
        return [
            (self.anchors[i], texts[self.positives[i]], texts[self.negatives[i][0]]) for i in rows
        ]

    def __repr__(self) -> str:
        width = len(self.negatives[0]) if self.negatives else 0
        gone = ", ".join(f"{rule} {n:,}" for rule, n in self.removed.items())
        return (
            f"Mined({self.miner}: {width} a pair for {len(self):,} pairs, from "
            f"{self.candidates:,} candidates; removed: {gone or 'none'}; filled {self.filled:,})"
        )

    def _repr_html_(self) -> str:
        rules = [
            [rule, f"{n:,}", f"{n / max(1, self.candidates):.1%}", self._example(rule)]
            for rule, n in self.removed.items()
        ]
        summary = (
            f"{self.miner}: {len(self):,} pairs, {self.candidates:,} candidates, "
            f"{self.filled:,} places filled at random"
        )
        return (
            Table(["rule", "removed", "share", "such as"], rules, summary).to_html()
            + Table(["anchor", "positive", "negative"], self.triplets()).to_html()
        )

    def _example(self, rule: str) -> str:
        found = self.examples.get(rule)
        return "{} → {}: not {}".format(*found[0]) if found else ""


def mine(
    domain: Domain,
    pairs: Sequence[Pair],
    n: int = 1,
    *,
    miner: str = "dense",
    model: Any = "minilm",
    range_min: int = 0,
    range_max: int = 50,
    absolute_margin: float | None = None,
    relative_margin: float | None = None,
    max_score: float | None = None,
    min_score: float | None = None,
    keep_relatives: bool = False,
    reranker_filter: CrossEncoderScores | None = None,
    sampling: str = "top",
    hidden_positives: float = 0.0,
    seed: int = 42,
    known: Sequence[Pair] | None = None,
) -> Mined:
    """Finds n hard negatives for every training pair.

    Candidates are the best-ranked documents of each anchor. In this order they are put to the
    rules: never a known positive of the same query text, nor a document with the same text as
    one; never an ancestor or descendant of one; the margins; the window; the reranker filter. The
    window and the margins mean what they mean in sentence-transformers' ``mine_hard_negatives``:
    it finds the same negatives under the same rules, prompts and routes. Where too few candidates
    are left, random documents that pass the first rules fill the places: every pair keeps n.

    Args:
        domain: whose corpus is searched, and whose tree says what is related.
        pairs: (query id, anchor, document id) rows, such as ``training_pairs(...).rows``.
        n: negatives a pair.
        miner: ``dense`` (a model's ranking), ``bm25``, ``random``, or ``human`` (the domain's
            own: people marked them as looking right and being wrong).
        model: for ``dense``: a model, its name or folder, or a function as in ``encode``.
        range_min: skip so many of the best candidates that are left.
        range_max: look no deeper than so many candidates that are left.
        absolute_margin: remove candidates that score above the positive's score less this.
        relative_margin: remove candidates that score above the positive's less this share of it
            (0.05 keeps what is at most 95% as similar: positive-aware mining, NV-Retriever,
            https://arxiv.org/abs/2407.15831).
        max_score: remove candidates that score above.
        min_score: remove candidates that score below.
        keep_relatives: keep ancestors and descendants of a positive.
        reranker_filter: a cross-encoder's scores of (query, document) pairs; a candidate that
            scores at least as high as the positive is removed (RocketQA's denoising, the positive
            as the bound, https://arxiv.org/abs/2010.08191).
        sampling: ``top`` takes the best of the window, ``random`` any of it.
        hidden_positives: a control: for this share of the anchors, the miner is not told what is
            right, as with labels that nobody made; it may then take the positive as a negative.
        seed: of the random choices.
        known: rows that say what else is right, whatever part is trained on; default: those of
            the domain's training split.

    Raises:
        EmbkitError: an unknown miner, an empty window, more negatives than documents.
    """
    pairs = list(pairs)
    _check(domain, pairs, n, miner, range_min, range_max, sampling)
    anchors = list(dict.fromkeys(anchor for _, anchor, _ in pairs))
    row_of = {anchor: row for row, anchor in enumerate(anchors)}
    rows = np.array([row_of[anchor] for _, anchor, _ in pairs])  # (pairs,)
    if known is None:
        known = [(query, domain.queries[query], d) for query, d in domain.right("train")]
    rules = Known(domain, pairs, row_of, keep_relatives, known)
    depth = min(range_max + rules.most, len(domain.corpus))
    rng = np.random.default_rng(seed)
    found, scores, right = _candidates(domain, pairs, anchors, rows, miner, model, depth, rng)

    # what is right or related
    sieve = Sieve(scores)
    told = np.random.default_rng(seed).random(len(anchors)) >= hidden_positives
    for rule, wrong in rules.rules(np.arange(len(anchors)), found).items():
        sieve.remove(rule, wrong & told[:, None])
    # margins and bounds
    bound = np.full(len(anchors), np.inf)
    np.fmin.at(bound, rows, right)  # with several positives, the least similar one is the bound
    bound = bound[:, None]  # (anchors, 1)
    if absolute_margin is not None:
        sieve.remove("absolute margin", scores + np.float32(absolute_margin) > bound)
    if relative_margin is not None:
        sieve.remove("relative margin", scores > bound - np.abs(bound) * relative_margin)
    if max_score is not None:
        sieve.remove("max score", scores > max_score)
    if min_score is not None:
        sieve.remove("min score", scores < min_score)
    # the window, and what a cross-encoder says of it
    places = sieve.window(range_min, range_max, rng if sampling == "random" else None)
    if reranker_filter is not None:
        better = _preferred(reranker_filter, domain, anchors, pairs, rows, found, places, n)
        sieve.remove("reranker filter", better)
        places = [[p for p in row if sieve.left[r, p]] for r, row in enumerate(places)]
    # the first n of each anchor, and random ones where there are fewer
    chosen = np.full((len(anchors), n), -1)
    chosen_scores = np.full((len(anchors), n), np.nan, np.float32)
    for row, order in enumerate(places):
        best = sorted(order[:n])  # ranks: the best-ranked negative comes first
        chosen[row, : len(best)] = found[row, best]
        chosen_scores[row, : len(best)] = scores[row, best]
    filled = rules.fill(chosen, rng)
    if miner in ("random", "human"):
        chosen_scores[:] = np.nan

    ids, corpus = rules.ids, domain.corpus
    return Mined(
        miner=miner,
        anchors=tuple(anchor for _, anchor, _ in pairs),
        positives=tuple(document for _, _, document in pairs),
        negatives=tuple(tuple(ids[d] for d in chosen[row]) for row in rows),
        scores=chosen_scores[rows],
        positive_scores=right,
        candidates=sieve.candidates,
        removed=sieve.removed,
        examples={
            rule: [(anchors[r], corpus[rules.first[r]], corpus[ids[found[r, p]]]) for r, p in some]
            for rule, some in sieve.examples.items()
        },
        filled=int(np.bincount(rows, minlength=len(anchors)) @ filled),
        corpus=corpus,
    )


def _check(domain, pairs, n, miner, range_min, range_max, sampling) -> None:
    for name, value in (("miner", miner), ("sampling", sampling)):
        if value not in CHOICES[name]:
            raise unknown(name, value, CHOICES[name])
    if not pairs:
        raise EmbkitError(
            "no pairs to mine negatives for", expected="at least one", hint="ek.training_pairs(...)"
        )
    if n < 1 or range_min < 0 or range_max < range_min + n:
        raise EmbkitError(
            f"{n} negatives a pair from ranks {range_min} to {range_max}",
            expected="at least one negative, and a window that holds so many",
            hint=f"range_max={max(range_min, 0) + max(n, 1)} or more, or fewer negatives",
        )
    if n >= len(domain.corpus):
        raise EmbkitError(
            f"{n} negatives a pair from a corpus of {len(domain.corpus)} documents",
            expected="fewer negatives than there are documents",
            hint=f"hard_negatives={max(1, len(domain.corpus) // 2)} or fewer",
        )


def _candidates(
    domain: Domain,
    pairs: Sequence[Pair],
    anchors: list[str],
    rows: np.ndarray,
    miner: str,
    model: Any,
    depth: int,
    rng: np.random.Generator,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Documents and scores, both (anchors, depth), and the positives' scores, (pairs,)."""
    texts = list(domain.corpus.values())
    number = {document: i for i, document in enumerate(domain.corpus)}
    right = np.array([number[document] for _, _, document in pairs])
    if miner == "dense":
        model = as_model(model)
        asked = encode_as(model, anchors, "query")
        documents = encode_as(model, texts, "document")
        found, scores = exact_search(asked, documents, depth)
        return found, scores, np.einsum("ij,ij->i", asked[rows], documents[right])
    if miner == "bm25":
        index = BM25(texts)
        found, scores = index.search(anchors, depth)
        return found, scores, index.pair_scores([anchors[r] for r in rows], right.tolist())
    nothing = np.full(len(pairs), np.nan, np.float32)
    if miner == "random":
        found = rng.integers(len(texts), size=(len(anchors), depth))
        scores = np.zeros(found.shape, np.float32)
        ordered = np.sort(found, axis=1)
        repeated = ordered[:, 1:] == ordered[:, :-1]
        for row in np.flatnonzero(repeated.any(axis=1)):
            found[row] = rng.permutation(len(texts))[:depth]
        return found, scores, nothing
    found = np.zeros((len(anchors), depth), np.int64)
    scores = np.full(found.shape, OUT, np.float32)
    for (query, _, _), row in zip(pairs, rows, strict=True):
        marked = [number[d] for d in domain.negatives.get(query, ()) if d in number][:depth]
        found[row, : len(marked)], scores[row, : len(marked)] = marked, 0.0
    return found, scores, nothing


def _preferred(
    score: CrossEncoderScores, domain: Domain, anchors, pairs, rows, found, places, n: int
) -> np.ndarray:
    """Mask of the candidates that a cross-encoder scores at least as high as the positive.

    No more of them are scored than it takes to have n that pass.
    """
    ids = list(domain.corpus)
    right = np.asarray(score([(anchor, domain.corpus[d]) for _, anchor, d in pairs]), float)
    bound = np.full(len(anchors), np.inf)
    np.minimum.at(bound, rows, right)
    better = np.zeros(found.shape, dtype=bool)
    waiting = {row: list(order) for row, order in enumerate(places)}
    short = dict.fromkeys(waiting, n)
    while asked := [(r, p) for r, order in waiting.items() for p in order[: short[r]]]:
        waiting = {r: order[short[r] :] for r, order in waiting.items() if short[r]}
        texts = [(anchors[r], domain.corpus[ids[found[r, p]]]) for r, p in asked]
        for (row, place), value in zip(asked, np.asarray(score(texts), float), strict=True):
            better[row, place] = value >= bound[row]
            short[row] -= not better[row, place]
    return better
