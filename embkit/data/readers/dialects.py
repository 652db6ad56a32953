"""Delimited text: which mark divides its fields, what its quotes mean, and its rows.

Both are found by looking at the whole file: the reading that makes most of its lines into rows of
the header's width is taken. A tab-separated file with plain quotes has one row a line.
"""

import csv
import itertools
import re
from collections import deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from .rows import Line, Quarantine, is_numbered, lines, suffix

QUOTED_LINES = 1000  # a quoted field that spans more lines than this was never closed
csv.field_size_limit(2**31 - 1)  # its own is 128 kB
DOUBLED, BACKSLASH, PLAIN = "doubled", "backslash", "plain"  # how a quote inside quotes is written
MARKS = {"\t": "tabs", ",": "commas", ";": "semicolons", "|": "bars", " ": "spaces"}
_SEP = re.compile(r"\ufeff?sep=(.)\s*$", re.IGNORECASE)
_NUMBER = re.compile(r"[+-]?\d+([.,]\d+)?$")
_ID = re.compile(r"([^\s\d]+)\d\S*$")
LONGEST, WORDS = 60, 6  # characters and words that a column's name has at most


class Dialect(NamedTuple):
    """How the fields of a row are divided; a space stands for any run of spaces."""

    delimiter: str
    quotes: str = DOUBLED
    skipped: int = 0  # lines before the first row, such as a spreadsheet's ``sep=;``

    def fields(self, text: str) -> list[str] | None:
        """The fields of one record; None where its quotes do not add up."""
        if self.delimiter == " ":
            return text.split()
        if self.quotes == PLAIN or not ('"' in text or "\\" in text):
            return text.rstrip("\r\n").split(self.delimiter)
        how: Any = {"doublequote": False, "escapechar": "\\"} if self.quotes == BACKSLASH else {}
        try:
            (found,) = csv.reader([text], delimiter=self.delimiter, strict=True, **how)
        except (csv.Error, ValueError):  # ValueError: not one record
            return None
        return found

    def opens(self, text: str) -> bool:
        """Whether a quote is open at the end of a line."""
        if self.quotes == BACKSLASH:
            text = re.sub(r"\\.", "", text)
        return self.quotes != PLAIN and text.count('"') % 2 == 1

    @property
    def said(self) -> str:
        """What is worth saying of it."""
        told = {BACKSLASH: "quotes escaped by a backslash", PLAIN: "quotes are plain characters"}
        return f"divided by {MARKS.get(self.delimiter, self.delimiter)}" + (
            f", {told[self.quotes]}" if self.quotes in told else ""
        )


def find(path: Path, encoding: str | None) -> Dialect:
    """The dialect of a file: see the module's description."""
    read = lines(path, Quarantine(encoding, kept=False), path.name)
    sound = (text for _, text, fault in read if not fault and text.strip())
    first, second = itertools.islice(itertools.chain(sound, ("", "")), 2)
    named = _SEP.match(first)
    first, skipped = (second, 1) if named else (first, 0)
    marks = [named[1]] if named else [mark for mark in "\t,;|" if mark in first]
    if suffix(path) in (".tsv", ".tab") and "\t" in marks:
        marks = ["\t"]  # what else is in a header is text
    if not marks:
        return Dialect(" " if len(first.split()) in (3, 4) else ",")
    best, most = Dialect(marks[0], skipped=skipped), (-1.0, 0)
    for mark, quotes in itertools.product(marks, (DOUBLED, BACKSLASH, PLAIN)):
        if best.delimiter != mark or most[0] < 1:
            dialect = Dialect(mark, quotes, skipped)
            found = _fit(path, encoding, dialect), first.count(mark)
            best, most = (dialect, found) if found > most else (best, most)
    return best


def _fit(path: Path, encoding: str | None, dialect: Dialect) -> float:
    """The share of a file's lines that are in rows as wide as the header, as a dialect reads them;
    less where quotes seem to be plain characters, or plain characters (but in tabs) quotes."""
    total = good = width = 0  # lines; in rows of that width; fields of the first row
    joined = swallowed = 0  # lines in rows of several; those that are rows of that width each
    quoted = broken = 0  # rows in which a field begins with a quote; whose quotes do not add up
    read = lines(path, Quarantine(encoding, kept=False), path.name)
    for _, found, text, _, spanned, stray in records(read, dialect):
        fields = trimmed(found or [], width)
        width = width or len(fields)
        total += spanned
        good += spanned * (1 < len(fields) == width)
        if spanned > 1:
            joined += spanned
            counts = {part.count(dialect.delimiter) for part in text.splitlines()}
            swallowed += spanned * (counts == {width - 1})
        if text.startswith('"') or f'{dialect.delimiter}"' in text:  # a field begins with one
            quoted += not stray
            broken += stray
    tabs = dialect.delimiter == "\t"
    odd = not tabs if dialect.quotes == PLAIN else 2 * swallowed > joined
    good -= swallowed + broken * (tabs and quoted <= 3 * broken)
    return good / max(total, 1) - 0.1 * odd


def trimmed(fields: list[str], width: int) -> list[str]:
    """A row's fields without the empty ones that delimiters at the end of its line make."""
    while width and len(fields) > width and not fields[-1].strip():
        fields = fields[:-1]
    return fields


class Record(NamedTuple):
    """The fields of a row; where its quotes do not add up, none or (with tabs) its plain parts."""

    line: int
    fields: list[str] | None
    text: str  # as it stood
    fault: str | None  # what is wrong with its bytes
    lines: int  # that it goes over
    stray: bool  # whether its quotes do not add up


def records(stream: Iterator[Line], dialect: Dialect) -> Iterator[Record]:
    """The rows of a file. A quote that is never closed costs its own line and no more."""
    ahead: deque[Line] = deque()  # lines that a quote took in and gave back
    following = lambda: ahead.popleft() if ahead else next(stream, None)  # noqa: E731
    skip = dialect.skipped
    while first := following():
        taken, text = [first], first[1]
        if not text.strip():
            continue
        if skip:
            skip -= 1
            continue
        fields = dialect.fields(text)
        if fields is None and dialect.opens(text):  # the record goes on in the next lines
            while len(taken) <= QUOTED_LINES and (more := following()):
                taken.append(more)
                if dialect.opens(more[1]):
                    fields = dialect.fields("".join(part for _, part, _ in taken))
                    break
            if fields is None:
                ahead.extendleft(reversed(taken[1:]))
                taken = [first]
        text = "".join(part for _, part, _ in taken)
        fault = next((fault for _, _, fault in taken if fault), None)
        stray = fields is None
        if stray and dialect.delimiter == "\t":
            fields = text.rstrip("\r\n").split("\t")
        yield Record(first[0], fields, text, fault, len(taken), stray)


def is_header(first: Sequence[str], others: Sequence[Sequence[str]]) -> bool:
    """Whether the first row of a table reads like names of columns, and not like its other rows."""
    cells = [cell.strip() for cell in first]
    if is_numbered(cells):
        return len(cells) > 1  # as pandas names columns without names
    for place, cell in enumerate(cells):
        if _NUMBER.match(cell) or len(cell) > LONGEST or len(cell.split()) > WORDS:
            return False
        below = [row[place].strip() for row in others[:100] if len(row) > place]
        if cell and len(below) > 3 and below.count(cell) > len(below) / 10:
            return False  # a value that comes back
        kind = _ID.match(cell)
        ids = [x for x in below if kind and x.startswith(kind[1]) and _ID.match(x)]
        if len(ids) > len(below) / 2:
            return False  # an id above ids
    return True
