"""What one training step must hold in memory, counted tensor by tensor.

A process's resident memory tells little about a method: it holds the interpreter, the libraries
and whatever ran before. So the tensors are counted: the model's weights, their gradients, the
optimizer's state, and what the forward pass keeps for the backward one.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from ..data import Domain
from ..display import facts
from ..recipes.recipe import Recipe

if TYPE_CHECKING:
    from torch import Tensor

MB = 1e6


@dataclass(frozen=True)
class Footprint:
    """Bytes that a training step holds.

    Args:
        label: the recipe's.
        weights: the model's, trained or not.
        gradients: of the trained weights.
        optimizer: AdamW's two moments of every trained weight.
        activations: what the forward pass of one batch keeps for the backward pass.
        device_peak: a GPU's most memory during the step, as its allocator counts it; else None.
    """

    label: str
    weights: int
    gradients: int
    optimizer: int
    activations: int
    device_peak: int | None = None

    @property
    def total(self) -> int:
        """All four parts together."""
        return self.weights + self.gradients + self.optimizer + self.activations

    def row(self) -> dict[str, float | None]:
        """The parts in MB (10^6 bytes), by name."""
        parts = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "label"}
        parts = {name: value for name, value in parts.items() if value is not None}
        return {name: value / MB for name, value in (parts | {"total": self.total}).items()}

    def __repr__(self) -> str:
        parts = ", ".join(f"{name} {value:.0f} MB" for name, value in self.row().items())
        return f"Footprint({self.label}: {parts})"

    def _repr_html_(self) -> str:
        return facts({f"{name}, MB": f"{v:.1f}" for name, v in self.row().items()}, self.label)


def footprint(recipe: Recipe, domain: Domain) -> Footprint:
    """Takes one training step of a recipe, throws it away, and says what it held.

    Args:
        recipe: what would be trained.
        domain: on what; the first batch of its training pairs is used.

    Raises:
        EmbkitError: as ``train``.
    """
    import torch

    from .. import session
    from ..assets.catalogue import resolve
    from ..models.packing import efficient
    from .trainer import make_trainer, training_pairs

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
    weights = _bytes([*own, *_scales(model)])
    kept: dict[int, int] = {}
    known = {t.untyped_storage().data_ptr() for t in own}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in known:  # a weight is counted once, as a weight
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    dtype = {"bf16": torch.bfloat16, "fp16": torch.float16}.get(
        session.precision(model.device.type)
    )
    cast = torch.autocast(model.device.type, dtype=dtype, enabled=dtype is not None)
    model.train()
    hooks = torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor)
    with efficient(model), cast, hooks:
        loss = trainer.compute_loss(model, batch)
    activations = sum(kept.values())
    loss.backward()
    gradients = [p.grad for p in model.parameters() if p.grad is not None]
    optimizer = trainer.create_optimizer()
    optimizer.step()
    moments = [v for s in optimizer.state.values() for v in s.values() if torch.is_tensor(v)]
    return Footprint(
        recipe.label,
        weights,
        _bytes(gradients),
        _bytes(moments),
        activations,
        torch.cuda.max_memory_allocated() if on_gpu else None,
    )


def _bytes(tensors: list[Any]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def _scales(model: Any) -> list[Any]:
    """What four-bit layers hold beside their codes."""
    from ..models.quantized import scales

    return [tensor for module in model.modules() for tensor in scales(module)]
