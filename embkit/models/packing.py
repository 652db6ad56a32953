"""The same maths with less waste: precision that the device is good at, and no padding.

On ICD-10-CM two thirds of the tokens of a padded batch are padding. Here a batch's texts are laid
end to end, and only attention is run text by text, for all texts of one length at once: embeddings,
loss and gradients are those of the padded batch, to rounding. An attention function registered with
transformers does it; no model class is changed, and nothing of it is saved. Whether a model can be
packed is tried. If not, it is run in groups of like length, or as sentence-transformers runs it.
"""

import contextlib
import functools
import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from sentence_transformers import SentenceTransformer
from sentence_transformers.util import batch_to_device
from torch import Tensor
from transformers import AttentionInterface
from transformers.masking_utils import AttentionMaskInterface, bidirectional_mask_function

from .. import session
from ..data.images import is_picture
from .trial import first_equal

ATTENTION = "embkit_packed"
# what a network may ask of its attention, and the mask or the packing has done already
DONE = {"position_ids", "sliding_window", "use_cache", "is_causal", "deterministic"}
PICTURES = 256  # that are decoded at once
CACHED = 4096  # tokens at once that a processor's cache likes
ON_GPU = 32_768  # tokens at once, at most
ROWS = 32  # texts that the library runs at once
HOLES = 1  # seconds of training after which freed memory is given back, between two layers
MANY = 200  # texts at once, behind which freed memory is given back
WASTE = 1.15  # padded tokens over tokens, in a group of like length
Features = dict[str, Any]
_TRIED: dict[Any, str] = {}  # what a trial has shown, of a model's make and a case


def _sight(*_: Any, mask_function: Callable[..., Tensor], **__: Any) -> Callable[..., Any] | None:
    """Which tokens of a text see which, by the rule that transformers makes a model's mask from."""

    @functools.cache  # one for all layers
    def mask(start: int, length: int) -> Tensor | None:  # (length, length); None: each sees all
        i = torch.arange(start, start + length)
        zero = i.new_zeros(())
        seen = mask_function(zero, zero, i[:, None], i[None]).expand(length, length)
        return None if seen.all() else seen

    return None if mask_function is bidirectional_mask_function else mask


