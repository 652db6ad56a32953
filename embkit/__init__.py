"""embkit: learn and do the fine-tuning of embedding models. ``import embkit as ek``."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_DOOR = {  # name -> the room it lives in; rooms are opened when they are first asked for
    "annotator_agreement": "agreement",
    "Audit": "auditing",
    "audit": "auditing",
    "batches": "pairs",
    "BM25": "search",
    "bootstrap_ci": "metrics",
    "candidates": "annotation",
    "check_leakage": "domains",
    "choose": "training",
    "compare": "evaluation",
    "Domain": "domains",
    "efficient": "engine",
    "eligible_documents": "query_sets",
    "EmbkitError": "errors",
    "encode": "search",
    "evaluate": "judge",
    "exact_search": "search",
    "export_model": "export",
    "false_negatives": "denoising",
    "filter_generated": "filtering",
    "finished": "runs",
    "general_probe": "forgetting",
    "generate": "generation",
    "in_batch_false_negatives": "pairs",
    "labels_to_pairs": "annotation",
    "LabelStore": "annotation",
    "leaderboard": "judge",
    "load_cross_encoder": "rerank",
    "load_domain": "domains",
    "load_model": "search",
    "LoadReport": "domains",
    "look": "judge",
    "make_loss": "objectives",
    "make_set": "query_sets",
    "merge_weights": "forgetting",
    "METRICS": "metrics",
    "mine": "mining",
    "Mined": "mining",
    "moved": "judge",
    "openai_embeddings": "clients",
    "OpenAIBackend": "llms",
    "paired_test": "metrics",
    "paths": "session",
    "preset": "presets",
    "PRESETS": "presets",
    "profile": "session",
    "Prompt": "prompts",
    "PROMPTS": "prompts",
    "queue": "annotation",
    "rank": "judge",
    "read_set": "generation",
    "Recipe": "recipes",
    "Report": "report",
    "resolve": "assets",
    "Run": "runs",
    "score": "judge",
    "score_pairs": "rerank",
    "Scores": "evaluation",
    "Session": "session",
    "setup": "session",
    "Sweep": "training",
    "to_beir": "export",
    "to_datasets": "export",
    "to_parquet": "export",
    "train": "training",
    "training_pairs": "pairs",
    "TrainingPairs": "pairs",
    "TransformersBackend": "local_llm",
    "with_labels": "annotation",
    "write_set": "query_sets",
}
_ROOMS = ("plots", "exercises", "experiments", "widgets")
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
    from .agreement import annotator_agreement
    from .annotation import LabelStore, candidates, labels_to_pairs, queue, with_labels
    from .assets import resolve
    from .auditing import Audit, audit
    from .clients import openai_embeddings
    from .denoising import false_negatives
    from .domains import Domain, LoadReport, check_leakage, load_domain
    from .engine import efficient
    from .errors import EmbkitError
    from .evaluation import Scores, compare
    from .export import export_model, to_beir, to_datasets, to_parquet
    from .filtering import filter_generated
    from .forgetting import general_probe, merge_weights
    from .generation import generate, read_set
    from .judge import evaluate, leaderboard, look, moved, rank, score
    from .llms import OpenAIBackend
    from .local_llm import TransformersBackend
    from .metrics import METRICS, bootstrap_ci, paired_test
    from .mining import Mined, mine
    from .objectives import make_loss
    from .pairs import TrainingPairs, batches, in_batch_false_negatives, training_pairs
    from .presets import PRESETS, preset
    from .prompts import PROMPTS, Prompt
    from .query_sets import eligible_documents, make_set, write_set
    from .recipes import Recipe
    from .report import Report
    from .rerank import load_cross_encoder, score_pairs
    from .runs import Run, finished
    from .search import BM25, encode, exact_search, load_model
    from .session import Session, paths, profile, setup
    from .training import Sweep, choose, train
