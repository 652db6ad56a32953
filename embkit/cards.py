"""A domain's data card, every figure of it computed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .domains import Domain, load_domain
from .session import PROFILES


def card(name: str) -> str:
    """The card of a domain in Markdown: source, terms, counts, lengths, examples, limits."""
    domains = {profile: load_domain(name, profile=profile) for profile in PROFILES}
    about = next(iter(domains.values())).about
    lines = [
        f"# {about['title']}",
        "",
        f"Made by `python -m embkit card {name}`; every figure below is computed.",
        "",
        "## Source",
        "",
        about["source"] + ".",
        "",
        "## Terms",
        "",
        about["terms"],
        "",
        "## Counts",
        "",
        *_table({p: {k: f"{v:,}" for k, v in _counts(d).items()} for p, d in domains.items()}),
        "",
        "`known` asks unseen phrases of categories that were trained on; `novel` asks about whole",
        "3-character categories that training never saw; `dev` holds both kinds, and it alone",
        "chooses. The never-positive queries are those none of whose right codes was ever a",
        "training positive.",
        "",
        "## Lengths (words)",
        "",
        *_table({p: _lengths(d) for p, d in domains.items()}),
        "",
        f"## Examples ({domains['workshop'].profile}, known)",
        "",
        "| query | right title |",
        "|---|---|",
        *(f"| {_cell(q)} | {_cell(t)} |" for q, t in domains["workshop"].examples("known", 8)),
        "",
        "## Limits",
        "",
        about["limits"],
        "",
    ]
    return "\n".join(lines)


def _counts(domain: Domain) -> dict[str, int]:
    found = dict(domain.counts())
    for split in domain.test_splits:
        found[f"{split} queries, never positive"] = len(domain.subset(split))
    answers = [judged for qrels in domain.qrels.values() for judged in qrels.values()]
    found["queries with several right codes"] = sum(len(judged) > 1 for judged in answers)
    found["training queries with a human negative"] = sum(
        query in domain.negatives for query in domain.split("train")
    )
    return found


def _lengths(domain: Domain) -> dict[str, str]:
    found = {}
    for kind, texts in (("titles", domain.corpus), ("queries", domain.queries)):
        words = np.array([len(text.split()) for text in texts.values()])
        found[f"{kind}: median"] = f"{np.median(words):.0f}"
        found[f"{kind}: 95th percentile"] = f"{np.percentile(words, 95):.0f}"
        found[f"{kind}: longest"] = f"{words.max()}"
    return found


def _table(columns: dict[str, dict[str, str]]) -> Sequence[str]:
    rows = list(next(iter(columns.values())))
    lines = [f"|  | {' | '.join(columns)} |", "|---|" + "---:|" * len(columns)]
    return lines + [f"| {r} | {' | '.join(c[r] for c in columns.values())} |" for r in rows]


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
