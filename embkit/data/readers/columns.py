"""Pairs and triplets: which column is which, and what their rows say."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from ...errors import EmbkitError, unknown
from ..domain import normalise
from .draft import WHOLE, Material
from .parsing import Table, text_fault

Columns = Mapping[str, str | int | Sequence[str | int]]
Roles = dict[str, tuple[str, ...]]  # role -> the columns that play it

NAMES = {  # what people call them, as ``plain`` writes them
    "anchor": (
        "anchor query question questions sentence1 sentence_1 text1 text_1 prompt instruction "
        "premise search_query request"
    ).split(),
    "positive": (
        "positive positives pos document documents doc answer answers passage passages context "
        "sentence2 sentence_2 text2 text_2 code response completion hypothesis positive_passages"
    ).split(),
}
NEGATIVE = re.compile(r"(hard_)?neg(ative)?s?(_?(passages?|documents?|\d+))?$")
SCORE = ("score", "label", "relevance", "similarity", "similarity_score")
ROLES = (*NAMES, "negative", "score")


def plain(name: str) -> str:
    """A column's name in lower case, with "_" for spaces and hyphens."""
    return re.sub(r"[\s-]+", "_", name.strip().lower())


def fitting(header: Sequence[str], names: Sequence[str]) -> list[str]:
    """The columns that bear one of some plain names, in the order of those names."""
    return [name for known in names for name in header if plain(name) == known]


def choose_columns(header: Sequence[str], columns: Columns | None, file: str) -> Roles:
    """The columns that were named, or a guess, where it is plain."""
    if columns is not None:
        return _named(header, columns, file)
    found: Roles = {}
    unclear = []
    for role, names in NAMES.items():
        fits = sorted(fitting(header, names), key=header.index)
        found[role] = tuple([name for name in fits if plain(name) == role][:1] or fits)
        if not fits:
            unclear.append(f"none looks like the {role}")
        elif len(found[role]) > 1:
            unclear.append(f"{' and '.join(map(repr, fits))} may each be the {role}")
    if unclear:
        raise _unclear(header, file, "; ".join(unclear), _typed(header, found))
    if scores := [name for name in header if plain(name) in SCORE]:
        typed = f"{_typed(header, found)} if every row is a right pair; "
        typed += f"{_typed(header, found | {'score': (scores[0],)})} if only those above 0 are"
        why = f"the column {scores[0]!r} may say that some pairs are wrong"
        raise _unclear(header, file, why, typed)
    negatives = tuple(name for name in header if NEGATIVE.fullmatch(plain(name)))
    return found | ({"negative": negatives} if negatives else {})


def _named(header: Sequence[str], columns: Columns, file: str) -> Roles:
    found: Roles = {}
    if not isinstance(columns, Mapping):
        raise _unclear(header, file, f"columns={columns!r} names no roles", _typed(header, {}))
    for role, given in columns.items():
        role = "negative" if role == "negatives" else role
        if role not in ROLES:
            raise unknown("role in columns=", role, ROLES)
        found[role] = tuple(map(str, given if isinstance(given, list | tuple) else [given]))
        for name in found[role]:
            if name not in header:
                raise unknown(f"column (for {role}, in {file!r})", name, header)
    for role in NAMES:
        if len(found.get(role, ())) != 1:
            raise _unclear(header, file, f"columns= names no {role}", _typed(header, found))
    return found


def _typed(header: Sequence[str], seen: Mapping[str, Sequence[str]]) -> str:
    """The argument to type, with the first column that is free where there is no better guess."""
    taken = {name for names in seen.values() for name in names}
    free = (name[:40] for name in header if name not in taken)
    known = {role: names[0] for role, names in seen.items() if role in (*NAMES, "score") and names}
    guessed = {role: known.get(role) or next(free, "the column's name") for role in NAMES}
    return f"columns={guessed | known}"


def _unclear(header: Sequence[str], file: str, why: str, typed: str) -> EmbkitError:
    listed = ", ".join(repr(name[:40]) for name in header[:20])
    return EmbkitError(
        f"{file!r} has the columns {listed}{', …' if len(header) > 20 else ''}: {why}",
        expected="one column of anchors (queries) and one of positives (the right documents)",
        hint=f"{typed} (a file without a header: columns={{'anchor': 0, 'positive': 1}})",
    )


def add_pairs(
    material: Material, table: Table, split: str = WHOLE, known: Mapping[str, str] | None = None
) -> None:
    """Adds rows of pairs or triplets: texts become documents and queries, once each.

    ``known`` is normalised text -> id of the documents that are there already.
    """
    header, aside = table.header, material.bad.add
    if not header:  # no row from which its columns could be known
        return
    chosen = choose_columns(header, material.given, table.file)
    needed = [name for names in chosen.values() for name in names]
    material.columns = {role: ", ".join(names) for role, names in chosen.items()}
    if rest := [name for name in header if name not in needed]:
        material.columns["not used"] = ", ".join(rest[:20])
    (anchor,), (positive,) = chosen["anchor"], chosen["positive"]
    score = chosen.get("score", ("",))[0]

    def document_of(text: str) -> str:
        return (known.get(normalise(text)) if known else None) or _known(material, "d", text)

    for row in table.read(needed):
        # the query and its right documents
        values = row.values
        right, faults = texts_of(values.get(positive))
        fault, column = text_fault(values.get(anchor)), anchor
        if not fault and not right:
            fault, column = (faults or ["empty text"])[0], positive
        if fault:
            aside(fault, row, f"in column {column!r}")
            continue
        for fault in faults:
            aside(fault, row, f"one of several in {positive!r}; rest kept")
        grade, cause = grade_of(values.get(score)) if score else (1, "")
        if grade is None:
            aside(cause, row, f"{values.get(score)!r}")
            continue
        asked = _known(material, "q", values[anchor])
        material.where.setdefault(asked, (row.file, row.line))
        for document in map(document_of, right):
            material.merged += document in material.qrels.get(split, {}).get(asked, ())
            if not material.judge(split, asked, document, grade):
                aside("pair with two different scores", row, f"{grade} after another")
            if grade < 1:
                material.negatives[asked][document] = None
        # negatives
        for column in chosen.get("negative", ()):
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


def texts_of(value: Any) -> tuple[list[str], list[str]]:
    """The usable texts of a value, one text or a list, and what is wrong with the others.

    Nothing (an empty text, a null) among the others is no fault: short rows are padded with it.
    """
    several = list(value) if isinstance(value, list | tuple) else [value]
    faults = [fault for fault in map(text_fault, several) if fault and fault != "empty text"]
    return [text for text in several if not text_fault(text)], faults


def grade_of(value: Any) -> tuple[int | None, str]:
    """A score as a whole number from 0 up, or None and the cause why it is none."""
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number):
        return None, "score that is no number"
    if number < 0:
        return None, "negative score"
    if not number.is_integer():
        return None, "score that is no whole number"
    return int(number), ""
