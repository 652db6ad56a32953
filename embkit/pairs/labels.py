"""What people judge: a store that loses nothing, what to judge next, and labels out.

One decision is one line of a JSONL file that only ever grows. Labels become qrels, training pairs
and hard negatives. ``embkit.widgets.Annotator`` is a panel over the same functions;
``embkit.pairs.agreement`` says how far several annotators agree.
"""

from __future__ import annotations

import contextlib
import difflib
import hashlib
import html
import json
import os
import random
import secrets
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from filelock import FileLock, Timeout

from ..data import Domain
from ..errors import EmbkitError, unknown
from ..session import paths

if TYPE_CHECKING:
    from datasets import Dataset

GRADES = {2: "relevant", 1: "partly", 0: "not relevant"}
MEANINGS = {
    2: "it answers the query",
    1: "it is about the same thing, but too wide, too narrow or beside the point",
    0: "it does not answer the query, however alike the words are",
}
RULES = ("majority", "strictest")
Pair = tuple[str, str]  # query id, document id
Labels = dict[str, dict[str, int]]  # query id -> document id -> grade 0, 1 or 2
LOCK_SECONDS = 20


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


class LabelStore:
    """People's grades of (query, document) pairs, one line a decision, never overwritten.

    Whatever ``label`` returned for is on the disk: written, flushed and synced under a lock, so
    several people and processes may write to one file, and a kernel may die at any time. A line
    that was cut off is no decision: it stays in the file and is listed in ``damaged``.

    Args:
        domain: whose queries and documents are judged.
        path: the file; default: ``labels/<domain's name>.jsonl`` in the runs' folder.

    Example:
        >>> store = LabelStore(domain)  # doctest: +SKIP
        >>> store.label("q1", "D50", 2, annotator="ann").grade  # doctest: +SKIP
        2
    """

    def __init__(self, domain: Domain, path: str | os.PathLike[str] | None = None) -> None:
        self.domain = domain
        self.path = Path(path or paths().runs / "labels" / f"{domain.name}.jsonl").expanduser()
        self._forget()

    def label(
        self, query: str, document: str, grade: int | None, annotator: str = "me"
    ) -> Decision:
        """Keeps a decision; returns once it is safe on the disk.

        The latest decision of an annotator on a pair counts. The same one again (a key pressed
        twice) is no new decision: the first is returned and nothing is written.

        Args:
            query: a query's id.
            document: a document's id.
            grade: 2 relevant, 1 partly, 0 not relevant; None takes the grade back.
            annotator: whose decision.

        Raises:
            EmbkitError: another grade, an unknown id (it names the nearest), no name, nothing to
                take back, or a file that cannot be written to.
        """
        name = annotator_name(annotator)
        _check_id("query", query, self.domain.queries)
        _check_id("document", document, self.domain.corpus)
        if not _is_grade(grade):
            raise EmbkitError(
                f"grade={grade!r}",
                expected="2 (relevant), 1 (partly), 0 (not relevant), or None to take it back",
                hint=f"store.label({query!r}, {document!r}, 2, annotator={name!r})",
            )
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(f"{self.path}.lock", timeout=LOCK_SECONDS, poll_interval=0.01):
                self._read()
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
                _append(self.path, json.dumps(asdict(decision)).encode())
                self._read()
        except (OSError, Timeout) as error:
            raise EmbkitError(
                f"the decision was not kept: {self.path.name} cannot be written to ({error})",
                expected="a file that may be written to, on a disk with room",
                hint="free some space, or LabelStore(domain, path='another/labels.jsonl')",
            ) from error
        return decision

    @property
    def decisions(self) -> tuple[Decision, ...]:
        """Every decision in the order it was made, those taken back or changed later included."""
        self._read()
        return tuple(self._decisions)

    @property
    def damaged(self) -> tuple[tuple[int, str], ...]:
        """(line number, text) of the lines that are no whole decision; they stay in the file."""
        self._read()
        tail = [(self._lines + 1, _text(self._tail))] if self._tail else []
        return (*self._damaged, *tail)

    def labels(self) -> dict[str, dict[Pair, int]]:
        """Annotator -> (query, document) -> grade: the decisions that count, oldest first.

        Decisions on ids that this domain does not have, or under which it has other texts than
        those that were judged, stay in the file and are left out here.
        """
        self._read()
        found: dict[str, dict[Pair, int]] = {}
        for (name, query, document), decision in self._latest.items():
            if decision.grade is not None and self._still(decision):
                found.setdefault(name, {})[query, document] = decision.grade
        return found

    def _texts(self, query: str, document: str) -> str:
        texts = json.dumps([self.domain.queries[query], self.domain.corpus[document]])
        return hashlib.sha256(texts.encode()).hexdigest()[:16]

    def _still(self, decision: Decision) -> bool:
        """Whether the domain has both ids, and under them the texts that were judged."""
        query, document = decision.query, decision.document
        known = query in self.domain.queries and document in self.domain.corpus
        return known and decision.texts in ("", self._texts(query, document))

    def qrels(self, resolve: str = "majority") -> Labels:
        """The labels as qrels, one grade a pair.

        Args:
            resolve: ``majority`` (the grade that most gave; of equally many, the lower),
                ``strictest`` (the lowest that anyone gave), or an annotator's name.

        Raises:
            EmbkitError: nobody of that name has judged anything.
        """
        labels = self.labels()
        if resolve not in RULES:
            if resolve not in labels:
                raise unknown("annotator or rule", resolve, [*labels, *RULES])
            labels = {resolve: labels[resolve]}
        votes: dict[Pair, Counter[int]] = defaultdict(Counter)
        for grade_of in labels.values():
            for pair, grade in grade_of.items():
                votes[pair][grade] += 1
        found: Labels = {}
        for query, document in sorted(votes):
            given = votes[query, document]
            first = (
                min(given) if resolve == "strictest" else max(given, key=lambda g: (given[g], -g))
            )
            found.setdefault(query, {})[document] = first
        return found

    def _forget(self) -> None:
        self._offset = self._lines = 0  # bytes and lines that have been taken in
        self._tail = b""  # what follows the last line's end
        self._decisions: list[Decision] = []
        self._latest: dict[tuple[str, str, str], Decision] = {}
        self._ids: set[str] = set()
        self._damaged: list[tuple[int, str]] = []

    def _read(self) -> None:
        """Takes in what was written since, here or in another process."""
        try:
            with self.path.open("rb") as file:
                if os.fstat(file.fileno()).st_size < self._offset:  # another file lies here now
                    self._forget()
                file.seek(self._offset)
                *lines, tail = file.read().split(b"\n")
        except FileNotFoundError:
            self._forget()
            return
        except OSError as error:
            raise EmbkitError(
                f"the labels in {self.path} cannot be read: {error.strerror or error}",
                expected="a file of labels, or a path where one can be made",
                hint="LabelStore(domain, path='labels.jsonl')",
            ) from error
        for line in lines:
            self._offset += len(line) + 1
            self._lines += 1
            if line.strip() and not self._take(line):
                self._damaged.append((self._lines, _text(line)))
        # No part of a JSON object is one: a last line that parses is whole, newline or not.
        self._tail = b"" if self._take(tail) else tail
        self._offset += len(tail) - len(self._tail)

    def _take(self, line: bytes) -> bool:
        """Counts a line if it is a whole decision."""
        try:
            decision = Decision(**json.loads(line))
            texts = (decision.query, decision.document, decision.annotator, decision.id)
            whole = all(isinstance(text, str) and text for text in texts)
            whole = whole and isinstance(decision.texts, str)
            if not whole or not _is_grade(decision.grade):
                return False
        except (ValueError, TypeError, RecursionError):
            return False
        if decision.id not in self._ids:  # the same line twice: files that were joined
            self._ids.add(decision.id)
            self._decisions.append(decision)
            key = (decision.annotator, decision.query, decision.document)
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
        rows = []
        for name, grade_of in self.labels().items():
            counts = Counter(grade_of.values())
            rows.append((name, len(grade_of), *(counts[grade] for grade in GRADES)))
        return f"<p>{html.escape(repr(self))}</p>" + table(
            ("annotator", "judged", *GRADES.values()), rows
        )


