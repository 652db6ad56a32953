"""Checks of what must not stand twice: duplicates, near-duplicates, groups in two splits."""

from collections import defaultdict
from collections.abc import Mapping
from hashlib import blake2b

import numpy as np

from ..data import text_checks
from ..data.domain import normalise
from ..search.index import exact_search
from .base import NEAR, Finding, Sample, finding, of

LETTERS, COSINE = 0.8, 0.9  # from here on two queries are near-duplicates
FRESH = 30  # queries about what training has not seen, for a test of it


def duplicates(m: Sample) -> Finding:
    """Texts that are the same but for case and spaces."""
    documents, queries = _same(m.corpus), _same({q: m.queries[q] for q in m.asked})
    twins = [ids for ids in documents.values() if len(ids) > 1]
    extra = sum(len(ids) - 1 for ids in twins)
    # queries that are a document's text
    own: list[str] = []
    other: list[str] = []
    for text, ids in queries.items():
        for q in ids if text in documents else ():
            if alike := set(documents[text]).difference(m.own.intersection([q])):
                (other if alike.isdisjoint(m.right[m.asked[q]][q]) else own).append(q)
    numbers = {"documents": extra, "query is its document": len(own)}
    numbers["query is another document"] = len(other)
    bad = extra > 0.05 * len(m.corpus) or len(other) > 0.01 * len(m.asked)
    return finding(m, "duplicates", numbers, bad, twins=twins[:3], own=own, other=other)


def _same(texts: Mapping[str, str]) -> dict[bytes, list[str]]:
    """Hash of the normalised text (the texts would be a second corpus) -> the ids that have it."""
    found: dict[bytes, list[str]] = {}
    for key, text in texts.items():
        plain = normalise(text).encode("utf-8", "surrogatepass")
        found.setdefault(blake2b(plain, digest_size=16).digest(), []).append(key)
    return found


def near_duplicates(m: Sample) -> Finding | None:
    """Queries that training nearly asked, and how many of these memory would answer."""
    splits = {split: m.of(split, NEAR) for split in m.splits if m.qrels[split]}
    if not m.right.get("train") or not splits:
        return None
    # twins of each split's queries in training, and which of them have the same answer
    by_letters, by_cosine = _twins(m, splits)
    numbers: dict[str, float] = {}
    told, cases = [], []
    shares = np.zeros(3)  # the worst split's: near at all, same answer, same answer by letters
    for split, ids in splits.items():
        twins = {q: by_cosine[q] | by_letters[q] for q in ids if by_cosine[q] or by_letters[q]}
        memory: dict[str, str] = {}  # query -> its closest twin with the same answer
        for q, found in twins.items():
            if same := [t for t in found if m.right["train"][t] & m.right[split][q]]:
                memory[q] = max(same, key=found.__getitem__)
        letters, close = (sum(bool(near[q]) for q in ids) for near in (by_letters, by_cosine))
        copied = sum(t in by_letters[q] for q, t in memory.items())
        shares = np.maximum(shares, np.array([len(twins), len(memory), copied]) / len(ids))
        numbers |= {f"{split}, letters": letters, f"{split}, same answer": len(memory)}
        by = f"{of(letters, len(ids))} by letters"
        if m.model is not None:
            numbers[f"{split}, cosine"] = close
            by += f", {of(close, len(ids))} by cosine"
        told.append(f"{split}: {by}, {of(len(memory), len(ids))} with the same answer")
        for q in sorted(twins, key=lambda q: (q not in memory, -max(twins[q].values())))[:2]:
            t = memory.get(q) or max(twins[q], key=twins[q].__getitem__)
            cases.append((split, q, t, twins[q][t], "the same" if q in memory else "another"))
    # the worst split decides
    bad = shares[1] >= 0.25 or shares[2] >= 0.1
    said = {"letters": LETTERS, "cosine": COSINE, "told": told, "cases": cases}
    many = bad or shares[0] >= 0.01
    return finding(m, "near-duplicates across splits", numbers, bad, many=many, **said)


Twins = dict[str, dict[str, float]]  # query -> training query -> closeness


def _twins(m: Sample, splits: Mapping[str, list[str]]) -> tuple[Twins, Twins]:
    """By letters, and by cosine, where there is a model."""
    mine, train = [q for ids in splits.values() for q in ids], m.of("train")
    asked = [m.queries[q] for q in train]
    letters: Twins = defaultdict(dict)
    cosine: Twins = defaultdict(dict)
    for i, j, similarity in text_checks.near_pairs([m.queries[q] for q in mine], asked, LETTERS):
        letters[mine[i]][train[j]] = similarity
    vectors = np.empty(0) if m.model is None else m.encode(asked)
    for ids in splits.values() if m.model is not None else ():  # as ``evaluate`` encodes them
        indices, scores = exact_search(m.encode([m.queries[q] for q in ids]), vectors, k=10)
        for i, j in np.argwhere(scores >= COSINE):
            cosine[ids[i]][train[indices[i, j]]] = float(scores[i, j])
    return letters, cosine


def leakage(m: Sample) -> Finding | None:
    """How much of each split asks for what training has seen."""
    if not m.trained or not m.splits:
        return None
    home = m.groups or {d: d for d in m.corpus}
    seen = {home[d] for d in m.trained if d in home}
    numbers, shares, fresh = {}, {}, 0
    for split in m.splits:
        right = m.right[split]
        known = [q for q, found in right.items() if any(home.get(d) in seen for d in found)]
        numbers[f"{split}, seen"] = len(known)
        shares[split] = of(len(known), len(right))
        fresh = max(fresh, (len(right) - len(known)) * (split in m.tests))
    few = FRESH if fresh < FRESH else 0
    return finding(m, "leakage by group", numbers, shares=shares, few=few)
