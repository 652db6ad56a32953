"""Losses that sentence-transformers does not have, and one batch's by hand; pure torch."""

from .clip import SharedSpaceLoss
from .corpus import CorpusDistillLoss, CorpusSoftmaxLoss, KeptDocuments, VectorsLoss
from .in_batch import batch_loss

__all__ = [
    "CorpusDistillLoss",
    "CorpusSoftmaxLoss",
    "KeptDocuments",
    "SharedSpaceLoss",
    "VectorsLoss",
    "batch_loss",
]
