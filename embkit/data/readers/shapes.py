"""The shapes of the field in one table: what fields are called, and which role each of them has.

A shape that is declared here is taken where its fields are there. Else a column's role follows from
its name where the content agrees. What could be two things is asked: see ``asking``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any, NamedTuple

from . import kinds
from .kinds import (
    CATEGORY,
    ID,
    LABEL,
    NOTHING,
    NUMBER,
    OTHER,
    PASSAGE,
    PICTURE,
    SCORE,
    TEXT,
    TEXTUAL,
    plain,
)
from .rows import Row, Table

Roles = dict[str, tuple[str, ...]]  # role -> the columns that play it, or the condition


class Shape(NamedTuple):
    """Fields that belong together: the first columns must be there, the others may be."""

    name: str
    anchor: str
    positive: str
    negative: str = ""  # may be there: those of them that hold something
    label: str = ""  # must be there: it says which rows are right


SHAPES = (
    Shape("FlagEmbedding", "query", "pos", "neg"),
    Shape("Tevatron", "query", "positive_passages", "negative_passages"),
    Shape("DPR", "question", "positive_ctxs", "hard_negative_ctxs negative_ctxs"),
    Shape("natural language inference", "premise", "hypothesis", label="label"),
    Shape("natural language inference", "premise", "hypothesis", label="gold_label"),
    Shape("natural language inference", "sentence1", "sentence2", label="gold_label"),
    Shape("question pairs", "question1", "question2", label="is_duplicate"),
)
NAMES = {  # what people call the columns of pairs, as ``plain`` writes them
    "anchor": (
        "anchor query question questions sentence1 sentence_1 text1 text_1 prompt instruction "
        "premise search_query request question1"
    ).split(),
    "positive": (
        "positive positives pos document documents doc answer answers passage passages context "
        "sentence2 sentence_2 text2 text_2 code response completion hypothesis positive_passages "
        "question2 chosen"
    ).split(),
}
ROLES = (*NAMES, "negative", "score", "right", "wrong")
TEXTS = {  # of a file of texts with ids
    "id": (
        "_id id doc_id docid docno document_id corpus_id passage_id pid query_id qid question_id "
        "topic_id queryid"
    ).split(),
    "text": (
        "text contents content body passage document query question title description answer"
    ).split(),
    "title": ["title"],
}
JUDGED = {  # of a file of judgements
    "query-id": "query_id queryid qid query topic topic_id question_id".split(),
    "corpus-id": "corpus_id doc_id docid docno pid document_id passage_id doc document".split(),
    "score": "score relevance rel label grade relevancy judgement judgment".split(),
}
PICTURES = {
    "picture": "picture image file file_name filename filepath path image_path".split(),
    "caption": "caption text name title label description".split(),
}
NEGATIVE = re.compile(
    r"(hard_?|in)?neg(ative)?s?(_?(\d+|[a-z]+(_\d+)?))?|.*_neg(ative)?s?(_\d+)?|rejected.*|"
    r"(non|not|ir)_?relevant.*|distractors?.*|wrong.*|incorrect.*|bad_.*"
)
LABELS = re.compile(
    r".*(label|score|relevan|similar|grade|judg|rating|gold|target|match|correct|duplicate|choice|"
    r"annotation|responses|vote|verdict|feedback).*|rel|y"
)
ASIDE = re.compile(  # categories that say nothing of right and wrong
    r".*(lang|split|source|type|domain|categor|topic|subject|dataset|author|country|section).*"
)


def fitting(header: Sequence[str], names: Sequence[str]) -> list[str]:
    """The columns that bear one of some plain names, in the order of those names."""
    return [name for known in names for name in header if plain(name) == known]


class Choice(NamedTuple):
    """What a table's columns are; or why that is not plain, and the ways to read it."""

    roles: Roles
    shape: str = ""
    why: str = ""  # what is not plain; empty: all is
    readings: tuple[tuple[str, Roles], ...] = ()  # what each says, and its roles


def what_columns_hold(table: Table) -> dict[str, str]:
    """Column -> what it holds, by the table's first rows."""
    return {
        name: kinds.kind_of(row.values.get(name) for row in table.some) for name in table.header
    }


