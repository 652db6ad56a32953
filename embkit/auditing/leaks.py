"""Checks of what must not stand twice: duplicates, near-duplicates, groups in two splits."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from hashlib import blake2b

import numpy as np

from ..data import text_checks
from ..data.domain import normalise
from ..display import some_of
from ..search.index import exact_search
from .base import NEAR, Finding, Sample, of, quote

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
    # what is said of them
    draft = Finding("duplicates")
    repeats = some_of(extra, "document repeats", "documents repeat")
    draft.say(f"{repeats if extra else 'no document repeats'} another's text")
    if extra:
        draft.say(
            todo="merge documents with the same text: the twin of a right one scores 0",
            examples=[f"documents {', '.join(i[:3])}: {quote(m.corpus[i[0]])}" for i in twins[:3]],
        )
    if own:
        draft.say(
            f"{some_of(len(own), 'query is its', 'queries are their')} right document's text",
            "drop queries that are their document's text: they teach and test nothing",
            [f"query {q}: {quote(m.queries[q])}" for q in own[:2]],
        )
    if other:
        draft.say(
            f"{some_of(len(other), 'query is', 'queries are')} another document's text",
            "mark documents that a query quotes as right, or a perfect answer scores 0",
            [f"query {q}, not marked right: {quote(m.queries[q])}" for q in other[:2]],
        )
    draft.numbers |= {"documents": extra, "query is its document": len(own)}
    draft.numbers["query is another document"] = len(other)
    return draft.judged(extra > 0.05 * len(m.corpus) or len(other) > 0.01 * len(m.asked))


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
    draft = Finding("near-duplicates across splits")
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
        draft.numbers |= {f"{split}, letters": letters, f"{split}, same answer": len(memory)}
        told = f"{of(letters, len(ids))} by letters"
        if m.model is not None:
            draft.numbers[f"{split}, cosine"] = close
            told += f", {of(close, len(ids))} by cosine"
        draft.say(f"{split}: {told}, {of(len(memory), len(ids))} with the same answer")
        for q in sorted(twins, key=lambda q: (q not in memory, -max(twins[q].values())))[:2]:
            t = memory.get(q) or max(twins[q], key=twins[q].__getitem__)
            case = f"{split}: {quote(m.queries[q])} ~ train: {quote(m.queries[t])}, "
            case += f"{twins[q][t]:.2f}, {'the same' if q in memory else 'another'} answer"
            draft.say(examples=[case])
    rule = f"5-character pieces, Jaccard ≥ {LETTERS}"
    rule += f"; cosine ≥ {COSINE}" * (m.model is not None)
    draft.sentence = f"queries with a near twin in training ({rule}): {draft.sentence}"
    # the worst split decides
    bad = shares[1] >= 0.25 or shares[2] >= 0.1
    todo = "report these queries apart, or move them into train: memory answers those with the "
    todo += "same answer; those with another answer are hard cases, worth reading"
    draft.say(todo=todo if bad or shares[0] >= 0.01 else "")
    return draft.judged(bad)


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
    home, what = (m.groups, "group") if m.groups else ({d: d for d in m.corpus}, "document")
    seen = {home[d] for d in m.trained if d in home}
    draft = Finding("leakage by group")
    shares, fresh = [], 0
    for split in m.splits:
        right = m.right[split]
        known = [q for q, found in right.items() if any(home.get(d) in seen for d in found)]
        draft.numbers[f"{split}, seen"] = len(known)
        shares.append(f"{split} {of(len(known), len(right))}")
        fresh = max(fresh, (len(right) - len(known)) * (split in m.tests))
    place = "is in a group that training saw" if m.groups else "training saw"
    draft.say(f"queries whose right document {place}: {', '.join(shares)}")
    if not m.groups:
        draft.say("no groups are given, so each document stands for itself")
    if fresh < FRESH:
        draft.say(todo=f"hold some {what}s out: no test has {FRESH} queries about what is new")
    return draft.judged()
