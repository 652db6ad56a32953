"""LoRA by peft: small trained matrices beside frozen weights, kept apart and merged."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from .errors import EmbkitError
from .recipes import Recipe

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

ADAPTER = "adapter"  # the folder of a run that holds the adapter alone


def lora_settings(recipe: Recipe) -> dict[str, Any]:
    """What peft's ``LoraConfig`` is given (Hu et al. 2021, https://arxiv.org/abs/2106.09685)."""
    return {
        "r": recipe.lora_rank,
        "lora_alpha": 2 * recipe.lora_rank if recipe.lora_alpha is None else recipe.lora_alpha,
        "lora_dropout": recipe.dropout or 0.0,
        "target_modules": targets(recipe),
    }


def targets(recipe: Recipe) -> list[str]:
    """The ends of the target layers' names."""
    return [name for name in (part.strip() for part in recipe.lora_targets.split(",")) if name]


def add_lora(model: SentenceTransformer, recipe: Recipe) -> None:
    """Freezes a model's weights and adds the recipe's LoRA matrices to its target layers.

    Raises:
        EmbkitError: a target that the model has no linear layer for; it names those there are.
    """
    import torch
    from peft import LoraConfig

    layers = [n for n, m in model.named_modules() if isinstance(m, torch.nn.Linear)]
    known = sorted({name.rsplit(".", 1)[-1] for name in layers})
    missing = [t for t in targets(recipe) if not any(_ends(name, t) for name in layers)]
    if missing or not targets(recipe):
        raise EmbkitError(
            f"{recipe.model!r} has no linear layer named {', '.join(missing) or '(nothing)'!r}",
            expected=f"the ends of layers' names, such as: {', '.join(known)}",
            hint=f"recipe.replace(lora_targets={','.join(known[:4])!r})",
        )
    model.add_adapter(LoraConfig(**lora_settings(recipe)))


def _ends(name: str, target: str) -> bool:
    return name == target or name.endswith("." + target)


def merge(start: str | Path, adapter: str | Path) -> SentenceTransformer:
    """The model that an adapter makes of the model it was trained on, as a plain model.

    Args:
        start: the model's name or folder.
        adapter: the adapter's folder.

    Raises:
        EmbkitError: the adapter was trained on a model of other shapes, or is none.
    """
    from peft import PeftModel

    from .search import load_model

    model = load_model(start)
    try:
        tuned = PeftModel.from_pretrained(model[0].auto_model, str(adapter))
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise EmbkitError(
            f"the adapter {Path(adapter).name!r} does not fit {str(start)!r}: "
            f"{str(error).splitlines()[0]}",
            expected="an adapter that was trained on this very model",
            hint="look up `model` in the recipe of the adapter's run, and start from that",
        ) from error
    model[0].auto_model = tuned.merge_and_unload()
    return model
