"""A recipe as a plain sentence-transformers script."""

from __future__ import annotations

import inspect
import re
from collections.abc import Sequence
from functools import cache
from typing import Any

from .. import session
from ..errors import EmbkitError
from . import pruning, settings
from .views import APART, AUTO, LISTS, Loss

SCRIPT = '''\
"""Trains one sentence-transformers model: python script.py FILES

FILES: pairs.jsonl MODEL OUTPUT{{ ([""] + files) | join(" ") }}
pairs.jsonl holds one {"anchor": ..., "positive": ...} a line, with negative_1 and so on where
negatives were mined; a run's folder has the file{{ ", as it has " * (files != []) }}
{{- files | join(" and ") }}.
MODEL is a folder or a hub id.
"""

# made for a recipe that starts from {{ repr(recipe.model) }}

import sys

{% if taught %}import numpy as np
{% endif %}import torch
from datasets import Dataset
{% if lora.rank %}from peft import LoraConfig, PeftModel
{% endif %}{% if lora.plus != 1 %}from peft.optimizers import create_loraplus_optimizer
{% endif %}from sentence_transformers import (
    SentenceTransformer,
    SentenceTransformerTrainer,
    SentenceTransformerTrainingArguments,
)
{% if own_batches %}from sentence_transformers.base.sampler import NoDuplicatesBatchSampler
{% endif %}from sentence_transformers.sentence_transformer import losses
{% if lora.four_bits %}from transformers import BitsAndBytesConfig
{% endif %}{% if lists %}from sentence_transformers.util import pairwise_cos_sim
{% endif %}{{ classes }}
pairs, start, output = sys.argv[1:4]
data = Dataset.from_json(pairs)
{% if own_batches %}keys = {{ keys }}  # rows that share a value never meet in a batch
data = data.remove_columns([name for name in ("family", "also") if name in data.column_names])


def sampler(dataset, **options):
    return NoDuplicatesBatchSampler(keys, **options)


{% endif %}{% if corpus %}data = data.with_transform(padded)  # labels differ in length
{% endif %}torch.manual_seed({{ trainer.seed }})
{% if lora.four_bits %}four_bits = BitsAndBytesConfig(
{{ written(settings.nf4_settings(), 4) }}
)
{% endif %}model = SentenceTransformer(start{{ loaded }}).float()
{% set changes %}{% if lora.four_bits %}for module in model.modules():
    if hasattr(module, "support_avx512bf16_for_cpu"):  # what it packs has no gradient
        module.support_avx512bf16_for_cpu = False
{% endif %}{% if trainer.layers %}{{ pruning }}

keep_blocks(model[0].auto_model, {{ trainer.layers }})
{% endif %}{% if trainer.prompts %}model.prompts |= {{ repr(trainer.prompts) }}
{% endif %}{% if trainer.max_length is not none %}model.max_seq_length = {{ trainer.max_length }}
{% endif %}{% if trainer.dropout is not none %}for module in model.modules():
    if isinstance(module, torch.nn.Dropout):
        module.p = {{ trainer.dropout }}
    for name, value in list(vars(module).items()):  # attention may hold a number of its own
        if "dropout" in name and type(value) in (int, float):
            setattr(module, name, {{ trainer.dropout }})
{% endif %}{% if lora.rank %}model.requires_grad_(False)
model.add_adapter(
    LoraConfig(
{{ written(settings.lora_settings(lora), 8) }}
    )
)
{% endif %}{% if lora.four_bits %}for weight in model.parameters():
    if weight.requires_grad:
        weight.data = weight.data.float()
{% endif %}{% if lora.plus != 1 %}optimizer = create_loraplus_optimizer(
    model,
    torch.optim.AdamW,
{{ written(settings.lora_plus_settings(lora), 4) }}
)
{% endif %}{% endset %}{{ changes.rstrip() }}
asked, shown = model.prompts["query"], model.prompts["document"]
{% if taught %}arrays = np.load(sys.argv[-1])
taught = {name: torch.from_numpy(arrays[name]) for name in arrays}
{% endif %}loss = {{ loss }}
arguments = SentenceTransformerTrainingArguments(
    output_dir=output + "/checkpoints",
    save_strategy="no",
    report_to="none",
    use_cpu={{ on == "cpu" }},
{% for name, value in arguments.items() %}    {{ name }}={{ value }},
{% endfor %})
trainer = SentenceTransformerTrainer(
    model=model, args=arguments, train_dataset=data, loss=loss
{{- ", optimizers=(optimizer, None)" * (lora.plus != 1) }}
)
{% if trainer.max_length is none -%}
window = model.max_seq_length or {{ settings.WIDE + 1 }}
routes = "task" in model.get_model_kwargs()  # each with a window of its own
if {{ settings.WIDE }} < window < float("inf") and not routes:
    trainer.data_collator.max_length = {{ settings.WIDE }}
{% endif %}{% if corpus %}documents = Dataset.from_json(sys.argv[4])["document"][:]
kept = KeptDocuments(
    {{ inner }}, lambda: model.encode_document(documents), every={{ steps }}
)
trainer.add_callback(kept)
{% endif %}trainer.train()
{% if lora.rank %}model.save_pretrained(output + "/adapter")  # the adapter alone
read = model.prompts, model.max_seq_length
model = SentenceTransformer(start{{ loaded }}).float()
model.prompts, model.max_seq_length = read
{% if lora.four_bits %}model[0].auto_model = model[0].auto_model.dequantize()
{% endif %}adapted = PeftModel.from_pretrained(model[0].auto_model, output + "/adapter")
model[0].auto_model = adapted.merge_and_unload()
{% endif %}model.save_pretrained(output)
'''
OWN = {  # approach -> the classes that are not sentence-transformers'
    "corpus": ("CorpusSoftmaxLoss", "KeptDocuments"),
    "distill": ("CorpusSoftmaxLoss", "CorpusDistillLoss", "KeptDocuments"),
    "embedding_mse": ("VectorsLoss",),
}


