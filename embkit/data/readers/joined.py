"""Rows to a domain: texts and judgements in files of their own, joined by ids, as in BEIR's layout,
MS MARCO's and TREC's; and pairs and triplets."""

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ...files import read_json
from ..domain import normalise
from ..refusals import refused
from .asking import condition, grade_of, grader, roles_of
from .draft import WHOLE, Material
from .kinds import ID, LABEL, NOTHING, NUMBER, TEXT, Table, text_of, texts_of
from .rows import Quarantine, Row, as_id, is_numbered, text_fault
from .shapes import JUDGED, NAMES, TEXTS, fitting, plain
from .tables import looked_through

_WHOLE = re.compile(r"(\d+)\.0+$")


def text_columns(table: Table, kind: str) -> dict[str, str]:
    """Role -> column of a table of texts: ``id``, ``text``, ``title``."""
    header, held = table.header, table.held
    found = {role: fitting(header, names)[:1] for role, names in TEXTS.items()}
    found["id"] = found["id"] or [c for c in header if held[c] in (ID, NUMBER, LABEL)][:1]
    taken = {*found["id"], *found["title"], "metadata"}
    named = [c for c in fitting(header, TEXTS["text"]) if c not in taken]
    named = [c for c in named if held[c] in (TEXT, NOTHING)] or named
    texts = named or [c for c in header if c not in taken and held[c] == TEXT]
    if not named and len(texts) > 1:
        names, several = ", ".join(map(repr, header[:20])), " and ".join(map(repr, texts))
        of = {"file": table.file, "columns": names, "texts": several, "kind": kind}
        raise refused("which text", first=texts[0], second=texts[1], **of)
    found["text"] = (texts or found["title"])[:1]
    return {role: names[0] for role, names in found.items() if names}


def add_texts(material: Material, kind: str, table: Table) -> None:
    """Adds documents (``kind="corpus"``) or queries: title and text with a space between them.

    A document's ``metadata`` may name its ``group`` and its ``parent``, as ``to_beir`` writes them.
    """
    texts = material.corpus if kind == "corpus" else material.queries
    columns = text_columns(table, kind)
    ids, told = columns.get("id", "_id"), columns.get("text", "text")
    titled = columns.get("title", "title") if kind == "corpus" else ""
    if plain(ids) not in ("_id", "id") or told != "text":
        material.columns[kind] = f"{ids}, {told}"
    for row in table.rows(material.bad):
        values = row.values
        given = values.get(ids, values.get("id"))
        if (key := as_id(given)) is None:
            nothing = text_fault(given) == "empty text"
            cause = "missing _id" if nothing else "_id that is neither text nor a whole number"
            material.bad.add(cause, row)
            continue
        text: Any = values.get(told)
        title: Any = values.get(titled)
        if (fault := text_fault(title)) and fault != "empty text":
            text = title  # put aside with the title's fault
        elif not fault and titled != told:  # BEIR's way; either may be missing
            both = f"{title} {text}" if isinstance(text, str) else text
            text = title if text_fault(text) == "empty text" else both
        fault, there = text_fault(text), key in texts
        if not fault and texts.setdefault(key, text) != text:
            fault = "id that another text has"
        if fault:
            material.bad.add(fault, row)
            continue
        material.merged += there
        if kind == "queries":
            material.where.setdefault(key, (row.file, row.line))
        elif isinstance(values.get("metadata"), dict):
            for name, found in (("group", material.groups), ("parent", material.parents)):
                if (other := as_id(values["metadata"].get(name))) is not None:
                    found[key] = other


def judged_rows(
    table: Table, texts: Sequence[Mapping[str, str]], bad: Quarantine, triples: bool = False
) -> Iterator[Row]:
    """The judgements of a table under the names of ``JUDGED``.

    A table without a header is in BEIR's order (query, document, score) or, with four columns, in
    TREC's (query, iteration, document, grade). Unknown names are columns by the ids they hold. Of
    ``triples`` of ids (query, right, wrong) each row is a judgement of both documents.
    """
    header, wanted = table.header, ("query-id", "corpus-id")
    columns = {role: fits[0] for role, names in JUDGED.items() if (fits := fitting(header, names))}
    if is_numbered(header):
        order = header[:1] + header[2:] if len(header) == 4 else header
        columns = dict(zip(JUDGED, order, strict=False))
    elif not columns.keys() >= {*wanted}:
        for role, known in zip(wanted, texts, strict=True):
            cells = ((c, row.values.get(c)) for row in table.some for c in header)
            met = Counter(c for c, value in cells if _known(value, known) is not None)
            columns.update((role, best) for best, _ in met.most_common(1))
    if not columns.keys() >= {*wanted}:
        raise refused("no ids", file=table.file, columns=", ".join(header[:20]))
    for row in table.rows(bad):
        values = {role: row.values.get(name) for role, name in columns.items()}
        if triples:
            yield row._replace(values=values | {"score": 1})
            values |= {"corpus-id": values["score"], "score": 0}
        yield row._replace(values=values)


