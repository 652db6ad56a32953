"""LoadReport: what was read from a folder, what was decided, what was put aside."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...display import Table
from ...session import paths
from ..domain import Domain
from .draft import Material
from .parsing import causes_of


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
        if not (total := sum(self.quarantined.values())):
            return "nothing: every row was used"
        return f"{total:,} of {sum(self.rows.values()):,} rows: {causes_of(self.quarantined)}"

    def facts(self) -> list[tuple[str, str]]:
        """The table's rows: (what, value)."""
        found = {
            "read from": f"{self.source} ({self.layout})",
            "rows": ", ".join(f"{file} {n:,}" for file, n in self.rows.items()),
            "columns": ", ".join(f"{role}: {name}" for role, name in self.columns.items()),
            "splits": "; ".join(self.splits),
            "put aside": self.put_aside,
            "they lie in": shown(self.quarantine) if self.quarantine else "",
        }
        told = [(what, value) for what, value in found.items() if value]
        return told + [("note", note) for note in self.notes]

    def _repr_html_(self) -> str:
        facts = Table(["", ""], self.facts()).to_html()
        bad = [
            [str(row["file"]), str(row["line"]), str(row["reason"])[:120], str(row["raw"])[:120]]
            for row in self.examples
        ]
        head = ["file", "line", "why put aside", "as it stood"]
        return facts + (Table(head, bad).to_html() if bad else "")

    def __repr__(self) -> str:
        return Table(["", ""], self.facts()).to_text()


def reported(domain: Domain, material: Material, file: str, **said: Any) -> Domain:
    """The domain with its report, which its card repeats; the bad rows are written down."""
    bad = material.bad
    report = LoadReport(
        name=domain.name,
        rows=dict(bad.rows),
        columns=material.columns,
        notes=tuple(material.notes),
        quarantined=dict(bad.causes.most_common()),
        examples=tuple(bad.examples),
        quarantine=bad.save(quarantine_file(file)),
        **said,
    )
    facts = dict(report.facts())
    kept = {"columns": facts.get("columns", ""), "splits": facts["splits"]}
    kept |= {"quarantine": report.put_aside, "notes": "; ".join(report.notes)}
    object.__setattr__(domain, "report", report)  # its file may be named by the domain's hash
    object.__setattr__(domain, "about", {**domain.about, **kept})
    return domain


def quarantine_file(name: str) -> Path:
    """Where bad rows are written down."""
    return paths().runs / "quarantine" / f"{name}.jsonl"


def shown(path: Path) -> str:
    """A path as it is shown: from the project's folder, where it lies in there."""
    root = paths().root
    return str(path.relative_to(root) if path.is_relative_to(root) else path)
