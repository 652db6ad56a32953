"""A domain's data card, every figure of it computed."""

from __future__ import annotations

import numpy as np

from ..data import SOURCES, Domain, load_domain
from ..data.text_checks import token_lengths
from ..display import markdown, short, table
from ..models.loading import load_model
from ..session import PROFILES

MODEL = "minilm"  # whose tokens and window the card gives
SHOWN = 160  # characters of a text in the examples


def card(source: str | Domain) -> str:
    """The card of a domain in Markdown: source, terms, counts, lengths, examples, limits.

    Of a name, a domain that comes with embkit, the three profiles stand side by side.
    """
    made = "Every figure below is computed."
    if isinstance(source, Domain):
        domains = {source.profile: source}
    else:
        domains = {profile: load_domain(source, profile=profile) for profile in PROFILES}
        if source in SOURCES:
            made = f"Made by `python -m embkit card {source}`; every figure below is computed."
    last = domains.get("workshop") or next(iter(domains.values()))
    about = list(domains.values())[-1].about  # the largest names all of its sources
    first = last.test_splits[0]
    some = last.examples(first, 8)
    examples = [{"query": short(q, SHOWN), "right document": short(d, SHOWN)} for q, d in some]
    counts = {p: {k: f"{v:,}" for k, v in _counts(d).items()} for p, d in domains.items()}
    hashes = {p: {"content hash": d.hash} for p, d in domains.items()}
    sections = {
        "Source": about.get("source", "").rstrip(".") + ".",
        "Terms": about.get("terms", "Not known."),
        "Counts": f"{_beside(counts)}\n\n{_beside(hashes)}",
        "Splits": _splits(last),
        "Lengths": _beside({p: _lengths(d) for p, d in domains.items()}),
        f"Examples ({last.profile}, {first})": table(examples).to_markdown(),
        "Limits": about.get("limits", "Not known."),
    }
    parts = [f"# {markdown(about.get('title', last.name))}", made]
    parts += [f"## {head}\n\n{text}" for head, text in sections.items()]
    return "\n\n".join(parts) + "\n"


def _splits(domain: Domain) -> str:
    """What each split is for, as far as the domain itself says it."""
    told, unseen = [], "about groups that training never saw, and"
    if domain.searched:
        told = [f"Every test split asks {unseen} searches their documents alone."]
    elif domain.held_out:
        others = "other test splits about documents of any group"
        told = [f"`{domain.held_out}` asks only {unseen} {others}."]
        seen = {domain.groups.get(d) for _, d in domain.right("train")}
        tests = (domain.right(split) for split in domain.test_splits)
        if seen.isdisjoint(domain.groups.get(d) for asked in tests for _, d in asked):
            told = ["Every test split asks only about groups that training never saw."]
    told.append("`dev` alone chooses; test splits only report. Never-positive queries are those")
    told.append("none of whose right documents was ever a training positive.")
    return " ".join([*told, domain.about.get("splits", "")]).rstrip()


def _counts(domain: Domain) -> dict[str, int]:
    found = dict(domain.counts())
    for split in domain.test_splits:
        found[f"{split} queries, never positive"] = len(domain.subset(split))
    answers = [judged for qrels in domain.qrels.values() for judged in qrels.values()]
    found["queries with several right documents"] = sum(len(judged) > 1 for judged in answers)
    if domain.groups:
        found["groups"] = len(set(domain.groups.values()))
    if domain.negatives:
        marked = set(domain.negatives) & set(domain.split("train"))
        found["training queries with a marked negative"] = len(marked)
    return found


def _lengths(domain: Domain) -> dict[str, str]:
    """Words, and what a model's window leaves unread."""
    loaded, found = load_model(MODEL), {}
    window = loaded.max_seq_length
    for kind, texts in (("documents", domain.corpus), ("queries", domain.queries)):
        words = np.array([len(text.split()) for text in texts.values()])
        found[f"{kind}, words: median"] = f"{np.median(words):.0f}"
        found[f"{kind}, words: 95th percentile"] = f"{np.percentile(words, 95):.0f}"
        found[f"{kind}, words: longest"] = f"{words.max():,}"
        tokens = token_lengths(loaded.tokenizer, list(texts.values()))
        unread = np.maximum(tokens - window, 0).sum() / tokens.sum()
        found[f"{kind}, tokens of {MODEL}: median"] = f"{np.median(tokens):.0f}"
        found[f"{kind} that its window of {window} tokens cuts"] = f"{(tokens > window).mean():.1%}"
        found[f"{kind}: share of all tokens that it never reads"] = f"{unread:.1%}"
    return found


def _beside(columns: dict[str, dict[str, str]]) -> str:
    """A table of the same figures of several profiles, side by side."""
    names = dict.fromkeys(name for column in columns.values() for name in column)
    rows = ({"": n} | {head: of.get(n, "") for head, of in columns.items()} for n in names)
    return table(rows).to_markdown()
