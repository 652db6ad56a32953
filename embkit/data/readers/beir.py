"""BEIR's layout: ``corpus.jsonl``, ``queries.jsonl`` and one file of judgements a split."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

from ...errors import EmbkitError
from .columns import fitting, grade_of
from .draft import WHOLE, Material
from .parsing import Quarantine, Row, as_id, json_rows, table_rows, text_fault

JUDGED = {  # the columns of a file of judgements, and what else its header may call them
    "query-id": "query_id queryid qid query".split(),
    "corpus-id": "corpus_id doc_id docid pid document_id".split(),
    "score": "score relevance rel label grade".split(),
}
SPLITS = {"validation": "dev", "valid": "dev", "val": "dev", "all": WHOLE, "qrels": WHOLE}


def find(folder: Path) -> tuple[dict[str, Path], list[Path]]:
    """The files of a folder in BEIR's layout: the texts by kind, and the judgements."""
    ends = (".jsonl.gz", ".jsonl")
    paths = [(kind, folder / (kind + end)) for kind in ("corpus", "queries") for end in ends]
    texts = {kind: path for kind, path in paths if path.is_file()}
    qrels = [*sorted((folder / "qrels").glob("*.tsv*")), folder / "qrels.tsv"]
    return texts, [p for p in qrels if p.is_file() and p.name.endswith((".tsv", ".tsv.gz"))]


def split_name(name: str) -> str:
    """The split that a file or a part of a data set is."""
    stem = name.removesuffix(".gz").removesuffix(".tsv")
    return SPLITS.get(stem.lower(), stem.lower() if stem.lower() in ("train", "dev") else stem)


def read(folder: Path, material: Material) -> None:
    """Reads a folder in BEIR's layout; an error where a part of it is missing."""
    texts, qrels = find(folder)
    missing = [f"{kind}.jsonl" for kind in ("corpus", "queries") if kind not in texts]
    if missing := missing + ([] if qrels else ["qrels/*.tsv"]):
        raise EmbkitError(
            f"{folder.name!r} holds no {' and no '.join(missing)}",
            expected="corpus.jsonl, queries.jsonl and qrels/train.tsv, dev.tsv, test.tsv "
            "(not all three need be there)",
            hint="write the missing part, or give one file of pairs: load_domain('pairs.csv')",
        )
    for kind, path in texts.items():
        add_texts(material, kind, json_rows(path, material.bad))
    marked = folder / "negatives.tsv"
    for path in qrels:
        rows = judgement_rows(path, material.bad, path.relative_to(folder).as_posix())
        add_judgements(material, split_name(path.name), rows, not marked.is_file())
    if marked.is_file():
        material.ranked = True
        for row in judgement_rows(marked, material.bad, marked.name):
            if pair := _ids(material, row):
                material.negatives[pair[0]][pair[1]] = None
    # what ``to_beir`` writes beside BEIR's files: the order of the tests, the terms of use
    try:
        facts = json.loads((folder / "domain.json").read_text(encoding="utf-8"))
        material.tests = [str(split) for split in facts["test_splits"]]
        material.held_out = facts.get("held_out")
        kept = ("title", "source", "terms", "limits")
        material.about = {k: str(facts["about"][k]) for k in kept if k in facts["about"]}
    except FileNotFoundError:
        pass
    except (OSError, ValueError, KeyError, TypeError) as error:
        material.notes.append(f"domain.json is damaged and was passed over: {type(error).__name__}")


def add_texts(material: Material, kind: str, rows: Iterable[Row]) -> None:
    """Adds documents (``kind="corpus"``) or queries: title and text with a space between them.

    A document's ``metadata`` may name its ``group`` and its ``parent``, as ``to_beir`` writes them.
    """
    texts = material.corpus if kind == "corpus" else material.queries
    for row in rows:
        values = row.values
        given = values.get("_id", values.get("id"))
        if (key := as_id(given)) is None:
            nothing = text_fault(given) == "empty text"
            cause = "missing _id" if nothing else "_id that is neither text nor a whole number"
            material.bad.add(cause, row)
            continue
        text, title = values.get("text"), values.get("title") if kind == "corpus" else None
        if (fault := text_fault(title)) and fault != "empty text":
            text = title  # put aside with the title's fault
        elif not fault:  # BEIR's way; either may be missing
            joined = f"{title} {text}" if isinstance(text, str) else text
            text = title if text_fault(text) == "empty text" else joined
        if not material.add(texts, key, text, row):
            continue
        if kind == "queries":
            material.where.setdefault(key, (row.file, row.line))
        elif isinstance(values.get("metadata"), dict):
            for name, found in (("group", material.groups), ("parent", material.parents)):
                if (other := as_id(values["metadata"].get(name))) is not None:
                    found[key] = other


def judgement_rows(path: Path, bad: Quarantine, file: str) -> Iterator[Row]:
    """A file's judgements, with a header or without (then in BEIR's or in TREC's order)."""
    places: dict[str, int] = {}
    header = False
    for line, fields, text in table_rows(path, bad, "\t", file):
        fields = text.split() if len(fields) == 1 else [part.strip() for part in fields]
        if not places:
            named = {role: fitting(fields, known) for role, known in JUDGED.items()}
            places = {role: fields.index(found[0]) for role, found in named.items() if found}
            if header := {"query-id", "corpus-id"} <= places.keys():
                bad.rows[file] -= 1
                continue
            places = dict(zip(JUDGED, range(3), strict=True))
        if not header:
            if len(fields) == 4 and fields[1] in ("0", "Q0"):  # TREC: query 0 document grade
                del fields[1]
            if len(fields) > 3 and any(fields[3:]):
                detail = f"{len(fields)} and no header"
                bad.add("too many columns", Row(file, line, {}, text), detail)
                continue
        if len(fields) <= (last := max(places.values())):
            detail = f"{len(fields)} where {last + 1} are needed"
            bad.add("too few columns", Row(file, line, {}, text), detail)
            continue
        yield Row(file, line, {name: fields[place] for name, place in places.items()}, text)


def add_judgements(material: Material, split: str, rows: Iterable[Row], zeros: bool = True) -> None:
    """Adds judgements of one split, whose texts are there already.

    With ``zeros`` a grade of 0 makes a document one of the query's negatives.
    """
    read = swapped = usable = 0
    for row in rows:
        read += 1
        grade, cause = grade_of(row.values.get("score", 1))
        if grade is None:
            material.bad.add(cause, row)
            continue
        swapped += as_id(row.values.get("query-id")) in material.corpus
        if (pair := _ids(material, row)) is None:
            query, document = as_id(row.values.get("query-id")), as_id(row.values.get("corpus-id"))
            if grade > 0 and query in material.queries and document is not None:
                material.missing[split, query].add(document)
            continue
        usable += 1
        if not material.judge(split, *pair, grade):
            material.bad.add("pair with two different scores", row)
        elif not grade and zeros:
            material.negatives[pair[0]][pair[1]] = None
    if swapped > read / 2 and not usable:
        raise EmbkitError(
            f"{row.file}: the ids under query-id are those of documents",
            expected="the query's id first, then the document's, then the score",
            hint="swap the first two columns",
        )


def _ids(material: Material, row: Row) -> tuple[str, str] | None:
    values = row.values
    query, document = as_id(values.get("query-id")), as_id(values.get("corpus-id"))
    if query is None or query not in material.queries:
        material.bad.add("query id that queries.jsonl does not have", row)
    elif document is None or document not in material.corpus:
        material.bad.add("document id that corpus.jsonl does not have", row)
    else:
        return query, document
    return None
