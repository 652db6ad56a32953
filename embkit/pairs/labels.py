"""What people judge: a store that loses nothing; its labels as qrels, pairs and a domain; and how
far annotators agree: Cohen's kappa, and the list of what they judged differently."""

import hashlib
import itertools
import json
import math
import os
import secrets
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from statistics import multimode
from typing import Any

import numpy as np

from ..data import Domain
from ..display import Table, some_of, table
from ..errors import unknown
from ..files import AppendOnlyStore, write_atomic
from ..session import paths
from .rules import refused

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
NOMINAL = 1.0 - np.eye(len(GRADES))  # how far two grades are apart: the same or not
LINEAR = np.abs(np.subtract.outer(range(len(GRADES)), range(len(GRADES)))).astype(float)


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
                raise refused("not judged", name=name, query=query, document=document)
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


def merged(
    domain: Domain, files: Sequence[str | os.PathLike[str]], path: str | os.PathLike[str]
) -> LabelStore:
    """One store, in ``path``, of what several people judged in files of their own.

    A decision that several files hold, copies of one another, counts once. Where one annotator's
    name stands in files that have no decision of that name in common, they are different people:
    each file's name goes behind theirs. A damaged line goes along as it is. Fails for a file that
    is not there, and for a path that is one of the files.
    """
    given = [Path(file).expanduser() for file in files]
    target, stems = Path(path).expanduser(), [file.stem for file in given]
    for file in given:
        if not file.is_file() or file.resolve() == target.resolve():
            raise refused("not merged", file=file)
    people: dict[str, dict[str, set[str]]] = defaultdict(dict)  # name -> file -> its decisions
    found: dict[str, Decision] = {}
    damaged: list[bytes] = []
    for file in given:
        store = LabelStore(domain, file)
        called = file.stem if stems.count(file.stem) == 1 else f"{file.parent.name}/{file.stem}"
        damaged += [text.encode() for _, text in store.damaged]
        found |= {decision.id: decision for decision in store.decisions}
        own: dict[str, set[str]] = defaultdict(set)
        for decision in store.decisions:
            own[decision.annotator].add(decision.id)
        for name, ids in own.items():
            copies = next((first for first, kept in people[name].items() if kept & ids), called)
            people[name].setdefault(copies, set()).update(ids)
    lines = []
    for key, decision in sorted(found.items(), key=lambda item: item[1].time):
        name, files_of = decision.annotator, people[decision.annotator]
        if len(files_of) > 1:
            name += f" ({next(file for file, ids in files_of.items() if key in ids)})"
        lines.append(json.dumps(asdict(decision) | {"annotator": name}).encode())
    write_atomic(target, b"\n".join([*lines, *damaged, b""]))
    return LabelStore(domain, target)


def annotator_name(name: str) -> str:
    """A name without spaces around it; fails for an empty or unprintable one, or for a rule's."""
    given = name.strip() if isinstance(name, str) else ""
    if not given or not given.isprintable() or given in RULES:
        raise refused("annotator", name=name, rules=" and ".join(RULES))
    return given


def check_id(kind: str, given: object, known: Mapping[str, str]) -> None:
    """Fails for an id that is none of the domain's, naming the nearest."""
    if not isinstance(given, str) or given not in known:
        raise unknown(f"{kind} id", given, known)


def _check(domain: Domain, query: str, document: str, grade: object) -> None:
    check_id("query", query, domain.queries)
    check_id("document", document, domain.corpus)
    if not _is_grade(grade):
        raise refused("grade", grade=grade, query=query, document=document)


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


@dataclass(frozen=True)
class PairAgreement:
    """How far two annotators agree on what both have judged.

    Kappa (Cohen, A coefficient of agreement for nominal scales, 1960) is NaN where both gave one
    and the same grade throughout. Linearly weighted, 2 against 0 counts twice as much as 2 against
    1. ``interval`` is the 95% interval of ``kappa`` (queries resampled), NaN below two queries.
    Where all pairs agree, its low end allows for the disagreement that so few would not show.
    """

    first: str
    second: str
    items: int
    queries: int
    raw: float
    kappa: float
    weighted_kappa: float
    interval: tuple[float, float]


@dataclass(frozen=True)
class Disagreement:
    """A pair that got different grades: ``grades`` is annotator -> grade."""

    query: str
    document: str
    query_text: str
    document_text: str
    grades: dict[str, int]


