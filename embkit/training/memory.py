"""What one training step must hold in memory, counted tensor by tensor.

A process's resident memory tells little about a method: it holds the interpreter, the libraries
and whatever ran before.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from .. import session
from ..assets.catalogue import resolve
from ..data import Domain
from ..display import Shown, Table, facts
from ..models.packing import efficient
from ..models.quantized import scales
from ..recipes.recipe import Recipe
from .trainer import make_trainer, training_pairs

MB = 1e6


@dataclass(frozen=True, repr=False)
class Footprint(Shown):
    """Bytes that a training step of the recipe ``label`` holds."""

    label: str
    weights: int  # the model's, trained or not
    gradients: int  # of the trained weights
    optimizer: int  # AdamW's two moments of every trained weight
    activations: int  # what the forward pass of one batch keeps for the backward pass
    device_peak: int | None = None  # a GPU's most memory in the step, as its allocator counts it

    @property
    def total(self) -> int:
        """All four parts together."""
        return self.weights + self.gradients + self.optimizer + self.activations

    def row(self) -> dict[str, float]:
        """The parts in MB (10^6 bytes), by name."""
        parts = asdict(self) | {"total": self.total}
        return {k: v / MB for k, v in parts.items() if k != "label" and v is not None}

    def __repr__(self) -> str:
        parts = ", ".join(f"{name} {value:.0f} MB" for name, value in self.row().items())
        return f"Footprint({self.label}: {parts})"

    def table(self) -> Table:
        """The parts in MB."""
        return facts({f"{name}, MB": f"{v:.1f}" for name, v in self.row().items()}, self.label)


def footprint(recipe: Recipe, domain: Domain) -> Footprint:
    """Takes one training step of a recipe on a domain's first batch, and says what it held.

    Raises:
        EmbkitError: as ``train``.
    """
    # a trainer and its first batch
    session.quiet()
    pairs = training_pairs(recipe, domain)
    with tempfile.TemporaryDirectory() as output:
        trainer = make_trainer(recipe, resolve(recipe.model), pairs, output)
        batch = trainer._prepare_inputs(next(iter(trainer.get_train_dataloader())))
    model = trainer.model
    on_gpu = model.device.type == "cuda"
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
    own = [*model.parameters(), *model.buffers()]
    # four-bit layers hold scales beside their codes
    weights = _bytes([*own, *(scale for module in model.modules() for scale in scales(module))])
    kept: dict[int, int] = {}
    known = {t.untyped_storage().data_ptr() for t in own}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:  # a weight is counted once, as a weight
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    # the step: forward, backward, update
    model.train()
    hooks = torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor)
    with efficient(model), session.autocast(model.device.type), hooks:
        loss = trainer.compute_loss(model, batch)
    activations = sum(kept.values())
    loss.backward()
    optimizer = trainer.create_optimizer()
    optimizer.step()
    moments = [v for s in optimizer.state.values() for v in s.values() if torch.is_tensor(v)]
    return Footprint(
        recipe.label,
        weights,
        _bytes(p.grad for p in model.parameters() if p.grad is not None),
        _bytes(moments),
        activations,
        torch.cuda.max_memory_allocated() if on_gpu else None,
    )


def _bytes(tensors: Iterable[Any]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
