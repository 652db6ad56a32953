"""embkit: learn and do the fine-tuning of embedding models. ``import embkit as ek``."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_DOOR = {  # name -> the room it lives in; rooms are opened when they are first asked for
    "BM25": "search",
    "Domain": "domains",
    "EmbkitError": "errors",
    "METRICS": "metrics",
    "Mined": "mining",
    "Recipe": "recipes",
    "Report": "report",
    "Run": "runs",
    "Scores": "evaluation",
    "Session": "session",
    "Sweep": "training",
    "TrainingPairs": "pairs",
    "bootstrap_ci": "metrics",
    "check_leakage": "domains",
    "choose": "training",
    "compare": "evaluation",
    "efficient": "engine",
    "encode": "search",
    "evaluate": "judge",
    "finished": "runs",
    "leaderboard": "judge",
    "load_domain": "domains",
    "load_model": "search",
    "look": "judge",
    "make_loss": "objectives",
    "mine": "mining",
    "paired_test": "metrics",
    "moved": "judge",
    "openai_embeddings": "clients",
    "paths": "session",
    "profile": "session",
    "rank": "judge",
    "resolve": "assets",
    "score": "judge",
    "exact_search": "search",
    "setup": "session",
    "train": "training",
    "training_pairs": "pairs",
}
_ROOMS = ("plots", "exercises", "experiments")
__all__ = sorted((*_DOOR, *_ROOMS))  # noqa: PLE0604


def __getattr__(name: str) -> Any:
    if name in _ROOMS:
        return importlib.import_module(f".{name}", __name__)
    if name not in _DOOR:
        raise AttributeError(f"embkit has no {name!r}; it has {', '.join(__all__)}")
    value = getattr(importlib.import_module(f".{_DOOR[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__


if TYPE_CHECKING:
    from .assets import resolve
    from .clients import openai_embeddings
    from .domains import Domain, check_leakage, load_domain
    from .engine import efficient
    from .errors import EmbkitError
    from .evaluation import Scores, compare
    from .judge import evaluate, leaderboard, look, moved, rank, score
    from .metrics import METRICS, bootstrap_ci, paired_test
    from .mining import Mined, mine
    from .objectives import make_loss
    from .pairs import TrainingPairs, training_pairs
    from .recipes import Recipe
    from .report import Report
    from .runs import Run, finished
    from .search import BM25, encode, exact_search, load_model
    from .session import Session, paths, profile, setup
    from .training import Sweep, choose, train