def annotator_name(name: str) -> str:
    """A name that can stand for an annotator, without spaces around it.

    Raises:
        EmbkitError: an empty or unprintable name, or one that names a rule of ``qrels``.
    """
    given = name.strip() if isinstance(name, str) else ""
    if not given or not given.isprintable() or given in RULES:
        raise EmbkitError(
            f"annotator={name!r}",
            expected=f"a name or initials on one line, other than {' and '.join(RULES)}",
            hint="annotator='ann'",
        )
    return given


def _append(path: Path, line: bytes) -> None:
    """One write at the end of the file, synced; after a cut-off line it starts a fresh one."""
    with path.open("ab+", buffering=0) as file:
        end, torn = file.seek(0, os.SEEK_END), False
        if end:
            file.seek(-1, os.SEEK_END)
            torn = file.read(1) != b"\n"
        whole = b"\n" * torn + line + b"\n"
        try:
            if file.write(whole) != len(whole):
                raise OSError("the disk took only a part of the line")
            os.fsync(file.fileno())
        except OSError:  # the caller is told that it was not kept: then nothing of it stays
            with contextlib.suppress(OSError):
                file.truncate(end)
            raise


def _check_id(kind: str, given: object, known: Mapping[str, str]) -> None:
    if isinstance(given, str) and given in known:
        return
    near = difflib.get_close_matches(str(given), list(known), n=3, cutoff=0.3)
    raise EmbkitError(
        f"unknown {kind} id {given!r}",
        expected=f"the id of one of the domain's {len(known):,} {kind} texts",
        hint=f"did you mean {' or '.join(map(repr, near))}?"
        if near
        else f"for instance {next(iter(known))!r}",
    )


