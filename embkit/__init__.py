"""embkit: learn and do the fine-tuning of embedding models. ``import embkit as ek``."""

from __future__ import annotations

import importlib
import logging
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# When peft imports it, bitsandbytes may warn of a package that embkit has no use for.
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)

# name -> the module that has it; a module is imported when one of its names is first asked for
_EXPORTS = {
    "Domain": "data",
    "EmbkitError": "errors",
    "Recipe": "recipes.recipe",
    "Run": "runs",
    "Scores": "evaluation.scores",
    "advise": "advice.advise",
    "audit": "auditing.report",
    "bootstrap_ci": "evaluation.metrics",
    "compare": "evaluation.scores",
    "encode": "models.encoding",
    "evaluate": "evaluation.ranking",
    "evaluate_sizes": "evaluation.truncation",
    "exact_search": "search.index",
    "export_model": "export.export",
    "finished": "runs",
    "fit_head": "training.heads",
    "leaderboard": "evaluation.ranking",
    "load_domain": "data",
    "load_model": "models.loading",
    "mine": "pairs.mining",
    "paired_test": "evaluation.metrics",
    "paths": "session",
    "preset": "recipes.recipe",
    "rank": "evaluation.ranking",
    "search_side_by_side": "evaluation.ranking",
    "setup": "session",
    "train": "training.trainer",
    "train_live": "widgets.live_training",
    "training_pairs": "training.trainer",
    "tune": "training.trials",
}
_SUBMODULES = (
    "advice",
    "data",
    "evaluation",
    "exercises",
    "export",
    "losses",
    "models",
    "pairs",
    "plots",
    "search",
    "space",
    "synthetic",
    "training",
    "widgets",
)
__all__ = sorted((*_EXPORTS, *_SUBMODULES))  # noqa: PLE0604


def __getattr__(name: str) -> Any:
    if name in _SUBMODULES:
        return importlib.import_module(f".{name}", __name__)
    if name not in _EXPORTS:
        raise AttributeError(f"embkit has no {name!r}; it has {', '.join(__all__)}")
    value = getattr(importlib.import_module(f".{_EXPORTS[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__


if TYPE_CHECKING:
    from .advice.advise import advise
    from .auditing.report import audit
    from .data import Domain, load_domain
    from .errors import EmbkitError
    from .evaluation.metrics import bootstrap_ci, paired_test
    from .evaluation.ranking import evaluate, leaderboard, rank, search_side_by_side
    from .evaluation.scores import Scores, compare
    from .evaluation.truncation import evaluate_sizes
    from .export.export import export_model
    from .models.encoding import encode
    from .models.loading import load_model
    from .pairs.mining import mine
    from .recipes.recipe import Recipe, preset
    from .runs import Run, finished
    from .search.index import exact_search
    from .session import paths, setup
    from .training.heads import fit_head
    from .training.trainer import train, training_pairs
    from .training.trials import tune
    from .widgets.live_training import train_live
