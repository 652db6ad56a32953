"""Report: one table of results that shows itself in a notebook, a terminal, a file."""

from __future__ import annotations

import base64
import html
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any

from ..display import BEST, Table, table, visible
from ..errors import EmbkitError
from ..files import write_atomic

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Row = dict[str, Any]
_COSTS = {  # heading -> column of the rows, and how it is written
    "learning rate": ("learning_rate", "g"),
    "seed": ("seed", "d"),
    "trained": ("trainable_params", ",d"),
    "of": ("total_params", ",d"),
    "train s": ("train_seconds", ",.1f"),
    "peak MB": ("peak_memory_mb", ",.0f"),
    "dim": ("dim", "d"),
    "bytes": ("bytes_per_embedding", ",d"),
    "texts/s": ("encode_per_second", ",.0f"),
    "corpus": ("corpus", ",d"),
    "general nDCG@10": ("general_ndcg@10", ".3f"),
}
TRAINING = ("train_seconds", "trainable_params")  # costs that an untrained model does not have


@dataclass(frozen=True, repr=False)
class Report:
    """Rows of results, one an approach and split, that show themselves."""

    rows: list[Row]  # as `ek.compare` makes them; a value that does not apply is None
    baseline: str | None = None  # the approach that the differences are taken to
    tests: int = 0  # how many were asked for: what p is corrected for

    def pareto(self, cost: str = "train_seconds", split: str | None = None) -> Figure:
        """Quality against cost, drawn with its ``pareto_front``, which has the same arguments."""
        from .. import plots

        shown = _priced(self.rows, cost, split)
        whole = [r for r in self.rows if shown and r["split"] == shown[0]["split"]]
        missing = sum(not row.get("subset") for row in whole) - len(shown)
        return plots.pareto(shown, pareto_front(self, cost, split), cost, missing=missing)

    def table(self) -> Table:
        """Scores, intervals and tests, one row an approach and split; what dev chose is bold."""
        dev = [row["dev"] for row in self.rows if row.get("dev") is not None]
        whole = len(dev) == len(self.rows)  # what is not known may be the best
        best = max(dev) if whole and len({*dev}) > 1 else None
        shown, bold = [], set()
        for number, row in enumerate(self.rows):
            if best is not None and row["dev"] == best:
                bold.add((number, 2))
            cells = {
                "approach": row.get("label") or row["approach"],
                "split": row["split"] + (f" / {row['subset']}" if row["subset"] else ""),
                "nDCG@10 [95%]": with_interval(row.get("ndcg@10"), row.get("ndcg@10_ci"), ".3f"),
            }
            if self.baseline:
                delta, interval = row.get("delta_vs_base"), row.get("delta_vs_base_ci")
                counts = [row.get(name) for name in ("wins", "ties", "losses")]
                cells |= {
                    f"Δ {self.baseline} [95%]": with_interval(delta, interval, "+.3f"),
                    "p": _p(row.get("p_vs_base")),
                    **({"p Holm": _p(row.get("p_holm"))} if self.tests else {}),
                    "win / tie / loss": " / ".join(f"{n:,d}" for n in counts if n is not None),
                }
            for metric in ("mrr@10", "recall@10", "recall@100", "hit@1"):
                cells[metric.replace("mrr", "MRR")] = _number(row.get(metric), ".3f")
            cells["dev"] = _number(row.get("dev"), ".3f")
            shown.append(cells | {"queries": _number(row.get("queries"), ",d")})
        return table(shown, caption=self._note(bool(bold)), bold=bold)

    def _note(self, chosen: bool) -> str:
        """What the figures are over, and what p is corrected for."""
        over = {
            row["split"]: f"{row['clusters']:,} {row['over']} ({row['split']})"
            for row in self.rows
            if row.get("clusters") and not row["subset"]
        }
        note = "nDCG@10 with its 95% interval"
        note += f" over {', '.join(over.values())}" if over else ""
        several = {row.get("seeds", 1) for row in self.rows if row.get("recipe_hash")}
        note += " and over seeds" if several - {1} else ""
        note += ". One seed: it is of these weights, not of the method." if 1 in several else "."
        if self.baseline:
            note += " Differences and p: paired, over the same; win / tie / loss counts queries. "
            asked = f"p Holm is corrected for the {self.tests} tests that were asked for."
            note += asked if self.tests else "p is of each test alone, not corrected."
        missing = {s: n for r in self.rows for s, n in (r.get("missing_judged") or {}).items() if n}
        for split, n in missing.items():
            note += f" {n:,} judged documents of {split} are not in the corpus: not comparable "
            note += "with published figures."
        return note + (f" {BEST} marks what dev chose." if chosen else "")

    def to_text(self) -> str:
        """A table for a terminal, one block a split."""
        if not self.rows:
            return "nothing evaluated yet"
        whole = self.table()
        narrow = Table(
            [whole.head[0], *whole.head[2:-1]],
            [[cells[0], *cells[2:-1]] for cells in whole.cells],
            bold={(row, column - 1) for row, column in whole.bold},
        )
        head, *lines = narrow.to_text().splitlines()
        out = [f"  {head}"]
        rows = zip(whole.cells, lines, strict=True)
        for (split, queries), block in groupby(rows, key=lambda row: (row[0][1], row[0][-1])):
            out += ["", f"{visible(split)}, {queries} queries", *(f"  {line}" for _, line in block)]
        return "\n".join(out)

    def to_markdown(self) -> str:
        """A table for a README."""
        return self.table().to_markdown()

    def _repr_html_(self) -> str:
        if not self.rows:
            return "<p>Nothing evaluated yet: <code>ek.evaluate(run, domain)</code></p>"
        return self.table().to_html()

    __repr__ = to_text

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Write the report into a folder, each file whole or not at all; fails where it cannot.

        The files are `leaderboard.json`, `leaderboard.md`, and the page `report.html`.
        """
        try:
            data = json.dumps(self.rows, indent=1, ensure_ascii=False, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise EmbkitError(
                f"a row of the report does not fit JSON: {error}",
                expected="numbers, texts, lists, or None where a value does not apply",
                hint="replace NaN by None in the rows, then report.save(...) again",
            ) from error
        files = {
            "leaderboard.json": data + "\n",
            "leaderboard.md": self.to_markdown() + "\n",
            "report.html": self._page(),
        }
        for name, text in files.items():
            write_atomic(Path(folder) / name, text)
        return Path(folder)

    def _cost(self) -> Table:
        """What each approach is and costs, one row each."""
        rows = [
            {
                "approach": row.get("label") or row["approach"],
                "base model": row.get("base_model") or "",
                "recipe": (row.get("recipe_hash") or "")[:8],
            }
            | {head: _number(row.get(name), form) for head, (name, form) in _COSTS.items()}
            for row in self.rows
        ]
        return table(row for place, row in enumerate(rows) if row not in rows[:place])

    def _page(self) -> str:
        """The whole HTML page, with its pictures inside."""
        from .. import plots

        names = ", ".join(dict.fromkeys(str(row["domain"]) for row in self.rows)) or "no results"
        body = [f"<h1>Leaderboard: {html.escape(names)}</h1>", self._repr_html_()]
        if any(row.get("ndcg@10") is not None for row in self.rows):
            body.append(_picture(plots.intervals(self)))
        if self.rows:
            body += ["<h2>What each approach is, and what it cost</h2>", self._cost().to_html()]
        if any(row.get("train_seconds") for row in self.rows):
            body.append(_picture(self.pareto()))
        title = html.escape(f"embkit leaderboard: {names}")
        page = Template(Path(__file__).with_name("report.html").read_text(encoding="utf-8"))
        return page.substitute(title=title, body="\n".join(body))


def _picture(figure: Any) -> str:
    from .. import plots

    picture = base64.b64encode(plots.png(figure)).decode("ascii")
    text = html.escape(plots.alt_text(figure), quote=True)
    return f'<img alt="{text}" src="data:image/png;base64,{picture}">'


def _number(value: Any, form: str) -> str:
    return "" if value is None else format(value, form)


def with_interval(value: float | None, interval: Sequence[float] | None, form: str) -> str:
    """A value and its interval as a table has them: ``0.500 [0.400, 0.600]``."""
    if value is None or interval is None:
        return _number(value, form)
    return f"{value:{form}} [{interval[0]:{form}}, {interval[1]:{form}}]"


def _p(value: float | None) -> str:
    return "<0.001" if value is not None and value < 0.001 else _number(value, ".3f")


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
