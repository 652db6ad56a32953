"""A recipe's loss: sentence-transformers' own classes, and one for the whole corpus."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from .errors import EmbkitError
from .recipes import Recipe

if TYPE_CHECKING:
    import numpy as np
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


@dataclass(frozen=True)
class Cosine:
    """sentence-transformers' pairwise cosine, in place of a loss's dot product."""


@dataclass(frozen=True)
class FromTeacher:
    """A table of a teacher's vectors, by its name in a run's ``teacher.npz``."""

    table: str


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
    - ``distill``: ``CorpusDistillLoss``: a teacher's softmax over all documents, and the labels.
    - ``clip``: ``SharedSpaceLoss``: of texts and pictures, symmetric, its temperature learned
      (Radford et al. 2021, https://arxiv.org/abs/2103.00020).
    - ``kl``: DistillKLDivLoss, the same over a list of candidates, scored by a teacher
      (Lin et al. 2020, https://arxiv.org/abs/2010.11386).
    - ``margin_mse``: MarginMSELoss, (cos(q, d+) - cos(q, d-) - teacher's margin)^2
      (Hofstätter et al. 2020, https://arxiv.org/abs/2010.02666).
    - ``embedding_mse``: ``VectorsLoss``, EmbedDistillLoss towards a teacher's vectors
      (Kim et al. 2023, https://arxiv.org/abs/2301.12005).
    """
    scale = 1 / recipe.temperature
    ranking = "MultipleNegativesRankingLoss"
    weighed = {"hardness_mode": "all_negatives", "hardness_strength": recipe.hardness}
    weighed = weighed if recipe.hardness else {}
    both = {"directions": ("query_to_doc", "doc_to_query"), "partition_mode": "per_direction"}
    cosine = {"similarity_fct": Cosine()}
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
        "distill": (
            "CorpusDistillLoss",
            {
                "queries": FromTeacher("queries"),
                "documents": FromTeacher("documents"),
                "temperature": recipe.temperature,
                "teacher_temperature": recipe.teacher_temperature,
                "teacher_share": recipe.teacher_share,
                "in_batch": recipe.in_batch,
            },
        ),
        "clip": ("SharedSpaceLoss", {"temperature": recipe.temperature}),
        "kl": (
            "DistillKLDivLoss",
            {
                **cosine,
                "student_temperature": recipe.temperature,
                "teacher_temperature": recipe.teacher_temperature,
            },
        ),
        "margin_mse": ("MarginMSELoss", cosine),
        "embedding_mse": ("VectorsLoss", {"vectors": FromTeacher("vectors")}),
    }
    return losses[recipe.approach]


def make_loss(
    recipe: Recipe, model: SentenceTransformer, taught: Mapping[str, np.ndarray] | None = None
) -> nn.Module:
    """The loss that a recipe asks for, within MatryoshkaLoss where it asks for several sizes
    (Kusupati et al. 2022, https://arxiv.org/abs/2205.13147).

    Args:
        recipe: whose loss.
        model: what is trained.
        taught: the teacher's tables of vectors, where the loss reads some.

    Raises:
        EmbkitError: a size that is larger than the model's vectors.
    """
    from operator import attrgetter

    import torch
    from sentence_transformers.sentence_transformer import losses
    from sentence_transformers.util import pairwise_cos_sim

    from . import corpus_softmax, towers
    from .distributed import gathering, team
    from .search import load_model

    name, settings = loss_settings(recipe)
    given = dict(settings)
    for key, value in settings.items():
        if isinstance(value, Other):
            given[key] = load_model(value.model)
        if isinstance(value, Named):
            given[key] = attrgetter(value.name)(losses)
        if isinstance(value, Cosine):
            given[key] = pairwise_cos_sim
        if isinstance(value, FromTeacher):
            given[key] = torch.from_numpy((taught or {})[value.table])
    given |= gathering(name, team())
    own = getattr(corpus_softmax, name, None) or getattr(towers, name, None)
    kind = own or getattr(losses, name)
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
