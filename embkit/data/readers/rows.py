"""Rows of files that people made, their texts and ids, and what is put aside with a cause."""

import gzip
import io
import json
import shutil
import tempfile
import zlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ...files import readable, write_atomic

RAW_LIMIT = 2000  # characters of a bad row that the quarantine file keeps
EXAMPLES = 8  # bad rows that a report shows

OTHER_ENCODING = " (another encoding?)"

Line = tuple[int, str, str | None]  # line (from 1), text, what is wrong with its bytes


class Row(NamedTuple):
    """A row of a file: lines count from 1; of Parquet and data sets they are rows."""

    file: str  # as the report names it
    line: int
    values: dict[str, Any]  # column -> value
    raw: Any  # the row as it stood


class Quarantine:
    """Rows read, counted by file; bad rows, counted by cause and kept on disk, not in memory."""

    def __init__(self, encoding: str | None = None, kept: bool = True) -> None:
        self.kept = kept  # else nobody asks for bad rows
        self.encoding = encoding  # of text files; None: found out from their first bytes
        self.rows: Counter[str] = Counter()
        self.causes: Counter[str] = Counter()
        self.examples: list[dict[str, Any]] = []
        self.undecoded: Counter[str] = Counter()  # rows with bytes of another encoding, by file
        self.said: dict[str, None] = {}  # how files were taken apart, where it is worth saying
        self._spool = tempfile.TemporaryFile() if kept else io.BytesIO()
        self.close = self._spool.close

    def add(self, cause: str, row: Row, detail: str = "") -> None:
        """Puts a row aside; a byte that could not be decoded is kept as ``\\udce9``."""
        if not self.kept:
            return
        self.causes[cause] += 1
        self.undecoded[row.file] += cause.endswith(OTHER_ENCODING)
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


class NotDecoded(Exception):
    """A text file, and which share of it is not in the encoding that it was read in."""


def is_numbered(header: Sequence[str]) -> bool:
    """Whether columns have no names: they are "0", "1", …"""
    return list(header) == [str(n) for n in range(len(header))]


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


def suffix(path: Path) -> str:
    """The file's kind: its suffix, with ``.gz`` looked through."""
    kinds = [part.lower() for part in path.suffixes]
    return (kinds[-2] if len(kinds) > 1 else "") if kinds[-1:] == [".gz"] else "".join(kinds[-1:])


def lines(path: Path, bad: Quarantine, file: str) -> Iterator[Line]:
    """A file's lines, each with what is wrong with its bytes. A lone CR ends a line too."""
    line = 0
    with readable(path, OSError):
        try:
            with binary(path) as raw:
                found = bad.encoding or encoding_of(raw.peek(4096)[:4096])
                replaced = found.lower().startswith(("utf-16", "utf-32"))
                errors = "replace" if replaced else "surrogateescape"
                stream = io.TextIOWrapper(raw, found, errors, newline="")
                known = bad.encoding or ("UTF-16" if replaced else "UTF-8")
                for line, text in enumerate(stream, 1):
                    text = text.lstrip("\ufeff")  # files with a BOM, put one behind the other
                    fault = None
                    if "\0" in text:
                        fault = "NUL byte"
                    elif not is_unicode(text) or (replaced and "\ufffd" in text):
                        fault = f"not {known}{OTHER_ENCODING}"
                    yield line, text, fault
        except (EOFError, gzip.BadGzipFile, zlib.error) as error:
            here = Row(file, line + 1, {}, str(error))
            bad.add("compressed file damaged or cut off from here on", here)


def binary(path: Path) -> Any:
    """A file's bytes, with ``.gz`` looked through."""
    return gzip.open(path) if path.suffix.lower() == ".gz" else path.open("rb")


def encoding_of(head: bytes) -> str:
    """UTF-8, unless the first bytes are those of UTF-16 or UTF-32."""
    found = json.detect_encoding(head)
    few = found[-2:] in ("le", "be") and head.count(0) < 0.15 * len(head)  # a NUL by accident
    return "utf-8-sig" if found == "utf-8" or few else found
