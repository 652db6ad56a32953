"""Vectors of very many texts: made a shard at a time, kept as they come, memory-mapped at the end.

What is finished survives a kill. Two files grow side by side in the cache: the array itself, at its
full length from the start, and a journal with a line for each finished shard and the checksum of
its rows. A second call believes the journal only where the checksum agrees, and makes the rest.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
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

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

    from .vectors import EmbedFunction, Vectors

SHARD = 16_384  # texts: a few seconds of work for a small model on a processor
DTYPES = ("float32", "float16")
Encoder = Callable[[list[str], Callable[[int], Any] | None], "Vectors"]


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
    progress: Callable[[int], Any] | None = None,
) -> Vectors:
    """Unit vectors of texts, on disk and memory-mapped, made in shards that survive a kill.

    A kill costs the shard in hand and nothing else: the same call goes on from there, and gives
    what it would have given uninterrupted, bit by bit. Memory holds the texts and one shard's
    vectors. ``encode`` calls this by itself for more than ``search.LARGE`` texts.

    Args:
        model: a sentence-transformers model; or, with ``name``, any function
            ``list[str] -> (texts, dim)``.
        texts: what to encode; each distinct text is encoded once.
        prompt: put before every text.
        task: as in ``encode``.
        dtype: ``float32``, or ``float16``: half the disk, and products off by about 0.0005.
        shard: texts a shard; what was begun goes on with the size that it was begun with.
        name: what a function's vectors are kept under. It stands for the function's weights:
            take another name when they change.
        progress: called with the number of distinct texts done so far, earlier calls' included.

    Returns:
        Memory-mapped array of shape (texts, dim), each row of length 1. What you write into it
        stays in memory; the file is not changed.

    Raises:
        EmbkitError: an empty text, an unknown dtype, a function without a name, NaN, or a disk
            that has no room; finished shards stay.

    Example:
        >>> encode_shards(model, texts, dtype="float16").dtype  # doctest: +SKIP
        dtype('float16')
    """
    from .vectors import checked_texts

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
    if (found := _finished(target, len(texts), dtype)) is not None:
        return found
    with _disk(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(target.with_suffix(".lock"))
        lock.acquire()  # a second process waits here, and then finds it done
    try:
        if (found := _finished(target, len(texts), dtype)) is None:
            _make(_Growing(target, len(texts), dtype, shard), encoder, texts, progress)
            found = _finished(target, len(texts), dtype)
    finally:
        lock.release()
    if found is None:
        raise EmbkitError(
            f"{target.name} was finished, and is gone or damaged",
            expected="a cache that nobody clears while it is written",
            hint="run the same again",
        )
    return found


def _encoder(
    model: Any, prompt: str | None, task: str | None, name: str | None
) -> tuple[Encoder, str]:
    """What makes vectors of texts, and what it is known by."""
    from .vectors import check_prompt, checked_model, checked_vectors, fingerprint

    checked_model(model)
    if not hasattr(model, "preprocess"):
        if name is None:
            raise EmbkitError(
                "encode_shards() was given a function as its model, and no name",
                expected="name=, which stands for the function's weights",
                hint="encode_shards(function, texts, name='my-api-v1')",
            )

        def of_function(rows: list[str], progress: Any) -> Vectors:
            made = checked_vectors(model([(prompt or "") + row for row in rows]), len(rows))
            if progress:
                progress(len(rows))
            return made

        return of_function, f"function {name}"
    from . import packing

    check_prompt(model, prompt)

    def of_model(rows: list[str], progress: Any) -> Vectors:
        made = packing.embed(model, rows, prompt=prompt, task=task, progress=progress)
        return checked_vectors(made.numpy(), len(rows))

    return of_model, f"{fingerprint(model)} {precision(model.device.type)}"


def _key(settings: list[str | None], texts: list[str]) -> str:
    """Hash of all that decides the array; the texts are read a thousand at a time."""
    digest = hashlib.sha256(json.dumps(["shards", *settings, len(texts)]).encode())
    for start in range(0, len(texts), 1000):
        digest.update(json.dumps(texts[start : start + 1000]).encode())
    return digest.hexdigest()[:32]


def _finished(path: Path, rows: int, dtype: str) -> Vectors | None:
    """The whole array, if it is there and nothing of it is cut off."""
    try:
        found = np.load(path, mmap_mode="c", allow_pickle=False)
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
    dim: int = 0  # 0 until the first shard is made
    done: dict[int, str] = field(default_factory=dict)  # shard -> checksum of its rows

    @property
    def part(self) -> Path:
        return self.target.with_suffix(".part")

    @property
    def journal(self) -> Path:
        return self.target.with_suffix(".journal")

    @property
    def shards(self) -> int:
        """How many there are in all."""
        return -(-self.rows // self.shard)

    @property
    def todo(self) -> list[int]:
        """The shards that are missing, in order."""
        return [number for number in range(self.shards) if number not in self.done]

    def places(self, number: int) -> range:
        """The texts of a shard."""
        return range(number * self.shard, min((number + 1) * self.shard, self.rows))

    def resume(self) -> None:
        """Takes over what the journal names and the checksums confirm."""
        asked = self.shard
        with contextlib.suppress(OSError, LookupError, TypeError, ValueError, ArithmeticError):
            self._take_over()  # whatever is wrong with a journal: it is begun anew
        if self.done:
            self._lay_out()
        else:
            self.shard, self.dim = asked, 0

    def _take_over(self) -> None:
        head, *lines = [_parsed(line) for line in self.journal.read_bytes().splitlines()]
        if (head["of"], head["dtype"]) != (self.rows, self.dtype):
            return
        self.shard, self.dim = head["shard"], head["dim"]
        kept = {line["done"]: str(line["rows"]) for line in lines if len(line) == 2}
        with open(self.part, "rb") as file:
            self.done = {n: kept[n] for n in self.todo if kept.get(n) == self._checksum(file, n)}

    def begin(self, dim: int) -> None:
        """Lays the file out, now that it is known how wide a row is."""
        self.dim = dim
        needed = self.rows * dim * np.dtype(self.dtype).itemsize
        with _disk(self.target):
            free = shutil.disk_usage(self.target.parent).free
            if free < needed:
                raise OSError(f"{needed / 2**30:.2f} GiB are needed, {free / 2**30:.2f} are free")
        self._lay_out()

    def _lay_out(self) -> None:
        """Header and full length, whatever of the file is there; then the journal."""
        head = {"shard": self.shard, "dim": self.dim, "of": self.rows, "dtype": self.dtype}
        lines = [head, *({"done": i, "rows": check} for i, check in self.done.items())]
        with _disk(self.target):
            with open(self.part, "r+b" if self.part.exists() else "w+b") as file:
                file.write(self._header())
                file.truncate(self._where(self.rows))
                os.fsync(file.fileno())
            write_atomic(self.journal, "".join(json.dumps(line) + "\n" for line in lines))

    def _header(self) -> bytes:
        head = {"descr": np.dtype(self.dtype).str, "fortran_order": False}
        stream = io.BytesIO()
        np.lib.format.write_array_header_1_0(stream, head | {"shape": (self.rows, self.dim)})
        return stream.getvalue()

    def _where(self, row: int) -> int:
        """At which byte a row begins."""
        return len(self._header()) + row * self.dim * np.dtype(self.dtype).itemsize

    def _checksum(self, file: Any, number: int) -> str:
        places = self.places(number)
        file.seek(self._where(places.start))
        return _digest(file.read(self._where(places.stop) - self._where(places.start)))

    def read(self, rows: np.ndarray) -> Vectors:
        """Rows of finished shards."""
        return np.load(self.part, mmap_mode="r", allow_pickle=False)[rows]

    def write(self, number: int, block: Vectors) -> None:
        """Writes a shard's rows and then, when they are on the disk, its line."""
        data = block.tobytes()
        with _disk(self.target):
            with open(self.part, "r+b") as file:
                file.seek(self._where(self.places(number).start))
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            line = json.dumps({"done": number, "rows": _digest(data)}) + "\n"
            with open(self.journal, "ab") as file:
                file.write(line.encode())
                file.flush()
                os.fsync(file.fileno())

    def finish(self) -> None:
        """The array gets its name, now that it is whole."""
        with _disk(self.target):
            os.replace(self.part, self.target)
            self.journal.unlink(missing_ok=True)


