"""Train, dev and test for data that comes without them: cut by document, never by row.

All queries of one document stay together, and so do all documents of one query: what is cut are
the connected parts of the graph of queries and right documents, in the order of a seeded hash.
Where documents have kinds (categories, modules), ``split_of`` holds whole kinds out as well.
"""

from __future__ import annotations

import hashlib
import random
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from ..errors import EmbkitError
from .domain import normalise
from .readers.draft import WHOLE, Split, right_documents

SHARES = {"test": 0.20, "dev": 0.10}
CAPS = {"test": 2000, "dev": 1000}  # queries; more would cost time and narrow no interval
NOVEL, NOVEL_DEV = 0.10, 0.04  # shares of the kinds
DEV, KNOWN = 0.04, 0.12  # shares of the queries that are left
SMOKE = {"documents": 400, "test": 60, "dev": 30, "train": 200, "answers": 5}


@dataclass(frozen=True)
class Cut:
    """Named parts of a pool of queries, and what is left of it."""

    parts: dict[str, Split]
    rest: Split
    shared: int = 0  # queries that could not be kept apart by document


def divide(
    given: Mapping[str, Split], corpus: Mapping[str, str], queries: Mapping[str, str], seed: int = 0
) -> tuple[dict[str, Split], list[str]]:
    """The splits ``train``, ``dev`` and at least one test, made from those that are there.

    Args:
        given: split -> query -> judged; rows without a split stand under ``""``.
        corpus: document id -> text; documents with the same text count as one.
        queries: query id -> text.
        seed: of the hash that puts the parts in order.

    Returns:
        The splits, and one sentence for each thing that was decided.

    Raises:
        EmbkitError: fewer than three queries to divide.
    """
    found = {split: dict(qrels) for split, qrels in given.items()}
    whole = found.pop(WHOLE, {})
    train = found.pop("train", {})
    tests = {split: qrels for split, qrels in found.items() if split != "dev"}
    dev = found.get("dev", {})
    if train:
        wanted = [split for split, there in (("test", tests), ("dev", dev)) if not there]
        pool, from_ = train | whole, "train"
    elif whole:
        wanted = [split for split, there in (("test", tests), ("dev", dev)) if not there]
        pool, from_ = whole, "the rows"
    elif dev and tests:
        wanted, pool, from_, dev = ["dev"], dev, "dev", {}
    else:
        pool, from_ = {q: judged for qrels in found.values() for q, judged in qrels.items()}, ""
        wanted, tests, dev = ["test", "dev"], {}, {}
    if not wanted:
        return {"train": pool, "dev": dev, **tests}, ["train, dev and test as given"]
    cut = _cut(pool, wanted, corpus, queries, seed)
    made = {"train": cut.rest, "dev": dev, **tests} | cut.parts
    return made, _sentences(cut, pool, wanted, from_, sorted(given))


def _sentences(cut: Cut, pool: Split, wanted: list[str], from_: str, given: list[str]) -> list[str]:
    sizes = ", ".join(f"{name} {len(cut.parts[name]):,}" for name in wanted)
    source = from_ or " and ".join(given)
    said = [
        f"cut from the {len(pool):,} queries of {source} by document: {sizes}, "
        f"train {len(cut.rest):,}"
    ]
    if not from_:
        said.append(
            f"only {' and '.join(given)} was given and nothing to train on: its queries were "
            "divided. Figures on this test split are not comparable with published ones"
        )
    elif from_ == "dev":
        said.append("no train was given: most of dev is trained on, test is as given")
    for name in wanted:
        if CAPS[name] < round(SHARES[name] * len(pool)):
            said.append(f"{name} is limited to {CAPS[name]:,} queries")
    if cut.shared:
        said.append(
            f"{cut.shared:,} queries hang together through the documents they share and were "
            "divided by query: a document may be right in train and in test. The subset "
            "never_positive shows the queries for which it is not so"
        )
    return said


def _cut(
    pool: Split,
    wanted: list[str],
    corpus: Mapping[str, str],
    queries: Mapping[str, str],
    seed: int,
) -> Cut:
    if len(pool) <= len(wanted):
        raise EmbkitError(
            f"{len(pool)} usable {'query' if len(pool) == 1 else 'queries'} to make "
            f"{' and '.join([*wanted, 'train'])} from",
            expected=f"at least {len(wanted) + 1} different queries, better a few hundred",
            hint="add rows, or look into the quarantine file to see what was put aside",
        )
    order = {query: _hash(queries[query], seed) for query in pool}
    left = sorted(_parts(pool, corpus), key=lambda part: min(order[q] for q in part))
    taken: dict[str, list[str]] = {}
    shared = 0
    for name in wanted:
        goal = max(1, min(CAPS[name], round(SHARES[name] * len(pool))))
        chosen: list[str] = []
        rest: list[list[str]] = []
        for part in left:
            fits = len(chosen) + len(part) <= goal
            chosen += part if fits else []
            rest += [] if fits else [part]
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
        taken[name], left = chosen, [part for part in rest if part]
    parts = {name: {q: pool[q] for q in sorted(chosen)} for name, chosen in taken.items()}
    out = {query for chosen in taken.values() for query in chosen}
    return Cut(parts, {q: judged for q, judged in pool.items() if q not in out}, shared)


