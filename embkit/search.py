"""Encode, search exactly, search by words (BM25)."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .errors import EmbkitError
from .files import write_atomic
from .session import paths, precision

if TYPE_CHECKING:
    from sentence_transformers import CrossEncoder, SentenceTransformer

Vectors = np.ndarray  # (texts, dim), float32
EmbedFunction = Callable[[list[str]], Any]
LARGE = 100_000  # texts: the vectors of more are made in shards and stay on disk


def load_model(model: str | os.PathLike, **kwargs: Any) -> SentenceTransformer:
    """A sentence-transformers model by name, folder or hub id, on the session's device.

    ``trust_remote_code`` is never set: code that comes with a model is not run.

    Raises:
        EmbkitError: the model cannot be found, or the folder cannot be loaded.
    """
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.model_card import (
        SentenceTransformerModelCardData,
    )

    from .assets import resolve
    from .session import device, quiet

    quiet()
    folder = resolve(model)
    kwargs.setdefault(
        "model_card_data", SentenceTransformerModelCardData(generate_widget_examples=False)
    )
    from .images import is_towers, reads_pictures

    try:
        if is_towers(folder):
            from .towers import load_towers

            return load_towers(folder, device(), **kwargs)
        if reads_pictures(folder):
            from .towers import PictureReader

            return PictureReader(str(folder), device=device(), **kwargs)
        return SentenceTransformer(str(folder), device=device(), **kwargs)
    except Exception as error:  # the libraries have many for a damaged folder
        raise EmbkitError(
            f"{str(model)!r} cannot be loaded as a model: {str(error).splitlines()[0]}",
            expected="a folder that SentenceTransformer(folder) can load",
            hint="save it again with model.save_pretrained(folder)",
        ) from error


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

    Those of a sentence-transformers model are cached on disk under the hash of the model's
    weights, the precision, the prompt and the texts: the second time costs no model at all. Of
    more than ``LARGE`` texts they are made in shards that survive a kill, and stay on disk: what
    comes back is memory-mapped (see ``shards.encode_shards``).

    Args:
        model: a sentence-transformers model, or any function ``list[str] -> (texts, dim)``,
            such as an API's client.
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
    from .shards import checked_dtype, encode_shards

    texts, dtype = checked_texts(texts), checked_dtype(dtype)
    checked_model(model)
    if not hasattr(model, "preprocess"):
        return checked_vectors(model(texts), len(texts)).astype(dtype, copy=False)  # type: ignore
    from .engine import embed, routed

    check_prompt(model, prompt)
    way = [task] if task and routed(model) else []  # type: ignore[arg-type]
    if cache and len(texts) > LARGE:
        options: dict[str, Any] = {"prompt": prompt, "dtype": dtype, "progress": progress}
        return encode_shards(model, texts, task=way[0] if way else None, **options)
    where = cache_file(model, "embeddings", prompt, texts, *way) if cache else None  # type: ignore[arg-type]
    if where and (found := read_array(where)) is not None and len(found) == len(texts):
        return found.astype(dtype, copy=False)
    vectors = embed(model, texts, prompt=prompt, task=task, progress=progress).numpy()
    vectors = checked_vectors(vectors, len(texts))
    if where:
        write_array(where, vectors)
    return vectors.astype(dtype, copy=False)


def checked_model(model: Any) -> None:
    """Fails for what can encode nothing."""
    if not hasattr(model, "preprocess") and not callable(model):
        raise EmbkitError(
            f"encode() was given {model!r} as its model",
            expected="a SentenceTransformer, or a function list[str] -> (texts, dim)",
            hint=f"ek.encode(ek.load_model({str(model)!r}), texts)"
            if isinstance(model, str | os.PathLike)
            else "ek.encode(ek.load_model('minilm'), texts)",
        )


def checked_texts(texts: Sequence[str]) -> list[str]:
    """The texts as a list; fails for an empty one, and for one text in place of a list."""
    texts = _listed(texts)
    empty = [i for i, text in enumerate(texts) if not isinstance(text, str) or not text.strip()]
    if empty:
        raise EmbkitError(
            f"{len(empty)} of {len(texts)} texts are empty or no text, first at {empty[:3]}",
            expected="a list of non-empty str",
            hint="[t for t in texts if t.strip()]",
        )
    return texts


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
    prompts = getattr(model, "prompts", None) or {}
    return encode(model, texts, prompt=prompts.get(kind) or None, task=kind, cache=cache)


def check_prompt(model: Any, prompt: str | None) -> None:
    """Refuses a prompt that leaves no room for a text: all texts would get one vector.

    Raises:
        EmbkitError: naming the prompt's tokens and the model's window.
    """
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


def _listed(texts: Sequence[str]) -> list[str]:
    if isinstance(texts, str):
        raise EmbkitError(
            f"one text, {texts[:40]!r}, where a list of texts is wanted",
            expected="a list of str",
            hint=f"[{texts[:40]!r}]",
        )
    return list(texts)


def checked_vectors(vectors: Any, texts: int) -> Vectors:
    """What came back for so many texts, as float32 rows of length 1; fails for what is none."""
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
    bad = ~np.isfinite(vectors).all(axis=1)
    if bad.any():
        raise EmbkitError(
            f"{int(bad.sum())} of {texts} embeddings hold NaN or infinity, first at "
            f"{int(np.flatnonzero(bad)[0])}",
            expected="finite numbers",
            hint="a training run that diverged gives these: lower the learning rate",
        )
    return unit(vectors)


def unit(vectors: Vectors) -> Vectors:
    """Each row brought to length 1; a row of zeros stays."""
    return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-12)


def fingerprint(model: SentenceTransformer | CrossEncoder) -> str:
    """Hash of a model's weights, and of what else decides its embeddings or scores."""
    digest = hashlib.sha256()
    for name, weight in sorted(model.state_dict().items()):
        digest.update(f"{name}{tuple(weight.shape)}{weight.dtype}".encode())
        digest.update(weight.detach().float().cpu().numpy().tobytes())
    truncated = getattr(model, "truncate_dim", None)  # a cross-encoder has none
    settings: list[Any] = [str(model.max_seq_length), str(truncated), repr(model)]
    backend = getattr(getattr(model, "tokenizer", None), "backend_tokenizer", None)
    if backend is not None and hasattr(backend, "to_str"):
        pieces = json.loads(backend.to_str())
        settings.append({k: v for k, v in pieces.items() if k not in ("truncation", "padding")})
    settings += _adapters_in_use(model)
    digest.update(json.dumps(settings).encode())
    return digest.hexdigest()


