"""Widgets: each shows what functions do, calls the same functions, and has a still picture."""

from ..lazy import exports

__getattr__, __dir__, __all__ = exports(
    __name__,
    {
        "annotator": ["Annotator"],
        "failure_browser": ["FailureBrowser"],
        "gallery": ["Gallery"],
        "labs": ["NegativesLab", "TemperatureLab", "TruncationLab"],
        "linked_maps": ["LinkedMaps"],
        "live_training": ["LiveTraining", "train_live"],
        "recipe_editor": ["RecipeEditor"],
        "run_table": ["RunTable"],
        "search_box": ["SearchBox"],
    },
)
