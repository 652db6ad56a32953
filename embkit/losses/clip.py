"""The symmetric loss of texts and images that share a space."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from sentence_transformers import SentenceTransformer
from torch import Tensor, nn

SCALE = 20.0  # 1 / temperature, at the start


class SharedSpaceLoss(nn.Module):
    """Symmetric InfoNCE with a learned temperature: which caption is the picture's, and which
    picture the caption's (Radford et al. 2021, https://arxiv.org/abs/2103.00020).

    For unit vectors t of the batch's texts and p of its pictures, with s = exp(logit_scale):
    L = (CE(s t pᵀ, i) + CE(s p tᵀ, i)) / 2, where row i's right column is i. A picture that is
    right for the text as well, by the labels, is left out of both softmaxes.

    The model's own ``logit_scale`` is trained, or one that starts at 1 / temperature.
    """

    def __init__(self, model: SentenceTransformer, temperature: float = 1 / SCALE) -> None:
        super().__init__()
        self.model = model
        own = [p for name, p in model.named_parameters() if name.endswith("logit_scale")]
        fresh = nn.Parameter(torch.tensor(-math.log(temperature)))
        self.logit_scale = own[0] if own else fresh

    def forward(self, sentence_features: Any, labels: Any = None) -> Tensor:
        texts, pictures = (
            F.normalize(self.model(features)["sentence_embedding"].float(), dim=-1)
            for features in sentence_features
        )  # (batch, dim) each
        scale = self.logit_scale.exp().clamp(max=100)
        also = None if labels is None else right_as_well(labels)
        return symmetric_loss(scale * texts @ pictures.T, also)


def right_as_well(labels: Tensor) -> Tensor:
    """Which of a batch's other pictures are right for a text, too: (batch, batch) of bool.

    ``labels`` are a row's own picture and what else is right for its text, (batch, places)."""
    return (labels[:, 1:, None] == labels[None, None, :, 0]).any(dim=1)


def symmetric_loss(logits: Tensor, also: Tensor | None = None) -> Tensor:
    """The mean of both directions' cross-entropy for scaled similarities, (batch, batch); row i is
    right in column i, and ``also``, (batch, batch) of bool, is neither right nor wrong."""
    if also is not None:
        logits = logits.masked_fill(also, -torch.inf)
    right = torch.arange(len(logits), device=logits.device)
    return (F.cross_entropy(logits, right) + F.cross_entropy(logits.T, right)) / 2
