"""embkit: learn and do the fine-tuning of embedding models. ``import embkit as ek``."""

from __future__ import annotations

import importlib
import logging
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

# When peft imports it, bitsandbytes may warn of a package that embkit has no use for.
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)

_DOOR = {  # name -> the room it lives in; rooms are opened when they are first asked for
    "Advice": "advice.advise",
    "advice_rules": "advice.advise",
    "advise": "advice.advise",
    "annotator_agreement": "pairs.agreement",
    "Audit": "auditing",
    "audit": "auditing",
    "batch_loss": "losses.in_batch",
    "batches": "pairs.pairs",
    "BM25": "search.index",
    "bootstrap_ci": "evaluation.metrics",
    "candidates": "pairs.labels",
    "check_leakage": "data",
    "validate_curve": "advice.check",
    "tune": "training.trainer",
    "tune_share": "training.merging",
    "compare": "evaluation.scores",
    "copy_captions": "training.clip",
    "Curve": "advice.curves",
    "truncate": "search.tiered",
    "data_url": "data.images",
    "Domain": "data",
    "efficient": "models.packing",
    "eligible_documents": "synthetic.sets",
    "EmbkitError": "errors",
    "encode": "models.encoding",
    "encode_speeds": "models.layers",
    "evaluate": "evaluation.evaluate",
    "evaluate_sizes": "evaluation.truncation",
    "Evidence": "advice.evidence",
    "exact_search": "search.index",
    "export_model": "export.export",
    "export_onnx": "export.onnx",
    "false_negatives": "pairs.false_negatives",
    "filter_generated": "synthetic.filters",
    "finished": "runs",
    "fit_head": "training.heads",
    "fit_space": "space.space",
    "Footprint": "training.memory",
    "footprint": "training.memory",
    "general_probe": "data.sources.probe",
    "generate": "synthetic.generate",
    "Head": "training.heads",
    "HeadSettings": "training.heads",
    "holm": "evaluation.metrics",
    "in_batch_false_negatives": "pairs.pairs",
    "labels_to_pairs": "pairs.labels",
    "LabelStore": "pairs.labels",
    "leaderboard": "evaluation.evaluate",
    "load_cross_encoder": "models.cross_encoder",
    "load_domain": "data",
    "load_model": "models.loading",
    "load_quantized": "models.quantized",
    "load_teacher": "training.distillation",
    "LoadReport": "data",
    "search_side_by_side": "evaluation.evaluate",
    "make_loss": "training.losses",
    "make_set": "synthetic.sets",
    "merge_adapter": "training.lora",
    "merge_weights": "training.merging",
    "MergeChoice": "training.merging",
    "METRICS": "evaluation.metrics",
    "mine": "pairs.mining",
    "Mined": "pairs.mining",
    "modality_gap": "space.geometry",
    "rank_changes": "evaluation.evaluate",
    "onnx_loss": "export.onnx",
    "OnnxModel": "export.onnx",
    "openai_embeddings": "models.openai",
    "OpenAIBackend": "synthetic.backends",
    "paired_test": "evaluation.metrics",
    "pareto_front": "evaluation.report",
    "paths": "session",
    "preset": "recipes.recipe",
    "PRESETS": "recipes.presets",
    "profile": "session",
    "project": "space.maps",
    "Prompt": "synthetic.prompts",
    "PROMPTS": "synthetic.prompts",
    "top_changed_queries": "evaluation.compare",
    "queue": "pairs.labels",
    "rank": "evaluation.evaluate",
    "read_set": "synthetic.generate",
    "Recipe": "recipes.recipe",
    "Report": "evaluation.report",
    "rescaled": "training.distillation",
    "resolve": "assets.catalogue",
    "Run": "runs",
    "score": "evaluation.evaluate",
    "score_pairs": "models.cross_encoder",
    "Scores": "evaluation.scores",
    "Session": "session",
    "setup": "session",
    "DimensionScores": "evaluation.truncation",
    "Space": "space.space",
    "Stopped": "training.live",
    "GridResult": "training.trainer",
    "sweep": "training.sweep",
    "Teacher": "training.distillation",
    "tiered_bench": "@tests.benchmarks.bench_tiered",
    "TieredIndex": "search.tiered",
    "TieredSearch": "search.tiered",
    "to_beir": "export.export",
    "to_datasets": "export.export",
    "to_parquet": "export.export",
    "train": "training.trainer",
    "train_live": "widgets.live_training",
    "training_pairs": "training.trainer",
    "TrainingPairs": "pairs.pairs",
    "TransformersBackend": "synthetic.local",
    "tune_cross_encoder": "training.cross_encoder",
    "rotate_to_pca": "models.rotation",
    "UntrainedDimension": "evaluation.truncation",
    "weight_bytes": "models.quantized",
    "win_tie_loss": "evaluation.compare",
    "with_labels": "pairs.labels",
    "write_set": "synthetic.sets",
}
_ROOMS = {
    "plots": "plots",
    "exercises": "exercises",
    "experiments": "training.experiments",
    "geometry": "space.geometry",
    "widgets": "widgets",
}
__all__ = sorted((*_DOOR, *_ROOMS))  # noqa: PLE0604


