"""A recipe's loss: sentence-transformers' own classes, and the package's for the whole corpus."""

from __future__ import annotations

from collections.abc import Mapping
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from ..errors import EmbkitError
from ..recipes.settings import Cosine, FromTeacher, Named, Other, loss_settings, matryoshka_sizes
from ..recipes.views import Loss

if TYPE_CHECKING:
    import numpy as np
    from sentence_transformers import SentenceTransformer
    from torch import nn


def make_loss(
    part: Loss, model: SentenceTransformer, taught: Mapping[str, np.ndarray] | None = None
) -> nn.Module:
    """The loss that a recipe asks for, within MatryoshkaLoss where it asks for several sizes
    (Kusupati et al. 2022, https://arxiv.org/abs/2205.13147).

    Args:
        part: a recipe's ``loss``.
        model: what is trained.
        taught: the teacher's tables of vectors, where the loss reads some.

    Raises:
        EmbkitError: a loss that the model cannot have, a size larger than its vectors.
    """
    import torch
    from sentence_transformers.sentence_transformer import losses
    from sentence_transformers.util import pairwise_cos_sim

    from ..distributed import gathering, team
    from ..losses import clip, corpus
    from ..models.loading import load_model

    def given(value: Any) -> Any:
        if isinstance(value, Other):
            return load_model(value.model, fp32=True)
        if isinstance(value, FromTeacher):
            return torch.from_numpy((taught or {})[value.name])
        if isinstance(value, Named):
            return attrgetter(value.name)(losses)
        return pairwise_cos_sim if isinstance(value, Cosine) else value

    name, settings = loss_settings(part)
    arguments = {key: given(value) for key, value in settings.items()} | gathering(name, team())
    kind = next(getattr(m, name) for m in (corpus, clip, losses) if hasattr(m, name))
    try:
        loss = kind(model, **arguments)
    except ValueError as error:  # the library's: a loss that this kind of model cannot have
        raise EmbkitError(
            str(error).split(". ")[0],
            expected="an approach that fits the model",
            hint="recipe.replace(approach='contrastive')",
        ) from error
    if not part.matryoshka:
        return loss
    dim = model.get_embedding_dimension() or 0
    sizes = matryoshka_sizes(part.matryoshka, dim)
    if sizes[0] > dim:
        raise EmbkitError(
            f"Recipe(matryoshka={part.matryoshka!r}) for a model of {dim} dimensions",
            expected=f"sizes up to {dim}; or 'auto': {dim}, halved four times",
            hint="recipe.replace(matryoshka='auto')",
        )
    return losses.MatryoshkaLoss(model, loss, list(sizes))
