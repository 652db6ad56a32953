"""LoadReport: what was read from a folder, what was decided, what was put aside."""

from __future__ import annotations

import html
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass(frozen=True, repr=False)
class LoadReport:
    """How data of your own became a domain; shows itself as a table.

    Args:
        name: the domain's name.
        source: where it was read from.
        layout: as what it was read.
        rows: file -> rows read.
        splits: how train, dev and test came to be.
        columns: role -> the column that plays it, for pairs.
        quarantined: cause -> rows put aside.
        examples: a few of them: file, line, reason, raw.
        quarantine: the file with all of them; None where there is none.
        notes: what is odd and was kept.
    """

    name: str
    source: str
    layout: str
    rows: Mapping[str, int]
    splits: tuple[str, ...]
    columns: Mapping[str, str] = field(default_factory=dict)
    quarantined: Mapping[str, int] = field(default_factory=dict)
    examples: tuple[Mapping[str, Any], ...] = ()
    quarantine: Path | None = None
    notes: tuple[str, ...] = ()

    @property
    def put_aside(self) -> str:
        """How many rows were put aside, by cause."""
        total = sum(self.quarantined.values())
        if not total:
            return "nothing: every row was used"
        causes = ", ".join(f"{n:,} × {cause}" for cause, n in self.quarantined.items())
        return f"{total:,} of {sum(self.rows.values()):,} rows: {causes}"

    def facts(self) -> list[tuple[str, str]]:
        """The table's rows: (what, value)."""
        found = [
            ("read from", f"{self.source} ({self.layout})"),
            ("rows", ", ".join(f"{file} {n:,}" for file, n in self.rows.items())),
        ]
        if self.columns:
            found.append(("columns", ", ".join(f"{r}: {c}" for r, c in self.columns.items())))
        found.append(("splits", "; ".join(self.splits)))
        found.append(("put aside", self.put_aside))
        if self.quarantine:
            found.append(("they lie in", shown(self.quarantine)))
        return found + [("note", note) for note in self.notes]

    def _repr_html_(self) -> str:
        facts = "".join(
            f"<tr><th style='text-align:left'>{html.escape(what)}</th>"
            f"<td style='text-align:left'>{html.escape(value)}</td></tr>"
            for what, value in self.facts()
        )
        bad = "".join(
            f"<tr><td style='text-align:left'>{html.escape(str(row['file']))}</td>"
            f"<td>{row['line']}</td>"
            f"<td style='text-align:left'>{html.escape(str(row['reason'])[:120])}</td>"
            f"<td style='text-align:left'><code>{html.escape(str(row['raw'])[:120])}</code></td>"
            "</tr>"
            for row in self.examples
        )
        head = "<tr><th>file</th><th>line</th><th>why put aside</th><th>as it stood</th></tr>"
        return f"<table>{facts}</table>" + (f"<table>{head}{bad}</table>" if bad else "")

    def __repr__(self) -> str:
        return "\n".join(f"{what:>12}  {value}" for what, value in self.facts())


def shown(path: Path) -> str:
    """A path as it is shown: from the project's folder, where it lies in there."""
    from ...session import paths

    root = paths().root
    return str(path.relative_to(root) if path.is_relative_to(root) else path)
