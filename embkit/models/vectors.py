"""Vectors of texts: made, with what goes in and comes out checked, and kept on disk."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..data.images import is_picture
from ..errors import EmbkitError
from ..files import write_atomic
from ..session import paths, precision

if TYPE_CHECKING:
    from sentence_transformers import CrossEncoder, SentenceTransformer

Vectors = np.ndarray  # (texts, dim), float32
EmbedFunction = Callable[[list[str]], Any]
Progress = Callable[[int], Any]  # how many texts are done


def checked_model(model: Any, prompt: str | None) -> None:
    """Fails for what can encode nothing, and for a prompt that fills the model's window."""
    if not hasattr(model, "preprocess") and not callable(model):
        asked = str(model) if isinstance(model, str | os.PathLike) else "minilm"
        raise EmbkitError(
            f"encode() was given {model!r} as its model",
            expected="a SentenceTransformer, or a function list[str] -> (texts, dim)",
            hint=f"ek.encode(ek.load_model({asked!r}), texts)",
        )
    check_prompt(model, prompt)


def checked_texts(texts: Sequence[str]) -> list[str]:
    """The texts as a list; fails for an empty one, and for one text in place of a list."""
    texts = listed(texts)
    empty = [i for i, text in enumerate(texts) if not isinstance(text, str) or not text.strip()]
    if empty:
        raise EmbkitError(
            f"{len(empty)} of {len(texts)} texts are empty or no text, first at {empty[:3]}",
            expected="a list of non-empty str",
            hint="[t for t in texts if t.strip()]",
        )
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
        raise EmbkitError(
            f"a prompt of {tokens} tokens, {prompt[:40]!r}, for a model that reads {window}",
            expected=f"a prompt that leaves room for the text: fewer than {window} tokens",
            hint="a few words, such as query_prompt='query: '",
        )


def listed(texts: Sequence[str]) -> list[str]:
    """The texts as a list; fails for one text in place of a list."""
    if isinstance(texts, str):
        raise EmbkitError(
            f"one text, {texts[:40]!r}, where a list of texts is wanted",
            expected="a list of str",
            hint=f"[{texts[:40]!r}]",
        )
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
        raise EmbkitError(
            f"{shape} came back for {texts} texts",
            expected=f"numbers of shape ({texts}, dim)",
            hint="return one row a text, in the texts' order",
        )
    bad = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
    if len(bad):
        raise EmbkitError(
            f"{len(bad)} of {texts} embeddings hold NaN or infinity, first at {bad[0]}",
            expected="finite numbers",
            hint="a training run that diverged gives these: lower the learning rate",
        )
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
    return found
