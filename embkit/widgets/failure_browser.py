"""Queries that one model won, lost or tied against another, with both lists and the reason why."""

from __future__ import annotations

import html
from collections import Counter
from dataclasses import dataclass
from typing import Any

import ipywidgets
import numpy as np
import traitlets
from matplotlib.figure import Figure

from ..data.domain import Domain, right_documents
from ..data.text_checks import words
from ..display import Table
from ..errors import unknown
from ..evaluation.ranking import DEPTH, rank, score
from ..models.loading import as_model
from .base import Panel, own_domain
from .drawing import columns, framed, listing

OUTCOMES = ("won", "lost", "tied")
SAME = 1e-9  # a difference in the metric up to this is a tie
MOST = 200  # queries in the list
HEAD = ("", "document", "score", "shared words")
SHOWN = 110  # characters of a text in a row


@dataclass(frozen=True)
class Case:
    """One query: what it scored before and after, and where its best right document stood."""

    query: str
    text: str
    before: float
    after: float
    ranks: tuple[int | None, int | None]  # of the best right document; None: not in the ranking

    @property
    def change(self) -> float:
        """After less before."""
        return self.after - self.before

    @property
    def outcome(self) -> str:
        """``won``, ``lost`` or ``tied``, from the second model's side."""
        return "tied" if abs(self.change) <= SAME else "won" if self.change > 0 else "lost"


