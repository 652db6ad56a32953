"""Rows of files that people made, read one at a time; bad ones are put aside with a cause.

Only a file that cannot be opened at all is an error.
"""

from __future__ import annotations

import contextlib
import csv
import gzip
import io
import itertools
import json
import shutil
import tempfile
import zlib
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from ...errors import EmbkitError
from ...files import write_atomic

RAW_LIMIT = 2000  # characters of a bad row that the quarantine file keeps
QUOTED_LINES = 1000  # a quoted field that spans more lines than this was never closed
EXAMPLES = 8  # bad rows that a report shows
DELIMITERS = {".csv": None, ".tsv": "\t", ".tab": "\t"}  # None: the one that divides the first row
PARQUET = (".parquet", ".pq")
KINDS = (*DELIMITERS, ".jsonl", ".ndjson", ".json", *PARQUET)
AT_ONCE = 1000  # rows of a Parquet file or a data set

Line = tuple[int, str, str | None]  # line (from 1), text, what is wrong with its bytes
Record = tuple[int, list[str], str]  # line, fields, the row as it stood


class Row(NamedTuple):
    """A row of a file: lines count from 1; of Parquet and data sets they are rows."""

    file: str  # as the report names it
    line: int
    values: dict[str, Any]  # column -> value
    raw: Any  # the row as it stood


class Table(NamedTuple):
    """Rows with the names of their columns, whatever they lie in."""

    file: str
    header: list[str]
    read: Callable[[Sequence[str]], Iterable[Row]]  # columns -> rows with them, and maybe more


class Quarantine:
    """Rows read, counted by file; bad rows, counted by cause and kept on disk, not in memory."""

    def __init__(self, encoding: str | None = None) -> None:
        self.encoding = encoding  # of text files; None: found out from their first bytes
        self.rows: Counter[str] = Counter()
        self.causes: Counter[str] = Counter()
        self.examples: list[dict[str, Any]] = []
        self._spool = tempfile.TemporaryFile()
        self.close = self._spool.close

    def add(self, cause: str, row: Row, detail: str = "") -> None:
        """Puts a row aside; a byte that could not be decoded is kept as ``\\udce9``."""
        self.causes[cause] += 1
        raw = row.raw
        text = raw if isinstance(raw, str) else json.dumps(raw, ensure_ascii=False, default=str)
        text = text[: RAW_LIMIT + 2].rstrip("\r\n").encode("utf-8", "backslashreplace").decode()
        reason = f"{cause}: {detail}" if detail else cause
        record = {"file": row.file, "line": row.line, "cause": cause, "reason": reason}
        record["raw"] = text[:RAW_LIMIT]
        if len(self.examples) < EXAMPLES and self.causes[cause] <= 2:
            self.examples.append(record)
        self._spool.write(json.dumps(record, ensure_ascii=False).encode() + b"\n")

    def save(self, path: Path) -> Path | None:
        """The file with all bad rows, whole or not at all; none where there is no bad row."""
        if not self.causes:
            path.unlink(missing_ok=True)  # of an earlier load, before the rows were mended
            return None
        self._spool.seek(0)
        return write_atomic(path, lambda stream: shutil.copyfileobj(self._spool, stream))


def causes_of(counted: Mapping[str, int]) -> str:
    """Why rows were put aside, the most frequent cause first."""
    return ", ".join(f"{n:,} × {cause}" for cause, n in Counter(counted).most_common())


def text_fault(value: Any) -> str | None:
    """Why a value cannot be used as text; None if it can."""
    if not isinstance(value, str):  # NaN is how a table says nothing
        return "empty text" if value is None or value != value else "text that is no text"
    if not value.strip():
        return "empty text"
    if "\0" in value:
        return "NUL byte"
    return None if is_unicode(value) else "text that is no Unicode (a lone surrogate)"


def is_unicode(text: str) -> bool:
    """Whether a text can be written as UTF-8: neither undecodable bytes nor half a pair."""
    try:
        return text.isascii() or bool(text.encode())
    except UnicodeEncodeError:
        return False


def as_id(value: Any) -> str | None:
    """An id as text: whole numbers become text, spaces around it go; None if it is none."""
    if isinstance(value, int | float) and not isinstance(value, bool) and value == value // 1:
        return str(int(value))
    return None if text_fault(value) else value.strip()


