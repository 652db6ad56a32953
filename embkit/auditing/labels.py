"""Checks of the labels: how many, which cannot be answered, how evenly they are spread."""

from __future__ import annotations

import math
from collections import Counter
from contextlib import suppress

import numpy as np

from ..display import percent, some_of
from ..errors import EmbkitError
from ..evaluation.intervals import SPREAD, visible
from ..search.index import BM25, exact_search
from .base import TEXTS, Finding, Sample, of, quote

PLAUSIBLE_SD = 0.45  # of nDCG@10 over queries, where nothing has been scored
NARROW, WIDE = 0.05, 0.125  # half an interval's width: up to here ok, from here a problem
SEARCHED = 2_000  # queries that are searched for to find those that cannot be answered
DEPTH = 100  # documents among which a right one should be
ENOUGH = 20  # right documents of a query that are searched for in a sample of a large corpus


def sizes(m: Sample) -> Finding:
    """How much there is, and how far a test's result can be trusted."""
    # counts, widths of intervals, what is missing
    counts = {split: len(judged) for split, judged in m.qrels.items()}
    right = [found for of_split in m.right.values() for found in of_split.values()]
    ever = len(set().union(*right))
    known = {split: _known_to(m, split) for split in m.tests if counts[split]}
    widths = {split: width for split, (width, _) in known.items()}
    missing = [s for s in ("train", "dev", *m.tests) if not counts[s]]
    widest = max(widths, key=widths.__getitem__, default="")
    width = widths.get(widest, math.inf)
    # what is said of them
    draft = Finding("sizes")
    told = ", ".join(f"{n:,} {split}" for split, n in counts.items())
    draft.say(f"{some_of(len(m.corpus), 'document', 'documents')}; queries: {told}")
    if right:
        draft.say(f"{np.mean([len(found) for found in right]):.2f} right documents a query")
    draft.say(f"{of(ever, len(m.corpus))} of the documents are ever right")
    if widths:
        told = ", ".join(f"±{w:.3f} on {split}" for split, w in widths.items())
        draft.say(f"nDCG@10 would be known to {told}")
        told = ", ".join(f"{seen:.3f} on {split}" for split, (_, seen) in known.items())
        draft.say(f"a test would tell two recipes apart that differ by {told} (power 80%)")
    if NARROW < width < math.inf:
        enough = math.ceil(counts[widest] * (width / NARROW) ** 2)
        todo = f"label more test queries ({enough:,} would bring {widest} to ±{NARROW}): until "
        draft.say(todo=f"{todo}then small gains cannot be told from chance")
    if missing:
        todo = "give each split queries: train teaches, dev chooses, a test reports"
        draft.say(f"no queries in {', '.join(missing)}", todo)
    draft.numbers |= {"documents": len(m.corpus), "ever right": ever}
    draft.numbers |= {f"{split} queries": n for split, n in counts.items()}
    draft.numbers |= {f"{split} half-width": w for split, w in widths.items()}
    draft.numbers |= {f"{split} visible": seen for split, (_, seen) in known.items()}
    return draft.judged(bad=width >= WIDE or not counts["train"])


def _known_to(m: Sample, split: str) -> tuple[float, float]:
    """Half the 95% interval of mean nDCG@10, and the smallest difference that a test would see.

    From scores where there are some, over their clusters; else of independent queries, at best.
    """
    if m.scores is not None and split in m.scores.per_query:
        found = m.scores.estimate(split)
        return (found.high - found.low) / 2, found.planned()
    root = math.sqrt(len(m.qrels[split]))
    return 1.96 * PLAUSIBLE_SD / root, visible(SPREAD) / root


