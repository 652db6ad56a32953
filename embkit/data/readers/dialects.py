"""Delimited text: which mark divides its fields, what its quotes mean, and its rows.

Both are found by looking at the whole file: the reading that makes most of its lines into rows of
the header's width is taken. A tab-separated file with plain quotes has one row a line.
"""

from __future__ import annotations

import contextlib
import csv
import io
import itertools
import re
from collections import Counter, deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from .rows import Line, Quarantine, lines, suffix

QUOTED_LINES = 1000  # a quoted field that spans more lines than this was never closed
DOUBLED, BACKSLASH, PLAIN = "doubled", "backslash", "plain"  # how a quote inside quotes is written
MARKS = {"\t": "tabs", ",": "commas", ";": "semicolons", "|": "bars", " ": "spaces"}
_SEP = re.compile(r"\ufeff?sep=(.)\s*$", re.IGNORECASE)


class Dialect(NamedTuple):
    """How the fields of a row are divided; a space stands for any run of spaces."""

    delimiter: str
    quotes: str = DOUBLED
    skipped: int = 0  # lines before the first row, such as a spreadsheet's ``sep=;``

    def fields(self, text: str) -> list[str] | None:
        """The fields of one record; None where its quotes do not add up."""
        if self.delimiter == " ":
            return text.split()
        marked = '"' in text or (self.quotes == BACKSLASH and "\\" in text)
        if self.quotes == PLAIN or not marked:
            return text.rstrip("\r\n").split(self.delimiter)
        old = csv.field_size_limit()
        if len(text) > old:  # the limit is the csv module's own, of 128 kB
            csv.field_size_limit(len(text))
        try:
            found = list(csv.reader(io.StringIO(text, newline=""), **self.options))
        except csv.Error:
            return None
        finally:
            csv.field_size_limit(old)
        return found[0] if len(found) == 1 else None

    @property
    def options(self) -> dict[str, Any]:
        """What the csv module's reader takes."""
        escaped = {"doublequote": False, "escapechar": "\\"} if self.quotes == BACKSLASH else {}
        return {"delimiter": self.delimiter, "strict": True, **escaped}

    def opens(self, text: str) -> bool:
        """Whether a quote is open at the end of a line."""
        if self.quotes == BACKSLASH:
            text = re.sub(r"\\.", "", text)
        return self.quotes != PLAIN and text.count('"') % 2 == 1

    def quoted(self, text: str) -> bool:
        """Whether a field begins with a quote."""
        return text.startswith('"') or f'{self.delimiter}"' in text

    @property
    def said(self) -> str:
        """What is worth saying of it."""
        told = {BACKSLASH: "quotes escaped by a backslash", PLAIN: "quotes are plain characters"}
        return f"divided by {MARKS.get(self.delimiter, self.delimiter)}" + (
            f", {told[self.quotes]}" if self.quotes in told else ""
        )


def find(path: Path, encoding: str | None) -> Dialect:
    """The dialect of a file: see the module's description."""
    whole = lambda: _sound(path, encoding)  # noqa: E731
    first = next(whole(), "")
    if named := _SEP.match(first):
        given = named[1]
        first = next((text for text in whole() if not _SEP.match(text)), "")
    marks = [given] if named else [mark for mark in "\t,;|" if mark in first]
    if suffix(path) in (".tsv", ".tab") and "\t" in marks:
        marks = ["\t"]  # what else is in a header is text
    if not marks:
        return Dialect(" " if len(first.split()) in (3, 4) else ",")
    # how many of each mark stand in a line
    counts = {mark: Counter[int]() for mark in marks}
    found = {'"': False, '\\"': False}
    for text in whole():
        for mark, counted in counts.items():
            counted[text.count(mark)] += 1
        if '"' in text:
            found['"'] = True
            found['\\"'] |= '\\"' in text
    skipped = int(bool(named))
    if not found['"']:
        alike = {mark: counts[mark][first.count(mark)] for mark in marks}
        widest = max(marks, key=lambda mark: (alike[mark], first.count(mark)))
        return Dialect(widest, skipped=skipped)
    # what the quotes mean, by what each reading makes of the lines
    ways = [DOUBLED, *([BACKSLASH] if found['\\"'] else [])]
    best, most = Dialect(marks[0], skipped=skipped), (-1.0, 0)
    for mark in marks:
        total = counts[mark].total()
        alone = counts[mark][first.count(mark)] / total  # one row a line, in plain text
        rows = _clean(path, encoding, Dialect(mark, skipped=skipped))
        if rows and (alone < 0.5 or rows == total):
            return Dialect(mark, skipped=skipped)
        plain = Dialect(mark, PLAIN, skipped)
        fits = {way: _fit(path, encoding, Dialect(mark, way, skipped)) for way in ways}
        way = max(ways, key=lambda way: fits[way].share)  # doubled where both are equal
        chosen, share = Dialect(mark, way, skipped), fits[way].share
        if fits[way].worse_than(alone, spare=0.0 if mark == "\t" else 0.1):
            chosen, share = plain, alone
        if (share, first.count(mark)) > most:
            best, most = chosen, (share, first.count(mark))
    return best


