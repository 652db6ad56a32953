"""The in-batch loss of a matrix of similarities: softmax, loss, gradient."""

from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import EmbkitError


@dataclass(frozen=True, eq=False, repr=False)
class BatchLoss:
    """One batch at one temperature; the right document of query i is document i.

    ``softmax`` is that of each row of ``similarities / temperature``.
    """

    temperature: float
    softmax: np.ndarray  # (batch, batch)
    losses: np.ndarray  # (batch,), of each query

    @property
    def loss(self) -> float:
        """The mean over queries, in nats."""
        return float(self.losses.mean())

    @property
    def gradient(self) -> np.ndarray:
        """Of the loss by each similarity: ``(softmax - 1 where right) / (t batch)``."""
        right = np.eye(len(self.softmax))
        return (self.softmax - right) / (self.temperature * len(right))

    @property
    def right(self) -> float:
        """The right documents' mean share of the softmax."""
        return float(np.diag(self.softmax).mean())

    @property
    def hardest(self) -> float:
        """The share that each query's hardest negative has of all that its negatives push."""
        wrong = self.softmax * (1 - np.eye(len(self.softmax)))
        return float((wrong.max(axis=1) / np.maximum(wrong.sum(axis=1), 1e-300)).mean())

    def __repr__(self) -> str:
        return (
            f"BatchLoss({len(self.softmax)} pairs at temperature {self.temperature:g}: "
            f"loss {self.loss:.3f}, right documents' share {self.right:.2f})"
        )


def batch_loss(similarities: Any, temperature: float) -> BatchLoss:
    """The in-batch contrastive loss of a square matrix of similarities.

    ``-log softmax(similarities / t)[i, i]``, as sentence-transformers'
    ``MultipleNegativesRankingLoss(scale=1 / t)`` has it.

    ``similarities`` are those of query i (row) to document j (column), shape (batch, batch). Fails
    for a matrix that is not square or not finite, and for a temperature of 0 or less.

    Example:
        >>> batch_loss([[1.0, 0.0], [0.0, 1.0]], temperature=1e9).loss  # all alike: log 2
        0.693...

    van den Oord, Li and Vinyals 2018, https://arxiv.org/abs/1807.03748
    """
    from scipy.special import log_softmax

    values = np.asarray(similarities, dtype=float)
    square = values.ndim == 2 and values.shape[0] == values.shape[1] >= 1
    if not square or not np.isfinite(values).all() or not temperature > 0:
        raise EmbkitError(
            f"similarities of shape {values.shape} at temperature {temperature!r}",
            expected="a square matrix of finite numbers, and a temperature above 0",
            hint="ek.losses.batch_loss(queries @ documents.T, 0.05)",
        )
    shares = log_softmax(values / temperature, axis=1)
    return BatchLoss(float(temperature), np.exp(shares), -np.diag(shares))
