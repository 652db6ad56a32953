"""How the leaderboard calls a recipe."""

from __future__ import annotations

from typing import Any

from .views import AUTO, TAUGHT

TOWERS = {"all": "both towers", "image": "text tower locked", "none": "ridge, frozen towers"}
KINDS = {"plain": "LoRA", "rslora": "rsLoRA", "dora": "DoRA"}


def label(recipe: Any) -> str:
    """How the leaderboard calls it."""
    r, lora, mined, sizes = recipe, recipe.lora_rank, recipe.hard_negatives, recipe.matryoshka
    clip, asked, shown = r.approach == "clip", r.query_prompt, r.document_prompt
    parts = (
        r.approach,
        r.approach in TAUGHT and f"taught by {len(r.teacher)}",
        r.unlabeled_texts and f"unlabeled {' + '.join(r.unlabeled_texts)}",
        clip and TOWERS.get(r.trained_parts, "projections only"),
        clip and r.frozen_stages and f"first {r.frozen_stages} blocks frozen",
        clip and r.augment != 1 and f"augmented ×{r.augment:g}",
        r.layers and f"{r.layers} layers",
        sizes and f"Matryoshka {'by halves' if sizes == AUTO else f'{sizes[0]}–{sizes[-1]}'}",
        (asked or shown)
        and f"prompt on {'both' if asked and shown else 'queries' if asked else 'documents'}",
        lora and f"{'Q' * (r.quantize != 'none')}{KINDS[r.lora_variant]} r{lora}",
        lora and r.lora_init != "default" and f"{r.lora_init} start",
        lora and r.lora_plus != 1 and f"B ×{r.lora_plus:g}",
        (r.max_pairs or r.pairs != ("human",))
        and f"{f'{r.max_pairs:,} ' if r.max_pairs else ''}{' + '.join(r.pairs)} pairs",
        r.unique_in_batch != "texts" and f"{r.unique_in_batch} apart",
        mined and f"+ {mined} {r.miner}",
        mined and r.keep_relatives and "relatives kept",
        mined and r.relative_margin and f"{r.relative_margin:.0%} margin",
        mined and r.reranker_filter and "reranker filter",
        mined and r.hidden_positives and f"{r.hidden_positives:.0%} of positives hidden",
        r.shuffle_labels and "shuffled labels",
    )
    return ", ".join(part for part in parts if part)
