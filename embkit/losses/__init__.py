"""Losses that sentence-transformers does not have, and one batch's by hand; pure torch."""

from ..lazy import exports

__getattr__, __dir__, __all__ = exports(
    __name__,
    {
        "clip": ["SharedSpaceLoss"],
        "corpus": ["CorpusDistillLoss", "CorpusSoftmaxLoss", "KeptDocuments"],
        "in_batch": ["batch_loss"],
    },
)
