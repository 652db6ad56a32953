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

from ..data.domain import Domain
from ..data.text_checks import words
from ..errors import unknown
from ..evaluation.ranking import rank, score
from ..models.loading import as_model
from .base import Panel, listing, own_domain, table

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
    ranks: tuple[int | None, int | None]  # of the best right document; None: not among the 100

    @property
    def change(self) -> float:
        """After less before."""
        return self.after - self.before

    @property
    def outcome(self) -> str:
        """``won``, ``lost`` or ``tied``, from the second model's side."""
        return "tied" if abs(self.change) <= SAME else "won" if self.change > 0 else "lost"


class FailureBrowser(Panel):
    """Two models on one split, query by query: sift by outcome and by words, look at one.

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
        self._qrels = domain.split(self.split)
        self._rankings = [rank(as_model(what), domain, self.split) for what in (before, after)]
        self.cases = self._cases()
        self._warning = " ".join(filter(None, (own_domain(w, domain) for w in (before, after))))
        counts = Counter(case.outcome for case in self.cases.values())
        self._which = ipywidgets.ToggleButtons(
            options=[(f"{name} {counts[name]:,}", name) for name in OUTCOMES],
            style={"button_width": "7em"},
        )
        self._words = ipywidgets.Text(placeholder="query has the words", layout={"width": "16em"})
        self._list = ipywidgets.Select(rows=8, layout={"width": "100%"})
        self._which.add_class("embkit-outcome")
        self._words.add_class("embkit-find")
        self._list.add_class("embkit-list")
        self.detail = ipywidgets.HTML()
        super().__init__()
        sift = ipywidgets.HBox([self._which, self._words])
        self.children = [sift, self._list, self.detail, self.status]
        if not counts["lost"]:
            self.outcome = "won" if counts["won"] else "tied"
        traitlets.link((self, "outcome"), (self._which, "value"))
        traitlets.link((self, "find"), (self._words, "value"))
        self._list.observe(self.guarded(lambda c: self.set_trait("query", c["new"])), "value")
        self.observe(self.guarded(lambda _: self._fill()), ["outcome", "find"])
        self.observe(self.guarded(lambda _: self._look()), "query")
        self._fill()

    def _cases(self) -> dict[str, Case]:
        tables = [score(r, self.domain, self.split, (self.metric,)) for r in self._rankings]
        before, after = (frame[self.metric].to_dict() for frame in tables)
        return {
            q: Case(
                q,
                self.domain.queries[q],
                before[q],
                after[q],
                (self._best_right(0, q), self._best_right(1, q)),
            )
            for q in before
        }

    def _right(self, query: str) -> set[str]:
        return {d for d, grade in self._qrels[query].items() if grade > 0}

    def _best_right(self, side: int, query: str) -> int | None:
        right = self._right(query)
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
        more = f" The first {MOST} are listed." if len(cases) > MOST else ""
        no = f"No query that was {self.outcome} holds {self.find[:60]!r}." if not cases else ""
        self.tell(" ".join(filter(None, (self._warning, more.strip(), no))))
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
        case = self.cases[self.query]
        right = self.domain.corpus
        answers = "; ".join(right[d][:SHOWN] for d in sorted(self._right(case.query)))
        head = f"<b>{html.escape(case.text[:500])}</b><br>★ {html.escape(answers[:500])}"
        lists = "".join(
            f"<div style='flex:1;min-width:0'><b>{html.escape(name)}</b> {value:.3f}"
            f"{table(HEAD, *self._rows(side, case.query))}</div>"
            for side, (name, value) in enumerate(
                zip(self.names, (case.before, case.after), strict=True)
            )
        )
        self.detail.value = (
            f"<div class='embkit-case'>{head}<p class='embkit-reason'>{html.escape(self.reason)}"
            f"</p><div style='display:flex;gap:1em'>{lists}</div></div>"
        )

    def _rows(self, side: int, query: str) -> tuple[list[tuple[str, ...]], list[int]]:
        """The first k of a list, and the best right one if it stands below; which are right."""
        ranking, right = list(self._rankings[side][query].items()), self._right(query)
        texts = self.domain.queries
        places = list(range(min(self.k, len(ranking))))
        best = self._best_right(side, query)
        places += [best - 1] if best and best > self.k else []
        rows: list[tuple[str, ...]] = [
            (
                f"{'★ ' if ranking[i][0] in right else ''}{i + 1}",
                self.domain.corpus[ranking[i][0]][:SHOWN],
                f"{ranking[i][1]:.3f}",
                ", ".join(shared(texts[query], self.domain.corpus[ranking[i][0]])) or "none",
            )
            for i in places
        ]
        return rows, [n for n, i in enumerate(places) if ranking[i][0] in right]

    @property
    def reason(self) -> str:
        """Why the query scored as it did: ranks, scores and shared words, side by side."""
        if self.query is None:
            return ""
        case = self.cases[self.query]
        parts = [
            f"best right answer: rank {_place(case.ranks[0])} {self.names[0]}, "
            f"{_place(case.ranks[1])} {self.names[1]}"
        ]
        for side, name in enumerate(self.names):
            ranking, right = self._rankings[side][self.query], self._right(self.query)
            wrong = next((d for d in ranking if d not in right), None)
            best = next((d for d in ranking if d in right), None)
            if wrong is None or best is None:
                continue
            ahead = ranking[best] - ranking[wrong]
            words_of = [len(shared(case.text, self.domain.corpus[d])) for d in (best, wrong)]
            parts.append(
                f"{name}, it scores {ahead:+.3f} against the best wrong one; words shared with the "
                f"query: {words_of[0]}, the wrong one {words_of[1]}"
            )
        return "; ".join(parts) + "."

    def picture(self) -> Figure:
        cases = self.listed
        title = f"{len(cases):,} of {len(self.cases):,} queries of {self.split!r} {self.outcome}"
        if self.query is None:
            return listing(title, {}, self.message)
        case, columns = self.cases[self.query], {}
        for side, value in enumerate((case.before, case.after)):
            rows, marked = self._rows(side, case.query)
            columns[f"{self.names[side]} ({value:.3f})"] = [
                (f"{row[0].strip('★ ')}  {row[1]} ({row[2]})", n in marked)
                for n, row in enumerate(rows)
            ]
        return listing(f"{title}; {case.text}", columns, self.reason.replace("; ", "\n"))

    def __repr__(self) -> str:
        mean = np.mean([case.change for case in self.cases.values()])
        counts = Counter(case.outcome for case in self.cases.values())
        shown = ", ".join(f"{counts[name]:,} {name}" for name in OUTCOMES)
        return f"FailureBrowser({self.split}: {shown}; {self.metric} {mean:+.3f} on the mean)"


def shared(query: str, document: str) -> list[str]:
    """The words of a query that a document has too."""
    known = set(words(document))
    return [word for word in dict.fromkeys(words(query)) if word in known]


def _place(rank: int | None) -> str:
    return "beyond 100" if rank is None else f"{rank:,}"
