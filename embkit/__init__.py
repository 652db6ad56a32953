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
    "Scores": "evaluation",
    "advise": "advice",
    "audit": "auditing",
    "bootstrap_ci": "evaluation",
    "compare": "evaluation",
    "encode": "models",
    "evaluate": "evaluation",
    "evaluate_sizes": "evaluation",
    "exact_search": "search",
    "export_model": "export",
    "finished": "runs",
    "fit_head": "training",
    "leaderboard": "evaluation",
    "load_domain": "data",
    "load_model": "models",
    "mine": "pairs",
    "paired_test": "evaluation",
    "paths": "session",
    "preset": "recipes.recipe",
    "rank": "evaluation",
    "search_side_by_side": "evaluation",
    "setup": "session",
    "train": "training",
    "train_live": "widgets",
    "training_pairs": "training",
    "tune": "training",
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
    from .advice import advise
    from .auditing import audit
    from .data import Domain, load_domain
    from .errors import EmbkitError
    from .evaluation import (
        Scores,
        bootstrap_ci,
        compare,
        evaluate,
        evaluate_sizes,
        leaderboard,
        paired_test,
        rank,
        search_side_by_side,
    )
    from .export import export_model
    from .models import encode, load_model
    from .pairs import mine
    from .recipes.recipe import Recipe, preset
    from .runs import Run, finished
    from .search import exact_search
    from .session import paths, setup
    from .training import fit_head, train, training_pairs, tune
    from .widgets import train_live
