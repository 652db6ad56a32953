"""compare() -> Report: one table of results that shows itself in a notebook, a terminal, a file."""

from __future__ import annotations

import base64
import json
import math
import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from textwrap import indent
from typing import TYPE_CHECKING, Any

from .. import plots
from ..data.domain import Domain, right_documents
from ..display import WIDTH, Table, as_html, no_formula, table, visible
from ..errors import unknown
from ..files import filled, told_by, write_atomic
from .decision import Row, decided
from .intervals import WORTH, holm
from .metrics import refused

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FEW = 12  # approaches up to which a page shows all of them beside each other
HERE = Path(__file__).parent
COLUMNS: dict[str, dict[str, list[str]]] = told_by(__file__, "columns.toml")
ASIDE = {"split", "queries", "win / tie / loss", "MRR@10", "recall@10", "recall@100", "hit@1"}
TRAINING = ("train_seconds", "trainable_params")  # costs that an untrained model does not have


@dataclass(frozen=True, repr=False)
class Report:
    """Rows of results, one an approach and split, that show themselves."""

    rows: list[Row]  # as `ek.compare` makes them; a value that does not apply is None
    baseline: str | None = None  # the approach that the differences are taken to
    tests: int = 0  # how many were asked for: what p is corrected for
    scores: Sequence[Any] = field(default=(), compare=False)  # the Scores that it compares

    def pareto(self, cost: str = "train_seconds", split: str | None = None) -> Figure:
        """Quality against cost, drawn with its ``pareto_front``, which has the same arguments."""
        shown = _priced(self.rows, cost, split)
        whole = [r for r in self.rows if shown and r["split"] == shown[0]["split"]]
        missing = sum(not row.get("subset") for row in whole) - len(shown)
        return plots.pareto(shown, pareto_front(self, cost, split), cost, missing=missing)

    def table(self) -> Table:
        """Scores, intervals and tests, one row an approach and split; what dev chose is bold."""
        dev = [row["dev"] for row in self.rows if row.get("dev") is not None]
        whole = len(dev) == len(self.rows)  # what is not known may be the best
        best = max(dev) if whole and len({*dev}) > 1 else None
        bold = {(n, 2) for n, r in enumerate(self.rows) if best is not None and r["dev"] == best}
        columns = dict(COLUMNS["first"])
        if self.baseline:
            columns |= {f"Δ {self.baseline} [95%]": ["delta_vs_base", "+.3f"]} | COLUMNS["tested"]
        if not self.tests:
            columns.pop("p Holm", None)
        known = {key for row in self.rows for key, value in row.items() if value is not None}
        columns |= {head: how for head, how in COLUMNS["metrics"].items() if how[0] in known}
        rows = [{head: cell(row, *how) for head, how in columns.items()} for row in self.rows]
        return table(rows, caption=self._note(bool(bold)), bold=bold)

    def _note(self, chosen: bool) -> str:
        """What the figures are over, and what p is corrected for."""
        over = {
            row["split"]: f"{row['clusters']:,} {row['over']} ({row['split']})"
            for row in self.rows
            if row.get("clusters") and not row["subset"]
        }
        seeds = {row.get("seeds", 1) for row in self.rows if row.get("recipe_hash")}
        missing = {s: n for r in self.rows for s, n in (r.get("missing_judged") or {}).items() if n}
        told = {"report": self, "over": over, "seeds": seeds, "missing": missing, "chosen": chosen}
        return filled(HERE / "note.jinja", **told)

    def to_text(self) -> str:
        """What decides, for a terminal, one block a split; the other forms have all of it."""
        if not self.rows:
            return "nothing evaluated yet"
        whole = self.table()
        aside = ASIDE | {"p"} if "p Holm" in whole.head else ASIDE
        shown = [n for n, head in enumerate(whole.head) if head not in aside]
        narrow = Table(
            [whole.head[n] for n in shown],
            [[cells[n] for n in shown] for cells in whole.cells],
            bold={(row, shown.index(column)) for row, column in whole.bold},
        )
        head, *lines = (indent(row, "  ") for row in narrow.text_rows(WIDTH - 2))
        out = [head]
        rows = zip(whole.cells, lines, strict=True)
        for (split, queries), block in groupby(rows, key=lambda row: (row[0][1], row[0][-1])):
            noun = "query" if queries == "1" else "queries"
            out += ["", f"{visible(split)}, {queries} {noun}", *(line for _, line in block)]
        return "\n".join(out)

    def to_markdown(self) -> str:
        """A table for a README."""
        return self.table().to_markdown()

    def to_latex(self) -> str:
        """A table for a paper: a ``tabular`` with booktabs' rules (``\\usepackage{booktabs}``)."""
        return self.table().to_latex()

    def to_csv(self) -> str:
        """Every value of every row; an interval becomes two columns, ``…_low`` and ``…_high``.

        A text that a spreadsheet would run as a formula gets an apostrophe before it.
        """
        import pandas as pd

        rows: list[Row] = [{} for _ in self.rows]
        for flat, row in zip(rows, self.rows, strict=True):
            for name, value in row.items():
                if name.endswith("_ci"):
                    flat[f"{name[:-3]}_low"], flat[f"{name[:-3]}_high"] = value or (None, None)
                else:
                    flat[name] = no_formula(value)
        return pd.DataFrame(rows, dtype=object).to_csv(index=False, lineterminator="\n")

    def _repr_html_(self) -> str:
        if not self.rows:
            return "<p>Nothing evaluated yet: <code>ek.evaluate(run, domain)</code></p>"
        return self.table().to_html()

    __repr__ = to_text

    def save(self, folder: str | os.PathLike[str], domain: Domain | None = None) -> Path:
        """Write the report into a folder, each file whole or not at all; fails where it cannot.

        The files are `leaderboard.json`, `.csv`, `.md` and `.tex`, and the page `report.html`; with
        a domain the page shows the queries that won and lost most.
        """
        data = json.dumps(self.rows, indent=1, ensure_ascii=False, allow_nan=False)
        files = {
            "leaderboard.json": data + "\n",
            "leaderboard.csv": self.to_csv(),
            "leaderboard.md": self.to_markdown() + "\n",
            "leaderboard.tex": self.to_latex() + "\n",
            "report.html": self._page(domain),
        }
        for name, text in files.items():
            write_atomic(Path(folder) / name, text)
        return Path(folder)

    def _cost(self) -> Table:
        """What each approach is and costs, one row each."""
        rows = [
            {head: cell(row, *how) for head, how in COLUMNS["costs"].items()} for row in self.rows
        ]
        return table(row for place, row in enumerate(rows) if row not in rows[:place])

    def _page(self, domain: Domain | None) -> str:
        """The whole HTML page, with its pictures inside."""
        found = decided(self.rows, self.baseline) if self.baseline else None
        chosen = found.approach if found else None
        whole = [row for row in self.rows if not row.get("subset")]
        places: dict[str, dict[str, Row]] = {}  # label -> split -> row
        for row in whole:
            places.setdefault(row["label"], {})[row["split"]] = row
        first, folded = _by_lesson([[*of.values()][0] for of in places.values()], chosen)
        figures = []
        if scored := [row for row in whole if row.get("ndcg@10") is not None]:
            shown = [row for row in scored if row["label"] in first]
            figures.append(plots.intervals(shown or scored))
        if any(row.get("train_seconds") for row in self.rows):
            dev = [r | {"split": "dev", "ndcg@10": r["dev"], "ndcg@10_ci": None} for r in scored]
            known = [row for row in dev if row["dev"] is not None and row["label"] in first]
            figures.append(Report(known or scored).pareto())
        pictures = [(plots.alt_text(f), base64.b64encode(plots.png(f)).decode()) for f in figures]
        one = next((s for s in self.scores if s.label == chosen and domain), None)
        return as_html(
            "evaluation/report.jinja",
            report=self,
            cell=cell,
            verdict=found,
            places=places,
            first=first,
            folded=folded,
            pictures=pictures,
            domain=domain,
            one=one,
            base=base_of(one, self.scores, str(self.baseline)) if one else None,
            right=right_documents,
        )