def _make(made: _Growing, encoder: Encoder, texts: list[str], progress: Any) -> None:
    """Makes the shards that are missing; a text that stood in an earlier one is copied from it."""
    made.resume()
    first: dict[str, int] = {}  # text -> where it stands first
    for place, text in enumerate(texts):
        first.setdefault(text, place)
    own = np.bincount(np.fromiter(first.values(), np.int64) // made.shard, minlength=made.shards)
    before = int(sum(own[number] for number in made.done))  # distinct texts
    if progress and before:
        progress(before)
    for number in made.todo:
        places = made.places(number)
        source = np.array([first[texts[i]] for i in places])  # (shard,)
        new = np.flatnonzero(source == np.arange(places.start, places.stop))
        block = np.empty((0, made.dim), np.float32)
        if new.size:
            count = None if progress is None else _counter(progress, before)
            block = encoder([texts[places[i]] for i in new], count)
        if not made.dim:
            made.begin(block.shape[1])
        if block.shape[1] != made.dim:
            raise EmbkitError(
                f"vectors of {block.shape[1]} dimensions, after {made.dim} for earlier texts",
                expected="as many for every text",
                hint="give another name= when the function changes",
            )
        rows = np.empty((len(places), made.dim), made.dtype)
        rows[new] = block
        earlier = source < places.start
        if earlier.any():
            rows[earlier] = made.read(source[earlier])
        rows[~earlier] = rows[source[~earlier] - places.start]
        made.write(number, rows)
        before += new.size
    made.finish()


def _counter(progress: Callable[[int], Any], before: int) -> Callable[[int], Any]:
    return lambda done: progress(before + done)


def _parsed(line: bytes) -> dict[str, Any]:
    """A line of the journal; nothing where it was cut off."""
    try:
        found = json.loads(line)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _digest(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=16).hexdigest()
