"""Report: one table of results that shows itself in a notebook, a terminal, a file."""

from __future__ import annotations

import base64
import csv
import html
import io
import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import EmbkitError
from ..files import write_atomic

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

Row = dict[str, Any]
Cell = tuple[str, bool]  # the text, and whether it is the best of its split

BEST = "★"
TRAINING = ("train_seconds", "trainable_params")  # costs that an untrained model does not have
_NOTE = "nDCG@10 with its 95% bootstrap interval over queries."
_NOTE_PAIRED = (
    f"{_NOTE} Difference to the baseline and p from paired tests over the same queries (two-sided "
    "sign flips); p Holm is corrected for the number of tests in the table; win / tie / loss "
    f"counts queries. {BEST} marks the highest nDCG@10 of each split."
)


@dataclass(frozen=True, repr=False)
class Report:
    """Rows of results, one an approach and split, that show themselves.

    Args:
        rows: one dict a row, as `ek.compare` makes them; a value that does not apply is None.
        baseline: the approach that the differences are taken to.

    Example:
        >>> report = compare([base, contrastive], baseline="base")
        >>> report.frame()[["approach", "split", "ndcg@10", "p_vs_base"]]
    """

    rows: list[Row]
    baseline: str | None = None

    def frame(self) -> pd.DataFrame:
        """The rows as a data frame."""
        import pandas as pd

        return pd.DataFrame(self.rows)

    def pareto(
        self, cost: str = "train_seconds", metric: str = "ndcg@10", split: str | None = None
    ) -> Figure:
        """Quality against cost, with the front that nothing beats: ``plots.pareto`` of its rows.

        Args:
            cost: a column where less is better.
            metric: a column where more is better.
            split: the test split that is shown; default: the first.
        """
        from .. import plots

        shown = priced(self, cost, metric, split)
        whole = [r for r in self.rows if shown and r["split"] == shown[0]["split"]]
        missing = sum(not row.get("subset") for row in whole) - len(shown)
        front = pareto_front(self, cost, metric, split)
        return plots.pareto(shown, front, cost, metric, missing=missing)

    def __repr__(self) -> str:
        return self.to_text()

    def to_text(self) -> str:
        """A table for a terminal, one block a split."""
        if not self.rows:
            return "nothing evaluated yet"
        headers, body = self._quality()
        lines = [[_printable(text) for text in (headers[0], *headers[2:-1])]]
        places = []
        for cells in body:
            texts = [_printable(text) + (f" {BEST}" if best else "") for text, best in cells]
            lines.append([texts[0], *texts[2:-1]])
            places.append(f"{texts[1]}, {texts[-1]} queries")
        widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
        out = []
        for number, line in enumerate(lines):
            if number and (number == 1 or places[number - 1] != places[number - 2]):
                out += ["", places[number - 1]]
            first, *rest = (cell.ljust(width) for cell, width in zip(line, widths, strict=True))
            out.append("  ".join([f"  {first}", *rest]).rstrip())
        return "\n".join(out)

    def to_markdown(self) -> str:
        """A table for a README."""
        headers, body = self._quality()
        lines = [
            "| " + " | ".join(map(_markdown, headers)) + " |",
            "|" + "|".join(["---", "---"] + ["---:"] * (len(headers) - 2)) + "|",
        ]
        for cells in body:
            texts = [f"**{_markdown(t)}** {BEST}" if best else _markdown(t) for t, best in cells]
            lines.append("| " + " | ".join(texts) + " |")
        return "\n".join(lines)

    def to_latex(self) -> str:
        """A table for a paper: a ``tabular`` with booktabs' rules (``\\usepackage{booktabs}``)."""
        headers, body = self._quality()
        lines = [rf"\begin{{tabular}}{{ll{'r' * (len(headers) - 2)}}}", r"\toprule"]
        lines += [" & ".join(map(_latex, headers)) + r" \\", r"\midrule"]
        place = body[0][1] if body else None
        for cells in body:
            lines += [r"\midrule"] if cells[1] != place else []
            place = cells[1]
            texts = [rf"\textbf{{{_latex(t)}}}" if best else _latex(t) for t, best in cells]
            lines.append(" & ".join(texts) + r" \\")
        return "\n".join([*lines, r"\bottomrule", r"\end{tabular}"])

    def to_csv(self) -> str:
        """Every value of every row; an interval becomes two columns, ``…_low`` and ``…_high``.

        A text that a spreadsheet would run as a formula gets an apostrophe before it.
        """
        rows = [_flat(row) for row in self.rows]
        names = list(dict.fromkeys(name for row in rows for name in row))
        file = io.StringIO()
        writer = csv.DictWriter(file, names, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        return file.getvalue()

    def _repr_html_(self) -> str:
        if not self.rows:
            return "<p>Nothing evaluated yet: <code>ek.evaluate(run, domain)</code></p>"
        return _table(*self._quality(), caption=_NOTE_PAIRED if self.baseline else _NOTE)

    def __str__(self) -> str:
        return self.to_text()

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Write the report into a folder, each file whole or not at all.

        The files are `leaderboard.json`, `.csv`, `.md` and `.tex`, and the page `report.html`.

        Args:
            folder: made if it is not there.

        Returns:
            The folder.

        Raises:
            EmbkitError: when the folder cannot be written to.
        """
        folder = Path(folder)
        try:
            data = json.dumps(self.rows, indent=1, ensure_ascii=False, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise EmbkitError(
                f"a row of the report does not fit JSON: {error}",
                expected="numbers, texts, lists, or None where a value does not apply",
                hint="replace NaN by None in the rows, then report.save(...) again",
            ) from error
        page = self._page()
        write_atomic(folder / "leaderboard.json", data + "\n")
        for ending, text in (
            ("csv", self.to_csv()),
            ("md", self.to_markdown() + "\n"),
            ("tex", self.to_latex() + "\n"),
        ):
            write_atomic(folder / f"leaderboard.{ending}", text)
        write_atomic(folder / "report.html", page)
        return folder

    def _quality(self) -> tuple[list[str], list[list[Cell]]]:
        """Headers and cells of the table of scores."""
        groups: dict[tuple[Any, Any], list[float]] = {}
        for row in self.rows:
            if row.get("ndcg@10") is not None:
                groups.setdefault((row["split"], row["subset"]), []).append(row["ndcg@10"])
        headers = ["approach", "split", "nDCG@10 [95%]"]
        if self.baseline:
            headers += [f"Δ {self.baseline} [95%]", "p", "p Holm", "win / tie / loss"]
        headers += ["MRR@10", "recall@10", "recall@100", "hit@1", "queries"]
        body: list[list[Cell]] = []
        for row in self.rows:
            rivals = groups.get((row["split"], row["subset"]), [])
            best = len(rivals) > 1 and row.get("ndcg@10") == max(rivals)
            texts = [
                row.get("label") or row["approach"],
                row["split"] + (f" / {row['subset']}" if row["subset"] else ""),
                _with_interval(row.get("ndcg@10"), row.get("ndcg@10_ci"), ".3f"),
            ]
            if self.baseline:
                delta, interval = row.get("delta_vs_base"), row.get("delta_vs_base_ci")
                texts += [_with_interval(delta, interval, "+.3f"), _p(row.get("p_vs_base"))]
                counts = [row.get(name) for name in ("wins", "ties", "losses")]
                told = " / ".join(f"{n:,d}" for n in counts if n is not None)
                texts += [_p(row.get("p_holm")), told]
            for metric in ("mrr@10", "recall@10", "recall@100", "hit@1"):
                texts.append(_number(row.get(metric), ".3f"))
            texts.append(_number(row.get("queries"), ",d"))
            body.append([(text, best and column == 2) for column, text in enumerate(texts)])
        return headers, body

    def _cost(self) -> tuple[list[str], list[list[Cell]]]:
        """Headers and cells of the table of what each approach is and costs, one row each."""
        headers = ["approach", "base model", "recipe", "learning rate", "seed", "trained", "of"]
        headers += ["train s", "peak MB", "dim", "bytes", "texts/s", "corpus", "general nDCG@10"]
        seen: dict[tuple[Any, ...], list[Cell]] = {}
        for row in self.rows:
            texts = (
                row.get("label") or row["approach"],
                row.get("base_model") or "",
                (row.get("recipe_hash") or "")[:8],
                _number(row.get("learning_rate"), "g"),
                _number(row.get("seed"), "d"),
                _number(row.get("trainable_params"), ",d"),
                _number(row.get("total_params"), ",d"),
                _number(row.get("train_seconds"), ",.1f"),
                _number(row.get("peak_memory_mb"), ",.0f"),
                _number(row.get("dim"), "d"),
                _number(row.get("bytes_per_embedding"), ",d"),
                _number(row.get("encode_per_second"), ",.0f"),
                _number(row.get("corpus"), ",d"),
                _number(row.get("general_ndcg@10"), ".3f"),
            )
            seen[texts] = [(text, False) for text in texts]
        return headers, list(seen.values())

    def _page(self) -> str:
        """The whole HTML page, with its pictures inside."""
        from .. import plots

        names = ", ".join(dict.fromkeys(str(row["domain"]) for row in self.rows)) or "no results"
        body = [f"<h1>Leaderboard: {html.escape(names)}</h1>", self._repr_html_()]
        if any(row.get("ndcg@10") is not None for row in self.rows):
            body.append(_picture(plots.intervals(self)))
        if self.rows:
            body += ["<h2>What each approach is, and what it cost</h2>", _table(*self._cost())]
        if any(row.get("train_seconds") for row in self.rows):
            body.append(_picture(self.pareto()))
        title = html.escape(f"embkit leaderboard: {names}")
        return _PAGE.format(title=title, body="\n".join(body))


def _picture(figure: Any) -> str:
    from .. import plots

    picture = base64.b64encode(plots.png(figure)).decode("ascii")
    text = html.escape(plots.alt_text(figure), quote=True)
    return f'<img alt="{text}" src="data:image/png;base64,{picture}">'


_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; color: #1a1a1a; background: #fff;
  max-width: 75rem; margin: 2rem auto; padding: 0 1rem; }}
table {{ border-collapse: collapse; font-variant-numeric: tabular-nums; display: block;
  overflow-x: auto; }}
th, td {{ padding: .3rem .7rem; border-bottom: 1px solid #ddd; }}
thead th {{ border-bottom: 2px solid #555; }}
caption {{ caption-side: bottom; text-align: left; color: #444; padding-top: .6rem; }}
img {{ max-width: 100%; height: auto; margin: 1.5rem 0; }}
</style>
</head>
<body>
{body}
</body>
</html>
"""


def _table(headers: Sequence[str], body: Sequence[Sequence[Cell]], caption: str = "") -> str:
    """One HTML table; every text is escaped here and nowhere else."""
    sides = ["left" if column < 2 else "right" for column in range(len(headers))]
    style = ' style="text-align:{};white-space:nowrap"'
    head = "".join(
        f'<th scope="col"{style.format(side)}>{html.escape(text)}</th>'
        for text, side in zip(headers, sides, strict=True)
    )
    lines = []
    for cells in body:
        line = []
        for (text, best), side in zip(cells, sides, strict=True):
            safe = html.escape(text, quote=True)
            inner = f'<b title="best of its split">{safe} {BEST}</b>' if best else safe
            line.append(f"<td{style.format(side)}>{inner}</td>")
        lines.append(f"<tr>{''.join(line)}</tr>")
    notes = f"<caption>{html.escape(caption)}</caption>" if caption else ""
    return (
        f"<table>{notes}<thead><tr>{head}</tr></thead>\n<tbody>\n"
        + "\n".join(lines)
        + "\n</tbody></table>"
    )


def _number(value: Any, form: str) -> str:
    return "" if value is None else format(value, form)


def _with_interval(value: float | None, interval: Sequence[float] | None, form: str) -> str:
    if value is None or interval is None:
        return _number(value, form)
    return f"{value:{form}} [{interval[0]:{form}}, {interval[1]:{form}}]"


def _p(value: float | None) -> str:
    return "<0.001" if value is not None and value < 0.001 else _number(value, ".3f")


def _printable(text: str) -> str:
    """No control character reaches a terminal."""
    return "".join(letter if letter.isprintable() else "?" for letter in text)


_LATEX = {c: rf"\{c}" for c in "&%$#_{}"} | {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}"}
_LATEX |= {"^": r"\textasciicircum{}", "Δ": r"$\Delta$", BEST: r"$\star$", "<": r"$<$", ">": r"$>$"}


def _latex(text: str) -> str:
    return "".join(_LATEX.get(letter, letter) for letter in _printable(text))


def _flat(row: Row) -> Row:
    """A row with its intervals as two columns each, and no text that starts a formula."""
    found: Row = {}
    for name, value in row.items():
        if name.endswith("_ci"):
            low, high = value or (None, None)
            found |= {f"{name[:-3]}_low": low, f"{name[:-3]}_high": high}
        else:
            risky = isinstance(value, str) and re.match(r"[=+\-@\t\r]", value)
            found[name] = f"'{value}" if risky else value
    return found


def _markdown(text: str) -> str:
    return html.escape(_printable(text), quote=False).replace("|", "\\|")


def pareto_front(
    report: Report | Sequence[Row],
    cost: str = "train_seconds",
    quality: str = "ndcg@10",
    split: str | None = None,
) -> list[Row]:
    """The rows that no other row beats in both: as cheap or cheaper, and better.

    Args:
        report: a report, or its rows.
        cost: a column where less is better. Rows without it are left out, but those of models
            that were never trained: their training cost nothing.
        quality: a column where more is better.
        split: the test split that is looked at; default: the first.

    Returns:
        The rows of the front, the cheapest first.

    Example:
        >>> rows = [{"train_seconds": s, "ndcg@10": q, "split": "test", "subset": None}
        ...         for s, q in ((0, 0.4), (9, 0.6), (20, 0.5))]
        >>> [row["ndcg@10"] for row in pareto_front(rows)]
        [0.4, 0.6]
    """
    front: list[Row] = []
    for row in sorted(priced(report, cost, quality, split), key=lambda r: (r[cost], -r[quality])):
        if not front or row[quality] > front[-1][quality]:
            front.append(row)
    return front


def priced(report: Any, cost: str, quality: str, split: str | None) -> list[Row]:
    """The rows of one split whose quality and cost are known; what needs no training costs 0."""
    rows = getattr(report, "rows", report)
    split = split or next((row["split"] for row in rows), None)
    found = []
    for row in rows:
        free = cost in TRAINING and row.get("trainable_params") == 0
        price = 0.0 if free and row.get(cost) is None else row.get(cost)
        shown = row["split"] == split and not row.get("subset")
        if shown and price is not None and row.get(quality) is not None:
            found.append(row | {cost: price})
    return found
