"""A domain's data card, every figure of it computed."""

from pathlib import Path

import numpy as np

from ..data import SOURCES, Domain, load_domain
from ..data.text_checks import token_lengths
from ..display import markdown, short, table
from ..files import filled
from ..models.loading import load_model
from ..session import PROFILES

MODEL = "minilm"  # whose tokens and window the card gives
SHOWN = 160  # characters of a text in the examples


def card(source: str | Domain) -> str:
    """The card of a domain in Markdown: source, terms, counts, lengths, examples, limits.

    Of a name, a domain that comes with embkit, the three profiles stand side by side.
    """
    if isinstance(source, Domain):
        domains = {source.profile: source}
    else:
        domains = {profile: load_domain(source, profile=profile) for profile in PROFILES}
    last = domains.get("workshop") or next(iter(domains.values()))
    some = last.examples(last.test_splits[0], 8)
    examples = [{"query": short(q, SHOWN), "right document": short(d, SHOWN)} for q, d in some]
    counts = {p: {k: f"{v:,}" for k, v in _counts(d).items()} for p, d in domains.items()}
    seen = {last.groups.get(d) for _, d in last.right("train")}
    tests = (last.right(split) for split in last.test_splits)
    unseen = seen.isdisjoint(last.groups.get(d) for asked in tests for _, d in asked)
    return filled(
        Path(__file__).with_name("card.jinja"),
        unseen=unseen,
        name=source if isinstance(source, str) and source in SOURCES else "",
        about=list(domains.values())[-1].about,  # the largest names all of its sources
        last=last,
        title=markdown,
        counts=_beside(counts),
        hashes=_beside({p: {"content hash": d.hash} for p, d in domains.items()}),
        lengths=_beside({p: _lengths(d) for p, d in domains.items()}),
        examples=table(examples).to_markdown(),
    )


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
