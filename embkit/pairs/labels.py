"""What people judge: a store that loses nothing, and its labels as qrels, pairs and a domain."""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import secrets
from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from statistics import multimode
from typing import Any

from ..data import Domain
from ..display import Table
from ..errors import EmbkitError, unknown
from ..files import AppendOnlyStore
from ..session import paths

GRADES = {2: "relevant", 1: "partly", 0: "not relevant"}
MEANINGS = {
    2: "it answers the query",
    1: "it is about the same thing, but too wide, too narrow or beside the point",
    0: "it does not answer the query, however alike the words are",
}
RULES: dict[str, Callable[[list[int]], int]] = {  # grades of a pair -> the one that counts
    "majority": lambda grades: min(multimode(grades)),
    "strictest": min,
}
Pair = tuple[str, str]  # query id, document id
Labels = dict[str, dict[str, int]]  # query id -> document id -> grade 0, 1 or 2


@dataclass(frozen=True)
class Decision:
    """One line of the store: who gave which grade when; ``None`` takes the grade before back."""

    query: str
    document: str
    grade: int | None
    annotator: str
    time: str  # UTC, ISO 8601
    id: str
    texts: str = ""  # hash of what was judged: the two ids may bear other texts one day


class LabelStore(AppendOnlyStore):
    """People's grades of (query, document) pairs, one line a decision, never overwritten.

    Several people and processes may write to one file; without a path it is
    ``labels/<domain's name>.jsonl`` in the runs' folder.
    """

    what, hint = "decision", "LabelStore(domain, path='another/labels.jsonl')"

    def __init__(self, domain: Domain, path: str | os.PathLike[str] | None = None) -> None:
        self.domain = domain
        chosen = path or paths().runs / "labels" / f"{domain.name}.jsonl"
        super().__init__(Path(chosen).expanduser())

    def label(
        self, query: str, document: str, grade: int | None, annotator: str = "me"
    ) -> Decision:
        """Keeps a decision on two ids; returns once it is safe on the disk.

        An annotator's latest decision on a pair counts; None takes a grade back. The same one again
        is not written: the first is returned. Fails for bad input, and where it cannot be kept.
        """
        name = annotator_name(annotator)
        _check(self.domain, query, document, grade)
        with self.locked():
            last = self._latest.get((name, query, document))
            if last is not None and last.grade == grade and self._still(last):
                return last
            if last is None and grade is None:
                raise EmbkitError(
                    f"{name!r} has not judged query {query!r} with document {document!r}",
                    expected="a grade that can be taken back",
                    hint="store.labels() lists what has been judged",
                )
            now = datetime.now(UTC).isoformat(timespec="milliseconds")
            key, texts = secrets.token_hex(8), self._texts(query, document)
            decision = Decision(query, document, grade, name, now, key, texts)
            self.append([asdict(decision)])
            return decision

    @property
    def decisions(self) -> tuple[Decision, ...]:
        """Every decision in the order it was made, those taken back or changed later included."""
        self.refresh()
        return tuple(self._decisions.values())

    def labels(self) -> dict[str, dict[Pair, int]]:
        """Annotator -> (query, document) -> grade: the decisions that count, oldest first.

        Left out are decisions on ids under which this domain has no text, or another one.
        """
        self.refresh()
        found: dict[str, dict[Pair, int]] = {}
        for (name, query, document), decision in self._latest.items():
            if decision.grade is not None and self._still(decision):
                found.setdefault(name, {})[query, document] = decision.grade
        return found

    def qrels(self, resolve: str = "majority") -> Labels:
        """The labels as qrels, one grade a pair: by ``majority`` (the grade that most gave; of
        equally many, the lower), ``strictest`` (the lowest that anyone gave), or an annotator's
        name; fails where nobody of that name has judged anything."""
        labels = self.labels()
        if resolve not in {*labels, *RULES}:
            raise unknown("annotator or rule", resolve, [*labels, *RULES])
        given: dict[Pair, list[int]] = defaultdict(list)
        for name, grade_of in labels.items():
            for pair, grade in grade_of.items() if resolve in {name, *RULES} else ():
                given[pair].append(grade)
        found: Labels = {}
        for (query, document), grades in sorted(given.items()):
            found.setdefault(query, {})[document] = RULES.get(resolve, min)(grades)
        return found

    def _texts(self, query: str, document: str) -> str:
        texts = json.dumps([self.domain.queries[query], self.domain.corpus[document]])
        return hashlib.sha256(texts.encode()).hexdigest()[:16]

    def _still(self, decision: Decision) -> bool:
        """Whether the domain has both ids, and under them the texts that were judged."""
        query, document = decision.query, decision.document
        known = query in self.domain.queries and document in self.domain.corpus
        return known and decision.texts in ("", self._texts(query, document))

    def _clear(self) -> None:
        self._decisions: dict[str, Decision] = {}
        self._latest: dict[tuple[str, str, str], Decision] = {}

    def _take(self, row: Any) -> bool:
        decision = Decision(**row)
        key = (decision.annotator, decision.query, decision.document)
        whole = all(isinstance(text, str) and text for text in (*key, decision.id))
        if not whole or not isinstance(decision.texts, str) or not _is_grade(decision.grade):
            return False
        if decision.id not in self._decisions:  # the same line twice: files that were joined
            self._decisions[decision.id] = decision
            self._latest.pop(key, None)
            self._latest[key] = decision
        return True

    def __repr__(self) -> str:
        labels = self.labels()
        judged = {pair for grades in labels.values() for pair in grades}
        parts = [f"{len(judged)} pairs judged by {len(labels)} annotator(s)"]
        counted = sum(d.grade is not None for d in self._latest.values())
        if elsewhere := counted - sum(map(len, labels.values())):
            parts.append(f"{elsewhere} label(s) on ids or texts that {self.domain.name!r} lacks")
        if damaged := self.damaged:
            parts.append(f"{len(damaged)} damaged line(s), kept")
        return f"LabelStore({self.path.name!r}: {'; '.join(parts)})"

    def _repr_html_(self) -> str:
        given = {name: list(grade_of.values()) for name, grade_of in self.labels().items()}
        cells = [
            [name, *map(str, (len(grades), *map(grades.count, GRADES)))]
            for name, grades in given.items()
        ]
        return Table(["annotator", "judged", *GRADES.values()], cells, repr(self)).to_html()


