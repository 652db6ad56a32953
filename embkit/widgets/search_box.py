"""One query, two models: their lists side by side, what is right, what moved and by how much."""

from __future__ import annotations

import functools
import html
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import ipywidgets
import numpy as np
import traitlets
from matplotlib.figure import Figure

from ..data.domain import Domain, normalise, right_documents
from ..errors import EmbkitError
from ..models.encoding import encode_as
from ..models.loading import as_model
from ..search.index import BM25, exact_search
from .base import Panel, own_domain
from .drawing import columns, listing

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


class SearchBox(Panel):
    """Type a query: two ranked lists beside each other, at every key.

    Set ``query`` from code as a key would. If the query is one of the domain's own, its right
    documents have a star. The documents are encoded once, when the box is made.

    Args:
        before: a Run, a model, its name, ``"bm25"`` or a function ``list[str] -> (texts, dim)``.
        after: another.
        domain: what is searched.
        query: to begin with; default: the first query of the first test split.
        k: documents a list.
        names: the lists' headings.

    Raises:
        EmbkitError: a model cannot be had, or a run's folder has gone.

    Example:
        >>> box = SearchBox("minilm", run, domain)  # doctest: +SKIP
        >>> box.query = "low iron in the blood"; box.after[0].text  # doctest: +SKIP
    """

    query = traitlets.Unicode(help="what is searched for")
    k = traitlets.Int(8, help="documents a list")
    before: tuple[Hit, ...] = ()
    after: tuple[Hit, ...] = ()
    ranks: dict[str, tuple[int | None, int | None]] = {}  # right document -> before and after
    milliseconds = 0.0  # of the last search

    def __init__(
        self,
        before: Any,
        after: Any,
        domain: Domain,
        *,
        query: str | None = None,
        k: int = 8,
        names: tuple[str, str] = ("before", "after"),
    ) -> None:
        if k < 1:
            raise EmbkitError(f"SearchBox(k={k})", expected="k of 1 or more", hint="k=8")
        self.domain, self.names, self._subjects = domain, names, (before, after)
        self._ids, self._texts = list(domain.corpus), list(domain.corpus.values())
        self._models = [as_model(what) for what in (before, after)]
        self._searches = [_search(model, self._texts) for model in self._models]
        self._warning = own_domain(domain, before, after)
        self._known: dict[str, str] = {}
        for split in domain.qrels:  # a test split's reading of a text wins: it comes last
            self._known |= {normalise(domain.queries[q]): q for q in domain.qrels[split]}
        self._right = {q: r for s in domain.qrels.values() for q, r in s.items()}
        self._tests = [q for split in domain.test_splits for q in domain.qrels[split]]
        self._next = np.random.default_rng(0)
        self.text = ipywidgets.Text(
            placeholder="type a query", continuous_update=True, layout={"width": "70%"}
        )
        self.another = ipywidgets.Button(description="A test query", icon="random")
        self.results = ipywidgets.HTML()
        super().__init__()
        top = ipywidgets.HBox([*self.link(query=self.text), self.another])
        self.children = [top, self.status, self.results]
        self.another.on_click(self.guarded(lambda _: self.ask_another()))
        self.on(["query", "k"], self._draw)
        first = domain.queries[self._tests[0]] if query is None and self._tests else query
        with self.hold_trait_notifications():
            self.k, self.query = k, first or ""
        if not self.query:
            self._draw()

    def ask_another(self) -> str:
        """Puts one of the domain's test queries, drawn at random."""
        self.query = self.domain.queries[self._next.choice(self._tests)]
        return self.query

    @property
    def right(self) -> frozenset[str]:
        """The documents that answer the query, if it is one of the domain's own."""
        query = self._known.get(normalise(self.query))
        return frozenset(right_documents(self._right.get(query or "", {})))

    def _draw(self) -> None:
        started = time.perf_counter()
        if not self.query.strip():
            self.before, self.after, self.ranks = (), (), {}
            self.results.value = ""
            self.tell("Type a few words, such as: " + next(iter(self.domain.queries.values())))
            return
        found = [[rows[0] for rows in search([self.query])] for search in self._searches]
        orders = [order[order >= 0] for order, _ in found]
        ranks = [{i: rank for rank, i in enumerate(order.tolist(), 1)} for order in orders]
        right = self.right
        self.before, self.after = (
            tuple(
                Hit(rank, self._ids[i], self._texts[i], float(score), other.get(int(i)),
                    self._ids[i] in right)
                for rank, (i, score) in enumerate(zip(order[: self.k], scores, strict=False), 1)
            )
            for order, (_, scores), other in zip(orders, found, ranks[::-1], strict=True)
        )  # fmt: skip
        self.ranks = {
            d: (ranks[0].get(i), ranks[1].get(i)) for i, d in enumerate(self._ids) if d in right
        }
        self.results.value = self._html()
        self.milliseconds = 1000 * (time.perf_counter() - started)
        self.tell(self._warning, self._gone(), self._long())

    def _gone(self) -> str:
        paths = [what.path for what in self._subjects if hasattr(what, "record")]
        names = [path.name for path in paths if not path.is_dir()]
        return f"{' and '.join(names)}: deleted on disk, still in memory here." if names else ""

    def _long(self) -> str:
        if len(self.query) <= LONG:
            return ""
        windows = [getattr(model, "max_seq_length", None) for model in self._models]
        read = min((w for w in windows if w), default=None)
        return f"{len(self.query):,} characters: the models read the first {read or 'few'} tokens."

    def _html(self) -> str:
        lists = []
        for name, hits in zip(self.names, (self.before, self.after), strict=True):
            rows = "".join(
                f"<li style='font-weight:{600 if hit.right else 400}'>"
                f"{'★ ' if hit.right else ''}{html.escape(hit.text[:SHOWN])} "
                f"<small>{hit.score:.3f} {_moved(hit, hits is self.after)}</small></li>"
                for hit in hits
            )
            style = "margin:0;padding-left:2.2em;list-style:decimal"
            listed = f"<ol class='embkit-hits' style='{style}'>{rows}</ol>"
            lists.append(f"<b>{html.escape(name)}</b>{listed}")
        answers = (f"<div class='embkit-answer'>{html.escape(a)}</div>" for a in self._answers())
        return columns(*lists) + "".join(answers)

    def picture(self) -> Figure:
        lists = {
            name: [
                (f"{hit.rank} ({_moved(hit, hits is self.after)}) {hit.text[:SHOWN]}", hit.right)
                for hit in hits
            ]
            for name, hits in zip(self.names, (self.before, self.after), strict=True)
        }
        return listing(f"query: {self.query}", lists, "\n".join(self._answers()))

    def _answers(self) -> list[str]:
        """Where the right documents stand on both sides, a line each, the best three."""
        return [
            f"★ right answer {self.domain.corpus[d][:SHOWN]}: {_rank(b)} {self.names[0]}, "
            f"{_rank(a)} {self.names[1]}"
            for d, (b, a) in sorted(self.ranks.items(), key=lambda item: item[1][1] or np.inf)[:3]
        ]

    def __repr__(self) -> str:
        top = [hits[0].document if hits else "nothing" for hits in (self.before, self.after)]
        names = self.names
        return f"SearchBox({self.query[:60]!r}: {names[0]} {top[0]}, {names[1]} {top[1]} first)"


def _search(model: Any, texts: list[str]) -> Callable[[list[str]], Any]:
    """Queries -> all documents' numbers, best first, and scores; the documents encoded once."""
    if isinstance(model, str):  # bm25
        return functools.partial(BM25(texts).search, k=len(texts))
    documents = encode_as(model, texts, "document")  # (documents, dim)
    return lambda queries: exact_search(
        encode_as(model, queries, "query", cache=False), documents, len(texts)
    )


def _rank(rank: int | None) -> str:
    return f"rank {rank:,}" if rank else "not found"


def _moved(hit: Hit, after: bool) -> str:
    """Where a document came from or went to, and whether that is up or down."""
    if hit.rank == hit.other:
        return "="
    if hit.other is None:
        return "not in the other list"
    up = (hit.rank < hit.other) == after
    return f"{'▲' if up else '▼'} {'from' if after else 'to'} {hit.other:,}"
