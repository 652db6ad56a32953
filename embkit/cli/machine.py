"""preflight, clean: whether a machine is ready for the course, and what is kept on its disk."""

import argparse
import contextlib
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

from filelock import FileLock, Timeout

from ..display import table
from ..errors import EmbkitError
from ..session import cache_gb, paths
from .terminal import say

OPTION = {"runs": "runs", "embeddings": "embeddings", "scores": "embeddings"}  # others: all


class Item(NamedTuple):
    what: str
    path: Path
    size: int  # bytes
    used: float  # when it was written, or read where that is noted


def preflight(chosen: argparse.Namespace) -> int:
    """What checks a machine for the course lies beside the course."""
    if not (paths().notebooks / "tools" / "preflight.py").is_file():
        expected, hint = "the project's folder, with its notebooks", "git clone, then make setup"
        raise EmbkitError(f"no course in {paths().root}", expected=expected, hint=hint)
    given = [*(["--read", chosen.read] if chosen.read else []), *(["--json"] * chosen.json)]
    command = [sys.executable, "-m", "notebooks.tools.preflight", *given]
    return subprocess.run(command, cwd=paths().root).returncode


def clean(chosen: argparse.Namespace) -> int:
    asked = {name for name in ("runs", "embeddings", "all") if getattr(chosen, name)}
    if chosen.older and not asked:
        expected, hint = "what is to go, beside it", f"--embeddings --older {chosen.older:g}"
        raise EmbkitError(f"--older {chosen.older:g} alone", expected=expected, hint=hint)
    items, now, rows = kept(), time.time(), []
    for what in dict.fromkeys(item.what for item in items):
        of = [item for item in items if item.what == what]
        days = [(now - item.used) / 86_400 for item in of]
        row = {"what": what, "number": len(of), "size": f"{_gb(of):.2f} GB"}
        row["days since it was used"] = f"{min(days):.0f} to {max(days):.0f}"
        rows.append(row | {"goes with": f"--{OPTION.get(what, 'all')}"})
    caption = f"embeddings beyond {cache_gb():g} GB (EMBKIT_CACHE_GB) go by themselves, those that "
    caption += "were used longest ago first; labels, reports and the steps of start never go"
    say(f"{table(rows)}\nin {paths().runs} and {paths().cache}\n{caption}")
    going = [i for i in items if {"all", OPTION.get(i.what)} & asked]
    going = [i for i in going if now - i.used >= 86_400 * chosen.older]
    if going and not chosen.yes:
        if not sys.stdin.isatty():
            expected, hint = "somebody who can be asked, or --yes", "python -m embkit clean --help"
            raise EmbkitError("nobody says yes", expected=expected, hint=hint)
        say(f"\ndelete {len(going):,} of these, {_gb(going):.2f} GB? Type yes:")
        going = going if sys.stdin.readline().strip().lower() in ("y", "yes") else []
    left = [why for item in going if (why := delete(item))]
    return say("\n".join([*left, f"deleted: {len(going) - len(left)}"])) if asked else 0


def _gb(items: list[Item]) -> float:
    return sum(item.size for item in items) / 1e9


def kept() -> list[Item]:
    """What lies in the two stores and can be made again; links are no part of them."""
    store, cache = paths().runs.resolve() / "store", paths().cache.resolve()
    found = [("runs", run) for domain in _inside(store) for run in _inside(domain)]
    found += [(folder.name, path) for folder in _inside(cache) for path in _inside(folder)]
    return [
        Item(what, path, size_of(path), max(p.lstat().st_mtime for p in _inside(path) or [path]))
        for what, path in found
        if path.suffix != ".lock"
    ]


def _inside(folder: Path) -> list[Path]:
    """What lies in a folder, without links; nothing where the folder is one."""
    if folder.is_symlink() or not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if not path.is_symlink())


def size_of(path: Path) -> int:
    """Bytes of a file, or of all below a folder; no link is followed."""
    below = (Path(at, name) for at, _, names in os.walk(path) for name in names)
    return sum(file.lstat().st_size for file in ([path] if path.is_file() else below))


def delete(item: Item) -> str:
    """Deletes what is kept; what is in use stays, or what the disk keeps, and then why."""
    lock = item.path.with_suffix(".lock")
    try:
        with FileLock(lock, timeout=0) if lock.exists() else contextlib.nullcontext():
            shutil.rmtree(item.path) if item.path.is_dir() else item.path.unlink()
    except Timeout:
        return f"left alone, in use: {item.path}"
    except OSError as error:
        return f"left alone, {error.strerror or error}: {item.path}"
    return ""
