"""The shapes of the field in one table: what fields are called, and which role each of them has.

A shape that is declared here is taken where its fields are there. Else a column's role follows from
its name where the content agrees. What could be two things is asked: see ``asking``.
"""

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from statistics import median
from typing import Any, NamedTuple

from . import kinds
from .kinds import NOTHING, OTHER, PASSAGE, SCORE, TEXT, TEXTUAL, Table, plain
from .rows import Row

Roles = dict[str, tuple[str, ...]]  # role -> the columns that play it, or the condition
Way = tuple[str, Roles]  # a reading: what it says, and its roles


class Shape(NamedTuple):
    """Fields that belong together: the first columns must be there, the others may be."""

    name: str
    anchor: str
    positive: str
    negative: str = ""  # may be there: those of them that hold something
    label: str = ""  # must be there: it says which rows are right


SHAPES = [Shape(**shape) for shape in kinds.TOLD["shapes"]]
NAMES, TEXTS, JUDGED, PICTURES = (
    {name: told.split() for name, told in kinds.TOLD[part].items()}
    for part in ("pairs", "texts", "judged", "pictures")
)
ROLES = (*NAMES, "negative", "score", "right", "wrong")
NEGATIVE, LABELS, ASIDE = (
    re.compile("|".join(kinds.TOLD["patterns"][name])) for name in ("negative", "label", "aside")
)


def fitting(header: Sequence[str], names: Sequence[str]) -> list[str]:
    """The columns that bear one of some plain names, in the order of those names."""
    return [name for known in names for name in header if plain(name) == known]


class Choice(NamedTuple):
    """What a table's columns are; or why that is not plain, and the ways to read it."""

    roles: Roles
    shape: str = ""
    why: str = ""  # what is not plain; empty: all is
    readings: tuple[Way, ...] = ()


def choose(table: Table) -> Choice:
    """The roles of a table's columns, where they are plain."""
    header, held, found = table.header, table.held, Roles()
    if shape := _declared(header, held):
        for role in ("anchor", "positive", "negative"):
            fits = fitting(header, getattr(shape, role).split())
            columns = [c for c in fits if held[c] != NOTHING]
            if role != "negative":
                columns = (columns or fits)[:1]
            if columns:
                found[role] = tuple(columns)
    else:
        why, readings = _by_names(table, found)
        if why:
            return Choice(found, why=why, readings=_with_labels(table, readings))
    triplets = bool(shape and shape.negative)  # which say which documents are wrong
    rest = _unused(table, found)
    if not triplets:
        named = [c for c in rest if NEGATIVE.fullmatch(plain(c))]
        textual = (*TEXTUAL, kinds.ID, NOTHING)
        words = {c for c in named if all(kinds.number_of(v) is None for v in table.values(c))}
        if negatives := [c for c in named if held[c] in textual or c in words]:
            found["negative"] = tuple(negatives)
            rest = _unused(table, found)
    name, labels = shape.name if shape else "", [] if triplets else rest
    for why, readings in _questions(table, found, rest, labels, bool(shape)):
        return Choice(found, name, why, tuple(readings))
    return Choice(found, name)


def _unused(table: Table, roles: Roles) -> list[str]:
    used = {column for columns in roles.values() for column in columns}
    return [column for column in table.header if column not in used]


def _questions(
    table: Table, found: Roles, rest: Sequence[str], labels: Sequence[str], declared: bool
) -> Iterator[tuple[str, list[Way]]]:
    """What may change the roles that were found: why, and the ways to read it."""
    held, unused = table.held, ("they are not used", found)
    # a column of few values says which rows are right, whatever it is called
    for column in labels:
        if _labels(table, column):
            ways = label_readings(table, column, found)
            why = f"the column {column!r} may say that some pairs are wrong"
            yield why, [*ways, ("every row is a right pair", found)]
    # passages of an unknown name, and longer texts beside short ones, may be the right documents
    for column in () if declared else rest:
        if held[column] == PASSAGE:
            taken = found | {"positive": (column,)}
            why = f"the column {column!r} holds passages"
            yield why, [("they are the right documents", taken), unused]
    if longer := None if declared else _longer(table, found, rest):
        taken = found | {"positive": (longer,)}
        ways = [("it holds the right documents", taken)] if held[longer] in TEXTUAL else []
        why = f"the column {longer!r} holds longer texts than {found['positive'][0]!r}"
        yield why, [*ways, ("it is not used", found)]
    # texts of an unknown name that are other rows' right documents may be negatives
    for column in () if "negative" in found else rest:
        if held[column] == TEXT and _of_other_rows(table, found, column):
            taken = found | {"negative": (column,)}
            why = f"the texts of the column {column!r} are right documents of other rows"
            yield why, [("they are negatives", taken), unused]


