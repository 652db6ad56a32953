"""A step that fits the memory: the batch that the loss sees is the recipe's, in smaller parts."""

from __future__ import annotations

import json
from typing import Any

import torch
from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size
from sentence_transformers import SentenceTransformerTrainer

from .. import session
from ..data import Domain
from ..distributed import team
from ..errors import EmbkitError
from ..files import read_json, write_atomic
from ..recipes.recipe import Recipe
from ..recipes.views import IN_BATCH
from .forecasting import advice, load_of, memory
from .losses import make_loss

# of a recipe, what decides how many texts fit beside the device and its precision
DECIDE = """model approach layers max_length passage_size lora_rank lora_targets quantize dropout
    gradient_checkpointing"""


class Trainer(SentenceTransformerTrainer):
    """sentence-transformers' trainer; where memory runs out, a step is done again in mini-batches
    of half as many texts, with the same gradients. ``at_once`` are the texts that pass at once."""

    def __init__(self, recipe: Recipe, **given: Any) -> None:
        super().__init__(**given)
        self.recipe, batch = recipe, self.args.per_device_train_batch_size
        self.at_once = min(batch, recipe.mini_batch_size or batch)

    def fit(self, domain: Domain) -> None:
        """Chooses, before the first step, how many texts pass at once: what was found to fit here
        before, else what a forecast says; all of a batch where that fits."""
        recipe, batch = self.recipe, self.at_once
        if recipe.mini_batch_size or recipe.approach not in IN_BATCH:
            return
        if not (told := _remembered().get(_key(recipe))):
            if getattr(self.model[0], "auto_model", None) is None:  # static vectors
                return
            held = sum(p.numel() * p.element_size() for p in self.model.parameters())
            load, space = load_of(recipe, domain, self.model), memory(held)
            told = max(1, load.at_once(recipe, batch, space[1] - space[0]))
        told = min(team().gather(told))  # the least of all processes'
        if told < batch:
            self.cut(told)

    def cut(self, rows: int) -> None:
        """Lets so many texts pass at once from here on."""
        self.at_once = rows
        loss = make_loss(self.recipe.replace(mini_batch_size=rows).loss, self.model)
        self.loss = self.prepare_loss(loss, self.model)

    def training_step(self, model: Any, inputs: Any, *given: Any, **named: Any) -> torch.Tensor:
        while True:
            try:
                return super().training_step(model, inputs, *given, **named)
            except (RuntimeError, MemoryError) as error:
                if not ran_out(error):
                    raise
                said = str(error).partition("\n")[0]
            # here, and not within except: the error holds the step's tensors
            model.zero_grad(set_to_none=True)
            self._halve(said)

    def train(self, *given: Any, **named: Any) -> Any:
        try:
            return super().train(*given, **named)
        except (RuntimeError, MemoryError) as error:
            if not ran_out(error):
                raise
            raise self._too_large(str(error).partition("\n")[0]) from error

    def _halve(self, said: str) -> None:
        clear_device_cache(garbage_collection=True)
        session.give_back()
        if self.recipe.approach not in IN_BATCH or self.at_once < 2 or team().size > 1:
            raise self._too_large(said)
        self.cut(self.at_once // 2)
        known = _remembered() | {_key(self.recipe): self.at_once}
        write_atomic(_file(), json.dumps(known, indent=1, sort_keys=True))

    def _too_large(self, said: str) -> EmbkitError:
        recipe, half = self.recipe, self.at_once // 2
        whole = recipe.approach not in IN_BATCH
        changes = [] if whole or half < 1 else [f"recipe.replace(mini_batch_size={half})"]
        changes += advice(recipe, half if whole else 0)
        free = memory()[1] / 1e6
        return EmbkitError(
            f"memory ran out in a step of {recipe.batch_size} pairs, {self.at_once} at once, of "
            f"{recipe.model!r} on {session.device()} ({free:,.0f} MB are free now): {said}",
            expected="a step that fits the memory",
            hint="; or ".join(changes or ["a smaller model, or EMBKIT_DEVICE=cpu"]),
        )


def ran_out(error: BaseException) -> bool:
    """Whether an error says that there was no memory left, on whatever device."""
    kinds = (torch.OutOfMemoryError, MemoryError)
    few = "not enough memory" in str(error)  # a processor's, on Windows
    return few or isinstance(error, kinds) or should_reduce_batch_size(error)


def _file() -> Any:
    return session.paths().cache / "mini_batches.json"


def _remembered() -> dict[str, Any]:
    return read_json(_file())


def _key(recipe: Recipe) -> str:
    """What has to be the same for as many texts to fit again."""
    of = [getattr(recipe, name) for name in DECIDE.split()]
    return json.dumps([session.device_name(), session.precision(), *of])
