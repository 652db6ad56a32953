"""How the leaderboard calls a recipe."""

from __future__ import annotations

from typing import Any

from .views import AUTO, TAUGHT


def label(recipe: Any) -> str:
    """How the leaderboard calls it."""
    parts = [recipe.approach]
    if recipe.approach in TAUGHT:
        parts += [f"taught by {len(recipe.teacher)}"]
        extra = recipe.unlabeled_texts
        parts += [f"unlabeled {' + '.join(extra)}"] if extra else []
    if recipe.approach == "clip":
        parts += _towers(recipe)
    if recipe.layers:
        parts.append(f"{recipe.layers} layers")
    if recipe.matryoshka:
        sizes = recipe.matryoshka
        parts.append(f"Matryoshka {'by halves' if sizes == AUTO else f'{sizes[0]}–{sizes[-1]}'}")
    if recipe.query_prompt or recipe.document_prompt:
        asked, shown = bool(recipe.query_prompt), bool(recipe.document_prompt)
        parts.append(
            f"prompt on {'both' if asked and shown else 'queries' if asked else 'documents'}"
        )
    if recipe.lora_rank:
        parts += _lora(recipe)
    if recipe.max_pairs or recipe.pairs != ("human",):
        many = f"{recipe.max_pairs:,} " if recipe.max_pairs else ""
        parts.append(f"{many}{' + '.join(recipe.pairs)} pairs")
    if recipe.unique_in_batch != "texts":
        parts.append(f"{recipe.unique_in_batch} apart")
    if recipe.hard_negatives:
        parts.append(f"+ {recipe.hard_negatives} {recipe.miner}")
        parts += ["relatives kept"] if recipe.keep_relatives else []
        parts += [f"{recipe.relative_margin:.0%} margin"] if recipe.relative_margin else []
        parts += ["reranker filter"] if recipe.reranker_filter else []
        hidden = recipe.hidden_positives
        parts += [f"{hidden:.0%} of positives hidden"] if hidden else []
    if recipe.shuffle_labels:
        parts.append("shuffled labels")
    return ", ".join(parts)


def _towers(recipe: Any) -> list[str]:
    parts = {"all": "both towers", "image": "text tower locked", "none": "ridge, frozen towers"}
    found = [parts.get(recipe.trained_parts, "projections only")]
    found += [f"first {recipe.frozen_stages} blocks frozen"] if recipe.frozen_stages else []
    return found + ([f"augmented ×{recipe.augment:g}"] if recipe.augment != 1 else [])


def _lora(recipe: Any) -> list[str]:
    kinds = {"plain": "LoRA", "rslora": "rsLoRA", "dora": "DoRA"}
    kind = "Q" * (recipe.quantize != "none") + kinds[recipe.lora_variant]
    parts = [f"{kind} r{recipe.lora_rank}"]
    parts += [f"{recipe.lora_init} start"] if recipe.lora_init != "default" else []
    parts += [f"B ×{recipe.lora_plus:g}"] if recipe.lora_plus != 1 else []
    return parts