def _declared(header: Sequence[str], held: Mapping[str, str]) -> Shape | None:
    """The shape whose fields a table has; with texts, or lists of them, where texts are wanted."""
    there = {plain(column): column for column in header}
    for shape in SHAPES:
        texts = [shape.anchor, shape.positive]
        if {*texts, *shape.label.split()} <= there.keys():
            if all(held[there[name]] in TEXTUAL for name in texts):
                return shape
    return None


def _by_names(table: Table, found: Roles) -> tuple[str, list[Way]]:
    """Finds anchor and positive by their names; else says why not, and the likely readings."""
    header, held, least = table.header, table.held, len(table.some) / 2
    # columns that at least half of the first rows have; a damaged row has others
    common = [name for name in header if sum(name in r.values for r in table.some) >= least]
    unclear = []
    for role, names in NAMES.items():
        named = sorted(fitting(header, names), key=header.index)
        texts = [column for column in named if held[column] in (*TEXTUAL, NOTHING)]
        texts = [column for column in texts if column in common] or texts
        found[role] = tuple([column for column in texts if plain(column) == role][:1] or texts)
        if not texts and named:
            unclear.append(f"the column {named[0]!r} holds {held[named[0]]}, and no texts")
        elif not texts:
            unclear.append(f"none looks like the {role}")
        elif len(found[role]) > 1:
            unclear.append(f"{' and '.join(map(repr, texts))} may each be the {role}")
    if not unclear:
        return "", []
    texts = [column for column in header if held[column] in (TEXT, PASSAGE)]
    texts = texts if len(texts) > 1 else [c for c in header if held[c] in TEXTUAL]
    negatives = tuple(c for c in texts if NEGATIVE.fullmatch(plain(c)))
    anchors, positives = (
        found[role] or [c for c in texts if c not in negatives] or texts for role in NAMES
    )
    readings: list[Way] = []
    for anchor, positive in itertools.product(anchors, positives):
        if anchor != positive:
            roles: Roles = {"anchor": (anchor,), "positive": (positive,)}
            roles |= {"negative": negatives} if negatives else {}
            told = f"{anchor!r} asks, {positive!r} is the right document"
            if len(header) == len(texts) == 3 and not negatives:
                (third,) = (c for c in texts if c not in (anchor, positive))
                readings.append((f"{told}, {third!r} a wrong one", roles | {"negative": (third,)}))
            readings.append((told, roles))
    return "; ".join(unclear), readings[:6]


def _with_labels(table: Table, readings: Sequence[Way]) -> tuple[Way, ...]:
    """Readings, each with the ways in which a column that it leaves may say what is right."""
    found: list[Way] = []
    for told, roles in readings:
        column = next((c for c in _unused(table, roles) if _labels(table, c)), None)
        ways = label_readings(table, column, roles) if column is not None else []
        found += [(f"{told}, {what}", more) for what, more in ways]
    return (*found[:4], *readings)


def _longer(table: Table, roles: Roles, rest: Sequence[str]) -> str | None:
    """A column that is not used and holds far more text than the right documents, which are
    shorter than the queries: they may be answers, and it the documents."""

    def size(column: str) -> float:
        lengths = [len(str(v)) for row in table.some if (v := row.values.get(column))]
        return median(lengths) if lengths else 0.0

    asked = size(roles["anchor"][0])
    if size(roles["positive"][0]) >= 0.6 * asked:
        return None
    texts = (column for column in rest if table.held[column] in (*TEXTUAL, OTHER))
    return next((column for column in texts if size(column) > 2 * asked), None)


