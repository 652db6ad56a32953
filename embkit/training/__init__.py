"""Training: the trainer, LoRA, teachers, heads, and trials on dev."""

from .clip import copy_captions
from .cross_encoder import FineTunedCrossEncoder, tune_cross_encoder
from .distillation import Teacher, load_teacher, rescaled
from .experiments import Comparison, approaches, equal_cost
from .heads import Head, HeadSettings, fit_head
from .live import Stopped
from .lora import merge_adapter
from .losses import make_loss
from .memory import Footprint, footprint
from .merging import MergeChoice, merge_weights, tune_share
from .sweeps import SweepResult, sweep
from .trainer import make_trainer, train, training_pairs
from .trials import GridResult, tune

__all__ = [
    "Comparison",
    "approaches",
    "equal_cost",
    "FineTunedCrossEncoder",
    "Footprint",
    "GridResult",
    "Head",
    "HeadSettings",
    "MergeChoice",
    "Stopped",
    "SweepResult",
    "Teacher",
    "copy_captions",
    "fit_head",
    "footprint",
    "load_teacher",
    "make_loss",
    "make_trainer",
    "merge_adapter",
    "merge_weights",
    "rescaled",
    "sweep",
    "train",
    "training_pairs",
    "tune",
    "tune_cross_encoder",
    "tune_share",
]