def compare(
    scores: Sequence[Any], baseline: str = "base", *, asked: Sequence[str] | None = None
) -> Report:
    """Put approaches side by side, each tested against the baseline on nDCG@10, query by query.

    One row an approach, split and subset; the highest nDCG@10 of each first. ``p_vs_base`` is each
    test's own p; ``p_holm`` the same, corrected for the comparisons that were asked for (Holm).
    Intervals and tests are over clusters of queries (``intervals.clusters``) and over seeds.

    Args:
        scores: ``Scores`` of one domain, the baseline's among them.
        baseline: the approach (or label) to compare with. Where several scores bear that name,
            each approach meets the one with its own base model, else the first.
        asked: names (or labels) of the approaches whose comparison was planned: the family of
            tests that p is corrected for; default: all that are given.

    Fails for no scores, the same scores twice, scores of different domains, a missing baseline, or
    approaches that were not scored on the same queries.
    """
    scores = list(scores)
    if not scores:
        raise refused("no scores")
    first = scores[0]
    for other in scores:
        other.check_domain(first.domain, first.domain_hash)
    names = Counter((s.label, s.base_model, s.recipe_hash, s.meta.get("seed")) for s in scores)
    (name, *_), times = names.most_common(1)[0]
    if times > 1:
        raise refused("twice", name=name)
    if base_of(first, scores, baseline) is None:
        raise unknown("baseline", baseline, [s.label for s in scores])

    # each approach against its baseline, row by row
    rows = []
    for one in scores:
        base = base_of(one, scores, baseline)
        for row in one.rows():
            if one is not base and row["queries"]:
                place = (row["split"], "ndcg@10", row["subset"])
                test = one.test(base, *place)
                row |= {"p_vs_base": test.p, "delta_vs_base": test.delta}
                row["delta_vs_base_ci"] = [*test.estimate.within(-1.0, 1.0)]
                row |= {"wins": test.wins, "ties": test.ties, "losses": test.losses}
                row["visible_vs_base"] = test.estimate.visible
                row["needed_vs_base"] = test.estimate.needed(WORTH)
            rows.append(row)
    # the tests that were asked for are one family
    named = {name for one in scores for name in (one.label, one.approach)}
    if strange := [name for name in asked or () if name not in named]:
        raise unknown("approach", strange[0], named)
    family = named if asked is None else {*asked}
    tested = [r for r in rows if r["p_vs_base"] is not None]
    tested = [row for row in tested if {row["label"], row["approach"]} & family]
    for row, p in zip(tested, holm([row["p_vs_base"] for row in tested]), strict=True):
        row["p_holm"] = p
    # the best of each split and subset first
    splits = list(dict.fromkeys(row["split"] for row in rows))
    subsets = [None, *dict.fromkeys(row["subset"] for row in rows if row["subset"])]
    best = lambda row: math.inf if row["ndcg@10"] is None else -row["ndcg@10"]  # noqa: E731
    rows.sort(key=lambda r: (splits.index(r["split"]), subsets.index(r["subset"]), best(r)))
    return Report(rows, baseline=baseline, tests=len(tested), scores=scores)


