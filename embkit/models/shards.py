"""Vectors of very many texts: made and kept a shard at a time, memory-mapped at the end.

What is finished survives a kill. Two files lie side by side in the cache: the array itself, at its
full length from the start, and a journal with the checksum of each finished shard. A second call
believes the journal only where the checksum agrees, and makes the rest.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from filelock import FileLock

from ..errors import EmbkitError, unknown
from ..files import write_atomic
from ..session import paths, precision
from .vectors import (
    EmbedFunction,
    Vectors,
    check_prompt,
    checked_model,
    checked_texts,
    checked_vectors,
    weights_fingerprint,
)

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

SHARD = 16_384  # texts: a few seconds of work for a small model on a processor
DTYPES = ("float32", "float16")
Progress = Callable[[int], Any]
Encoder = Callable[[list[str], Progress | None], Vectors]


def checked_dtype(dtype: str) -> str:
    """The name of a dtype that vectors are kept in; fails for another."""
    if dtype not in DTYPES:
        raise unknown("dtype", dtype, DTYPES)
    return dtype


def encode_shards(
    model: SentenceTransformer | EmbedFunction,
    texts: Sequence[str],
    *,
    prompt: str | None = None,
    task: str | None = None,
    dtype: str = "float32",
    shard: int = SHARD,
    name: str | None = None,
    progress: Progress | None = None,
) -> Vectors:
    """Unit vectors of texts, on disk and memory-mapped, made in shards that survive a kill.

    The same call goes on where a kill stopped it, and gives the same bits. Memory holds the texts
    and one shard's vectors.

    Args:
        model: a sentence-transformers model; or, with ``name``, any function
            ``list[str] -> (texts, dim)``.
        texts: what to encode; each distinct text is encoded once.
        prompt: put before every text.
        task: as in ``encode``.
        dtype: ``float32``, or ``float16``: half the disk, and products off by about 0.0005.
        shard: texts a shard; what was begun goes on with its own size.
        name: what a function's vectors are kept under: take another when the function changes.
        progress: called with the number of distinct texts done so far, earlier calls' included.

    Returns:
        Memory-mapped array of shape (texts, dim), each row of length 1. What you write into it
        stays in memory; the file is not changed.

    Raises:
        EmbkitError: an empty text, an unknown dtype, a function without a name, NaN, or a disk
            that has no room; finished shards stay.
    """
    texts, dtype = checked_texts(texts), checked_dtype(dtype)
    if not isinstance(shard, int) or shard < 1:
        raise EmbkitError(
            f"shard={shard!r}", expected="a number of texts, 1 or more", hint=f"shard={SHARD}"
        )
    encoder, identity = _encoder(model, prompt, task, name)
    if not texts:
        return encoder([], None).astype(dtype)
    key = _key([identity, prompt, task, dtype], texts)
    target = paths().cache / "embeddings" / f"{key}.npy"
    if (found := _mapped(target, len(texts), dtype)) is not None:
        return found
    with contextlib.ExitStack() as stack:
        with _disk(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            lock = FileLock(target.with_suffix(".lock"))
            stack.enter_context(lock)  # a second process waits here, and then finds it done
        if _mapped(target, len(texts), dtype) is None:
            _make(_Growing(target, len(texts), dtype, shard), encoder, texts, progress)
        return np.load(target, mmap_mode="c")


def _encoder(
    model: Any, prompt: str | None, task: str | None, name: str | None
) -> tuple[Encoder, str]:
    """What makes vectors of texts, and what it is known by."""
    checked_model(model)
    if hasattr(model, "preprocess"):
        check_prompt(model, prompt)
        known = f"{weights_fingerprint(model)} {precision(model.device.type)}"
    elif name is None:
        raise EmbkitError(
            "encode_shards() was given a function as its model, and no name",
            expected="name=, which stands for the function's weights",
            hint="encode_shards(function, texts, name='my-api-v1')",
        )
    else:
        known = f"function {name}"

    def encode(rows: list[str], progress: Progress | None) -> Vectors:
        if not hasattr(model, "preprocess"):
            return checked_vectors(model([(prompt or "") + row for row in rows]), len(rows))
        from . import packing

        made = packing.embed(model, rows, prompt=prompt, task=task, progress=progress)
        return checked_vectors(made.numpy(), len(rows))

    return encode, known


def _key(settings: list[str | None], texts: list[str]) -> str:
    """Hash of all that decides the array; the texts are read a thousand at a time."""
    digest = hashlib.sha256(json.dumps(["shards", *settings, len(texts)]).encode())
    for start in range(0, len(texts), 1000):
        digest.update(json.dumps(texts[start : start + 1000]).encode())
    return digest.hexdigest()[:32]


def _mapped(path: Path, rows: int, dtype: str, mode: Any = "c") -> Any:
    """The memory-mapped array of a file; None where it is not there, cut off, or another one."""
    try:
        found = np.load(path, mmap_mode=mode, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return found if found.ndim == 2 and len(found) == rows and found.dtype == dtype else None


@contextlib.contextmanager
def _disk(target: Path) -> Iterator[None]:
    """Says what to do where a disk is full or may not be written to."""
    try:
        yield
    except OSError as error:
        raise EmbkitError(
            f"vectors cannot be kept in {target.parent}: {error.strerror or error}",
            expected="a cache that can be written to, with room for the vectors",
            hint="make room and run the same again: finished shards stay. Or set EMBKIT_CACHE to "
            "a larger disk, or give encode() cache=False, which holds all in memory",
        ) from error


@dataclass
class _Growing:
    """An array in the making: a file of its full length, and the journal of finished shards."""

    target: Path
    rows: int
    dtype: str
    shard: int
    array: Any = None  # the file, mapped to be read; None until the first shard is made
    done: dict[str, str] = field(default_factory=dict)  # shard -> checksum of its rows

    def __post_init__(self) -> None:
        self.part, self.journal = (self.target.with_suffix(s) for s in (".part", ".journal"))
        found = _mapped(self.part, self.rows, self.dtype, "r")
        with contextlib.suppress(OSError, LookupError, TypeError, ValueError):
            kept = json.loads(self.journal.read_bytes())
            size, sums = int(kept["shard"]), dict(kept["done"])
            if found is None or size < 1:
                return
            rows = {n: found[int(n) * size : (int(n) + 1) * size] for n in sums}
            done = {n: s for n, s in sums.items() if s == _checksum(rows[n].tobytes())}
            if done:
                self.shard, self.array, self.done = size, found, done

    def places(self, number: int) -> range:
        """The texts of a shard."""
        return range(number * self.shard, min((number + 1) * self.shard, self.rows))

    def begin(self, dim: int) -> None:
        """Lays the file out, now that it is known how wide a row is."""
        needed = self.rows * dim * np.dtype(self.dtype).itemsize
        with _disk(self.target):
            free = shutil.disk_usage(self.target.parent).free
            if free < needed:
                raise OSError(f"{needed / 2**30:.2f} GiB are needed, {free / 2**30:.2f} are free")
            np.lib.format.open_memmap(self.part, "w+", self.dtype, (self.rows, dim))
        self.array = _mapped(self.part, self.rows, self.dtype, "r")

    def write(self, number: int, block: Vectors) -> None:
        """Writes a shard's rows and then, when they are on the disk, its checksum."""
        data = block.tobytes()
        with _disk(self.target):
            with open(self.part, "r+b") as file:  # into the mapping, a full disk would be a crash
                file.seek(self.array.offset + self.places(number).start * self.array.strides[0])
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            self.done[str(number)] = _checksum(data)
            write_atomic(self.journal, json.dumps({"shard": self.shard, "done": self.done}))

    def finish(self) -> None:
        """The array gets its name, now that it is whole."""
        self.array = None
        with _disk(self.target):
            os.replace(self.part, self.target)
            self.journal.unlink(missing_ok=True)


