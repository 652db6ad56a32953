"""embkit: learn and do the fine-tuning of embedding models. ``import embkit as ek``."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

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
    "runs": ["Run", "finished"],
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

if TYPE_CHECKING:
    from .advice.advise import advise
    from .auditing.report import audit
    from .data import Domain, load_domain
    from .errors import EmbkitError
    from .evaluation.intervals import mean_interval, paired_test
    from .evaluation.ranking import evaluate, leaderboard, rank, search_side_by_side
    from .evaluation.report import compare
    from .evaluation.scores import Scores
    from .evaluation.truncation import evaluate_sizes
    from .export.export import export_model
    from .models.encoding import encode
    from .models.loading import load_model
    from .pairs.mining import mine
    from .recipes.recipe import Recipe, preset
    from .runs import Run, finished
    from .search.index import exact_search
    from .session import paths, setup
    from .training.experiments import tune
    from .training.forecasting import forecast
    from .training.heads import fit_head
    from .training.trainer import train, training_pairs
    from .widgets.live_training import train_live
