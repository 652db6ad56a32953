"""Widgets: each shows what functions do, calls the same functions, and has a still picture."""

from __future__ import annotations

from .annotator import Annotator
from .failure_browser import FailureBrowser
from .gallery import Gallery
from .linked_maps import LinkedMaps
from .live_training import LiveTraining, train_live
from .negatives_lab import NegativesLab
from .recipe_editor import RecipeEditor
from .run_table import RunTable
from .search_box import SearchBox
from .temperature_lab import TemperatureLab
from .truncation_lab import TruncationLab

__all__ = [
    "Annotator",
    "FailureBrowser",
    "Gallery",
    "LinkedMaps",
    "LiveTraining",
    "NegativesLab",
    "RecipeEditor",
    "RunTable",
    "SearchBox",
    "TemperatureLab",
    "TruncationLab",
    "train_live",
]
