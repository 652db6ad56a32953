"""A recipe's loss: sentence-transformers' own classes, and one for the whole corpus."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .errors import EmbkitError
from .recipes import Recipe

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer
    from torch import nn


@dataclass(frozen=True)
class Other:
    """A second model that a loss is given, by name, folder or hub id."""

    model: str


@dataclass(frozen=True)
class Named:
    """A thing of sentence-transformers' module of losses, by its dotted name."""

    name: str


def loss_settings(recipe: Recipe) -> tuple[str, dict[str, Any]]:
    """The name of a recipe's loss class and what it is given beside the model.

    - ``contrastive``: MultipleNegativesRankingLoss, that is InfoNCE over the batch
      (van den Oord et al. 2018, https://arxiv.org/abs/1807.03748):
      -log( exp(cos(q, d+) / t) / sum_i exp(cos(q, d_i) / t) ), the mean over the batch's queries;
      sentence-transformers calls 1 / t ``scale``.
    - ``symmetric``: the same, and which query a document belongs to.
    - ``cached``: the same loss in chunks, so that a large batch fits the memory
      (Gao et al. 2021, https://arxiv.org/abs/2101.06983).
    - ``gist``: a guide model takes negatives out that look right to it
      (Solatorio 2024, https://arxiv.org/abs/2402.16829).
    - ``triplet``: max(0, margin - cos(q, d+) + cos(q, d-)), on mined negatives.
    - ``corpus``: ``CorpusSoftmaxLoss``: the softmax over all documents.
    """
    scale = 1 / recipe.temperature
    ranking = "MultipleNegativesRankingLoss"
    weighed = {"hardness_mode": "all_negatives", "hardness_strength": recipe.hardness}
    weighed = weighed if recipe.hardness else {}
    both = {"directions": ("query_to_doc", "doc_to_query"), "partition_mode": "per_direction"}
    losses: dict[str, tuple[str, dict[str, Any]]] = {
        "contrastive": (ranking, {"scale": scale, **weighed}),
        "symmetric": (ranking, {"scale": scale, **both, **weighed}),
        "cached": (f"Cached{ranking}", {"scale": scale, "mini_batch_size": 32, **weighed}),
        "gist": (
            "GISTEmbedLoss",
            {"guide": Other(recipe.guide), "temperature": recipe.temperature},
        ),
        "triplet": (
            "TripletLoss",
            {
                "distance_metric": Named("TripletDistanceMetric.COSINE"),
                "triplet_margin": recipe.margin,
            },
        ),
        "corpus": (
            "CorpusSoftmaxLoss",
            {
                "temperature": recipe.temperature,
                "in_batch": recipe.in_batch,
                "sample": recipe.corpus_sample,
            },
        ),
    }
    return losses[recipe.approach]


def make_loss(recipe: Recipe, model: SentenceTransformer) -> nn.Module:
    """The loss that a recipe asks for, within MatryoshkaLoss where it asks for several sizes
    (Kusupati et al. 2022, https://arxiv.org/abs/2205.13147).

    Raises:
        EmbkitError: a size that is larger than the model's vectors.
    """
    from operator import attrgetter

    from sentence_transformers.sentence_transformer import losses

    from . import corpus_softmax
    from .search import load_model

    name, settings = loss_settings(recipe)
    given = dict(settings)
    for key, value in settings.items():
        if isinstance(value, Other):
            given[key] = load_model(value.model)
        if isinstance(value, Named):
            given[key] = attrgetter(value.name)(losses)
    kind = getattr(corpus_softmax, name, None) or getattr(losses, name)
    loss = kind(model, **given)
    if not recipe.sizes:
        return loss
    dim = model.get_embedding_dimension() or 0
    if recipe.sizes[0] > dim:
        raise EmbkitError(
            f"Recipe(matryoshka={recipe.matryoshka!r}) for a model of {dim} dimensions",
            expected=f"sizes up to {dim}",
            hint=f"recipe.replace(matryoshka={f'{dim},{dim // 2},{dim // 4}'!r})",
        )
    return losses.MatryoshkaLoss(model, loss, list(recipe.sizes))
