"""The card of a set of written queries: model, prompt, counts, filters, examples, limits."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from ..data import Domain
from .filters import Filtered
from .generate import Generated, Row

MADE = "<!-- a generated set: made by embkit, may be made again -->"
LIMITS = """- A language model wrote the queries, and no person has checked them. Many are wrong:
  they name another thing than the document, or ask about something that it does not say.
- The filters remove a part of that, and with it what is right but far from the document's words:
  the round trip keeps what a general model can find already.
- One document is marked right for a query. Others may answer it as well.
- A query without its document's details (side, cause, stage) fits the documents beside it too."""


def set_card(
    result: Generated | Filtered,
    domain: Domain,
    name: str,
    *,
    command: str | None = None,
    notes: str = "",
) -> str:
    """A set's card in Markdown; every figure is computed.

    Args:
        result: what the set holds.
        domain: its domain.
        name: its name.
        command: what makes it again.
        notes: more, in Markdown.
    """
    filtered = result if isinstance(result, Filtered) else None
    generated = result if isinstance(result, Generated) else result.generated
    kept = Counter(row.kind for row in result.rows)
    written = Counter(row.kind for row in generated.rows)
    documents = len({row.document for row in result.rows})
    made = f"`{command}`" if command else "`embkit.synthetic.sets.write_set`"
    parts = [
        f"# Queries that a language model wrote: {domain.name}/{name}",
        MADE,
        f"Made by {made}; every figure below is computed. What is answered already is not asked\n"
        "again.",
        f"`{name}.jsonl`: one object a line: `query`, `document` (its id), `kind`, `kept`, and "
        "`removed_by`, the filter that\nremoved it or null. "
        f'`Recipe(pairs="{name}")` trains on what is kept, `"{name}:all"` on everything.',
        "## Model and settings",
        _table(
            ("", ""),
            [
                ("model", generated.backend),
                ("prompt", f"{generated.prompt.name}, content {generated.prompt.hash}"),
                *((what, json.dumps(value)) for what, value in generated.settings.items()),
                ("domain", f"{domain.name}, profile {domain.profile}, content {domain.hash}"),
                *((f"filter: {k}", v) for k, v in (filtered.settings if filtered else {}).items()),
            ],
        ),
        "Documents are a sample, drawn by the seed, of those whose group is not held out for a\n"
        "test split or for dev.",
        "## Counts",
        _table(
            ("", ""),
            [
                *((what, f"{n:,}") for what, n in _lasting(generated)),
                *((f"failed: {why}", f"{n:,}") for why, n in generated.reasons().most_common()),
                ("kept", f"{len(result.rows):,} queries for {documents:,} documents"),
            ],
        ),
        _table(
            ("kind", "written", "kept", "share"),
            [(k, f"{n:,}", f"{kept[k]:,}", f"{kept[k] / n:.0%}") for k, n in written.items()],
        ),
    ]
    if filtered:
        parts += ["## Filters", *_filters(filtered)]
    parts += [
        "## Examples kept",
        _table(("kind", "query", "document"), _rows(generated, _sample(result))),
        "## Limits",
        LIMITS,
        *([notes.strip()] if notes.strip() else []),
        "The terms of the domain's card hold for its documents.",
        "## The prompt, in full",
    ]
    for kind in written:
        parts += [f"{kind}:", _fenced(generated.prompt.render("{document}", kind))]
    return "\n\n".join(parts) + "\n"


def _lasting(generated: Generated) -> list[tuple[str, int]]:
    """The counts that do not depend on what the cache held."""
    passing = ("from the cache", "prompts sent", "left")
    return [(what, n) for what, n in generated.counts.items() if what not in passing]


def _filters(filtered: Filtered) -> list[str]:
    examples = [
        (rule, *_rows(filtered.generated, [row])[0][1:], why)
        for rule in filtered.removed
        for row, why in filtered.examples(rule, 4)
    ]
    return [
        "Each filter sees what the ones before it left; its share is of that.",
        _table(("filter", "removes a query that is", "removed", "share", "left"), filtered.table()),
        "What they removed, for example:",
        _table(("filter", "query", "document", "why"), examples),
    ]


def _sample(result: Generated | Filtered, n: int = 12) -> list[Row]:
    return random.Random(0).sample(result.rows, min(n, len(result.rows)))


def _rows(generated: Generated, rows: Iterable[Row]) -> list[tuple[str, str, str]]:
    return [(row.kind, row.query, generated.texts[row.document]) for row in rows]


def _table(headers: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    lines = [f"| {' | '.join(headers)} |", "|" + "---|" * len(headers)]
    lines += [f"| {' | '.join(_cell(text) for text in row)} |" for row in rows]
    return "\n".join(lines)


def _cell(text: Any) -> str:
    shown = " ".join(str(text).split())[:200]
    return shown.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")


def _fenced(text: str) -> str:
    fence = "```"
    while fence in text:
        fence += "`"
    return f"{fence}text\n{text}\n{fence}"