def unanswerable(m: Sample) -> Finding | None:
    """Queries whose right document nothing finds."""
    chosen = m.some(m.asked, SEARCHED)
    if not chosen:
        return None
    # the whole corpus is searched, or a sample of a very large one with the right documents
    right = {q: m.right[m.asked[q]][q] for q in chosen}
    most = ENOUGH if len(m.corpus) > TEXTS else None
    wanted = {d for found in right.values() for d in sorted(found)[:most]}
    kept = wanted | set(m.some((d for d in m.corpus if d not in wanted), TEXTS))
    ids = [d for d in m.corpus if d in kept]
    texts = [m.corpus[d] for d in ids]
    depth = min(DEPTH, max(10, len(ids) // 20))  # all of a small corpus would say nothing

    def lost_of(asked: list[str], found: np.ndarray) -> list[str]:
        """The queries whose row of places holds none of their right documents."""
        rows = zip(asked, found.tolist(), strict=True)
        return [q for q, row in rows if right[q].isdisjoint(ids[i] for i in row if i >= 0)]

    # by words, and what words miss by the model
    found = np.full((len(chosen), 0), -1)
    with suppress(EmbkitError):  # no text has a word to search by
        asked = [m.queries[q] for q in chosen]
        found, _ = BM25(texts).search(asked, depth, m.domain.hidden(chosen, ids))
    lost = lost_of(chosen, found)
    missed, who, share = len(lost), "word search (BM25)", 0.1
    more = "; model= tells which a model finds" if m.model is None else ""
    if m.model is not None:
        who, share = f"{who} or of the model", 0.02
        vectors = m.encode([m.queries[q] for q in lost]), m.encode(texts, "document")
        found, _ = exact_search(*vectors, depth, m.domain.hidden(lost, ids))
        lost = lost_of(lost, found)
    # what is said
    draft = Finding("unanswerable queries", numbers={"sampled": len(chosen), "lost": len(lost)})
    draft.numbers |= {"missed by words": missed, "depth": depth}
    sampled = "" if len(chosen) == len(m.asked) else " sampled"
    within = "" if len(ids) == len(m.corpus) else f" when {len(ids):,} documents are searched"
    shown = lost[:: max(1, len(lost) // 5)][:5]  # from all over, not the first in the alphabet
    draft.say(
        f"{of(len(lost), len(chosen))}{sampled} queries have none of theirs among the first "
        f"{depth} of {who}{within}",
        examples=[f"{quote(m.queries[q])} → {quote(m.corpus[min(right[q])])}" for q in shown],
    )
    if m.model is not None:
        draft.say(f"word search alone misses {percent(missed / len(chosen))}")
    if lost and len(lost) >= share * len(chosen):
        todo = "read some: a wrong label, a missing document, or the hard case that training is for"
        draft.say(todo=f"{todo}{more}")
    return draft.judged()


def own_documents(m: Sample) -> Finding | None:
    """How many queries stand in the corpus too, under their own id, and do not find themselves."""
    own = sorted(m.own.intersection(m.asked))
    if not own:
        return None
    draft = Finding("own documents", numbers={"left out": len(own)})
    cases = [f"{q}: {quote(m.queries[q])}" for q in own[:2]]
    told = "queries are in the corpus under their own id, and no label says that this is right: "
    told += "that document is left out when they search"
    draft.say(f"{of(len(own), len(m.asked))} {told}", examples=cases)
    return draft.judged()


def balance(m: Sample) -> Finding | None:
    """Whether a few documents have most of the labels, and what has none."""
    counts = Counter(d for found in m.right.get("train", {}).values() for d in found)
    if not counts:
        return None
    # how evenly documents, grades and groups are labelled
    pairs = np.sort(np.fromiter(counts.values(), float))[::-1]
    n, total = len(pairs), pairs.sum()
    top = float(pairs[: max(1, round(n / 10))].sum() / total)
    gini = float(((n + 1 - 2 * np.arange(1, n + 1)) * pairs).sum() / (n * total))
    judged = [found for of_split in m.qrels.values() for found in of_split.values()]
    grades = Counter(grade for found in judged for grade in found.values())
    groups = set(m.groups.values()) - m.domain.tested_groups
    bare = sorted(groups - {m.groups[d] for d in m.trained if d in m.groups})
    # what to do
    draft = Finding("label balance")
    told = f"{some_of(int(total), 'training pair', 'training pairs')} over "
    told += f"{some_of(n, 'document', 'documents')}, Gini {gini:.2f}: the most frequent 10% have "
    draft.say(f"{told}{percent(top)} of the pairs")
    if groups:
        apart = "groups that are not held out" if m.held_out else "groups"
        draft.say(f"{of(len(bare), len(groups))} {apart} have no training pair")
    draft.say("grades: " + ", ".join(f"{g} ({c:,})" for g, c in sorted(grades.items())))
    if top > 0.5:
        draft.say(
            todo="label queries for rarer documents, or take fewer pairs of the frequent ones"
        )
        few = ((quote(m.corpus[d]), c) for d, c in counts.most_common(3))
        draft.say(examples=[f"{some_of(c, 'pair', 'pairs')}: {text}" for text, c in few])
    if len(bare) > 0.25 * len(groups):
        todo = "label a few queries in the groups that have none"
        draft.say(todo=todo, examples=[f"no training pair: {', '.join(map(str, bare[:8]))}"])
    draft.numbers |= {"gini": gini, "top tenth": top, "groups without a pair": len(bare)}
    return draft.judged(bad=top > 0.9 and n >= 10)
