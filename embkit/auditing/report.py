"""audit(): every check on one domain, and the report that shows itself."""

import json
import textwrap
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from ..assets.catalogue import is_here
from ..data import Domain
from ..display import Shown, Table, some_of, visible
from ..errors import EmbkitError, unknown
from ..models.loading import as_model
from ..models.window import DEFAULT
from . import labels, leaks, texts
from .base import LOOK, OK, PROBLEM, Finding, Sample

CHECKS: tuple[Callable[[Sample], Finding | None], ...] = (
    labels.sizes,
    texts.no_texts,
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
    "No model was given: no near-duplicates by cosine, no search by it, no tokenizer checks."
)
_NO_WINDOW = f"What {DEFAULT} cuts was not counted: `python -m embkit assets {DEFAULT}` fetches it."
_SIGNS = {OK: "✓", LOOK: "◆", PROBLEM: "✗"}


@dataclass(frozen=True, repr=False)
class Audit(Shown):
    """What was found about a domain; shows itself, a verdict a line."""

    name: str
    findings: tuple[Finding, ...]  # one a check, in a fixed order
    domain_hash: str
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
        return max((f.verdict for f in self.findings), key=(OK, LOOK, PROBLEM).index, default=OK)

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
            parts = [("    ", f.sentence), *(("      - ", text) for text in f.examples)]
            for lead, text in [*parts, ("    next: ", f.todo)]:
                look: Any = {"initial_indent": lead, "subsequent_indent": " " * len(lead)}
                out += textwrap.wrap(text, width, break_on_hyphens=False, **look)
        out += ["", *textwrap.wrap(self.note, width, break_on_hyphens=False)] if self.note else []
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
            told = some_of(len(cases), "example", "examples")
            page += f"<details><summary>{told}</summary>{shown}</details>"
        return page

    __str__ = __repr__ = to_text


def audit(domain: Domain, *, model: Any = None, scores: Any = None) -> Audit:
    """Looks a domain over before anything is trained: sizes, leaks, copies, damage, labels.

    Counts of labels and equal texts take everything in. Slower checks read 50,000 texts of a kind
    at most, and search for 2,000 queries among at most 50,000 documents beside their right ones;
    near-duplicates are looked for in 10,000 queries of a split at most. ``note`` says where that
    was less than all. Embeddings come from ``encode`` and its cache. Without a model the window is
    that of ``minilm``, where it is here. Fails for what is no Domain.

    Args:
        model: a model's name or folder, a SentenceTransformer, or a function
            ``list[str] -> (texts, dim)``; without one, what needs a model is left out.
        scores: Scores of this domain; intervals are then computed, not guessed.
    """
    if not isinstance(domain, Domain):
        given = repr(domain) if isinstance(domain, str) else type(domain).__name__
        hint = 'ek.audit(ek.load_domain("icd10cm"))'
        raise EmbkitError(f"audit() was given {given}", expected="a Domain", hint=hint)
    read = Sample(domain, None if model is None else as_model(model), scores)
    findings = tuple(found for check in CHECKS if (found := check(read)) is not None)
    no_window = _NO_WINDOW * (model is None and not is_here(DEFAULT))
    notes = " ".join(filter(None, [_NO_MODEL * (model is None), no_window, read.sampled]))
    return Audit(domain.name, findings, domain.hash, notes)