def _checksum(rows: bytes) -> str:
    return hashlib.blake2b(rows, digest_size=16).hexdigest()


def _make(made: _Growing, encoder: Encoder, texts: list[str], progress: Progress | None) -> None:
    """Makes the shards that are missing; a text that stood in an earlier one is copied from it."""
    first: dict[str, int] = {}  # text -> where it stands first
    for place, text in enumerate(texts):
        first.setdefault(text, place)
    shards = -(-made.rows // made.shard)
    own = np.bincount(np.fromiter(first.values(), np.int64) // made.shard, minlength=shards)
    before = sum(int(own[int(number)]) for number in made.done)  # distinct texts
    if progress and before:
        progress(before)
    for number in range(shards):
        if str(number) in made.done:
            continue
        # the texts that are new here go through the model
        places = made.places(number)
        source = np.array([first[texts[i]] for i in places])  # (shard,)
        new = np.flatnonzero(source == np.arange(places.start, places.stop))
        block = np.empty((0, 0), np.float32)
        if new.size:
            count = None if progress is None else lambda done, b=before: progress(b + done)
            block = encoder([texts[places[i]] for i in new], count)
            if progress:
                progress(before + new.size)
            if made.array is None:
                made.begin(block.shape[1])
        dim = made.array.shape[1]
        if new.size and block.shape[1] != dim:
            raise EmbkitError(
                f"vectors of {block.shape[1]} dimensions, after {dim} for earlier texts",
                expected="as many for every text",
                hint="give another name= when the function changes",
            )
        # the others are copied: from earlier shards, then from this one
        rows = np.empty((len(places), dim), made.dtype)
        rows[new] = block.reshape(-1, dim)
        earlier = source < places.start
        rows[earlier] = made.array[source[earlier]]
        rows[~earlier] = rows[source[~earlier] - places.start]
        made.write(number, rows)
        before += new.size
    made.finish()
