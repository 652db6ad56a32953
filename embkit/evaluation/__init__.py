"""Retrieval measured: by query, with intervals, compared in pairs."""

from .changes import top_changed_queries, win_tie_loss
from .metrics import METRICS, bootstrap_ci, holm, paired_test
from .ranking import evaluate, leaderboard, rank, rank_changes, score, search_side_by_side
from .report import Report, pareto_front
from .scores import Scores, compare
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
