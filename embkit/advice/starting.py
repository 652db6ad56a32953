"""From a folder of documents without a label to a domain: read, cut, asked about, confirmed."""

import hashlib
import json
import os
import re
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from statistics import median
from typing import Any

from ..assets import catalogue
from ..data import Domain, load_domain
from ..data.domain import normalise
from ..data.readers.documents import Document, files_of, read_documents
from ..data.readers.folder import local
from ..data.splits import in_order, query_id
from ..data.text_checks import words
from ..export.export import to_beir
from ..files import filled, read_json, told_by, write_atomic, write_lines
from ..models.loading import as_model
from ..models.window import cut_for
from ..pairs.labels import LabelStore
from ..pairs.pooling import Task
from ..search.passages import Passages
from ..session import paths, shown
from ..synthetic.backends import TransformersBackend
from ..synthetic.generation import Row as Written
from ..synthetic.generation import generate
from ..synthetic.prompts import PROMPTS, content_hash
from ..synthetic.sets import filter_generated
from . import confirming
from .confirming import Asked, Row, Texts, write_asked
from .curves import refused

PROMPT = PROMPTS["general"]
AIM = 400  # seconds that a model here may write for, by default
MOST, LEAST = 3_000, 150  # queries to write, by default
OF_ENDPOINT = 1_200  # the same where an endpoint writes
SEED = 42  # of what is drawn, and of the writer
TIMED = 12  # prompts of each kind whose answers are timed
SHORT = 8  # words of a passage that is asked about
FEW, NEEDED = 8, 40  # documents, and queries that are kept, at least
SIZE = 128  # word pieces of a passage
ABOUT = told_by(__file__, "about.toml")
RECORD = "steps.json"  # of each file, a hash of what it was made from and of what was written
Told = Callable[[str], object]


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
    def proof(self) -> str:
        """What people have confirmed, or what is to be done."""
        told = {"file": shown(self.folder / "to_confirm.csv"), "enough": confirming.ENOUGH}
        return filled(Path(__file__).with_name("proof.jinja"), start=self, **told)

    def __repr__(self) -> str:
        return f"Start({self.folder.name!r}: {self.proof}; {self.domain!r})"


