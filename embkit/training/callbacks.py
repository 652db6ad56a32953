"""What is watched while a model trains: progress, memory, time, the stop button, dev scores."""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

import torch
from sentence_transformers.base.evaluation import BaseEvaluator
from transformers import TrainerCallback

from .. import session
from ..data import Domain
from ..errors import EmbkitError, unknown
from ..evaluation.ranking import ndcg
from ..files import read_json
from ..recipes.views import Passages
from ..search.passages import cut_by

TRACKERS = ("tensorboard", "trackio", "wandb")
SAVE_EVERY = 30.0  # seconds between two checkpoints of one process: what a kill may cost


class DevScore(BaseEvaluator):
    """nDCG@10 of dev's queries, searched in the domain's dev corpus, for the trainer; ``values``
    are the last of each query."""

    def __init__(self, domain: Domain, cut: Passages | None = None) -> None:
        super().__init__()
        self.domain, self.cut, self.primary_metric = domain, cut, "dev_ndcg@10"

    def __call__(self, model: Any, *_: Any, **__: Any) -> dict[str, float]:
        model = cut_by(self.cut, model) if self.cut else model
        searched = self.domain.dev_corpus()
        kept = len(searched) == len(self.domain.corpus)  # evaluate() asks for the same vectors
        self.values = ndcg(model, self.domain, "dev", searched, cache=kept)
        return {self.primary_metric: float(self.values.mean())}


class Memory(threading.Thread):
    """Samples this process's resident memory; ``peak_mb`` is the largest seen."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.done, self.peak_mb = threading.Event(), 0.0

    def run(self) -> None:
        import psutil

        process = psutil.Process()
        while not self.done.wait(0.05) or not self.peak_mb:  # once at least
            self.peak_mb = max(self.peak_mb, process.memory_info().rss / 2**20)

    def __enter__(self) -> Memory:
        self.start()
        return self

    def __exit__(self, *_: Any) -> None:
        self.done.set()
        self.join()


class Watch(TrainerCallback):
    """A progress bar, seconds of a run in all, peak memory, and a way to stop."""

    def __init__(
        self, path: Path, label: str, dev: str, stop: threading.Event | None, *, quiet: bool
    ) -> None:
        self._clock, self._label, self._quiet = path / "checkpoints" / "seconds.json", label, quiet
        self.stop, self._dev = stop or threading.Event(), dev
        self._shown: dict[str, str] = {}
        self.peak_memory_mb = 0.0
        self._before = float(read_json(self._clock).get("seconds", 0.0))

    @property
    def seconds(self) -> float:
        """Seconds of training so far, those before a stop included."""
        return self._before + time.perf_counter() - self._start

    def __enter__(self) -> Watch:
        from tqdm import tqdm

        self._start, self._memory = time.perf_counter(), Memory().__enter__()
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
        self._saved = self._start
        options = {"desc": self._label, "disable": self._quiet, "unit": "step", "mininterval": 1}
        self._bar = tqdm(file=sys.stderr, **options)
        return self

    def __exit__(self, *_: Any) -> None:
        self._bar.close()
        self._memory.__exit__()
        self.peak_memory_mb = self._memory.peak_mb
        if torch.cuda.is_available() and session.device().startswith("cuda"):  # the GPU's own
            self.peak_memory_mb = torch.cuda.max_memory_allocated() / 2**20

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._bar.reset(state.max_steps)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        self._bar.update(state.global_step - self._bar.n)
        if args.save_strategy == "no" and time.perf_counter() - self._saved >= SAVE_EVERY:
            control.should_save = True
        if self.stop.is_set():
            control.should_save = control.should_training_stop = True

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        for name, short in (("loss", "loss"), ("eval_dev_ndcg@10", f"{self._dev} nDCG@10")):
            if logs and name in logs:
                self._shown[short] = f"{float(logs[name]):.3f}"
        self._bar.set_postfix(self._shown, refresh=False)

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if state.is_world_process_zero:
            self._clock.write_text(json.dumps({"seconds": self.seconds}))
        self._saved = time.perf_counter()


def tracking(path: Path) -> list[TrainerCallback]:
    """Transformers' callbacks that report a run to those whom ``EMBKIT_REPORT_TO`` names; fails
    where one is not installed. TensorBoard's files lie in the run's folder; wandb stays offline."""
    from transformers.integrations import get_reporting_integration_callbacks as of

    found: list[Any] = []
    for name in filter(None, os.environ.get("EMBKIT_REPORT_TO", "").split(",")):
        if name not in TRACKERS:
            raise unknown("tracker in EMBKIT_REPORT_TO", name, TRACKERS)
        os.environ.setdefault("WANDB_MODE", "offline")
        try:
            found += [make() for make in of([name])]
        except (RuntimeError, ImportError) as error:
            given, expected = f"EMBKIT_REPORT_TO={name}, and {name} is not installed", "a package"
            raise EmbkitError(given, expected=expected, hint=f"pip install {name}") from error
        if name == "tensorboard":
            found[-1].logging_dir = str(path / name)
    return found
