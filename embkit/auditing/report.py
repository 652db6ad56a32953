"""audit(): every check on one domain, and the report that shows itself."""

from __future__ import annotations

import html
import json
import os
import textwrap
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..errors import EmbkitError, unknown
from . import labels, leaks, texts
from .base import LOOK, OK, PROBLEM, Finding, Material, material, visible

CHECKS: tuple[Callable[[Material], Finding | None], ...] = (
    labels.sizes,
    texts.lengths,
    leaks.duplicates,
    leaks.near_duplicates,
    leaks.leakage,
    texts.copies,
    labels.unanswerable,
    labels.balance,
    texts.languages,
    texts.encoding,
    texts.fragmentation,
)
_SIGNS = {  # verdict -> sign, colour of its letters
    OK: ("✓", "#1a7f37"),
    LOOK: ("◆", "#9a6700"),
    PROBLEM: ("✗", "#c62828"),
}


@dataclass(frozen=True, repr=False)
class Audit:
    """What was found about a domain; shows itself, a verdict a line.

    Args:
        name: the domain's.
        findings: one a check, in a fixed order.
        without_model: whether the checks that need a model were left out.
        domain_hash: content hash of what was audited; None where there was no Domain.
        sampled: which checks read a part of a large domain, and how many of how many.

    Example:
        >>> found = audit(load_domain("icd10cm"), model="minilm")
        >>> found["duplicates"].verdict
        'ok'
    """

    name: str
    findings: tuple[Finding, ...]
    without_model: bool = False
    domain_hash: str | None = None
    sampled: str = ""

    def __getitem__(self, name: str) -> Finding:
        """A finding by its name.

        Raises:
            EmbkitError: there is none of that name; it names the nearest.
        """
        for finding in self.findings:
            if finding.name == name:
                return finding
        raise unknown("finding", name, [finding.name for finding in self.findings])

    @property
    def verdict(self) -> str:
        """The worst verdict of all: ``ok``, ``look`` or ``problem``."""
        found = {finding.verdict for finding in self.findings}
        return next((v for v in (PROBLEM, LOOK) if v in found), OK)

    @property
    def summary(self) -> str:
        """One line: how many findings of which verdict."""
        count = Counter(finding.verdict for finding in self.findings)
        problems = f"{count[PROBLEM]} problem{'' if count[PROBLEM] == 1 else 's'}"
        return f"{self.name}: {problems}, {count[LOOK]} to look at, {count[OK]} ok"

    @property
    def note(self) -> str:
        """What was not looked at, or only in part."""
        missing = (
            "No model was given, so these were not looked at: tokens and the model's window, "
            "near-duplicates by cosine, what the model finds, tokenizer fragmentation."
        )
        return " ".join(filter(None, [missing if self.without_model else "", self.sampled]))

    def figures(self) -> dict[str, Any]:
        """Finding's name -> its matplotlib Figure, for the findings that have one."""
        return {f.name: f.drawing() for f in self.findings if f.drawing is not None}

    def to_json(self) -> str:
        """Everything but the figures, as JSON."""
        rows = [
            {
                "name": f.name,
                "verdict": f.verdict,
                "sentence": f.sentence,
                "examples": list(f.examples),
                "todo": f.todo,
                "numbers": {what: float(n) for what, n in f.numbers.items()},
            }
            for f in self.findings
        ]
        record = {
            "name": self.name,
            "domain_hash": self.domain_hash,
            "verdict": self.verdict,
            "note": self.note,
            "findings": rows,
        }
        return json.dumps(record, indent=1, ensure_ascii=False, allow_nan=False)

    def to_text(self, width: int = 100) -> str:
        """The report for a terminal."""
        out = [self.summary]
        for f in self.findings:
            out += ["", f"{_SIGNS[f.verdict][0]} {f.verdict:<8}{f.name}"]
            out += _wrapped(f.sentence, width, "    ")
            out += [line for text in f.examples for line in _wrapped(text, width, "      - ")]
            out += _wrapped(f.todo, width, "    next: ") if f.todo else []
        if self.note:
            out += ["", *_wrapped(self.note, width, "")]
        return "\n".join(visible(line) for line in out)

    def __repr__(self) -> str:
        return self.to_text()

    def _repr_html_(self) -> str:
        side = "text-align:left;vertical-align:top"
        rows = []
        for f in self.findings:
            sign, colour = _SIGNS[f.verdict]
            more = "".join(f"<li>{_safe(text)}</li>" for text in f.examples)
            shown = _safe(f.sentence)
            if f.todo:
                shown += f"<br><b>Next:</b> {_safe(f.todo)}."
            if more:
                shown += f"<details><summary>{len(f.examples)} examples</summary>"
                shown += f"<ul style='margin:0'>{more}</ul></details>"
            rows.append(
                f"<tr><td style='{side};white-space:nowrap;color:{colour}'><b>{sign} {f.verdict}"
                f"</b></td><th scope='row' style='{side}'>{_safe(f.name)}</th>"
                f"<td style='{side};max-width:60rem'>{shown}</td></tr>"
            )
        note = f"<caption style='{side};caption-side:bottom'>{_safe(self.note)}</caption>"
        head = "".join(
            f"<th scope='col' style='{side}'>{what}</th>" for what in ("verdict", "check", "found")
        )
        return (
            f"<b>{_safe(self.summary)}</b><table>{note if self.note else ''}"
            f"<thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"
        )


def _safe(text: str) -> str:
    return html.escape(visible(text), quote=True)


def _wrapped(text: str, width: int, lead: str) -> list[str]:
    return textwrap.wrap(
        text, width, initial_indent=lead, subsequent_indent=" " * len(lead), break_on_hyphens=False
    )


def audit(
    domain: Any, *, model: Any = None, scores: Any = None, sample: int = 2_000, seed: int = 0
) -> Audit:
    """Looks a domain over before anything is trained: sizes, leaks, copies, damage, labels.

    Counts of labels and equal texts take everything in. Slower checks read 50,000 texts of a kind
    at most, and search for ``sample`` queries among at most 50,000 documents beside their right
    ones; near-duplicates are looked for in 10,000 queries of a split at most. ``note`` says where
    that was less than all. Embeddings come from ``encode`` and its cache.

    Args:
        domain: a Domain, or a mapping with ``corpus``, ``queries`` and ``qrels`` that a Domain
            would refuse (with ``name``, ``test_splits``, ``groups``, ``held_out`` if there are).
        model: a model's name or folder, a SentenceTransformer, or a function
            ``list[str] -> (texts, dim)``; without one, what needs a model is left out.
        scores: Scores of this domain; intervals are then computed, not guessed.
        sample: queries that are searched for to find those that cannot be answered.
        seed: of the samples.

    Raises:
        EmbkitError: no Domain, no text at all, or ``sample`` below 1.

    Example:
        >>> audit(load_domain("icd10cm"), model="minilm").verdict
        'look'
    """
    if not isinstance(sample, int) or sample < 1:
        raise EmbkitError(
            f"sample={sample!r}", expected="a number of queries, 1 or more", hint="sample=2000"
        )
    if isinstance(model, str | os.PathLike):
        from ..models.loading import load_model

        model = load_model(model)
    read = material(domain, model=model, scores=scores, sample=sample, seed=seed)
    findings = tuple(found for check in CHECKS if (found := check(read)) is not None)
    return Audit(read.name, findings, model is None, getattr(domain, "hash", None), read.sampled)
