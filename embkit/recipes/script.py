"""A recipe as a plain sentence-transformers script."""

from __future__ import annotations

import inspect
import re
from typing import Any

from .. import session
from ..errors import EmbkitError
from . import pruning
from .settings import (
    AUTO,
    FP32,
    HALVINGS,
    WIDE,
    Other,
    lora_plus_settings,
    lora_settings,
    loss_settings,
    nf4_settings,
    trainer_arguments,
)
from .views import APART, LISTS, Lora, Loss, Trainer

SCRIPT = '''"""Trains one sentence-transformers model: python script.py FILES

FILES: pairs.jsonl MODEL OUTPUT{usage}
pairs.jsonl holds one {{"anchor": ..., "positive": ...}} a line, with negative_1 and so on where
negatives were mined; a run's folder has the file{files}.
MODEL is a folder or a hub id.
"""

# made for a recipe that starts from {model!r}

import sys

{numpy}import torch
from datasets import Dataset
{lora_import}from sentence_transformers import (
    SentenceTransformer,
    SentenceTransformerTrainer,
    SentenceTransformerTrainingArguments,
)
{imports}from sentence_transformers.sentence_transformer import losses
{quantized_import}{cosine}{classes}
pairs, start, output = sys.argv[1:4]
data = Dataset.from_json(pairs)
{sampler}{padded}torch.manual_seed({seed})
{quantized}model = SentenceTransformer(start{device}).float()
{settings}
asked, shown = model.prompts["query"], model.prompts["document"]
{tables}loss = {loss}
arguments = SentenceTransformerTrainingArguments(
    output_dir=output + "/checkpoints",
    save_strategy="no",
    report_to="none",
    use_cpu={use_cpu},
{arguments}
)
trainer = SentenceTransformerTrainer(
    model=model, args=arguments, train_dataset=data, loss=loss{optimizers}
)
{kept}trainer.train()
{merge}model.save_pretrained(output)
'''


OWN = {  # approach -> the classes that are not sentence-transformers'
    "corpus": ("CorpusSoftmaxLoss", "KeptDocuments"),
    "distill": ("CorpusSoftmaxLoss", "CorpusDistillLoss", "KeptDocuments"),
    "embedding_mse": ("VectorsLoss",),
}
KEPT = """documents = Dataset.from_json(sys.argv[4])["document"][:]
kept = KeptDocuments(
    {inner}, lambda: model.encode_document(documents), every={every}
)
trainer.add_callback(kept)
"""
CUT = f"""if (model.max_seq_length or {WIDE + 1}) > {WIDE}:
    trainer.data_collator.max_length = {WIDE}
"""
PADDED = "data = data.with_transform(padded)  # labels differ in length\n"
TABLES = """arrays = np.load(sys.argv[-1])
taught = {name: torch.from_numpy(arrays[name]) for name in arrays}
"""
COSINE_IMPORT = "from sentence_transformers.util import pairwise_cos_sim\n"
LORA_IMPORT = "from peft import LoraConfig, PeftModel\n"
LORA_PLUS_IMPORT = "from peft.optimizers import create_loraplus_optimizer\n"
QUANTIZED_IMPORT = "from transformers import BitsAndBytesConfig\n"
QUANTIZED = """four_bits = BitsAndBytesConfig(
{settings}
)
"""
UNPACKED = """for module in model.modules():
    if hasattr(module, "support_avx512bf16_for_cpu"):  # what it packs has no gradient
        module.support_avx512bf16_for_cpu = False"""
LAYERS = """from typing import Any


{source}

keep_blocks(model[0].auto_model, {kept})"""
DROPOUT = """for module in model.modules():
    if isinstance(module, torch.nn.Dropout):
        module.p = {share!r}
    for name, value in list(vars(module).items()):  # attention may hold a number of its own
        if "dropout" in name and type(value) in (int, float):
            setattr(module, name, {share!r})"""
