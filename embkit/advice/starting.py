"""From a folder of documents without a label to a domain: read, cut, asked about, confirmed."""

from __future__ import annotations

import hashlib
import itertools
import os
import re
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from ..assets import catalogue
from ..data import Domain, load_domain, passages
from ..data.domain import normalise, shuffled
from ..data.readers.documents import Document, files_of, read_documents
from ..data.readers.folder import local
from ..data.splits import connected, deal, in_order, query_id
from ..data.text_checks import near_pairs, words
from ..errors import EmbkitError
from ..export.export import to_beir
from ..models.loading import as_model
from ..models.window import offsets_of
from ..pairs.labels import LabelStore
from ..pairs.pooling import Task
from ..search.passages import Passages
from ..session import paths, profile, shown
from ..synthetic.filters import filter_generated
from ..synthetic.generation import Generated, Row, generate
from ..synthetic.local import TransformersBackend
from ..synthetic.prompts import PROMPTS
from .steps import Asked, Steps, digest, read_asked, read_lines, write_asked, write_lines

AIM = 400  # seconds that a model here may write for, by default
MOST, LEAST = 3_000, 150  # queries to write, by default
OF_ENDPOINT = 1_200  # the same where an endpoint writes
TIMED = 12  # prompts of each kind whose answers are timed
SHORT = 8  # words of a passage that is asked about
FEW, NEEDED = 8, 40  # documents, and queries that are kept, at least
CONFIRM, ENOUGH = 100, 30  # queries that a person is asked to confirm; judged ones that will do
TEST, DEV = (0.35, 300), (0.15, 200)  # shares of the queries, and how many at most
DRAWN = 0.6  # of the test's queries, at most, go to a person
SIZE = 128  # word pieces of a passage
Texts = Mapping[str, str]
Rows = list[dict[str, Any]]


@dataclass(frozen=True, repr=False)
class Start:
    """A folder of documents on its way to a domain."""

    folder: Path  # with the file of every step
    domain: Domain  # searched: all documents; asked: what was written, in splits by document
    asked: tuple[Asked, ...]  # what a person is to confirm, and what is judged already
    tasks: tuple[Task, ...]  # the same for ``ek.widgets.Annotator(start.tasks, start.labels)``
    labels: LabelStore
    ready: bool  # enough is judged, or nobody was to be asked

    @property
    def judged(self) -> int:
        """How many queries people have judged."""
        return sum(row.right is not None for row in self.asked)

    @property
    def confirmed(self) -> int:
        """How many queries people found right."""
        return sum(row.right is True for row in self.asked)

    def __repr__(self) -> str:
        file = shown(self.folder / "to_confirm.csv")
        if not self.ready:
            enough = min(ENOUGH, len(self.asked))
            return (
                f"{self.judged} of {len(self.asked)} queries are judged in {file}. A test that no "
                "model wrote needs a person: read each query and its passage, write y into the "
                "column `right` where the document answers the query, n where it does not "
                f"({enough} at least), and run the same command again: it goes on from here. With "
                "--yes it goes on without a person, and nothing is then proven by people."
            )
        told = f"{self.confirmed} of {self.judged} judged queries were confirmed by people ({file})"
        if not self.confirmed:
            told = "nothing is proven by people: no person has confirmed a query. The test "
            told += "`written` was written by the model that also wrote what is trained on"
        return f"{told}. {self.domain!r}"


