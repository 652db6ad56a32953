"""Presets: what each approach changes in ``Recipe()``, named as the leaderboard names it."""

from __future__ import annotations

from typing import Any

LORA = {
    "lora_rank": 5,
    "lora_targets": ("query", "key", "value", "output.dense", "intermediate.dense"),
    "learning_rate": 2e-3,
    "lora_plus": 8.0,
    "batch_size": 256,
}
TAUGHT = {
    "approach": "distill",
    "teacher": ("corpus", "corpus, bge-small"),
    "unlabeled_texts": ("documents",),
}
TOWERS = {"model": "towers", "approach": "clip", "batch_size": 64, "learning_rate": 1e-3}
# name -> what it changes in Recipe(), on a domain with pictures: lesson 10
PICTURES: dict[str, dict[str, Any]] = {
    "frozen towers": TOWERS | {"trained_parts": "none"},  # ridge regression between them
    "both towers": TOWERS | {"frozen_stages": 8, "epochs": 4},  # the first blocks stay
}
# name -> what it changes in Recipe(); sorted by the lesson that teaches it
PRESETS: dict[str, dict[str, Any]] = {
    # 04: the contrastive family
    "contrastive": {},
    "symmetric": {"approach": "symmetric"},
    "cached": {"approach": "cached", "batch_size": 512},  # a large batch in the memory of 32
    "gist": {"approach": "gist"},
    "corpus": {"approach": "corpus"},  # softmax over all documents
    # 05: hard negatives
    "hard negatives": {"hard_negatives": 1, "relative_margin": 0.05},
    "triplet": {"approach": "triplet", "hard_negatives": 1, "relative_margin": 0.05},
    "hardness": {"hardness": 1.0},  # near negatives weigh more
    # 06: distillation; the two that teach are trained first where they are not there yet
    "corpus, bge-small": {"model": "bge-small", "approach": "corpus", "learning_rate": 2e-4},
    "distilled": TAUGHT,
    "distilled, 3 layers": TAUGHT | {"layers": 3, "epochs": 6, "batch_size": 256},
    # 07: every size of the vectors is trained
    "Matryoshka": {"approach": "corpus", "matryoshka": (384, 256, 128, 64, 32)},
    # 08: prompts
    "query prompt": {"query_prompt": "query: "},
    "both prompts": {"query_prompt": "query: ", "document_prompt": "document: "},
    # 09: an adapter on the encoder's linear layers, of 0.91% of minilm's parameters
    "LoRA": LORA,
    "QLoRA": LORA | {"quantize": "nf4"},  # the frozen weights in four bits
}