class FailureBrowser(Panel):
    """Two models on one split, query by query: filter by outcome and by words, look at one.

    ``outcome``, ``find`` and ``query`` are traits: set them from code as a click does.

    Args:
        before: a Run, a model, a model's name or ``"bm25"``.
        after: another.
        domain: on what.
        split: whose queries; default: the first test split.
        metric: what is won and lost.
        k: rows of the ranked lists.
        names: what the two are called.

    Raises:
        EmbkitError: an unknown split, or a model that cannot be had.

    Example:
        >>> browser = FailureBrowser("minilm", run, domain)  # doctest: +SKIP
        >>> browser.outcome = "lost"; browser.reason  # doctest: +SKIP
    """

    outcome = traitlets.Enum(OUTCOMES, "lost", help="which queries are listed")
    find = traitlets.Unicode(help="words that the query must hold")
    query = traitlets.Unicode(allow_none=True, help="the id of the query that is looked at")

    def __init__(
        self,
        before: Any,
        after: Any,
        domain: Domain,
        *,
        split: str | None = None,
        metric: str = "ndcg@10",
        k: int = 5,
        names: tuple[str, str] = ("before", "after"),
    ) -> None:
        self.domain, self.names, self.metric, self.k = domain, names, metric, k
        self.split = split if split is not None else domain.test_splits[0]
        judged = domain.split(self.split)
        self._right = {q: set(right_documents(row)) for q, row in judged.items()}
        self._rankings = [rank(as_model(what), domain, self.split) for what in (before, after)]
        self._warning = own_domain(domain, before, after)
        tables = [score(r, domain, self.split, (metric,)) for r in self._rankings]
        was, now = (table[metric].to_dict() for table in tables)
        self.cases = {
            q: Case(q, domain.queries[q], was[q], now[q], (self._best(0, q), self._best(1, q)))
            for q in was
        }
        counts = self._counts()
        self._which = ipywidgets.ToggleButtons(
            options=[(f"{name} {counts[name]:,}", name) for name in OUTCOMES],
            style={"button_width": "7em"},
        )
        self._words = ipywidgets.Text(placeholder="query has the words", layout={"width": "16em"})
        self._list = ipywidgets.Select(rows=8, layout={"width": "100%"})
        self._list.add_class("embkit-list")
        self.detail = ipywidgets.HTML()
        super().__init__()
        if not counts["lost"]:
            self.outcome = "won" if counts["won"] else "tied"
        controls = self.link(outcome=self._which, find=self._words)
        self.children = [ipywidgets.HBox(controls), self._list, self.detail, self.status]
        self._list.observe(self.guarded(lambda c: self.set_trait("query", c["new"])), "value")
        self.on(["outcome", "find"], self._fill)
        self.on("query", self._look)
        self._fill()

    def _counts(self) -> Counter[str]:
        return Counter(case.outcome for case in self.cases.values())

    def _best(self, side: int, query: str) -> int | None:
        """The rank of the best right document; None where it is not among those ranked."""
        right = self._right[query]
        found = (n for n, d in enumerate(self._rankings[side][query], start=1) if d in right)
        return next(found, None)

    @property
    def listed(self) -> list[Case]:
        """The cases of the outcome whose query holds the words, largest change first."""
        asked = set(words(self.find))
        found = [
            case
            for case in self.cases.values()
            if case.outcome == self.outcome and asked <= set(words(case.text))
        ]
        return sorted(found, key=lambda case: (-abs(case.change), case.query))

    def _fill(self) -> None:
        cases = self.listed
        options = [(f"{case.change:+.2f}  {case.text[:SHOWN]}", case.query) for case in cases]
        self._list.options = options[:MOST]
        more = f"The first {MOST} are listed." if len(cases) > MOST else ""
        no = f"No query that was {self.outcome} holds {self.find[:60]!r}." if not cases else ""
        self.tell(self._warning, more, no)
        self.query = cases[0].query if cases else None
        self._list.value = self.query

    def _look(self) -> None:
        if self.query is None:
            self.detail.value = ""
            return
        if self.query not in self.cases:
            given, self.query = self.query, None
            raise unknown("query", given, list(self.cases)[:20])
        if self.query in [value for _, value in self._list.options]:
            self._list.value = self.query
        case, lists = self.cases[self.query], []
        answers = "; ".join(self.domain.corpus[d][:SHOWN] for d in sorted(self._right[case.query]))
        for side, value in enumerate((case.before, case.after)):
            rows, right = self._rows(side, case.query)
            shown = framed(Table(HEAD, rows, bold={(n, 0) for n in right}))
            lists.append(f"<b>{html.escape(self.names[side])}</b> {value:.3f}{shown}")
        self.detail.value = (
            f"<div class='embkit-case'><b>{html.escape(case.text[:500])}</b><br>"
            f"★ {html.escape(answers[:500])}"
            f"<p class='embkit-reason'>{html.escape(self.reason)}</p>{columns(*lists)}</div>"
        )

    def _rows(self, side: int, query: str) -> tuple[list[list[str]], set[int]]:
        """The first k of a list, and the best right one if it stands below; which are right."""
        ranking, text = list(self._rankings[side][query].items()), self.cases[query].text
        places, best = list(range(min(self.k, len(ranking)))), self._best(side, query)
        places += [best - 1] if best and best > self.k else []
        rows, right = [], set()
        for number, place in enumerate(places):
            document, value = ranking[place]
            body = self.domain.corpus[document]
            both = ", ".join(shared(text, body)) or "none"
            rows.append([str(place + 1), body[:SHOWN], f"{value:.3f}", both])
            if document in self._right[query]:
                right.add(number)
        return rows, right

    @property
    def reason(self) -> str:
        """Why the query scored as it did: ranks, scores and shared words, side by side."""
        if self.query is None:
            return ""
        case, right = self.cases[self.query], self._right[self.query]
        stood = [
            f"{_stood(place, len(rankings[self.query]))} {name}"
            for place, rankings, name in zip(case.ranks, self._rankings, self.names, strict=True)
        ]
        parts = [f"best right answer: {', '.join(stood)}"]
        for name, rankings in zip(self.names, self._rankings, strict=True):
            ranking = rankings[self.query]
            wrong = next((d for d in ranking if d not in right), None)
            best = next((d for d in ranking if d in right), None)
            if wrong is None or best is None:
                continue
            both = [len(shared(case.text, self.domain.corpus[d])) for d in (best, wrong)]
            parts.append(
                f"{name}, it scores {ranking[best] - ranking[wrong]:+.3f} against the best wrong "
                f"one; words shared with the query: {both[0]}, the wrong one {both[1]}"
            )
        return "; ".join(parts) + "."

    def picture(self) -> Figure:
        title = f"{len(self.listed):,} of {len(self.cases):,} queries of {self.split!r} "
        title += self.outcome
        if self.query is None:
            return listing(title, {}, self.message)
        case, lists = self.cases[self.query], {}
        for side, value in enumerate((case.before, case.after)):
            rows, right = self._rows(side, case.query)
            lists[f"{self.names[side]} ({value:.3f})"] = [
                (f"{row[0]}  {row[1]} ({row[2]})", n in right) for n, row in enumerate(rows)
            ]
        return listing(f"{title}; {case.text}", lists, self.reason.replace("; ", "\n"))

    def __repr__(self) -> str:
        mean = np.mean([case.change for case in self.cases.values()])
        counts = self._counts()
        shown = ", ".join(f"{counts[name]:,} {name}" for name in OUTCOMES)
        return f"FailureBrowser({self.split}: {shown}; {self.metric} {mean:+.3f} on the mean)"


def _stood(place: int | None, ranked: int) -> str:
    if place is not None:
        return f"rank {place:,}"
    return f"rank beyond {ranked}" if ranked >= DEPTH else "not found"


def shared(query: str, document: str) -> list[str]:
    """The words of a query that a document has too."""
    known = set(words(document))
    return [word for word in dict.fromkeys(words(query)) if word in known]
