"""Figures: every function takes data and returns a matplotlib Figure with a text for its picture.

Classes are told apart by a petroff10 colour and a second sign (hatch, marker or line style);
amounts are drawn in viridis.
"""

from .charts import before_after, intervals, metric_bars, pareto, rank_change
from .curves import histogram, lines, loss_curve, similarity_heatmap, temperature_softmax, trials
from .figures import AMOUNTS, COLORS, DASHES, alt, alt_text, apply_style, png, style
from .space import batch_softmax, map_settings, matryoshka_curve, space_arrows, space_maps

__all__ = [
    "AMOUNTS",
    "COLORS",
    "DASHES",
    "alt",
    "alt_text",
    "apply_style",
    "batch_softmax",
    "before_after",
    "histogram",
    "intervals",
    "lines",
    "loss_curve",
    "map_settings",
    "matryoshka_curve",
    "metric_bars",
    "pareto",
    "png",
    "rank_change",
    "similarity_heatmap",
    "space_arrows",
    "space_maps",
    "style",
    "temperature_softmax",
    "trials",
]