def json_rows(path: Path, bad: Quarantine) -> Iterator[Row]:
    """The objects of a file with one JSON object a line; blank lines are passed over."""
    file = path.name
    for line, text, fault in _lines(path, bad, file):
        if not text.strip():
            continue
        bad.rows[file] += 1
        detail, values = "", None
        if not fault:
            try:
                values = json.loads(text)
                fault, detail = "JSON that is no object", type(values).__name__
            except (ValueError, RecursionError) as error:
                fault, detail = "malformed JSON", str(error)
        if isinstance(values, dict):
            yield Row(file, line, values, text)
        else:
            bad.add(str(fault), Row(file, line, {}, text), detail)


def table_rows(path: Path, bad: Quarantine, delimiter: str | None, file: str) -> Iterator[Record]:
    """The records of a CSV or TSV file as lists of fields, the header among them.

    A quote that is never closed costs its own line and no more; in a tab-separated file it is read
    as a plain character.
    """
    stream = _lines(path, bad, file)
    ahead: deque[Line] = deque()  # lines that a quote took in and gave back
    while first := ahead.popleft() if ahead else next(stream, None):
        line, text, fault = first
        if not text.strip():
            continue
        if delimiter is None:
            delimiter = max(",;\t|", key=lambda mark: len(_fields(text, mark) or ()))
        fields = _fields(text, delimiter)
        if fields is None and text.count('"') % 2:  # the record goes on in the next lines
            taken = [first]
            while len(taken) <= QUOTED_LINES:
                if not (more := ahead.popleft() if ahead else next(stream, None)):
                    break
                taken.append(more)
                if more[1].count('"') % 2:
                    fields = _fields("".join(t for _, t, _ in taken), delimiter)
                    break
            if fields is None:
                ahead.extendleft(reversed(taken[1:]))
            else:
                text = "".join(t for _, t, _ in taken)
                fault = next((f for _, _, f in taken if f), None)
        if fields is None and delimiter == "\t":
            fields = text.rstrip("\r\n").split("\t")
        bad.rows[file] += 1
        if fault or fields is None:
            bad.add(fault or "quote that is never closed", Row(file, line, {}, text))
        else:
            yield line, fields, text


def _fields(text: str, delimiter: str) -> list[str] | None:
    """The fields of one record; None where its quotes do not add up."""
    old = csv.field_size_limit()
    if len(text) > old:  # the limit is the csv module's own, of 128 kB
        csv.field_size_limit(len(text))
    try:
        found = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True))
    except csv.Error:
        return None
    finally:
        csv.field_size_limit(old)
    return found[0] if len(found) == 1 else None


def table(path: Path, bad: Quarantine, numbered: bool = False) -> Table:
    """A CSV, TSV or Parquet file, or one with a JSON object a line.

    ``numbered``: the first row of a CSV or TSV file is no header, its columns are "0", "1", …
    """
    kind, file = suffix(path), path.name
    if kind in PARQUET:
        return _parquet(path, bad)
    if kind in DELIMITERS:
        records = table_rows(path, bad, DELIMITERS[kind], file)
        if (first := next(records, None)) is None:
            raise EmbkitError(
                f"{file!r} is empty: it holds no row",
                expected="a header and rows",
                hint="check that it was written whole",
            )
        header = [str(n) for n in range(len(first[1]))] if numbered else _header(first[1])
        bad.rows[file] -= not numbered
        records = itertools.chain([first] * numbered, records)
        return Table(file, header, lambda names: _named(records, header, file, bad))
    rows = json_rows(path, bad)
    some = list(itertools.islice(rows, 20))
    header = list(dict.fromkeys(name for row in some for name in row.values))
    return Table(file, header, lambda names: itertools.chain(some, rows))


def _header(fields: Iterable[str]) -> list[str]:
    """Names of columns, each of its own: a name that stands twice is counted."""
    header: list[str] = []
    for name in map(str.strip, fields):
        header.append(name if name not in header else f"{name}_{header.count(name) + 1}")
    return header


def _named(
    records: Iterable[Record], header: Sequence[str], file: str, bad: Quarantine
) -> Iterator[Row]:
    """Lists of fields as column -> value; a row of another length than the header is put aside."""
    for line, fields, text in records:
        while len(fields) > len(header) and not fields[-1].strip():
            fields = fields[:-1]  # a delimiter at the end of the line
        if len(fields) != len(header):
            kind = "too few columns" if len(fields) < len(header) else "too many columns"
            detail = f"{len(fields)} where the header has {len(header)}"
            bad.add(kind, Row(file, line, {}, text), detail)
        else:
            yield Row(file, line, dict(zip(header, fields, strict=True)), text)


