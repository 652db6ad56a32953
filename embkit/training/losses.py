"""A recipe's loss: sentence-transformers' own classes, and the package's for the whole corpus."""

from collections.abc import Mapping

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer import losses
from sentence_transformers.util import pairwise_cos_sim

from ..distributed import gathering, team
from ..losses import clip, corpus
from ..models import loading
from ..recipes.settings import Code, loss_settings, matryoshka_sizes
from ..recipes.views import Loss
from .refusals import refused


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
        raise refused("loss", why=str(error).split(". ")[0]) from error
    if not part.matryoshka:
        return loss
    dim = model.get_embedding_dimension() or 0
    sizes = matryoshka_sizes(part.matryoshka, dim)
    if sizes[0] > dim:
        raise refused("matryoshka", sizes=part.matryoshka, dim=dim)
    return losses.MatryoshkaLoss(model, loss, list(sizes))
