"""LoRA on the text tower of a model that reads pictures: small matrices beside its frozen layers.

What is saved is the merged model: an adapter alone would leave the image tower out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from ..errors import EmbkitError
from ..recipes.settings import lora_settings
from ..recipes.views import Lora

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

TEXT = "text_model."  # in a CLIP's names


def add_text_lora(model: SentenceTransformer, lora: Lora) -> None:
    """Adds LoRA's matrices to the text tower's target layers, in place.

    Args:
        model: embkit's towers, or a CLIP or SigLIP.
        lora: rank, targets and the like.

    Raises:
        EmbkitError: a target that the text tower has no layer for, or LoRA+ or four bits, which
            stay with texts alone.
    """
    from peft import LoraConfig, inject_adapter_in_model

    if lora.plus != 1 or lora.four_bits:
        raise EmbkitError(
            f"approach='clip' with lora_plus={lora.plus:g}, quantize={lora.quantize!r}",
            expected="plain learning rates and whole weights: the image tower has its own rate",
            hint="recipe.replace(lora_plus=1.0, quantize='none')",
        )
    network = model[0].auto_model
    layers = [n for n, m in network.named_modules() if isinstance(m, torch.nn.Linear)]
    if any(TEXT in name for name in layers):  # both towers are in one network
        layers = [name for name in layers if TEXT in name]
    wanted = lora.targets
    missing = [t for t in wanted if not any(f".{name}".endswith(f".{t}") for name in layers)]
    if missing or not wanted:
        known = sorted({name.rsplit(".", 1)[-1] for name in layers})
        raise EmbkitError(
            f"the text tower has no linear layer named {', '.join(missing) or '(nothing)'!r}",
            expected=f"the ends of layers' names, such as: {', '.join(known)}",
            hint=f"recipe.replace(lora_targets={tuple(known)!r})",
        )
    chosen = [n for n in layers if any(f".{n}".endswith(f".{t}") for t in wanted)]
    settings = lora_settings(lora) | {"target_modules": chosen}
    inject_adapter_in_model(LoraConfig(**settings), network)


def merge_text_lora(model: SentenceTransformer) -> None:
    """Adds the matrices to the weights they stand beside, in place: a plain model remains."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    network = model[0].auto_model
    for name, module in list(network.named_modules()):
        if isinstance(module, BaseTunerLayer):
            module.merge()
            above, _, own = name.rpartition(".")
            setattr(network.get_submodule(above), own, module.get_base_layer())