def base_of(one: Any, scores: Sequence[Any], baseline: str) -> Any:
    """The baseline of an approach: that of its own base model, else the first; None without."""
    bases = [s for s in scores if baseline in (s.approach, s.label)]
    return next((b for b in bases if b.base_model == one.base_model), next(iter(bases), None))


def _by_lesson(rows: Sequence[Row], chosen: str | None) -> tuple[list[str], dict[str, list[str]]]:
    """The labels of the approaches, the best on dev first; by lesson those of the experiments
    around them.

    Of many rows, a lesson's approach is the one with most seeds, of these the best on dev. What dev
    chose, and what needs no training, is no experiment.
    """
    lessons = told_by(__file__, "lessons.toml")
    of = {
        row["label"]: next((n for n, word in lessons.items() if re.search(word, row["label"])), "")
        for row in sorted(rows, key=lambda row: -(row.get("dev") or 0))
    }
    seeds = {row["label"]: row.get("seeds", 1) for row in rows}
    best = {of[label]: label for label in sorted(reversed(of), key=seeds.__getitem__)}
    kept = {chosen, *best.values()}
    first = [n for n in of if len(of) <= FEW or of[n].startswith("01") or n in kept]
    left = {
        lesson: [n for n in of if of[n] == lesson and n not in first] for lesson in sorted(best)
    }
    return first, {name or "Others": labels for name, labels in left.items() if labels}


def with_interval(value: float | None, interval: Sequence[float] | None, form: str) -> str:
    """A value and its interval as a table has them: ``0.500 [0.400, 0.600]``."""
    if value is None or interval is None:
        return "" if value is None else format(value, form)
    return f"{value:{form}} [{interval[0]:{form}}, {interval[1]:{form}}]"


def cell(row: Row, key: str, form: str) -> str:
    """What a table writes of a row: a value, with its interval where it has one."""
    value = row.get(key)
    if key == "label":
        return str(value or row["approach"])
    if key == "split":
        return row["split"] + (f" / {row['subset']}" if row["subset"] else "")
    if key == "wins":
        counts = [row.get(name) for name in ("wins", "ties", "losses")]
        return " / ".join(format(n, form) for n in counts if n is not None)
    if key.startswith("p_") and value is not None and value < 0.001:
        return "<0.001"
    return with_interval(value, row.get(f"{key}_ci"), form)


def pareto_front(
    report: Report | Sequence[Row], cost: str = "train_seconds", split: str | None = None
) -> list[Row]:
    """The rows that no other row beats in both: as cheap or cheaper, and better; cheapest first.

    Rows without the cost are left out, but those of models that were never trained: their training
    cost nothing.

    Args:
        report: a report, or its rows.
        cost: a column where less is better; the quality is nDCG@10.
        split: default: the first.
    """
    front: list[Row] = []
    rows = _priced(report.rows if isinstance(report, Report) else report, cost, split)
    for row in sorted(rows, key=lambda row: (row[cost], -row["ndcg@10"])):
        if not front or row["ndcg@10"] > front[-1]["ndcg@10"]:
            front.append(row)
    return front


def _priced(rows: Sequence[Row], cost: str, split: str | None) -> list[Row]:
    """The rows of one split whose quality and cost are known; what needs no training costs 0."""
    split = split or next((row["split"] for row in rows), None)
    found = []
    for row in rows:
        free = cost in TRAINING and row.get("trainable_params") == 0
        price = 0.0 if free and row.get(cost) is None else row.get(cost)
        shown = row["split"] == split and not row.get("subset")
        if shown and price is not None and row.get("ndcg@10") is not None:
            found.append(row | {cost: price})
    return found
