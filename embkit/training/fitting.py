"""A step that fits the memory: the loss sees the recipe's batch, and passes it in smaller parts."""

import contextlib
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
from ..models.packing import attending
from ..recipes.recipe import Recipe
from ..recipes.views import IN_BATCH
from .forecasting import advice, forecast, memory, recompute
from .losses import make_loss
from .refusals import refused

DECIDE = """model approach layers max_length passage_size lora_rank lora_targets quantize dropout
    gradient_checkpointing"""  # a recipe's fields that decide how many texts fit


class Trainer(SentenceTransformerTrainer):
    """sentence-transformers' trainer; a step that runs out of memory is done again in mini-batches
    of half as many texts, with the same gradients. ``at_once`` are the texts that pass at once."""

    def __init__(self, recipe: Recipe, **given: Any) -> None:
        super().__init__(**given)
        self.recipe, batch = recipe, self.args.per_device_train_batch_size
        self.at_once = min(batch, recipe.mini_batch_size or batch)
        asked = [session.device_name(), session.precision()]
        self._key = json.dumps(asked + [getattr(recipe, name) for name in DECIDE.split()])
        self._fitted = session.paths().cache / "mini_batches.json"  # after memory ran out
        network = None if recipe.approach == "clip" else getattr(self.model[0], "auto_model", None)
        self._kind = None if network is None else type(network)
        self._parted = recipe.approach in IN_BATCH and network is not None

    def fit(self, domain: Domain) -> None:
        """Chooses how many texts pass at once: what fitted here after memory ran out, else what the
        forecast says; all of a batch where that fits."""
        if self.recipe.mini_batch_size or not self._parted:
            return
        if not (told := read_json(self._fitted).get(self._key)):
            with contextlib.suppress(Exception):  # what cannot be forecast is tried
                own = self.recipe.replace(batch_size=self.at_once)  # this process' part
                found = forecast(own, domain, model=self.model)
                told = found.at_once if found.at_once < found.batch else None
        told = min(team().gather(told or self.at_once))  # the least of all processes'
        if told < self.at_once:
            self.cut(told)

    def cut(self, texts: int) -> None:
        """Lets so many texts pass at once from here on."""
        self.at_once = texts
        loss = make_loss(self.recipe.replace(mini_batch_size=texts).loss, self.model)
        self.loss = self.prepare_loss(loss, self.model)

    def training_step(self, model: Any, *given: Any, **named: Any) -> torch.Tensor:
        while True:
            try:
                return super().training_step(model, *given, **named)
            except (RuntimeError, MemoryError) as error:
                failed = self._too_large(error)
                if not self._parted or self.at_once < 2 or team().size > 1:
                    raise failed from error
            # here, and not within except: the error holds the step's tensors
            model.zero_grad(set_to_none=True)
            clear_device_cache(garbage_collection=True)
            self.cut(self.at_once // 2)
            known = read_json(self._fitted) | {self._key: self.at_once}
            write_atomic(self._fitted, json.dumps(known, indent=1, sort_keys=True))

    def train(self, *given: Any, **named: Any) -> Any:
        try:
            return super().train(*given, **named)
        except (RuntimeError, MemoryError) as error:  # outside of a step's passes
            raise self._too_large(error) from error

    def _too_large(self, error: BaseException) -> EmbkitError:
        """What was asked and what to change, if memory ran out; else raises the error as it is."""
        if not ran_out(error):
            raise error
        half = self.at_once // 2
        changes = [f"recipe.replace(mini_batch_size={half})"] * (self._parted and half > 0)
        changes += advice(self.recipe, half * (not self._parted), self._kind)
        return refused(
            "memory",
            said=str(error).partition("\n")[0],
            recipe=self.recipe,
            free=memory()[1] / 1e6,
            at_once=self.at_once,
            hint="; or ".join(changes) or "a smaller model",
        )


def checkpointed(model: Any) -> None:
    """Gradient checkpointing that computes a block again by the attention of its forward pass."""
    network: Any = getattr(model[0], "auto_model", None)
    seen = lambda: attending(network.config, network.config._attn_implementation)  # noqa: E731
    recompute(network, context_fn=lambda: (contextlib.nullcontext(), seen()))


def ran_out(error: BaseException) -> bool:
    """Whether an error says that there was no memory left, on whatever device."""
    known = isinstance(error, torch.OutOfMemoryError | MemoryError)
    return known or "not enough memory" in str(error) or should_reduce_batch_size(error)
