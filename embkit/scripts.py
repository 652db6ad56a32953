"""What a recipe is in plain sentence-transformers: its trainer arguments and its script."""

from __future__ import annotations

import inspect
from typing import Any

from .adapters import lora_settings
from .objectives import Named, Other, loss_settings
from .recipes import Recipe

SCRIPT = '''"""Trains one sentence-transformers model: python script.py FILES

FILES: pairs.jsonl MODEL OUTPUT{usage}
pairs.jsonl holds one {{"anchor": ..., "positive": ...}} a line, with negative_1 and so on where
negatives were mined; a run's folder has the file{files}.
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
{imports}from sentence_transformers.sentence_transformer import losses
{classes}
pairs, start, output = sys.argv[1:4]
data = Dataset.from_json(pairs)
{sampler}torch.manual_seed({seed})
model = SentenceTransformer(start{device})
{settings}
loss = {loss}
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
{kept}trainer.train()
{merge}model.save_pretrained(output)
'''


KEPT = """documents = Dataset.from_json(sys.argv[4])["document"][:]
kept = KeptDocuments(
    {inner}, lambda: model.encode(documents, prompt={prompt!r}), every={every}
)
trainer.add_callback(kept)
"""
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
        **({"prompts": prompts} if (prompts := _column_prompts(recipe)) else {}),
    }


def saved_prompts(recipe: Recipe) -> dict[str, str]:
    """What the model's ``encode_query`` and ``encode_document`` will put before a text."""
    given = {"query": recipe.query_prompt, "document": recipe.document_prompt}
    return {kind: prompt for kind, prompt in given.items() if prompt is not None}


def _column_prompts(recipe: Recipe) -> dict[str, str]:
    """The trainer's prompts, by column of the training pairs."""
    negatives = [f"negative_{n}" for n in range(1, recipe.hard_negatives + 1)]
    columns = {"anchor": recipe.query_prompt}
    columns |= dict.fromkeys(["positive", *negatives], recipe.document_prompt)
    return {column: prompt for column, prompt in columns.items() if prompt}


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
    corpus = recipe.approach == "corpus"
    settings = []
    if prompts := saved_prompts(recipe):
        settings.append(f"model.prompts |= {prompts!r}")
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
        loss=_loss(recipe, device),
        usage=" documents.jsonl" if corpus else "",
        files=", as it has documents.jsonl" if corpus else "",
        classes=_classes() if corpus else "",
        kept=_kept(recipe) if corpus else "",
        arguments="\n".join(f"    {name}={value}," for name, value in written.items()),
        sampler=SAMPLER if families else "",
        imports=SAMPLER_IMPORT if families else "",
        lora_import=LORA_IMPORT if recipe.lora_rank else "",
        merge=MERGE.format(device=device) if recipe.lora_rank else "",
    )


def _loss(recipe: Recipe, device: str) -> str:
    name, given = loss_settings(recipe)
    own = name == "CorpusSoftmaxLoss"
    written = ["model"]
    for key, value in given.items():
        if isinstance(value, Other):
            shown = f"SentenceTransformer({value.model!r}{device})"
        elif isinstance(value, Named):
            shown = f"losses.{value.name}"
        else:
            shown = repr(value)
        written.append(f"{key}={shown}")
    loss = f"{'' if own else 'losses.'}{name}({', '.join(written)})"
    return f"losses.MatryoshkaLoss(model, {loss}, {list(recipe.sizes)})" if recipe.sizes else loss


def _classes() -> str:
    """The source of the loss over the corpus: the package's own, word for word."""
    from . import corpus_softmax

    source = inspect.getsource(corpus_softmax)
    return "\n" + source[source.index("import torch\n") :]


def _kept(recipe: Recipe) -> str:
    """The callback that keeps the documents' vectors fresh."""
    return KEPT.format(
        inner="loss.loss" if recipe.sizes else "loss",
        prompt=recipe.document_prompt,
        every=f"max(1, -(-len(data) // {recipe.batch_size}) // {recipe.refresh})",
    )
