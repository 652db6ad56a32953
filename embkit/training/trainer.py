"""train(recipe, domain) -> Run: sentence-transformers' trainer, resumed, recorded, reused."""

from __future__ import annotations

import contextlib
import hashlib
import html
import json
import shutil
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .. import session
from ..data import Domain
from ..errors import EmbkitError
from ..files import replace_folder, write_atomic
from ..pairs.pairs import TrainingPairs, batch_sampler, make_pairs, shared_sampler, source_hash
from ..recipes.recipe import Recipe
from ..recipes.script import stock_script
from ..recipes.settings import trainer_arguments
from ..runs import RECORD, Run, save_record, store
from .distillation import teach, teaching_hash
from .lora import ADAPTER, add_lora, load_matrices, make_optimizer, merge_adapter, record_base

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer

SAVE_EVERY = 4  # steps between two checkpoints, at least: one takes a second or more to write
ROOM = (
    "delete runs that are no longer needed (run.delete() for one of ek.finished(domain)), or set "
    "EMBKIT_RUNS=/another/folder"
)


def train(
    recipe: Recipe,
    domain: Domain,
    *,
    stop: threading.Event | None = None,
    quiet: bool = False,
    callbacks: Sequence[Any] = (),
) -> Run:
    """Fine-tunes a model, or returns the finished run of the same recipe, data and weights.

    A run that was killed goes on from its last checkpoint, and ends as it would have ended.
    Two processes that ask for the same run at once train it once; processes launched together
    by torchrun or accelerate train it together (``embkit.distributed``).

    Args:
        recipe: what to train.
        domain: on what; only its ``train`` and ``dev`` splits are read.
        stop: when set, training stops after the step in hand, saves, and raises
            KeyboardInterrupt; the next call goes on from there.
        quiet: no progress bar.
        callbacks: transformers' ``TrainerCallback`` objects that want to hear of every step.

    Raises:
        EmbkitError: the model cannot be had, or the store cannot be written.
        KeyboardInterrupt: stopped by ``stop`` or by the keyboard.
    """
    from filelock import FileLock

    from ..assets.catalogue import folder_fingerprint, resolve
    from ..distributed import check_recipe, team

    members = team()
    check_recipe(recipe.approach, recipe.batch_size, members)
    folder = resolve(recipe.model)
    data = folder_fingerprint(folder) + source_hash(domain, recipe.pairs)
    if recipe.teaching.on:
        data += teaching_hash(recipe.teaching, domain, fit=train)
    data_hash = hashlib.sha256(data.encode()).hexdigest()[:6]
    path = store(domain) / f"{recipe.approach}-{recipe.hash}-{data_hash}"
    members.agree("what to train", (recipe.hash, domain.hash, data_hash))
    if members.tell((path / RECORD).is_file()):
        return Run.load(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_suffix(".lock")) if members.first else contextlib.nullcontext():
            if members.tell((path / RECORD).is_file()):  # another process has just finished it
                return Run.load(path)
            stop = stop or threading.Event()
            return _train(recipe, domain, folder, path, stop, quiet, callbacks)
    except Exception as error:  # safetensors and torch.save say it in errors of their own
        if isinstance(error, EmbkitError) or not (isinstance(error, OSError) or _full(path)):
            raise
        raise EmbkitError(
            f"the run store {str(path.parent)!r} cannot be written: {error}",
            expected="a folder you may write to, with about 1 GB free",
            hint=f"{ROOM}; what was saved so far is kept and will be resumed",
        ) from error


def training_pairs(recipe: Recipe, domain: Domain) -> TrainingPairs:
    """The pairs that a recipe trains on, with what its teacher says about them if it has one.

    Raises:
        EmbkitError: an unknown set of pairs, fewer than two pairs, or as ``teach`` raises.
    """
    found = make_pairs(recipe, domain)
    if recipe.teaching.on:
        found = replace(found, taught=teach(recipe.teaching, found, fit=train))
    return found


def _full(path: Path) -> bool:
    """Whether a disk has no room for another file."""
    return path.exists() and shutil.disk_usage(path).free < 2**20


def _check_room(model: SentenceTransformer, path: Path) -> None:
    """Refuses to begin what the disk cannot hold: two checkpoints for a moment, and the model."""
    weights = sum(p.numel() * p.element_size() for p in model.parameters())
    trained = sum(p.numel() * p.element_size() for p in model.parameters() if p.requires_grad)
    needed, free = 3 * weights + 4 * trained, shutil.disk_usage(path).free
    if free < needed:
        raise EmbkitError(
            f"{free / 1e6:,.1f} MB are free where runs are kept ({str(path.parent)!r})",
            expected=f"{needed / 1e6:,.1f} MB: the model, and two checkpoints while it trains",
            hint=ROOM,
        )


