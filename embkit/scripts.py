"""What a recipe is in plain sentence-transformers: its trainer arguments and its script."""

from __future__ import annotations

from typing import Any

from .adapters import lora_settings
from .recipes import Recipe

SCRIPT = '''"""Trains one sentence-transformers model: python script.py pairs.jsonl MODEL OUTPUT

pairs.jsonl holds one {{"anchor": ..., "positive": ...}} a line, with negative_1 and so on where
negatives were mined; a run's folder has the file.
MODEL is a folder or a hub id.
"""

# made for a recipe that starts from {model!r}

import sys

import torch
from datasets import Dataset
{lora_import}from sentence_transformers import (
    SentenceTransformer,
    SentenceTransformerTrainer,
    SentenceTransformerTrainingArguments,
)
{imports}from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss

pairs, start, output = sys.argv[1:4]
data = Dataset.from_json(pairs)
{sampler}torch.manual_seed({seed})
model = SentenceTransformer(start{device})
{settings}
loss = MultipleNegativesRankingLoss(model, scale=1 / {temperature!r})
arguments = SentenceTransformerTrainingArguments(
    output_dir=output + "/checkpoints",
    save_strategy="no",
    report_to="none",
    use_cpu={use_cpu},
{arguments}
)
trainer = SentenceTransformerTrainer(
    model=model, args=arguments, train_dataset=data, loss=loss
)
trainer.train()
{merge}model.save_pretrained(output)
'''


LORA_IMPORT = "from peft import LoraConfig, PeftModel\n"
MERGE = """model.save_pretrained(output + "/adapter")  # the adapter alone
model = SentenceTransformer(start{device})
adapted = PeftModel.from_pretrained(model[0].auto_model, output + "/adapter")
model[0].auto_model = adapted.merge_and_unload()
"""
SAMPLER_IMPORT = "from sentence_transformers.base.sampler import NoDuplicatesBatchSampler\n"
SAMPLER = """keys = data  # rows that share a text or a family never meet in a batch
data = data.remove_columns("family")


def sampler(dataset, **options):
    return NoDuplicatesBatchSampler(keys, **options)


"""


def trainer_arguments(recipe: Recipe) -> dict[str, Any]:
    """The trainer's arguments that decide the model; embkit's run and the script share them."""
    return {
        "num_train_epochs": recipe.epochs,
        "per_device_train_batch_size": recipe.batch_size,
        "learning_rate": recipe.learning_rate,
        "lr_scheduler_type": recipe.schedule,
        "warmup_steps": recipe.warmup,
        "weight_decay": recipe.weight_decay,
        "batch_sampler": "no_duplicates",
        "seed": recipe.seed,
    }


def stock_script(recipe: Recipe, *, on: str | None = None, precision: str | None = None) -> str:
    """A script that trains the recipe's model with the stock trainer and no embkit.

    Args:
        recipe: what to train.
        on: ``cpu``, ``cuda``, ...; default: the session's device.
        precision: ``fp32``, ``bf16`` or ``fp16``; default: the session's.
    """
    from . import session

    on = on or session.device()
    device = ', device="cpu"' if on == "cpu" else ""
    chosen = trainer_arguments(recipe)
    precision = precision or session.precision(on)
    if precision != "fp32":
        chosen[precision] = True
    families = recipe.unique_in_batch == "families"
    written = {name: repr(value) for name, value in chosen.items()}
    written |= {"batch_sampler": "sampler"} if families else {}
    settings = []
    if recipe.max_length is not None:
        settings.append(f"model.max_seq_length = {recipe.max_length}")
    if recipe.dropout is not None:
        settings += [
            "for module in model.modules():",
            "    if isinstance(module, torch.nn.Dropout):",
            f"        module.p = {recipe.dropout!r}",
        ]
    if recipe.lora_rank:
        settings += [
            "model.add_adapter(",
            "    LoraConfig(",
            *(f"        {name}={value!r}," for name, value in lora_settings(recipe).items()),
            "    )",
            ")",
        ]
    return SCRIPT.format(
        model=recipe.model,
        device=device,
        use_cpu=on == "cpu",
        seed=recipe.seed,
        settings="\n".join(settings),
        temperature=recipe.temperature,
        arguments="\n".join(f"    {name}={value}," for name, value in written.items()),
        sampler=SAMPLER if families else "",
        imports=SAMPLER_IMPORT if families else "",
        lora_import=LORA_IMPORT if recipe.lora_rank else "",
        merge=MERGE.format(device=device) if recipe.lora_rank else "",
    )
