"""Layer pruning: an encoder with fewer of its layers, its size, and its speed."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

import pandas as pd
from sentence_transformers import SentenceTransformer

from ..errors import EmbkitError
from ..recipes.pruning import blocks_of, keep_blocks
from . import packing


def keep_layers(model: SentenceTransformer, kept: int | None) -> SentenceTransformer:
    """Takes layers out of a model's encoder, in place; None leaves all.

    A student that starts from some of a trained encoder's layers starts far ahead of a random one
    (Sanh et al. 2019, https://arxiv.org/abs/1910.01108). Fails for more layers than there are.
    """
    if kept is None:
        return model
    network = getattr(model[0], "auto_model", None)
    many = len(blocks_of(network))
    if kept > many:
        raise EmbkitError(
            f"layers={kept} of a model that has {many or 'no stack of layers'}",
            expected=f"1 to {many}" if many else "an encoder with one stack of like layers",
            hint=f"recipe.replace(layers={max(1, many // 2) if many else None})",
        )
    keep_blocks(network, kept)
    model.__dict__.pop("_embkit_engine", None)
    return model


def encode_speeds(
    models: Mapping[str, SentenceTransformer], texts: Sequence[str], *, rounds: int = 3
) -> pd.DataFrame:
    """Texts a second that models encode, measured one after another, and their size.

    Nothing is cached. Each of ``rounds`` times, every model encodes the texts, one after the other.
    One row a model: ``texts/s`` (the rounds' median), ``speed`` (the median of the rounds' ratios
    to the first model), ``parameters``, ``MB`` of weights in memory.
    """
    listed = list(texts)
    seconds: dict[str, list[float]] = {name: [] for name in models}
    for model in models.values():
        packing.embed(model, listed[:16])  # the first call makes ready what the others find there
    for _ in range(rounds):
        for name, model in models.items():
            started = time.perf_counter()
            packing.embed(model, listed)
            seconds[name].append(time.perf_counter() - started)
    took = pd.DataFrame(seconds).rename_axis("model", axis=1)  # (rounds, models)
    weights = {name: list(model.parameters()) for name, model in models.items()}
    return pd.DataFrame(
        {
            "texts/s": len(listed) / took.median(),
            "speed": (took.iloc[:, [0]].to_numpy() / took).median(),
            "parameters": {n: sum(w.numel() for w in own) for n, own in weights.items()},
            "MB": {n: sum(w.nbytes for w in own) / 1e6 for n, own in weights.items()},
        },
        index=took.columns,
    )
