"""Texts to unit vectors: with the right prompt, cached, in shards where they are many.

Shards survive a kill: each is a file that appears whole or not at all, in a folder beside the array
that they are put together to. A second call takes those that are there, and makes the rest.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from filelock import FileLock

from ..errors import EmbkitError, unknown
from ..files import write_atomic
from ..session import paths, precision
from .vectors import (
    EmbedFunction,
    Progress,
    Vectors,
    cache_file,
    checked_model,
    checked_texts,
    fresh_vectors,
    kept,
    prompt_of,
    read_array,
    weights_fingerprint,
)

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

LARGE = 100_000  # texts: the vectors of more are made in shards and stay on disk
SHARD = 16_384  # texts: a few seconds of work for a small model on a processor


def encode(
    model: SentenceTransformer | EmbedFunction,
    texts: Sequence[str],
    *,
    prompt: str | None = None,
    task: str | None = None,
    cache: bool = True,
    dtype: str = "float32",
    progress: Progress | None = None,
) -> Vectors:
    """Unit vectors, (texts, dim), by a model or any function ``list[str] -> (texts, dim)``.

    Those of a sentence-transformers model are cached on disk under the hash of its weights, the
    precision, the prompt and the texts. Of more than ``LARGE`` texts they are made in shards that
    survive a kill, and what comes back is memory-mapped (see ``encode_shards``).

    Args:
        prompt: put before every text.
        task: ``query`` or ``document``: the way through a model that has several (a ``Router``).
        dtype: ``float32``, or ``float16`` for half the memory.
        progress: called with the number of texts done so far.

    Fails for an empty text, a row of another shape, NaN, a prompt that fills the window, an unknown
    dtype; of more than ``LARGE`` texts, for a disk without room for their vectors.
    """
    texts = checked_texts(texts)
    if dtype not in (known := ("float32", "float16")):
        raise unknown("dtype", dtype, known)
    checked_model(model, prompt)
    fresh = partial(fresh_vectors, model, texts, prompt=prompt, task=task, progress=progress)
    if cache and hasattr(model, "preprocess"):
        from .packing import routed

        way = task if task and routed(model) else None  # type: ignore[arg-type]
        if len(texts) > LARGE:
            options: dict[str, Any] = {"prompt": prompt, "task": way, "dtype": dtype}
            return encode_shards(model, texts, progress=progress, **options)
        made_of = [prompt, texts, *([way] if way else [])]
        where = cache_file(model, "embeddings", *made_of)  # type: ignore[arg-type]
        return kept(where, len(texts), fresh).astype(dtype, copy=False)
    return fresh().astype(dtype, copy=False)


def encode_as(
    model: Any,
    texts: Sequence[str],
    kind: str,
    *,
    cache: bool = True,
    progress: Progress | None = None,
) -> Vectors:
    """Unit vectors of texts as queries or documents, (texts, dim): what a search compares.

    ``kind``, ``query`` or ``document``, decides the prompt, of those that the model was saved with,
    and the way through a model that has several; all else is as in ``encode``.
    """
    if hasattr(model, "vectors"):  # a Teacher: each of its members has prompts of its own
        return model.vectors(texts, kind)
    prompt = prompt_of(model, kind)
    return encode(model, texts, prompt=prompt, task=kind, cache=cache, progress=progress)


def encode_shards(
    model: SentenceTransformer,
    texts: list[str],
    *,
    prompt: str | None = None,
    task: str | None = None,
    dtype: str = "float32",
    shard: int = SHARD,
    progress: Progress | None = None,
) -> Vectors:
    """Unit vectors of texts, on disk and memory-mapped, made in shards that survive a kill.

    What ``encode`` does with many texts, once it has checked them. The same call goes on where a
    kill stopped it, and gives the same bits. Memory holds the texts and one shard's vectors, the
    disk for a while each vector twice. What you write into the array stays in memory.

    Args:
        dtype: ``float32``, or ``float16``: half the disk, and products off by about 0.0005.
        shard: texts a shard; what was begun goes on with its own size.
        progress: called with the number of distinct texts done so far, earlier calls' included.

    Fails for NaN, and for a disk that has no room.
    """
    known = f"{weights_fingerprint(model)} {precision(model.device.type)}"
    target = paths().cache / "embeddings" / f"{_key([known, prompt, task, dtype], texts)}.npy"
    if _mapped(target, len(texts), dtype) is None:
        with _disk(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            held = FileLock(target.with_suffix(".lock")).acquire()
        with held:  # a second process waits here, and then finds it done
            if _mapped(target, len(texts), dtype) is None:
                make = partial(fresh_vectors, model, prompt=prompt, task=task)
                _fill(target, texts, make, dtype, shard, progress)
    shutil.rmtree(target.with_suffix(".shards"), ignore_errors=True)
    return np.load(target, mmap_mode="c")


def _key(settings: list[str | None], texts: list[str]) -> str:
    """Hash of all that decides the array; the texts are read a thousand at a time."""
    digest = hashlib.sha256(json.dumps(["shards", *settings, len(texts)]).encode())
    for start in range(0, len(texts), 1000):
        digest.update(json.dumps(texts[start : start + 1000]).encode())
    return digest.hexdigest()[:32]


def _mapped(path: Path, rows: int, dtype: str, mode: str = "c") -> Any:
    """The memory-mapped array of a file; None where it is not there, cut off, or another one."""
    found = read_array(path, mode)
    usable = found is not None and found.ndim == 2 and len(found) == rows and found.dtype == dtype
    return found if usable else None


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


def _fill(
    target: Path, texts: list[str], make: Any, dtype: str, shard: int, progress: Progress | None
) -> None:
    """Makes the shards of the distinct texts that are missing, and the array out of them."""
    # where each text stands among the distinct ones
    distinct: dict[str, int] = {}
    numbers = (distinct.setdefault(text, len(distinct)) for text in texts)
    place = np.fromiter(numbers, np.int64, len(texts))  # (texts,)
    # what is there already, and what is missing
    new, folder = list(distinct), target.with_suffix(".shards")
    begun = read_array(folder / "0")
    shard = shard if begun is None else max(1, len(begun))  # what was begun keeps its size
    parts = {start: new[start : start + shard] for start in range(0, len(new), shard)}
    found = {start: _mapped(folder / f"{start}", len(own), dtype) for start, own in parts.items()}
    missing = [start for start in parts if found[start] is None]
    told = len(new) - sum(len(parts[start]) for start in missing)
    if progress and told:
        progress(told)
    for start in missing:
        count = None if progress is None else lambda n, told=told: progress(told + n)
        block = make(parts[start], progress=count).astype(dtype, copy=False)
        if not told:
            _check_room(target, (len(texts) + len(new)) * block[0].nbytes)
        write_atomic(folder / f"{start}", partial(np.save, arr=block))
        told += len(block)
        if progress:
            progress(told)

    # all of it, in the texts' order
    dim = read_array(folder / "0", "r").shape[1]

    def put_together(stream: BinaryIO) -> None:
        head = {"descr": np.dtype(dtype).str, "fortran_order": False, "shape": (len(texts), dim)}
        np.lib.format.write_array_header_1_0(stream, head)
        for here in (place[start : start + shard] for start in range(0, len(place), shard)):
            rows = np.empty((len(here), dim), dtype)
            for start in np.unique(here // shard * shard):
                own = here // shard * shard == start
                rows[own] = read_array(folder / f"{start}", "r")[here[own] - start]
            stream.write(rows.tobytes())

    whole = write_atomic(folder / "whole", put_together)
    with _disk(target):
        os.replace(whole, target)


def _check_room(target: Path, needed: int) -> None:
    """Fails where the disk has no room for so many bytes."""
    free = shutil.disk_usage(target.parent).free
    with _disk(target):
        if free < needed:
            raise OSError(f"{needed / 2**30:.2f} GiB are needed, {free / 2**30:.2f} are free")
