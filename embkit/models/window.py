"""What a model's window never reads of a domain's documents, and passages that fit it; and late
pooling: token vectors of a long window, pooled over each passage (late chunking, Günther et al.
2024, https://arxiv.org/abs/2409.04701)."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from itertools import accumulate
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .. import session
from ..assets import catalogue
from ..data.domain import Domain, shuffled
from ..data.images import in_parts, is_picture
from ..data.passages import Passage, cut
from ..data.text_checks import token_lengths
from ..display import percent
from .encoding import Vectors, cache_file, kept, prompt_of, refused, unit

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

DEFAULT = "minilm"  # the model whose window counts where none is named
DOCUMENTS, CHARACTERS = 2_000, 12_000_000  # that are counted, at most
HELD = 256  # windows whose tokens are in memory at once


class Unread(NamedTuple):
    """How many documents a window cuts, and what lies behind it."""

    window: float  # tokens of a text that are read
    median: float  # tokens of a document
    cut: float  # share of the documents that are longer than the window
    tokens: float  # share of all tokens that are never read
    right: float  # share of the right documents that are cut
    longest: list[tuple[int, str]]  # the two longest that are cut: tokens, and the text
    sampled: str  # how many documents were counted, where not all were

    def told(self, name: str) -> str:
        """A sentence on it; empty where no document is cut."""
        said = f"{name} reads {self.window:.0f} tokens of a text: {percent(self.cut)} of the "
        said += f"documents are longer, and {percent(self.tokens)} of all tokens are never read"
        said += f"{self.sampled}; {percent(self.right)} of the right documents are cut: an answer "
        return said + "behind the cut is never found" if self.cut or self.right else ""


def unread(
    domain: Domain, tokenizer: Any, window: float | None, splits: Iterable[str] = ("train", "dev")
) -> Unread | None:
    """How much of the documents, and of the right ones of some splits, a model does not read.

    At most 2,000 documents are counted, and as many right ones; fewer of very long ones. None
    without a tokenizer, and for pictures.
    """
    corpus, window = domain.corpus, window or math.inf
    right = {document for split in splits for _, document in domain.right(split)}

    def some(ids: Iterable[str]) -> list[str]:
        drawn = shuffled(ids)[:DOCUMENTS]
        before = accumulate((len(corpus[d]) for d in drawn), initial=0)
        return [d for d, n in zip(drawn, before, strict=False) if n < CHARACTERS]

    drawn, answers = some(corpus), some(right)
    if tokenizer is None or any(is_picture(corpus[d]) for d in drawn):
        return None
    ids = list(dict.fromkeys(drawn + answers))
    counts = token_lengths(tokenizer, [corpus[d] for d in ids])
    tokens = dict(zip(ids, counts.tolist(), strict=True))
    longest = sorted(ids, key=lambda d: -tokens[d])[:2]
    of_all, part = counts[: len(drawn)], f" (of {len(drawn):,} documents of {len(corpus):,})"
    return Unread(
        window,
        float(np.median(of_all)),
        float((of_all > window).mean()),
        float(np.maximum(of_all - window, 0).sum() / of_all.sum()),
        sum(tokens[d] > window for d in answers) / max(len(answers), 1),
        [(n, corpus[d]) for d in longest if (n := tokens[d]) > window],
        part * (len(drawn) < len(corpus)),
    )


def tokenizer_of(model: Any) -> Any:
    """A loaded model's tokenizer, if it has one that counts pieces, else None."""
    found = getattr(model, "tokenizer", None)
    return found if callable(found) and hasattr(found, "tokenize") else None


def without_weights() -> tuple[Any, float | None]:
    """The default model's tokenizer and window; (None, None) where it was never fetched."""
    if not catalogue.is_here(DEFAULT):
        return None, None
    from tokenizers import Tokenizer

    folder = catalogue.resolve(DEFAULT)
    read = Tokenizer.from_file(str(folder / "tokenizer.json"))
    read.no_truncation()
    read.no_padding()
    settings = json.loads((folder / "sentence_bert_config.json").read_text(encoding="utf-8"))
    tokenizer = lambda texts, **_: {"input_ids": [t.ids for t in read.encode_batch(texts)]}  # noqa: E731
    return tokenizer, float(settings["max_seq_length"])


def offsets_of(model: Any) -> tuple[Any, int]:
    """Texts -> where each word piece begins and ends, by a model's tokenizer, and how many pieces
    the model adds to a document, its prompt among them; (None, 0) for a function, whose tokenizer
    nobody knows."""
    tokenizer = tokenizer_of(model)
    if not getattr(tokenizer, "is_fast", False):
        return None, 0
    options = {"add_special_tokens": False, "return_offsets_mapping": True, "truncation": False}

    def offsets(texts: list[str]) -> Any:
        return tokenizer(texts, verbose=False, **options)["offset_mapping"] if texts else []

    return offsets, len(tokenizer(prompt_of(model, "document") or "")["input_ids"])


def cut_for(
    model: Any, texts: list[str], size: int, overlap: int = 0, headings: bool = False
) -> list[list[Passage]]:
    """Texts cut into passages that have, with what the model adds, ``size`` word pieces at most.

    The arguments are those of ``ek.search.Passages``. Fails for more than the model's window.
    """
    offsets, added = offsets_of(model)
    window = getattr(model, "max_seq_length", None) or math.inf
    if size > window or any(map(is_picture, texts)):
        why, hint = "of pictures", "documents as they are, without a size"
        if size > window:
            why, hint = f"for a model that reads {window}", f"size={window}"
        raise refused("long passages", size=size, why=why, hint=hint)
    room = size - added
    return cut(texts, room, min(overlap, room // 2 - 1), headings=headings, offsets=offsets)


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
        raise refused("late pooling", modules=" + ".join(modules), mode=mode)
    where = cache_file(model, "embeddings", "late", texts, spans)

    def made() -> Vectors:
        beside = zip(texts, spans, strict=True)
        windows = [window for text, own in beside for window in _windows(model, text, own)]
        prompt, means = prompt_of(model, "document") or "", []
        options: Any = {"truncation": True, "max_length": model.max_seq_length}
        for some in in_parts(windows, HELD):
            read = [prompt + text for text, _ in some]
            with session.autocast(model.device.type):
                found = model.encode(
                    read, prompt="", output_value="token_embeddings", show_progress_bar=False
                )
            places = model.tokenizer(read, return_offsets_mapping=True, **options)
            ends = places["offset_mapping"]
            for vectors, own, (_, spans_of) in zip(found, ends, some, strict=True):
                tokens = vectors[-len(own) :].float().cpu().numpy()  # without padding on the left
                begins, last = np.array(own).T - len(prompt)
                for a, b in spans_of:
                    inside = (last > a) & (last <= b) & (last > begins)
                    means.append(tokens[inside if inside.any() else ...].mean(axis=0))
        return unit(np.stack(means))

    return kept(where, sum(map(len, spans)), made)


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
            raise refused("long passage", size=last - passage, window=model.max_seq_length)
        if own and last - first > model.max_seq_length - added:
            found.append((text[start : own[-1][1] + start], own))
            start, own = begin, []
        own = [*own, (begin - start, end - start)]
    return [*found, (text[start : own[-1][1] + start], own)]
