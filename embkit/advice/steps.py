"""Steps that each leave a file: made once, made again when what they rest on has changed, and left
alone where a person mended them. And the file in which a person confirms queries."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ..errors import EmbkitError
from ..files import read_json, write_atomic
from ..synthetic.prompts import content_hash

COLUMNS = ("query", "document", "passage", "right")
YES = frozenset("y yes 1 2 true t x ok right j ja oui o si sí s".split())
NO = frozenset("n no 0 false f wrong nein non".split())
RECORD = "steps.json"  # of each file, what it was made from and what was written


class Steps:
    """The files of a folder, step by step."""

    def __init__(self, folder: Path, told: Callable[[str], object]) -> None:
        self.folder, self.told = folder, told
        self.kept = read_json(folder / RECORD)

    def file(self, name: str, made_from: Any, make: Callable[[Path], object]) -> Path:
        """A step's file or folder: ``make`` writes it, whole or not at all."""
        path, key = self.folder / name, content_hash(made_from)
        last = self.kept.get(name, {})
        if path.exists():
            if last.get("written") != digest(path):  # mended, or killed before it was noted
                if last.get("from") not in (key, None):
                    self.told(f"{name} was mended by hand: used as it is, though what it was made "
                              "from has changed (delete it to have it made again)")  # fmt: skip
                return path
            if last["from"] == key:
                return path
        make(path)
        self.note(name, {"from": key, "written": digest(path)})
        return path

    def note(self, name: str, value: Any) -> Any:
        """Keeps something beside the files."""
        self.kept[name] = value
        write_atomic(self.folder / RECORD, json.dumps(self.kept, indent=1))
        return value


def digest(path: Path) -> str:
    """A hash of a file, or of all files of a folder."""
    found = hashlib.sha256()
    for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
        if file.is_file():
            found.update(f"{file.relative_to(path.parent)}\0".encode())
            with file.open("rb") as stream:
                found.update(hashlib.file_digest(stream, "sha256").digest())
    return found.hexdigest()[:16]


def write_lines(path: Path, rows: Iterable[dict[str, Any]]) -> Path:
    """Writes JSON lines."""
    lines = (json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    return write_atomic(path, lambda file: file.writelines(line.encode() for line in lines))


def read_lines(path: Path, *fields: str) -> list[dict[str, Any]]:
    """JSON lines, each with these fields; fails for a line that is none."""
    rows = []
    for number, line in enumerate(path.read_bytes().split(b"\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line.removeprefix(b"\xef\xbb\xbf"))
            if not all(isinstance(row[field], str) for field in fields):
                raise TypeError("a text is missing")
            rows.append(row)
        except (ValueError, TypeError, KeyError) as error:
            raise EmbkitError(
                f"line {number} of {path} is damaged ({type(error).__name__}): {line[:60]!r}",
                expected=f"an object with {', '.join(fields)}",
                hint="mend the line, or delete the file: it is then made again",
            ) from error
    return rows


class Asked(NamedTuple):
    """A row of the file that a person fills in."""

    query: str
    document: str
    passage: str
    right: bool | None = None


def write_asked(path: Path, rows: Sequence[Asked]) -> Path:
    """Writes the rows as a CSV that spreadsheets open, its last column empty."""
    out = io.StringIO(newline="")
    csv.writer(out).writerow(COLUMNS)
    for row in rows:  # what begins like a formula is none
        cells = [f" {text}" if text[:1] in tuple("=+-@\t") else text for text in row[:3]]
        csv.writer(out).writerow([*cells, ""])
    return write_atomic(path, b"\xef\xbb\xbf" + out.getvalue().encode())


def read_asked(path: Path) -> list[Asked]:
    """The rows as they stand now; fails for a column that is gone, and for an unclear answer."""
    return list(_answers(path))


def _answers(path: Path) -> Iterator[Asked]:
    data = path.read_bytes()
    known = "utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    try:
        text = data.decode(known)
    except UnicodeDecodeError:  # as a spreadsheet may save it
        text = data.decode("cp1252", "replace")
    first = text.partition("\n")[0]
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=max(",;\t", key=first.count))
    reader.fieldnames = [name.strip().lower() for name in reader.fieldnames or ()]
    if missing := {"query", "document", "right"} - {*reader.fieldnames}:
        raise EmbkitError(
            f"{path} has no column {', '.join(sorted(missing))}",
            expected=f"the columns {', '.join(COLUMNS)}",
            hint="put the first line back, or delete the file: it is then made again",
        )
    for row in reader:
        query, document, passage, said = ((row.get(name) or "").strip() for name in COLUMNS)
        if said and said.casefold() not in YES | NO:
            raise EmbkitError(
                f"line {reader.line_num} of {path}: {said[:40]!r} in the column right",
                expected="y where the document answers the query, n where it does not, or nothing",
                hint="write y or n, and run the same command again",
            )
        if query and document:
            yield Asked(query, document, passage, said.casefold() in YES if said else None)
