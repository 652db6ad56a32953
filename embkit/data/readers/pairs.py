"""Pairs and triplets: their rows as queries, documents, judgements and negatives."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from ...errors import EmbkitError, unknown
from ..domain import normalise
from . import shapes
from .asking import WANTED, ask, condition, described, grader, to_type, typed
from .draft import WHOLE, Material
from .kinds import TEXTUAL, Table, text_of, texts_of
from .rows import text_fault
from .shapes import NAMES, ROLES, Choice, Roles
from .tables import looked_through

Columns = Mapping[str, str | int | Sequence[str | int]]


def roles_of(table: Table, given: Columns | None, encoding: str | None = None) -> Choice:
    """The columns that were named, or those that are plain; else one error that asks."""
    if given is not None:
        return Choice(_named(table, given))
    choice = shapes.choose(table)
    if choice.why:
        raise ask(table, choice.why, choice.readings, encoding)
    return choice


def _named(table: Table, columns: Columns) -> Roles:
    header, found = table.header, Roles()

    def asked(why: str) -> EmbkitError:
        taken = {name for role in NAMES for name in found.get(role, ())}
        texts = [c for c in header if table.held[c] in TEXTUAL and c not in taken]
        free = iter([*texts, *(c for c in header if c not in {*taken, *texts})])
        guessed = {r: found.get(r) or (next(free, "the column's name")[:40],) for r in NAMES}
        step = to_type({"columns": typed(guessed, header)})
        return EmbkitError(described(table, why), expected=WANTED, **step)

    if not isinstance(columns, Mapping):
        raise asked(f"columns={columns!r} names no roles")
    for role, given in columns.items():
        role = "negative" if role == "negatives" else role
        if role not in ROLES:
            raise unknown("role in columns=", role, ROLES)
        found[role] = tuple(map(str, given if isinstance(given, list | tuple) else [given]))
        for name in found[role]:
            column = condition(name, header)[0] if role in ("right", "wrong") else name
            if column not in header:
                raise unknown(f"column (for {role}, in {table.file!r})", column, header)
    for role in NAMES:
        if len(found.get(role, ())) != 1:
            raise asked(f"columns= names no {role}")
    return found


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
        return (known.get(normalise(text)) if known else None) or _known(material, "d", text)

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
        asked = _known(material, "q", query)
        material.where.setdefault(asked, (row.file, row.line))
        for document in map(document_of, right):
            material.merged += document in material.qrels.get(split, {}).get(asked, ())
            if not material.judge(split, asked, document, grade):
                aside("pair with two different scores", row, f"{grade} after another")
            if grade < 1:
                material.negatives[asked][document] = None
        # negatives
        for column in roles.get("negative", ()):
            usable, faults = texts_of(values.get(column))
            for fault in faults:
                aside(fault, row, f"in {column!r}; the pair is kept")
            material.negatives[asked] |= dict.fromkeys(map(document_of, usable))


def _known(material: Material, kind: str, text: Any) -> str:
    """The id of a query ("q") or document ("d"), made of its text, whatever the rows' order."""
    key = kind + hashlib.sha1(normalise(text).encode()).hexdigest()[:16]
    texts = material.queries if kind == "q" else material.corpus
    if texts.setdefault(key, text) != text:
        material.alike += 1
    return key
