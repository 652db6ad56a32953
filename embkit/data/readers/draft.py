"""What a folder's rows add up to before they are a Domain, and how it is put in order."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..domain import normalise
from .parsing import Quarantine, text_fault

Judged = dict[str, int]  # document id -> grade
Split = dict[str, Judged]  # query id -> what is judged

WHOLE = ""  # the split of rows for which none was given
NO_ANSWER = "query without a right document"
IN_TEST = "query text that another split asks too"


@dataclass
class Material:
    """Texts and judgements as they were read; ``settle`` makes a Domain's checks hold."""

    bad: Quarantine
    given: Mapping[str, Any] | None = None  # role -> column, if it was said
    encoding: str | None = None
    corpus: dict[str, str] = field(default_factory=dict)
    queries: dict[str, str] = field(default_factory=dict)
    qrels: dict[str, Split] = field(default_factory=dict)
    negatives: dict[str, dict[str, None]] = field(default_factory=lambda: defaultdict(dict))
    groups: dict[str, str] = field(default_factory=dict)
    parents: dict[str, str] = field(default_factory=dict)
    where: dict[str, tuple[str, int]] = field(default_factory=dict)  # of each query: file, line
    notes: list[str] = field(default_factory=list)
    columns: dict[str, str] = field(default_factory=dict)  # role -> the column that plays it
    about: dict[str, str] = field(default_factory=dict)
    tests: list[str] = field(default_factory=list)  # the order of the test splits, if it is known
    held_out: str | None = None  # the test split whose groups training must not know
    ranked: bool = False  # whether the order of negatives was given, and stays
    merged: int = 0  # rows that say again what an earlier one said
    alike: int = 0  # texts that differ from an earlier one in case or spaces alone
    _named: set[str] = field(default_factory=set)  # queries that were put aside once already

    def add(
        self, texts: dict[str, str], key: str, text: Any, place: tuple[str, int], raw: Any
    ) -> bool:
        """Adds a text under an id; whether it is there now. What cannot be used is put aside."""
        fault, there = text_fault(text), key in texts
        if not fault and texts.setdefault(key, text) != text:
            fault = "id that another text has"
        if fault:
            self.bad.add(fault, *place, raw)
        else:
            self.merged += there
        return not fault

    def judge(self, split: str, query: str, document: str, grade: int) -> bool:
        """Adds a judgement; False where another grade stands there already."""
        judged = self.qrels.setdefault(split, {}).setdefault(query, {})
        return judged.setdefault(document, grade) == grade

    def settle(self) -> None:
        """Puts in order what a Domain does not allow; everything dropped is put aside.

        The same question twice in a split becomes one query. A query without a right document
        goes. A question of several splits stays where it is needed most: test, then dev.
        """
        merged = {query for qrels in self.qrels.values() for query in self._merge(qrels)}
        for split, qrels in self.qrels.items():
            for query in [q for q, judged in qrels.items() if max(judged.values(), default=0) < 1]:
                del qrels[query]
                self._aside(NO_ANSWER, query, split)
        owner: dict[str, str] = {}
        for split in sorted(self.qrels, key=lambda split: {"train": 2, "dev": 1}.get(split, 0)):
            for query in list(self.qrels[split]):
                first = owner.setdefault(normalise(self.queries[query]), split)
                if first != split:
                    del self.qrels[split][query]
                    self._aside(IN_TEST, query, f"kept in {first}, dropped from {split}")
        self.qrels = {split: qrels for split, qrels in self.qrels.items() if qrels}
        asked = {query for qrels in self.qrels.values() for query in qrels}
        for query in [q for q in self.queries if q not in asked]:
            if query not in merged and query not in self._named:
                self._aside(NO_ANSWER, query, "no judgement names it")
            del self.queries[query]
        if merged:
            self.notes.append(
                f"{len(merged):,} queries that ask the same as another of their split were merged "
                "with it"
            )

    def _merge(self, qrels: Split) -> list[str]:
        """Moves the judgements of a repeated question to its first query."""
        first: dict[str, str] = {}
        again = []
        for query in list(qrels):
            kept = first.setdefault(normalise(self.queries[query]), query)
            if kept == query:
                continue
            again.append(query)
            for document, grade in qrels.pop(query).items():
                qrels[kept][document] = max(grade, qrels[kept].get(document, grade))
            self.negatives[kept] |= self.negatives.pop(query, {})
        return again

    def _aside(self, cause: str, query: str, detail: str) -> None:
        self._named.add(query)
        file, line = self.where.get(query, ("queries", 0))
        raw = {"_id": query, "text": self.queries[query]}
        self.bad.add(cause, file, line, raw, detail)

    def wrong(self) -> dict[str, tuple[str, ...]]:
        """Query -> the documents marked as wrong, without those that are right after all."""
        found, right = {}, 0
        for qrels in self.qrels.values():
            for query, judged in qrels.items():
                marked = self.negatives.get(query, {})
                documents = [d for d in marked if judged.get(d, 0) < 1]
                right += len(marked) - len(documents)
                if documents:
                    found[query] = tuple(documents if self.ranked else sorted(documents))
        if right:
            self.notes.append(
                f"{right:,} negatives are right documents of the same query: left out"
            )
        return found


def key_of(kind: str, text: str) -> str:
    """An id made of the text, so that it stays the same however the rows are ordered."""
    return kind + hashlib.sha1(normalise(text).encode()).hexdigest()[:16]
