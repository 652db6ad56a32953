"""Train, dev and test for data that comes without them: cut by document, never by row.

All queries of one document stay together, and so do all documents of one query, and of one group
where there are groups: what is cut are the connected parts of the graph of queries and right
documents. A split gets its share of the large parts and of the small ones, by seeded hashes.
Where documents have kinds (categories, modules), ``split_by_kind`` holds whole kinds out as well.
"""

import hashlib
import itertools
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import TypeVar

from .domain import normalise, right_documents, shuffled
from .readers.draft import WHOLE, Split
from .refusals import refused

SHARES = {"test": 0.20, "dev": 0.10}
CAPS = {"test": 2000, "dev": 1000}  # queries; more would cost time and narrow no interval
NOVEL, NOVEL_DEV = 0.10, 0.04  # shares of the kinds
DEV, KNOWN = 0.04, 0.12  # shares of the queries that are left
SMOKE = {"documents": 400, "test": 60, "dev": 30, "train": 200, "answers": 5}
T = TypeVar("T")


def divide(
    given: Mapping[str, Split],
    corpus: Mapping[str, str],
    queries: Mapping[str, str],
    groups: Mapping[str, str] | None = None,
) -> tuple[dict[str, Split], list[str]]:
    """The splits ``train``, ``dev`` and at least one test; a sentence for each thing decided.

    ``given`` is split -> query -> judged; rows without a split stand under ``""``. Documents with
    the same text count as one, and those of one group stay together, unless groups are so large
    that no split can be made of them. Fails where there are fewer than three queries to divide.
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
    parts, shared = _cut(pool, wanted, corpus, queries, groups or {})
    by = "group" if groups else "document"
    if groups and shared:
        by = "document, since its groups are too large to stay whole"
        parts, shared = _cut(pool, wanted, corpus, queries, {})
    # what was decided
    sizes = ", ".join(f"{name} {len(part):,}" for name, part in parts.items())
    said = [f"cut from the {len(pool):,} queries of {source} by {by}: {sizes}"]
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
    pool: Split,
    wanted: list[str],
    corpus: Mapping[str, str],
    queries: Mapping[str, str],
    groups: Mapping[str, str],
) -> tuple[dict[str, Split], int]:
    """The wanted parts of a pool, the rest as ``train``; how many queries share a document."""
    if len(pool) <= len(wanted):
        what, splits = "query" if len(pool) == 1 else "queries", " and ".join([*wanted, "train"])
        of = {"what": what, "splits": splits, "least": len(wanted) + 1}
        raise refused("few queries", n=len(pool), **of)
    # queries that share a right document, or its group, are one part
    right = {query: [*right_documents(judged)] for query, judged in pool.items()}
    text = {d: _hash(normalise(corpus[d])) for d in set(itertools.chain(*right.values()))}
    families = ({*map(text.get, ds), *map(groups.get, ds)} - {None} for ds in right.values())
    joined = connected(zip(pool, families, strict=True))
    # a part's key is hashed again: the least of many hashes is smaller than the least of few
    keys = (_hash(min(text[d] for q in part for d in right[q]).hex()) for part in joined)
    goals = {n: max(1, min(CAPS[n], round(SHARES[n] * len(pool)))) for n in wanted}
    whole = goals | {"train": len(pool) - sum(goals.values())}
    dealt = deal(dict(zip(keys, joined, strict=True)), whole)
    # a split that got nothing, or too little
    left = dealt["train"]
    parts: dict[str, Split] = {}
    shared = 0
    for name, goal in goals.items():
        chosen = [query for part in dealt[name] for query in part]
        if not chosen:  # the parts are large: one that is not much too large will do
            smallest = min(left, key=len)
            if len(smallest) <= min(CAPS[name], len(pool) // 3, 2 * goal):
                chosen += smallest
                left.remove(smallest)
        if len(chosen) < goal / 2:  # one part holds nearly all: by query, which is still not by row
            largest = max(left, key=len)
            left.remove(largest)
            largest = sorted(largest, key=lambda q: in_order(normalise(queries[q]), 0))
            some = max(1, min(goal - len(chosen), len(largest) - 1))
            chosen += largest[:some]
            left += [largest[some:]] if largest[some:] else []
            shared += some
        parts[name] = {q: pool[q] for q in sorted(chosen)}
    out = {query for part in parts.values() for query in part}
    return parts | {"train": {q: judged for q, judged in pool.items() if q not in out}}, shared


def deal(parts: Mapping[bytes, list[T]], goals: Mapping[str, int]) -> dict[str, list[list[T]]]:
    """Whole parts for each split, as many items as its goal at most; the last takes all others.

    Parts of like size (1, 2-3, 4-7, … items) are dealt together, the large first, in the order of
    their keys, which are hashes. Of each size a split gets the share that it lacks of all that is
    left: so its parts are as large as the others', and the small ones make up the numbers. A large
    part that is one of few does not make up more than half of a split.
    """
    sizes: dict[int, list[bytes]] = defaultdict(list)
    for key in sorted(parts):
        sizes[len(parts[key]).bit_length()].append(key)
    lacking, last = dict(goals), [*goals][-1]
    dealt: dict[str, list[list[T]]] = {name: [] for name in goals}
    for _, keys in sorted(sizes.items(), reverse=True):
        ends = [*itertools.accumulate(max(n, 0) for n in lacking.values())]
        rare = {name for name, n in lacking.items() if n * len(keys) < ends[-1]}  # due less than 1
        start = share(f"start {keys[0].hex()}")  # what rounds the shares, up or down
        for place, key in enumerate(keys):
            at = (place + start) * ends[-1] / len(keys)
            name = next((n for n, end in zip(goals, ends, strict=True) if at < end), last)
            most = min(lacking[name], goals[name] / (2 if name in rare else 1))
            name = name if len(parts[key]) <= most else last
            dealt[name].append(parts[key])
            lacking[name] -= len(parts[key])
    return dealt


def connected(items: Iterable[tuple[T, Iterable[Hashable]]]) -> list[list[T]]:
    """The items, each with its keys, that share a key directly or through others: their parts."""
    from scipy.cluster.hierarchy import DisjointSet

    there = DisjointSet()
    holder: dict[Hashable, T] = {}
    for item, keys in items:
        there.add(item)
        for key in keys:
            there.merge(holder.setdefault(key, item), item)
    parts: dict[T, list[T]] = defaultdict(list)
    for item in there:
        parts[there[item]].append(item)
    return list(parts.values())


def in_order(text: str, seed: int) -> bytes:
    """What texts are sorted by, to be held out or not."""
    return _hash(f"{seed} {text}")


def _hash(text: str) -> bytes:
    return hashlib.sha1(text.encode()).digest()


def share(text: str) -> float:
    """A number in [0, 1) that a text always gets."""
    return int.from_bytes(_hash(text)[:4]) / 2**32


Asked = dict[str, tuple[str, set[str]]]  # normalised query -> its text and right documents


def gathered(
    rows: Iterable[tuple[str, str, str, str]],
) -> tuple[dict[str, str], dict[str, dict[str, None]], Asked]:
    """Rows of (id, kind, query, document): the corpus, in which twins are one document, the kinds
    in which each document stands, and what is asked."""
    corpus: dict[str, str] = {}
    first: dict[str, str] = {}  # text -> the first id that has it
    kinds: dict[str, dict[str, None]] = {}
    asked: Asked = {}
    for own, kind, query, text in rows:
        document = first.setdefault(normalise(text), own)
        corpus.setdefault(document, text)
        kinds.setdefault(document, {})[kind] = None
        asked.setdefault(normalise(query), (query, set()))[1].add(document)
    return corpus, kinds, asked


def split_by_kind(
    asked: Asked, kinds: Callable[[str], Iterable[str]]
) -> tuple[dict[str, str], dict[str, Split]]:
    """Queries and qrels of ``train``, ``dev``, ``known`` and ``novel``, as ``split_of`` says.

    ``kinds`` gives those of a document.
    """
    queries: dict[str, str] = {}
    qrels: dict[str, Split] = {split: {} for split in ("train", "dev", "known", "novel")}
    for key, (text, right) in sorted(asked.items()):
        query = query_id(key)
        queries[query] = text
        split = split_of(key, {kind for document in right for kind in kinds(document)})
        qrels[split][query] = dict.fromkeys(sorted(right), 1)
    return queries, qrels


def query_id(key: str) -> str:
    """The id of a normalised query, the same in all profiles."""
    return "q" + hashlib.sha1(key.encode()).hexdigest()[:12]


def split_of(key: str, kinds: Iterable[str]) -> str:
    """``train``, ``dev``, ``known`` or ``novel``, by hashes of a normalised query and its kinds.

    Splits nest across profiles. ``novel`` asks of kinds that training never sees. Dev holds both
    kinds of test: what it chooses must suit both.
    """

    shares = [share("category " + kind) for kind in kinds]
    if all(one < NOVEL for one in shares):
        return "novel"
    if all(one < NOVEL + NOVEL_DEV for one in shares):
        return "dev"
    if any(one < NOVEL + NOVEL_DEV for one in shares):
        return "known"  # right in a held-out kind too: training must not see it
    own = share(key)
    return "dev" if own < DEV else "known" if own < DEV + KNOWN else "train"


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
    asked = [(query, judged) for part in chosen.values() for query, judged in part.items()]
    marked = ((judged, (*judged, *negatives.get(query, ()))) for query, judged in asked)
    wrong = (d for judged, documents in marked for d in documents if judged.get(d, 0) < 1)
    for document in itertools.chain(wrong, shuffled(corpus)):
        if len(kept) < SMOKE["documents"]:
            kept.setdefault(document)
    small = {
        split: {q: {d: g for d, g in j.items() if d in kept} for q, j in chosen[split].items()}
        for split in qrels
    }
    return small, {d: t for d, t in corpus.items() if d in kept}