def _attend(
    module: torch.nn.Module,
    query: Tensor,  # (1, heads, tokens, dim of a head)
    key: Tensor,  # of as many heads, or fewer that several queries share
    value: Tensor,
    attention_mask: Callable[..., Any] | None,  # of _sight
    scaling: float | None = None,
    dropout: float = 0.0,
    cu_seq_lens_q: Tensor | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """Attention within each text; texts come sorted by length, so each length is one call."""
    assert cu_seq_lens_q is not None
    asked = {name for name, value in others.items() if value is not None} - DONE
    if asked:  # such as a softcap: small in a trial, and large elsewhere
        raise NotImplementedError(f"packed attention has no {', '.join(sorted(asked))}")
    lengths = [end - start for start, end in itertools.pairwise(cu_seq_lens_q.tolist())]
    groups = [(len(list(same)), length) for length, same in itertools.groupby(lengths)]
    # Training runs in fp32: on a processor with native bf16, the backward pass of torch's bf16
    # attention takes six times as long on texts this short (torch 2.13).
    run_in = value.dtype
    if query.requires_grad:
        run_in = torch.float32
        session.give_back(cycles=False, each=HOLES)
    shared = query.shape[1] != key.shape[1]
    sizes = [texts * length for texts, length in groups]
    flat = [t.to(run_in)[0].transpose(0, 1).split(sizes) for t in (query, key, value)]
    outputs, start = [], 0
    with torch.autocast(query.device.type, enabled=False):
        for group, *parts in zip(groups, *flat, strict=True):
            seen = attention_mask(start, group[1]) if attention_mask else None
            q, k, v = (part.unflatten(0, group).transpose(1, 2) for part in parts)
            out = F.scaled_dot_product_attention(
                q, k, v, attn_mask=seen, dropout_p=dropout, scale=scaling, enable_gqa=shared
            )
            outputs.append(out.transpose(1, 2).flatten(0, 1))
            start += len(parts[0])
    return torch.cat(outputs).unsqueeze(0).to(query.dtype), None


AttentionInterface.register(ATTENTION, _attend)
AttentionMaskInterface.register(ATTENTION, _sight)


def _each(features: Features, change: Callable[[Tensor], Tensor]) -> Features:
    """The features, with ``change`` made to every tensor of shape (texts, longest)."""
    shape = features["attention_mask"].shape
    return {
        name: change(value) if isinstance(value, Tensor) and value.shape == shape else value
        for name, value in features.items()
    }


def pack(features: Features) -> tuple[Features, Tensor]:
    """Lays a padded batch end to end, shortest text first; and each text's place, shape (texts,).

    What had the shape (texts, longest) of ``input_ids`` and ``attention_mask`` now has (1, tokens).
    ``position_ids``, and ``cu_seq_lens_q`` (where each text begins, and the end), take the mask's
    place.
    """
    mask = features["attention_mask"].bool()
    lengths, order = mask.sum(dim=1).sort(stable=True)
    mask = mask[order]  # (texts, longest)
    packed = _each(features, lambda value: value[order][mask].unsqueeze(0))
    del packed["attention_mask"]
    packed["position_ids"] = (mask.cumsum(dim=1) - 1)[mask].unsqueeze(0)
    packed["cu_seq_lens_q"] = F.pad(lengths.cumsum(0), (1, 0))
    return packed, torch.argsort(order)


def chunks(lengths: Tensor, smallest: int = 8) -> list[Tensor]:
    """Row numbers in groups of like length: padded, a group has at most ``WASTE`` times its tokens.

    ``lengths`` are tokens a text, shape (texts,). A group has ``smallest`` texts at least, so that
    products stay large.
    """
    falling, order = lengths.sort(descending=True, stable=True)
    counted = falling.tolist()
    found, start, tokens = [], 0, 0
    for i, length in enumerate(counted):
        rows = i - start
        if rows >= smallest and counted[start] * (rows + 1) > WASTE * (tokens + length):
            found.append(order[start:i])
            start, tokens = i, 0
        tokens += length
    return [*found, order[start:]]


def _part(features: Features, rows: Tensor) -> Features:
    """Some rows of a padded batch, without the columns that are padding in all of them."""
    used = features["attention_mask"][rows].any(dim=0).nonzero()
    columns = slice(int(used[0]), int(used[-1]) + 1)
    return _each(features, lambda value: value[rows][:, columns])


def _text_batch(features: Features) -> bool:
    """Whether this is padded tokens; a text of no tokens at all is left to the library."""
    ids, mask = features.get("input_ids"), features.get("attention_mask")
    if not isinstance(ids, Tensor) or ids.ndim != 2 or mask is None or mask.shape != ids.shape:
        return False
    return bool(mask.any(dim=1).all())


@contextlib.contextmanager
def efficient(model: SentenceTransformer) -> Iterator[SentenceTransformer]:
    """Within the block, the model's forward pass wastes no padding, under any loss and trainer.

    On a GPU the model is left as it is: there, padding costs less than many small calls, and
    sentence-transformers packs by itself where FlashAttention is installed.
    """
    stock = model.forward
    if model.device.type != "cpu" or "forward" in model.__dict__:
        yield model
        return
    several = routed(model)
    if not several:
        engine(model)  # tried before training begins

    def forward(features: Features, **kwargs: Any) -> Features:
        if torch.is_grad_enabled():  # the holes between what a training keeps add up
            session.give_back(cycles=False, each=HOLES)
        task = kwargs.get("task", features.get("task")) if several else None
        way = engine(model, task) if _text_batch(features) else "plain"
        if way == "plain":
            return stock(features, **kwargs)
        features["sentence_embedding"] = _run(way, model, stock, features, **kwargs)
        return features

    model.forward = forward  # type: ignore[method-assign]
    try:
        yield model
    finally:
        del model.forward


def _run(
    way: str, model: Any, stock: Any, features: Features, smallest: int = 8, **kwargs: Any
) -> Tensor:
    """Embeddings of a padded batch, run in one of the three ways; shape (texts, dim)."""
    output = "sentence_embedding"
    if way == "plain":
        return stock(features, **kwargs)[output]
    lengths = features["attention_mask"].sum(dim=1)
    if way == "grouped":
        return in_chunks(stock, features, output, chunks(lengths, smallest), **kwargs)

    def packed(features: Features, **kwargs: Any) -> Features:
        ends, place = pack(features)
        with attending(model[0].auto_model.config, ATTENTION):
            return {output: stock(ends, **kwargs)[output][place]}

    parts = min(len(lengths), math.ceil(int(lengths.sum()) / CACHED))
    groups = list(lengths.argsort().tensor_split(parts))
    return in_chunks(packed, features, output, groups, **kwargs)


@contextlib.contextmanager
def attending(config: Any, way: str) -> Iterator[None]:
    """Within the block, and never saved, networks of this configuration attend so."""
    before = config._attn_implementation
    config._attn_implementation = way
    try:
        yield
    finally:
        config._attn_implementation = before


def in_chunks(
    forward: Any, features: Features, output: str, groups: list[Tensor], **kwargs: Any
) -> Tensor:
    """A forward pass's ``output`` for a padded batch, one row a text, run group by group."""
    found = [forward(_part(features, rows), **kwargs)[output] for rows in groups]
    return torch.cat(found)[torch.argsort(torch.cat(groups))]


def engine(model: SentenceTransformer, task: str | None = None) -> str:
    """How a model's texts are run: ``packed``, ``grouped`` or ``plain``.

    A faster way is taken only where a trial has shown it equal to the plain one, once for models
    of one make, for each side of padding and each length that they read. ``task`` is the way
    through a model that has several.
    """
    side = getattr(model.tokenizer, "padding_side", None)
    case = (task, side, model.max_seq_length, model.device.type)
    tried = model.__dict__.setdefault("_embkit_engine", {})
    if case not in tried:
        if (made := (*_make(model), case)) not in _TRIED:
            route = {"task": task} if task else {}
            stock = type(model).forward.__get__(model)
            run = lambda way, f: _run(way, model, stock, dict(f), 1, **route)  # noqa: E731
            _TRIED[made] = first_equal(model, run, route)
        tried[case] = _TRIED[made]
    return tried[case]


def _make(model: SentenceTransformer) -> tuple[Any, ...]:
    """All but its weights that decides how a model is run: code, settings, precision."""
    config = getattr(getattr(model[0], "auto_model", None), "config", None)
    settings = config.to_dict() if config is not None else {}
    return (
        frozenset(type(module) for module in model.modules()),
        torch.nn.Module.__repr__(model),
        str({name: value for name, value in settings.items() if name != "_name_or_path"}),
        frozenset(p.dtype for p in model.parameters()),
        torch.get_float32_matmul_precision(),
    )


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
        for name, value in list(vars(module).items()):  # attention may hold a number of its own
            if "dropout" in name and type(value) in (int, float):
                setattr(module, name, p)


def castable(model: torch.nn.Module, kind: str) -> bool:
    """Whether autocast goes with a model's weights: not with 16 bits of another kind."""
    dtypes = {torch.float32, session.torch_dtype(session.precision(kind))}
    return {p.dtype for p in model.parameters() if p.is_floating_point()} <= dtypes


@torch.inference_mode()
def embed(
    model: SentenceTransformer,
    texts: list[str],
    *,
    prompt: str | None = None,
    task: str | None = None,
    tokens: int | None = None,
    progress: Callable[[int], object] | None = None,
) -> Tensor:
    """Embeds texts, longest with longest, each distinct one once: float32 (texts, dim), on CPU.

    ``prompt``, ``task`` and ``progress`` are those of ``encode``. About so many ``tokens`` go
    through the model at once; default: as many as a processor's cache likes (2,048; 4,096 in bf16),
    on a GPU what its free memory holds, ``ON_GPU`` at most. A batch that does not fit is halved.
    """
    if not texts:
        return torch.empty(0, model.get_embedding_dimension() or 0)
    training, kind = model.training, model.device.type
    model.eval()
    fits = castable(model, kind)
    tokens = tokens or budget(model, texts)
    route: dict[str, Any] = {"task": task} if task and routed(model) else {}
    place: dict[str, int] = {}  # of each distinct text, among those that were run
    found: list[Tensor] = []
    try:
        if engine(model, route.get("task")) == "plain" and _text_batch(
            model.preprocess(texts[:1], **route)
        ):  # vectors depend on padding: the library's own batches
            rows = (ON_GPU if kind == "cpu" else tokens) // longest(model, texts)
            with session.autocast(kind, wanted=fits):
                route |= {"prompt": prompt or "", "batch_size": max(1, min(ROWS, rows))}
                made = model.encode(texts, convert_to_tensor=True, **route)
            return made.float().cpu()
        with efficient(model), session.autocast(kind, wanted=fits):  # which casts weights once
            for batch in _batches(texts, tokens, model.max_seq_length):
                found.append(_vectors(model, batch, prompt, route)[:, : model.truncate_dim])
                place |= {text: len(place) + i for i, text in enumerate(batch)}
                if progress:
                    progress(len(place))
    finally:
        model.train(training)
        if len(texts) > MANY:
            session.give_back(cycles=False)
    return torch.cat(found)[torch.tensor([place[text] for text in texts])]


def _vectors(
    model: SentenceTransformer, batch: list[str], prompt: str | None, route: dict[str, Any]
) -> Tensor:
    """A batch's vectors, on the processor; of one that a GPU's memory does not hold, by halves."""
    with contextlib.suppress(*[torch.OutOfMemoryError] * (len(batch) > 1)):
        features = batch_to_device(model.preprocess(batch, prompt=prompt, **route), model.device)
        return model(features, **route)["sentence_embedding"].float().cpu()
    parts = (batch[: len(batch) // 2], batch[len(batch) // 2 :])
    return torch.cat([_vectors(model, part, prompt, route) for part in parts])


def longest(model: SentenceTransformer, texts: list[str]) -> int:
    """About how many tokens a model reads of the longest text, of four bytes each."""
    size = max((len(text.encode()) for text in texts), default=0) // 4 + 3
    return int(min(size, model.max_seq_length or size))


def budget(model: SentenceTransformer, texts: list[str]) -> int:
    """Tokens that go through a model at once: what a processor's cache likes; on a GPU what half of
    its free memory holds, ``ON_GPU`` at most.

    A token holds about eight rows of a layer's width and three of the inner one, in fp32, and a row
    of the mask; where attention is not fused, a row of scores a head.
    """
    if (kind := model.device.type) == "cpu":
        return CACHED // 2 if session.precision(kind) == "fp32" else CACHED
    config = getattr(getattr(model[0], "auto_model", None), "config", None)
    width = getattr(config, "hidden_size", 1024)
    inner = getattr(config, "intermediate_size", 4 * width)
    fused = getattr(config, "_attn_implementation", "eager") != "eager"
    row = 5 if fused else 8 * getattr(config, "num_attention_heads", 16)
    token = 4 * (8 * width + 3 * inner) + row * longest(model, texts)
    free = torch.cuda.mem_get_info(model.device)[0] if kind == "cuda" else 2**31
    return max(1, min(ON_GPU, free // 2 // token))


def _batches(texts: list[str], tokens: int, window: int | None) -> Iterator[list[str]]:
    """The distinct texts, longest first, in batches of one kind and of about so many tokens.

    A token has about four bytes of UTF-8; ``window`` is what a model reads of a text at most.
    """
    distinct = {text: (is_picture(text), len(text.encode())) for text in texts}
    order, start = sorted(distinct, key=distinct.__getitem__, reverse=True), 0
    while start < len(order):
        picture, size = distinct[order[start]]
        read = min(size // 4 + 3, window or size)  # tokens of the batch's longest text
        batch = order[start : start + (PICTURES if picture else max(1, tokens // read))]
        yield (batch := [text for text in batch if is_picture(text) == picture])
        start += len(batch)
