"""Rows of files that people made, read one at a time; bad ones are put aside with a cause.

Only a file that cannot be opened at all is an error.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import shutil
import tempfile
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, TextIO

from ...errors import EmbkitError
from ...files import write_atomic

RAW_LIMIT = 2000  # characters of a bad row that the quarantine file keeps
QUOTED_LINES = 1000  # a quoted field that spans more lines than this was never closed
EXAMPLES = 8  # bad rows that a report shows
TEXT_SUFFIXES = (".csv", ".tsv", ".tab", ".jsonl", ".ndjson", ".json")

Line = tuple[int, str, str | None]  # line (from 1), text, what is wrong with its bytes
Record = tuple[int, list[str], str]  # line, fields, the row as it stood
Row = tuple[int, dict[str, Any], Any]  # line (from 1), column -> value, the row as it stood


@dataclass
class Quarantine:
    """Rows read, counted by file; bad rows, counted by cause and kept on disk, not in memory."""

    rows: Counter[str] = field(default_factory=Counter)
    causes: Counter[str] = field(default_factory=Counter)
    examples: list[dict[str, Any]] = field(default_factory=list)
    _spool: BinaryIO = field(
        default_factory=lambda: tempfile.SpooledTemporaryFile(max_size=1 << 22)  # type: ignore
    )

    def add(self, cause: str, file: str, line: int, raw: Any, detail: str = "") -> None:
        """Puts a row aside: lines count from 1, of a Parquet file or a data set they are rows.

        A byte that could not be decoded is kept as ``\\udce9``.
        """
        self.causes[cause] += 1
        text = raw if isinstance(raw, str) else json.dumps(raw, ensure_ascii=False, default=str)
        text = text[: RAW_LIMIT + 2].rstrip("\r\n").encode("utf-8", "backslashreplace").decode()
        record = {
            "file": file,
            "line": line,
            "cause": cause,
            "reason": f"{cause}: {detail}" if detail else cause,
            "raw": text[:RAW_LIMIT],
        }
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

    def close(self) -> None:
        """Gives back the temporary file."""
        self._spool.close()


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


def json_rows(path: Path, bad: Quarantine, encoding: str | None = None) -> Iterator[Row]:
    """The objects of a file with one JSON object a line; blank lines are passed over."""
    file = path.name
    for line, text, fault in _lines(path, bad, encoding, None, file):
        if not text.strip():
            continue
        bad.rows[file] += 1
        if fault:
            bad.add(fault, file, line, text)
            continue
        try:
            values = json.loads(text)
        except (ValueError, RecursionError) as error:
            bad.add("malformed JSON", file, line, text, str(error))
            continue
        if isinstance(values, dict):
            yield line, values, text
        else:
            bad.add("JSON that is no object", file, line, text, type(values).__name__)


def table_rows(
    path: Path,
    bad: Quarantine,
    encoding: str | None = None,
    delimiter: str | None = None,
    file: str | None = None,
) -> Iterator[Record]:
    """The records of a CSV or TSV file as lists of fields, the header among them.

    A quote that is never closed costs its own line and no more; in a tab-separated file it is read
    as a plain character.
    """
    file = file or path.name
    stream = _lines(path, bad, encoding, "", file)
    ahead: list[Line] = []  # lines that a quote took in and gave back

    def following() -> Line | None:
        return ahead.pop(0) if ahead else next(stream, None)

    while first := following():
        line, text, fault = first
        if not text.strip():
            continue
        if delimiter is None:
            delimiter = max(",;\t|", key=lambda mark: len(_fields(text, mark) or ()))
        fields = _fields(text, delimiter)
        if fields is None and text.count('"') % 2:  # the record goes on in the next lines
            taken: list[Line] = []
            while len(taken) < QUOTED_LINES and (more := following()):
                taken.append(more)
                if more[1].count('"') % 2:
                    fields = _fields("".join(t for _, t, _ in (first, *taken)), delimiter)
                    break
            if fields is None:
                ahead[:0] = taken
            else:
                text += "".join(t for _, t, _ in taken)
                fault = next((f for _, _, f in (first, *taken) if f), None)
        if fields is None and delimiter == "\t":
            fields = text.rstrip("\r\n").split("\t")
        bad.rows[file] += 1
        if fault or fields is None:
            bad.add(fault or "quote that is never closed", file, line, text)
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


def named_rows(
    rows: Iterable[Record], header: Sequence[str], file: str, bad: Quarantine
) -> Iterator[Row]:
    """Lists of fields as column -> value; a row of another length than the header is put aside."""
    for line, fields, text in rows:
        while len(fields) > len(header) and not fields[-1].strip():
            fields = fields[:-1]  # a delimiter at the end of the line
        if len(fields) != len(header):
            kind = "too few columns" if len(fields) < len(header) else "too many columns"
            bad.add(kind, file, line, text, f"{len(fields)} where the header has {len(header)}")
        else:
            yield line, dict(zip(header, fields, strict=True)), text


def parquet_rows(path: Path, bad: Quarantine, columns: Sequence[str]) -> Iterator[Row]:
    """The rows of a Parquet file, a thousand at a time; only the columns that are asked for."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=1000, columns=list(columns)):
                for values in batch.to_pylist():
                    bad.rows[path.name] += 1
                    yield bad.rows[path.name], values, values
    except (OSError, pa.ArrowException) as error:
        raise _unreadable(path, error) from error


