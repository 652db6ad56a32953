"""audit(): every check on one domain, and the report that shows itself."""

from __future__ import annotations

import json
import textwrap
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from ..display import Shown, Table, visible
from ..errors import unknown
from ..models.loading import as_model
from . import labels, leaks, texts
from .base import LOOK, OK, PROBLEM, Finding, Sample, sample_of, some_of

CHECKS: tuple[Callable[[Sample], Finding | None], ...] = (
    labels.sizes,
    texts.lengths,
    leaks.duplicates,
    leaks.near_duplicates,
    leaks.leakage,
    texts.copies,
    labels.own_documents,
    labels.unanswerable,
    labels.balance,
    texts.languages,
    texts.encoding,
    texts.fragmentation,
)
_NO_MODEL = (
    "No model was given, so these were not looked at: tokens and the model's window, "
    "near-duplicates by cosine, what the model finds, tokenizer fragmentation."
)
_SIGNS = {OK: "✓", LOOK: "◆", PROBLEM: "✗"}


@dataclass(frozen=True, repr=False)
class Audit(Shown):
    """What was found about a domain; shows itself, a verdict a line."""

    name: str
    findings: tuple[Finding, ...]  # one a check, in a fixed order
    domain_hash: str | None = None  # None where there was no Domain
    note: str = ""  # what was not looked at, or only in part

    def __getitem__(self, name: str) -> Finding:
        """A finding by its name; the error for another names the nearest."""
        named = {finding.name: finding for finding in self.findings}
        if name not in named:
            raise unknown("finding", name, named)
        return named[name]

    @property
    def verdict(self) -> str:
        """The worst verdict of all: ``ok``, ``look`` or ``problem``."""
        found = {finding.verdict for finding in self.findings}
        return next((v for v in (PROBLEM, LOOK) if v in found), OK)

    @property
    def summary(self) -> str:
        """One line: how many findings of which verdict."""
        count = Counter(finding.verdict for finding in self.findings)
        problems = some_of(count[PROBLEM], "problem", "problems")
        return f"{self.name}: {problems}, {count[LOOK]} to look at, {count[OK]} ok"

    def to_json(self) -> str:
        """Everything, as JSON."""
        record = {n: getattr(self, n) for n in ("name", "domain_hash", "verdict", "note")}
        record["findings"] = [asdict(finding) for finding in self.findings]
        return json.dumps(record, indent=1, ensure_ascii=False, allow_nan=False, default=float)

    def to_text(self, width: int = 100) -> str:
        """The report for a terminal."""
        out = [self.summary]
        for f in self.findings:
            out += ["", f"{_SIGNS[f.verdict]} {f.verdict:<8}{f.name}"]
            out += _wrapped(f.sentence, width, "    ")
            out += [line for text in f.examples for line in _wrapped(text, width, "      - ")]
            out += _wrapped(f.todo, width, "    next: ")
        out += ["", *_wrapped(self.note, width, "")] if self.note else []
        return "\n".join(visible(line) for line in out)

    def table(self) -> Table:
        """Verdict, sentence and next step of each check."""
        cells = [
            [f"{_SIGNS[f.verdict]} {f.verdict}", f.name, visible(f.sentence), visible(f.todo)]
            for f in self.findings
        ]
        caption = " ".join(filter(None, [f"{visible(self.summary)}.", self.note]))
        return Table(["verdict", "check", "found", "next"], cells, caption)

    def _repr_html_(self) -> str:
        page = self.table().to_html()
        cases = [[f.name, visible(text)] for f in self.findings for text in f.examples]
        if cases:
            shown = Table(["check", "example"], cases).to_html()
            page += f"<details><summary>{len(cases)} examples</summary>{shown}</details>"
        return page

    __str__ = __repr__ = to_text


def _wrapped(text: str, width: int, lead: str) -> list[str]:
    return textwrap.wrap(
        text, width, initial_indent=lead, subsequent_indent=" " * len(lead), break_on_hyphens=False
    )


def audit(domain: Any, *, model: Any = None, scores: Any = None) -> Audit:
    """Looks a domain over before anything is trained: sizes, leaks, copies, damage, labels.

    Counts of labels and equal texts take everything in. Slower checks read 50,000 texts of a kind
    at most, and search for 2,000 queries among at most 50,000 documents beside their right ones;
    near-duplicates are looked for in 10,000 queries of a split at most. ``note`` says where that
    was less than all. Embeddings come from ``encode`` and its cache.

    Args:
        domain: a Domain, or a mapping with ``corpus``, ``queries`` and ``qrels`` that a Domain
            would refuse (with ``name``, ``test_splits``, ``groups``, ``held_out`` if there are).
        model: a model's name or folder, a SentenceTransformer, or a function
            ``list[str] -> (texts, dim)``; without one, what needs a model is left out.
        scores: Scores of this domain; intervals are then computed, not guessed.

    Raises:
        EmbkitError: no Domain, or no text at all.
    """
    model = None if model is None else as_model(model)
    read = sample_of(domain, model=model, scores=scores)
    findings = tuple(found for check in CHECKS if (found := check(read)) is not None)
    note = " ".join(filter(None, [_NO_MODEL if model is None else "", read.sampled]))
    return Audit(read.name, findings, getattr(domain, "hash", None), note)