def _adapters_in_use(model: SentenceTransformer | CrossEncoder) -> list[str]:
    """Which of a model's adapters are switched on, layer by layer; none for a model without."""
    return [
        f"{name}: {getattr(layer, 'disable_adapters', None)} {layer.active_adapters}"
        for name, layer in model.named_modules()
        if isinstance(getattr(layer, "active_adapters", None), list)
    ]


def cache_file(model: SentenceTransformer | CrossEncoder, folder: str, *inputs: Any) -> Path:
    """Where what a model makes of its inputs is kept: the inputs decide, and all that it is."""
    digest = hashlib.sha256(fingerprint(model).encode())
    digest.update(json.dumps([precision(model.device.type), *inputs]).encode())
    return paths().cache / folder / f"{digest.hexdigest()[:32]}.npy"


def read_array(where: Path) -> np.ndarray | None:
    """A kept array; None where there is none, or only a part of one."""
    try:
        return np.load(where, allow_pickle=False)
    except (OSError, ValueError, EOFError):  # not there, or cut off: encoded again
        return None


def write_array(where: Path, array: np.ndarray) -> None:
    """A cache that cannot be written is no error: the result is here."""
    with contextlib.suppress(EmbkitError):
        write_atomic(where, lambda stream: np.save(stream, array))


def exact_search(
    queries: Vectors, documents: Vectors, k: int = 10, *, block_mb: int = 256
) -> tuple[np.ndarray, np.ndarray]:
    """Exact search: the k documents with the largest dot product, in blocks of bounded memory.

    Args:
        queries: shape (queries, dim).
        documents: shape (documents, dim); a memory-mapped array will do.
        k: how many; more than there are documents gives them all.
        block_mb: the largest score block, in MB.

    Returns:
        (indices, scores), both (queries, min(k, documents)), best first; ties by lower index.

    Raises:
        EmbkitError: k below 1, or different dimensions.
    """
    if k < 1:
        raise EmbkitError(f"k={k}", expected="k of 1 or more", hint="k=10")
    if queries.ndim != 2 or documents.ndim != 2 or queries.shape[1] != documents.shape[1]:
        raise EmbkitError(
            f"queries of shape {queries.shape} cannot be compared with documents of shape "
            f"{documents.shape}",
            expected="two arrays (n, dim) with the same dim",
            hint="encode both with the same model and the same truncation",
        )
    k = min(k, len(documents))
    if k == 0:
        return np.empty((len(queries), 0), np.int64), np.empty((len(queries), 0), np.float32)
    width = min(len(documents), 65_536)
    height = max(1, int(block_mb * 2**20 / 4 / max(1, width)))
    indices = np.empty((len(queries), k), dtype=np.int64)
    scores = np.empty((len(queries), k), dtype=np.float32)
    for top in range(0, len(queries), height):
        rows = slice(top, top + height)
        best: tuple[np.ndarray, np.ndarray] | None = None
        for left in range(0, len(documents), width):
            block = queries[rows] @ np.asarray(documents[left : left + width], np.float32).T
            if not np.isfinite(block).all():
                raise EmbkitError(
                    "a query or document vector holds NaN or infinity",
                    expected="finite numbers",
                    hint="ek.encode() refuses such vectors when they are made",
                )
            found = _top(block, min(k, block.shape[1]))
            found = (found[0] + left, found[1])
            best = found if best is None else _merge(best, found, k)
        assert best is not None
        indices[rows], scores[rows] = best
    return indices, scores


