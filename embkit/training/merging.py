"""The mean of two models' weights, and how much of the tuned one dev asks for."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import torch
from sentence_transformers import SentenceTransformer

from ..data import Domain
from ..errors import EmbkitError
from ..models.loading import as_model
from .callbacks import dev_ndcg
from .trials import DEV, Trials

SHARES = (0.5, 0.6, 0.7, 0.8, 0.9)


def merge_weights(tuned: Any, start: Any, share: float = 0.5) -> SentenceTransformer:
    """A model whose weights are the weighted mean of a tuned model's and of its start's.

    Models fine-tuned from one start lie in one valley of the loss, so that their mean is a model,
    too (Wortsman et al. 2022, model soups, https://arxiv.org/abs/2203.05482; WiSE-FT,
    https://arxiv.org/abs/2109.01903): it often keeps most of the gain and forgets less.

    Args:
        tuned: a Run, a model, its name or folder.
        start: the model that it was fine-tuned from, likewise.
        share: of the tuned weights, 0 to 1.

    Raises:
        EmbkitError: a share outside 0 to 1, or models of different shapes.
    """
    if not 0 <= share <= 1:
        raise EmbkitError(f"share={share}", expected="a number from 0 to 1", hint="share=0.5")
    merged = _fresh(tuned)
    mine, theirs = merged.state_dict(), _fresh(start).state_dict()
    if {n: w.shape for n, w in mine.items()} != {n: w.shape for n, w in theirs.items()}:
        raise EmbkitError(
            "the two models have different weights",
            expected="a model, and the one that it was fine-tuned from",
            hint="run.recipe.model names the start",
        )
    for name, weight in mine.items():
        if weight.is_floating_point():
            mine[name] = torch.lerp(theirs[name].float(), weight.float(), share)
    merged.load_state_dict(mine)
    return merged


@dataclass(frozen=True, repr=False)
class MergeChoice(Trials):
    """Merged models of several shares, and what each scores on the dev sample."""

    dev: dict[float, float]  # share of the tuned weights -> nDCG@10; 1 is the tuned model itself
    cost: float  # nDCG@10 that may be given up there
    dev_name: str = Trials.dev_name

    @property
    def rows(self) -> tuple[dict[str, Any], ...]:  # type: ignore[override]
        """One dict a share."""
        least, told = self.dev[1.0] - self.cost, sorted(self.dev.items())
        return tuple({"share": s, DEV: v, "within the cost": v >= least} for s, v in told)

    @property
    def best(self) -> float:
        """The smallest share, so the one that forgets least, within the cost on dev."""
        return min(row["share"] for row in self.rows if row["within the cost"])

    @property
    def caption(self) -> str:  # type: ignore[override]
        return f"smallest share within {self.cost:g} on {self.dev_name}: {self.best:g}"


def tune_share(
    tuned: Any, start: Any, domain: Domain, *, shares: Sequence[float] = SHARES, cost: float = 0.01
) -> MergeChoice:
    """How far a tuned model can be merged with its start before dev loses more than ``cost``.

    Both are as in ``merge_weights``; only the dev split is read.

    Raises:
        EmbkitError: no share, or one outside 0 to 1; a cost below 0.
    """
    if not shares or cost < 0:
        raise EmbkitError(
            f"shares={tuple(shares)}, cost={cost:g}",
            expected="at least one share, and a cost of 0 or more",
            hint=f"shares={SHARES}, cost=0.01",
        )
    models = {share: merge_weights(tuned, start, share) for share in shares} | {1.0: _fresh(tuned)}
    dev = {float(share): dev_ndcg(model, domain) for share, model in models.items()}
    return MergeChoice(dev, cost, domain.dev_name)


def _fresh(model: Any) -> SentenceTransformer:
    """A model of its own to write into."""
    return deepcopy(model) if hasattr(model, "state_dict") else as_model(model)
