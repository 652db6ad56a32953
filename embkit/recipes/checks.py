"""What a recipe may hold: the choices, what excludes what, and what people type from habit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import Field, field, fields
from typing import Any

from ..errors import EmbkitError, unknown
from .views import TAUGHT

APPROACHES = ("contrastive", "symmetric", "cached", "gist", "triplet", "corpus", "clip", *TAUGHT)
CHOICES = {
    "approach": APPROACHES,
    "lr_scheduler_type": ("linear", "cosine", "constant_with_warmup"),
    "unique_in_batch": ("texts", "families"),
    "miner": ("dense", "bm25", "random", "human"),
    "sampling": ("top", "random"),
    "lora_variant": ("plain", "rslora", "dora"),
    "lora_init": ("default", "gaussian", "orthogonal", "pissa", "olora"),
    "quantize": ("none", "nf4"),
    "trained_parts": ("all", "image", "projections", "none"),
}
LOSSES = {  # sentence-transformers' names of losses -> approaches
    "MultipleNegativesRankingLoss": "contrastive",
    "CachedMultipleNegativesRankingLoss": "cached",
    "GISTEmbedLoss": "gist",
    "TripletLoss": "triplet",
    "MarginMSELoss": "margin_mse",
    "DistillKLDivLoss": "kl",
}
HABITS = {  # what people type -> the field
    **dict.fromkeys(("lr",), "learning_rate"),
    **dict.fromkeys(("loss", "method", "loss_type"), "approach"),
    **dict.fromkeys(("scale",), "temperature"),
    **dict.fromkeys(("num_train_epochs", "num_epochs", "n_epochs"), "epochs"),
    **dict.fromkeys(("per_device_train_batch_size", "train_batch_size", "bs"), "batch_size"),
    **dict.fromkeys(("warmup", "warmup_steps"), "warmup_ratio"),
    **dict.fromkeys(("schedule", "scheduler", "lr_scheduler"), "lr_scheduler_type"),
    **dict.fromkeys(("max_seq_length", "max_len"), "max_length"),
    **dict.fromkeys(("base_model", "model_name", "model_name_or_path"), "model"),
    **dict.fromkeys(("r", "rank"), "lora_rank"),
    **dict.fromkeys(("alpha",), "lora_alpha"),
    **dict.fromkeys(("target_modules",), "lora_targets"),
    **dict.fromkeys(("matryoshka_dims", "sizes", "dims"), "matryoshka"),
    **dict.fromkeys(("negatives", "num_negatives", "num_hard_negatives"), "hard_negatives"),
    **dict.fromkeys(("keep_kin",), "keep_relatives"),
    **dict.fromkeys(("veto", "cross_encoder"), "reranker_filter"),
    **dict.fromkeys(("in_batch",), "in_batch_weight"),
    **dict.fromkeys(("refresh",), "corpus_refresh"),
    **dict.fromkeys(("unlabelled", "unlabeled"), "unlabeled_texts"),
    **dict.fromkeys(("teachers", "teacher_model"), "teacher"),
    **dict.fromkeys(("prompt", "query_prefix"), "query_prompt"),
    **dict.fromkeys(("passage_prompt", "document_prefix"), "document_prompt"),
}


TYPES: dict[str, Any] = {"float": (int, float), "int": int, "str": str, "bool": bool}


def knob(default: Any, meaning: str, low: float | None = None, high: float | None = None) -> Any:
    """A field of a dataclass that says what it means, and from where to where it goes."""
    return field(default=default, metadata={"meaning": meaning, "low": low, "high": high})


def check_value(of: Field, value: Any, owner: str = "Recipe") -> None:
    """Refuses a value of another type than the field's, or outside its limits."""
    low, high, kind = of.metadata["low"], of.metadata["high"], str(of.type)
    if value is None and "None" in kind:
        return
    wanted = TYPES[kind.split(" | ")[0]]
    fits = isinstance(value, wanted) and (wanted is bool or not isinstance(value, bool))
    if fits and (low is None or value >= low) and (high is None or value <= high):
        return
    limits = "" if low is None else f", at least {low}"
    limits += "" if high is None else f", at most {high}"
    right = f"{of.name}={of.default!r}"
    raise EmbkitError(
        f"{owner}({of.name}={value!r})",
        expected=f"{of.metadata['meaning']}{limits}, such as {of.default!r}",
        hint=f"recipe.replace({right})" if owner == "Recipe" else right,
    )