def _of_other_rows(table: Table, roles: Roles, column: str) -> bool:
    """Whether most texts of a column are right documents of other rows, and not of their own."""

    def texts(row: Row, name: str) -> set[str]:
        return set(kinds.texts_of(row.values.get(name))[0])

    right = set[str]().union(*(texts(row, roles["positive"][0]) for row in table.some))
    there = [row for row in table.some if texts(row, column)]
    met = sum(texts(r, column) <= right - texts(r, roles["positive"][0]) for r in there)
    return 2 * met > len(there) > 0


def _labels(table: Table, column: str) -> bool:
    """Whether a column may say which rows are right: by its few values, or by its name."""
    named, held = LABELS.fullmatch(plain(column)) is not None, table.held[column]
    values = {kinds.word_of(v) for row in table.some if (v := row.values.get(column)) is not None}
    if len(values) <= 1:  # all rows alike, as far as was seen
        return named and not values <= {*kinds.RIGHT_WORDS} - {"1"} and held != NOTHING
    if held == kinds.CATEGORY:
        return named or not ASIDE.fullmatch(plain(column))
    return held in (kinds.LABEL, SCORE) or (named and held in (TEXT, kinds.NUMBER, OTHER))


def label_readings(table: Table, column: str, roles: Roles) -> list[Way]:
    """The ways in which a column can say which rows are right."""
    values = table.values(column)
    words = sorted({kinds.word_of(value) for value in values})
    numbers = sorted({n for value in values if (n := kinds.number_of(value)) is not None})
    readings: list[Way] = []

    def when(right: str, wrong: str = "") -> None:
        said = {"right": f"{column} {right}"} | ({"wrong": f"{column} {wrong}"} if wrong else {})
        told = ", ".join(f"{role} where {condition}" for role, condition in said.items())
        readings.append((told, roles | {role: (text,) for role, text in said.items()}))

    if table.held[column] == SCORE or kinds.FEW < len(numbers) >= len(words):
        for threshold in _thresholds(numbers):
            when(f">= {threshold:g}")
    elif "2" in words and {*words} <= {*"012", "-1"} and fitting(table.header, ["hypothesis"]):
        when("== 0", "== 2")  # entailment, neutral, contradiction; -1: no label
        when("== 2", "== 0")
    elif len(words) == 2 and "-1" in words:
        (other,) = (word for word in words if word != "-1")
        when(f"== {other}", "== -1")
        when("== -1", f"== {other}")
    elif numbers and all(word.lstrip("-").isdecimal() for word in words):
        readings.append((f"right where {column} is above 0", roles | {"score": (column,)}))
        if len(words) == 2:
            when(f"== {words[0]}", f"== {words[1]}")
        elif max(numbers) > 1:
            when(f">= {max(numbers):g}")
    elif 1 < len(words) <= kinds.FEW:
        ordered = sorted(words, key=lambda word: word not in kinds.RIGHT_WORDS)
        sure = [word for word in ordered if word not in kinds.UNSURE_WORDS]
        for word in (sure or ordered)[:3]:
            others = [w for w in words if w != word and w not in kinds.UNSURE_WORDS]
            wrong = [w for w in others if w in kinds.WRONG_WORDS] or others
            when(f"== {word}", f"== {','.join(wrong)}" if wrong else "")
    return readings


def _thresholds(numbers: Sequence[float]) -> list[float]:
    """Where scores may be cut: above their widest gap, and at four fifths of the largest."""
    gaps = [(high - low, high) for low, high in zip(numbers, numbers[1:], strict=False)]
    found = [max(gaps)[1]] if gaps else list(numbers)
    high = [number for number in numbers if number >= 0.8 * numbers[-1]][:1]
    return list(dict.fromkeys([*found, *high]))


def example(roles: Roles, values: Mapping[str, Any]) -> tuple[str, ...]:
    """A row as a reading takes it: its query, and the document that is right."""
    cells = [values.get(roles[role][0]) for role in ("anchor", "positive") if roles.get(role)]
    texts = [kinds.texts_of(cell)[0] or [str(cell)] for cell in cells]
    return tuple(" ".join(found[0].split())[:80] for found in texts)
