"""Files and folders that appear whole or not at all, and files that only grow."""

import contextlib
import json
import os
import secrets
import shutil
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from filelock import FileLock

from .errors import EmbkitError

SAVE_AGAIN = "open it with the program that made it, and save it again"


def write_atomic(
    path: str | os.PathLike[str],
    data: str | bytes | Callable[[BinaryIO], object],
    *,
    synced: bool = True,
) -> Path:
    """Write a whole file or nothing: a temporary file beside it, then a rename.

    ``data`` is text (written as UTF-8), bytes, or a function that writes to the open file. The
    folder is made if need be. Without ``synced`` a power cut may lose it: for many small files.
    Fails where the disk is full or the folder cannot be written to.
    """
    target = Path(path)
    part = target.with_name(f".{target.name}.{os.getpid()}.{secrets.token_hex(4)}.part")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with open(part, "xb") as file:
            if callable(data):
                data(file)
            else:
                file.write(data.encode() if isinstance(data, str) else data)
            if synced:
                file.flush()
                os.fsync(file.fileno())
        os.replace(part, target)
    except OSError as error:
        raise EmbkitError(
            f"cannot write {target}: {error.strerror or error}; nothing was left half-written",
            expected="a folder that can be written to, with room on its disk",
            hint=f"free some space, or choose a folder of your own in place of {target.parent} "
            "(EMBKIT_RUNS and EMBKIT_CACHE move embkit's)",
        ) from error
    finally:
        with contextlib.suppress(OSError):  # the folder is out of reach: nothing was made there
            part.unlink(missing_ok=True)
    return target


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file; an empty one where there is none, or it was cut off."""
    try:
        return dict(json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return {}


def write_lines(path: str | os.PathLike[str], rows: Iterable[Mapping[str, Any]]) -> Path:
    """Writes a JSON object a line, whole or not at all; fails as ``write_atomic`` does."""
    lines = ((json.dumps(row, ensure_ascii=False) + "\n").encode() for row in rows)
    return write_atomic(path, lambda file: file.writelines(lines))


def told_by(module: str, name: str) -> dict[str, Any]:
    """What a TOML file says that lies beside a module, which is given as its ``__file__``."""
    return tomllib.loads(Path(module).with_name(name).read_text(encoding="utf-8"))


def filled(template: Path, **values: Any) -> str:
    """The text of a jinja template, a file that comes with the package, with its values."""
    from jinja2 import Template

    return Template(template.read_text(encoding="utf-8"), keep_trailing_newline=True).render(values)


@contextlib.contextmanager
def made_once(folder: Path, record: str) -> Iterator[bool]:
    """A folder that is made once: True where it has to be made, False where its record (the file
    that is written last) is there. A second process waits until the first has done."""
    if (folder / record).is_file():
        yield False
        return
    folder.mkdir(parents=True, exist_ok=True)
    with FileLock(folder.with_suffix(".lock")):
        yield not (folder / record).is_file()


def replace_folder(target: Path, write: Callable[[str], object]) -> None:
    """Write a whole folder, in place of an older one: ``write`` fills a folder beside it, which the
    next call removes if a kill leaves it there, then a rename. Two processes need a lock."""
    fresh = target.with_name(f".{target.name}-fresh")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    write(str(fresh))
    shutil.rmtree(target, ignore_errors=True)
    fresh.replace(target)


@contextlib.contextmanager
def readable(
    path: Path, *errors: type[Exception], said: str = "read", hint: str = SAVE_AGAIN
) -> Iterator[None]:
    """What cannot be read (or ``said``) is one clear error, of whatever kinds it is."""
    try:
        yield
    except errors as error:
        why = str(getattr(error, "strerror", None) or error).splitlines() or [type(error).__name__]
        given = f"{path.name!r} cannot be {said}: {why[0]}"
        raise EmbkitError(given, expected="what is whole and you may read", hint=hint) from error


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
        self._size = 0  # bytes that have been taken in
        self._damaged: list[tuple[int, str]] = []
        self._clear()

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
        return tuple(self._damaged)

    def refresh(self) -> None:
        """Takes in what others wrote since; an error if the file cannot be read."""
        try:
            if self._size == self.path.stat().st_size:
                return
            data = self.path.read_bytes()
        except FileNotFoundError:
            data = b""
        except OSError as error:
            given = f"the {self.what}s in {self.path} cannot be read: {error.strerror or error}"
            expected = "a file of JSON lines, or a path where one can be made"
            raise EmbkitError(given, expected=expected, hint=self.hint) from error
        self._size, self._damaged = len(data), []
        self._clear()
        for number, line in enumerate(data.split(b"\n"), 1):
            # no part of a JSON object is one: a last line that parses is whole, newline or not
            if line.strip() and not self._whole(line):
                self._damaged.append((number, line.decode(errors="replace")))

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
        lines = [json.dumps(row).encode() for row in rows]
        text = b"".join(line + b"\n" for line in lines)
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
        self._size = end + len(text)
        for line in lines:
            self._whole(line)

    def _whole(self, line: bytes) -> bool:
        try:
            return self._take(json.loads(line))
        except (ValueError, TypeError, KeyError, RecursionError):
            return False