def _top(block: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k best of each row, best first, ties by lower index."""
    if k < block.shape[1]:
        import torch

        values, places = torch.topk(torch.from_numpy(block), k + 1, dim=1)
        indices = np.sort(places[:, :k].numpy(), axis=1)
        for row in np.flatnonzero((values[:, k - 1] == values[:, k]).numpy()):
            kth = block[row, indices[row]].min()  # a tie at the border: the lower indices win
            above, level = np.flatnonzero(block[row] > kth), np.flatnonzero(block[row] == kth)
            indices[row] = np.sort(np.concatenate([above, level[: k - len(above)]]))
    else:
        indices = np.broadcast_to(np.arange(k), block.shape)
    scores = np.take_along_axis(block, indices, axis=1)
    order = np.argsort(-scores, axis=1, kind="stable")
    return np.take_along_axis(indices, order, axis=1), np.take_along_axis(scores, order, axis=1)


def _merge(a, b, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k best of two ranked lists; the first list's indices are the lower ones."""
    indices = np.concatenate([a[0], b[0]], axis=1)
    scores = np.concatenate([a[1], b[1]], axis=1)
    order = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return np.take_along_axis(indices, order, axis=1), np.take_along_axis(scores, order, axis=1)


class Dense:
    """Documents encoded once by one model, searched as often as you like.

    Queries and documents get the prompts that the model was saved with, and go the ways that it
    has for them, as with ``encode_query`` and ``encode_document``.

    Args:
        model: as in ``encode``.
        texts: the documents.
        cache: whether embeddings are read from and kept on disk.
    """

    def __init__(self, model: Any, texts: Sequence[str], *, cache: bool = True) -> None:
        self._encode = lambda rows, kind: encode_as(model, rows, kind, cache=cache)
        self._documents = self._encode(texts, "document")

    def search(self, queries: Sequence[str], k: int = 10) -> tuple[np.ndarray, np.ndarray]:
        """(indices, scores), both (queries, min(k, documents)), best first; ties by lower index."""
        return exact_search(self._encode(queries, "query"), self._documents, k)


class BM25:
    """Search by words: BM25 (bm25s, its Lucene variant), English stop words left out.

    Example:
        >>> BM25(["iron deficiency anemia", "whooping cough"]).search(["iron"], k=1)[0].tolist()
        [[0]]
    """

    def __init__(self, texts: Sequence[str], *, k1: float = 1.5, b: float = 0.75) -> None:
        import bm25s

        self._tokens = lambda rows: bm25s.tokenize(
            rows, stopwords="en", show_progress=False, return_ids=False
        )
        tokens = self._tokens(_listed(texts)) if len(texts) else []
        if not any(tokens):
            raise EmbkitError(
                f"BM25 of {len(texts)} texts without a single word to search by",
                expected="at least one text with a word that is no stop word",
                hint="BM25(list(domain.corpus.values()))",
            )
        self._index = bm25s.BM25(k1=k1, b=b)
        self._index.index(tokens, show_progress=False)

    def search(self, queries: Sequence[str], k: int = 10) -> tuple[np.ndarray, np.ndarray]:
        """(indices, scores), both (queries, min(k, documents)), best first; ties by lower index."""
        if k < 1:
            raise EmbkitError(f"k={k}", expected="k of 1 or more", hint="k=10")
        size = int(self._index.scores["num_docs"])
        queries = _listed(queries)
        indices = np.empty((len(queries), min(k, size)), np.int64)
        scores = np.empty(indices.shape, np.float32)
        for row, found in enumerate(self._all_scores(queries)):
            best = _top(found[None], min(k, size))
            indices[row], scores[row] = best[0][0], best[1][0]
        return indices, scores

    def pair_scores(self, queries: Sequence[str], documents: Sequence[int]) -> np.ndarray:
        """The scores of (query, document) pairs, shape (pairs,); documents by their place."""
        rows = self._all_scores(_listed(queries))
        return np.array([row[d] for row, d in zip(rows, documents, strict=True)], np.float32)

    def _all_scores(self, queries: list[str]) -> Iterator[np.ndarray]:
        """For each query, the score of every document, shape (documents,)."""
        size = int(self._index.scores["num_docs"])
        for words in self._tokens(queries) if queries else []:
            known = [word for word in words if word in self._index.vocab_dict]
            found = self._index.get_scores(known) if known else np.zeros(size)
            yield np.asarray(found, np.float32)
