"""Pairs and triplets: which column is which, and what their rows say."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from ...errors import EmbkitError, unknown
from ..domain import normalise
from .draft import WHOLE, Material, key_of
from .parsing import Row, text_fault

Columns = Mapping[str, str | int | Sequence[str | int]]

NAMES = {  # what people call them; lower case, "_" for spaces and hyphens
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
ROLES = ("anchor", "positive", "negative", "score")


def choose_columns(
    header: Sequence[str], columns: Columns | None, file: str
) -> dict[str, tuple[str, ...]]:
    """Role -> the columns that play it: those that were named, or a guess if it is plain.

    Raises:
        EmbkitError: a column that is not there, or a guess that is not plain: it lists the
            columns and what to type.
    """
    if columns is not None:
        return _named(header, columns, file)
    plain = {name: re.sub(r"[\s-]+", "_", name.strip().lower()) for name in header}
    found: dict[str, tuple[str, ...]] = {}
    unclear = []
    for role, names in NAMES.items():
        fitting = [name for name in header if plain[name] in names]
        found[role] = tuple([name for name in fitting if plain[name] == role][:1] or fitting)
        if not fitting:
            unclear.append(f"none looks like the {role}")
        elif len(found[role]) > 1:
            unclear.append(f"{' and '.join(map(repr, fitting))} may each be the {role}")
    if unclear:
        raise _unclear(header, file, "; ".join(unclear), _typed(header, found))
    if scores := [name for name in header if plain[name] in SCORE]:
        typed = f"{_typed(header, found)} if every row is a right pair; "
        typed += f"{_typed(header, found | {'score': (scores[0],)})} if only those above 0 are"
        why = f"the column {scores[0]!r} may say that some pairs are wrong"
        raise _unclear(header, file, why, typed)
    negatives = tuple(name for name in header if NEGATIVE.fullmatch(plain[name]))
    return found | ({"negative": negatives} if negatives else {})


def _named(header: Sequence[str], columns: Columns, file: str) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
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
    free = [name for name in header if name not in taken]
    chosen = {}
    for role in ("anchor", "positive", "score"):
        if names := seen.get(role):
            chosen[role] = names[0]
        elif role != "score":
            chosen[role] = free.pop(0)[:40] if free else "the column's name"
    return f"columns={chosen}"


def _unclear(header: Sequence[str], file: str, why: str, typed: str) -> EmbkitError:
    listed = ", ".join(repr(name[:40]) for name in header[:20])
    return EmbkitError(
        f"{file!r} has the columns {listed}{', …' if len(header) > 20 else ''}: {why}",
        expected="one column of anchors (queries) and one of positives (the right documents)",
        hint=f"{typed} (a file without a header: columns={{'anchor': 0, 'positive': 1}})",
    )


def add_pairs(
    material: Material,
    file: str,
    header: Sequence[str],
    read: Callable[[list[str]], Iterable[Row]],
    split: str = WHOLE,
    known: Mapping[str, str] | None = None,
) -> None:
    """Adds rows of pairs or triplets: texts become documents and queries, once each.

    Args:
        material: what is added to.
        file: the file's name, for what is put aside.
        header: its columns.
        read: gives the rows, of the columns that are needed.
        split: whose rows these are.
        known: normalised text -> id of the documents that are there already.
    """
    chosen, bad = choose_columns(header, material.given, file), material.bad
    needed = [name for names in chosen.values() for name in names]
    material.columns = {role: ", ".join(names) for role, names in chosen.items()}
    if rest := [name for name in header if name not in needed]:
        material.columns["not used"] = ", ".join(rest[:20])
    (anchor,), (positive,) = chosen["anchor"], chosen["positive"]
    score = chosen.get("score", ("",))[0]

    def document_of(text: str) -> str:
        return (known.get(normalise(text)) if known else None) or _known(material, "d", text)

    for line, values, raw in read(needed):
        # the query and its right documents
        query = values.get(anchor)
        right, faults = texts_of(values.get(positive))
        fault, column = text_fault(query), anchor
        if not fault and not right:
            fault, column = (faults or ["empty text"])[0], positive
        if fault:
            bad.add(fault, file, line, raw, f"in column {column!r}")
            continue
        for fault in faults:
            bad.add(fault, file, line, raw, f"one of several in {positive!r}; rest kept")
        grade, cause = grade_of(values.get(score)) if score else (1, "")
        if grade is None:
            bad.add(cause, file, line, raw, f"{values.get(score)!r}")
            continue
        asked = _known(material, "q", query)
        material.where.setdefault(asked, (file, line))
        for document in map(document_of, right):
            if document in material.qrels.get(split, {}).get(asked, ()):
                material.merged += 1
            if not material.judge(split, asked, document, grade):
                cause = "pair with two different scores"
                bad.add(cause, file, line, raw, f"{grade} after another")
            if grade < 1:
                material.negatives[asked][document] = None
        # negatives
        for column in chosen.get("negative", ()):
            usable, faults = texts_of(values.get(column))
            for fault in faults:
                bad.add(fault, file, line, raw, f"in {column!r}; the pair is kept")
            for document in map(document_of, usable):
                material.negatives[asked][document] = None


def _known(material: Material, kind: str, text: Any) -> str:
    """The id of a query ("q") or document ("d") with this text; a new one for a new text."""
    key = key_of(kind, text)
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
