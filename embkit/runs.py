"""Run: a folder on disk with everything about one training run; and the store of them."""

from __future__ import annotations

import contextlib
import json
import shutil
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .data.domain import DEV_SAMPLE, Domain, store
from .display import Shown, Table, facts
from .errors import EmbkitError, refusals
from .recipes.recipe import Recipe

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

refused = refusals(__file__)
RECORD = "run.json"  # written last: a folder without it is not finished
HEAD_RECORD = "head.json"  # the same of a small head, which ``training.heads`` writes


def key_of(path: Path, domain: str) -> str:
    """What a folder of the store is called where it was evaluated, a domain's folder by name: its
    own name on the domain that it was trained on, elsewhere with that domain's beside it."""
    return path.name if path.parent.name == domain else f"{path.name}-of-{path.parent.name}"


@dataclass(frozen=True, repr=False)
class Trained(Shown):
    """A folder of the store with what was trained, and its record."""

    path: Path
    record: dict[str, Any]

    @property
    def history(self) -> list[dict[str, Any]]:
        """What was logged: step, epoch, loss, learning_rate; dev_ndcg@10 after each epoch."""
        return self.record["history"]

    @property
    def dev_score(self) -> float:
        """nDCG@10 of dev's queries at the end, searched in ``Domain.dev_corpus``: 2,000 documents
        at most. Where the corpus has more, it is the dev sample's figure, and not that of dev."""
        return self.record["dev_score"]

    @property
    def dev_name(self) -> str:
        """What ``dev_score`` is called: ``dev`` where the whole corpus was searched."""
        return self.record.get("dev_name", DEV_SAMPLE)

    @property
    def seconds(self) -> float:
        """Seconds of training, evaluation on dev included."""
        return self.record["seconds"]

    def noted(self, base: str, how: Any) -> dict[str, Any]:
        """What a leaderboard notes beside the scores: ``how`` it was trained, from which base."""
        copied = ("trainable_params", "total_params", "peak_memory_mb", "dim")
        return {name: self.record[name] for name in copied if name in self.record} | {
            "base_model": base,
            "recipe_hash": how.hash,
            "train_seconds": self.seconds,
            "learning_rate": how.learning_rate,
            "seed": how.seed,
            "method": replace(how, seed=0).hash,  # what runs that differ by seed share
        }


class Run(Trained):
    """A finished training run.

    Its folder holds ``run.json`` (recipe, data hash, versions, device, history, cost), ``model/``
    (a plain sentence-transformers folder), ``pairs.jsonl`` and ``script.py`` (the same training
    without embkit), and ``scores.json`` once it has been evaluated.
    """

    @classmethod
    def load(cls, path: str | Path) -> Run:
        """Opens a run's folder; fails where it is missing, was not finished, or is damaged."""
        path = Path(path)
        try:
            record = json.loads((path / RECORD).read_text(encoding="utf-8"))
            Recipe.from_json(json.dumps(record["recipe"]))
        except (OSError, ValueError, KeyError) as error:
            raise refused("unfinished", run=path.name, why=type(error).__name__) from error
        return cls(path, record)

    @cached_property
    def recipe(self) -> Recipe:
        return Recipe.from_json(json.dumps(self.record["recipe"]))

    def describe(self) -> dict[str, Any]:
        return self.noted(self.recipe.model, self.recipe)

    @property
    def label(self) -> str:
        return self.recipe.label

    def model(self) -> SentenceTransformer:
        """The trained model; fails where the run's folder has gone."""
        from .models.loading import load_model

        if not (self.path / RECORD).is_file():
            raise refused("gone", run=self.path.name)
        return load_model(self.path / "model")

    def delete(self) -> None:
        shutil.rmtree(self.path)

    def __repr__(self) -> str:
        score = f"{self.dev_name} nDCG@10 {self.dev_score:.3f}"
        return f"Run({self.path.name!r}, {self.recipe.label}, {score})"

    def table(self) -> Table:
        record = self.record
        rows = {
            "approach": self.recipe.label,
            "recipe": self.recipe.hash,
            **{f"{kind} prompt": repr(text) for kind, text in record.get("prompts", {}).items()},
            "training pairs": f"{record['pairs']:,}",
            "steps": f"{record['steps']:,}",
            "seconds": f"{self.seconds:.0f}",
            "pairs a second": f"{record['pairs_per_second']:.0f}",
            "peak memory": f"{record['peak_memory_mb']:,.0f} MB",
            f"nDCG@10 on {self.dev_name}": f"{self.dev_score:.3f}",
            "folder": self.path.name,
        }
        return facts(rows)


def finished(domain: Domain) -> list[Run]:
    """The finished runs on a domain, oldest first; half-written folders are passed over."""
    found = []
    for record in sorted(store(domain).glob(f"*/{RECORD}"), key=lambda p: p.stat().st_mtime):
        with contextlib.suppress(EmbkitError):
            found.append(Run.load(record.parent))
    return found
