"""Retrieval measured: by query, with intervals, compared in pairs."""

from ..lazy import exports

_NAMES = {
    "hybrid": ["WeightChoice", "choose_weight"],
    "intervals": ["clusters", "estimate", "holm", "mean_interval", "paired_test", "queries_needed"],
    "kept": ["keep", "results"],
    "metrics": ["METRICS"],
    "ranking": ["evaluate", "leaderboard", "rank", "rank_changes", "score", "search_side_by_side"],
    "report": ["Report", "compare", "pareto_front"],
    "scores": ["Scores", "over_seeds"],
    "truncation": ["DimensionScores", "UntrainedDimension", "evaluate_sizes"],
}
__getattr__, __dir__, __all__ = exports(__name__, _NAMES)
