"""Texts to unit vectors: with the right prompt, with what goes in and comes out checked, kept on
disk, in shards where they are many.

Shards survive a kill: each is a file that appears whole or not at all, in a folder beside the array
that they are put together to. A second call takes those that are there, and makes the rest.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from filelock import FileLock

from ..data.images import is_picture
from ..errors import EmbkitError, refusals, unknown
from ..files import write_atomic
from ..session import cache_gb, paths, precision

if TYPE_CHECKING:
    from sentence_transformers import CrossEncoder, SentenceTransformer

refused = refusals(__file__)
Vectors = np.ndarray  # (texts, dim), float32
EmbedFunction = Callable[[list[str]], Any]
Progress = Callable[[int], Any]  # how many texts are done
LARGE = 100_000  # texts: the vectors of more are made in shards and stay on disk
SHARD = 16_384  # texts: a few seconds of work for a small model on a processor


def checked_texts(texts: Sequence[str]) -> list[str]:
    """The texts as a list; fails for an empty one, and for one text in place of a list."""
    texts = listed(texts)
    empty = [i for i, text in enumerate(texts) if not isinstance(text, str) or not text.strip()]
    if empty:
        raise refused("empty texts", n=len(empty), texts=len(texts), first=empty[:3])
    return texts


def prompt_of(model: Any, kind: str) -> str | None:
    """What a model's own ``encode_query`` or ``encode_document`` puts before a text."""
    prompts = getattr(model, "prompts", None) or {}
    names = (kind,) if kind == "query" else (kind, "passage", "corpus")
    default: Any = getattr(model, "default_prompt_name", None)
    return prompts.get(next((name for name in names if name in prompts), default)) or None


def check_prompt(model: Any, prompt: str | None) -> None:
    """Refuses a prompt that leaves no room for a text: all texts would get one vector."""
    tokenizer, window = getattr(model, "tokenizer", None), getattr(model, "max_seq_length", None)
    if not prompt or window is None or not callable(tokenizer):
        return
    tokens = len(tokenizer(prompt)["input_ids"])  # those that begin and end a text among them
    if tokens >= window:
        raise refused("long prompt", tokens=tokens, prompt=prompt[:40], window=window)


def listed(texts: Sequence[str]) -> list[str]:
    """The texts as a list; fails for one text in place of a list."""
    if isinstance(texts, str):
        raise refused("one text", text=texts[:40])
    return list(texts)


def fresh_vectors(
    model: Any, texts: list[str], *, prompt: str | None, task: str | None, progress: Progress | None
) -> Vectors:
    """Unit vectors of texts, made now by a model or a function: float32, (texts, dim)."""
    if not hasattr(model, "preprocess"):
        given = [text if is_picture(text) else f"{prompt or ''}{text}" for text in texts]
        return checked_vectors(model(given), len(texts))
    from .packing import embed

    found = embed(model, texts, prompt=prompt, task=task, progress=progress)
    return checked_vectors(found.numpy(), len(texts))


def checked_vectors(vectors: Any, texts: int) -> Vectors:
    """What came back for so many texts, as float32 rows of length 1; fails for anything else."""
    try:
        vectors = np.asarray(vectors, dtype=np.float32)
        shape = f"an array of shape {vectors.shape}"
        usable = vectors.ndim == 2 and len(vectors) == texts and (vectors.shape[1] or not texts)
    except (TypeError, ValueError):
        shape, usable = f"{type(vectors).__name__} that is no array of numbers", False
    if not usable:
        raise refused("shape", shape=shape, texts=texts)
    bad = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
    if len(bad):
        told = f"{len(bad)} of {texts} embeddings hold NaN or infinity, first at {bad[0]}"
        raise refused("NaN", given=told)
    return unit(vectors)


