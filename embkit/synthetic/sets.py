"""Sets of written queries: which documents may be asked about, and the files that hold them."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..data import Domain
from ..errors import EmbkitError
from ..files import write_atomic
from ..session import paths
from .backends import Backend
from .cards import MADE, set_card
from .filters import Filtered, filter_generated
from .generation import Generated, generate
from .prompts import PROMPTS, Prompt


def eligible_documents(domain: Domain) -> dict[str, str]:
    """The documents that queries may be written for: id -> text.

    Those of a group held out for testing are not among them, and neither are those of the groups
    that only ``dev`` asks about: it stands for what training does not know.
    """
    asked_in_dev = {domain.groups.get(document) for _, document in domain.right("dev")}
    trained = {domain.groups.get(document) for document in domain.trained_documents}
    kept_out = domain.tested_groups | (asked_in_dev - trained - {None})
    return {d: text for d, text in domain.corpus.items() if domain.groups.get(d) not in kept_out}


def write_set(
    result: Generated | Filtered,
    domain: Domain,
    name: str,
    *,
    command: str | None = None,
    notes: str = "",
) -> Path:
    """Writes ``data/<domain>/<name>.jsonl`` and its card ``<name>.md``; returns the first.

    Without a clone they lie in ``runs/sets/<domain>/``.

    Each line has ``query``, ``document`` (its id), ``kind``, ``kept`` and ``removed_by`` (a rule
    or null): what was removed is there too, so that a training run can show what it would do.

    Args:
        result: what is written.
        domain: the domain it was written for.
        name: letters, digits, ``-`` and ``_``; what ``Recipe(pairs=...)`` calls it.
        command: what makes the set again.
        notes: more for the card, in Markdown.

    Raises:
        EmbkitError: nothing is kept, a query for a document held out for testing, or a set of
            that name that was made in another way.
    """
    generated = result if isinstance(result, Generated) else result.generated
    if not re.fullmatch(r"[\w-]{1,60}", name) or name == "human":
        raise EmbkitError(
            f"a set named {name!r}",
            expected="letters, digits, - and _, and not 'human'",
            hint="name='smollm2'",
        )
    held = {r.document for r in generated.rows} - set(eligible_documents(domain))
    if held:
        raise EmbkitError(
            f"{len(held):,} documents of the set are held out for testing, or not in the domain: "
            f"{sorted(held)[:3]}",
            expected="queries for eligible_documents(domain) only",
            hint="generate(eligible_documents(domain), backend, prompt)",
        )
    if not result.rows:
        why = result.note if isinstance(result, Filtered) else "Nothing was written."
        reasons = generated.stopped or ", ".join(generated.reasons())
        raise EmbkitError(
            f"an empty set: {why}" + (f" The model: {reasons}." if reasons else ""),
            expected="at least one query",
            hint="generate for more documents, or filter less (top_k=50)",
        )
    where, folder = paths(), paths().written / domain.name
    target, beside = folder / f"{name}.jsonl", folder / f"{name}.md"
    there, told = (where.data_file(domain.name, path.name) for path in (target, beside))
    if there.exists() and not (told.exists() and MADE in told.read_text(encoding="utf-8")):
        raise EmbkitError(
            f"{domain.name}/{name}.jsonl is there already and was made in another way",
            expected="a new name, or a set that this command made",
            hint=f"name='{name}-2'",
        )
    removed = result.removed if isinstance(result, Filtered) else {}
    by = {row: rule for rule, rows in removed.items() for row, _ in rows}
    lines = (
        {"query": row.query, "document": row.document, "kind": row.kind, "kept": row not in by}
        | {"removed_by": by.get(row)}
        for row in generated.rows
    )
    card = set_card(result, domain, name, command=command, notes=notes)
    write_atomic(target, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
    write_atomic(beside, card)
    return target


def make_set(
    domain: Domain,
    backend: Backend,
    *,
    limit: int,
    seed: int = 42,
    name: str | None = None,
    prompt: Prompt | None = None,
    kinds: Sequence[str] | None = None,
    per_document: int = 1,
    budget: int | None = None,
    progress: bool = True,
    notes: str = "",
    **filters: Any,
) -> tuple[Path, Filtered]:
    """Generates, filters and writes a domain's set of queries, which ``Recipe(pairs=name)`` reads.

    What was asked before is kept and not asked again.

    Args:
        domain: whose ``eligible_documents`` are asked about.
        backend: which language model.
        limit: how many documents, a sample drawn by the seed; a larger limit holds the smaller.
        seed: of the sample and of the model.
        name: of the set; default: the model's.
        prompt: default: the domain's own in ``PROMPTS``, else the general one.
        kinds, per_document, budget, progress: as in ``generate``.
        notes: as in ``write_set``.
        filters: as in ``filter_generated``.

    Returns:
        (the file, what was kept and removed).

    Raises:
        EmbkitError: as in the three; or something was left unasked: the same call goes on.
    """
    prompt = prompt or PROMPTS.get(domain.name, PROMPTS["general"])
    generated = generate(
        eligible_documents(domain),
        backend,
        prompt,
        kinds=kinds,
        per_document=per_document,
        limit=limit,
        budget=budget,
        seed=seed,
        progress=progress,
    )
    if generated.left:
        raise EmbkitError(
            f"{generated.stopped}: {len(generated.rows):,} queries done and kept, "
            f"{len(generated.left):,} left",
            expected="an answer or a reason for every one",
            hint="the same command goes on from here",
        )
    filtered = filter_generated(generated, domain, **filters)
    label = re.sub(r"[^\w-]+", "-", name or backend.name.split(" ")[0]).strip("-")
    command = f"python -m embkit generate {domain.name} --limit {limit}"
    command += f" --profile {domain.profile}" * (domain.profile != "workshop")
    command += f" --seed {seed}" * (seed != 42) + f" --name {label}" * (name is not None)
    others = {"kinds": kinds, "per_document": per_document if per_document > 1 else None, **filters}
    others |= {"prompt": prompt.name if prompt.name != domain.name else None}
    given = ", ".join(f"{what}={value!r}" for what, value in others.items() if value is not None)
    command += f"  # and make_set(..., {given})" * bool(given)
    return write_set(filtered, domain, label, command=command, notes=notes), filtered