def add_judgements(material: Material, split: str, rows: Iterable[Row], zeros: bool = True) -> None:
    """Adds judgements of one split, whose texts are there already.

    With ``zeros`` a grade of 0 makes a document one of the query's negatives.
    """
    swapped = Counter[bool]()
    for row in rows:
        query, document, score = map(row.values.get, JUDGED)
        grade, cause = grade_of(1 if score is None else score)
        if grade is None:
            material.bad.add(cause, row)
        elif (pair := ids_of(material, row)) is None:
            key, lacking = as_id(query), as_id(document)
            swapped[key in material.corpus] += 1
            if grade > 0 and key in material.queries and lacking is not None:
                material.missing[split, key].add(lacking)
        else:
            material.judge(split, *pair, grade, row, zeros)
    if swapped[True] > swapped[False] and not material.qrels.get(split):
        raise refused("swapped", file=row.file)


def add_wrong(material: Material, rows: Iterable[Row]) -> None:
    """Adds the documents that people marked as wrong, in their order."""
    material.ranked = True
    for row in rows:
        if pair := ids_of(material, row):
            material.negatives[pair[0]][pair[1]] = None


def ids_of(material: Material, row: Row) -> tuple[str, str] | None:
    """The ids of a judgement's query and document, if both are there; else it is put aside."""
    query = _known(row.values.get("query-id"), material.queries)
    document = _known(row.values.get("corpus-id"), material.corpus)
    if query is not None and document is not None:
        return query, document
    what, file = ("query", "queries") if query is None else ("document", "corpus")
    material.bad.add(f"{what} id that {file}.jsonl does not have", row)
    return None


def _known(given: Any, texts: Mapping[str, str]) -> str | None:
    """An id as the texts have it: a table of numbers may have written 12 as 12.0."""
    key = as_id(given)
    if key is not None and key not in texts and (whole := _WHOLE.match(key)):
        key = whole[1]
    return key if key in texts else None


def read_card(path: Path, material: Material) -> None:
    """Reads what ``to_beir`` writes beside BEIR's files: the order of the tests, the terms."""
    facts = read_json(path)
    tests, about = facts.get("test_splits"), facts.get("about")
    if not isinstance(tests, list) or not isinstance(about, dict):
        material.notes += ["domain.json is damaged and was passed over"] * path.is_file()
        return
    material.tests, material.held_out = list(map(str, tests)), facts.get("held_out")
    kept = ("title", "source", "terms", "limits")
    material.about = {k: str(about[k]) for k in kept if k in about}


# Pairs and triplets


def add_pairs(
    material: Material, table: Table, split: str = WHOLE, known: Mapping[str, str] | None = None
) -> None:
    """Adds rows of pairs or triplets: texts become documents and queries, once each.

    ``known`` is normalised text -> id of the documents that are there already.
    """
    aside = material.bad.add
    if not table.header:  # no row from which its columns could be known
        for row in table.rows(material.bad):
            aside("no columns", row)
        return
    if material.given is None:
        table = looked_through(table, material.bad.encoding)
    choice = roles_of(table, material.given, material.bad.encoding)
    roles = choice.roles
    used = {name for role, names in roles.items() if role in (*NAMES, "negative") for name in names}
    told = {role: ", ".join(names) for role, names in roles.items()}
    material.columns = ({"shape": choice.shape} if choice.shape else {}) | told
    (anchor,), (positive,) = roles["anchor"], roles["positive"]
    tested = (condition(c, table.header)[0] for r in ("right", "wrong") for c in roles.get(r, ()))
    labels = {*roles.get("score", ()), *tested}
    if rest := [name for name in table.header if name not in used | labels]:
        material.columns["not used"] = ", ".join(rest[:20])
    if table.how:
        material.bad.said[f"{table.file}: {table.how}"] = None
    grade_row = grader(roles, table.header)

    def document_of(text: str) -> str:
        return (known.get(normalise(text)) if known else None) or _own_id(material, "d", text)

    for row in table.rows(material.bad):
        values = row.values
        # the query and its right documents
        right, faults = texts_of(values.get(positive))
        query = text_of(values.get(anchor))
        fault, column = text_fault(query), anchor
        if not fault and not right:
            fault, column = (faults or ["empty text"])[0], positive
        if fault:
            aside(fault, row, f"in column {column!r}")
            continue
        grade, cause = grade_row(values)
        if grade is None:
            aside(cause, row)
            continue
        for fault in faults:
            aside(fault, row, f"one of several in {positive!r}; rest kept")
        asked = _own_id(material, "q", query)
        material.where.setdefault(asked, (row.file, row.line))
        for document in map(document_of, right):
            material.merged += document in material.qrels.get(split, {}).get(asked, ())
            material.judge(split, asked, document, grade, row)
        # negatives
        for column in roles.get("negative", ()):
            usable, faults = texts_of(values.get(column))
            for fault in faults:
                aside(fault, row, f"in {column!r}; the pair is kept")
            material.negatives[asked] |= dict.fromkeys(map(document_of, usable))


def _own_id(material: Material, kind: str, text: Any) -> str:
    """The id of a query ("q") or document ("d"), made of its text, whatever the rows' order."""
    key = kind + hashlib.sha1(normalise(text).encode()).hexdigest()[:16]
    texts = material.queries if kind == "q" else material.corpus
    if texts.setdefault(key, text) != text:
        material.alike += 1
    return key