def start(
    source: str | os.PathLike[str],
    *,
    model: str = "minilm",
    writer: Any = None,
    queries: int | None = None,
    size: int = SIZE,
    alone: bool = False,
    told: Told = lambda text: None,
) -> Start:
    """Makes a domain of documents alone: reads and cuts them, lets a language model write queries,
    filters these, and asks a person to confirm about a hundred of them.

    Each step leaves a file in ``runs/start/NAME-HASH/``: documents.jsonl, passages.jsonl,
    queries.jsonl, to_confirm.csv, and the domain. The same call goes on after a stop. A file that
    was mended is used as it is. No document of a test is trained on.

    Args:
        source: a folder, an archive or a file.
        model: whose word pieces are counted, and which must find a query's own document.
        writer: a backend of ``ek.synthetic``; default: the packaged model.
        queries: to ask for, at most; default: what the packaged model writes in about 7 minutes.
        size: word pieces of a passage that is asked about.
        alone: go on without a person.

    Fails where nothing can be read, of too few documents or queries, and when an endpoint stops.
    """
    files = files_of(source)
    path = local(source)
    assert path is not None
    name = re.sub(r"[^\w.-]+", "-", path.name.split(".")[0]).strip("-.")[:60] or "folder"
    key = hashlib.sha256(os.fsencode(path)).hexdigest()[:8]
    steps = Steps(paths().runs / "start" / f"{name}-{key}", told)
    told(f"each step leaves its file in {shown(steps.folder)}")
    # read
    stats = [(file, where.stat()) for file, where in files if where.exists()]
    made_from: list[Any] = [(file, stat.st_size, stat.st_mtime_ns) for file, stat in stats]
    made_from.append(find_spec("pypdf") is not None)  # once it is installed, PDF is read
    read = steps.file("documents.jsonl", made_from, partial(_read, source, told))
    found = read_lines(read, *Document._fields)
    bodies = {row["id"]: Document(row["id"], row["title"], row["text"]).body for row in found}
    if len(bodies) < FEW:
        raise refused("few documents", n=len(bodies), name=path.name, least=FEW)
    # cut
    made_from = [digest(read), catalogue.folder_fingerprint(catalogue.resolve(model)), size]
    parts = steps.file("passages.jsonl", made_from, partial(_cut, bodies, model, size, told))
    titles = {row["id"]: row["title"] for row in found}
    cut = read_lines(parts, "document", "heading", "text")
    for n, row in enumerate(cut):
        row.setdefault("passage", n)
        row["above"] = f"{titles.get(row['document'], '')} {row['heading']}".strip()
        there = row["heading"].rsplit(" > ")[-1] in row["text"][:300]
        row["shown"] = row["text"] if there else f"{row['heading']}\n{row['text']}"
    # let a model write
    writer, order = writer or TransformersBackend(), _order(cut)
    if queries is None:
        noted = steps.kept.get("queries", {})
        known = noted.get("number") if noted.get("writer") == writer.name else None
        queries = known or _affordable(writer, order)
        steps.note("queries", {"writer": writer.name, "number": queries})
    made_from = [digest(parts), writer.name, getattr(writer, "settings", {}), queries, SEED]
    some = order[: max(1, queries // len(PROMPT.kinds))]
    write = partial(_write, bodies, some, writer, Passages(model, size), told)
    written = steps.file("queries.jsonl", made_from, write)
    kept = _usable(read_lines(written, "query", "document"), bodies, written)
    # ask a person
    groups = confirming.groups_of(kept, bodies)
    text_of = {(row["document"], row["passage"]): row["shown"] for row in cut}
    to_draw = lambda to: write_asked(to, confirming.draw(kept, groups, text_of))  # noqa: E731
    asked = confirming.read_asked(steps.file("to_confirm.csv", [digest(written), SEED], to_draw))
    asked = [row for row in asked if row.document in bodies]
    told_of = {"name": path.name, "writer": writer.name, "model": model}
    about = {what: text.format(**told_of) for what, text in ABOUT.items()}
    open_ = [row._replace(right=None) for row in asked]
    whole = confirming.domain_of(name, bodies, kept, open_, groups, about)
    store = LabelStore(whole, steps.folder / "labels.jsonl")
    asked = confirming.merged(asked, store)
    judged = sum(row.right is not None for row in asked)
    ready = alone or bool(asked) and judged >= min(confirming.ENOUGH, len(asked))
    domain = confirming.domain_of(name, bodies, kept, asked, groups, about)
    if ready:
        made_from = [domain.hash, about]
        to_write = lambda to: to_beir(domain, to, replace=True)  # noqa: E731
        domain = load_domain(steps.file(name, made_from, to_write))
    tasks = (Task(query_id(normalise(r.query)), r.document, r.query, r.passage) for r in asked)
    return Start(steps.folder, domain, tuple(asked), tuple(tasks), store, ready)


def _read(source: str | os.PathLike[str], told: Told, path: Path) -> None:
    found = read_documents(source)
    left = [{"file": file, "reason": why} for file, why in found.skipped]
    write_lines(path.with_name("skipped.jsonl"), left)
    told(f"read: {found!r}" + " (skipped.jsonl lists them)" * bool(left))
    write_lines(path, (document._asdict() for document in found.documents))


def _cut(bodies: Texts, model: str, size: int, told: Told, path: Path) -> None:
    found = cut_for(as_model(model), [*bodies.values()], size, headings=True)
    rows = [
        {"document": document, "passage": n, "heading": part.heading, "text": part.of(text)}
        for (document, text), own in zip(bodies.items(), found, strict=True)
        for n, part in enumerate(own)
    ]
    told(f"cut: {len(rows):,} passages of {size} word pieces at most")
    write_lines(path, rows)


def _order(cut: list[Row]) -> list[Row]:
    """Passages in the order in which they are asked about: one of each document, then a second one
    of each that has it, and so on; those of a few words are left out."""
    lengths = [len(words(row["text"])) for row in cut]
    least = min(SHORT, median(lengths))
    of: dict[str, list[tuple[bytes, int]]] = defaultdict(list)
    for i, row in enumerate(cut):
        if lengths[i] >= least:
            of[row["document"]].append((in_order(f"{row['document']} {row['passage']}", SEED), i))
    ranked = [
        (n, in_order(document, SEED), i)
        for document, own in of.items()
        for n, (_, i) in enumerate(sorted(own))
    ]
    return [cut[i] for *_, i in sorted(ranked)]


def _affordable(writer: Any, order: list[Row]) -> int:
    """Queries that a model here writes in the time there is; of an endpoint, a fixed number."""
    if not isinstance(writer, TransformersBackend):
        return OF_ENDPOINT
    first = PROMPT.render(order[0]["shown"], "question")
    writer.generate([first], max_tokens=1, temperature=0.0, seed=SEED)  # loads it
    for begin in range(0, len(order), TIMED):  # answers are kept; what is kept took no time
        texts = {str(n): row["shown"] for n, row in enumerate(order[begin : begin + TIMED])}
        started = time.perf_counter()
        found = generate(texts, writer, PROMPT, seed=SEED).counts
        if asked := found["queries asked for"] - found["from the cache"]:
            each = (time.perf_counter() - started) / asked
            return int(min(MOST, max(LEAST, AIM / each // 30 * 30)))
    return MOST


def _write(
    bodies: Texts, order: list[Row], writer: Any, retriever: Passages, told: Told, path: Path
) -> None:
    """Queries about passages, as queries of their documents, and the filter that removed each."""
    told(f"writing: {writer.name} is asked about {len(order):,} passages")
    place = {f"{row['document']}#{row['passage']}": row for row in order}
    found = generate({key: row["shown"] for key, row in place.items()}, writer, PROMPT, seed=SEED)
    if left := found.counts["left"]:
        raise refused("stopped", stopped=found.stopped, done=len(found.rows), left=left)
    own = ((place[r.document], r) for r in found.rows)
    rows = tuple(Written(of["document"], r.query, r.kind, of["passage"]) for of, r in own)
    above = {(row["document"], row["passage"]): row["above"] for row in order}
    told("filtering: each query must find its document, and say more than the heading")
    filtered = filter_generated(
        replace(found, rows=rows, texts=bodies),
        bodies,
        retriever=retriever,
        top_k=max(1, min(10, len(bodies) // 10)),
        headings=lambda row: above[row.document, row.n],
    )
    by = {row: rule for rule, removed in filtered.removed.items() for row, _ in removed}
    told(repr(filtered))
    lines = (
        {"query": r.query, "document": r.document, "passage": r.n, "kind": r.kind}
        | {"kept": r not in by, "removed_by": by.get(r)}
        for r in rows
    )
    write_lines(path, lines)


def _usable(rows: list[Row], bodies: Mapping[str, str], path: Path) -> list[Row]:
    """The queries that are kept, one of each text; fails for too few."""
    first: dict[str, Row] = {}
    for row in rows:
        if row.get("kept", True) and row["document"] in bodies and normalise(row["query"]):
            first.setdefault(normalise(row["query"]), row)
    documents = len({row["document"] for row in first.values()})
    if len(first) < NEEDED or documents < FEW:
        why = Counter(row["removed_by"] for row in rows if row.get("removed_by"))
        told = "; ".join(f"the filter {rule!r} removed {n:,}" for rule, n in why.most_common())
        of: dict[str, Any] = {"n": len(first), "rows": len(rows), "documents": documents}
        of |= {"told": told or "none was removed", "queries": NEEDED, "least": FEW}
        raise refused("few of use", path=shown(path), **of)
    return [*first.values()]


class Steps:
    """The files of a folder, step by step: each is made once, made again when what it rests on has
    changed, and left alone where a person mended it."""

    def __init__(self, folder: Path, told: Told) -> None:
        self.folder, self.told, self.kept = folder, told, read_json(folder / RECORD)

    def file(self, name: str, made_from: Any, make: Callable[[Path], object]) -> Path:
        """A step's file or folder, which ``make`` writes whole or not at all."""
        path, key, last = self.folder / name, content_hash(made_from), self.kept.get(name, {})
        if path.exists() and last.get("written") != digest(path):  # mended, or not noted yet
            if last.get("from", key) != key:
                self.told(f"{name} was mended by hand and is used as it is, though what it was "
                          "made from has changed; without the file it is made again")  # fmt: skip
        elif not path.exists() or last.get("from") != key:
            make(path)
            self.note(name, {"from": key, "written": digest(path)})
        return path

    def note(self, name: str, value: Any) -> None:
        """Keeps something beside the files."""
        self.kept[name] = value
        write_atomic(self.folder / RECORD, json.dumps(self.kept, indent=1))


def digest(path: Path) -> str:
    """A hash of a file, or of all files of a folder."""
    found = hashlib.sha256()
    for file in sorted(path.rglob("*.*")) if path.is_dir() else [path]:
        with file.open("rb") as stream:
            found.update(file.name.encode() + hashlib.file_digest(stream, "sha256").digest())
    return found.hexdigest()[:16]


def read_lines(path: Path, *fields: str) -> list[Row]:
    """JSON lines, each with texts in these fields; fails for a line that is none."""
    rows = []
    for number, line in enumerate(path.read_bytes().removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
        try:
            row = json.loads(line) if line.strip() else None
            if row is not None and not all(isinstance(row[field], str) for field in fields):
                raise TypeError("a text is missing")
            rows += [] if row is None else [row]
        except (ValueError, TypeError, KeyError) as error:
            of = {"path": path, "kind": type(error).__name__, "fields": ", ".join(fields)}
            raise refused("damaged line", number=number, line=line[:60], **of) from error
    return rows
