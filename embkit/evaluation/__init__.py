"""Retrieval measured: by query, with intervals, compared in pairs."""

from ..lazy import exports

_NAMES = {
    "hybrid": ["WeightChoice", "choose_weight"],
    "metrics": ["METRICS", "bootstrap_ci", "holm", "paired_test"],
    "ranking": ["evaluate", "leaderboard", "rank", "rank_changes", "score", "search_side_by_side"],
    "report": ["Report", "pareto_front"],
    "scores": ["Scores", "compare", "top_changed_queries", "win_tie_loss"],
    "truncation": ["DimensionScores", "UntrainedDimension", "evaluate_sizes"],
}
__getattr__, __dir__, __all__ = exports(__name__, _NAMES)
