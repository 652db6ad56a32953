"""What a recipe may hold: the choices, what excludes what, and what people type from habit."""

import tomllib
from collections.abc import Mapping
from dataclasses import Field, field, fields
from pathlib import Path
from typing import Any

from ..errors import EmbkitError, unknown
from .views import CORPUS, IN_BATCH, TAUGHT

APPROACHES = (*IN_BATCH, "triplet", "corpus", "clip", *TAUGHT)
CHOICES = {
    "approach": APPROACHES,
    "lr_scheduler_type": ("linear", "cosine", "constant_with_warmup"),
    "unique_in_batch": ("texts", "families"),
    "passage_choice": ("best", "first"),
    "miner": ("dense", "bm25", "random", "human"),
    "sampling": ("top", "random"),
    "lora_variant": ("plain", "rslora", "dora"),
    "quantize": ("none", "nf4"),
    "trained_parts": ("all", "projections", "none"),
}
ALONE = (  # a field, what switches it on, and the fields that set nothing without it
    ("lora_rank", 4, ("lora_variant", "lora_plus", "quantize"), "LoRA"),
    ("passage_size", 128, ("passage_overlap", "passage_headings", "passage_choice"), "passages"),
)
CONTRASTIVE = "approach='contrastive'"
_TOLD = tomllib.loads(Path(__file__).with_name("habits.toml").read_text(encoding="utf-8"))
LOSSES: dict[str, str] = _TOLD["losses"]  # sentence-transformers' names of losses -> approaches
HABITS = {said: field for field, words in _TOLD["fields"].items() for said in words.split()}
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


def check_together(recipe: Any) -> None:
    """What an approach needs, and what cannot be had together."""
    if clash := _clash(recipe):
        given, expected, changes = clash
        given = f"Recipe(approach={recipe.approach!r}) {given}"
        raise EmbkitError(given, expected=expected, hint=f"recipe.replace({changes})")
    plain = {knob.name: knob.default for knob in fields(recipe)}
    least = 2 * recipe.passage_overlap + 2  # pieces of a passage that overlaps so much
    for switch, on, knobs, what in ALONE:
        alone = [f"{k}={getattr(recipe, k)!r}" for k in knobs if getattr(recipe, k) != plain[k]]
        if alone and not getattr(recipe, switch):
            raise EmbkitError(
                f"Recipe({switch}={plain[switch]}, {alone[-1]}): without {what}",
                expected=f"{what}, for this setting to have something to set",
                hint=f"recipe.replace({switch}={max(on, least)}, {alone[-1]})",
            )


def _clash(recipe: Any) -> tuple[str, str, str] | None:
    """What is wrong with an approach, what is expected, and what to change."""
    approach, lists = recipe.approach, recipe.teaching.lists
    if approach in TAUGHT and not recipe.teacher:
        return "without a teacher", "who teaches: names, folders or runs", "teacher='bge-small'"
    if lists and not recipe.hard_negatives:
        wanted = "hard_negatives of 1 or more: with the positive, they are the list that is scored"
        return "without mined negatives", wanted, "hard_negatives=4"
    if recipe.unlabeled_texts and (lists or approach not in TAUGHT):
        given = f"with unlabeled_texts={recipe.unlabeled_texts!r}"
        wanted = "approach='distill', which learns from a teacher alone, too"
        return given, wanted, "approach='distill', teacher='bge-small'"
    if recipe.passage_size and approach in (*CORPUS, *TAUGHT, "clip"):
        given = f"with passage_size={recipe.passage_size}"
        return given, "a loss over pairs and batches: these compare whole documents", CONTRASTIVE
    if recipe.passage_size and recipe.passage_overlap >= recipe.passage_size // 2:
        given = f"with passages of {recipe.passage_size} that share {recipe.passage_overlap}"
        return given, "an overlap below half of the size", "passage_size=128, passage_overlap=32"
    if recipe.mini_batch_size and approach not in IN_BATCH:
        given = f"with mini_batch_size={recipe.mini_batch_size}"
        wanted = f"a loss of in-batch negatives: {', '.join(IN_BATCH)}; or whole batches"
        return given, wanted, "mini_batch_size=None"
    if approach == "clip" and recipe.lora_rank:
        given = f"with lora_rank={recipe.lora_rank}"
        return given, "0: adapters are for models of texts alone", "lora_rank=0"
    if recipe.layers and recipe.lora_rank:
        given = f"with layers={recipe.layers} and lora_rank={recipe.lora_rank}"
        return given, "one of them: an adapter is merged into the whole model", "lora_rank=0"
    if approach == "triplet" and recipe.hard_negatives != 1:
        given = f"with {recipe.hard_negatives} mined negatives a pair"
        return given, "one: anchor, positive and negative are the triplet", "hard_negatives=1"
    return None


def strange(name: str, value: Any, knobs: Mapping[str, Field], batch_size: int) -> EmbkitError:
    """The error for a field that a recipe has not; it names the right one, of habits too."""
    right, said = HABITS.get(name), f"Recipe({name}={value!r})"
    if name in ("fp16", "bf16"):
        expected = "the precision in the environment: one for training and encoding"
        hint = f"os.environ['EMBKIT_PRECISION'] = '{name if value else 'fp32'}'"
    elif name == "gradient_accumulation_steps":
        many = value * batch_size if isinstance(value, int) and value > 0 else 512
        expected = "batch_size: what the loss sees, in mini-batches where the memory is small"
        hint = f"Recipe(batch_size={many})"
    elif right is None:
        return unknown("recipe field", name, knobs)
    else:
        if name == "scale" and isinstance(value, int | float) and value > 0:
            value = 1 / value
        if right == "approach":
            value = LOSSES.get(getattr(value, "__name__", str(value)), value)
        if right == "warmup_ratio" and not (isinstance(value, float) and 0 <= value <= 1):
            value = 0.1
        expected = f"{right}: {knobs[right].metadata['meaning']}"
        hint = f"Recipe({right}={value!r})"
    return EmbkitError(said, expected=expected, hint=hint)