@dataclass(frozen=True, repr=False)
class Agreement:
    """How far the annotators agree, and where they do not, widest apart first."""

    pairs: tuple[PairAgreement, ...]
    disagreements: tuple[Disagreement, ...]

    def table(self) -> Table:
        """The figures of each two annotators; text where one is undefined."""
        return table(
            {
                "annotators": f"{p.first} and {p.second}",
                "pairs": p.items,
                "queries": p.queries,
                "same grade": f"{p.raw:.2f}",
                "kappa": _figure(p.kappa),
                "95%": "–" if math.isnan(p.interval[0]) else "{:.2f} to {:.2f}".format(*p.interval),
                "weighted kappa": _figure(p.weighted_kappa),
            }
            for p in self.pairs
        )

    def _repr_html_(self) -> str:
        cells = [
            [d.query_text, d.document_text, ", ".join(f"{a}: {g}" for a, g in d.grades.items())]
            for d in self.disagreements[:10]
        ]
        widest = some_of(len(self.disagreements), "disagreement", "disagreements; the widest first")
        apart = Table(["query", "document", "grades"], cells, widest)
        return self.table().to_html() + (apart.to_html() if cells else "")

    def __repr__(self) -> str:
        rows = self.table().cells
        pairs = "; ".join(f"{row[0]}: {row[1]} pairs, kappa {row[4]}" for row in rows)
        return f"Agreement({pairs}; disagreements: {len(self.disagreements)})"


def annotator_agreement(store: LabelStore) -> Agreement:
    """How far each two annotators agree on the pairs that both have judged; fails for no such."""
    labels, domain = store.labels(), store.domain
    found = [
        _pair_agreement(first, second, {p: (labels[first][p], labels[second][p]) for p in both})
        for first, second in itertools.combinations(sorted(labels), 2)
        if (both := sorted(labels[first].keys() & labels[second].keys()))
    ]
    if not found:
        raise refused("one annotator", n=len(labels))
    given: dict[Pair, dict[str, int]] = defaultdict(dict)
    for name in sorted(labels):
        for pair, grade in labels[name].items():
            given[pair][name] = grade
    apart = sorted((min(by.values()) - max(by.values()), pair) for pair, by in given.items())
    disagreements = (
        Disagreement(q, d, domain.queries[q], domain.corpus[d], given[q, d])
        for distance, (q, d) in apart
        if distance
    )
    return Agreement(tuple(found), tuple(disagreements))


def _pair_agreement(first: str, second: str, both: dict[Pair, tuple[int, int]]) -> PairAgreement:
    rows = {query: row for row, query in enumerate(dict.fromkeys(q for q, _ in both))}
    counts = np.zeros((len(rows), 3, 3))  # one table a query: its pairs are not independent
    for (query, _), (a, b) in both.items():
        counts[rows[query], a, b] += 1
    rng, whole = np.random.default_rng(0), counts.sum(0)
    drawn = rng.multinomial(len(rows), np.full(len(rows), 1 / len(rows)), size=2000)
    resampled = kappas(np.tensordot(drawn, counts, 1))
    low, high = math.nan, math.nan
    if len(rows) > 1 and not np.isnan(resampled).all():
        low, high = np.nanpercentile(resampled, [2.5, 97.5]).tolist()
    same = float(np.trace(whole) / len(both))
    kappa, weighted = float(kappas(whole)), float(kappas(whole, LINEAR))
    if same == 1 and low == high:  # no disagreement was drawn: the rule of three
        chance = float((whole.sum(0) / len(both)) @ (whole.sum(1) / len(both)))
        low = (0.05 ** (1 / len(rows)) - chance) / (1 - chance)
    return PairAgreement(first, second, len(both), len(rows), same, kappa, weighted, (low, high))


def kappas(counts: np.ndarray, distance: np.ndarray = NOMINAL) -> np.ndarray:
    """Kappa of each table of counts (..., 3, 3), NaN where it is undefined."""
    by_chance = counts.sum(-1)[..., :, None] * counts.sum(-2)[..., None, :]
    by_chance = by_chance / np.maximum(counts.sum((-1, -2), keepdims=True), 1)
    apart, expected = ((distance * table).sum((-1, -2)) for table in (counts, by_chance))
    undefined = np.full_like(expected, np.nan)
    return 1 - np.divide(apart, expected, out=undefined, where=expected > 0)


def _figure(value: float) -> str:
    return "undefined (one grade only)" if math.isnan(value) else f"{value:.2f}"
