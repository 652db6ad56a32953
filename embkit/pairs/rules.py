"""The rules that candidates for hard negatives are put to."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence

import numpy as np

from ..data.domain import Domain, normalise
from ..errors import refusals

refused = refusals(__file__)
Pair = tuple[str, str, str]  # query id, anchor text, document id
OUT = -np.inf  # the score of a candidate that is none
OWN = "the query's own document"  # the rule about ``Domain.own``


def right_of(rows: Iterable[Pair]) -> dict[str, dict[str, None]]:
    """Anchor, normalised -> the documents that rows call right for it."""
    found: dict[str, dict[str, None]] = defaultdict(dict)
    for _, anchor, document in rows:
        found[normalise(anchor)][document] = None
    return found


def own_of(domain: Domain) -> dict[str, str]:
    """Anchor, normalised -> its own document: neither right for it nor a negative."""
    return {normalise(domain.queries[q]): q for q in domain.own}


def relatives(parents: Mapping[str, str]) -> dict[str, set[str]]:
    """Document -> all above and below it, in a tree given as child -> parent."""
    found: dict[str, set[str]] = defaultdict(set)
    for child in parents:
        above = parents.get(child)
        while above is not None and above not in found[child]:
            found[child].add(above)
            found[above].add(child)
            above = parents.get(above)
    return found


class Known:
    """What is right for each anchor, by ``pairs``, bears the same text, or is a relative of it."""

    def __init__(
        self, domain: Domain, pairs: Iterable[Pair], anchors: Sequence[str], keep_relatives: bool
    ) -> None:
        self.ids, corpus = list(domain.corpus), domain.corpus
        right, twins = right_of(pairs), defaultdict(list)
        of_row = [list(right[normalise(anchor)]) for anchor in anchors]  # a row an anchor
        self.first = [documents[0] for documents in of_row]
        self.most = max(map(len, of_row))
        for document, text in corpus.items():
            twins[normalise(text)].append(document)
        rules: dict[str, Callable[[str], Iterable[str]]] = {
            "known positive": lambda d: [d],
            "same text as a positive": lambda d: twins[normalise(corpus[d])],
        }
        if not keep_relatives:
            rules["relatives of a positive"] = relatives(domain.parents).__getitem__
        # (row, document) as one number each, sorted
        number = {document: i for i, document in enumerate(self.ids)}
        places = [(row, d) for row, documents in enumerate(of_row) for d in documents]
        self._codes: dict[str, np.ndarray] = {}
        for rule, near in rules.items():
            wrong = {d: [number[o] for o in near(d) if o in number] for _, d in places}
            codes = [row * len(number) + o for row, d in places for o in wrong[d]]
            self._codes[rule] = np.unique(np.array(codes, dtype=np.int64))
        if own := own_of(domain):
            seen = [(row, own.get(normalise(anchor))) for row, anchor in enumerate(anchors)]
            codes = [row * len(number) + number[d] for row, d in seen if d is not None]
            self._codes[OWN] = np.array(codes, dtype=np.int64)
            self.most += 1

    def rules(self, rows: np.ndarray, found: np.ndarray) -> dict[str, np.ndarray]:
        """Rule -> mask of ``found``, shape (rows, depth), True where it forbids."""
        codes = rows[:, None] * len(self.ids) + found
        return {rule: np.isin(codes, wrong) for rule, wrong in self._codes.items()}

    def fill(self, chosen: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Puts random documents that no rule forbids where it is below 0; how many a row."""
        empty = (chosen < 0).sum(axis=1)
        rows = np.flatnonzero(empty)
        few = rng.integers(len(self.ids), size=(len(rows), 32 + int(empty.max(initial=0))))
        for row, free in zip(rows, self._allowed(rows, few), strict=True):
            want = int(empty[row])
            spare = _unused(free, chosen[row])
            if len(spare) < want:  # a small corpus, or many relatives: look at all of it
                every = rng.permutation(len(self.ids))[None]
                spare = _unused(self._allowed(np.array([row]), every)[0], chosen[row])
            if len(spare) < want:
                raise refused("few wrong", want=want, n=len(spare))
            chosen[row, -want:] = spare[:want]
        return empty

    def _allowed(self, rows: np.ndarray, found: np.ndarray) -> list[np.ndarray]:
        """For each row, what no rule forbids of it."""
        wrong = np.logical_or.reduce(list(self.rules(rows, found).values()))
        return [drawn[~no] for drawn, no in zip(found, wrong, strict=True)]


def _unused(drawn: np.ndarray, taken: np.ndarray) -> list[int]:
    """What was drawn, each document once, without those that are taken."""
    used = set(taken.tolist())
    return [d for d in dict.fromkeys(drawn.tolist()) if d not in used]


class Sieve:
    """Candidates in ranked order, the rules they were put to, and who is left."""

    def __init__(self, scores: np.ndarray) -> None:
        self.left = scores > OUT
        self.candidates = int(self.left.sum())
        self.removed: dict[str, int] = {}
        self.examples: dict[str, list[tuple[int, int]]] = {}  # rule -> (row, place) of a few

    def remove(self, rule: str, wrong: np.ndarray) -> None:
        """Takes out the candidates that a mask calls wrong."""
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
