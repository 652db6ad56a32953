"""Train, dev and test for data that comes without them: cut by document, never by row.

All queries of one document stay together, and so do all documents of one query: what is cut are
the connected parts of the graph of queries and right documents, in the order of a seeded hash.
Where documents have kinds (categories, modules), ``split_by_kind`` holds whole kinds out as well.
"""

from __future__ import annotations

import hashlib
import itertools
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import TypeVar

from ..errors import EmbkitError
from .domain import normalise, right_documents, shuffled
from .readers.draft import WHOLE, Split

SHARES = {"test": 0.20, "dev": 0.10}
CAPS = {"test": 2000, "dev": 1000}  # queries; more would cost time and narrow no interval
NOVEL, NOVEL_DEV = 0.10, 0.04  # shares of the kinds
DEV, KNOWN = 0.04, 0.12  # shares of the queries that are left
SMOKE = {"documents": 400, "test": 60, "dev": 30, "train": 200, "answers": 5}
T = TypeVar("T")


def divide(
    given: Mapping[str, Split], corpus: Mapping[str, str], queries: Mapping[str, str]
) -> tuple[dict[str, Split], list[str]]:
    """The splits ``train``, ``dev`` and at least one test; a sentence for each thing decided.

    ``given`` is split -> query -> judged; rows without a split stand under ``""``. Documents with
    the same text count as one. Fails where there are fewer than three queries to divide.
    """
    kept = {split: qrels for split, qrels in given.items() if split not in (WHOLE, "train")}
    pool = given.get("train", {}) | given.get(WHOLE, {})
    note, source = "", "train" if given.get("train") else "the rows"
    if not pool and kept.get("dev") and len(kept) > 1:
        pool, source = kept.pop("dev"), "dev"
        note = "no train was given: most of dev is trained on, test is as given"
    elif not pool:
        source = " and ".join(sorted(kept))
        note = f"only {source} was given and nothing to train on: its queries were divided. "
        note += "Figures on this test split are not comparable with published ones"
        pool, kept = {q: judged for qrels in kept.values() for q, judged in qrels.items()}, {}
    wanted = [] if kept.keys() - {"dev"} else ["test"]
    wanted += [] if kept.get("dev") else ["dev"]
    order = dict.fromkeys(["train", "dev", *kept, *wanted])
    if not wanted:
        return {split: kept.get(split, pool) for split in order}, ["train, dev and test as given"]
    parts, shared = _cut(pool, wanted, corpus, queries)
    # what was decided
    sizes = ", ".join(f"{name} {len(part):,}" for name, part in parts.items())
    said = [f"cut from the {len(pool):,} queries of {source} by document: {sizes}"]
    said += [note] if note else []
    for name in wanted:
        if CAPS[name] < round(SHARES[name] * len(pool)):
            said.append(f"{name} is limited to {CAPS[name]:,} queries")
    if shared:
        said.append(
            f"{shared:,} queries hang together through the documents they share and were "
            "divided by query: a document may be right in train and in test. The subset "
            "never_positive shows the queries for which it is not so"
        )
    return {split: (kept | parts)[split] for split in order}, said