ADAPTER = """model.requires_grad_(False)
model.add_adapter(
    LoraConfig(
{settings}
    )
)"""
WHOLE = """for weight in model.parameters():
    if weight.requires_grad:
        weight.data = weight.data.float()"""
OPTIMIZER = """optimizer = create_loraplus_optimizer(
    model,
    torch.optim.AdamW,
{settings}
)"""
MERGE = """model.save_pretrained(output + "/adapter")  # the adapter alone
read = model.prompts, model.max_seq_length
model = SentenceTransformer(start{device}).float()
model.prompts, model.max_seq_length = read
{dequantize}adapted = PeftModel.from_pretrained(model[0].auto_model, output + "/adapter")
model[0].auto_model = adapted.merge_and_unload()
"""
KEYS = "data.with_transform(Apart(data))"
SAMPLER_IMPORT = "from sentence_transformers.base.sampler import NoDuplicatesBatchSampler\n"
SAMPLER = """keys = {keys}  # rows that share a value never meet in a batch
data = data.remove_columns([name for name in ("family", "also") if name in data.column_names])


def sampler(dataset, **options):
    return NoDuplicatesBatchSampler(keys, **options)


"""


def stock_script(recipe: Any, *, on: str | None = None, precision: str | None = None) -> str:
    """A script that trains the recipe's model with the stock trainer and no embkit.

    Args:
        recipe: the ``Recipe`` to train.
        on: ``cpu``, ``cuda``, ...; default: the session's device.
        precision: ``fp32``, ``bf16`` or ``fp16``; default: the session's.
    """
    if recipe.approach == "clip":
        raise EmbkitError(
            "a script for approach='clip': pictures need embkit's towers and its cache",
            expected="a recipe that trains on texts alone",
            hint="ek.train(recipe, domain) trains it; run.model() is a SentenceTransformer",
        )
    on = on or session.device()
    device = ', device="cpu"' if on == "cpu" else ""
    from ..losses import batches
    from ..losses import corpus as corpus_losses

    trainer, lora = recipe.trainer, recipe.lora
    chosen = trainer_arguments(trainer)
    precision = precision or session.precision(on)
    if precision != "fp32":
        chosen[precision] = True
    columns = trainer.by_column("asked", "shown").items()
    apart = recipe.approach in APART  # a file of pairs says which rows may not meet
    own_batches = apart or recipe.pair_source.unique == "families"
    written = {name: repr(value) for name, value in chosen.items()}
    written["prompts"] = f"{{{', '.join(f'{name!r}: {of}' for name, of in columns)}}}"
    written |= {"batch_sampler": "sampler"} if own_batches else {}
    if trainer.epochs == 1 and trainer.warmup_ratio:
        several = f"len(data) > {trainer.batch_size}"
        written["warmup_steps"] = f"{trainer.warmup_ratio!r} if {several} else 0.0"
    own = OWN.get(recipe.approach, ())
    corpus, taught = "KeptDocuments" in own, recipe.approach in ("distill", "embedding_mse")
    files = ["documents.jsonl"] * corpus + ["teacher.npz"] * taught
    four_bits, plus = lora.four_bits, lora.plus != 1
    four = ", 'quantization_config': four_bits"
    whole = f"{device}, model_kwargs={FP32!r}"
    start = f"{whole[:-1]}{four * four_bits}}}"
    start = "".join(_named(recipe.model).partition(", revision=")[1:]) + start
    return SCRIPT.format(
        model=recipe.model,
        device=start,
        use_cpu=on == "cpu",
        seed=trainer.seed,
        settings="\n".join(_settings(trainer, lora)),
        loss=_loss(recipe.loss, whole),
        usage="".join(f" {file}" for file in files),
        files=f", as it has {' and '.join(files)}" if files else "",
        numpy="import numpy as np\n" * taught,
        padded=PADDED * corpus,
        tables=TABLES * taught,
        cosine=COSINE_IMPORT * (recipe.approach in LISTS),
        classes=_classes(corpus_losses, own)
        + _classes(batches, ("padded",) * corpus + ("Apart",) * apart),
        kept=CUT * (trainer.max_length is None) + _kept(recipe.loss, trainer) * corpus,
        arguments="\n".join(f"    {name}={value}," for name, value in written.items()),
        sampler=SAMPLER.format(keys=KEYS if apart else "data") * own_batches,
        imports=SAMPLER_IMPORT * own_batches,
        lora_import=LORA_IMPORT * (lora.rank > 0) + LORA_PLUS_IMPORT * plus,
        optimizers=", optimizers=(optimizer, None)" * plus,
        quantized_import=QUANTIZED_IMPORT * four_bits,
        quantized=_quantized(precision) if four_bits else "",
        merge=_merge(start, four_bits) if lora.rank else "",
    )


