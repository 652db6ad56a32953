"""The same maths with less waste: precision that the device is good at, and no padding.

On ICD-10-CM two thirds of the tokens of a padded batch are padding. Here a batch's texts are laid
end to end, and only attention is run text by text, for all texts of one length at once. Embeddings,
loss and gradients are those of the padded batch, to rounding. An attention function registered with
transformers does it: no model class is changed, and nothing of it is saved. A model that cannot be
packed, which is found out by trying, is run in chunks of like length instead.
"""

from __future__ import annotations

import contextlib
import copy
import itertools
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from sentence_transformers import SentenceTransformer
from torch import Tensor
from transformers import AttentionInterface
from transformers.masking_utils import AttentionMaskInterface

from .. import session
from ..data.images import is_picture

ATTENTION = "embkit_packed"
WINDOW = 32  # batches that are read at once, to be split by their texts' true lengths
PICTURES = 256  # that are decoded at once
FEW = 1024  # texts: for fewer, a copy of the model with cast weights does not pay
TOLERANCE = 1e-3  # largest difference of a unit vector's entries for packing to count as equal
Features = dict[str, Any]


def _attend(
    module: torch.nn.Module,
    query: Tensor,  # (1, heads, tokens, dim of a head)
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    cu_seq_lens_q: Tensor | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Attention within each text; texts come sorted by length, so each length is one call.

    While training it runs in fp32: on a processor with native bf16, the backward pass of torch's
    bf16 attention takes six times as long on texts this short (torch 2.13).
    """
    assert cu_seq_lens_q is not None
    dtype = query.dtype
    if query.requires_grad:
        query, key, value = query.float(), key.float(), value.float()
    heads, dim = query.shape[1], query.shape[3]
    lengths = cu_seq_lens_q.diff().tolist()
    groups = [(len(list(same)), length) for length, same in itertools.groupby(lengths)]
    sizes = [texts * length for texts, length in groups]
    flat = [t.transpose(1, 2).reshape(-1, heads * dim).split(sizes) for t in (query, key, value)]
    outputs = []
    with torch.autocast(query.device.type, enabled=False):
        for (texts, length), *parts in zip(groups, *flat, strict=True):
            q, k, v = (p.view(texts, length, heads, dim).transpose(1, 2) for p in parts)
            out = F.scaled_dot_product_attention(q, k, v, dropout_p=dropout, scale=scaling)
            outputs.append(out.transpose(1, 2).reshape(texts * length, heads * dim))
    return torch.cat(outputs).view(1, -1, heads, dim).to(dtype), None


AttentionInterface.register(ATTENTION, _attend)
AttentionMaskInterface.register(ATTENTION, lambda *args, **kwargs: None)


def pack(features: Features) -> tuple[Features, Tensor]:
    """Lays a padded batch end to end, shortest text first.

    Args:
        features: ``input_ids`` and ``attention_mask`` of shape (texts, longest), and the rest.

    Returns:
        The features, what had that shape now (1, tokens), with ``position_ids`` and
        ``cu_seq_lens_q`` (where each text begins, and the end); and each text's place among the
        packed ones, shape (texts,).
    """
    mask = features["attention_mask"].bool()  # (texts, longest)
    lengths = mask.sum(dim=1)
    order = torch.argsort(lengths, stable=True)
    place = torch.empty_like(order)
    place[order] = torch.arange(len(order), device=order.device)
    mask = mask[order]
    packed: Features = {}
    for name, value in features.items():
        if isinstance(value, Tensor) and value.shape == mask.shape:
            packed[name] = value[order][mask].unsqueeze(0)  # (1, tokens)
        else:
            packed[name] = value
    del packed["attention_mask"]
    packed["position_ids"] = (mask.cumsum(dim=1) - 1)[mask].unsqueeze(0)
    packed["cu_seq_lens_q"] = F.pad(lengths[order].cumsum(0), (1, 0))
    return packed, place


def chunks(lengths: Tensor, waste: float = 1.15, smallest: int = 8) -> list[Tensor]:
    """Row numbers in groups of like length: padded, a group has at most ``waste`` times its tokens.

    Args:
        lengths: tokens a text, shape (texts,).
        waste: padded tokens over tokens that is allowed.
        smallest: texts a group at least, so that products stay large.
    """
    order = torch.argsort(lengths, descending=True, stable=True)
    found, start, tokens = [], 0, 0
    sorted_lengths = lengths[order].tolist()
    for i, length in enumerate(sorted_lengths):
        rows = i - start
        if rows >= smallest and sorted_lengths[start] * (rows + 1) > waste * (tokens + length):
            found.append(order[start:i])
            start, tokens = i, 0
        tokens += length
    found.append(order[start:])
    return found


def _text_batch(features: Features) -> bool:
    ids, mask = features.get("input_ids"), features.get("attention_mask")
    return (
        isinstance(ids, Tensor) and ids.ndim == 2 and mask is not None and mask.shape == ids.shape
    )


@contextlib.contextmanager
def efficient(model: SentenceTransformer) -> Iterator[SentenceTransformer]:
    """Within the block, the model's forward pass wastes no padding; nothing else changes.

    Works under any loss and trainer that call ``model(features)`` and read
    ``sentence_embedding``, such as ``trainer.train()``. On a GPU the model is left as it is: there,
    padding costs less than many small calls, and sentence-transformers packs by itself where
    FlashAttention is installed.
    """
    stock = model.forward
    if model.device.type != "cpu" or "forward" in model.__dict__:
        yield model
        return
    run = _packed_forward if can_pack(model) else _chunked_forward

    def forward(features: Features, **kwargs: Any) -> Features:
        if not _text_batch(features):
            return stock(features, **kwargs)
        return run(model, stock, features, **kwargs)

    model.forward = forward  # type: ignore[method-assign]
    try:
        yield model
    finally:
        del model.forward


def _packed_forward(model, stock, features: Features, **kwargs: Any) -> Features:
    config = model[0].auto_model.config
    packed, place = pack(features)
    before = config._attn_implementation
    config._attn_implementation = ATTENTION  # only while it runs: never saved
    try:
        out = stock(packed, **kwargs)
    finally:
        config._attn_implementation = before
    features["sentence_embedding"] = out["sentence_embedding"][place]  # (texts, dim)
    return features


def _chunked_forward(model, stock, features: Features, **kwargs: Any) -> Features:
    features["sentence_embedding"] = in_chunks(stock, features, "sentence_embedding", **kwargs)
    return features


def in_chunks(forward: Any, features: Features, output: str, **kwargs: Any) -> Tensor:
    """What a forward pass gives for a padded batch, run in groups of like length: less padding.

    Args:
        forward: ``features -> features``, with ``output`` among them.
        features: ``input_ids`` and ``attention_mask`` of shape (texts, longest), and the rest.
        output: which of the results, one row a text.
        kwargs: passed on.
    """
    lengths = features["attention_mask"].sum(dim=1)
    groups = chunks(lengths)
    found = [
        forward(_part(features, rows, int(lengths[rows].max())), **kwargs)[output]
        for rows in groups
    ]
    return torch.cat(found)[torch.argsort(torch.cat(groups))]


def can_pack(model: SentenceTransformer) -> bool:
    """Whether a model gives the same embeddings packed; tried once a model, on three texts."""
    if "_embkit_can_pack" not in model.__dict__:
        model.__dict__["_embkit_can_pack"] = _try_packing(model)
    return model.__dict__["_embkit_can_pack"]


@torch.no_grad()
def _try_packing(model: SentenceTransformer) -> bool:
    network = getattr(model[0], "auto_model", None)
    if network is None or not getattr(network, "is_backend_compatible", lambda: False)():
        return False
    training = model.training
    model.eval()
    try:
        texts = ["a", "three little words", "a text of rather more than three words, to differ"]
        features = model.preprocess(texts)
        if not _text_batch(features):
            return False
        stock = SentenceTransformer.forward.__get__(model)
        padded = stock(dict(features))["sentence_embedding"]
        packed = _packed_forward(model, stock, dict(features))["sentence_embedding"]
        same = F.normalize(padded, dim=-1) - F.normalize(packed, dim=-1)
        return bool(same.abs().max() < TOLERANCE)
    except Exception:  # any failure of the trial means: this model is not packed
        return False
    finally:
        model.train(training)


def routed(model: SentenceTransformer) -> bool:
    """Whether queries and documents may go different ways through a model."""
    return "task" in getattr(model, "get_model_kwargs", list)()


def set_dropout(model: SentenceTransformer, p: float | None) -> None:
    """Sets every dropout probability of a model; ``None`` leaves the model's own."""
    if p is None:
        return
    for module in model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = p


@torch.inference_mode()
def embed(
    model: SentenceTransformer,
    texts: list[str],
    *,
    prompt: str | None = None,
    task: str | None = None,
    tokens: int | None = None,
    progress: Any = None,
) -> Tensor:
    """Embeds texts, shortest with shortest, each distinct text once.

    Args:
        model: any text model of sentence-transformers.
        texts: what to embed; order and repetitions are kept.
        prompt: put before every text, as ``model.encode(prompt=...)`` does.
        task: ``query`` or ``document``: the way through a model that has several.
        tokens: about how many tokens go through the model at once; default: as many as a
            processor's cache likes (2,048; 4,096 in bf16), on a GPU 32,768.
        progress: called with the number of distinct texts done so far.

    Returns:
        float32 tensor (texts, dim) on the processor.
    """
    distinct = list(dict.fromkeys(texts))
    number = {text: i for i, text in enumerate(distinct)}
    order = sorted(range(len(distinct)), key=lambda i: len(distinct[i]))
    out: Tensor | None = None
    given, training, kind = model, model.training, model.device.type
    model.eval()
    dtype = session.torch_dtype(session.precision(kind))
    short = dtype != torch.float32
    tokens = tokens or (32_768 if kind != "cpu" else 4096 if short else 2048)
    if short and kind == "cpu" and len(distinct) > FEW:
        model = _cast_once(model, dtype)
    route = {"task": task} if task and routed(model) else {}
    try:
        with efficient(model), session.autocast(kind):
            start = done = 0
            while start < len(order):
                rows = order[start : start + _rows(distinct, order, start, WINDOW * tokens)]
                rows = rows[: _alike([distinct[i] for i in rows])]
                read = model.preprocess([distinct[i] for i in rows], prompt=prompt, **route)
                for part, features in _batches(read, len(rows), tokens):
                    features = {
                        name: value.to(model.device) if isinstance(value, Tensor) else value
                        for name, value in features.items()
                    }
                    vectors = model(features, **route)["sentence_embedding"].float().cpu()
                    vectors = vectors[:, : model.truncate_dim]
                    if out is None:
                        out = torch.empty(len(distinct), vectors.shape[1])
                    out[torch.tensor(rows)[part]] = vectors
                    done += len(part)
                    if progress:
                        progress(done)
                start += len(rows)
    finally:
        given.train(training)
    if out is None:
        return torch.empty(0, model.get_embedding_dimension() or 0)
    return out[torch.tensor([number[text] for text in texts])]


def _cast_once(model: SentenceTransformer, dtype: torch.dtype) -> SentenceTransformer:
    """A copy whose linear layers' weights are what autocast would make of them at every batch."""
    if "forward" in model.__dict__:  # in the middle of its training: its forward is not ours
        return model
    can_pack(model)  # found out before, so that every copy knows
    fast = copy.deepcopy(model, {id(model.tokenizer): model.tokenizer})
    for module in fast.modules():
        if type(module) is torch.nn.Linear:  # not those that hold their weights packed
            module.to(dtype)
    return fast


def _batches(features: Features, texts: int, tokens: int) -> Iterator[tuple[Tensor, Features]]:
    """Cuts what was read at once into batches, shortest first: the rows of each, and its part."""
    if not _text_batch(features):  # no tokens to count, such as a bag of static vectors
        yield torch.arange(texts), features
        return
    lengths = features["attention_mask"].sum(dim=1)
    for rows in token_batches(lengths, tokens):
        yield rows, _part(features, rows, int(lengths[rows[-1]]))


def token_batches(lengths: Tensor, tokens: int) -> Iterator[Tensor]:
    """Row numbers, shortest first, in batches of that many tokens at most, padding included.

    Args:
        lengths: tokens a row, shape (rows,).
        tokens: a batch has at most so many; a longer row is a batch of its own.
    """
    order = torch.argsort(lengths, stable=True)
    counted, start = lengths[order].tolist(), 0
    for end in range(1, len(counted) + 1):
        if end == len(counted) or counted[end] * (end + 1 - start) > tokens:
            yield order[start:end]
            start = end


def _part(features: Features, rows: Tensor, longest: int) -> Features:
    """Some rows of a padded batch, without the padding beyond their own longest."""
    shape = features["input_ids"].shape
    return {
        name: value[rows][:, :longest]
        if isinstance(value, Tensor) and value.shape == shape
        else value
        for name, value in features.items()
    }


def _alike(texts: list[str]) -> int:
    """How many from the first on are all texts, or all pictures and few enough to be decoded."""
    picture = is_picture(texts[0])
    same = itertools.takewhile(lambda text: is_picture(text) == picture, texts)
    return min(sum(1 for _ in same), PICTURES if picture else len(texts))


def _rows(texts: list[str], order: list[int], start: int, tokens: int) -> int:
    """How many texts from ``start`` on make about that many tokens: a token has ~4 letters."""
    longest = 0
    for n, i in enumerate(order[start : start + tokens], start=1):
        longest = max(longest, len(texts[i]) // 4 + 3)
        if longest * n > tokens:
            return max(1, n - 1)
    return len(order) - start if len(order) - start <= tokens else tokens
