"""Hard negatives: documents that look right and are not, found in a ranking and put to rules."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..data import Domain
from ..display import Table
from ..errors import EmbkitError, unknown
from ..recipes.checks import CHOICES
from ..search.passages import index_of
from .rules import OUT, OWN, Known, Pair, Sieve

SHOWN = 100  # characters of a text in the case of a rule
CrossEncoderScores = Callable[[list[tuple[str, str]]], Any]  # (query, document) -> scores


@dataclass(frozen=True, repr=False)
class Mined:
    """Negatives of each pair, their scores, and what every rule removed."""

    miner: str
    anchors: tuple[str, ...]  # the pairs' queries, as text
    positives: tuple[str, ...]  # the pairs' right documents, by id
    negatives: tuple[tuple[str, ...], ...]  # for each pair, n ids, best-ranked first
    scores: np.ndarray  # (pairs, n), the miner's scores of them; NaN where it gives none
    positive_scores: np.ndarray  # (pairs,), the miner's scores of the positives; NaN likewise
    candidates: int  # how many were looked at
    removed: dict[str, int]  # rule -> how many candidates it removed, in the order of the rules
    examples: dict[str, list[tuple[str, str, str]]]  # rule -> (query, right, removed), as text
    filled: int  # places that no candidate was left for, and a random document took
    corpus: Mapping[str, str]  # document id -> text

    def __len__(self) -> int:
        return len(self.anchors)

    def __repr__(self) -> str:
        width = self.scores.shape[1]
        gone = ", ".join(f"{rule} {n:,}" for rule, n in self.removed.items())
        return (
            f"Mined({self.miner}: {width} a pair for {len(self):,} pairs, from "
            f"{self.candidates:,} candidates; removed: {gone or 'none'}; filled {self.filled:,})"
        )

    def rules(self, caption: str = "") -> Table:
        """What each rule removed, its share of the candidates, and a case of it."""
        cells = []
        for rule, n in self.removed.items():
            some = [[text[:SHOWN] for text in case] for case in self.examples.get(rule, ())]
            such = "{} → {}: not {}".format(*some[0]) if some else ""
            cells.append([rule, f"{n:,}", f"{n / max(1, self.candidates):.1%}", such])
        return Table(["rule", "removed", "share", "such as"], cells, caption)

    def _repr_html_(self) -> str:
        texts, few = self.corpus, np.random.default_rng(0).permutation(len(self))[:5]
        rows = [(self.anchors[i], self.positives[i], self.negatives[i][0]) for i in few]
        triplets = [[anchor, texts[right], texts[wrong]] for anchor, right, wrong in rows]
        counted = self.rules(repr(self)).to_html()
        return counted + Table(["anchor", "positive", "negative"], triplets).to_html()


def mine(
    domain: Domain,
    pairs: Sequence[Pair],
    n: int = 1,
    *,
    miner: str = "dense",
    model: Any = "minilm",
    range_min: int = 0,
    range_max: int = 50,
    relative_margin: float | None = None,
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
    one; never an ancestor or descendant of one; never the query itself (``Domain.own``); the
    margin; the window; the reranker filter. The window and the margin mean what they mean in
    sentence-transformers' ``mine_hard_negatives``: it finds the same negatives under the same
    rules, prompts and routes. Where too few candidates are left, random documents that pass the
    first rules fill the places: every pair keeps n.

    Args:
        pairs: (query id, anchor, document id) rows, such as ``training_pairs(...).rows``.
        miner: ``dense`` (a model's ranking), ``bm25``, ``random``, or ``human`` (the domain's
            own: people marked them as looking right and being wrong).
        model: for ``dense``: a model, its name or folder, a function as in ``encode``, or
            ``ek.search.Passages`` of one.
        range_min, range_max: the window: which ranks are looked at among what is left.
        relative_margin: 0.05 keeps what is at most 95% as similar as the positive (positive-aware
            mining, NV-Retriever, https://arxiv.org/abs/2407.15831).
        reranker_filter: a cross-encoder's scores of (query, document) pairs; what scores at least
            as high as the positive is removed (as in RocketQA, https://arxiv.org/abs/2010.08191).
        sampling: ``top`` takes the best of the window, ``random`` any of it.
        hidden_positives: a control: the miner is not told what is right for this share of the
            anchors, as with labels that nobody made.
        known: rows that say what else is right; default: those of the training split.

    Fails for an unknown miner, an empty window, or more negatives than documents.
    """
    pairs = list(pairs)
    _check(pairs, n, miner, range_min, range_max, sampling)
    anchors = list(dict.fromkeys(anchor for _, anchor, _ in pairs))
    row_of = {anchor: row for row, anchor in enumerate(anchors)}
    rows = np.array([row_of[anchor] for _, anchor, _ in pairs])  # (pairs,)
    if known is None:
        known = [(query, domain.queries[query], d) for query, d in domain.right("train")]
    rules = Known(domain, [*pairs, *known], anchors, keep_relatives)
    depth = min(range_max + rules.most, len(domain.corpus))
    rng = np.random.default_rng(seed)
    found, scores, right = _candidates(domain, pairs, anchors, rows, miner, model, depth, rng)

    # what is right or related
    sieve = Sieve(scores)
    told = np.random.default_rng(seed).random(len(anchors)) >= hidden_positives
    for rule, wrong in rules.rules(np.arange(len(anchors)), found).items():
        sieve.remove(rule, wrong & (told | (rule == OWN))[:, None])
    # what scores too near the positive, or above it
    if relative_margin is not None:
        bound = _least(right, rows, len(anchors))[:, None]  # (anchors, 1)
        sieve.remove("relative margin", scores > bound - np.abs(bound) * relative_margin)
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