def _parquet(path: Path, bad: Quarantine) -> Table:
    import pyarrow as pa
    import pyarrow.parquet as pq

    def read(names: Sequence[str]) -> Iterator[Row]:
        with _readable(path, OSError, pa.ArrowException), pq.ParquetFile(path) as file:
            batches = file.iter_batches(batch_size=AT_ONCE, columns=list(names))
            yield from _arrow_rows(batches, path.name, bad)

    with _readable(path, OSError, pa.ArrowException):
        return Table(path.name, list(pq.read_schema(path).names), read)


def dataset_table(data: Any, file: str, bad: Quarantine) -> Table:
    """A ``datasets.Dataset`` as it is stored: a picture is its bytes or the name of its file."""

    def read(names: Sequence[str]) -> Iterator[Row]:
        there = [name for name in names if name in data.column_names]
        batches = data.with_format("arrow").select_columns(there).iter(batch_size=AT_ONCE)
        return _arrow_rows(batches, file, bad)

    return Table(file, data.column_names, read)


def _arrow_rows(batches: Iterable[Any], file: str, bad: Quarantine) -> Iterator[Row]:
    for batch in batches:
        for values in batch.to_pylist():
            bad.rows[file] += 1
            yield Row(file, bad.rows[file], values, values)


def suffix(path: Path) -> str:
    """The file's kind: its suffix, with ``.gz`` looked through."""
    kinds = [part.lower() for part in path.suffixes]
    return (kinds[-2] if len(kinds) > 1 else "") if kinds[-1:] == [".gz"] else "".join(kinds[-1:])


def _lines(path: Path, bad: Quarantine, file: str) -> Iterator[Line]:
    """A file's lines, each with what is wrong with its bytes. A lone CR ends a line too."""
    line = 0
    with _readable(path, OSError):
        try:
            with _open(path, bad.encoding) as stream:
                replaced = stream.errors == "replace"
                known = bad.encoding or ("UTF-16" if replaced else "UTF-8")
                for line, text in enumerate(stream, 1):
                    text = text.lstrip("\ufeff")  # files with a BOM, put one behind the other
                    fault = None
                    if "\0" in text:
                        fault = "NUL byte"
                    elif not is_unicode(text) or (replaced and "\ufffd" in text):
                        fault = f"not {known} (another encoding?)"
                    yield line, text, fault
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            here = Row(file, line + 1, {}, str(error))
            bad.add("compressed file damaged or cut off from here on", here)


def _open(path: Path, encoding: str | None) -> TextIO:
    binary: Any = gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb")
    try:
        found = encoding or _encoding(binary.peek(4096)[:4096])
        errors = "replace" if found.lower().startswith(("utf-16", "utf-32")) else "surrogateescape"
        return io.TextIOWrapper(binary, found, errors, newline="")
    except BaseException as error:
        binary.close()
        if not isinstance(error, LookupError):
            raise
        raise EmbkitError(
            f"encoding={encoding!r}",
            expected="the name of an encoding that Python knows",
            hint="encoding='cp1252' for Western European text, 'utf-16', 'gb18030', 'shift_jis'",
        ) from error


def _encoding(head: bytes) -> str:
    """UTF-8, unless the first bytes are those of UTF-16 or UTF-32."""
    if head.startswith((b"\xff\xfe\0\0", b"\0\0\xfe\xff")):
        return "utf-32"
    if head.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "utf-16"
    even, odd = head[::2].count(0), head[1::2].count(0)
    if len(head) > 3 and max(even, odd) > 0.3 * len(head) / 2 and min(even, odd) < len(head) / 20:
        return "utf-16-le" if odd > even else "utf-16-be"
    return "utf-8-sig"


@contextlib.contextmanager
def _readable(path: Path, *errors: type[Exception]) -> Iterator[None]:
    try:
        yield
    except errors as error:
        why = str(getattr(error, "strerror", None) or error).splitlines() or [type(error).__name__]
        raise EmbkitError(
            f"{path.name!r} cannot be read: {why[0]}",
            expected="a whole file that you may read",
            hint="open it with the program that made it, and save it again",
        ) from error
