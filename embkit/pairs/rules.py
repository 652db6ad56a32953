"""The rules that candidates for hard negatives are put to."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from ..data.domain import Domain, normalise
from ..errors import EmbkitError

Pair = tuple[str, str, str]  # query id, anchor text, document id
OUT = -np.inf  # the score of a candidate that is none


class Family:
    """Ancestors and descendants in a tree given as child -> parent."""

    def __init__(self, parents: Mapping[str, str]) -> None:
        self._parents = parents
        self._children: dict[str, list[str]] = defaultdict(list)
        for child, parent in parents.items():
            self._children[parent].append(child)

    def relatives(self, document: str) -> tuple[str, ...]:
        """All documents above and below one."""
        found: dict[str, None] = {}
        above = self._parents.get(document)
        while above is not None and above not in found:
            found[above] = None
            above = self._parents.get(above)
        below = list(self._children.get(document, ()))
        while below:
            child = below.pop()
            if child not in found:
                found[child] = None
                below += self._children.get(child, ())
        return tuple(found)


class Known:
    """What is right for each anchor, bears the same text, or is a relative of what is right.

    Args:
        domain: whose corpus and tree.
        pairs: the training pairs.
        row_of: anchor text -> its row.
        keep_relatives: whether relatives of a positive may be negatives.
        more: rows that say what else is right, of any anchor.
    """

    def __init__(
        self,
        domain: Domain,
        pairs: Sequence[Pair],
        row_of: Mapping[str, int],
        keep_relatives: bool,
        more: Iterable[Pair] = (),
    ) -> None:
        self.ids = list(domain.corpus)
        self._number = {document: i for i, document in enumerate(self.ids)}
        right: dict[int, dict[str, None]] = defaultdict(dict)
        same_text: dict[str, list[int]] = defaultdict(list)
        for anchor, row in row_of.items():
            same_text[normalise(anchor)].append(row)
        for _, anchor, document in (*pairs, *more):
            for row in same_text.get(normalise(anchor), ()):
                right[row][document] = None
        self.first = {row: next(iter(documents)) for row, documents in right.items()}
        self.most = max(map(len, right.values()))
        twins: dict[str, list[str]] = defaultdict(list)
        for document, text in domain.corpus.items():
            twins[normalise(text)].append(document)
        places = [(row, document) for row, documents in right.items() for document in documents]
        same = {d: twins[normalise(domain.corpus[d])] for _, d in places}
        self._codes = {
            "known positive": self._coded(places),
            "same text as a positive": self._coded(
                (r, twin) for r, d in places for twin in same[d]
            ),
        }
        if not keep_relatives:
            family = Family(domain.parents)
            of = {document: family.relatives(document) for document in same}
            self._codes["relatives of a positive"] = self._coded(
                (row, other) for row, d in places for other in of[d]
            )

    def _coded(self, places: Iterable[tuple[int, str]]) -> np.ndarray:
        """(row, document) as one number each, sorted."""
        size = len(self.ids)
        codes = [row * size + self._number[d] for row, d in places if d in self._number]
        return np.unique(np.array(codes, dtype=np.int64))

    def rules(self, rows: np.ndarray, found: np.ndarray) -> dict[str, np.ndarray]:
        """Rule -> mask of ``found``, shape (rows, depth), True where it forbids."""
        codes = rows[:, None] * len(self.ids) + found
        return {rule: np.isin(codes, wrong) for rule, wrong in self._codes.items()}

    def fill(self, chosen: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Puts random documents that no rule forbids in the places of ``chosen`` below 0.

        Returns:
            How many a row.
        """
        empty = (chosen < 0).sum(axis=1)
        rows = np.flatnonzero(empty)
        few = rng.integers(len(self.ids), size=(len(rows), 32 + int(empty.max(initial=0))))
        for row, drawn, wrong in zip(rows, few, self._forbidden(rows, few), strict=True):
            want = int(empty[row])
            spare = _unused(drawn[~wrong], chosen[row])
            if len(spare) < want:  # a small corpus, or many relatives: look at all of it
                drawn = rng.permutation(len(self.ids))
                wrong = self._forbidden(np.array([row]), drawn[None])[0]
                spare = _unused(drawn[~wrong], chosen[row])
            if len(spare) < want:
                raise EmbkitError(
                    f"{want} more negative(s) are wanted for a query, and only {len(spare)} of the "
                    "corpus' documents are neither right nor relatives of what is right",
                    expected="a corpus with more documents that are wrong",
                    hint="fewer hard_negatives, or keep_relatives=True",
                )
            chosen[row, -want:] = spare[:want]
        return empty

    def _forbidden(self, rows: np.ndarray, found: np.ndarray) -> np.ndarray:
        return np.logical_or.reduce(list(self.rules(rows, found).values()))


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
