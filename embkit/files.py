"""Files and folders that appear whole or not at all."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from filelock import FileLock

from .errors import EmbkitError


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
