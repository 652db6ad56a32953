"""Retrieval measured: by query, with intervals, compared in pairs."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .changes import top_changed_queries, win_tie_loss
from .metrics import METRICS, bootstrap_ci, holm, paired_test
from .report import Report, pareto_front
from .scores import Scores, compare

if TYPE_CHECKING:
    from .ranking import evaluate, leaderboard, rank, rank_changes, score, search_side_by_side
    from .truncation import DimensionScores, UntrainedDimension, evaluate_sizes

__all__ = [
    "DimensionScores",
    "METRICS",
    "Report",
    "Scores",
    "UntrainedDimension",
    "bootstrap_ci",
    "compare",
    "evaluate",
    "evaluate_sizes",
    "holm",
    "leaderboard",
    "paired_test",
    "pareto_front",
    "rank",
    "rank_changes",
    "score",
    "search_side_by_side",
    "top_changed_queries",
    "win_tie_loss",
]


def __getattr__(name: str) -> Any:
    """What needs torch is imported when it is first asked for."""
    if name not in __all__:
        raise AttributeError(f"embkit.evaluation has no {name!r}")
    sized = name in ("DimensionScores", "UntrainedDimension", "evaluate_sizes")
    return getattr(import_module(f".{'truncation' if sized else 'ranking'}", __name__), name)


def __dir__() -> list[str]:
    return __all__