def _check(pairs, n, miner, range_min, range_max, sampling) -> None:
    for name, value in (("miner", miner), ("sampling", sampling)):
        if value not in CHOICES[name]:
            raise unknown(name, value, CHOICES[name])
    if not pairs:
        hint = "ek.training_pairs(...)"
        raise EmbkitError("no pairs to mine negatives for", expected="at least one", hint=hint)
    if n < 1 or range_min < 0 or range_max < range_min + n:
        raise EmbkitError(
            f"{n} negatives a pair from ranks {range_min} to {range_max}",
            expected="at least one negative, and a window that holds so many",
            hint=f"range_max={max(range_min, 0) + max(n, 1)} or more, or fewer negatives",
        )


def _candidates(
    domain: Domain, pairs: Sequence[Pair], anchors: list[str], rows, miner: str, model, depth, rng
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Documents and scores, both (anchors, depth), and the positives' scores, (pairs,)."""
    texts = list(domain.corpus.values())
    number = {document: i for i, document in enumerate(domain.corpus)}
    right = np.array([number[document] for _, _, document in pairs])
    if miner in ("dense", "bm25"):
        index = index_of("bm25" if miner == "bm25" else model, texts)
        found, scores = index.search(anchors, depth)
        return found, scores, index.pair_scores([anchors[r] for r in rows], right.tolist())
    if miner == "random":
        found = rng.integers(len(texts), size=(len(anchors), depth))
        scores = np.zeros(found.shape, np.float32)
        ordered = np.sort(found, axis=1)
        repeated = ordered[:, 1:] == ordered[:, :-1]
        for row in np.flatnonzero(repeated.any(axis=1)):
            found[row] = rng.permutation(len(texts))[:depth]
    else:  # what people marked
        found = np.zeros((len(anchors), depth), np.int64)
        scores = np.full(found.shape, OUT, np.float32)
        for (query, _, _), row in zip(pairs, rows, strict=True):
            marked = [number[d] for d in domain.negatives.get(query, ()) if d in number][:depth]
            found[row, : len(marked)], scores[row, : len(marked)] = marked, 0.0
    return found, scores, np.full(len(pairs), np.nan, np.float32)


def _least(right: np.ndarray, rows: np.ndarray, anchors: int) -> np.ndarray:
    """Each anchor's bound: the score of its least similar positive, infinity without any."""
    bound = np.full(anchors, np.inf)
    np.fmin.at(bound, rows, right)
    return bound


def _preferred(
    score: CrossEncoderScores, domain: Domain, anchors, pairs, rows, found, places, n: int
) -> np.ndarray:
    """Mask of what a cross-encoder scores as high as the positive; asked until n of a row pass."""
    texts = list(domain.corpus.values())
    right = np.asarray(score([(anchor, domain.corpus[d]) for _, anchor, d in pairs]), float)
    bound = _least(right, rows, len(anchors))
    better = np.zeros(found.shape, dtype=bool)
    waiting = dict(enumerate(places))
    short = dict.fromkeys(waiting, n)
    while asked := [(r, p) for r, order in waiting.items() for p in order[: short[r]]]:
        waiting = {r: order[short[r] :] for r, order in waiting.items() if short[r]}
        scores = np.asarray(score([(anchors[r], texts[found[r, p]]) for r, p in asked]), float)
        for (row, place), value in zip(asked, scores, strict=True):
            better[row, place] = value >= bound[row]
            short[row] -= not better[row, place]
    return better
