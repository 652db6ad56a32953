"""train(recipe, domain) -> Run: sentence-transformers' trainer, resumed, recorded, reused."""

from __future__ import annotations

import hashlib
import html
import json
import shutil
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from . import session
from .adapters import (
    ADAPTER,
    add_lora,
    load_matrices,
    make_optimizer,
    merge_adapter,
    record_base,
)
from .domains import Domain
from .errors import EmbkitError
from .files import write_atomic
from .pairs import TrainingPairs, batch_sampler, source_hash, training_pairs
from .recipes import TAUGHT, Recipe
from .runs import RECORD, Run, save_record, store
from .scripts import saved_prompts, stock_script, trainer_arguments

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer


def train(
    recipe: Recipe, domain: Domain, *, stop: threading.Event | None = None, quiet: bool = False
) -> Run:
    """Fine-tunes a model, or returns the finished run of the same recipe, data and weights.

    A run that was killed goes on from its last checkpoint, and ends as it would have ended.
    Two processes that ask for the same run at once train it once.

    Args:
        recipe: what to train.
        domain: on what; only its ``train`` and ``dev`` splits are read.
        stop: when set, training stops after the step in hand, saves, and raises
            KeyboardInterrupt; the next call goes on from there.
        quiet: no progress bar.

    Raises:
        EmbkitError: the model cannot be had, or the store cannot be written.
        KeyboardInterrupt: stopped by ``stop`` or by the keyboard.
    """
    from filelock import FileLock

    from .assets import fingerprint, resolve

    folder = resolve(recipe.model)
    data = fingerprint(folder) + source_hash(domain, recipe.pairs)
    if recipe.approach in TAUGHT:
        from .distillation import teaching_hash

        data += teaching_hash(recipe, domain)
    data_hash = hashlib.sha256(data.encode()).hexdigest()[:6]
    path = store(domain) / f"{recipe.approach}-{recipe.hash}-{data_hash}"
    if (path / RECORD).is_file():
        return Run.load(path)
    try:
        path.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_suffix(".lock")):
            if (path / RECORD).is_file():  # another process has just finished it
                return Run.load(path)
            return _train(recipe, domain, folder, path, stop or threading.Event(), quiet)
    except OSError as error:
        raise EmbkitError(
            f"the run store {str(path.parent)!r} cannot be written: {error}",
            expected="a folder you may write to, with about 1 GB free",
            hint="EMBKIT_RUNS=/another/folder; what was saved so far is kept and will be resumed",
        ) from error


def _train(
    recipe: Recipe, domain: Domain, folder: Path, path: Path, stop: threading.Event, quiet: bool
) -> Run:
    from .engine import efficient
    from .watching import DevScore, Watch

    session.quiet()
    pairs = training_pairs(recipe, domain)
    _for_the_script(recipe, pairs, path)
    steps = -(-len(pairs) // recipe.batch_size)
    watch = Watch(path, total=steps * recipe.epochs, stop=stop, quiet=quiet, label=recipe.label)
    trainer = make_trainer(
        recipe,
        folder,
        pairs,
        path / "checkpoints",
        evaluator=DevScore(domain),
        callbacks=[watch],
        **session.precision_flags(),
        eval_strategy="epoch",
        save_strategy="steps",
        save_steps=max(1, -(-steps // 2)),
        save_total_limit=1,
        logging_steps=max(1, steps // 20),
    )
    model = trainer.model
    with efficient(model), watch:
        trainer.train(resume_from_checkpoint=_last_checkpoint(path / "checkpoints"))
    if stop.is_set():
        raise KeyboardInterrupt("training stopped; ek.train(recipe, domain) goes on from here")
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
    _save_model(recipe, model, folder, path)
    run = save_record(path, record)
    shutil.rmtree(path / "checkpoints", ignore_errors=True)
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

    from .corpus_softmax import KeptDocuments
    from .engine import embed, set_dropout
    from .objectives import make_loss
    from .quantized import load_quantized
    from .search import check_prompt, load_model
    from .students import keep_layers

    session.seed_everything(recipe.seed)
    model = load_model(folder) if recipe.quantize == "none" else load_quantized(folder)
    keep_layers(model, recipe.layers)
    model.prompts |= saved_prompts(recipe)
    set_dropout(model, recipe.dropout)
    if recipe.max_length is not None:
        model.max_seq_length = recipe.max_length
    for prompt in saved_prompts(recipe).values():
        check_prompt(model, prompt)
    if recipe.lora_rank:
        add_lora(model, recipe)
    loss = make_loss(recipe, model, pairs.taught.arrays if pairs.taught else None)
    if pairs.corpus_labels:
        documents = list(pairs.domain.corpus.values())
        steps = -(-len(pairs) // recipe.batch_size)
        kept = KeptDocuments(
            getattr(loss, "loss", loss),  # within MatryoshkaLoss, the inner one
            lambda: embed(model, documents, prompt=recipe.document_prompt).clone(),
            every=max(1, steps // recipe.refresh),
        )
        callbacks = [kept, *callbacks]
    trainer = Trainer(
        model=model,
        args=Arguments(
            output_dir=str(output),
            **trainer_arguments(recipe, len(pairs)) | {"batch_sampler": batch_sampler(pairs)},
            **arguments,
            use_cpu=model.device.type == "cpu",
            report_to="none",
            disable_tqdm=True,
        ),
        train_dataset=pairs.dataset(),
        loss=loss,
        evaluator=evaluator,
        callbacks=list(callbacks),
        optimizers=(make_optimizer(model, recipe), None),
    )
    trainer.remove_callback(PrinterCallback)
    if recipe.quantize != "none":
        trainer._load_from_checkpoint = lambda folder: load_matrices(model, folder)
    return trainer


def _save_model(recipe: Recipe, model: SentenceTransformer, start: Path, path: Path) -> None:
    """The plain model's folder, and an adapter's own: each appears whole or not at all."""
    if recipe.lora_rank:
        _save_whole(model, path / ADAPTER)  # with an adapter, this writes the adapter alone
        record_base(path / ADAPTER, recipe.model, start)
        model = merge_adapter(start, path / ADAPTER, quantized=recipe.quantize != "none")
    _save_whole(model, path / "model")


def _save_whole(model: SentenceTransformer, target: Path) -> None:
    fresh = target.with_name(f".{target.name}-fresh")
    shutil.rmtree(fresh, ignore_errors=True)
    model.save_pretrained(str(fresh))
    shutil.rmtree(target, ignore_errors=True)
    fresh.replace(target)


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
class Sweep:
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


def choose(recipe: Recipe, domain: Domain, *, quiet: bool = False, **values: Sequence) -> Sweep:
    """Trains a recipe with each value of one field and lets the dev split choose.

    Example:
        >>> choose(Recipe(epochs=1), domain, learning_rate=[1e-4, 4e-4]).best  # doctest: +SKIP
    """
    if len(values) != 1:
        raise EmbkitError(
            f"choose() was given {len(values)} fields: {sorted(values)}",
            expected="one field with a list of values",
            hint="ek.choose(recipe, domain, learning_rate=[1e-4, 4e-4])",
        )
    ((name, tried),) = values.items()
    recipes = [recipe.replace(**{name: value}) for value in tried]
    return Sweep(name, tuple(train(r, domain, quiet=quiet) for r in recipes))
