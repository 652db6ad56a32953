"""Hard negatives: documents that look right and are not, found in a ranking and put to rules."""

from __future__ import annotations

import html
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..data.domain import Domain, normalise
from ..errors import EmbkitError, unknown
from ..models.encoding import encode
from ..recipes.checks import CHOICES
from ..search.index import BM25, exact_search

Pair = tuple[str, str, str]  # query id, anchor text, document id
OUT = -np.inf  # the score of a candidate that a rule removed
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
        rows = np.random.default_rng(seed).permutation(len(self))[:n]
        return [
            (
                self.anchors[i],
                self.corpus[self.positives[i]],
                self.corpus[self.negatives[i][0]],
            )
            for i in rows
        ]

    def __repr__(self) -> str:
        width = len(self.negatives[0]) if self.negatives else 0
        gone = ", ".join(f"{rule} {n:,}" for rule, n in self.removed.items())
        return (
            f"Mined({self.miner}: {width} a pair for {len(self):,} pairs, from "
            f"{self.candidates:,} candidates; removed: {gone or 'none'}; filled {self.filled:,})"
        )

    def _repr_html_(self) -> str:
        rules = "".join(
            f"<tr><td style='text-align:left'>{html.escape(rule)}</td><td>{n:,}</td>"
            f"<td>{n / max(1, self.candidates):.1%}</td>"
            f"<td style='text-align:left'>{_example(self.examples.get(rule))}</td></tr>"
            for rule, n in self.removed.items()
        )
        rows = "".join(
            "<tr>"
            + "".join(f"<td style='text-align:left'>{html.escape(t)}</td>" for t in row)
            + "</tr>"
            for row in self.triplets()
        )
        return (
            f"<p><b>{html.escape(self.miner)}</b>: {len(self):,} pairs, {self.candidates:,} "
            f"candidates, {self.filled:,} places filled at random</p>"
            "<table><tr><th>rule</th><th>removed</th><th>share</th><th>such as</th></tr>"
            f"{rules}</table><table><tr><th>anchor</th><th>positive</th><th>negative</th></tr>"
            f"{rows}</table>"
        )


def _example(found: list[tuple[str, str, str]] | None) -> str:
    if not found:
        return ""
    query, right, gone = found[0]
    return html.escape(f"{query} → {right}: not {gone}")


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
) -> Mined:
    """Finds n hard negatives for every training pair.

    Candidates are the best-ranked documents of each anchor. In this order they are put to the
    rules: never a known positive of the same query text, nor a document with the same text as
    one; never an ancestor or descendant of one; the margins; the window; the veto. The window
    and the margins mean what they mean in sentence-transformers' ``mine_hard_negatives``, which
    finds the same negatives under the same rules. Where too few candidates are left, random
    documents that pass the first two rules fill the places, so that every pair keeps n.

    Args:
        domain: whose corpus is searched, and whose tree says who is kin.
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

    Raises:
        EmbkitError: an unknown miner, an empty window, more negatives than documents.

    Example:
        >>> mine(domain, ek.training_pairs(recipe, domain).rows, n=2)  # doctest: +SKIP
    """
    pairs = list(pairs)
    _check(domain, pairs, n, miner, range_min, range_max, sampling)
    anchors = list(dict.fromkeys(anchor for _, anchor, _ in pairs))
    row_of = {anchor: row for row, anchor in enumerate(anchors)}
    rows = np.array([row_of[anchor] for _, anchor, _ in pairs])
    known = _Known(domain, pairs, row_of)
    depth = min(range_max + known.most, len(domain.corpus))
    rng = np.random.default_rng(seed)
    found, scores, right = _candidates(domain, pairs, anchors, rows, miner, model, depth, rng)

    sieve = _Sieve(found, scores)
    told = np.random.default_rng(seed).random(len(anchors)) >= hidden_positives
    for rule, wrong in known.rules(np.arange(len(anchors)), found, keep_relatives).items():
        sieve.remove(rule, wrong & told[:, None])
    bound = np.full(len(anchors), np.inf)
    np.fmin.at(bound, rows, right)  # with several positives, the least similar one is the bound
    bound = bound[:, None]
    if absolute_margin is not None:
        sieve.remove("absolute margin", scores + np.float32(absolute_margin) > bound)
    if relative_margin is not None:
        sieve.remove("relative margin", scores > bound - np.abs(bound) * relative_margin)
    if max_score is not None:
        sieve.remove("max score", scores > max_score)
    if min_score is not None:
        sieve.remove("min score", scores < min_score)
    places = sieve.window(range_min, range_max, rng if sampling == "random" else None)
    if reranker_filter is not None:
        vetoed = _vetoed(reranker_filter, domain, anchors, pairs, rows, found, places, n)
        sieve.remove("cross-encoder veto", vetoed)
        places = [[p for p in row if sieve.left[r, p]] for r, row in enumerate(places)]

    ids = known.ids
    chosen = np.full((len(anchors), n), -1)
    chosen_scores = np.full((len(anchors), n), np.nan, np.float32)
    for row, order in enumerate(places):
        best = sorted(order[:n])  # ranks: the best-ranked negative comes first
        chosen[row, : len(best)] = found[row, best]
        chosen_scores[row, : len(best)] = scores[row, best]
    filled = _fill(chosen, known, keep_relatives, rng)
    if miner in ("random", "human"):
        chosen_scores[:] = np.nan
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
            rule: [
                (anchors[r], domain.corpus[known.first[r]], domain.corpus[ids[found[r, p]]])
                for r, p in places_of
            ]
            for rule, places_of in sieve.examples.items()
        },
        filled=int(np.bincount(rows, minlength=len(anchors)) @ filled),
        corpus=domain.corpus,
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