def _clean(path: Path, encoding: str | None, dialect: Dialect) -> int:
    """How many rows, where quotes add up and all rows are as wide as the first; else 0."""
    text = itertools.islice(_sound(path, encoding), dialect.skipped, None)
    try:
        widths = Counter(map(len, csv.reader(text, **dialect.options)))
    except csv.Error:
        return 0
    return widths.total() if len(widths) == 1 and min(widths) > 1 else 0


class _Fit(NamedTuple):
    """What a reading makes of a file's lines."""

    share: float  # of the lines that are in rows as wide as the header
    joined: int  # rows of several lines
    swallowed: int  # those of them whose lines are rows of that width each
    quoted: int  # rows in which a field begins with a quote
    broken: int  # those of them whose quotes do not add up

    def worse_than(self, alone: float, spare: float) -> bool:
        """Whether lines are rows by themselves, and what looks like quoting is not."""
        if 2 * self.swallowed > self.joined:
            return True
        return alone > self.share + spare or (
            alone >= self.share and spare == 0 and self.quoted <= 3 * self.broken
        )


def _fit(path: Path, encoding: str | None, dialect: Dialect) -> _Fit:
    width = good = total = joined = swallowed = quoted = broken = 0
    with contextlib.closing(Quarantine(encoding)) as unused:
        for record in records(lines(path, unused, path.name), dialect):
            fields = trimmed(record.fields or [], width)
            if not width:
                width = len(fields)
            fits = 1 < len(fields) == width
            total += record.lines
            good += fits * record.lines
            if record.lines > 1:
                joined += 1
                each = record.text.splitlines()
                swallowed += all(text.count(dialect.delimiter) == width - 1 for text in each)
            if dialect.quoted(record.text):
                quoted += not record.stray
                broken += record.stray
    return _Fit(good / max(total, 1), joined, swallowed, quoted, broken)


def _sound(path: Path, encoding: str | None) -> Iterator[str]:
    """The lines of a file that hold something and can be read."""
    with contextlib.closing(Quarantine(encoding)) as unused:
        for _, text, fault in lines(path, unused, path.name):
            if not fault and text.strip():
                yield text


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
    skip = dialect.skipped
    while first := ahead.popleft() if ahead else next(stream, None):
        line, text, fault = first
        if not text.strip():
            continue
        if skip:
            skip -= 1
            continue
        fields = dialect.fields(text)
        taken = [first]
        if fields is None and dialect.opens(text):  # the record goes on in the next lines
            while len(taken) <= QUOTED_LINES:
                if not (more := ahead.popleft() if ahead else next(stream, None)):
                    break
                taken.append(more)
                if dialect.opens(more[1]):
                    fields = dialect.fields("".join(part for _, part, _ in taken))
                    break
            if fields is None:
                ahead.extendleft(reversed(taken[1:]))
                taken = [first]
            else:
                text = "".join(part for _, part, _ in taken)
                fault = next((fault for _, _, fault in taken if fault), None)
        stray = fields is None
        if stray and dialect.delimiter == "\t":
            fields = text.rstrip("\r\n").split("\t")
        yield Record(line, fields, text, fault, len(taken), stray)
