"""Late pooling: token vectors of a long window, pooled over each passage (late chunking, Günther
et al. 2024, https://arxiv.org/abs/2409.04701)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..errors import EmbkitError
from .vectors import Vectors, cache_file, prompt_of, read_array, unit, write_array

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

BATCH = 16  # windows that are read at once


def late_vectors(
    model: SentenceTransformer, texts: list[str], spans: list[list[tuple[int, int]]]
) -> Vectors:
    """Unit vectors of passages, (passages, dim), each the mean of its tokens' vectors as the model
    makes them from the whole text, or from as much of it before the passage as its window holds.

    Args:
        spans: of each text, where its passages begin and end, in characters.

    Fails for a model that does not pool by the mean, and for a passage that fills its window.
    """
    where = cache_file(model, "embeddings", "late", texts, spans)
    if (found := read_array(where)) is not None:
        return found
    modules = [type(module).__name__ for module in model]
    mode = getattr(model[1], "pooling_mode", None) if len(modules) > 1 else None
    if modules[:2] != ["Transformer", "Pooling"] or mode not in ("mean", ("mean",)):
        raise EmbkitError(
            f"late pooling of a model that is {' + '.join(modules)}, pooling {mode}",
            expected="a transformer whose text vectors are the mean of its tokens'",
            hint="leave late=True out",
        )
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
    tokenizer, prompt = model.tokenizer, prompt_of(model, "document") or ""
    room = model.max_seq_length - len(tokenizer(prompt)["input_ids"])
    options = {"add_special_tokens": False, "return_offsets_mapping": True, "truncation": False}
    ends = np.array(tokenizer(text, verbose=False, **options)["offset_mapping"]).reshape(-1, 2)
    found: list[tuple[str, list[tuple[int, int]]]] = []
    start, own = 0, list[tuple[int, int]]()
    for begin, end in spans:
        tokens = np.searchsorted(ends[:, 0], [start, end])
        if own and tokens[1] - tokens[0] > room:
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
    with torch.inference_mode(), session.autocast(model.device.type):
        tokens = model[0](features)["token_embeddings"].float().cpu().numpy()
    read = model.tokenizer(
        texts, return_offsets_mapping=True, truncation=True, max_length=model.max_seq_length
    )["offset_mapping"]
    made = []
    for row, ends, (_, spans) in zip(tokens, read, windows, strict=True):
        begins, last = np.array(ends).T - len(prompt)
        inside = [(begins >= a) & (last <= b) & (last > begins) for a, b in spans]
        if not all(mask.any() for mask in inside):
            raise EmbkitError(
                "a passage that the model's window does not reach",
                expected=f"passages well below {model.max_seq_length} word pieces",
                hint="a smaller size, such as size=128",
            )
        made.append([row[: len(mask)][mask].mean(axis=0) for mask in inside])
    return made
