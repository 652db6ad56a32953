"""A recipe's loss, as a sentence-transformers loss."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .errors import unknown
from .recipes import APPROACHES, Recipe

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer
    from torch import nn


def make_loss(recipe: Recipe, model: SentenceTransformer) -> nn.Module:
    """The loss that a recipe asks for; sentence-transformers calls 1 / temperature ``scale``.

    ``contrastive`` is MultipleNegativesRankingLoss, that is InfoNCE over the batch
    (van den Oord et al. 2018, https://arxiv.org/abs/1807.03748):
    -log( exp(cos(q, d+) / t) / sum_i exp(cos(q, d_i) / t) ), the mean over the batch's queries.
    """
    from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss

    if recipe.approach == "contrastive":
        return MultipleNegativesRankingLoss(model, scale=1 / recipe.temperature)
    raise unknown("approach", recipe.approach, APPROACHES)
