"""Checks of the labels: how many, which cannot be answered, how evenly they are spread."""

import math
from collections import Counter
from contextlib import suppress

import numpy as np

from ..errors import EmbkitError
from ..evaluation.intervals import SPREAD, visible
from ..search.index import BM25, exact_search
from .base import TEXTS, Finding, Sample, finding

PLAUSIBLE_SD = 0.45  # of nDCG@10 over queries, where nothing has been scored
NARROW, WIDE = 0.05, 0.125  # half an interval's width: up to here ok, from here a problem
SEARCHED = 2_000  # queries that are searched for to find those that cannot be answered
DEPTH = 100  # documents among which a right one should be
ENOUGH = 20  # right documents of a query that are searched for in a sample of a large corpus


def sizes(m: Sample) -> Finding:
    """How much there is, and how far a test's result can be trusted."""
    counts = {split: len(judged) for split, judged in m.qrels.items()}
    right = [found for of_split in m.right.values() for found in of_split.values()]
    known = {split: _known_to(m, split) for split in m.tests if counts[split]}
    widest = max(known, key=lambda split: known[split][0], default="")
    width = known[widest][0] if known else math.inf
    few = NARROW < width < math.inf
    numbers: dict[str, float] = {"documents": len(m.corpus), "ever right": len(set().union(*right))}
    numbers |= {f"{split} queries": n for split, n in counts.items()}
    numbers |= {f"{split} half-width": width for split, (width, _) in known.items()}
    numbers |= {f"{split} visible": seen for split, (_, seen) in known.items()}
    said = {"counts": counts, "known": known, "widest": widest, "narrow": NARROW}
    said["right"] = np.mean([len(found) for found in right]) if right else 0
    said["enough"] = math.ceil(counts[widest] * (width / NARROW) ** 2) if few else 0
    said["missing"] = [s for s in ("train", "dev", *m.tests) if not counts[s]]
    return finding(m, "sizes", numbers, width >= WIDE or not counts["train"], **said)


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
    missed, share = len(lost), 0.1
    if m.model is not None:
        share = 0.02
        vectors = m.encode([m.queries[q] for q in lost]), m.encode(texts, "document")
        found, _ = exact_search(*vectors, depth, m.domain.hidden(lost, ids))
        lost = lost_of(lost, found)
    shown = lost[:: max(1, len(lost) // 5)][:5]  # from all over, not the first in the alphabet
    numbers = {"sampled": len(chosen), "lost": len(lost), "missed by words": missed, "depth": depth}
    said = {"searched": len(ids), "shown": [(q, min(right[q])) for q in shown]}
    said["many"] = lost and len(lost) >= share * len(chosen)
    return finding(m, "unanswerable queries", numbers, **said)


def own_documents(m: Sample) -> Finding | None:
    """How many queries stand in the corpus too, under their own id, and do not find themselves."""
    own = sorted(m.own.intersection(m.asked))
    if not own:
        return None
    return finding(m, "own documents", {"left out": len(own)}, shown=own[:2])


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
    numbers = {"gini": gini, "top tenth": top, "groups without a pair": len(bare)}
    said = {"total": int(total), "n": n, "groups": len(groups), "bare": bare}
    said |= {"grades": dict(sorted(grades.items())), "frequent": counts.most_common(3)}
    return finding(m, "label balance", numbers, top > 0.9 and n >= 10, **said)
