"""A recipe's parts: what each step of a training reads of it, and nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

AUTO: tuple[Any, ...] = ("auto",)  # LoRA's targets, Matryoshka's sizes: by the model's structure
TAUGHT = ("distill", "kl", "margin_mse")  # these have a teacher
LISTS = ("kl", "margin_mse")  # the teacher scores each pair's positive and mined negatives
CORPUS = ("corpus", "distill")  # the softmax goes over all documents
# another row's documents are negatives, and nothing masks those that are right
APART = ("contrastive", "symmetric", "cached", "gist", *CORPUS)


@dataclass(frozen=True)
class Mining:
    """How hard negatives are found; ``number`` 0: none are."""

    number: int
    miner: str
    model: str
    range_min: int
    range_max: int
    relative_margin: float | None
    keep_relatives: bool
    reranker_filter: str | None
    sampling: str
    hidden_positives: float
    seed: int
    prompts: dict[str, str]  # the recipe's own, for ``model``


@dataclass(frozen=True)
class Teaching:
    """Who teaches, and on which texts beside the pairs'."""

    approach: str
    teacher: tuple[str, ...]
    unlabeled_texts: tuple[str, ...]
    model: str
    prompts: dict[str, str]  # the recipe's own, for ``model``

    @property
    def on(self) -> bool:
        """Whether there is a teacher at all."""
        return self.approach in TAUGHT

    @property
    def lists(self) -> bool:
        """Whether the teacher scores lists of documents; else it gives vectors."""
        return self.approach in LISTS


@dataclass(frozen=True)
class Passages:
    """How documents are cut, and which part of a right one is trained on; ``size`` None: whole."""

    size: int | None
    overlap: int
    headings: bool
    choice: str


@dataclass(frozen=True)
class Loss:
    """What is minimised."""

    approach: str
    temperature: float
    hardness: float
    margin: float
    guide: str
    in_batch_weight: float
    teacher_temperature: float
    teacher_share: float
    matryoshka: tuple[int, ...]


@dataclass(frozen=True)
class Lora:
    """Small matrices beside frozen weights; ``rank`` 0: every weight is trained."""

    rank: int
    alpha: float | None
    targets: tuple[str, ...]
    variant: str
    plus: float
    quantize: str
    dropout: float | None
    learning_rate: float
    weight_decay: float

    @property
    def four_bits(self) -> bool:
        """Whether the frozen weights are kept in four bits (QLoRA)."""
        return self.quantize != "none"


@dataclass(frozen=True)
class Trainer:
    """How long, how fast and in which steps, and what is set on the model before."""

    epochs: int
    batch_size: int
    learning_rate: float
    warmup_ratio: float
    lr_scheduler_type: str
    weight_decay: float
    seed: int
    dropout: float | None
    max_length: int | None
    layers: int | None
    negatives: int
    prompts: dict[str, str]  # what is put before a query, and before a document

    def by_column(self, query: str | None, document: str | None) -> dict[str, str]:
        """What goes with queries and with documents, by column of the training pairs."""
        negatives = [f"negative_{n}" for n in range(1, self.negatives + 1)]
        columns = {"anchor": query, **dict.fromkeys(["positive", *negatives], document)}
        return {column: given for column, given in columns.items() if given}


@dataclass(frozen=True)
class Clip:
    """Two towers: which parts are trained, and how fast beside the projections."""

    trained_parts: str
    frozen_stages: int
    temperature: float
    learning_rate: float
