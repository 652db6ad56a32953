"""What one training step must hold in memory, counted tensor by tensor.

A process's resident memory tells little about a method: it holds the interpreter, the libraries
and whatever ran before.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable
from typing import Any

import torch

from .. import session
from ..assets.catalogue import resolve
from ..data import Domain
from ..models.packing import efficient
from ..models.quantized import scales
from ..recipes.recipe import Recipe
from .forecasting import kept_for_backward
from .trainer import make_trainer, training_pairs


def footprint(recipe: Recipe, domain: Domain) -> dict[str, float]:
    """Takes one training step of a recipe on a domain's first batch, and says what it held, in MB
    (10^6 bytes): the ``weights``, trained or not; the ``gradients`` and AdamW's moments
    (``optimizer``) of the trained ones; the ``activations`` that the forward pass keeps for the
    backward pass; and their ``total``. The batch is computed at once, whatever ``mini_batch_size``.

    Raises:
        EmbkitError: as ``train``.
    """
    # a trainer and its first batch
    session.quiet()
    pairs = training_pairs(recipe := recipe.replace(mini_batch_size=None), domain)
    with tempfile.TemporaryDirectory() as output:
        trainer = make_trainer(recipe, resolve(recipe.model), pairs, output)
        batch = trainer._prepare_inputs(next(iter(trainer.get_train_dataloader())))
    model = trainer.model
    own = [*model.parameters(), *model.buffers()]
    # four-bit layers hold scales beside their codes
    weights = _bytes([*own, *(scale for module in model.modules() for scale in scales(module))])

    # the step: forward, backward, update
    model.train()
    with efficient(model), session.autocast(model.device.type), kept_for_backward(model) as kept:
        loss = trainer.compute_loss(model, batch)
    loss.backward()
    optimizer = trainer.create_optimizer()
    optimizer.step()
    moments = [v for s in optimizer.state.values() for v in s.values() if torch.is_tensor(v)]
    found = {
        "weights": weights,
        "gradients": _bytes(p.grad for p in model.parameters() if p.grad is not None),
        "optimizer": _bytes(moments),
        "activations": sum(s.nbytes() for s in kept.values()),
    }
    return {name: size / 1e6 for name, size in (found | {"total": sum(found.values())}).items()}


def _bytes(tensors: Iterable[Any]) -> int:
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)
