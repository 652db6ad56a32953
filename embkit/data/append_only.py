"""A file of JSON lines that only grows: several processes write to it, and no kill spoils it."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock

from ..errors import EmbkitError


class AppendOnlyStore:
    """One JSON object a line, never overwritten. A class of its own says what a line means.

    What ``append`` returned for is on the disk: written, flushed and synced under a lock. A line
    that was cut off, or that ``_take`` refuses, stays in the file and is listed in ``damaged``.
    The file and its folder are made by the first line.
    """

    what, hint = "line", "another path"  # of errors
    lock_seconds = 20.0  # below 0: no limit

    def __init__(self, path: Path) -> None:
        self.path = path
        self._start()

    def _clear(self) -> None:
        """Forgets all lines: another file lies in the path now."""
        raise NotImplementedError

    def _take(self, row: Any) -> bool:
        """Takes in what a line holds; False, a KeyError or a TypeError if it is no row."""
        raise NotImplementedError

    @property
    def damaged(self) -> tuple[tuple[int, str], ...]:
        """(line number, text) of the lines that are no whole row; they stay in the file."""
        self.refresh()
        tail = [(self._lines + 1, self._tail)] if self._tail else []
        return tuple((n, line.decode(errors="replace")) for n, line in [*self._damaged, *tail])

    def refresh(self) -> None:
        """Takes in what was written since; an error if the file cannot be read."""
        try:
            with self.path.open("rb") as file:
                if os.fstat(file.fileno()).st_size < self._offset:
                    self._start()
                file.seek(self._offset)
                *lines, tail = file.read().split(b"\n")
        except FileNotFoundError:
            self._start()
            return
        except OSError as error:
            given = f"the {self.what}s in {self.path} cannot be read: {error.strerror or error}"
            expected = "a file of JSON lines, or a path where one can be made"
            raise EmbkitError(given, expected=expected, hint=self.hint) from error
        for line in lines:
            self._offset += len(line) + 1
            self._lines += 1
            if line.strip() and not self._whole(line):
                self._damaged.append((self._lines, line))
        # No part of a JSON object is one: a last line that parses is whole, newline or not.
        self._tail = b"" if self._whole(tail) else tail
        self._offset += len(tail) - len(self._tail)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keeps other writers away, with all that they wrote taken in; an error if it cannot."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(f"{self.path}.lock", timeout=self.lock_seconds, poll_interval=0.01):
                self.refresh()
                yield
        except OSError as error:
            given = f"the {self.what} was not kept: {self.path.name} cannot be written to ({error})"
            expected, hint = "a file on a disk with room", f"free some space, or {self.hint}"
            raise EmbkitError(given, expected=expected, hint=hint) from error

    def append(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Writes rows at the end, within ``locked``; all of them are kept, or none."""
        text = b"".join(json.dumps(row).encode() + b"\n" for row in rows)
        with self.path.open("ab+", buffering=0) as file:
            end = file.seek(0, os.SEEK_END)
            if end:
                file.seek(-1, os.SEEK_END)
                text = text if file.read(1) == b"\n" else b"\n" + text  # after a cut-off line
            try:
                if file.write(text) != len(text):
                    raise OSError("the disk took only a part of the line")
                os.fsync(file.fileno())
            except OSError:  # the caller is told that it was not kept: then nothing of it stays
                with contextlib.suppress(OSError):
                    file.truncate(end)
                raise
        self.refresh()

    def _start(self) -> None:
        self._offset = self._lines = 0  # bytes and lines that have been taken in
        self._tail = b""  # what follows the last line's end
        self._damaged: list[tuple[int, bytes]] = []
        self._clear()

    def _whole(self, line: bytes) -> bool:
        try:
            return self._take(json.loads(line))
        except (ValueError, TypeError, KeyError, RecursionError):
            return False