def choose(table: Table, held: Mapping[str, str]) -> Choice:
    """The roles of a table's columns, where they are plain."""
    header = table.header
    shape, found = _declared(header, held), Roles()
    if shape:
        for role in ("anchor", "positive", "negative"):
            wanted = [name for name in getattr(shape, role).split()]
            columns = [c for c in fitting(header, wanted) if held[c] != NOTHING]
            if columns or role != "negative":
                found[role] = tuple(columns or fitting(header, wanted)[:1])
    else:
        why, readings = _by_names(table, held, found)
        if why:
            return Choice(found, why=why, readings=tuple(_with_labels(table, held, readings)))
    name = shape.name if shape else ""
    used = {column for columns in found.values() for column in columns}
    if not (shape and shape.negative):
        named = [c for c in header if c not in used and NEGATIVE.fullmatch(plain(c))]
        if negatives := tuple(
            c for c in named if held[c] in (*TEXTUAL, ID, NOTHING) or _words(table, c)
        ):
            found["negative"] = negatives
            used |= set(negatives)
    # a label: a column of few values says which rows are right, whatever it is called
    for column in header if not (shape and shape.negative) else ():
        if column in used or not _labels(table, column, held[column]):
            continue
        why = f"the column {column!r} may say that some pairs are wrong"
        readings = list(label_readings(table, column, held[column], found))
        readings += [("every row is a right pair", found)]
        return Choice(found, name, why, tuple(readings))
    # passages of an unknown name may be the right documents
    for column in header:
        if column not in used and held[column] == PASSAGE and not shape:
            why = f"the column {column!r} holds passages"
            taken = found | {"positive": (column,)}
            told = (("they are the right documents", taken), ("they are not used", found))
            return Choice(found, name, why, told)
    if longer := None if shape else _longer(table, found, held):
        why = f"the column {longer!r} holds longer texts than {found['positive'][0]!r}"
        ways = [("it is not used", found)]
        if held[longer] in TEXTUAL:
            ways.insert(0, ("it holds the right documents", found | {"positive": (longer,)}))
        return Choice(found, name, why, tuple(ways))
    # texts of an unknown name that are other rows' right documents may be negatives
    for column in header if "negative" not in found else ():
        if column not in used and held[column] == TEXT and _of_other_rows(table, found, column):
            why = f"the texts of the column {column!r} are right documents of other rows"
            taken = found | {"negative": (column,)}
            told = (("they are negatives", taken), ("they are not used", found))
            return Choice(found, name, why, told)
    return Choice(found, name)


def _declared(header: Sequence[str], held: Mapping[str, str]) -> Shape | None:
    """The shape whose fields a table has; with texts, or lists of them, where texts are wanted."""
    there = {plain(column): column for column in header}
    for shape in SHAPES:
        needed = [shape.anchor, shape.positive, *shape.label.split()]
        if all(name in there for name in needed):
            if all(held[there[name]] in TEXTUAL for name in needed[:2]):
                return shape
    return None


def _common(table: Table) -> list[str]:
    """The columns that at least half of the first rows have; a damaged row has others."""
    least = len(table.some) / 2
    return [name for name in table.header if sum(name in r.values for r in table.some) >= least]


def _by_names(
    table: Table, held: Mapping[str, str], found: Roles
) -> tuple[str, list[tuple[str, Roles]]]:
    """Finds anchor and positive by their names; else says why not, and the likely readings."""
    header = table.header
    unclear, fits = [], {}
    common = set(_common(table))
    for role, names in NAMES.items():
        named = sorted(fitting(header, names), key=header.index)
        texts = [column for column in named if held[column] in (*TEXTUAL, NOTHING)]
        texts = [column for column in texts if column in common] or texts
        exact = [column for column in texts if plain(column) == role][:1]
        fits[role] = exact or texts
        found[role] = tuple(exact or texts)
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
    anchors, positives = (fits[role] or texts for role in NAMES)
    negatives = [c for c in texts if NEGATIVE.fullmatch(plain(c))]
    plainly = [c for c in texts if c not in negatives] or texts
    readings: list[tuple[str, Roles]] = []
    for anchor in anchors:
        for positive in positives:
            if anchor != positive and {anchor, positive} <= {*plainly, *anchors, *positives}:
                roles: Roles = {"anchor": (anchor,), "positive": (positive,)}
                if negatives:
                    roles["negative"] = tuple(negatives)
                told = f"{anchor!r} asks, {positive!r} is the right document"
                readings.append((told, roles))
                rest = [c for c in texts if c not in (anchor, positive, *negatives)]
                if len(header) == len(texts) == 3 and not negatives and rest:
                    third = roles | {"negative": tuple(rest)}
                    readings.insert(len(readings) - 1, (f"{told}, {rest[0]!r} a wrong one", third))
    return "; ".join(unclear), readings[:6]


def _with_labels(
    table: Table, held: Mapping[str, str], readings: Sequence[tuple[str, Roles]]
) -> list[tuple[str, Roles]]:
    """Readings, each with the ways in which a column that it leaves may say what is right."""
    found: list[tuple[str, Roles]] = []
    for told, roles in readings:
        used = {column for columns in roles.values() for column in columns}
        for column in table.header:
            if column not in used and _labels(table, column, held[column]):
                ways = label_readings(table, column, held[column], roles)
                found += [(f"{told}, {what}", more) for what, more in ways]
                break
    return [*found[:4], *readings]