class _Known:
    """What is known to be right, to bear the same text, or to be kin, as (row, document) codes."""

    def __init__(self, domain: Domain, pairs: Sequence[Pair], row_of: Mapping[str, int]) -> None:
        self.ids = list(domain.corpus)
        self.number = {document: i for i, document in enumerate(self.ids)}
        self.first: dict[int, str] = {}
        right: dict[int, set[str]] = defaultdict(set)
        for _, anchor, document in pairs:
            right[row_of[anchor]].add(document)
            self.first.setdefault(row_of[anchor], document)
        self.most = max(map(len, right.values()))
        twins: dict[str, list[str]] = defaultdict(list)
        for document, text in domain.corpus.items():
            twins[normalise(text)].append(document)
        family = Family(domain.parents)
        places = [(row, document) for row, documents in right.items() for document in documents]
        same = {d: twins[normalise(domain.corpus[d])] for _, d in places}
        self._positive = self._codes(places)
        self._twin = self._codes((row, twin) for row, d in places for twin in same[d])
        self._kin = self._codes((row, other) for row, d in places for other in family.kin(d))

    def _codes(self, places) -> np.ndarray:
        size = len(self.ids)
        codes = [r * size + self.number[d] for r, d in places if d in self.number]
        return np.unique(np.array(codes, dtype=np.int64))

    def rules(
        self, rows: np.ndarray, found: np.ndarray, keep_relatives: bool
    ) -> dict[str, np.ndarray]:
        """Rule -> mask of ``found``, shape (rows, depth), True where it forbids."""
        codes = rows[:, None] * len(self.ids) + found
        masks = {
            "known positive": np.isin(codes, self._positive),
            "same text as a positive": np.isin(codes, self._twin),
        }
        return masks if keep_relatives else masks | {"kin of a positive": np.isin(codes, self._kin)}

    def forbidden(self, rows: np.ndarray, found: np.ndarray, keep_relatives: bool) -> np.ndarray:
        """Mask of ``found``, shape (rows, depth): what any rule forbids."""
        return np.logical_or.reduce(list(self.rules(rows, found, keep_relatives).values()))


class Family:
    """Ancestors and descendants in a tree given as child -> parent."""

    def __init__(self, parents: Mapping[str, str]) -> None:
        self._parents = parents
        self._children: dict[str, list[str]] = defaultdict(list)
        for child, parent in parents.items():
            self._children[parent].append(child)
        self._kin: dict[str, tuple[str, ...]] = {}

    def kin(self, document: str) -> tuple[str, ...]:
        """All documents above and below one."""
        if document not in self._kin:
            found: dict[str, None] = {}
            above: str | None = self._parents.get(document)
            while above is not None and above not in found:
                found[above] = None
                above = self._parents.get(above)
            below = list(self._children.get(document, ()))
            while below:
                child = below.pop()
                if child not in found:
                    found[child] = None
                    below += self._children.get(child, ())
            self._kin[document] = tuple(found)
        return self._kin[document]


