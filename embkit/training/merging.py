"""The mean of two models' weights."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import torch
from sentence_transformers import SentenceTransformer

from ..errors import EmbkitError
from ..models.loading import as_model


def merge_weights(tuned: Any, start: Any, share: float = 0.5) -> SentenceTransformer:
    """A model whose weights are the weighted mean of a tuned model's and of its start's.

    Models fine-tuned from one start lie in one valley of the loss, so that their mean is a model,
    too (Wortsman et al. 2022, model soups, https://arxiv.org/abs/2203.05482; WiSE-FT,
    https://arxiv.org/abs/2109.01903): it often keeps most of the gain and forgets less.

    Args:
        tuned: a Run, a model, its name or folder.
        start: the model that it was fine-tuned from, likewise.
        share: of the tuned weights, 0 to 1.

    Raises:
        EmbkitError: a share outside 0 to 1, or models of different shapes.
    """
    if not 0 <= share <= 1:
        raise EmbkitError(f"share={share}", expected="a number from 0 to 1", hint="share=0.5")
    merged = _fresh(tuned)
    mine, theirs = merged.state_dict(), _fresh(start).state_dict()
    if {n: w.shape for n, w in mine.items()} != {n: w.shape for n, w in theirs.items()}:
        raise EmbkitError(
            "the two models have different weights",
            expected="a model, and the one that it was fine-tuned from",
            hint="run.recipe.model names the start",
        )
    for name, weight in mine.items():
        if weight.is_floating_point():
            mine[name] = torch.lerp(theirs[name].float(), weight.float(), share)
    merged.load_state_dict(mine)
    return merged


def _fresh(model: Any) -> SentenceTransformer:
    """A model of its own to write into."""
    return deepcopy(model) if hasattr(model, "state_dict") else as_model(model)