def stock_script(recipe: Any) -> str:
    """A script that trains a ``Recipe``'s model with the stock trainer and no embkit, on the
    session's device and in its precision."""
    if recipe.approach == "clip":
        raise EmbkitError(
            "a script for approach='clip': pictures need embkit's towers and its cache",
            expected="a recipe that trains on texts alone",
            hint="ek.train(recipe, domain) trains it; run.model() is a SentenceTransformer",
        )
    from ..losses import batches
    from ..losses import corpus as corpus_losses

    # what the approach asks for
    trainer, lora, own = recipe.trainer, recipe.lora, OWN.get(recipe.approach, ())
    on = session.device()
    precision = session.precision(on)
    corpus, taught = "KeptDocuments" in own, recipe.approach in ("distill", "embedding_mse")
    apart = recipe.approach in APART  # a file of pairs says which rows may not meet
    own_batches = apart or recipe.unique_in_batch == "families"
    helpers = ("padded",) * corpus + ("Apart",) * apart

    # the arguments, as they are written
    arguments = {k: repr(value) for k, value in settings.trainer_arguments(trainer).items()}
    arguments |= {precision: "True"} if precision != "fp32" else {}
    columns = trainer.by_column("asked", "shown").items()
    arguments["prompts"] = f"{{{', '.join(f'{name!r}: {of}' for name, of in columns)}}}"
    arguments["router_mapping"] = repr(trainer.by_column("query", "document"))
    if own_batches:
        arguments["batch_sampler"] = "sampler"
    if trainer.epochs == 1 and trainer.warmup_ratio:
        several = f"len(data) > {trainer.batch_size}"
        arguments["warmup_steps"] = f"{trainer.warmup_ratio!r} if {several} else 0.0"
    whole = ', device="cpu"' * (on == "cpu") + f", model_kwargs={settings.FP32!r}"
    four_bits = f"{whole[:-1]}, 'quantization_config': four_bits}}"
    revision = "".join(_named(recipe.model).partition(", revision=")[1:])

    return _template().render(
        recipe=recipe,
        trainer=trainer,
        lora=lora,
        settings=settings,
        on=on,
        lists=recipe.approach in LISTS,
        corpus=corpus,
        taught=taught,
        files=["documents.jsonl"] * corpus + ["teacher.npz"] * taught,
        own_batches=own_batches,
        keys="data.with_transform(Apart(data))" if apart else "data",
        classes=_classes(corpus_losses, own) + _classes(batches, helpers),
        pruning=inspect.getsource(pruning).partition("\n\n")[2].rstrip(),
        loaded=revision + (four_bits if lora.four_bits else whole),
        loss=_loss(recipe.loss, whole),
        inner="loss.loss" if recipe.matryoshka else "loss",
        steps=f"-(-len(data) // {trainer.batch_size})",
        arguments=arguments,
        repr=repr,
        written=_written,
    )


@cache
def _template() -> Any:
    from jinja2 import Template

    return Template(SCRIPT, keep_trailing_newline=True)


def _written(given: dict[str, Any], indent: int) -> str:
    return "\n".join(f"{' ' * indent}{name}={value!r}," for name, value in given.items())


def _loss(part: Loss, loaded: str) -> str:
    """The loss, as the script makes it."""
    name, given = settings.loss_settings(part)
    written = {key: repr(value) for key, value in given.items()}
    if "guide" in given:
        written["guide"] = f"SentenceTransformer({_named(given['guide'])}{loaded})"
    arguments = ", ".join(["model", *(f"{key}={value}" for key, value in written.items())])
    loss = f"{'' if part.approach in OWN else 'losses.'}{name}({arguments})"
    sizes = settings.HALVINGS if part.matryoshka == AUTO else list(part.matryoshka)
    return f"losses.MatryoshkaLoss(model, {loss}, {sizes})" if sizes else loss


def _named(model: str) -> str:
    """A model's name as an argument, and the revision behind a hub id's ``@`` as another."""
    return re.sub(r"^'(\w[\w.-]*/\w[\w.-]*)@(\S+)'$", r"'\1', revision='\2'", repr(model))


def _classes(module: Any, names: Sequence[str]) -> str:
    """The source of the package's own classes and of what they import, word for word."""
    if not names:
        return ""
    before = re.split("\n\n\n?(?:class|def) ", inspect.getsource(module), maxsplit=1)[0]
    start = re.search("^(?:from|import) ", before, re.M)
    head = [before[start.start() :]] if start else []
    return "\n" + "\n\n".join([*head, *(inspect.getsource(getattr(module, n)) for n in names)])
