"""embkit: learn and do the fine-tuning of embedding models. ``import embkit as ek``."""

import logging

from .lazy import exports

__version__ = "0.1.0"

# When peft imports it, bitsandbytes may warn of a package that embkit has no use for.
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)

_NAMES = {  # the module that has them -> what lessons use every day
    "advice.advise": ["advise"],
    "auditing.report": ["audit"],
    "data": ["Domain", "load_domain"],
    "errors": ["EmbkitError"],
    "evaluation.intervals": ["mean_interval", "paired_test"],
    "evaluation.ranking": ["evaluate", "leaderboard", "rank", "search_side_by_side"],
    "evaluation.report": ["compare"],
    "evaluation.scores": ["Scores"],
    "evaluation.truncation": ["evaluate_sizes"],
    "export.export": ["export_model"],
    "models.encoding": ["encode"],
    "models.loading": ["load_model"],
    "pairs.mining": ["mine"],
    "recipes.recipe": ["Recipe", "preset"],
    "runs": ["Run"],
    "search.index": ["exact_search"],
    "session": ["paths", "setup"],
    "training.forecasting": ["forecast"],
    "training.heads": ["fit_head"],
    "training.experiments": ["tune"],
    "training.trainer": ["train", "training_pairs"],
    "widgets.live_training": ["train_live"],
}
_FOLDERS = (
    "advice data evaluation exercises export losses models pairs plots search space synthetic "
    "training widgets"
).split()
__getattr__, __dir__, __all__ = exports(__name__, _NAMES, _FOLDERS)
