"""Late pooling: token vectors of a long window, pooled over each passage (late chunking, Günther
et al. 2024, https://arxiv.org/abs/2409.04701)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..errors import EmbkitError
from .vectors import Vectors, cache_file, prompt_of, read_array, unit, write_array
from .window import offsets_of

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

BATCH = 16  # windows that are read at once


def late_vectors(
    model: SentenceTransformer, texts: list[str], spans: list[list[tuple[int, int]]]
) -> Vectors:
    """Unit vectors of passages, (passages, dim), each the mean of its tokens' vectors as the model
    makes them from the whole text; from windows one after the other, where it reads less.

    Args:
        spans: of each text, where its passages begin and end, in characters.

    Fails for what does not pool by the mean, and for a passage longer than the window.
    """
    modules = [type(m).__name__ for m in model] if hasattr(model, "preprocess") else ["no model"]
    mode = getattr(model[1], "pooling_mode", None) if len(modules) > 1 else None
    if modules[:2] != ["Transformer", "Pooling"] or mode not in ("mean", ("mean",)):
        raise EmbkitError(
            f"late pooling of {' + '.join(modules)}, pooling {mode}",
            expected="a transformer whose text vectors are the mean of its tokens'",
            hint="leave late=True out",
        )
    where = cache_file(model, "embeddings", "late", texts, spans)
    if (found := read_array(where)) is not None:
        return found
    windows = [
        w for text, own in zip(texts, spans, strict=True) for w in _windows(model, text, own)
    ]
    order = np.argsort([-len(text) for text, _ in windows], kind="stable")
    rows: dict[int, list[np.ndarray]] = {}
    for first in range(0, len(order), BATCH):
        some = order[first : first + BATCH]
        rows |= zip(some.tolist(), _read(model, [windows[i] for i in some]), strict=True)
    vectors = unit(np.stack([row for place in sorted(rows) for row in rows[place]]))
    write_array(where, vectors)
    return vectors


def _windows(
    model: SentenceTransformer, text: str, spans: list[tuple[int, int]]
) -> list[tuple[str, list[tuple[int, int]]]]:
    """Parts of a text that a window holds, each with the places of its passages."""
    offsets, added = offsets_of(model)
    stops = np.array(offsets([text])[0], np.int64).reshape(-1, 2)[:, 1]
    found: list[tuple[str, list[tuple[int, int]]]] = []
    start, own = 0, list[tuple[int, int]]()
    for begin, end in spans:
        first, passage, last = np.searchsorted(stops, [start, begin, end], side="right")
        if last - passage > model.max_seq_length - added:
            raise EmbkitError(
                f"a passage of {last - passage} word pieces, late, of a model that reads "
                f"{model.max_seq_length}",
                expected="passages that its window holds, many of them at once",
                hint="a smaller size, such as size=128",
            )
        if own and last - first > model.max_seq_length - added:
            found.append((text[start : own[-1][1] + start], own))
            start, own = begin, []
        own = [*own, (begin - start, end - start)]
    return [*found, (text[start : own[-1][1] + start], own)]


def _read(
    model: SentenceTransformer, windows: list[tuple[str, list[tuple[int, int]]]]
) -> list[list[np.ndarray]]:
    import torch
    from sentence_transformers.util import batch_to_device

    from .. import session

    prompt = prompt_of(model, "document") or ""
    texts = [prompt + text for text, _ in windows]
    features = batch_to_device(model.preprocess(texts), model.device)
    used = features["attention_mask"].bool().cpu().numpy()  # (windows, longest)
    with torch.inference_mode(), session.autocast(model.device.type):
        tokens = model[0](features)["token_embeddings"].float().cpu().numpy()
    read = model.tokenizer(
        texts, return_offsets_mapping=True, truncation=True, max_length=model.max_seq_length
    )["offset_mapping"]
    made = []
    for row, mask, ends, (_, spans) in zip(tokens, used, read, windows, strict=True):
        begins, last = np.array(ends).T - len(prompt)
        inside = [(last > a) & (last <= b) & (last > begins) for a, b in spans]
        inside = [own if own.any() else np.ones_like(own) for own in inside]  # a text of no token
        made.append([row[mask][own].mean(axis=0) for own in inside])
    return made
