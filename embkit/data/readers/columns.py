"""Pairs and triplets: which column is which, and what their rows say."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ...errors import EmbkitError, unknown
from ..domain import normalise
from .draft import Material, key_of
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

    Args:
        header: the file's columns.
        columns: role (anchor, positive, negative, score) -> a column or several, if named.
        file: whose, for the error.

    Raises:
        EmbkitError: a column that is not there, or a guess that is not plain: it lists the
            columns and what to type.
    """
    if columns is not None:
        return _named(header, columns, file)
    plain = {name: re.sub(r"[\s-]+", "_", name.strip().lower()) for name in header}
    found: dict[str, tuple[str, ...]] = {}
    for role, names in NAMES.items():
        fitting = [name for name in header if plain[name] in names]
        exact = [name for name in fitting if plain[name] == role]
        found[role] = tuple(exact[:1] or fitting)
    found["negative"] = tuple(name for name in header if NEGATIVE.fullmatch(plain[name]))
    scores = [name for name in header if plain[name] in SCORE]
    if any(len(found[role]) != 1 for role in ("anchor", "positive")):
        seen = {role: found[role] for role in ("anchor", "positive")}
        raise _unclear(header, file, _why(seen), _typed(header, seen))
    if scores:
        typed = {"anchor": found["anchor"], "positive": found["positive"]}
        raise _unclear(
            header,
            file,
            f"the column {scores[0]!r} may say that some pairs are wrong",
            f"{_typed(header, typed)} if every row is a right pair; "
            f"{_typed(header, typed | {'score': (scores[0],)})} if only those above 0 are",
        )
    return {role: names for role, names in found.items() if names}


def _named(header: Sequence[str], columns: Columns, file: str) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    if not isinstance(columns, Mapping):
        raise _unclear(header, file, f"columns={columns!r} names no roles", _typed(header, {}))
    for role, given in columns.items():
        role = "negative" if role == "negatives" else role
        if role not in ROLES:
            raise unknown("role in columns=", role, ROLES)
        names = tuple(given) if isinstance(given, list | tuple) else (given,)
        found[role] = tuple(str(name) for name in names)
        for name in found[role]:
            if name not in header:
                raise unknown(f"column (for {role}, in {file!r})", name, header)
    for role in ("anchor", "positive"):
        if len(found.get(role, ())) != 1:
            raise _unclear(header, file, f"columns= names no {role}", _typed(header, found))
    return found


def _why(seen: Mapping[str, Sequence[str]]) -> str:
    said = []
    for role, names in seen.items():
        if not names:
            said.append(f"none looks like the {role}")
        elif len(names) > 1:
            said.append(f"{' and '.join(map(repr, names))} may each be the {role}")
    return "; ".join(said)


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


def say_columns(
    material: Material, header: Iterable[str], chosen: Mapping[str, tuple[str, ...]]
) -> None:
    """Keeps which column was taken for what, and which were left, for the report."""
    material.columns = {role: ", ".join(names) for role, names in chosen.items()}
    used = {name for names in chosen.values() for name in names}
    if rest := [name for name in header if name not in used]:
        material.columns["not used"] = ", ".join(rest[:20])


def add_pairs(
    material: Material,
    rows: Iterable[Row],
    chosen: Mapping[str, Sequence[str]],
    split: str,
    file: str,
    known: Mapping[str, str] | None = None,
) -> None:
    """Adds rows of pairs or triplets: texts become documents and queries, once each.

    Args:
        material: what is added to.
        rows: line, column -> value, the row as it stood.
        chosen: role -> columns.
        split: whose rows these are; ``""`` if none was given.
        file: the file's name, for what is put aside.
        known: normalised text -> id of the documents that are there already.
    """
    (anchor,), (positive,) = chosen["anchor"], chosen["positive"]
    score = chosen.get("score", ("",))[0]
    for line, values, raw in rows:
        query = values.get(anchor)
        right, faults = texts_of(values.get(positive))
        fault, column = text_fault(query), anchor
        if not fault and not right:
            fault, column = (faults or ["empty text"])[0], positive
        if fault or not isinstance(query, str):
            assert fault
            material.bad.add(fault, file, line, raw, f"in column {column!r}")
            continue
        for fault in faults:
            material.bad.add(fault, file, line, raw, f"one of several in {positive!r}; rest kept")
        grade, cause = grade_of(values.get(score)) if score else (1, "")
        if grade is None:
            material.bad.add(cause, file, line, raw, f"{values.get(score)!r}")
            continue
        asked = _known(material, "q", query)
        material.where.setdefault(asked, (file, line))
        for text in right:
            document = known.get(normalise(text)) if known else None
            document = document or _known(material, "d", text)
            if document in material.qrels.get(split, {}).get(asked, ()):
                material.merged += 1
            if not material.judge(split, asked, document, grade):
                cause = "pair with two different scores"
                material.bad.add(cause, file, line, raw, f"{grade} after another")
            if grade < 1:
                material.negatives[asked][document] = None
        for column in chosen.get("negative", ()):
            usable, faults = texts_of(values.get(column))
            for fault in faults:
                material.bad.add(fault, file, line, raw, f"in {column!r}; the pair is kept")
            for text in usable:
                document = known.get(normalise(text)) if known else None
                material.negatives[asked][document or _known(material, "d", text)] = None


def _known(material: Material, kind: str, text: str) -> str:
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
    faults = [fault for text in several if (fault := text_fault(text)) not in (None, "empty text")]
    return [text for text in several if not text_fault(text)], [f for f in faults if f]


def grade_of(value: Any) -> tuple[int | None, str]:
    """A score as a whole number from 0 up, or None and the cause why it is none."""
    try:
        number = float(value) if not isinstance(value, bool) else float(int(value))
    except (TypeError, ValueError):
        return None, "score that is no number"
    if number != number or number in (float("inf"), float("-inf")):
        return None, "score that is no number"
    if number < 0:
        return None, "negative score"
    if number != int(number):
        return None, "score that is no whole number"
    return int(number), ""
