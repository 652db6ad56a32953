"""One query, two models: their lists side by side, what is right, what moved and by how much."""

from __future__ import annotations

import html
import time
from dataclasses import dataclass
from typing import Any

import ipywidgets
import numpy as np
import traitlets
from matplotlib.figure import Figure

from ..data.domain import Domain, normalise
from ..errors import EmbkitError
from ..models.encoding import encode_as
from ..models.loading import as_model
from ..search.index import BM25
from .base import Panel, listing, own_domain

LONG = 1000  # characters of a query above which the reader is told that models read less
SHOWN = 160  # characters of a document in the list


@dataclass(frozen=True)
class Hit:
    """A document in one list: its rank there, its rank in the other, and whether it is right."""

    rank: int
    document: str
    text: str
    score: float
    other: int
    right: bool


class _Side:
    """One model with the corpus made ready; ``scores`` gives one a document."""

    def __init__(self, what: Any, domain: Domain) -> None:
        self.what, texts = what, list(domain.corpus.values())
        self.model = as_model(what)
        self._words = BM25(texts) if self.model == "bm25" else None
        if self._words is None:
            self._documents = encode_as(self.model, texts, "document")  # (documents, dim)

    def scores(self, query: str) -> np.ndarray:
        if self._words is not None:
            return next(self._words._all_scores([query]))
        asked = encode_as(self.model, [query], "query", cache=False)  # (1, dim)
        return self._documents @ asked[0]


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
    ranks: dict[str, tuple[int, int]] = {}  # right document -> its rank before and after
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
        self.domain, self.names = domain, names
        self._ids, self._texts = list(domain.corpus), list(domain.corpus.values())
        self._sides = [_Side(what, domain) for what in (before, after)]
        self._warning = " ".join(filter(None, (own_domain(w, domain) for w in (before, after))))
        self._known: dict[str, str] = {}
        for split in domain.qrels:  # a test split's reading of a text wins: it comes last
            self._known |= {normalise(domain.queries[q]): q for q in domain.qrels[split]}
        self._right = {q: r for s in domain.qrels.values() for q, r in s.items()}
        self._tests = [q for split in domain.test_splits for q in domain.qrels[split]]
        self._next = np.random.default_rng(0)
        self.text = ipywidgets.Text(
            placeholder="type a query", continuous_update=True, layout={"width": "70%"}
        )
        self.text.add_class("embkit-query")
        self.another = ipywidgets.Button(description="A test query", icon="random")
        self.results = ipywidgets.HTML()
        super().__init__()
        self.children = [
            ipywidgets.HBox([self.text, self.another]),
            self.status,
            self.results,
        ]
        traitlets.link((self, "query"), (self.text, "value"))
        self.another.on_click(self.guarded(lambda _: self.ask_another()))
        self.observe(self.guarded(lambda _: self._search()), ["query", "k"])
        first = domain.queries[self._tests[0]] if query is None and self._tests else query
        with self.hold_trait_notifications():
            self.k, self.query = k, first or ""
        if not self.query:
            self._search()

    def ask_another(self) -> str:
        """Puts one of the domain's test queries, drawn at random."""
        self.query = self.domain.queries[self._next.choice(self._tests)]
        return self.query

    @property
    def right(self) -> frozenset[str]:
        """The documents that answer the query, if it is one of the domain's own."""
        query = self._known.get(normalise(self.query))
        return frozenset(d for d, grade in self._right.get(query or "", {}).items() if grade > 0)

    def _search(self) -> None:
        started = time.perf_counter()
        self.before, self.after, self.ranks = (), (), {}
        if not self.query.strip():
            self.results.value = ""
            self.tell("Type a few words, such as: " + next(iter(self.domain.queries.values())))
            return
        scores = [side.scores(self.query) for side in self._sides]
        orders = [np.argsort(-row, kind="stable") for row in scores]  # ties by lower index
        places = [np.empty(len(self._ids), np.int64) for _ in orders]
        for place, order in zip(places, orders, strict=True):
            place[order] = np.arange(1, len(order) + 1)
        right = self.right
        self.before, self.after = (
            tuple(
                Hit(
                    rank,
                    self._ids[i],
                    self._texts[i],
                    float(scores[s][i]),
                    int(places[1 - s][i]),
                    self._ids[i] in right,
                )
                for rank, i in enumerate(orders[s][: self.k], start=1)
            )
            for s in (0, 1)
        )
        self.ranks = {
            d: (int(places[0][i]), int(places[1][i])) for i, d in enumerate(self._ids) if d in right
        }
        self.results.value = self._html()
        self.milliseconds = 1000 * (time.perf_counter() - started)
        self.tell(" ".join(filter(None, (self._warning, self._gone(), self._long()))))

    def _gone(self) -> str:
        gone = [s.what.path for s in self._sides if hasattr(s.what, "record")]
        names = [path.name for path in gone if not path.is_dir()]
        return f"{' and '.join(names)}: deleted on disk, still in memory here." if names else ""

    def _long(self) -> str:
        if len(self.query) <= LONG:
            return ""
        windows = [getattr(side.model, "max_seq_length", None) for side in self._sides]
        read = min((w for w in windows if w), default=None)
        return f"{len(self.query):,} characters: the models read the first {read or 'few'} tokens."

    def _html(self) -> str:
        columns = ""
        for after, hits in enumerate((self.before, self.after)):
            rows = "".join(
                f"<li style='font-weight:{600 if hit.right else 400}'>"
                f"{'★ ' if hit.right else ''}{html.escape(hit.text[:SHOWN])} "
                f"<small style='opacity:.75'>{hit.score:.3f} {_moved(hit, bool(after))}"
                f"</small></li>"
                for hit in hits
            )
            heading = html.escape(self.names[after])
            columns += (
                f"<div style='flex:1;min-width:0;overflow-wrap:anywhere'><b>{heading}</b>"
                "<ol class='embkit-hits' style='margin:0;padding-left:2.2em;list-style:decimal'>"
                f"{rows}</ol></div>"
            )
        answers = "".join(
            f"<div class='embkit-answer'>{html.escape(line)}</div>" for line in self._answers()
        )
        return f"<div style='display:flex;gap:1.5em;line-height:1.4'>{columns}</div>{answers}"

    def picture(self) -> Figure:
        columns = {
            self.names[after]: [
                (f"{hit.rank} ({_moved(hit, bool(after))}) {hit.text[:SHOWN]}", hit.right)
                for hit in hits
            ]
            for after, hits in enumerate((self.before, self.after))
        }
        return listing(f"query: {self.query}", columns, "\n".join(self._answers()))

    def _answers(self) -> list[str]:
        """Where the right documents stand on both sides, a line each, the best three."""
        return [
            f"★ right answer {self.domain.corpus[d][:SHOWN]}: rank {b:,} {self.names[0]}, "
            f"{a:,} {self.names[1]}"
            for d, (b, a) in sorted(self.ranks.items(), key=lambda item: item[1][1])[:3]
        ]

    def __repr__(self) -> str:
        top = [hits[0].document if hits else "nothing" for hits in (self.before, self.after)]
        names = self.names
        return f"SearchBox({self.query[:60]!r}: {names[0]} {top[0]}, {names[1]} {top[1]} first)"


def _moved(hit: Hit, after: bool) -> str:
    """Where a document came from or went to, and whether that is up or down."""
    if hit.rank == hit.other:
        return "="
    up = (hit.rank < hit.other) == after
    return f"{'▲' if up else '▼'} {'from' if after else 'to'} {hit.other:,}"
