"""Hard negatives: documents that look right and are not, found in a ranking and put to rules; and
which of them may be right answers nobody labelled."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..data.domain import Domain, right_documents
from ..display import Table
from ..errors import unknown
from ..evaluation.intervals import mean_interval
from ..recipes.checks import CHOICES
from ..search.passages import index_of
from .rules import OUT, OWN, Known, Pair, Sieve, refused

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
        raise refused("no pairs")
    if n < 1 or range_min < 0 or range_max < range_min + n:
        right = max(range_min, 0) + max(n, 1)
        raise refused("window", n=n, low=range_min, high=range_max, right=right)


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


@dataclass(frozen=True)
class Suspect:
    """A mined negative, and what speaks against its being one."""

    anchor: str
    positive: str
    negative: str
    positive_score: float  # the cross-encoder's
    negative_score: float
    reasons: tuple[str, ...]


@dataclass(frozen=True, repr=False)
class FalseNegatives:
    """Mined negatives, and how many a cross-encoder scores at least as high as the positive.

    It errs: ``false_alarms`` is how often it does so with documents that people marked as wrong.
    """

    sample: tuple[Suspect, ...]  # the negatives looked at, most suspect first
    suspected: float  # share of the sample that is suspect
    suspected_ci: tuple[float, float]  # its 95% interval
    false_alarms: float | None  # suspected share of what people marked; None where nobody did
    marked: int  # how many people marked

    def verdict(self) -> str:
        """The figures in a sentence."""
        low, high = self.suspected_ci
        said = f"of {len(self.sample):,} mined negatives the cross-encoder scores "
        said += f"{self.suspected:.0%} [{low:.0%}, {high:.0%}] at least as high as the positive"
        if self.false_alarms is not None:
            said += f"; but also {self.false_alarms:.0%} of the {self.marked:,} documents that "
            said += "people marked as wrong"
        return said

    def __repr__(self) -> str:
        return f"FalseNegatives({self.verdict()})"

    def _repr_html_(self) -> str:
        head = ["anchor", "positive", "mined negative", "positive's score", "negative's score"]
        cells = [
            [s.anchor, s.positive, s.negative]
            + [f"{s.positive_score:.1f}", f"{s.negative_score:.1f}", ", ".join(s.reasons)]
            for s in self.sample[:8]
        ]
        return Table([*head, "why it is suspect"], cells, self.verdict()).to_html()


def find_false_negatives(
    mined: Mined, domain: Domain, score: CrossEncoderScores, *, sample: int = 300
) -> FalseNegatives:
    """Scores ``sample`` mined negatives, and as many that people marked as wrong (the domain's
    ``negatives``), with a cross-encoder. ``mine(reranker_filter=score)`` leaves the suspects out.
    """
    places = [(row, d) for row, negatives in enumerate(mined.negatives) for d in negatives]
    if not places:
        raise refused("nothing mined")
    # (anchor, positive, negative): a sample of what was mined, and one of what people marked
    rng, corpus = np.random.default_rng(0), domain.corpus
    chosen = [places[i] for i in rng.permutation(len(places))[:sample]]
    asked = [(mined.anchors[r], mined.positives[r], d) for r, d in chosen]
    judged = [
        (domain.queries[query], next(right_documents(right)), wrong)
        for query, right in sorted(domain.split("train").items())
        for wrong in domain.negatives.get(query, ())
    ]
    judged = [judged[i] for i in rng.permutation(len(judged))[:sample]]
    # what the cross-encoder says of both
    rows = [*asked, *judged]
    texts = [(anchor, corpus[positive]) for anchor, positive, _ in rows]
    texts += [(anchor, corpus[negative]) for anchor, _, negative in rows]
    right, wrong = np.asarray(score(texts), dtype=float).reshape(2, len(rows))
    suspect = wrong >= right
    of_mined, of_marked = suspect[: len(asked)].astype(float), suspect[len(asked) :]
    # what else speaks for it
    marked = {domain.queries[q]: documents for q, documents in domain.negatives.items()}
    found = []
    for i, (anchor, positive, negative) in enumerate(asked):
        own, other = (set(corpus[d].casefold().split()) for d in (positive, negative))
        group = domain.groups.get(positive)
        told = {
            "the cross-encoder prefers it": suspect[i],
            "people marked it as wrong": negative in marked.get(anchor, ()),
            "same group as the positive": group and domain.groups.get(negative) == group,
            "one text holds all the other's words": own <= other or other <= own,
        }
        reasons = tuple(reason for reason, holds in told.items() if holds)
        scores = float(right[i]), float(wrong[i])
        found.append(Suspect(anchor, corpus[positive], corpus[negative], *scores, reasons))
    return FalseNegatives(
        sample=tuple(sorted(found, key=lambda s: s.positive_score - s.negative_score)),
        suspected=float(of_mined.mean()),
        suspected_ci=mean_interval(of_mined),
        false_alarms=float(of_marked.mean()) if len(of_marked) else None,
        marked=len(judged),
    )
