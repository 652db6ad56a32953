"""Pairs and triplets: their rows as queries, documents, judgements and negatives."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from ...errors import EmbkitError, unknown
from ..domain import normalise
from . import shapes
from .asking import WANTED, Condition, ask, described, grader, typed
from .draft import WHOLE, Material
from .kinds import FEW, text_of, texts_of
from .rows import Row, Table, text_fault
from .shapes import NAMES, ROLES, Choice, Roles

Columns = Mapping[str, str | int | Sequence[str | int]]


class Later(Exception):
    """Rows behind the first ones change what a table's columns are: it is read again with them."""

    def __init__(self, file: str, rows: list[Row]) -> None:
        super().__init__(file)
        self.file, self.rows = file, rows


def roles_of(table: Table, given: Columns | None, encoding: str | None = None) -> Choice:
    """The columns that were named, or those that are plain; else one error that asks."""
    if given is not None:
        return Choice(_named(table, given))
    choice = shapes.choose(table, shapes.what_columns_hold(table))
    if choice.why:
        raise ask(table, choice.why, choice.readings, encoding)
    return choice


def _named(table: Table, columns: Columns) -> Roles:
    header, found = table.header, Roles()

    def asked(why: str) -> EmbkitError:
        known = {role: names for role, names in found.items() if role in NAMES}
        taken = {name for names in known.values() for name in names}
        free = (name[:40] for name in header if name not in taken)
        guessed = {r: known.get(r) or (next(free, "the column's name"),) for r in NAMES}
        hint = f"columns={typed(guessed, header)}"
        return EmbkitError(described(table, why), expected=WANTED, hint=hint)

    if not isinstance(columns, Mapping):
        raise asked(f"columns={columns!r} names no roles")
    for role, given in columns.items():
        role = "negative" if role == "negatives" else role
        if role not in ROLES:
            raise unknown("role in columns=", role, ROLES)
        found[role] = tuple(map(str, given if isinstance(given, list | tuple) else [given]))
        for name in found[role]:
            column = Condition(name, header).column if role in ("right", "wrong") else name
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
    choice = roles_of(table, material.given, material.bad.encoding)
    roles = choice.roles
    used = {name for role, names in roles.items() if role in (*NAMES, "negative") for name in names}
    told = {role: ", ".join(names) for role, names in roles.items()}
    material.columns = ({"shape": choice.shape} if choice.shape else {}) | told
    (anchor,), (positive,) = roles["anchor"], roles["positive"]
    tested = (Condition(c, table.header) for r in ("right", "wrong") for c in roles.get(r, ()))
    labels = {*roles.get("score", ()), *(condition.column for condition in tested)}
    if rest := [name for name in table.header if name not in used | labels]:
        material.columns["not used"] = ", ".join(rest[:20])
    if table.how:
        material.bad.said[f"{table.file}: {table.how}"] = None
    grade_row = grader(roles, table.header)
    watch = _Watch(table, rest) if material.given is None else None

    def document_of(text: str) -> str:
        return (known.get(normalise(text)) if known else None) or _known(material, "d", text)

    for row in table.rows(material.bad):
        values = row.values
        if watch:
            watch.see(row)
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
    if watch and watch.more:
        larger = with_rows(table, watch.more)
        again = roles_of(larger, None, material.bad.encoding)  # asks, if it is not plain any more
        if again.roles != roles:
            raise Later(table.file, watch.more)


class _Watch:
    """Looks for what the first rows of a table did not show: another column, another value."""

    def __init__(self, table: Table, columns: Sequence[str]) -> None:
        self.more = list[Row]()
        self.header = set(table.header)
        self.seen: dict[str, set[Any]] = {}
        for name in columns:
            values = {v for row in table.some if _simple(v := row.values.get(name))}
            if len(values) <= FEW:
                self.seen[name] = values

    def see(self, row: Row) -> None:
        """Keeps a row that shows something new."""
        values = row.values
        new = not values.keys() <= self.header
        if new:
            self.header |= values.keys()
        for name, seen in list(self.seen.items()):
            value = values.get(name)
            if value not in seen if _simple(value) else value:
                new = True
                seen.add(value if _simple(value) else "")
                if len(seen) > FEW or not _simple(value):
                    del self.seen[name]
        if new:
            self.more.append(row)


def _simple(value: Any) -> bool:
    return isinstance(value, str | int | float) and value != ""


def with_rows(table: Table, more: Sequence[Row]) -> Table:
    """A table in whose first rows others stand too, with the columns that these have."""
    names = dict.fromkeys([*table.header, *(name for row in more for name in row.values)])
    return table._replace(header=list(names), some=[*table.some, *more])


def _known(material: Material, kind: str, text: Any) -> str:
    """The id of a query ("q") or document ("d"), made of its text, whatever the rows' order."""
    key = kind + hashlib.sha1(normalise(text).encode()).hexdigest()[:16]
    texts = material.queries if kind == "q" else material.corpus
    if texts.setdefault(key, text) != text:
        material.alike += 1
    return key
