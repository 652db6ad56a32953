"""The embedding space before and after training, on maps and in numbers."""

from .geometry import modality_gap
from .maps import project
from .space import Space, fit_space

__all__ = [
    "Space",
    "fit_space",
    "modality_gap",
    "project",
]
