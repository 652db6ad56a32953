"""A recipe's loss: sentence-transformers' own classes, and the package's for the whole corpus."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer import losses
from sentence_transformers.util import pairwise_cos_sim

from ..distributed import gathering, team
from ..errors import EmbkitError
from ..losses import clip, corpus
from ..models import loading
from ..recipes.settings import Code, loss_settings, matryoshka_sizes
from ..recipes.views import Loss


def make_loss(
    part: Loss, model: SentenceTransformer, taught: Mapping[str, np.ndarray] | None = None
) -> torch.nn.Module:
    """The loss that a recipe asks for, within MatryoshkaLoss where it asks for several sizes
    (Kusupati et al. 2022, https://arxiv.org/abs/2205.13147).

    Args:
        part: a recipe's ``loss``.
        taught: the teacher's tables of vectors, where the loss reads some.

    Raises:
        EmbkitError: a loss that the model cannot have, a size larger than its vectors.
    """
    known = {
        "pairwise_cos_sim": pairwise_cos_sim,
        "losses.TripletDistanceMetric.COSINE": losses.TripletDistanceMetric.COSINE,
    } | {f"taught[{name!r}]": torch.from_numpy(table) for name, table in (taught or {}).items()}
    name, settings = loss_settings(part)
    arguments = {k: known[v] if isinstance(v, Code) else v for k, v in settings.items()}
    if "guide" in arguments:
        arguments["guide"] = loading.load_model(arguments["guide"], fp32=True)
    kind = next(getattr(m, name) for m in (corpus, clip, losses) if hasattr(m, name))
    try:
        loss = kind(model, **arguments, **gathering(name, team()))
    except ValueError as error:  # the library's: a loss that this kind of model cannot have
        raise EmbkitError(
            str(error).split(". ")[0],
            expected="a loss that fits the model",
            hint="recipe.replace(approach='contrastive', mini_batch_size=None)",
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