def _cut(
    pool: Split, wanted: list[str], corpus: Mapping[str, str], queries: Mapping[str, str]
) -> tuple[dict[str, Split], int]:
    """The wanted parts of a pool, the rest as ``train``; how many queries share a document."""
    if len(pool) <= len(wanted):
        raise EmbkitError(
            f"{len(pool)} usable {'query' if len(pool) == 1 else 'queries'} to make "
            f"{' and '.join([*wanted, 'train'])} from",
            expected=f"at least {len(wanted) + 1} different queries, better a few hundred",
            hint="add rows, or look into the quarantine file to see what was put aside",
        )
    # queries that share a right document are one part
    order = {query: in_order(normalise(queries[query]), 0) for query in pool}
    texts = ((_hash(normalise(corpus[d])) for d in right_documents(j)) for j in pool.values())
    left = connected(zip(pool, texts, strict=True))
    left.sort(key=lambda part: min(order[q] for q in part))
    parts: dict[str, Split] = {}
    shared = 0
    for name in wanted:
        goal = max(1, min(CAPS[name], round(SHARES[name] * len(pool))))
        fitting, rest = fill(left, goal)
        chosen = [query for part in fitting for query in part]
        if not chosen:  # the parts are large: one that is not much too large will do
            smallest = min(rest, key=len)
            if len(smallest) <= min(CAPS[name], len(pool) // 3, 2 * goal):
                chosen += smallest
                rest.remove(smallest)
        if len(chosen) < goal / 2:  # one part holds nearly all: by query, which is still not by row
            largest = max(rest, key=len)
            rest.remove(largest)
            largest = sorted(largest, key=order.__getitem__)
            some = max(1, min(goal - len(chosen), len(largest) - 1))
            chosen += largest[:some]
            rest.append(largest[some:])
            shared += some
        parts[name], left = {q: pool[q] for q in sorted(chosen)}, [part for part in rest if part]
    out = {query for part in parts.values() for query in part}
    return parts | {"train": {q: judged for q, judged in pool.items() if q not in out}}, shared


def connected(items: Iterable[tuple[T, Iterable[Hashable]]]) -> list[list[T]]:
    """The items, each with its keys, that share a key directly or through others: their parts."""
    above: dict[T, T] = {}  # item -> an earlier one of its part, or itself
    holder: dict[Hashable, T] = {}

    def root(item: T) -> T:
        while above[item] != item:
            above[item] = above[above[item]]
            item = above[item]
        return item

    for item, keys in items:
        above[item] = item
        for key in keys:
            above[root(holder.setdefault(key, item))] = root(item)
    parts: dict[T, list[T]] = defaultdict(list)
    for item in above:
        parts[root(item)].append(item)
    return list(parts.values())


def fill(parts: Iterable[list[T]], goal: float) -> tuple[list[list[T]], list[list[T]]]:
    """The parts that fit, in their order, into so many items; and the others."""
    taken: list[list[T]] = []
    left: list[list[T]] = []
    count = 0
    for part in parts:
        fits = count + len(part) <= goal
        (taken if fits else left).append(part)
        count += len(part) if fits else 0
    return taken, left


def in_order(text: str, seed: int) -> bytes:
    """What texts are sorted by, to be held out or not."""
    return _hash(f"{seed} {text}")


def _hash(text: str) -> bytes:
    return hashlib.sha1(text.encode()).digest()


def split_by_kind(
    asked: Mapping[str, tuple[str, Iterable[str]]], kinds: Callable[[str], Iterable[str]]
) -> tuple[dict[str, str], dict[str, Split]]:
    """Queries and qrels of ``train``, ``dev``, ``known`` and ``novel``, as ``split_of`` says.

    ``asked`` is normalised query -> its text and right documents, ``kinds`` gives a document's.
    """
    queries: dict[str, str] = {}
    qrels: dict[str, Split] = {split: {} for split in ("train", "dev", "known", "novel")}
    for key, (text, right) in sorted(asked.items()):
        query = "q" + hashlib.sha1(key.encode()).hexdigest()[:12]
        queries[query] = text
        split = split_of(key, {kind for document in right for kind in kinds(document)})
        qrels[split][query] = dict.fromkeys(sorted(right), 1)
    return queries, qrels


def split_of(key: str, kinds: Iterable[str]) -> str:
    """``train``, ``dev``, ``known`` or ``novel``, by hashes of a normalised query and its kinds.

    Splits nest across profiles. ``novel`` asks of kinds that training never sees. Dev holds both
    kinds of test: what it chooses must suit both.
    """

    def share_of(text: str) -> float:
        return int.from_bytes(_hash(text)[:4]) / 2**32  # in [0, 1)

    shares = [share_of("category " + kind) for kind in kinds]
    if all(share < NOVEL for share in shares):
        return "novel"
    if all(share < NOVEL + NOVEL_DEV for share in shares):
        return "dev"
    if any(share < NOVEL + NOVEL_DEV for share in shares):
        return "known"  # right in a held-out kind too: training must not see it
    share = share_of(key)
    return "dev" if share < DEV else "known" if share < DEV + KNOWN else "train"


def smoke(
    qrels: Mapping[str, Split], corpus: Mapping[str, str], negatives: Mapping[str, Iterable[str]]
) -> tuple[dict[str, Split], dict[str, str]]:
    """The smallest useful qrels and corpus: about 400 documents and 60 test queries.

    Right documents come first, then negatives, then the rest. Nothing is cut that is not larger.
    """
    tests = [split for split in qrels if split not in ("train", "dev")]
    limits = {split: -(-SMOKE["test"] // len(tests)) for split in tests}
    limits |= {"dev": SMOKE["dev"], "train": SMOKE["train"]}
    if len(corpus) <= SMOKE["documents"] and all(len(qrels[s]) <= limits[s] for s in limits):
        return {split: dict(judged) for split, judged in qrels.items()}, dict(corpus)
    kept: dict[str, None] = {}
    chosen: dict[str, Split] = {}
    for split, limit in limits.items():  # queries, with their first right documents
        chosen[split] = {}
        most = SMOKE["documents"] * (1 if split == "train" else 0.75)
        for query in shuffled(qrels[split]):
            judged = qrels[split][query]
            right = sorted(right_documents(judged), key=lambda d: (-judged[d], d))
            right = right[: SMOKE["answers"]]
            if len(chosen[split]) == limit:
                break
            if not chosen[split] or len(kept) + sum(d not in kept for d in right) <= most:
                kept |= dict.fromkeys(right)
                chosen[split][query] = judged
    for part in chosen.values():  # documents that are judged and wrong
        for query, judged in part.items():
            for document in (*judged, *negatives.get(query, ())):
                if len(kept) < SMOKE["documents"] and judged.get(document, 0) < 1:
                    kept.setdefault(document)
    others = (document for document in shuffled(corpus) if document not in kept)
    kept |= dict.fromkeys(itertools.islice(others, max(0, SMOKE["documents"] - len(kept))))
    small = {
        split: {q: {d: g for d, g in j.items() if d in kept} for q, j in chosen[split].items()}
        for split in qrels
    }
    return small, {d: t for d, t in corpus.items() if d in kept}