def __getattr__(name: str) -> Any:
    if name in _ROOMS:
        return importlib.import_module(f".{_ROOMS[name]}", __name__)
    if name not in _DOOR:
        raise AttributeError(f"embkit has no {name!r}; it has {', '.join(__all__)}")
    value = getattr(importlib.import_module(f".{_DOOR[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__


if TYPE_CHECKING:
    from tests.benchmarks.bench_tiered import tiered_bench

    from ..training.trainer import training_pairs
    from .advice.advise import Advice, advice_rules, advise
    from .advice.check import validate_curve
    from .advice.curves import Curve
    from .advice.evidence import Evidence
    from .assets.catalogue import resolve
    from .auditing import Audit, audit
    from .data import Domain, LoadReport, check_leakage, load_domain
    from .data.images import data_url
    from .data.sources.probe import general_probe
    from .errors import EmbkitError
    from .evaluation.compare import top_changed_queries, win_tie_loss
    from .evaluation.evaluate import (
        evaluate,
        leaderboard,
        rank,
        rank_changes,
        score,
        search_side_by_side,
    )
    from .evaluation.metrics import METRICS, bootstrap_ci, holm, paired_test
    from .evaluation.report import Report, pareto_front
    from .evaluation.scores import Scores, compare
    from .evaluation.truncation import DimensionScores, UntrainedDimension, evaluate_sizes
    from .export.export import export_model, to_beir, to_datasets, to_parquet
    from .export.onnx import OnnxModel, export_onnx, onnx_loss
    from .losses.in_batch import batch_loss
    from .models.cross_encoder import load_cross_encoder, score_pairs
    from .models.encoding import encode
    from .models.layers import encode_speeds
    from .models.loading import load_model
    from .models.openai import openai_embeddings
    from .models.packing import efficient
    from .models.quantized import load_quantized, weight_bytes
    from .models.rotation import rotate_to_pca
    from .pairs.agreement import annotator_agreement
    from .pairs.false_negatives import false_negatives
    from .pairs.labels import LabelStore, candidates, labels_to_pairs, queue, with_labels
    from .pairs.mining import Mined, mine
    from .pairs.pairs import TrainingPairs, batches, in_batch_false_negatives
    from .recipes.presets import PRESETS
    from .recipes.recipe import Recipe, preset
    from .runs import Run, finished
    from .search.index import BM25, exact_search
    from .search.tiered import TieredIndex, TieredSearch, truncate
    from .session import Session, paths, profile, setup
    from .space.geometry import modality_gap
    from .space.maps import project
    from .space.space import Space, fit_space
    from .synthetic.backends import OpenAIBackend
    from .synthetic.filters import filter_generated
    from .synthetic.generate import generate, read_set
    from .synthetic.local import TransformersBackend
    from .synthetic.prompts import PROMPTS, Prompt
    from .synthetic.sets import eligible_documents, make_set, write_set
    from .training.clip import copy_captions
    from .training.cross_encoder import tune_cross_encoder
    from .training.distillation import Teacher, load_teacher, rescaled
    from .training.heads import Head, HeadSettings, fit_head
    from .training.live import Stopped
    from .training.lora import merge_adapter
    from .training.losses import make_loss
    from .training.memory import Footprint, footprint
    from .training.merging import MergeChoice, merge_weights, tune_share
    from .training.sweep import sweep
    from .training.trainer import GridResult, train, tune
    from .widgets.live_training import train_live
