"""Figures: every function takes data and returns a matplotlib Figure with a text for its picture.

Classes are told apart by a petroff10 colour and a second sign (hatch, marker or line style);
amounts are drawn in viridis.
"""

from ..lazy import exports

__getattr__, __dir__, __all__ = exports(__name__)