def _train(
    recipe: Recipe,
    domain: Domain,
    folder: Path,
    path: Path,
    stop: threading.Event,
    quiet: bool,
    callbacks: Sequence[Any],
) -> Run:
    from ..distributed import team
    from ..models.packing import efficient
    from .callbacks import DevScore, Watch

    session.quiet()
    members = team()
    quiet = quiet or not members.first
    pairs = training_pairs(recipe, domain)
    if members.first:
        _for_the_script(recipe, pairs, path)
    steps = -(-len(pairs) // recipe.batch_size)
    watch = Watch(path, total=steps * recipe.epochs, stop=stop, quiet=quiet, label=recipe.label)
    trainer = make_trainer(
        recipe,
        folder,
        pairs,
        path / "checkpoints",
        evaluator=DevScore(domain),
        callbacks=[watch, *callbacks],
        **session.precision_flags(),
        eval_strategy="epoch",
        save_strategy="no" if _towers_with_lora(recipe) else "steps",
        save_steps=max(SAVE_EVERY, -(-steps // 2)),
        save_total_limit=1,
        logging_steps=max(1, steps // 20),
    )
    model = trainer.model
    if members.first:
        _check_room(model, path)
    with efficient(model), watch:
        if recipe.trained_parts == "none":  # the start is the result
            trainer.evaluate()
        else:
            trainer.train(resume_from_checkpoint=_last_checkpoint(path / "checkpoints"))
    if stop.is_set():
        raise KeyboardInterrupt("training stopped; ek.train(recipe, domain) goes on from here")
    if not members.first:
        members.wait()  # until the first has written it
        return Run.load(path)
    history = [_log(row) for row in trainer.state.log_history]
    dev = [row["dev_ndcg@10"] for row in history if "dev_ndcg@10" in row]
    record = {
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
        "trainable_params": sum(p.numel() for p in model.parameters() if p.requires_grad),
        "total_params": sum(p.numel() for p in model.parameters()),
        "dim": model.get_embedding_dimension(),
        "dev_score": dev[-1],
        "history": history,
        "environment": session.environment(),
    }
    if members.size > 1:
        record["processes"] = members.size
    _save_model(recipe, model, folder, path)
    run = save_record(path, record)
    shutil.rmtree(path / "checkpoints", ignore_errors=True)
    members.wait()
    return run


def _for_the_script(recipe: Recipe, pairs: TrainingPairs, path: Path) -> None:
    pairs.record().to_json(path / "pairs.jsonl", force_ascii=False)
    if pairs.corpus_labels:
        rows = [
            json.dumps({"document": d}, ensure_ascii=False) for d in pairs.domain.corpus.values()
        ]
        write_atomic(path / "documents.jsonl", "\n".join(rows) + "\n")
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
) -> SentenceTransformerTrainer:
    """sentence-transformers' trainer, with its model seeded, loaded and set as the recipe says.

    Args:
        recipe: what to train.
        folder: the model to start from: a name or a folder.
        pairs: what to train on.
        output: the folder for checkpoints.
        evaluator: called by the trainer, if it is told to evaluate.
        callbacks: more callbacks.
        arguments: more training arguments: how to log, save, evaluate, compute.
    """
    from sentence_transformers import SentenceTransformerTrainer as Trainer
    from sentence_transformers import SentenceTransformerTrainingArguments as Arguments
    from transformers.trainer_callback import PrinterCallback

    from ..distributed import ignore_unused, team
    from ..losses.corpus import KeptDocuments
    from ..models.layers import keep_layers
    from ..models.loading import load_model
    from ..models.packing import embed, set_dropout
    from ..models.quantized import load_quantized
    from ..models.vectors import check_prompt
    from .clip import prepare
    from .losses import make_loss

    session.seed_everything(recipe.seed)
    model = load_quantized(folder) if recipe.lora.four_bits else load_model(folder)
    keep_layers(model, recipe.layers)
    model.prompts |= recipe.trainer.prompts
    set_dropout(model, recipe.dropout)
    if recipe.max_length is not None:
        model.max_seq_length = recipe.max_length
    for prompt in recipe.trainer.prompts.values():
        check_prompt(model, prompt)
    if recipe.lora_rank and recipe.approach != "clip":
        add_lora(model, recipe.lora)
    if recipe.approach == "clip":
        prepare(model, recipe.clip, recipe.lora, pairs)
    if team().size > 1:
        ignore_unused(model)
    loss = make_loss(recipe.loss, model, pairs.taught.arrays if pairs.taught else None)
    if pairs.corpus_labels:
        documents = list(pairs.domain.corpus.values())
        steps = -(-len(pairs) // recipe.batch_size)
        kept = KeptDocuments(
            getattr(loss, "loss", loss),  # within MatryoshkaLoss, the inner one
            lambda: embed(model, documents, prompt=recipe.document_prompt).clone(),
            every=max(1, steps // recipe.corpus_refresh),
        )
        callbacks = [kept, *callbacks]
    clip = recipe.clip if recipe.approach == "clip" else None
    trainer = Trainer(
        model=model,
        args=Arguments(
            output_dir=str(output),
            **trainer_arguments(recipe.trainer, clip, len(pairs)) | _shared(recipe, pairs),
            **arguments,
            use_cpu=model.device.type == "cpu",
            report_to="none",
            disable_tqdm=True,
        ),
        train_dataset=pairs.dataset(),
        loss=loss,
        evaluator=evaluator,
        callbacks=list(callbacks),
        optimizers=(make_optimizer(model, recipe.lora), None),
    )
    trainer.remove_callback(PrinterCallback)
    if recipe.lora.four_bits:
        trainer._load_from_checkpoint = lambda folder: load_matrices(model, folder)
    return trainer


def _shared(recipe: Recipe, pairs: TrainingPairs) -> dict[str, Any]:
    """How batches are made: the recipe's, cut into parts where several processes train."""
    from ..distributed import team

    size = team().size
    if size == 1:
        return {"batch_sampler": batch_sampler(pairs)}
    return {
        "ddp_find_unused_parameters": False,
        "batch_sampler": shared_sampler(pairs, recipe.batch_size, size),
        "per_device_train_batch_size": recipe.batch_size // size,
    }


def _save_model(recipe: Recipe, model: SentenceTransformer, start: Path, path: Path) -> None:
    """The plain model's folder, and an adapter's own: each appears whole or not at all."""
    if _towers_with_lora(recipe):
        from .clip_lora import merge_text_lora

        merge_text_lora(model)
    elif recipe.lora_rank:
        replace_folder(path / ADAPTER, model.save_pretrained)  # this writes the adapter alone
        record_base(path / ADAPTER, recipe.model, start)
        model = merge_adapter(start, path / ADAPTER, quantized=recipe.lora.four_bits)
    replace_folder(path / "model", model.save_pretrained)


def _towers_with_lora(recipe: Recipe) -> bool:
    """Whether the matrices lie inside a model of towers: killed, such a run begins again."""
    return recipe.approach == "clip" and recipe.lora_rank > 0


def _last_checkpoint(folder: Path) -> str | None:
    """The newest whole checkpoint; what a kill cut off in the middle of writing is removed."""
    whole = []
    for checkpoint in folder.glob("checkpoint-*"):
        try:  # the trainer writes its state last
            step = json.loads((checkpoint / "trainer_state.json").read_text())["global_step"]
            whole.append((step, str(checkpoint)))
        except (OSError, ValueError, KeyError):
            shutil.rmtree(checkpoint, ignore_errors=True)
    return max(whole)[1] if whole else None


def _log(row: dict[str, Any]) -> dict[str, float]:
    names = {"eval_dev_ndcg@10": "dev_ndcg@10"}
    keep = ("step", "epoch", "loss", "learning_rate", "grad_norm", "dev_ndcg@10")
    renamed = {names.get(name, name): value for name, value in row.items()}
    return {name: float(renamed[name]) for name in keep if name in renamed}


@dataclass(frozen=True, repr=False)
class GridResult:
    """Recipes that were tried, and what each scored on the dev split."""

    field: str
    runs: tuple[Run, ...]

    @property
    def best_run(self) -> Run:
        """The run with the highest dev score; the test splits had no say."""
        return max(self.runs, key=lambda run: run.dev_score)

    @property
    def best(self) -> Recipe:
        """The recipe of the best run."""
        return self.best_run.recipe

    def rows(self) -> list[dict[str, Any]]:
        """One dict a run: the value, nDCG@10 on dev, seconds."""
        return [
            {
                self.field: getattr(run.recipe, self.field),
                "dev nDCG@10": run.dev_score,
                "seconds": run.seconds,
                "best": run.recipe == self.best,
            }
            for run in self.runs
        ]

    def __repr__(self) -> str:
        return "\n".join(", ".join(f"{k} {v}" for k, v in row.items()) for row in self.rows())

    def _repr_html_(self) -> str:
        body = "".join(
            f"<tr><td>{html.escape(str(row[self.field]))}</td>"
            f"<td>{row['dev nDCG@10']:.3f}{' ★' if row['best'] else ''}</td>"
            f"<td>{row['seconds']:.0f}</td></tr>"
            for row in self.rows()
        )
        head = f"<th>{html.escape(self.field)}</th><th>dev nDCG@10</th><th>seconds</th>"
        return f"<table><tr>{head}</tr>{body}</table>"


def tune(recipe: Recipe, domain: Domain, *, quiet: bool = False, **values: Sequence) -> GridResult:
    """Trains a recipe with each value of one field and lets the dev split choose.

    Example:
        >>> choose(Recipe(epochs=1), domain, learning_rate=[1e-4, 4e-4]).best  # doctest: +SKIP
    """
    if len(values) != 1:
        raise EmbkitError(
            f"choose() was given {len(values)} fields: {sorted(values)}",
            expected="one field with a list of values",
            hint="ek.tune(recipe, domain, learning_rate=[1e-4, 4e-4])",
        )
    ((name, tried),) = values.items()
    recipes = [recipe.replace(**{name: value}) for value in tried]
    return GridResult(name, tuple(train(r, domain, quiet=quiet) for r in recipes))
