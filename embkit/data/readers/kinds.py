"""What a column holds, by its content: texts, ids, labels, scores, numbers, pictures, vectors."""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from ...files import told_by
from ..images import SUFFIXES
from ..text_checks import EMPTY, ids
from .rows import Quarantine, Row, text_fault

TEXT, PASSAGE, CATEGORY = "texts", "passages", "a few short texts"
ID, LABEL, SCORE, NUMBER = "ids", "labels", "scores", "whole numbers"
PICTURE, OTHER, NOTHING = "pictures", "something else", "nothing"
TEXTUAL = (TEXT, PASSAGE, CATEGORY)
FEW = 7  # distinct values that labels have at most
TOLD = told_by(__file__, "shapes.toml")
RIGHT_WORDS, WRONG_WORDS, UNSURE_WORDS = (
    TOLD["words"][name].split() for name in ("right", "wrong", "unsure")
)
_WORDS = {*RIGHT_WORDS, *WRONG_WORDS, *UNSURE_WORDS}
_TEXT_NAMES = TOLD["texts"]["text"].split()
_COMMA = re.compile(r"^([+-]?\d+),(\d{1,2})$")


def plain(name: str) -> str:
    """A column's name in lower case, with "_" for spaces, hyphens and signs."""
    return re.sub(r"[^\w.]+", "_", name.strip().lower()).strip("_")


def number_of(value: Any) -> float | None:
    """A value as a number, if it is one; a Boolean is 1 or 0, ``80%`` is 80 and ``3,65`` 3.65."""
    if isinstance(value, bool | int | float):
        return float(value) if value == value else None
    if not isinstance(value, str):
        return None
    text = _COMMA.sub(r"\1.\2", value.strip().removesuffix("%"))
    try:
        return float(text)
    except ValueError:
        return None


def word_of(value: Any) -> str:
    """A label as one plain word: ``Not relevant`` is ``not_relevant``, ``1.0`` is ``1``.

    Several people's labels, in a list, are the one that they agree on, or ``mixed``.
    """
    if isinstance(value, list | tuple):
        words = {word_of(one) for one in value if one is not None}
        return words.pop() if len(words) == 1 else "mixed"
    number = number_of(value)
    if number is not None and number == number // 1:
        return str(int(number))
    return plain(str(value)) or str(value).strip()


def text_of(value: Any) -> Any:
    """The text of a passage that is an object: its title and text with a space between them."""
    if isinstance(value, dict):
        there = (value[name] for name in _TEXT_NAMES if isinstance(value.get(name), str))
        found = next(there, None)
        title = value.get("title")
        if found is None:
            return title if isinstance(title, str) else value
        return f"{title} {found}" if isinstance(title, str) and title.strip() else found
    return value


def kind_of(values: Iterable[Any]) -> str:
    """What a column holds, by its first values."""
    there = [v for v in values if v is not None and v == v and v != "" and v != []]
    there = [v for v in there if not isinstance(v, str) or v.strip() not in EMPTY]
    if not there:
        return NOTHING
    if all(isinstance(value, list | tuple) for value in there):
        there = [part for value in there for part in value if part is not None]
        if not there:
            return NOTHING
        if all(isinstance(part, bool | int | float) for part in there):
            return OTHER
    if all(isinstance(value, dict) and isinstance(text_of(value), str) for value in there):
        return PASSAGE
    numbers = [n for n in map(number_of, there) if n is not None]
    distinct = {word_of(value) for value in there if not isinstance(value, dict | list)}
    if len(numbers) >= 0.95 * len(there):
        if any(number != number // 1 for number in numbers):
            return SCORE
        repeated = len(distinct) < len(numbers) or len(numbers) < 3
        few = repeated and len(distinct) <= FEW and min(numbers) >= -1 and max(numbers) <= 10
        return LABEL if few else NUMBER
    texts = [value for value in there if isinstance(value, str)]
    if len(texts) < 0.5 * len(there):
        return OTHER
    if len(distinct) <= FEW and distinct <= _WORDS:
        return LABEL
    if len(distinct) <= min(FEW, len(texts) / 4) and all(len(t.split()) <= 3 for t in texts):
        return CATEGORY
    files = [text.strip().lower().split("#")[0].endswith(tuple(SUFFIXES)) for text in texts]
    if sum(files) > 0.9 * len(texts):
        return PICTURE
    return ID if ids(texts, least=1) else TEXT


def texts_of(value: Any) -> tuple[list[str], list[str]]:
    """The usable texts of a value, one text or a list, and what is wrong with the others.

    Nothing (an empty text, a null) among the others is no fault: short rows are padded with it.
    A passage that is an object gives its title and its text.
    """
    several = list(value) if isinstance(value, list | tuple) else [value]
    found = list(map(text_of, several))
    faults = [fault for fault in map(text_fault, found) if fault and fault != "empty text"]
    return [text for text in found if not text_fault(text)], faults


@dataclass(frozen=True)
class Table:
    """Rows with the names of their columns, whatever they lie in; they can be read again."""

    file: str  # as reports name it
    header: list[str]
    rows: Callable[[Quarantine], Iterator[Row]]  # reads from the beginning
    some: list[Row]  # the first ones
    how: str | None = None  # how delimited text was taken apart; empty where that is plain

    @cached_property
    def held(self) -> dict[str, str]:
        """Column -> what it holds, by the first rows."""
        return {c: kind_of(row.values.get(c) for row in self.some) for c in self.header}

    def values(self, column: str) -> list[Any]:
        """What stands in a column of the first rows."""
        return [v for row in self.some if (v := row.values.get(column)) not in (None, "")]
