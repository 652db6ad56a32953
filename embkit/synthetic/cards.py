"""The card of a set of written queries: model, prompt, counts, filters, examples, limits."""

from __future__ import annotations

import json
from collections import Counter

from ..data import Domain
from ..display import facts, table
from .filters import Filtered
from .generation import Generated, examples

MADE = "<!-- a generated set: made by embkit, may be made again -->"
PASSING = ("from the cache", "prompts sent", "left")  # counts that depend on what the cache held
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
    # the tables
    settings = {
        "model": generated.backend,
        "prompt": f"{generated.prompt.name}, content {generated.prompt.hash}",
        **{what: json.dumps(value) for what, value in generated.settings.items()},
        "domain": f"{domain.name}, profile {domain.profile}, content {domain.hash}",
        **{f"filter: {k}": v for k, v in (filtered.settings if filtered else {}).items()},
    }
    documents = len({row.document for row in result.rows})
    counts = {what: f"{n:,}" for what, n in generated.counts.items() if what not in PASSING}
    counts |= {f"failed: {why}": f"{n:,}" for why, n in generated.reasons().most_common()}
    counts["kept"] = f"{len(result.rows):,} queries for {documents:,} documents"
    kept = Counter(row.kind for row in result.rows)
    kinds = [
        {"kind": k, "written": f"{n:,}", "kept": f"{kept[k]:,}", "share": f"{kept[k] / n:.0%}"}
        for k, n in Counter(row.kind for row in generated.rows).items()
    ]
    # the text around them
    made = f"`{command}`" if command else "`ek.synthetic.write_set`"
    parts = [
        f"# Queries that a language model wrote: {domain.name}/{name}",
        MADE,
        f"Made by {made}; every figure below is computed. What is answered already is not asked\n"
        "again.",
        f"`{name}.jsonl`: one object a line: `query`, `document` (its id), `kind`, `kept`, and "
        "`removed_by`, the filter that\nremoved it or null. "
        f'`Recipe(pairs="{name}")` trains on what is kept, `"{name}:all"` on everything.',
        "## Model and settings",
        facts(settings).to_markdown(),
        "Documents are a sample, drawn by the seed, of those whose group is not held out for a\n"
        "test split or for dev.",
        "## Counts",
        facts(counts).to_markdown(),
        table(kinds).to_markdown(),
    ]
    if filtered:
        parts += [
            "## Filters",
            "Each filter sees what the ones before it left; its share is of that.",
            filtered.table().to_markdown(),
            "What they removed, for example:",
            filtered.removed_examples(4).to_markdown(),
        ]
    parts += [
        "## Examples kept",
        examples(result.rows, generated.texts, 12).to_markdown(),
        "## Limits",
        LIMITS,
        notes.strip(),
        "The terms of the domain's card hold for its documents.",
        "## The prompt, in full",
    ]
    for row in kinds:
        shown = generated.prompt.render("{document}", row["kind"])
        fence = "```"
        while fence in shown:
            fence += "`"
        parts += [f"{row['kind']}:", f"{fence}text\n{shown}\n{fence}"]
    return "\n\n".join(part for part in parts if part) + "\n"
