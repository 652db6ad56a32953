"""Training in a second thread, so that a click on Stop is heard while it runs."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sentence_transformers import SentenceTransformer
from transformers import TrainerCallback

from ..assets.catalogue import resolve
from ..data import Domain
from ..files import replace_folder
from ..models.loading import load_model
from ..recipes.recipe import Recipe
from ..runs import Run
from .lora import merge_adapter, record_base
from .refusals import refused
from .trainer import DEV, log_row, train

BEST = "best"  # under a run's checkpoints: the model with the highest dev score so far
EVERY = 0.1  # seconds between two reports of a step


@dataclass(frozen=True)
class Progress:
    """Where a training stands; steps before a stop are counted, too."""

    step: int = 0
    steps: int = 0
    history: tuple[dict[str, float], ...] = ()  # dicts as in ``Run.history``
    pairs_per_second: float = 0.0  # since it was started; 0 before the first step
    seconds_left: float = 0.0  # at that speed


@dataclass(frozen=True, repr=False)
class Stopped:
    """A training that was stopped: it can be used as it is, or gone on with.

    The run's folder ``path`` holds a checkpoint, and the best model so far.
    """

    recipe: Recipe
    path: Path
    progress: Progress
    dev_name: str  # as in ``Run``, what the score is called

    @property
    def dev_score(self) -> float | None:
        """The highest nDCG@10 so far, as in ``Run.dev_score``; None before the first."""
        return max((row[DEV] for row in self.progress.history if DEV in row), default=None)

    def model(self) -> SentenceTransformer:
        """The model with the highest dev score so far.

        Raises:
            EmbkitError: the run has been finished or deleted since.
        """
        best = self.path / "checkpoints" / BEST
        if not best.is_dir():
            raise refused("not stopped", name=self.path.name)
        lora = self.recipe.lora
        if lora.rank:
            return merge_adapter(self.recipe.model, best, quantized=lora.four_bits)
        return load_model(best)

    def __repr__(self) -> str:
        score, name = self.dev_score, self.dev_name
        best = "" if score is None else f", {name} nDCG@10 {score:.3f} at best"
        at = f"{self.progress.step:,} of {self.progress.steps:,} steps"
        return f"Stopped({self.path.name!r}, {at}{best}; ek.train(recipe, domain) goes on)"


class Job:
    """One training in a thread of its own; ``listen`` hears where it stands, in the caller's loop:
    after steps, at most ten times a second, and whenever something was logged.

    Only one runs at a time in a process: two would share the random numbers, and the processor.
    """

    _running: Job | None = None

    def __init__(
        self, recipe: Recipe, domain: Domain, listen: Callable[[Progress], None] | None = None
    ) -> None:
        self.recipe, self.domain = recipe, domain
        self.listen = listen or (lambda progress: None)
        self._stop = threading.Event()

    def stop(self) -> None:
        """Stops after the step in hand; the checkpoint and the best model so far are kept."""
        self._stop.set()

    async def run(self) -> Run | Stopped:
        """Trains, or returns the finished run at once.

        If the cell that awaits it is interrupted, the training stops as by ``stop``, and then the
        interrupt goes on.

        Raises:
            EmbkitError: another training is under way; or as ``train`` raises.
        """
        if Job._running is not None:
            raise refused("training already", label=Job._running.recipe.label)
        Job._running, loop = self, asyncio.get_running_loop()
        watcher = _Watcher(
            self.recipe, lambda progress: loop.call_soon_threadsafe(self.listen, progress)
        )
        work = asyncio.ensure_future(asyncio.to_thread(self._work, watcher))
        try:
            return await asyncio.shield(work)
        except asyncio.CancelledError:
            self.stop()
            await work
            raise
        finally:
            Job._running = None

    def _work(self, watcher: _Watcher) -> Run | Stopped:
        """In the thread. A KeyboardInterrupt must not leave it: it would end the event loop."""
        try:
            return train(self.recipe, self.domain, stop=self._stop, quiet=True, callbacks=[watcher])
        except KeyboardInterrupt:
            assert watcher.path is not None
            return Stopped(self.recipe, watcher.path, watcher.progress, self.domain.dev_name)


class _Watcher(TrainerCallback):
    """Hears of every step, reports, and keeps the model with the highest dev score."""

    def __init__(self, recipe: Recipe, report: Callable[[Progress], Any]) -> None:
        self.recipe, self._report = recipe, report
        self.progress, self.path = Progress(), None  # type: Progress, Path | None
        self._best = float("-inf")
        self._began, self._first, self._told = 0.0, 0, 0.0

    def _tell(self, pause: float = 0.0, **news: Any) -> None:
        """Takes news in, and reports unless the last report is less than a pause ago."""
        self.progress, now = replace(self.progress, **news), time.perf_counter()
        if now - self._told >= pause:
            self._told = now
            self._report(self.progress)

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        checkpoints = Path(args.output_dir)
        self.path, self._first = checkpoints.parent, state.global_step
        self._began = time.perf_counter()
        rows = tuple(row for row in map(log_row, state.log_history) if _says(row))
        self._tell(step=state.global_step, steps=state.max_steps, history=rows)
        if (checkpoints / BEST).is_dir():  # of before a stop
            self._best = max((row[DEV] for row in rows if DEV in row), default=self._best)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        seconds, done = time.perf_counter() - self._began, state.global_step - self._first
        self._tell(
            EVERY,
            step=state.global_step,
            pairs_per_second=done * self.recipe.batch_size / max(seconds, 1e-9),
            seconds_left=(state.max_steps - state.global_step) * seconds / max(1, done),
        )

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        row = log_row({**(logs or {}), "step": state.global_step})
        if _says(row):
            self._tell(history=(*self.progress.history, row))

    def on_evaluate(self, args: Any, state: Any, control: Any, metrics: Any, **about: Any) -> None:
        score = metrics.get(f"eval_{DEV}")
        if score is None or score <= self._best:
            return
        self._best = score

        def write(folder: str) -> None:
            about["model"].save_pretrained(folder)
            if self.recipe.lora_rank:  # that was the adapter alone
                start = self.recipe.model
                record_base(Path(folder), start, resolve(start), about["model"])

        replace_folder(Path(args.output_dir) / BEST, write)


def _says(row: dict[str, float]) -> bool:
    return "loss" in row or DEV in row
