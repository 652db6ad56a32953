"""Which passage of a right document is trained on: the first, or the model's choice by epoch."""

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
from transformers import TrainerCallback

from ..files import write_atomic
from ..models.encoding import encode
from ..models.window import cut_for
from ..pairs.pairs import TrainingPairs
from ..recipes.views import Passages


class TrainedPassages(TrainerCallback):
    """A data set's transform that shows, of each document beside an anchor, one passage: the first,
    or the one that is nearest to the anchor by the model as it was when the epoch began.

    The choice is kept with a checkpoint within an epoch: a run that was stopped there goes on as it
    would have.

    Args:
        model: the model that is trained.
        prompts: what it puts before queries, and before documents.
    """

    def __init__(
        self, model: Any, pairs: TrainingPairs, part: Passages, prompts: tuple[str | None, ...]
    ) -> None:
        assert part.size
        self.model, self.part, self.prompts = model, part, prompts
        rows = pairs.dataset().to_dict()
        self.columns = [name for name in rows if name != "anchor"]
        beside = (zip(rows["anchor"], rows[name], strict=True) for name in self.columns)
        self.pairs = list(dict.fromkeys(itertools.chain(*beside)))  # (anchor, document), as text
        texts = list(dict.fromkeys(document for _, document in self.pairs))
        found = cut_for(model, texts, part.size, part.overlap, part.headings)
        self.passages = {
            text: [passage.of(text, part.headings) or text for passage in own]
            for text, own in zip(texts, found, strict=True)
        }
        self.show(self.choose(cache=True))  # other trainings begin with the same weights

    def choose(self, cache: bool = False) -> list[int]:
        """For each pair of an anchor and a document, the place of the passage that is shown."""
        if self.part.choice == "first":
            return [0] * len(self.pairs)
        asked = list(dict.fromkeys(anchor for anchor, _ in self.pairs))
        shown = [passage for own in self.passages.values() for passage in own]
        each = zip((asked, shown), self.prompts, ("query", "document"), strict=True)
        made = [encode(self.model, t, prompt=p, task=k, cache=cache) for t, p, k in each]
        queries = dict(zip(asked, made[0], strict=True))
        ends = np.cumsum([len(own) for own in self.passages.values()])  # of a document's own
        documents = dict(zip(self.passages, np.split(made[1], ends[:-1]), strict=True))
        return [int((documents[text] @ queries[anchor]).argmax()) for anchor, text in self.pairs]

    def show(self, places: list[int]) -> None:
        """Sets which passage of its document is shown with each pair."""
        self.chosen = places
        self.shown = {
            pair: self.passages[pair[1]][place]
            for pair, place in zip(self.pairs, places, strict=True)
        }

    def __call__(self, rows: dict[str, list[Any]]) -> dict[str, list[Any]]:
        """Rows with passages in the place of documents."""
        anchors = rows["anchor"]
        return rows | {
            name: [self.shown[pair] for pair in zip(anchors, rows[name], strict=True)]
            for name in self.columns
            if name in rows
        }

    # ---- with the trainer

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        kept = self.file(args.output_dir, state.global_step)
        if kept.is_file():  # stopped within an epoch: as it was chosen when that began
            self.show(json.loads(kept.read_text()))
        elif state.global_step:
            self.show(self.choose())

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        if control.should_save and state.global_step % (state.max_steps // args.num_train_epochs):
            Path(args.output_dir).mkdir(parents=True, exist_ok=True)
            write_atomic(self.file(args.output_dir, state.global_step), json.dumps(self.chosen))

    @staticmethod
    def file(folder: str | Path, step: int) -> Path:
        return Path(folder) / f"passages-{step}.json"