class _Sieve:
    """Candidates in ranked order, the rules they were put to, and who is left."""

    def __init__(self, found: np.ndarray, scores: np.ndarray) -> None:
        self.left = scores > OUT
        self.candidates = int(self.left.sum())
        self.removed: dict[str, int] = {}
        self.examples: dict[str, list[tuple[int, int]]] = {}

    def remove(self, rule: str, wrong: np.ndarray) -> None:
        gone = self.left & wrong
        self.left &= ~wrong
        self.removed[rule] = int(gone.sum())
        rows, places = np.nonzero(gone)
        some = np.linspace(0, len(rows) - 1, min(3, len(rows))).astype(int)
        self.examples[rule] = [(int(rows[i]), int(places[i])) for i in some]

    def window(self, low: int, high: int, rng: np.random.Generator | None) -> list[list[int]]:
        """For each row, the places left within the window, in the order they are to be taken."""
        rank = self.left.cumsum(axis=1) - 1
        inside = self.left & (rank >= low) & (rank < high)
        if low:
            self.removed["before the window"] = int((self.left & (rank < low)).sum())
        places = [np.flatnonzero(row) for row in inside]
        if rng is not None:
            places = [rng.permutation(row) for row in places]
        return [row.tolist() for row in places]


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
        if isinstance(model, str) or hasattr(model, "__fspath__"):
            from ..models.loading import load_model

            model = load_model(model)
        asked, documents = encode(model, anchors), encode(model, texts)
        found, scores = exact_search(asked, documents, depth)
        return found, scores, np.einsum("ij,ij->i", asked[rows], documents[right])
    if miner == "bm25":
        index = BM25(texts)
        found, scores = index.search(anchors, depth)
        scores = np.where(scores > 0, scores, OUT)  # shares no word: found by nothing
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


def _vetoed(reranker_filter, domain, anchors, pairs, rows, found, places, n: int) -> np.ndarray:
    """Mask of candidates the cross-encoder calls right, scoring no more of them than needed."""
    ids = list(domain.corpus)
    bound = np.full(len(anchors), np.inf)
    scored = np.asarray(
        reranker_filter([(anchor, domain.corpus[d]) for _, anchor, d in pairs]), float
    )
    np.minimum.at(bound, rows, scored)
    out = np.zeros(found.shape, dtype=bool)
    waiting = {row: list(order) for row, order in enumerate(places)}
    passed = dict.fromkeys(waiting, 0)
    while waiting:
        asked = []
        for row, order in list(waiting.items()):
            want, waiting[row] = order[: n - passed[row]], order[n - passed[row] :]
            asked += [(row, place) for place in want]
        if not asked:
            break
        texts = [(anchors[r], domain.corpus[ids[found[r, p]]]) for r, p in asked]
        for (row, place), value in zip(
            asked, np.asarray(reranker_filter(texts), float), strict=True
        ):
            out[row, place] = value >= bound[row]
            passed[row] += not out[row, place]
        waiting = {r: order for r, order in waiting.items() if order and passed[r] < n}
    return out


def _fill(
    chosen: np.ndarray, known: _Known, keep_relatives: bool, rng: np.random.Generator
) -> np.ndarray:
    """Puts random documents where none was found; returns how many a row."""
    empty = (chosen < 0).sum(axis=1)
    rows = np.flatnonzero(empty)
    few = rng.integers(len(known.ids), size=(len(rows), 32 + int(empty.max(initial=0))))
    for row, drawn, wrong in zip(
        rows, few, known.forbidden(rows, few, keep_relatives), strict=True
    ):
        want = int(empty[row])
        spare = _unused(drawn[~wrong], chosen[row])
        if len(spare) < want:  # a small corpus, or many that are kin: look at all of it
            drawn = rng.permutation(len(known.ids))
            wrong = known.forbidden(np.array([row]), drawn[None], keep_relatives)[0]
            spare = _unused(drawn[~wrong], chosen[row])
        if len(spare) < want:
            raise EmbkitError(
                f"{want} more negative(s) are wanted for a query, and only {len(spare)} of the "
                "corpus' documents are neither right nor kin",
                expected="a corpus with more documents that are wrong",
                hint="fewer hard_negatives, or keep_relatives=True",
            )
        chosen[row, -want:] = spare[:want]
    return empty


def _unused(drawn: np.ndarray, taken: np.ndarray) -> list[int]:
    """What was drawn, each document once, without those that are taken."""
    used = set(taken.tolist())
    return [d for d in dict.fromkeys(drawn.tolist()) if d not in used]
