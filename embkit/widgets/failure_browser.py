"""Queries that one model won, lost or tied against another, with both lists and the reason why."""

from collections import Counter
from dataclasses import dataclass
from typing import Any

import ipywidgets
import numpy as np
import traitlets

from ..data.domain import Domain, right_documents
from ..data.text_checks import words
from ..errors import unknown
from ..evaluation.ranking import DEPTH, rank, score
from ..files import filled
from ..plots.space import SIDES
from .base import PAGES, Names, Panel, own_domain, stood

OUTCOMES = ("won", "lost", "tied")
METRIC = "ndcg@10"  # what is won and lost
SAME = 1e-9  # a difference in the metric up to this is a tie
MOST = 200  # queries in the list
ROWS, SHOWN = 5, 110  # of a ranked list; characters of a text in a row


@dataclass(frozen=True)
class Case:
    """One query: what it scored before and after, and where its best right document stood."""

    query: str
    text: str
    before: float
    after: float
    ranks: tuple[int | None, ...]  # of the best right document; None: not in the ranking

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

    ``outcome``, ``find`` and ``query`` are traits: set them from code as a click does. Fails for an
    unknown split, or a model that cannot be had. Example: ``browser.outcome = "lost"``, after which
    ``browser.reason`` tells why the first of them scored as it did.

    Args:
        before, after: each a Run, a model, a model's name or ``"bm25"``.
        split: whose queries; default: the first test split.
    """

    outcome = traitlets.Enum(OUTCOMES, "lost", help="which queries are listed")
    find = traitlets.Unicode(help="words that the query must hold")
    query = traitlets.Unicode(allow_none=True, help="the id of the query that is looked at")

    def __init__(
        self, before: Any, after: Any, domain: Domain, *, split: str = "", names: Names = SIDES
    ) -> None:
        self.domain, self.names, self.split = domain, names, split or domain.test_splits[0]
        judged = domain.split(self.split)
        self._right = {q: set(right_documents(row)) for q, row in judged.items()}
        self._rankings = [rank(what, domain, self.split) for what in (before, after)]
        self._warning = own_domain(domain, before, after)
        was, now = (score(r, domain, self.split, (METRIC,))[METRIC] for r in self._rankings)
        self.cases = {}
        for q in was.index:  # the rank of the best right document on both sides
            lists, right = [rankings[q] for rankings in self._rankings], self._right[q]
            best = (next((n for n, d in enumerate(of, 1) if d in right), None) for of in lists)
            self.cases[q] = Case(q, domain.queries[q], was[q], now[q], tuple(best))
        self._counts = Counter(case.outcome for case in self.cases.values())
        options = [(f"{name} {self._counts[name]:,}", name) for name in OUTCOMES]
        self._which = ipywidgets.ToggleButtons(options=options, style={"button_width": "7em"})
        self._words = ipywidgets.Text(placeholder="query has the words", layout={"width": "16em"})
        self._list = ipywidgets.Select(rows=8, layout={"width": "100%"})
        self._list.add_class("embkit-list")
        self.detail = ipywidgets.HTML()
        super().__init__()
        if not self._counts["lost"]:
            self.outcome = "won" if self._counts["won"] else "tied"
        controls = self.link(outcome=self._which, find=self._words)
        self.children = [ipywidgets.HBox(controls), self._list, self.detail, self.status]
        self._list.observe(self.guarded(lambda c: self.set_trait("query", c["new"])), "value")
        self.on(["outcome", "find"], self._fill)
        self.on("query", self._look)
        self._fill()

    @property
    def listed(self) -> list[Case]:
        """The cases of the outcome whose query holds the words, largest change first."""
        asked = set(words(self.find))
        cases = (case for case in self.cases.values() if case.outcome == self.outcome)
        found = [case for case in cases if asked <= set(words(case.text))]
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
        case, right = self.cases[self.query], sorted(self._right[self.query])
        answers = "; ".join(self.domain.corpus[d][:SHOWN] for d in right)
        sides = zip(self.names, (case.before, case.after), self._rankings, case.ranks, strict=True)
        shown = {"case": case, "answers": answers, "right": right, "shared": shared}
        shown["sides"] = [(n, value, of[case.query], best) for n, value, of, best in sides]
        self.show("failure_browser", self.detail, rows=ROWS, most=SHOWN, **shown)

    @property
    def reason(self) -> str:
        """Why the query scored as it did: ranks, scores and shared words, side by side."""
        if self.query is None:
            return ""
        case = self.cases[self.query]
        shown: dict[str, Any] = {"stood": stood, "shared": shared, "depth": DEPTH}
        rankings = [ranking[self.query] for ranking in self._rankings]
        shown["sides"] = [*zip(self.names, rankings, case.ranks, strict=True)]
        shown |= {"text": case.text, "right": self._right[self.query]}
        return filled(PAGES / "reason.jinja", corpus=self.domain.corpus, **shown)

    def title(self) -> str:
        listed, cases = len(self.listed), len(self.cases)
        return f"{listed:,} of {cases:,} queries of {self.split}: {self.outcome}"

    def __repr__(self) -> str:
        mean = np.mean([case.change for case in self.cases.values()])
        shown = ", ".join(f"{self._counts[name]:,} {name}" for name in OUTCOMES)
        return f"FailureBrowser({self.split}: {shown}; {METRIC} {mean:+.3f} on the mean)"


def shared(query: str, document: str) -> list[str]:
    """The words of a query that a document has too."""
    known = set(words(document))
    return [word for word in dict.fromkeys(words(query)) if word in known]
