"""Layer pruning: an encoder with fewer of its layers, its size, and its speed."""

from __future__ import annotations

import statistics
import time
from collections.abc import Mapping, Sequence

import pandas as pd
import torch
from sentence_transformers import SentenceTransformer

from ..errors import EmbkitError
from .packing import embed


def spaced(kept: int, layers: int) -> list[int]:
    """Which of so many layers are kept: the first, the last, and evenly between."""
    return [round(i * (layers - 1) / max(1, kept - 1)) for i in range(kept)]


def keep_layers(model: SentenceTransformer, kept: int | None) -> SentenceTransformer:
    """Takes layers out of a model's encoder, in place; None leaves all.

    A student that starts from some of a trained encoder's layers starts far ahead of a random one
    (Sanh et al. 2019, https://arxiv.org/abs/1910.01108).

    Raises:
        EmbkitError: more layers than there are, or a model whose layers are not found.
    """
    if kept is None:
        return model
    network = getattr(model[0], "auto_model", None)
    layers = getattr(getattr(network, "encoder", None), "layer", None)
    if network is None or not isinstance(layers, torch.nn.ModuleList):
        raise EmbkitError(
            f"layers={kept} of a model whose layers are not at encoder.layer: "
            f"{type(network).__name__}",
            expected="an encoder like BERT",
            hint="recipe.replace(layers=None)",
        )
    if kept > len(layers):
        raise EmbkitError(
            f"layers={kept} of a model that has {len(layers)}",
            expected=f"1 to {len(layers)}",
            hint=f"recipe.replace(layers={max(1, len(layers) // 2)})",
        )
    network.encoder.layer = torch.nn.ModuleList(layers[i] for i in spaced(kept, len(layers)))
    network.config.num_hidden_layers = kept
    model.__dict__.pop("_embkit_engine", None)
    return model


def encode_speeds(
    models: Mapping[str, SentenceTransformer], texts: Sequence[str], *, rounds: int = 3
) -> pd.DataFrame:
    """Texts a second that models encode, measured one after another, and their size.

    Args:
        models: name -> model; the first is what the others are compared with.
        texts: what to encode; nothing is cached.
        rounds: times that each model encodes them, one model after the other in each round.

    Returns:
        One row a model: ``texts/s`` (the rounds' median), ``speed`` (the median of the rounds'
        ratios to the first model), ``parameters``, ``MB`` of weights in memory.
    """
    listed = list(texts)
    seconds: dict[str, list[float]] = {name: [] for name in models}
    for model in models.values():
        embed(model, listed[:64])  # the first call makes ready what the others find there
    for _ in range(rounds):
        for name, model in models.items():
            started = time.perf_counter()
            embed(model, listed)
            seconds[name].append(time.perf_counter() - started)
    first, rows = next(iter(seconds.values())), {}
    for name, model in models.items():
        weights = list(model.parameters())
        ratios = [a / b for a, b in zip(first, seconds[name], strict=True)]
        rows[name] = {
            "texts/s": len(listed) / statistics.median(seconds[name]),
            "speed": statistics.median(ratios),
            "parameters": sum(w.numel() for w in weights),
            "MB": sum(w.numel() * w.element_size() for w in weights) / 1e6,
        }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("model")
