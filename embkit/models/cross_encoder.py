"""Cross-encoders: scores of (query, document) pairs."""

import json
import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from sentence_transformers import CrossEncoder

from ..assets.catalogue import resolve
from ..session import autocast, device, precision, quiet
from .encoding import cache_file, kept, refused
from .loading import clear_errors
from .packing import ON_GPU, castable, longest

Pairs = Sequence[tuple[str, str]]  # (query, document)
BATCH = 32  # pairs that go through the model at once on a processor


def load_cross_encoder(model: str | os.PathLike = "reranker", **kwargs: Any) -> CrossEncoder:
    """A sentence-transformers cross-encoder by name, folder or hub id, on the session's device.

    As ``load_model``, with ``kwargs`` for ``CrossEncoder``; fails for what is none.
    """
    quiet()
    folder = resolve(model)
    with clear_errors(model, "cross-encoder", "CrossEncoder"):
        settings = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        network = (settings.get("architectures") or ["?"])[0]
        # Another network would be given a head of random weights, with no more than a log line.
        if not network.endswith(("ForSequenceClassification", "ForCausalLM")):
            raise refused("no cross-encoder", model=str(model), network=network)
        return CrossEncoder(str(folder), device=device(), local_files_only=True, **kwargs)


def score_pairs(model: CrossEncoder, pairs: Pairs) -> np.ndarray:
    """A cross-encoder's score of each (query, document) pair: its logit, no sigmoid on it.

    float32, shape (pairs,); higher is more relevant. Each distinct pair goes through the model
    once. Scores are cached on disk under the hash of the model, the precision and the pairs. Fails
    for a pair that is none, an empty text, a model with several outputs, NaN, or one score for
    pairs that differ.
    """
    pairs = _checked_pairs(pairs)
    outputs = getattr(model, "num_labels", "no")
    if outputs != 1 or not hasattr(model, "predict"):
        raise refused("no scorer", kind=type(model).__name__, outputs=outputs)
    if not pairs:
        return np.empty(0, np.float32)
    number = {pair: i for i, pair in enumerate(dict.fromkeys(pairs))}

    def scores() -> np.ndarray:
        found = _checked_scores(model, list(number), _scores(model, list(number)))
        return found[[number[pair] for pair in pairs]]

    return kept(cache_file(model, "scores", pairs), len(pairs), scores)


def _checked_pairs(pairs: Pairs) -> list[tuple[str, str]]:
    listed = [pairs] if isinstance(pairs, str) else list(pairs)

    def whole(pair: Any) -> bool:
        two = isinstance(pair, list | tuple) and len(pair) == 2
        return two and all(isinstance(text, str) and text.strip() for text in pair)

    if bad := [i for i, pair in enumerate(listed) if not whole(pair)]:
        raise refused("pairs", n=len(bad), pairs=len(listed), first=bad[:3])
    return [(query, document) for query, document in listed]


def _checked_scores(model: Any, pairs: list[tuple[str, str]], scores: np.ndarray) -> np.ndarray:
    bad = np.flatnonzero(~np.isfinite(scores))
    if len(bad):
        told = f"{len(bad)} of {len(scores)} scores are NaN or infinite"
        raise refused("NaN", given=f"{told}, first that of {pairs[bad[0]]!r}")
    if len(scores) > 1 and (scores == scores[0]).all():
        some = model.preprocess(pairs[:64])["input_ids"].tolist()
        if any(row != some[0] for row in some):  # else they differ in nothing that the model sees
            raise refused("one score", n=len(scores), score=scores[0])
    return scores


def _scores(model: CrossEncoder, pairs: list[tuple[str, str]]) -> np.ndarray:
    kind = model.device.type
    fits, rows = castable(model, kind), ON_GPU // longest(model, [a + b for a, b in pairs])
    training, whole = model.training, list(model.keep_in_fp32_modules or [])
    try:
        if fits and precision(kind) != "fp32":  # 16 bits are too few: near scores would be ties
            layers = model.named_modules()
            heads = [n for n, m in layers if type(m) is torch.nn.Linear and m.out_features == 1]
            model.set_keep_in_fp32_modules([*whole, *heads])
        with autocast(kind, wanted=fits):
            return model.predict(
                pairs,
                batch_size=BATCH if kind == "cpu" else max(1, min(16 * BATCH, rows)),
                activation_fn=torch.nn.Identity(),
                show_progress_bar=False,
            )
    finally:
        if model.keep_in_fp32_modules != whole:
            model.set_keep_in_fp32_modules(whole)
        model.train(training)
