"""embkit: learn and do the fine-tuning of embedding models. ``import embkit as ek``."""

from __future__ import annotations

import importlib
import logging
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# When peft imports it, bitsandbytes may warn of a package that embkit has no use for.
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)

_DOOR = {  # name -> the room it lives in; rooms are opened when they are first asked for
    "Advice": "advice",
    "advice_rules": "advice",
    "advise": "advice",
    "annotator_agreement": "agreement",
    "Audit": "auditing",
    "audit": "auditing",
    "batch_loss": "softmax",
    "batches": "pairs",
    "BM25": "search",
    "bootstrap_ci": "metrics",
    "candidates": "annotation",
    "check_leakage": "domains",
    "check_prediction": "foresight",
    "choose": "training",
    "choose_share": "forgetting",
    "compare": "evaluation",
    "copy_captions": "towers",
    "Curve": "curves",
    "cut": "tiered",
    "data_url": "images",
    "Domain": "domains",
    "efficient": "engine",
    "eligible_documents": "query_sets",
    "EmbkitError": "errors",
    "encode": "search",
    "encode_speeds": "students",
    "evaluate": "judge",
    "evaluate_sizes": "truncation",
    "Evidence": "evidence",
    "exact_search": "search",
    "export_model": "export",
    "export_onnx": "onnx_export",
    "false_negatives": "denoising",
    "filter_generated": "filtering",
    "finished": "runs",
    "fit_head": "heads",
    "fit_space": "space",
    "Footprint": "memory",
    "footprint": "memory",
    "general_probe": "forgetting",
    "generate": "generation",
    "Head": "heads",
    "HeadSettings": "heads",
    "holm": "metrics",
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
    "MergeChoice": "forgetting",
    "METRICS": "metrics",
    "mine": "mining",
    "Mined": "mining",
    "modality_gap": "towers",
    "moved": "judge",
    "onnx_loss": "onnx_export",
    "OnnxModel": "onnx_export",
    "openai_embeddings": "clients",
    "OpenAIBackend": "llms",
    "paired_test": "metrics",
    "pareto_front": "contrast",
    "paths": "session",
    "preset": "presets",
    "PRESETS": "presets",
    "profile": "session",
    "project": "maps",
    "Prompt": "prompts",
    "PROMPTS": "prompts",
    "queries_behind": "contrast",
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
    "Space": "space",
    "Stopped": "live",
    "Sweep": "training",
    "sweep": "sweeps",
    "Teacher": "distillation",
    "tiered_bench": "bench_tiered",
    "TieredIndex": "tiered",
    "TieredSearch": "tiered",
    "to_beir": "export",
    "to_datasets": "export",
    "to_parquet": "export",
    "together": "distillation",
    "train": "training",
    "train_live": "live",
    "training_pairs": "pairs",
    "TrainingPairs": "pairs",
    "TransformersBackend": "local_llm",
    "tune_cross_encoder": "reader_training",
    "turn": "turning",
    "UntrainedSize": "truncation",
    "weight_bytes": "quantized",
    "win_tie_loss": "contrast",
    "with_labels": "annotation",
    "write_set": "query_sets",
}
_ROOMS = ("plots", "exercises", "experiments", "geometry", "widgets")
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
    from .advice import Advice, advice_rules, advise
    from .agreement import annotator_agreement
    from .annotation import LabelStore, candidates, labels_to_pairs, queue, with_labels
    from .assets import resolve
    from .auditing import Audit, audit
    from .bench_tiered import tiered_bench
    from .clients import openai_embeddings
    from .contrast import pareto_front, queries_behind, win_tie_loss
    from .curves import Curve
    from .denoising import false_negatives
    from .distillation import Teacher, load_teacher, rescaled, together
    from .domains import Domain, LoadReport, check_leakage, load_domain
    from .engine import efficient
    from .errors import EmbkitError
    from .evaluation import Scores, compare
    from .evidence import Evidence
    from .export import export_model, to_beir, to_datasets, to_parquet
    from .filtering import filter_generated
    from .foresight import check_prediction
    from .forgetting import MergeChoice, choose_share, general_probe, merge_weights
    from .generation import generate, read_set
    from .heads import Head, HeadSettings, fit_head
    from .images import data_url
    from .judge import evaluate, leaderboard, look, moved, rank, score
    from .live import Stopped, train_live
    from .llms import OpenAIBackend
    from .local_llm import TransformersBackend
    from .maps import project
    from .memory import Footprint, footprint
    from .metrics import METRICS, bootstrap_ci, holm, paired_test
    from .mining import Mined, mine
    from .objectives import make_loss
    from .onnx_export import OnnxModel, export_onnx, onnx_loss
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
    from .softmax import batch_loss
    from .space import Space, fit_space
    from .students import encode_speeds
    from .sweeps import sweep
    from .tiered import TieredIndex, TieredSearch, cut
    from .towers import copy_captions, modality_gap
    from .training import Sweep, choose, train
    from .truncation import Sizes, UntrainedSize, evaluate_sizes
    from .turning import turn