def _settings(trainer: Trainer, lora: Lora) -> list[str]:
    """What is set on the model before it is trained, a line each."""
    lines = [UNPACKED] if lora.four_bits else []
    if trainer.layers:
        functions = (pruning.blocks_of, pruning.spaced, pruning.keep_blocks)
        source = "\n\n\n".join(inspect.getsource(function) for function in functions)
        lines.append(LAYERS.format(source=source, kept=trainer.layers))
    if prompts := trainer.prompts:
        lines.append(f"model.prompts |= {prompts!r}")
    if trainer.max_length is not None:
        lines.append(f"model.max_seq_length = {trainer.max_length}")
    if trainer.dropout is not None:
        lines.append(DROPOUT.format(share=trainer.dropout))
    if lora.rank:
        lines.append(ADAPTER.format(settings=_written(lora_settings(lora), 8)))
    if lora.four_bits:
        lines.append(WHOLE)
    if lora.plus != 1:
        lines.append(OPTIMIZER.format(settings=_written(lora_plus_settings(lora), 4)))
    return lines


def _written(settings: dict[str, Any], indent: int) -> str:
    return "\n".join(f"{' ' * indent}{name}={value!r}," for name, value in settings.items())


def _quantized(precision: str) -> str:
    return QUANTIZED.format(settings=_written(nf4_settings(precision), 4))


def _merge(start: str, four_bits: bool) -> str:
    network = "model[0].auto_model"
    written_out = f"{network} = {network}.dequantize()\n" if four_bits else ""
    return MERGE.format(device=start, dequantize=written_out)


def _loss(part: Loss, device: str) -> str:
    name, given = loss_settings(part)
    own = part.approach in OWN
    written = ["model"]
    for key, value in given.items():
        other = isinstance(value, Other) and f"SentenceTransformer({_named(value.model)}{device})"
        written.append(f"{key}={other or repr(value)}")
    loss = f"{'' if own else 'losses.'}{name}({', '.join(written)})"
    sizes = HALVINGS if part.matryoshka == AUTO else list(part.matryoshka)
    return f"losses.MatryoshkaLoss(model, {loss}, {sizes})" if sizes else loss


def _named(model: str) -> str:
    """A model's name as an argument, and the revision behind a hub id's ``@`` as another."""
    return re.sub(r"^'(\w[\w.-]*/\w[\w.-]*)@(\S+)'$", r"'\1', revision='\2'", repr(model))


def _classes(module: Any, names: tuple[str, ...]) -> str:
    """The source of the package's own classes and of what they import, word for word."""
    if not names:
        return ""
    before = re.split("\n\n\n?(?:class|def) ", inspect.getsource(module), maxsplit=1)[0]
    start = re.search("^(?:from|import) ", before, re.M)
    head = [before[start.start() :]] if start else []
    return "\n" + "\n\n".join([*head, *(inspect.getsource(getattr(module, n)) for n in names)])


def _kept(loss: Loss, trainer: Trainer) -> str:
    """The callback that keeps the documents' vectors fresh."""
    return KEPT.format(
        inner="loss.loss" if loss.matryoshka else "loss",
        every=f"max(1, -(-len(data) // {trainer.batch_size}) // {loss.corpus_refresh})",
    )
