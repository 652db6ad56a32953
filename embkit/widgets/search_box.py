"""One query, two models: their lists side by side, what is right, what moved and by how much."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import ipywidgets
import numpy as np
import traitlets

from ..data.domain import Domain, normalise, right_documents
from ..evaluation.ranking import hits
from ..models.loading import as_model
from ..plots.space import SIDES
from ..search.passages import by_recipe, index_of
from .base import Names, Panel, own_domain, stood

LONG = 1000  # characters of a query above which the reader is told that models read less
SHOWN = 160  # characters of a document in the list


@dataclass(frozen=True)
class Hit:
    """A document in one list: its rank there and in the other (None: not found), if it is right."""

    rank: int
    document: str
    text: str
    score: float
    other: int | None
    right: bool
    moved: str  # from or to which rank, up or down


class SearchBox(Panel):
    """Type a query: two ranked lists beside each other, at every key.

    Set ``query`` from code as a key would. If the query is one of the domain's own, its right
    documents have a star. The documents are encoded once, when the box is made.

    Args:
        before, after: each a Run, a model, its name, ``"bm25"``, a function of texts, or
            ``ek.search.Passages`` of one: of a document, the passage that matches is shown.
        query: to begin with; default: the first query of the first test split.

    Fails where a model cannot be had, or a run's folder has gone.
    Example: ``box.query = "low iron in the blood"``, then ``box.after[0].text``.
    """

    query = traitlets.Unicode(help="what is searched for")
    k = traitlets.Int(8, help="documents a list")
    before: tuple[Hit, ...] = ()
    after: tuple[Hit, ...] = ()
    ranks: dict[str, tuple[int | None, int | None]] = {}  # right document -> before and after

    def __init__(
        self, before: Any, after: Any, domain: Domain, *, query: str = "", names: Names = SIDES
    ) -> None:
        self.domain, self.names, self._subjects = domain, names, (before, after)
        texts = list(domain.corpus.values())
        self._models = [as_model(by_recipe(what)) for what in self._subjects]
        self._indexes = [index_of(model, texts) for model in self._models]
        self._warning = own_domain(domain, before, after)
        self._right: dict[str, frozenset[str]] = {}
        for judged in domain.qrels.values():  # a test split's reading of a text wins: it comes last
            for asked, row in judged.items():
                self._right[normalise(domain.queries[asked])] = frozenset(right_documents(row))
        self._tests = [q for split in domain.test_splits for q in domain.qrels[split]]
        self._next = np.random.default_rng(0)
        self.text = ipywidgets.Text(placeholder="type a query", layout={"width": "70%"})
        self.results = ipywidgets.HTML()
        super().__init__()
        another = self.button("A test query", self.ask_another, icon="random")
        top = ipywidgets.HBox([*self.link(query=self.text), another])
        self.children = [top, self.status, self.results]
        self.query = query or (domain.queries[self._tests[0]] if self._tests else "")
        self.on(["query", "k"], self._draw)
        self.guarded(self._draw)()

    def ask_another(self) -> str:
        """Puts one of the domain's test queries, drawn at random."""
        self.query = self.domain.queries[self._next.choice(self._tests)]
        return self.query

    @property
    def right(self) -> frozenset[str]:
        """The documents that answer the query, if it is one of the domain's own."""
        return self._right.get(normalise(self.query), frozenset())

    def _draw(self) -> None:
        if not self.query.strip():
            self.before, self.after, self.ranks, self.results.value = (), (), {}, ""
            self.tell("Type a few words, such as: " + next(iter(self.domain.queries.values())))
            return
        right, texts = self.right, self.domain.corpus
        sides = (hits(i, self.query, self.domain, self.k, len(texts)) for i in self._indexes)
        (first, before), (second, after) = sides
        self.before = self._hits(first, after, "▼ to", "▲ to")
        self.after = self._hits(second, before, "▲ from", "▼ from")
        self.ranks = {d: (before.get(d), after.get(d)) for d in texts if d in right}
        best = sorted(self.ranks.items(), key=lambda item: item[1][1] or np.inf)[:3]
        answers = [(texts[d][:SHOWN], *map(stood, places)) for d, places in best]
        self.show("search_box", self.results, answers=answers, most=SHOWN)
        self.tell(self._warning, *self._notes())

    def _notes(self) -> Iterator[str]:
        paths = [what.path for what in self._subjects if hasattr(what, "record")]
        if gone := [path.name for path in paths if not path.is_dir()]:
            yield f"{' and '.join(gone)}: deleted on disk, still in memory here."
        if len(self.query) > LONG:
            models = [getattr(model, "of", model) for model in self._models]
            windows = [getattr(model, "max_seq_length", None) for model in models]
            read = min(filter(None, windows), default="few")
            yield f"{len(self.query):,} characters: the models read the first {read} tokens."

    def _hits(
        self, best: list[tuple[str, str, float]], others: dict[str, int], above: str, below: str
    ) -> tuple[Hit, ...]:
        """One list; ``above`` and ``below`` precede the rank of what moved in the other."""
        listed, right = [], self.right
        for rank, (document, text, score) in enumerate(best, 1):
            other, moved = others.get(document), "not in the other list"
            if other is not None:
                moved = "=" if rank == other else f"{above if rank < other else below} {other:,}"
            listed.append(Hit(rank, document, text, score, other, document in right, moved))
        return tuple(listed)

    def title(self) -> str:
        return f"query: {self.query}"

    def __repr__(self) -> str:
        top = [hits[0].document if hits else "nothing" for hits in (self.before, self.after)]
        names = self.names
        return f"SearchBox({self.query[:60]!r}: {names[0]} {top[0]}, {names[1]} {top[1]} first)"
