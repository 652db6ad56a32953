"""Figures: every function takes data and returns a matplotlib Figure with a text for its picture.

Classes are told apart by a petroff10 colour and a second sign (hatch, marker or line style);
amounts are drawn in viridis.
"""

from ..lazy import exports

_NAMES = {
    "charts": "before_after histogram intervals lines loss_curve metric_bars pareto "
    "rank_change".split(),
    "figures": "AMOUNTS COLORS DASHES alt alt_text png style".split(),
    "space": "map_settings space_maps".split(),
}
__getattr__, __dir__, __all__ = exports(__name__, _NAMES)