def _parts(pool: Split, corpus: Mapping[str, str]) -> list[list[str]]:
    """The connected parts: queries that share a right document, directly or through others."""
    above: dict[str, str] = {}

    def root(query: str) -> str:
        while above[query] != query:
            above[query] = above[above[query]]
            query = above[query]
        return query

    holder: dict[bytes, str] = {}
    for query, judged in pool.items():
        above[query] = query
        for document in right_documents(judged):
            text = hashlib.sha1(normalise(corpus[document]).encode()).digest()
            above[root(holder.setdefault(text, query))] = root(query)
    parts: dict[str, list[str]] = defaultdict(list)
    for query in pool:
        parts[root(query)].append(query)
    return list(parts.values())


def _hash(text: str, seed: int) -> bytes:
    return hashlib.sha1(f"{seed} {normalise(text)}".encode()).digest()


def split_of(key: str, kinds: Iterable[str]) -> str:
    """``train``, ``dev``, ``known`` or ``novel``, by hashes of texts: splits nest across profiles.

    ``novel`` asks of kinds that training never sees. Dev holds both kinds of test: what it
    chooses must suit both.

    Args:
        key: the query, normalised.
        kinds: those of its right documents.
    """
    shares = [_share("category " + kind) for kind in kinds]
    if all(share < NOVEL for share in shares):
        return "novel"
    if all(share < NOVEL + NOVEL_DEV for share in shares):
        return "dev"
    if any(share < NOVEL + NOVEL_DEV for share in shares):
        return "known"  # right in a held-out kind too: training must not see it
    share = _share(key)
    return "dev" if share < DEV else "known" if share < DEV + KNOWN else "train"


def _share(key: str) -> float:
    """A number in [0, 1) that depends on the text alone."""
    return int(hashlib.sha1(key.encode()).hexdigest()[:8], 16) / 2**32


def smoke(
    qrels: Mapping[str, Split], corpus: Mapping[str, str], negatives: Mapping[str, Iterable[str]]
) -> tuple[dict[str, Split], dict[str, str]]:
    """The smallest useful part: about 400 documents and 60 test queries, right documents first.

    Args:
        qrels: all splits.
        corpus: document id -> text.
        negatives: query id -> documents marked as wrong; they come before the rest of the corpus.

    Returns:
        (qrels, corpus), both cut; the same ones where nothing is larger than that.
    """
    tests = [split for split in qrels if split not in ("train", "dev")]
    rooms = {split: -(-SMOKE["test"] // len(tests)) for split in tests}
    rooms |= {"dev": SMOKE["dev"], "train": SMOKE["train"]}
    if len(corpus) <= SMOKE["documents"] and all(len(qrels[s]) <= rooms[s] for s in rooms):
        return {split: dict(judged) for split, judged in qrels.items()}, dict(corpus)
    kept: dict[str, None] = {}
    chosen: dict[str, Split] = {}
    for split, room in rooms.items():
        chosen[split] = {}
        most = SMOKE["documents"] * (1 if split == "train" else 0.75)
        for query in _shuffled(qrels[split]):
            judged = qrels[split][query]
            right = sorted(right_documents(judged), key=lambda d: (-judged[d], d))
            right = right[: SMOKE["answers"]]
            full = len(kept) + sum(d not in kept for d in right) > most
            if len(chosen[split]) == room:
                break
            if full and chosen[split]:
                continue
            kept |= dict.fromkeys(right)
            chosen[split][query] = judged
    for part in chosen.values():
        for query, judged in part.items():
            for document in (*judged, *negatives.get(query, ())):
                if len(kept) < SMOKE["documents"] and judged.get(document, 0) < 1:
                    kept.setdefault(document)
    for document in _shuffled(corpus):
        if len(kept) >= SMOKE["documents"]:
            break
        kept.setdefault(document)
    cut = {
        split: {q: {d: g for d, g in j.items() if d in kept} for q, j in judged.items()}
        for split, judged in chosen.items()
    }
    return {split: cut[split] for split in qrels}, {d: t for d, t in corpus.items() if d in kept}


def _shuffled(ids: Iterable[str], seed: int = 0) -> list[str]:
    ordered = sorted(ids)
    random.Random(seed).shuffle(ordered)
    return ordered