def parquet_columns(path: Path) -> list[str]:
    """The names of a Parquet file's columns."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return list(pq.read_schema(path).names)
    except (OSError, pa.ArrowException) as error:
        raise _unreadable(path, error) from error


def dataset_rows(data: Any, columns: Sequence[str], file: str, bad: Quarantine) -> Iterator[Row]:
    """The rows of a ``datasets.Dataset``; of the columns that are asked for, those it has."""
    names = [name for name in columns if name in data.column_names]
    for batch in data.with_format(None).select_columns(names).iter(batch_size=1000):
        for values in zip(*(batch[name] for name in names), strict=True):
            bad.rows[file] += 1
            named = dict(zip(names, values, strict=True))
            yield bad.rows[file], named, named


def suffix(path: Path) -> str:
    """The file's kind: its suffix, with ``.gz`` looked through."""
    kinds = [part.lower() for part in path.suffixes]
    return (kinds[-2] if len(kinds) > 1 else "") if kinds[-1:] == [".gz"] else "".join(kinds[-1:])


def _lines(
    path: Path, bad: Quarantine, encoding: str | None, newline: str | None, file: str
) -> Iterator[Line]:
    """A file's lines, each with what is wrong with its bytes. A lone CR ends a line too."""
    line = 0
    try:
        with _open(path, encoding, newline) as stream:
            replaced = stream.errors == "replace"
            known = encoding or ("UTF-16" if replaced else "UTF-8")
            for text in stream:
                line += 1
                text = text.lstrip("\ufeff")  # files with a BOM, put one behind the other
                fault = None
                if "\0" in text:
                    fault = "NUL byte"
                elif not is_unicode(text) or (replaced and "\ufffd" in text):
                    fault = f"not {known} (another encoding?)"
                yield line, text, fault
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        cause = "compressed file damaged or cut off from here on"
        bad.add(cause, file, line + 1, str(error))
    except OSError as error:
        raise _unreadable(path, error) from error


def _open(path: Path, encoding: str | None, newline: str | None) -> TextIO:
    binary: Any = gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb")
    try:
        found = encoding or _encoding(binary.peek(4096)[:4096])
        errors = "replace" if found.lower().startswith(("utf-16", "utf-32")) else "surrogateescape"
        return io.TextIOWrapper(binary, found, errors, newline)
    except LookupError as error:
        binary.close()
        raise EmbkitError(
            f"encoding={encoding!r}",
            expected="the name of an encoding that Python knows",
            hint="encoding='cp1252' for Western European text, 'utf-16', 'gb18030', 'shift_jis'",
        ) from error
    except BaseException:
        binary.close()
        raise


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


def _unreadable(path: Path, error: Exception) -> EmbkitError:
    why = str(getattr(error, "strerror", None) or error).splitlines() or [type(error).__name__]
    return EmbkitError(
        f"{path.name!r} cannot be read: {why[0]}",
        expected="a whole file that you may read",
        hint="open it with the program that made it, and save it again",
    )
