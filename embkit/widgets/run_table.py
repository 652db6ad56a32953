"""The leaderboard to sort and filter. Python decides what is shown; the page sends clicks."""

from typing import Any, Self

import traitlets

from ..display import Table
from ..errors import unknown
from ..evaluation.report import COLUMNS, Report, cell
from ..plots.figures import name
from .base import Page, page, refused

STILL = 20  # rows of the still picture
HOW = COLUMNS["sortable"]  # heading -> what it is sorted by, and how its numbers are written


class RunTable(Page):
    """A report's rows of one split, sorted by any column, filtered by name; a click chooses a row.

    What is clicked can be typed: ``table.split = "novel"``, ``table.find = "LoRA"``,
    ``table.by("seconds")``, ``table.choose("base")``. ``table.chosen`` names what was chosen, and
    ``table.report`` is the report of it alone. Fails for no report, or one without rows.
    """

    _esm, _css = page("run_table")
    split, find, sort = (traitlets.Unicode().tag(sync=True) for _ in range(3))
    descending = traitlets.Bool(True).tag(sync=True)
    _lists: Any = [traitlets.List().tag(sync=True) for _ in range(4)]
    splits, columns, rows, chosen = _lists

    def __init__(self, report: Report) -> None:
        if not isinstance(report, Report) or not report.rows:
            raise refused("no rows", kind=type(report).__name__)
        self._all = report
        places = list(dict.fromkeys(cell(row, "split", "") for row in report.rows))
        first = {"split": places[0], "sort": "nDCG@10 [95%]"}
        super().__init__(splits=places, columns=list(HOW), **first)
        self.observe(self._shown, ["split", "find", "sort", "descending"])
        self._shown()

    def by(self, column: str) -> Self:
        """Sorts by a column; by the same again, the other way round."""
        if column not in HOW:
            raise unknown("column", column, HOW)
        self.descending = not self.descending if column == self.sort else column != "approach"
        self.sort = column
        return self

    def choose(self, label: str) -> Self:
        """Chooses an approach, or lets it go again."""
        names = dict.fromkeys(map(name, self._all.rows))
        if label not in names:
            raise unknown("approach", label, names)
        left = [other for other in self.chosen if other != label]
        self.chosen = left if label in self.chosen else [*self.chosen, label]
        return self

    @property
    def report(self) -> Report:
        """The report of what was chosen, all of its splits; of everything while nothing is."""
        rows = [r for r in self._all.rows if not self.chosen or name(r) in self.chosen]
        return Report(rows, baseline=self._all.baseline)

    def heard(self, content: Any) -> None:
        self.tell()
        if "sort" in content:
            self.by(str(content["sort"]))
        if "choose" in content:
            self.choose(str(content["choose"]))

    def _shown(self, *_: Any) -> None:
        key, wanted = HOW[self.sort][0], self.find.casefold()
        found = [r for r in self._all.rows if cell(r, "split", "") == self.split]
        found = [r for r in found if wanted in name(r).casefold()]
        known = [r for r in found if r.get(key) is not None]
        known.sort(key=lambda row: row[key], reverse=self.descending)
        known += [r for r in found if r.get(key) is None]  # at the end, either way
        self.rows = [[cell(row, *how) for how in HOW.values()] for row in known]

    def still(self) -> str:
        note = f"{min(STILL, len(self.rows))} of {len(self.rows)} on {self.split}, by {self.sort}"
        return Table(self.columns, self.rows[:STILL], note).to_html()

    def __repr__(self) -> str:
        return f"RunTable({len(self.rows)} approaches on {self.split}, by {self.sort})"
