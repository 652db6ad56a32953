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
    "cut": "tiered",
    "Domain": "domains",
    "efficient": "engine",
    "eligible_documents": "query_sets",
    "EmbkitError": "errors",
    "encode": "search",
    "encode_speeds": "students",
    "evaluate": "judge",
    "evaluate_sizes": "truncation",
    "exact_search": "search",
    "export_model": "export",
    "false_negatives": "denoising",
    "filter_generated": "filtering",
    "finished": "runs",
    "fit_head": "heads",
    "Footprint": "memory",
    "footprint": "memory",
    "general_probe": "forgetting",
    "generate": "generation",
    "Head": "heads",
    "HeadSettings": "heads",
    "in_batch_false_negatives": "pairs",
    "labels_to_pairs": "annotation",
    "LabelStore": "annotation",
    "leaderboard": "judge",
    "load_cross_encoder": "rerank",
    "load_domain": "domains",
    "load_model": "search",
    "load_quantized": "quantized",
    "load_teacher": "distillation",
    "LoadReport": "domains",
    "look": "judge",
    "make_loss": "objectives",
    "make_set": "query_sets",
    "merge_adapter": "adapters",
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
    "rescaled": "distillation",
    "resolve": "assets",
    "Run": "runs",
    "score": "judge",
    "score_pairs": "rerank",
    "Scores": "evaluation",
    "Session": "session",
    "setup": "session",
    "Sizes": "truncation",
    "Sweep": "training",
    "Teacher": "distillation",
    "TieredIndex": "tiered",
    "TieredSearch": "tiered",
    "to_beir": "export",
    "to_datasets": "export",
    "to_parquet": "export",
    "together": "distillation",
    "train": "training",
    "training_pairs": "pairs",
    "TrainingPairs": "pairs",
    "TransformersBackend": "local_llm",
    "tune_cross_encoder": "reader_training",
    "UntrainedSize": "truncation",
    "weight_bytes": "quantized",
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
    from .adapters import merge_adapter
    from .agreement import annotator_agreement
    from .annotation import LabelStore, candidates, labels_to_pairs, queue, with_labels
    from .assets import resolve
    from .auditing import Audit, audit
    from .clients import openai_embeddings
    from .denoising import false_negatives
    from .distillation import Teacher, load_teacher, rescaled, together
    from .domains import Domain, LoadReport, check_leakage, load_domain
    from .engine import efficient
    from .errors import EmbkitError
    from .evaluation import Scores, compare
    from .export import export_model, to_beir, to_datasets, to_parquet
    from .filtering import filter_generated
    from .forgetting import general_probe, merge_weights
    from .generation import generate, read_set
    from .heads import Head, HeadSettings, fit_head
    from .judge import evaluate, leaderboard, look, moved, rank, score
    from .llms import OpenAIBackend
    from .local_llm import TransformersBackend
    from .memory import Footprint, footprint
    from .metrics import METRICS, bootstrap_ci, paired_test
    from .mining import Mined, mine
    from .objectives import make_loss
    from .pairs import TrainingPairs, batches, in_batch_false_negatives, training_pairs
    from .presets import PRESETS, preset
    from .prompts import PROMPTS, Prompt
    from .quantized import load_quantized, weight_bytes
    from .query_sets import eligible_documents, make_set, write_set
    from .reader_training import tune_cross_encoder
    from .recipes import Recipe
    from .report import Report
    from .rerank import load_cross_encoder, score_pairs
    from .runs import Run, finished
    from .search import BM25, encode, exact_search, load_model
    from .session import Session, paths, profile, setup
    from .students import encode_speeds
    from .tiered import TieredIndex, TieredSearch, cut
    from .training import Sweep, choose, train
    from .truncation import Sizes, UntrainedSize, evaluate_sizes