def _longer(table: Table, roles: Roles, held: Mapping[str, str]) -> str | None:
    """A column that is not used and holds far more text than the right documents, which are
    shorter than the queries: they may be answers, and it the documents."""

    def size(column: str) -> float:
        lengths = [len(str(v)) for row in table.some if (v := row.values.get(column))]
        return median(lengths) if lengths else 0.0

    (anchor,), (positive,) = roles["anchor"], roles["positive"]
    used = {column for columns in roles.values() for column in columns}
    rest = [c for c in table.header if c not in used and held[c] in (*TEXTUAL, OTHER)]
    if size(positive) < 0.6 * size(anchor):
        return next((column for column in rest if size(column) > 2 * size(anchor)), None)
    return None


def _of_other_rows(table: Table, roles: Roles, column: str) -> bool:
    """Whether most texts of a column are right documents of other rows, and not of their own."""

    def texts(row: Row, name: str) -> set[str]:
        return set(kinds.texts_of(row.values.get(name))[0])

    right = set[str]().union(*(texts(row, roles["positive"][0]) for row in table.some))
    there = [row for row in table.some if texts(row, column)]
    met = sum(texts(r, column) <= right - texts(r, roles["positive"][0]) for r in there)
    return 2 * met > len(there) > 0


def _words(table: Table, column: str) -> bool:
    """Whether a column of labels holds words, which may be short texts."""
    values = [v for row in table.some if (v := row.values.get(column)) not in (None, "")]
    return all(kinds.number_of(value) is None for value in values) and not isinstance(
        values[0], bool
    )


def _labels(table: Table, column: str, held: str) -> bool:
    """Whether a column may say which rows are right: by its few values, or by its name."""
    named = LABELS.fullmatch(plain(column)) is not None
    values = {kinds.word_of(v) for row in table.some if (v := row.values.get(column)) is not None}
    if len(values) <= 1:  # all rows alike, as far as was seen
        return named and not values <= {*kinds.RIGHT_WORDS} - {"1"} and held != NOTHING
    if held == CATEGORY:
        return named or not ASIDE.fullmatch(plain(column))
    return held in (LABEL, SCORE) or (named and held in (TEXT, NUMBER, OTHER))


def label_readings(table: Table, column: str, held: str, roles: Roles) -> list[tuple[str, Roles]]:
    """The ways in which a column can say which rows are right."""
    values = [v for row in table.some if (v := row.values.get(column)) not in (None, "")]
    words = sorted({kinds.word_of(value) for value in values})
    numbers = sorted({n for value in values if (n := kinds.number_of(value)) is not None})
    readings: list[tuple[str, Roles]] = []

    def when(right: str, wrong: str = "") -> None:
        conditions = {"right": (f"{column} {right}",)}
        if wrong:
            conditions["wrong"] = (f"{column} {wrong}",)
        told = f"right where {column} {right}" + (f", wrong where {column} {wrong}" * bool(wrong))
        readings.append((told, roles | conditions))

    if held == SCORE or (numbers and len(numbers) > kinds.FEW and len(numbers) >= len(words)):
        for threshold in _thresholds(numbers):
            when(f">= {threshold:g}")
    elif set(words) <= {"-1", "0", "1", "2"} and "2" in words and "hypothesis" in _plain(table):
        when("== 0", "== 2")  # entailment, neutral, contradiction; -1: no label
        when("== 2", "== 0")
    elif len(words) == 2 and "-1" in words:
        other = max(words, key=lambda word: word != "-1")
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


def _plain(table: Table) -> set[str]:
    return set(map(plain, table.header))


def _thresholds(numbers: Sequence[float]) -> list[float]:
    """Where scores may be cut: above their widest gap, and at four fifths of the largest."""
    gaps = [(high - low, high) for low, high in zip(numbers, numbers[1:], strict=False)]
    found = [max(gaps)[1]] if gaps else list(numbers)
    high = [number for number in numbers if number >= 0.8 * numbers[-1]][:1]
    return list(dict.fromkeys([*found, *high]))


# What kind of table it is


def is_texts(header: Sequence[str], held: Mapping[str, str]) -> bool:
    """Whether a table is one of texts with an id each."""
    texts = [c for c in header if held[c] == TEXT and plain(c) != "title"]
    ids = [c for c in header if held[c] in (ID, NUMBER, LABEL) and c not in texts]
    return bool(ids) and len(texts) <= 1 and bool(texts or fitting(header, TEXTS["title"]))


def is_judgements(header: Sequence[str], held: Mapping[str, str]) -> bool:
    """Whether a table names queries and documents by their ids alone."""
    return len(header) >= 2 and not any(kind in (*TEXTUAL, PICTURE) for kind in held.values())


def example(roles: Roles, values: Mapping[str, Any]) -> tuple[str, ...]:
    """A row as a reading takes it: its query, and the document that is right."""
    cells = [values.get(roles[role][0]) for role in ("anchor", "positive") if roles.get(role)]
    texts = [kinds.texts_of(cell)[0] or [str(cell)] for cell in cells]
    return tuple(" ".join(found[0].split())[:80] for found in texts)