def check_lora(recipe: Any) -> None:
    """Settings of LoRA without LoRA."""
    knobs = [k for k in fields(recipe) if k.name in ("lora_variant", "lora_init", "lora_plus")]
    set_alone = [k.name for k in knobs if getattr(recipe, k.name) != k.default]
    set_alone += ["quantize"] if recipe.quantize != "none" else []
    if set_alone and not recipe.lora_rank:
        name = set_alone[-1]
        raise EmbkitError(
            f"Recipe(lora_rank=0, {name}={getattr(recipe, name)!r}): without LoRA",
            expected="a rank of 1 or more, for a setting of LoRA to have something to set",
            hint=f"recipe.replace(lora_rank=4, {name}={getattr(recipe, name)!r})",
        )


def check_together(recipe: Any) -> None:
    """What an approach needs, and what cannot be had together."""
    lists, vectors = recipe.teaching.lists, recipe.approach == "embedding_mse"
    prompts = recipe.query_prompt or recipe.document_prompt
    for wrong, given, expected, changes in (
        (
            recipe.approach in TAUGHT and not recipe.teacher,
            "without a teacher",
            "who teaches: names, folders or runs",
            "teacher='bge-small'",
        ),
        (
            lists and not recipe.hard_negatives,
            "without mined negatives",
            "hard_negatives of 1 or more: with the positive, they are the list that is scored",
            "hard_negatives=4",
        ),
        (
            recipe.unlabeled_texts and (lists or recipe.approach not in TAUGHT),
            f"with unlabeled_texts={recipe.unlabeled_texts!r}",
            "an approach that learns from a teacher alone: distill or embedding_mse",
            "approach='distill', teacher='bge-small'",
        ),
        (
            vectors and (recipe.matryoshka or prompts or recipe.hard_negatives),
            "with Matryoshka sizes, prompts or mined negatives",
            "none of them: every text has one vector to copy",
            "matryoshka=(), query_prompt=None, document_prompt=None, hard_negatives=0",
        ),
        (
            recipe.approach == "distill" and recipe.corpus_sample,
            f"with corpus_sample={recipe.corpus_sample}",
            "None: the teacher's softmax is over all documents",
            "corpus_sample=None",
        ),
        (
            recipe.layers and recipe.lora_rank,
            f"with layers={recipe.layers} and lora_rank={recipe.lora_rank}",
            "one of them: an adapter is merged into the whole model",
            "lora_rank=0",
        ),
        (
            recipe.quantize != "none" and recipe.lora_init in ("pissa", "olora"),
            f"with quantize={recipe.quantize!r} and lora_init={recipe.lora_init!r}",
            "an initialisation that leaves the frozen weights as they are",
            "lora_init='default'",
        ),
        (
            recipe.approach == "triplet" and recipe.hard_negatives != 1,
            f"with {recipe.hard_negatives} mined negatives a pair",
            "one: anchor, positive and negative are the triplet",
            "hard_negatives=1",
        ),
    ):
        if wrong:
            raise EmbkitError(
                f"Recipe(approach={recipe.approach!r}) {given}",
                expected=expected,
                hint=f"recipe.replace({changes})",
            )


def strange(name: str, value: Any, knobs: Mapping[str, Field], batch_size: int) -> EmbkitError:
    """The error for a field that a recipe has not; it names the right one, of habits too."""
    right, said = HABITS.get(name), f"Recipe({name}={value!r})"
    if name in ("fp16", "bf16"):
        return EmbkitError(
            said,
            expected="the precision in the environment: one for training and encoding",
            hint=f"os.environ['EMBKIT_PRECISION'] = '{name if value else 'fp32'}'",
        )
    if name == "gradient_accumulation_steps":
        many = value * batch_size if isinstance(value, int) and value > 0 else 512
        return EmbkitError(
            said,
            expected="batch_size: what the loss sees at once, whatever the memory",
            hint=f"Recipe(approach='cached', batch_size={many})",
        )
    if right is None:
        return unknown("recipe field", name, knobs)
    if name == "scale" and isinstance(value, int | float) and value > 0:
        value = 1 / value
    if right == "approach":
        value = LOSSES.get(getattr(value, "__name__", str(value)), value)
    if right == "warmup_ratio" and not (isinstance(value, float) and 0 <= value <= 1):
        value = 0.1
    return EmbkitError(
        said,
        expected=f"{right}: {knobs[right].metadata['meaning']}",
        hint=f"Recipe({right}={value!r})",
    )
