"""train(recipe, domain) -> Run: sentence-transformers' trainer, resumed, recorded, reused."""

import contextlib
import hashlib
import json
import math
import shutil
import tempfile
import threading
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from sentence_transformers import SentenceTransformer
from sentence_transformers import SentenceTransformerTrainingArguments as Arguments
from transformers.trainer_callback import PrinterCallback

from .. import session
from ..assets.catalogue import folder_fingerprint, resolve
from ..data import Domain
from ..distributed import check_recipe, ignore_unused, on_one_device, team
from ..errors import EmbkitError
from ..files import made_once, read_json, replace_folder, write_atomic, write_lines
from ..losses import batches, corpus
from ..models import loading, packing, quantized
from ..models.encoding import check_prompt, encode_as, prompt_of
from ..pairs.pairs import TrainingPairs, batch_sampler, make_pairs, source_hash
from ..recipes.recipe import Recipe
from ..recipes.script import stock_script
from ..recipes.settings import WIDE, trainer_arguments
from ..runs import RECORD, Run, store
from . import lora as adapters
from .callbacks import DevScore, Watch, tracking
from .distillation import teach, teaching_hash
from .fitting import Trainer, checkpointed
from .forecasting import kept_for_backward
from .losses import make_loss
from .passages import TrainedPassages
from .refusals import refused

DEV = "dev_ndcg@10"  # in a run's history
LOGGED = ("step", "epoch", "loss", "learning_rate", "grad_norm", DEV)
TWICE = 4  # steps between two checkpoints of several processes, at least


def train(
    recipe: Recipe,
    domain: Domain,
    *,
    stop: threading.Event | None = None,
    quiet: bool = False,
    callbacks: Sequence[Any] = (),
) -> Run:
    """Fine-tunes a model, or returns the finished run of the same recipe, data, weights (those of
    a guide and of a reranker among them) and precision.

    A run that was killed goes on from its last checkpoint, and ends as it would have ended.
    Two processes that ask for the same run at once train it once; processes launched together
    by torchrun or accelerate train it together (``embkit.distributed``).

    Args:
        domain: on what; only its ``train`` and ``dev`` splits are read.
        stop: when set, training stops after the step in hand, saves, and raises
            KeyboardInterrupt; the next call goes on from there.
        callbacks: transformers' ``TrainerCallback`` objects.

    Raises:
        EmbkitError: the model cannot be had, or the store cannot be written.
        KeyboardInterrupt: stopped by ``stop`` or by the keyboard.
    """
    members = team()
    check_recipe(recipe.approach, recipe.batch_size, members)
    models = [resolve(name) for name in (recipe.model, *recipe.beside)]
    data = "".join(map(folder_fingerprint, models)) + source_hash(domain, recipe.pairs)
    data += session.precision()
    if recipe.teaching.on:
        data += teaching_hash(recipe.teaching, domain, fit=train)
    data_hash = hashlib.sha256(data.encode()).hexdigest()[:6]
    path = store(domain) / f"{recipe.approach}-{recipe.hash}-{data_hash}"
    members.agree("what to train", (recipe.hash, domain.hash, data_hash))
    try:
        with made_once(path, RECORD) if members.first else contextlib.nullcontext(True) as todo:
            if members.tell(todo):
                silent = quiet or not members.first
                watch = Watch(path, recipe.label, domain.dev_name, stop, quiet=silent)
                _train(recipe, domain, models, path, watch, callbacks)
                session.give_back()
        return Run.load(path)
    except Exception as error:  # safetensors and torch.save say it in errors of their own
        full = path.exists() and shutil.disk_usage(path).free < 2**20
        if isinstance(error, EmbkitError) or not (isinstance(error, OSError) or full):
            raise
        raise refused("store", folder=str(path.parent), why=error) from error


def training_pairs(recipe: Recipe, domain: Domain) -> TrainingPairs:
    """The pairs that a recipe trains on, with what its teacher says about them if it has one.

    Raises:
        EmbkitError: an unknown set of pairs, fewer than two pairs, or as ``teach`` raises.
    """
    found = make_pairs(recipe, domain)
    if recipe.teaching.on:
        found = replace(found, taught=teach(recipe.teaching, found, fit=train))
    return found