def unit(vectors: Vectors) -> Vectors:
    """Each row brought to length 1; a row of zeros stays."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def weights_fingerprint(model: SentenceTransformer | CrossEncoder) -> str:
    """Hash of a model's weights, and of what else decides its embeddings or scores.

    Every byte is read each time: a weight that is written through ``.data``, as peft merges, keeps
    its address and its version.
    """
    import torch
    import xxhash

    digest = hashlib.sha256()
    for name, weight in sorted(model.state_dict().items()):
        digest.update(f"{name}{tuple(weight.shape)}{weight.dtype}".encode())
        numbers = weight.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy()
        digest.update(xxhash.xxh3_128(numbers).digest())
    truncated = str(getattr(model, "truncate_dim", None))  # a cross-encoder has none
    settings = [str(model.max_seq_length), truncated, repr(model)]
    backend = getattr(getattr(model, "tokenizer", None), "backend_tokenizer", None)
    if backend is not None and hasattr(backend, "to_str"):
        written = backend.to_str()  # truncation and padding, which every call sets, come first
        digest.update((written.partition('"added_tokens"')[2] or written).encode())
    settings += [  # which adapters are switched on, layer by layer
        f"{name}: {getattr(layer, 'disable_adapters', None)} {layer.active_adapters}"
        for name, layer in model.named_modules()
        if isinstance(getattr(layer, "active_adapters", None), list)
    ]
    digest.update(json.dumps(settings).encode())
    return digest.hexdigest()


def cache_file(model: SentenceTransformer | CrossEncoder, folder: str, *inputs: Any) -> Path:
    """Where what a model makes of its inputs is kept: the inputs decide, and all that it is."""
    digest = hashlib.sha256(weights_fingerprint(model).encode())
    digest.update(json.dumps([precision(model.device.type), *inputs]).encode())
    return paths().cache / folder / f"{digest.hexdigest()[:32]}.npy"


def read_array(where: Path, mode: Any = None) -> Any:
    """A kept array, memory-mapped with a ``mode``; None where there is none, or a part of one."""
    try:
        return np.load(where, mmap_mode=mode, allow_pickle=False)
    except (OSError, ValueError, EOFError):  # not there, or cut off: made again
        return None


def kept(where: Path, rows: int, make: Callable[[], np.ndarray]) -> np.ndarray:
    """A kept array of so many rows; where there is none, it is made, and kept if it can be."""
    if (found := read_array(where)) is None or len(found) != rows:
        found = make()
        with contextlib.suppress(EmbkitError):
            write_atomic(where, lambda stream: np.save(stream, found))
    used(where)
    return found


def used(where: Path) -> None:
    """Notes that a kept array was used now. Of the others in its folder, those used longest ago go
    where all together are larger than ``cache_gb``."""
    room = cache_gb() * 1e9
    with contextlib.suppress(OSError):  # nothing was kept; or another process deletes, too
        os.utime(where)
        files = [(p.stat().st_mtime_ns, p) for p in where.parent.glob("*.npy") if p != where]
        for path in (where, *(path for _, path in sorted(files, reverse=True))):
            room -= path.stat().st_size
            if room < 0 and path != where:
                path.unlink()


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
    if not hasattr(model, "preprocess") and not callable(model):
        asked = str(model) if isinstance(model, str | os.PathLike) else "minilm"
        raise refused("no encoder", model=model, asked=asked)
    check_prompt(model, prompt)
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
    digest = hashlib.sha256(json.dumps(["shards", known, prompt, task, dtype, len(texts)]).encode())
    for start in range(0, len(texts), 1000):  # all that decides the array; the texts in parts
        digest.update(json.dumps(texts[start : start + 1000]).encode())
    target = paths().cache / "embeddings" / f"{digest.hexdigest()[:32]}.npy"
    if _mapped(target, len(texts), dtype) is None:
        with _disk(target):
            target.parent.mkdir(parents=True, exist_ok=True)
            held = FileLock(target.with_suffix(".lock")).acquire()
        with held:  # a second process waits here, and then finds it done
            if _mapped(target, len(texts), dtype) is None:
                make = partial(fresh_vectors, model, prompt=prompt, task=task)
                _fill(target, texts, make, dtype, shard, progress)
    shutil.rmtree(target.with_suffix(".shards"), ignore_errors=True)
    used(target)
    return np.load(target, mmap_mode="c")


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
        why = error.strerror or error
        raise refused("disk", folder=target.parent, why=why) from error


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
    tell = progress or (lambda done: None)
    if told:
        tell(told)
    for start in missing:
        block = make(parts[start], progress=lambda n, told=told: tell(told + n))
        block = block.astype(dtype, copy=False)
        if not told:  # the first: how large all will be is known now
            free = shutil.disk_usage(target.parent).free / 2**30
            needed = (len(texts) + len(new)) * block[0].nbytes / 2**30
            with _disk(target):
                if free < needed:
                    raise OSError(f"{needed:.2f} GiB are needed, {free:.2f} are free")
        write_atomic(folder / f"{start}", partial(np.save, arr=block))
        told += len(block)
        tell(told)

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