def _is_grade(value: object) -> bool:
    return value is None or (type(value) is int and value in GRADES)  # True == 1, yet no grade


def _text(line: bytes) -> str:
    return line.decode(errors="replace")


# -- what to judge --


@dataclass(frozen=True)
class Task:
    """One document to be judged for one query; ``found_by`` is not shown while judging."""

    query: str
    document: str
    query_text: str
    document_text: str
    found_by: tuple[str, ...] = field(default=(), repr=False)

    @property
    def pair(self) -> Pair:
        """(query id, document id)."""
        return self.query, self.document


def candidates(
    domain: Domain,
    queries: str | Sequence[str],
    models: Mapping[str, Any],
    k: int = 5,
    *,
    n: int | None = None,
    seed: int = 0,
) -> list[Task]:
    """What is worth judging: for each query what any of the systems found, and what is known.

    The documents of a query come in an order that depends on the seed and their ids alone, so
    that nobody can see which system found what.

    Args:
        domain: what is searched.
        queries: a split's name, or ids of queries (a query may be in no split yet).
        models: name -> ``"bm25"``, a model or its name, or a function ``list[str] -> array``.
        k: documents of each system.
        n: queries to draw, at random; default: all, in their order.
        seed: of the order and the draw.

    Returns:
        Tasks, query by query.

    Raises:
        EmbkitError: an unknown split or id, or no system.

    Example:
        >>> tasks = candidates(domain, "train", {"bm25": "bm25"}, n=20)  # doctest: +SKIP

    Pooling: Spärck Jones and van Rijsbergen, Report on the need for and provision of an "ideal"
    information retrieval test collection, 1975.
    """
    from ..evaluation.ranking import indexed
    from ..models.loading import load_model
    from ..search.index import BM25

    ids = list(domain.split(queries)) if isinstance(queries, str) else list(dict.fromkeys(queries))
    for query in ids:
        _check_id("query", query, domain.queries)
    if not isinstance(models, Mapping) or not models or not ids or k < 1 or n is not None and n < 1:
        raise EmbkitError(
            f"candidates of {len(ids)} queries, models={models!r}, k={k}, n={n}",
            expected="1 or more queries, systems by name, k and n of 1 or more",
            hint='candidates(domain, "train", {"bm25": "bm25", "base": "minilm"}, k=5)',
        )
    if n is not None and n < len(ids):
        ids = random.Random(seed).sample(ids, n)
    names, texts = list(domain.corpus), list(domain.corpus.values())
    found: dict[Pair, list[str]] = defaultdict(list)
    for name, model in models.items():
        if isinstance(model, str) and model != "bm25":
            model = load_model(model)
        system = indexed(model, texts)
        rows, scores = system.search([domain.queries[q] for q in ids], k)
        for query, row, points in zip(ids, rows, scores, strict=True):
            for index in row[points > 0] if isinstance(system, BM25) else row:  # 0: no word shared
                found[query, names[index]].append(name)
    for qrels in domain.qrels.values():
        for query in qrels.keys() & set(ids):
            for document, grade in qrels[query].items():
                if grade > 0:
                    found[query, document].append("known")
    of: dict[str, list[str]] = defaultdict(list)
    for query, document in sorted(found):
        of[query].append(document)
    tasks = []
    for query in ids:
        random.Random(f"{seed} {query}").shuffle(of[query])
        for document in of[query]:
            text = (domain.queries[query], domain.corpus[document])
            tasks.append(Task(query, document, *text, tuple(found[query, document])))
    return tasks


def queue(tasks: Iterable[Task], store: LabelStore, annotator: str = "me") -> list[Task]:
    """The tasks that this annotator has not judged yet, in their order."""
    done = store.labels().get(annotator_name(annotator), {})
    return [task for task in tasks if task.pair not in done]


# -- labels out --


