"""Late pooling: token vectors of a long window, pooled over each passage (late chunking, Günther
et al. 2024, https://arxiv.org/abs/2409.04701)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..data.images import in_parts
from ..errors import EmbkitError
from .vectors import Vectors, cache_file, kept, prompt_of, unit
from .window import offsets_of

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

HELD = 256  # windows whose tokens are in memory at once


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
    return kept(where, sum(map(len, spans)), lambda: _late(model, texts, spans))


def _late(
    model: SentenceTransformer, texts: list[str], spans: list[list[tuple[int, int]]]
) -> Vectors:
    """The vectors of ``late_vectors``: each the mean of the tokens between two places."""
    from .. import session

    beside = zip(texts, spans, strict=True)
    windows = [window for text, own in beside for window in _windows(model, text, own)]
    prompt, made = prompt_of(model, "document") or "", []
    for some in in_parts(windows, HELD):
        read = [prompt + text for text, _ in some]
        with session.autocast(model.device.type):
            found = model.encode(
                read, prompt="", output_value="token_embeddings", show_progress_bar=False
            )
        options = {"truncation": True, "max_length": model.max_seq_length}
        offsets = model.tokenizer(read, return_offsets_mapping=True, **options)["offset_mapping"]
        for vectors, ends, (_, own) in zip(found, offsets, some, strict=True):
            tokens = vectors[-len(ends) :].float().cpu().numpy()  # without padding on the left
            begins, last = np.array(ends).T - len(prompt)
            for a, b in own:
                inside = (last > a) & (last <= b) & (last > begins)
                made.append(tokens[inside if inside.any() else ...].mean(axis=0))
    return unit(np.stack(made))


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