def annotator_name(name: str) -> str:
    """A name without spaces around it; fails for an empty or unprintable one, or for a rule's."""
    given = name.strip() if isinstance(name, str) else ""
    if not given or not given.isprintable() or given in RULES:
        expected = f"a name or initials on one line, other than {' and '.join(RULES)}"
        raise EmbkitError(f"annotator={name!r}", expected=expected, hint="annotator='ann'")
    return given


def check_id(kind: str, given: object, known: Mapping[str, str]) -> None:
    """Fails for an id that is none of the domain's, naming the nearest."""
    if not isinstance(given, str) or given not in known:
        raise unknown(f"{kind} id", given, known)


def _check(domain: Domain, query: str, document: str, grade: object) -> None:
    check_id("query", query, domain.queries)
    check_id("document", document, domain.corpus)
    if not _is_grade(grade):
        raise EmbkitError(
            f"grade={grade!r} of query {query!r} and document {document!r}",
            expected="2 (relevant), 1 (partly), 0 (not relevant), or None to take it back",
            hint=f"store.label({query!r}, {document!r}, 2)",
        )


def _is_grade(value: object) -> bool:
    return value is None or (type(value) is int and value in GRADES)  # True == 1, yet no grade


def with_labels(domain: Domain, qrels: Labels, split: str = "train") -> Domain:
    """The domain with people's labels in one of its splits; where both judged, the labels win.

    Relevant becomes grade 2, or 1 in a domain that knows no grade above 1; grade 0 becomes grade
    0 in the qrels and one of the query's ``negatives``; grade 1 leaves a pair as it was. A query
    that is new to the split and has no positive is left out. The domain checks itself as always: a
    query of another split, or a document of a held-out group among the training positives, is a
    leak. Fails for that, an unknown split, id or grade, or a query that loses its last positive.
    """
    for query, judged in qrels.items():
        for document, grade in judged.items():
            _check(domain, query, document, grade)
    known = itertools.chain(*(part.values() for part in domain.qrels.values()))
    graded = any(grade > 1 for judged in known for grade in judged.values())
    grades = {2: 2 if graded else 1, 0: 0}
    merged = {query: dict(judged) for query, judged in domain.split(split).items()}
    negatives, added = dict(domain.negatives), 0
    for query, judged in qrels.items():
        new = {d: grades[grade] for d, grade in judged.items() if grade in grades}
        if query not in merged and not any(new.values()):
            continue
        merged[query] = merged.get(query, {}) | new
        added += len(new)
        wrong = dict.fromkeys([*negatives.get(query, ()), *(d for d, g in new.items() if not g)])
        negatives[query] = tuple(d for d in wrong if not merged[query].get(d))
    return replace(
        domain,
        qrels={**domain.qrels, split: merged},
        negatives={query: wrong for query, wrong in negatives.items() if wrong},
        about={**domain.about, f"labels of {split}": f"{added:,} pairs judged by people"},
    )