def _check_room(model: SentenceTransformer, path: Path) -> None:
    """Refuses to begin what the disk cannot hold: two checkpoints for a moment, and the model."""
    sizes = [(p.numel() * p.element_size(), p.requires_grad) for p in model.parameters()]
    needed = sum((3 + 4 * trained) * size for size, trained in sizes)
    free = shutil.disk_usage(path).free
    if free < needed:
        raise refused("room", free=free / 1e6, folder=str(path.parent), needed=needed / 1e6)


def _train(
    recipe: Recipe,
    domain: Domain,
    models: Sequence[Path],
    path: Path,
    watch: Watch,
    more: Sequence[Any],
) -> None:
    # the pairs, and what the stand-alone script reads
    session.quiet()
    members, checkpoints = team(), path / "checkpoints"
    pairs = training_pairs(recipe, domain)
    if members.first:
        path.mkdir(parents=True, exist_ok=True)

    # the trainer: dev after each epoch, checkpoints by the clock, which processes do not share
    steps = -(-len(pairs) // recipe.batch_size)
    by_steps = {"save_steps": max(TWICE, -(-steps // 2))}
    trainer = make_trainer(
        recipe,
        models[0],
        pairs,
        checkpoints,
        evaluator=DevScore(domain, recipe.passages),
        callbacks=[watch, *tracking(path), *more],
        run_name=path.name,
        project="embkit",
        **session.precision_flags(),
        eval_strategy="epoch",
        **(by_steps if members.size > 1 else {"save_strategy": "no"}),
        save_total_limit=1,
        logging_steps=max(1, steps // 20),
    )

    # the training itself
    if members.first:
        _for_the_script(recipe, pairs, path, trainer.train_dataset)
        _check_room(trainer.model, path)
    trainer.fit(domain)
    with packing.efficient(trainer.model), session.products(), watch:
        if recipe.trained_parts == "none":  # the start is the result
            trainer.evaluate()
        else:
            last = _last_checkpoint(checkpoints, documents=pairs.corpus_labels)
            trainer.train(resume_from_checkpoint=last)
    if watch.stop.is_set():
        raise KeyboardInterrupt("training stopped; ek.train(recipe, domain) goes on from here")

    # what is kept: the first process writes it, the others wait
    if members.first:
        record = _record(recipe, domain, pairs, trainer, watch)
        record |= {"processes": members.size} if members.size > 1 else {}
        cut = trainer.at_once < recipe.batch_size // members.size
        record |= {"mini_batch_size": trainer.at_once} if cut else {}
        named = zip((recipe.model, *recipe.beside), models, strict=True)
        record["commits"] = {n: f.name for n, f in named if f.parent.name == "snapshots"}  # hub's
        _save_model(recipe, trainer.model, models[0], path)
        write_atomic(path / RECORD, json.dumps(record, indent=1, sort_keys=True))
        shutil.rmtree(checkpoints, ignore_errors=True)
    members.wait()


def _record(
    recipe: Recipe, domain: Domain, pairs: TrainingPairs, trainer: Trainer, watch: Watch
) -> dict[str, Any]:
    """What ``run.json`` holds."""
    history = [log_row(row) for row in trainer.state.log_history]
    weights = list(trainer.model.parameters())
    return {
        "recipe": json.loads(recipe.to_json()),
        "recipe_hash": recipe.hash,
        "domain": domain.name,
        "domain_hash": domain.hash,
        "pairs": len(pairs),
        "pairs_left_out": pairs.dropped,
        "negatives": repr(pairs.mined) if pairs.mined else None,
        "steps": trainer.state.global_step,
        "seconds": watch.seconds,
        "pairs_per_second": recipe.epochs * len(pairs) / max(watch.seconds, 1e-9),
        "peak_memory_mb": watch.peak_memory_mb,
        "trainable_params": sum(p.numel() for p in weights if p.requires_grad),
        "total_params": sum(p.numel() for p in weights),
        "dim": trainer.model.get_embedding_dimension(),
        "engine": packing.engine(trainer.model) if trainer.model.device.type == "cpu" else "plain",
        "prompts": {k: p for k in ("query", "document") if (p := prompt_of(trainer.model, k))},
        "batches_cut_at": trainer.data_collator.max_length,  # tokens; None: the model's window
        "dev_score": [row[DEV] for row in history if DEV in row][-1],
        "dev_queries": {i: round(v, 6) for i, v in trainer.evaluator.values.items()},
        "dev_name": domain.dev_name,
        "history": history,
        "environment": session.environment(),
    }


def _for_the_script(recipe: Recipe, pairs: TrainingPairs, path: Path, shown: Any) -> None:
    rows = pairs.record()
    if recipe.passages.size:  # those of the first epoch
        rows = Dataset.from_dict(rows.to_dict() | shown[:])
    rows.to_json(path / "pairs.jsonl", force_ascii=False)
    if pairs.corpus_labels:
        documents = ({"document": text} for text in pairs.domain.corpus.values())
        write_lines(path / "documents.jsonl", documents)
    if pairs.taught and pairs.taught.arrays:
        arrays: dict[str, Any] = dict(pairs.taught.arrays)
        write_atomic(path / "teacher.npz", lambda stream: np.savez(stream, **arrays))
    if recipe.approach != "clip":
        write_atomic(path / "script.py", stock_script(recipe))


def make_trainer(
    recipe: Recipe,
    folder: str | Path,
    pairs: TrainingPairs,
    output: str | Path,
    *,
    evaluator: Any = None,
    callbacks: Sequence[Any] = (),
    **arguments: Any,
) -> Trainer:
    """sentence-transformers' trainer, with its model seeded, loaded and set as the recipe says.

    Args:
        folder: the model to start from: a name or a folder.
        output: the folder for checkpoints.
        evaluator: of the trainer's own evaluations.
        arguments: more training arguments: how to log, save, evaluate, compute.
    """
    from .clip import prepare

    # the model, as the recipe sets it
    part, lora = recipe.trainer, recipe.lora
    session.seed_everything(part.seed)
    if lora.four_bits:
        model = quantized.load_quantized(folder)
    else:
        model = loading.load_model(folder, fp32=True)
    loading.keep_layers(model, part.layers)
    model.prompts |= part.prompts
    packing.set_dropout(model, part.dropout)
    if part.max_length is not None:
        try:
            model.max_seq_length = part.max_length
        except AttributeError as error:
            raise refused("no window", recipe=recipe) from error
    asked, shown = prompt_of(model, "query"), prompt_of(model, "document")
    check_prompt(model, asked)
    check_prompt(model, shown)
    clip = recipe.clip if recipe.approach == "clip" else None
    if clip:
        prepare(model, clip, pairs)
    elif lora.rank:
        adapters.add_lora(model, lora)

    # the arguments that decide the model, and those that were given
    arguments |= trainer_arguments(part, clip, len(pairs))
    if arguments.pop("gradient_checkpointing", False):
        checkpointed(model)
    arguments |= {"prompts": part.by_column(asked, shown), "batch_sampler": batch_sampler(pairs)}
    if packing.routed(model):
        arguments["router_mapping"] = part.by_column("query", "document")
    if (size := team().size) > 1:  # the batch is that of all processes together
        ignore_unused(model)
        arguments |= {
            "ddp_find_unused_parameters": False,
            "batch_sampler": batch_sampler(pairs, part.batch_size, size),
            "per_device_train_batch_size": part.batch_size // size,
        }

    # the loss; over the whole corpus, with documents encoded each epoch, first as the start does
    loss = make_loss(recipe.loss, model, pairs.taught.arrays if pairs.taught else None)
    if pairs.corpus_labels:
        documents = list(pairs.domain.corpus.values())
        kept = corpus.KeptDocuments(
            getattr(loss, "loss", loss),  # within MatryoshkaLoss, the inner one
            lambda: encode_as(model, documents, "document", cache=not trainer.state.global_step),
            every=-(-len(pairs) // part.batch_size),  # once an epoch
        )
        callbacks = [*callbacks, kept]

    # the library's own trainer
    data = pairs.dataset().with_transform(batches.padded) if pairs.labelled else pairs.dataset()
    if recipe.passages.size:
        chosen = TrainedPassages(model, pairs, recipe.passages, (asked, shown))
        callbacks, data = [*callbacks, chosen], data.with_transform(chosen)
        arguments |= {"dataloader_num_workers": 0, "dataloader_prefetch_factor": None}
    on_cpu = model.device.type == "cpu"
    arguments |= {"output_dir": str(output), "report_to": "none", "disable_tqdm": True}
    trainer: Trainer = Trainer(
        recipe,
        model=model,
        args=on_one_device(Arguments(**arguments, use_cpu=on_cpu), model.device),
        train_dataset=data,
        loss=loss,
        evaluator=evaluator,
        callbacks=list(callbacks),
        optimizers=(adapters.make_optimizer(model, lora), None),
    )
    trainer.remove_callback(PrinterCallback)
    window = model.max_seq_length or WIDE + 1
    if part.max_length is None and WIDE < window < math.inf and not packing.routed(model):
        trainer.data_collator.max_length = WIDE
    if lora.four_bits:
        trainer._load_from_checkpoint = lambda folder: adapters.load_matrices(model, folder)
    return trainer


def footprint(recipe: Recipe, domain: Domain) -> dict[str, float]:
    """Takes one training step of a recipe on a domain's first batch, and says what it held, in MB
    (10^6 bytes): the ``weights``, trained or not; the ``gradients`` and AdamW's moments
    (``optimizer``) of the trained ones; the ``activations`` that the forward pass keeps for the
    backward pass; and their ``total``. The batch is computed at once, whatever ``mini_batch_size``;
    a process holds the interpreter and the libraries beside it. Fails as ``train`` does.
    """
    # a trainer and its first batch
    session.quiet()
    pairs = training_pairs(recipe := recipe.replace(mini_batch_size=None), domain)
    with tempfile.TemporaryDirectory() as output:
        trainer = make_trainer(recipe, resolve(recipe.model), pairs, output)
        batch = trainer._prepare_inputs(next(iter(trainer.get_train_dataloader())))
    model = trainer.model.train()
    weights = list(model.parameters())
    scales = [scale for module in model.modules() for scale in quantized.scales(module)]

    # the step: forward, backward, update
    half = session.autocast(model.device.type)
    with packing.efficient(model), half, kept_for_backward(model) as kept:
        loss = trainer.compute_loss(model, batch)
    loss.backward()
    (optimizer := trainer.create_optimizer()).step()
    moments = [v for s in optimizer.state.values() for v in s.values() if torch.is_tensor(v)]
    held: dict[str, Iterable[Any]] = {
        "weights": [*weights, *model.buffers(), *scales],
        "gradients": [weight.grad for weight in weights if weight.grad is not None],
        "optimizer": moments,
    }
    found = {name: sum(tensor.nbytes for tensor in tensors) for name, tensors in held.items()}
    found |= {"activations": sum(storage.nbytes() for storage in kept.values())}
    return {name: size / 1e6 for name, size in (found | {"total": sum(found.values())}).items()}


def _save_model(recipe: Recipe, model: SentenceTransformer, start: Path, path: Path) -> None:
    """The plain model's folder, and an adapter's own."""
    if recipe.lora_rank:
        apart = path / adapters.ADAPTER
        replace_folder(apart, model.save_pretrained)  # this writes the adapter alone
        adapters.record_base(apart, recipe.model, start, model)
        model = adapters.merge_adapter(start, apart, quantized=recipe.lora.four_bits)
    replace_folder(path / "model", model.save_pretrained)


def _last_checkpoint(folder: Path, documents: bool = False) -> str | None:
    """The newest whole checkpoint, with ``documents`` one that has the corpus' vectors beside it;
    what a kill cut off in the middle of writing is removed."""
    whole = []
    for checkpoint in folder.glob("checkpoint-*"):
        step = read_json(checkpoint / "trainer_state.json").get("global_step")  # written last
        if step is None or documents and not corpus.KeptDocuments.file(folder, step).is_file():
            shutil.rmtree(checkpoint, ignore_errors=True)
        else:
            whole.append((step, str(checkpoint)))
    return max(whole)[1] if whole else None


def log_row(row: Mapping[str, Any]) -> dict[str, float]:
    """What of a row of the trainer's log a run's history keeps."""
    row = {DEV if name == f"eval_{DEV}" else name: value for name, value in row.items()}
    return {name: float(row[name]) for name in LOGGED if name in row}