def start(
    source: str | os.PathLike[str],
    *,
    model: str = "minilm",
    writer: Any = None,
    queries: int | None = None,
    size: int = SIZE,
    alone: bool = False,
    seed: int = 42,
    told: Callable[[str], object] = lambda text: None,
) -> Start:
    """Makes a domain of documents alone: reads and cuts them, lets a language model write queries,
    filters these, and asks a person to confirm about a hundred of them.

    Each step leaves a file in ``runs/start/NAME-HASH/``. The same call goes on after a stop; a file
    that was mended there is used as it is. No document of a test is trained on.

    Args:
        source: a folder, an archive or a file.
        model: whose word pieces are counted, and which must find a query's own document.
        writer: a backend of ``ek.synthetic``; default: the packaged model.
        queries: to ask for, at most; default: what the packaged model writes in about 7 minutes.
        size: word pieces of a passage that is asked about.
        alone: go on without a person.

    Raises:
        EmbkitError: nothing to read, too few documents or queries, an endpoint that stopped.

    Example:
        >>> made = start("my_folder")  # doctest: +SKIP
        >>> ek.widgets.Annotator(made.tasks, made.labels)  # doctest: +SKIP
        >>> made = start("my_folder")  # once it is judged  # doctest: +SKIP
    """
    listed = files_of(source)
    path = local(source)
    assert path is not None
    name = re.sub(r"[^\w.-]+", "-", path.name.split(".")[0] or path.name).strip("-.") or "folder"
    key = hashlib.sha256(str(path).encode()).hexdigest()[:8]
    steps = Steps(paths().runs / "start" / f"{name[:60]}-{key}", told)
    told(f"every step leaves its file in {shown(steps.folder)}")
    # read
    stats = [(name, file.stat()) for name, file in listed if file.exists()]
    seen = [(name, stat.st_size, stat.st_mtime_ns) for name, stat in stats]
    texts_in = steps.file("documents.jsonl", seen, partial(_read, source, told))
    found = [
        Document(r["id"], r["title"], r["text"]) for r in read_lines(texts_in, *Document._fields)
    ]
    bodies = {document.id: document.body for document in found}
    if len(bodies) < FEW:
        raise EmbkitError(
            f"{len(bodies)} different documents in {path.name!r}",
            expected=f"{FEW} at least, better hundreds: of so few each can be read",
            hint="one file a chapter or section, or a folder with more of them",
        )
    # cut
    made_from = [digest(texts_in), catalogue.folder_fingerprint(catalogue.resolve(model)), size]
    cut_in = steps.file("passages.jsonl", made_from, partial(_cut, bodies, model, size, told))
    cut = read_lines(cut_in, "document", "heading", "text")
    # let a model write
    writer = writer or TransformersBackend()
    order = _order(cut, seed)
    if queries is None:
        noted = steps.kept.get("queries", {})
        queries = noted.get("number") if noted.get("writer") == writer.name else None
        queries = queries or _affordable(writer, order)
        steps.note("queries", {"writer": writer.name, "number": queries})
    made_from = [digest(cut_in), writer.name, getattr(writer, "settings", {}), queries, seed]
    order = order[: max(1, queries // len(PROMPTS["general"].kinds))]
    titles = {document.id: document.title for document in found}
    write = partial(_write, bodies, titles, order, writer, Passages(model, size), seed, told)
    queries_in = steps.file("queries.jsonl", made_from, write)
    rows = read_lines(queries_in, "query", "document")
    kept = _usable(rows, bodies, queries_in)
    # ask a person
    groups = _groups(kept, bodies)
    text_of = {(row["document"], row["passage"]): _with_heading(row) for row in cut}
    draw = partial(_draw, kept, groups, text_of)
    asked = read_asked(steps.file("to_confirm.csv", [digest(queries_in), seed], draw))
    asked = [row for row in asked if row.document in bodies]
    facts = _facts(path.name, writer.name, model)
    unjudged = [row._replace(right=None) for row in asked]
    whole = _domain(name, bodies, kept, unjudged, groups, facts)
    store = LabelStore(whole, steps.folder / "labels.jsonl")
    asked = _merged(asked, store)
    judged = sum(row.right is not None for row in asked)
    ready = alone or bool(asked) and judged >= min(ENOUGH, len(asked))
    domain = _domain(name, bodies, kept, asked, groups, facts)
    tasks = [Task(query_id(normalise(r.query)), r.document, r.query, r.passage) for r in asked]
    if ready:  # the domain, as a folder
        made_from = [domain.hash, dict(domain.about)]
        beir = steps.file(name, made_from, lambda to: to_beir(domain, to, replace=True))
        domain = load_domain(beir)
    return Start(steps.folder, domain, tuple(asked), tuple(tasks), store, ready)


def _read(source: Any, told: Callable[[str], object], path: Path) -> None:
    found = read_documents(source)
    left = [{"file": file, "reason": why} for file, why in found.skipped]
    write_lines(path.with_name("skipped.jsonl"), left)
    told(f"read: {found!r}" + (f" (listed in {path.with_name('skipped.jsonl').name})" * bool(left)))
    write_lines(path, (document._asdict() for document in found.documents))


def _cut(bodies: Texts, model: str, size: int, told: Callable[[str], object], path: Path) -> None:
    loaded = as_model(model)
    offsets, added = offsets_of(loaded)
    room = min(size, getattr(loaded, "max_seq_length", None) or size) - added
    found = passages.cut(
        [*bodies.values()], max(room, passages.LEAST), headings=True, offsets=offsets
    )
    rows = [
        {"document": document, "passage": n, "heading": part.heading, "text": part.of(text)}
        for (document, text), own in zip(bodies.items(), found, strict=True)
        for n, part in enumerate(own)
    ]
    told(f"cut: {len(rows):,} passages of {size} word pieces at most")
    write_lines(path, rows)


def _with_heading(row: Mapping[str, Any]) -> str:
    """A passage below its headings."""
    heading, text = row["heading"], row["text"]
    there = not heading or heading.rsplit(" > ")[-1] in text[:300]
    return text if there else f"{heading}\n{text}"


def _order(cut: Rows, seed: int) -> Rows:
    """Passages in the order in which they are asked about: one of each document, then a second one
    of each that has it, and so on; those of a few words are left out."""
    long = {i: len(words(row["text"])) for i, row in enumerate(cut)}
    least = min(SHORT, median(long.values()))
    of: dict[str, list[int]] = defaultdict(list)
    for i, row in enumerate(cut):
        if long[i] >= least:
            of[row["document"]].append(i)
    ranked = []
    for document, own in of.items():
        own.sort(key=lambda i: in_order(f"{document} {i}", seed))
        ranked += [(n, in_order(document, seed), i) for n, i in enumerate(own)]
    return [cut[i] for _, _, i in sorted(ranked)]


def _affordable(writer: Any, order: Rows) -> int:
    """Queries that a model here writes in the time there is; of an endpoint, a fixed number."""
    if not isinstance(writer, TransformersBackend):
        return OF_ENDPOINT
    prompt, some = PROMPTS["general"], [_with_heading(row) for row in order[:TIMED]]
    ask = partial(writer.generate, max_tokens=32, temperature=0.0, seed=0)
    ask([prompt.render(some[0], next(iter(prompt.kinds)))])  # loads it
    started = time.perf_counter()
    for kind in prompt.kinds:
        ask([prompt.render(text, kind) for text in some])
    each = (time.perf_counter() - started) / (len(some) * len(prompt.kinds))
    return int(min(MOST, max(LEAST, AIM / each // 30 * 30)))


def _write(
    bodies: Texts,
    titles: Texts,
    order: Rows,
    writer: Any,
    retriever: Passages,
    seed: int,
    told: Callable[[str], object],
    path: Path,
) -> None:
    """Queries about passages, and the filter that removed each, if one did."""
    place = {f"{row['document']}#{row['passage']}": row for row in order}
    told(f"writing: {writer.name} is asked about {len(place):,} passages")
    found: Generated = generate({k: _with_heading(r) for k, r in place.items()}, writer, seed=seed)
    if left := found.counts["left"]:
        raise EmbkitError(
            f"{found.stopped}: {len(found.rows):,} queries done and kept, {left:,} left",
            expected="an answer or a reason for every one",
            hint="the same command goes on from here",
        )
    of = {key: (row["document"], row["passage"]) for key, row in place.items()}
    heading = {
        of[key]: f"{titles.get(r['document'], '')} {r['heading']}" for key, r in place.items()
    }
    moved = [Row(of[r.document][0], r.query, r.kind, of[r.document][1]) for r in found.rows]
    told("filtering: each query must find its document, and say more than the heading")
    filtered = filter_generated(
        replace(found, rows=tuple(moved), texts=bodies),
        bodies,
        retriever=retriever,
        headings=lambda row: heading[row.document, row.n].strip(),
    )
    by = {row: rule for rule, removed in filtered.removed.items() for row, _ in removed}
    told(repr(filtered))
    write_lines(
        path,
        (
            {"query": r.query, "document": r.document, "passage": r.n, "kind": r.kind}
            | {"kept": r not in by, "removed_by": by.get(r)}
            for r in moved
        ),
    )


def _usable(rows: Rows, bodies: Texts, path: Path) -> Rows:
    """The queries that are kept, one of each text; fails for too few."""
    first: dict[str, dict[str, Any]] = {}
    for row in rows:
        if row.get("kept", True) and row["document"] in bodies and normalise(row["query"]):
            first.setdefault(normalise(row["query"]), row)
    if len(first) < NEEDED or len({row["document"] for row in first.values()}) < FEW:
        why = Counter(row["removed_by"] for row in rows if row.get("removed_by"))
        told = "; ".join(f"the filter {rule!r} removed {n:,}" for rule, n in why.most_common())
        documents = len({row["document"] for row in first.values()})
        raise EmbkitError(
            f"{len(first):,} of {len(rows):,} written queries are of use, about {documents:,} "
            f"documents ({told or 'none was removed'}); all are kept in {shown(path)}",
            expected=f"{NEEDED} queries or more, about {FEW} documents or more",
            hint="more queries (--queries), another writer (--endpoint URL --writer NAME), or mend "
            "the file: add rows, or set kept to true",
        )
    return [*first.values()]


def _groups(rows: Rows, bodies: Texts) -> dict[str, str]:
    """Document -> the first of those that are nearly the same, of all that are asked about."""
    ids = sorted({row["document"] for row in rows})
    texts = [bodies[document] for document in ids]
    keys: dict[str, set[int]] = {document: {i} for i, document in enumerate(ids)}
    for i, j, _ in near_pairs(texts, texts):
        keys[ids[j]].add(i)
    found = {document: min(part) for part in connected(keys.items()) for document in part}
    asked = Counter(found[row["document"]] for row in rows)
    if max(asked.values()) > len(rows) / 3:  # alike by what stands on every page
        return {document: document for document in ids}
    return found


def _divided(rows: Rows, groups: Texts, tested: Sequence[str] = ()) -> dict[str, Rows]:
    """Rows as ``test``, ``dev`` and ``train``, by groups; those of ``tested`` go to the test."""
    own: dict[str, Rows] = defaultdict(list)
    held = {groups.get(document, document) for document in tested}
    for row in rows:
        own[groups[row["document"]]].append(row)
    test = [row for group in held & own.keys() for row in own[group]]
    goals = {name: min(most, round(part * len(rows))) for name, (part, most) in
             {"test": TEST, "dev": DEV}.items()}  # fmt: skip
    goals["test"] = max(0, goals["test"] - len(test))
    rest = {in_order(group, 0): part for group, part in own.items() if group not in held}
    goals["train"] = max(1, sum(map(len, rest.values())) - sum(goals.values()))
    dealt = {name: [*itertools.chain(*found)] for name, found in deal(rest, goals).items()}
    dealt["test"] += test
    if empty := [name for name, found in dealt.items() if not found]:
        raise EmbkitError(
            f"{len(rows):,} queries about {len(own):,} documents leave nothing for {empty[0]}",
            expected="queries about so many documents that train, dev and test have their own",
            hint="more queries (--queries), or more documents",
        )
    return dealt


def _draw(kept: Rows, groups: Texts, text_of: Mapping[tuple[str, int], str], path: Path) -> None:
    """Draws what a person is to confirm: queries of the test, spread over its documents."""
    test = _divided(kept, groups)["test"]
    turn: Counter[str] = Counter()
    order = {query: n for n, query in enumerate(shuffled(row["query"] for row in test))}
    ranked = []
    for row in sorted(test, key=lambda row: order[row["query"]]):
        turn[row["document"]] += 1
        ranked.append((turn[row["document"]], order[row["query"]], row))
    drawn = [row for *_, row in sorted(ranked, key=lambda each: each[:2])]
    drawn = drawn[: max(1, min(CONFIRM, round(DRAWN * len(test))))]
    passage = (text_of.get((row["document"], row.get("passage", 0)), "") for row in drawn)
    found = [Asked(r["query"], r["document"], p) for r, p in zip(drawn, passage, strict=True)]
    write_asked(path, found)


def _merged(asked: Sequence[Asked], store: LabelStore) -> list[Asked]:
    """What the file says and what the annotator kept; where they differ, a no counts."""
    said = store.qrels("strictest")
    found = []
    for row in asked:
        grade = said.get(query_id(normalise(row.query)), {}).get(row.document)
        answers = [row.right, None if grade is None else grade == 2]
        given = [answer for answer in answers if answer is not None]
        found.append(row._replace(right=all(given) if given else None))
    return found


def _domain(
    name: str,
    bodies: Texts,
    kept: Rows,
    asked: Sequence[Asked],
    groups: Texts,
    about: Mapping[str, str],
) -> Domain:
    """Documents and queries in splits: ``confirmed`` by people, and ``written`` by the model."""
    parts = _divided(kept, groups, [row.document for row in asked])
    taken = {normalise(row.query): row for row in asked}
    qrels: dict[str, dict[str, dict[str, int]]] = {
        "train": {},
        "dev": {},
        "confirmed": {},
        "written": {},
    }
    texts: dict[str, str] = {}
    right = {True: "confirmed", None: "written"}  # what nobody has judged yet is not trained on
    rows = [(right[row.right], row.query, row.document) for row in asked if row.right in right]
    for split, found in parts.items():
        split = "written" if split == "test" else split
        rows += [
            (split, r["query"], r["document"]) for r in found if normalise(r["query"]) not in taken
        ]
    for split, text, document in rows:
        key = query_id(normalise(text))
        if texts.setdefault(key, text) and not any(key in qrels[s] for s in qrels if s != split):
            qrels[split].setdefault(key, {})[document] = 1
    qrels = {split: judged for split, judged in qrels.items() if judged}
    tests = tuple(split for split in ("confirmed", "written") if split in qrels)
    return Domain(
        name=name,
        profile=profile(),
        corpus=bodies,
        queries={q: texts[q] for judged in qrels.values() for q in judged},
        qrels=qrels,
        test_splits=tests,
        groups={
            **groups,
            **{row.document: groups.get(row.document, row.document) for row in asked},
        },
        held_out=tests[0],
        about=about,
    )


def _facts(name: str, writer: str, model: str) -> dict[str, str]:
    return {
        "title": f"{name}: from a query to its document",
        "source": f"The documents of {name}; the queries are by {writer}",
        "terms": "Your own data: embkit does not know under which terms it may be used.",
        "limits": f"A language model wrote the queries of train, dev and `written`; {model} finds "
        "the document of each among its first ten. Those of `confirmed` are by the same model, and "
        "a person found each of them right. One document is right for a query.",
    }