@dataclass(frozen=True, repr=False)
class LabelledPairs:
    """Training pairs and hard negatives that people marked, as (query id, document id)."""

    domain: Domain
    positives: tuple[Pair, ...]
    negatives: tuple[Pair, ...]

    def to_dataset(self, negatives: int = 0) -> Dataset:
        """A ``datasets.Dataset`` with columns ``anchor``, ``positive``, ``negative_1``, …

        Args:
            negatives: hard negatives a row. Every row must have as many, so pairs of a query
                with fewer are left out.

        Raises:
            EmbkitError: no pair is left.
        """
        from datasets import Dataset

        wrong: dict[str, list[str]] = defaultdict(list)
        for query, document in self.negatives:
            wrong[query].append(document)
        rows = [(q, d, *wrong[q][:negatives]) for q, d in self.positives]
        rows = [row for row in rows if len(row) == 2 + negatives]
        if negatives < 0 or not rows:
            most = max((len(wrong[q]) for q, _ in self.positives), default=0)
            raise EmbkitError(
                f"no labelled pair with negatives={negatives}",
                expected=f"from 0 to {most} negatives a pair" if self.positives else "some pairs",
                hint="judge more of the candidates, or ask for fewer negatives",
            )
        names = ["anchor", "positive", *(f"negative_{i + 1}" for i in range(negatives))]
        texts = [
            [self.domain.queries[row[0]], *(self.domain.corpus[d] for d in row[1:])] for row in rows
        ]
        return Dataset.from_dict(dict(zip(names, map(list, zip(*texts, strict=True)), strict=True)))

    def __repr__(self) -> str:
        queries = len({query for query, _ in self.positives})
        return (
            f"LabelledPairs({len(self.positives)} positives and {len(self.negatives)} hard "
            f"negatives of {queries} queries)"
        )

    def _repr_html_(self) -> str:
        shown = [
            (kind, self.domain.queries[query], self.domain.corpus[document])
            for kind, pairs in (("positive", self.positives), ("negative", self.negatives))
            for query, document in pairs[:5]
        ]
        return f"<p>{html.escape(repr(self))}</p>" + table(("", "query", "document"), shown)


def labels_to_pairs(domain: Domain, qrels: Labels, *, partly: bool = False) -> LabelledPairs:
    """Labels as training pairs: grade 2 is a positive, grade 0 a hard negative.

    Args:
        domain: whose texts.
        qrels: what ``LabelStore.qrels`` gives.
        partly: whether grade 1 is a positive too; else it is neither.

    Returns:
        Hard negatives are those of queries that have a positive.

    Raises:
        EmbkitError: an unknown id or grade.

    Example:
        >>> pairs = labels_to_pairs(domain, store.qrels())  # doctest: +SKIP
        >>> pairs.to_dataset(negatives=1).column_names  # doctest: +SKIP
        ['anchor', 'positive', 'negative_1']
    """
    _check_labels(domain, qrels)
    least = 1 if partly else 2
    positives = [(q, d) for q, judged in qrels.items() for d, g in judged.items() if g >= least]
    asked = {query for query, _ in positives}
    negatives = [(q, d) for q in qrels if q in asked for d, g in qrels[q].items() if g == 0]
    return LabelledPairs(domain, tuple(positives), tuple(negatives))


def with_labels(
    domain: Domain, qrels: Labels, split: str = "train", *, partly: bool = False
) -> Domain:
    """The domain with people's labels in one of its splits; where both judged, the labels win.

    Relevant becomes grade 2, or 1 in a domain that knows no grade above 1; grade 0 becomes grade
    0 in the qrels and one of the query's ``negatives``. A query that is new to the split and has
    no positive is left out. The domain checks itself as always: a query of another split, or a
    document of a held-out group among the training positives, is a leak and raises.

    Args:
        domain: what is added to.
        qrels: what ``LabelStore.qrels`` gives.
        split: where the labelled queries belong.
        partly: whether grade 1 is taken over, as grade 1; else the pair is left as it was.

    Raises:
        EmbkitError: an unknown split, id or grade; a leak; a query that loses its last positive.
    """
    _check_labels(domain, qrels)
    graded = any(
        grade > 1 for part in domain.qrels.values() for j in part.values() for grade in j.values()
    )
    grades = {2: 2 if graded else 1, 0: 0} | ({1: 1} if partly else {})
    merged = {query: dict(judged) for query, judged in domain.split(split).items()}
    negatives = dict(domain.negatives)
    added = 0
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


def _check_labels(domain: Domain, qrels: Labels) -> None:
    for query, judged in qrels.items():
        _check_id("query", query, domain.queries)
        for document, grade in judged.items():
            _check_id("document", document, domain.corpus)
            if grade not in GRADES:
                raise EmbkitError(
                    f"grade {grade!r} of query {query!r} and document {document!r}",
                    expected="2 (relevant), 1 (partly) or 0 (not relevant)",
                    hint="with_labels(domain, store.qrels())",
                )


def table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    def line(cells: Sequence[Any], tag: str) -> str:
        left = "style='text-align:left'"
        return "".join(f"<{tag} {left}>{html.escape(str(cell))}</{tag}>" for cell in cells)

    body = "".join(f"<tr>{line(row, 'td')}</tr>" for row in rows)
    return f"<table><tr>{line(head, 'th')}</tr>{body}</table>"
