"""A recipe's parts as the keyword arguments of the libraries: loss, LoRA, NF4, learning rates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ..session import device as best_device
from ..session import precision
from .recipe import Recipe


def lora_settings(recipe: Recipe) -> dict[str, Any]:
    """What peft's ``LoraConfig`` is given: W + B A alpha / r, with B zero at the start
    (Hu et al. 2021, https://arxiv.org/abs/2106.09685).

    - ``rslora`` scales by alpha / sqrt(r) (Kalajdzievski 2023, https://arxiv.org/abs/2312.03732);
    - ``dora`` learns each row's length apart (Liu et al. 2024, https://arxiv.org/abs/2402.09353);
    - ``pissa`` starts B A as the weight's largest singular directions, and freezes the rest
      (Meng et al. 2024, https://arxiv.org/abs/2404.02948); ``olora`` as its QR factors
      (Büyükakyüz 2024, https://arxiv.org/abs/2406.01775).
    """
    settings: dict[str, Any] = {
        "r": recipe.lora_rank,
        "lora_alpha": 2 * recipe.lora_rank if recipe.lora_alpha is None else recipe.lora_alpha,
        "lora_dropout": recipe.dropout or 0.0,
        "target_modules": targets(recipe),
    }
    if recipe.lora_variant != "plain":
        settings[f"use_{recipe.lora_variant}"] = True
    if recipe.lora_init != "default":
        settings["init_lora_weights"] = recipe.lora_init
    return settings


def lora_plus_settings(recipe: Recipe) -> dict[str, Any]:
    """What peft's ``create_loraplus_optimizer`` is given beside the model: B learns so many times
    as fast as A (Hayou et al. 2024, https://arxiv.org/abs/2402.12354)."""
    return {
        "lr": recipe.learning_rate,
        "loraplus_lr_ratio": recipe.lora_plus,
        "loraplus_lr_embedding": recipe.learning_rate,
        "loraplus_weight_decay": recipe.weight_decay,
    }


def targets(recipe: Recipe) -> list[str]:
    """The ends of the target layers' names."""
    return [name for name in (part.strip() for part in recipe.lora_targets.split(",")) if name]


@dataclass(frozen=True)
class Other:
    """A second model that a loss is given, by name, folder or hub id."""

    model: str


@dataclass(frozen=True)
class Named:
    """A thing of sentence-transformers' module of losses, by its dotted name."""

    name: str


@dataclass(frozen=True)
class Cosine:
    """sentence-transformers' pairwise cosine, in place of a loss's dot product."""


@dataclass(frozen=True)
class FromTeacher:
    """A table of a teacher's vectors, by its name in a run's ``teacher.npz``."""

    table: str


def loss_settings(recipe: Recipe) -> tuple[str, dict[str, Any]]:
    """The name of a recipe's loss class and what it is given beside the model.

    - ``contrastive``: MultipleNegativesRankingLoss, that is InfoNCE over the batch
      (van den Oord et al. 2018, https://arxiv.org/abs/1807.03748):
      -log( exp(cos(q, d+) / t) / sum_i exp(cos(q, d_i) / t) ), the mean over the batch's queries;
      sentence-transformers calls 1 / t ``scale``.
    - ``symmetric``: the same, and which query a document belongs to.
    - ``cached``: the same loss in chunks, so that a large batch fits the memory
      (Gao et al. 2021, https://arxiv.org/abs/2101.06983).
    - ``gist``: a guide model takes negatives out that look right to it
      (Solatorio 2024, https://arxiv.org/abs/2402.16829).
    - ``triplet``: max(0, margin - cos(q, d+) + cos(q, d-)), on mined negatives.
    - ``corpus``: ``CorpusSoftmaxLoss``: the softmax over all documents.
    - ``distill``: ``CorpusDistillLoss``: a teacher's softmax over all documents, and the labels.
    - ``clip``: ``SharedSpaceLoss``: of texts and pictures, symmetric, its temperature learned
      (Radford et al. 2021, https://arxiv.org/abs/2103.00020).
    - ``kl``: DistillKLDivLoss, the same over a list of candidates, scored by a teacher
      (Lin et al. 2020, https://arxiv.org/abs/2010.11386).
    - ``margin_mse``: MarginMSELoss, (cos(q, d+) - cos(q, d-) - teacher's margin)^2
      (Hofstätter et al. 2020, https://arxiv.org/abs/2010.02666).
    - ``embedding_mse``: ``VectorsLoss``, EmbedDistillLoss towards a teacher's vectors
      (Kim et al. 2023, https://arxiv.org/abs/2301.12005).
    """
    scale = 1 / recipe.temperature
    ranking = "MultipleNegativesRankingLoss"
    weighed = {"hardness_mode": "all_negatives", "hardness_strength": recipe.hardness}
    weighed = weighed if recipe.hardness else {}
    both = {"directions": ("query_to_doc", "doc_to_query"), "partition_mode": "per_direction"}
    cosine = {"similarity_fct": Cosine()}
    losses: dict[str, tuple[str, dict[str, Any]]] = {
        "contrastive": (ranking, {"scale": scale, **weighed}),
        "symmetric": (ranking, {"scale": scale, **both, **weighed}),
        "cached": (f"Cached{ranking}", {"scale": scale, "mini_batch_size": 32, **weighed}),
        "gist": (
            "GISTEmbedLoss",
            {"guide": Other(recipe.guide), "temperature": recipe.temperature},
        ),
        "triplet": (
            "TripletLoss",
            {
                "distance_metric": Named("TripletDistanceMetric.COSINE"),
                "triplet_margin": recipe.margin,
            },
        ),
        "corpus": (
            "CorpusSoftmaxLoss",
            {
                "temperature": recipe.temperature,
                "in_batch": recipe.in_batch,
                "sample": recipe.corpus_sample,
            },
        ),
        "distill": (
            "CorpusDistillLoss",
            {
                "queries": FromTeacher("queries"),
                "documents": FromTeacher("documents"),
                "temperature": recipe.temperature,
                "teacher_temperature": recipe.teacher_temperature,
                "teacher_share": recipe.teacher_share,
                "in_batch": recipe.in_batch,
            },
        ),
        "clip": ("SharedSpaceLoss", {"temperature": recipe.temperature}),
        "kl": (
            "DistillKLDivLoss",
            {
                **cosine,
                "student_temperature": recipe.temperature,
                "teacher_temperature": recipe.teacher_temperature,
            },
        ),
        "margin_mse": ("MarginMSELoss", cosine),
        "embedding_mse": ("VectorsLoss", {"vectors": FromTeacher("vectors")}),
    }
    return losses[recipe.approach]


def nf4_settings(dtype: str | None = None) -> dict[str, Any]:
    """What transformers' ``BitsAndBytesConfig`` is given.

    Args:
        dtype: ``fp32``, ``bf16`` or ``fp16``, which products are computed in; default: the
            precision in force.
    """

    import torch

    computed = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
    return {
        "load_in_4bit": True,
        "bnb_4bit_quant_type": "nf4",
        "bnb_4bit_compute_dtype": computed[dtype or precision(best_device())],
    }


TEXT_TOWER = r"0\.text\.|text_model\."
IMAGE_TOWER = r"0\.image\.|vision_model\."


def learning_rates(recipe: Recipe) -> dict[str, float]:
    """The trainer's ``learning_rate_mapping``: the towers learn more slowly than projections."""
    return {
        IMAGE_TOWER: recipe.learning_rate * recipe.image_rate,
        TEXT_TOWER: recipe.learning_rate * recipe.text_rate,
    }
