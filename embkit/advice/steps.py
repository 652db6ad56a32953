"""Steps that each leave a file: made once, made again when what they rest on has changed, and left
alone where a person mended them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..errors import EmbkitError
from ..files import read_json, write_atomic
from ..synthetic.prompts import content_hash

Row = dict[str, Any]
RECORD = "steps.json"  # of each file, a hash of what it was made from and of what was written


class Steps:
    """The files of a folder, step by step."""

    def __init__(self, folder: Path, told: Callable[[str], object]) -> None:
        self.folder, self.told, self.kept = folder, told, read_json(folder / RECORD)

    def file(self, name: str, made_from: Any, make: Callable[[Path], object]) -> Path:
        """A step's file or folder, which ``make`` writes whole or not at all."""
        path, key, last = self.folder / name, content_hash(made_from), self.kept.get(name, {})
        if path.exists() and last.get("written") != digest(path):  # mended, or not noted yet
            if last.get("from", key) != key:
                self.told(f"{name} was mended by hand and is used as it is, though what it was "
                          "made from has changed; without the file it is made again")  # fmt: skip
        elif not path.exists() or last.get("from") != key:
            make(path)
            self.note(name, {"from": key, "written": digest(path)})
        return path

    def note(self, name: str, value: Any) -> None:
        """Keeps something beside the files."""
        self.kept[name] = value
        write_atomic(self.folder / RECORD, json.dumps(self.kept, indent=1))


def digest(path: Path) -> str:
    """A hash of a file, or of all files of a folder."""
    found = hashlib.sha256()
    for file in sorted(path.rglob("*.*")) if path.is_dir() else [path]:
        with file.open("rb") as stream:
            found.update(file.name.encode() + hashlib.file_digest(stream, "sha256").digest())
    return found.hexdigest()[:16]


def read_lines(path: Path, *fields: str) -> list[Row]:
    """JSON lines, each with texts in these fields; fails for a line that is none."""
    rows = []
    for number, line in enumerate(path.read_bytes().removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
        try:
            row = json.loads(line) if line.strip() else None
            if row is not None and not all(isinstance(row[field], str) for field in fields):
                raise TypeError("a text is missing")
            rows += [] if row is None else [row]
        except (ValueError, TypeError, KeyError) as error:
            raise EmbkitError(
                f"line {number} of {path} is damaged ({type(error).__name__}): {line[:60]!r}",
                expected=f"an object with {', '.join(fields)}",
                hint="mend the line, or delete the file: it is then made again",
            ) from error
    return rows
