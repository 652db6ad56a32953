"""Texts to unit vectors: with the right prompt, cached, in shards where they are many."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .shards import checked_dtype, encode_shards
from .vectors import (
    EmbedFunction,
    Vectors,
    cache_file,
    check_prompt,
    checked_model,
    checked_texts,
    checked_vectors,
    prompt_of,
    read_array,
    write_array,
)

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

LARGE = 100_000  # texts: the vectors of more are made in shards and stay on disk


def encode(
    model: SentenceTransformer | EmbedFunction,
    texts: Sequence[str],
    *,
    prompt: str | None = None,
    task: str | None = None,
    cache: bool = True,
    dtype: str = "float32",
    progress: Any = None,
) -> Vectors:
    """Unit vectors of texts.

    Those of a sentence-transformers model are cached on disk under the hash of its weights, the
    precision, the prompt and the texts. Of more than ``LARGE`` texts they are made in shards that
    survive a kill, and what comes back is memory-mapped (see ``shards.encode_shards``).

    Args:
        model: a sentence-transformers model, or any function ``list[str] -> (texts, dim)``.
        texts: what to encode.
        prompt: put before every text.
        task: ``query`` or ``document``: the way through a model that has several (a ``Router``).
        cache: whether to read and write the cache on disk.
        dtype: ``float32``, or ``float16`` for half the memory.
        progress: called with the number of texts done so far.

    Returns:
        Array of shape (texts, dim), each row of length 1.

    Raises:
        EmbkitError: an empty text, a row of another shape, NaN, a prompt that fills the window,
            an unknown dtype; of more than ``LARGE`` texts, a disk without room for their vectors.
    """
    texts, dtype = checked_texts(texts), checked_dtype(dtype)
    checked_model(model)
    if not hasattr(model, "preprocess"):
        given = [prompt + text for text in texts] if prompt else texts
        return checked_vectors(model(given), len(texts)).astype(dtype, copy=False)  # type: ignore
    check_prompt(model, prompt)
    from . import packing

    way = task if task and packing.routed(model) else None  # type: ignore[arg-type]
    if cache and len(texts) > LARGE:
        return encode_shards(model, texts, prompt=prompt, task=way, dtype=dtype, progress=progress)
    made_of = [prompt, texts, *([way] if way else [])]
    where = cache_file(model, "embeddings", *made_of) if cache else None  # type: ignore[arg-type]
    if where and (found := read_array(where)) is not None and len(found) == len(texts):
        return found.astype(dtype, copy=False)
    vectors = packing.embed(model, texts, prompt=prompt, task=task, progress=progress).numpy()
    vectors = checked_vectors(vectors, len(texts))
    if where:
        write_array(where, vectors)
    return vectors.astype(dtype, copy=False)


def encode_as(model: Any, texts: Sequence[str], kind: str, *, cache: bool = True) -> Vectors:
    """Unit vectors of texts as queries or documents, (texts, dim): what a search compares.

    Args:
        model: as in ``encode``.
        texts: what to encode.
        kind: ``query`` or ``document``: decides the prompt, of those that the model was saved with,
            and the way through a model that has several.
        cache: whether to read and write the cache on disk.
    """
    if hasattr(model, "vectors"):  # a Teacher: each of its members has prompts of its own
        return model.vectors(texts, kind)
    return encode(model, texts, prompt=prompt_of(model, kind), task=kind, cache=cache)
