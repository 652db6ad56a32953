"""Sets of written queries: which documents may be asked about, the files, and their cards."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

from ..data import Domain
from ..display import facts, table
from ..errors import EmbkitError
from ..files import filled, write_atomic, write_lines
from ..session import paths
from .backends import Backend
from .filters import Filtered, filter_generated
from .generation import Generated, examples, generate
from .prompts import PROMPTS

MADE = "<!-- a generated set: made by embkit, may be made again -->"
PASSING = ("from the cache", "prompts sent", "left")  # counts that depend on what the cache held


def eligible_documents(domain: Domain) -> dict[str, str]:
    """The documents that queries may be written for, id -> text: not those of a group held out for
    testing, nor of one that only ``dev`` asks about: it stands for what training does not know."""
    asked_in_dev = {domain.groups.get(document) for _, document in domain.right("dev")}
    trained = {domain.groups.get(document) for document in domain.trained_documents}
    kept_out = domain.tested_groups | (asked_in_dev - trained - {None})
    return {d: text for d, text in domain.corpus.items() if domain.groups.get(d) not in kept_out}


def write_set(
    result: Generated | Filtered, domain: Domain, name: str, *, command: str | None = None
) -> Path:
    """Writes ``data/<domain>/<name>.jsonl`` and its card ``<name>.md``; returns the first.

    Without a clone they lie in ``runs/sets/<domain>/``. The name is what ``Recipe(pairs=...)``
    calls the set; ``command``, what makes it again.

    The lines are those that ``read_set`` reads: what was removed is there too, with the rule.
    Fails where nothing is kept, for a document held out for testing, and for a set of that name
    that was made in another way.
    """
    found = result if isinstance(result, Filtered) else Filtered(result, result.rows, {}, {})
    generated = found.generated
    if not re.fullmatch(r"[\w-]{1,60}", name) or name == "human":
        expected = "letters, digits, - and _, and not 'human'"
        raise EmbkitError(f"a set named {name!r}", expected=expected, hint="name='smollm2'")
    if held := {r.document for r in generated.rows} - eligible_documents(domain).keys():
        raise EmbkitError(
            f"{len(held):,} documents of the set are held out for testing, or not in the domain: "
            f"{sorted(held)[:3]}",
            expected="queries for eligible_documents(domain) only",
            hint="generate(eligible_documents(domain), backend, prompt)",
        )
    if not found.rows:
        told = [f"{rule!r} removed {len(rows):,}" for rule, rows in found.removed.items() if rows]
        raise EmbkitError(
            f"an empty set: {', '.join(told or generated.reasons()) or 'nothing was written'}",
            expected="at least one query",
            hint="generate for more documents, or filter less (top_k=50)",
        )
    where, folder = paths(), paths().written / domain.name
    target, beside = folder / f"{name}.jsonl", folder / f"{name}.md"
    there, card = (where.data_file(domain.name, path.name) for path in (target, beside))
    if there.exists() and not (card.exists() and MADE in card.read_text(encoding="utf-8")):
        given = f"{domain.name}/{name}.jsonl is there already and was made in another way"
        expected = "a new name, or a set that this command made"
        raise EmbkitError(given, expected=expected, hint=f"name='{name}-2'")
    by = {row: rule for rule, rows in found.removed.items() for row, _ in rows}
    lines = []
    for row in generated.rows:
        line: dict[str, Any] = {"query": row.query, "document": row.document, "kind": row.kind}
        line |= {"kept": row not in by, "removed_by": by.get(row)}
        lines.append(line)
    written = _card(found, domain, name, command)
    write_lines(target, lines)
    write_atomic(beside, written)
    return target


def make_set(
    domain: Domain,
    backend: Backend,
    *,
    limit: int,
    seed: int = 42,
    name: str | None = None,
    per_document: int = 1,
    **options: Any,
) -> tuple[Path, Filtered]:
    """Generates, filters and writes a domain's set of queries, which ``Recipe(pairs=name)`` reads.

    The prompt is the domain's own in ``PROMPTS``, else the general one; the default name is the
    model's; the options are those of ``generate``, such as ``budget``. Fails as the three do, and
    where something was left unasked: the same call goes on.
    """
    options |= {"limit": limit, "seed": seed, "per_document": per_document}
    prompt = PROMPTS.get(domain.name, PROMPTS["general"])
    generated = generate(eligible_documents(domain), backend, prompt, **options)
    if left := generated.counts["left"]:
        raise EmbkitError(
            f"{generated.stopped}: {len(generated.rows):,} queries done and kept, {left:,} left",
            expected="an answer or a reason for every one",
            hint="the same command goes on from here",
        )
    filtered = filter_generated(generated, domain)
    label = re.sub(r"[^\w-]+", "-", name or backend.name.split(" ")[0]).strip("-")
    command = f"python -m embkit generate {domain.name} --limit {limit}"
    command += f" --profile {domain.profile}" * (domain.profile != "workshop")
    command += f" --seed {seed}" * (seed != 42) + f" --name {label}" * (name is not None)
    command += f" --per-document {per_document}" * (per_document != 1)
    return write_set(filtered, domain, label, command=command), filtered


def _card(filtered: Filtered, domain: Domain, name: str, command: str | None) -> str:
    """A set's card in Markdown."""
    generated = filtered.generated
    settings = {
        "model": generated.backend,
        "prompt": f"{generated.prompt.name}, content {generated.prompt.hash}",
        **{what: json.dumps(value) for what, value in generated.settings.items()},
        "domain": f"{domain.name}, profile {domain.profile}, content {domain.hash}",
        **{f"filter: {k}": v for k, v in filtered.settings.items()},
    }
    counts = {what: n for what, n in generated.counted().items() if what not in PASSING}
    documents = len({row.document for row in filtered.rows})
    counts["kept"] = f"{len(filtered.rows):,} queries for {documents:,} documents"
    kept = Counter(row.kind for row in filtered.rows)
    kinds = [
        {"kind": k, "written": f"{n:,}", "kept": f"{kept[k]:,}", "share": f"{kept[k] / n:.0%}"}
        for k, n in Counter(row.kind for row in generated.rows).items()
    ]
    prompts = {row["kind"]: generated.prompt.render("{document}", row["kind"]) for row in kinds}
    ticks = {kind: re.findall("`+", text) for kind, text in prompts.items()}
    return filled(
        Path(__file__).with_name("card.jinja"),
        title=f"{domain.name}/{name}",
        name=name,
        mark=MADE,
        command=command or "ek.synthetic.write_set",
        settings=facts(settings),
        counts=facts(counts),
        kinds=table(kinds),
        filtered=filtered,
        kept=examples(filtered.rows, generated.texts, 12),
        prompts=prompts,
        fences={kind: "`" * max([3, *(len(x) + 1 for x in ticks[kind])]) for kind in prompts},
    )
