"""LoRA by peft: small trained matrices beside frozen weights, kept apart and merged."""

from __future__ import annotations

import json
import re
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ..assets.catalogue import folder_fingerprint, resolve
from ..errors import EmbkitError
from ..files import read_json, write_atomic
from ..recipes.settings import OUTSIDE, lora_plus_settings, lora_settings
from ..recipes.views import AUTO, Lora
from .refusals import refused

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

ADAPTER = "adapter"  # the folder of a run that holds the adapter alone
BASE = "base.json"  # in that folder: the model that it was trained on
MATRICES = "adapter_model.safetensors"  # in that folder, as peft writes it


def make_optimizer(model: SentenceTransformer, lora: Lora) -> torch.optim.Optimizer | None:
    """LoRA+'s optimizer where the recipe asks for it; None: the trainer makes its own."""
    if lora.plus == 1:
        return None
    from peft.optimizers import create_loraplus_optimizer

    return create_loraplus_optimizer(model, torch.optim.AdamW, **lora_plus_settings(lora))


def add_lora(model: SentenceTransformer, lora: Lora) -> None:
    """Freezes a model's weights and adds LoRA's matrices to its target layers.

    Raises:
        EmbkitError: a target that the model has no layer for; it names those there are.
    """
    from peft import LoraConfig

    network = getattr(model[0], "auto_model", torch.nn.Identity())
    check_targets(network, lora.targets)
    model.requires_grad_(False)  # layers after the pooling, too: an adapter keeps none of them
    try:
        model.add_adapter(LoraConfig(**lora_settings(lora)))
    except ValueError as error:  # peft's: layers that this family computes with by itself
        name, why = type(network).__name__, str(error).splitlines()[0]
        raise refused("lora", name=name, why=why) from error
    for weight in model.parameters():
        if weight.requires_grad:  # beside four bits, peft makes them of the dtype of products
            weight.data = weight.data.float()
    floats = {weight.dtype for weight in model.parameters() if weight.is_floating_point()}
    if lora.variant != "dora" and floats == {torch.float32}:
        for module in model.modules():
            if hasattr(module, "lora_A"):  # peft would copy 16-bit inputs in fp32 first
                module.cast_input_dtype_enabled = False  # DoRA's lengths are of the input's type


def check_targets(network: Any, targets: tuple[str, ...]) -> None:
    """Fails for a target that no layer of a network is named by."""
    kinds = (torch.nn.Linear, torch.nn.Embedding)
    layers = {name: module for name, module in network.named_modules() if isinstance(module, kinds)}
    linear = [name for name, module in layers.items() if isinstance(module, torch.nn.Linear)]
    found = {t: [name for name in layers if f".{name}".endswith(f".{t}")] for t in targets}
    if targets == AUTO:
        found = {"auto": [name for name in linear if not re.fullmatch(OUTSIDE, name)]}
    missing = [target for target, names in found.items() if not names]
    if missing or not targets:
        known, ends = (sorted({n.rsplit(".", 1)[-1] for n in names}) for names in (layers, linear))
        given = ", ".join(missing) or "(nothing)"
        given = f"the model has no linear layer or table named {given!r}"
        given = given if layers else "LoRA for a model that is not one transformer"
        change = f"lora_targets={tuple(ends)!r}" if ends else "lora_rank=0"
        raise refused("targets", given=given, known=", ".join(known) or "(none here)", hint=change)


def load_matrices(model: SentenceTransformer, checkpoint: str | Path) -> None:
    """Puts a checkpoint's adapter into a model that has one of the same settings, in place.

    The trainer loads whole weights, which four-bit layers have no place for.
    """
    from peft import set_peft_model_state_dict
    from safetensors.torch import load_file

    saved = load_file(Path(checkpoint) / MATRICES)
    saved = {name.removeprefix("base_model.model."): matrix for name, matrix in saved.items()}
    set_peft_model_state_dict(model[0].auto_model, saved)


def record_base(adapter: Path, model: str, folder: Path, tuned: SentenceTransformer) -> None:
    """Writes beside an adapter what it was trained on: the weights, the prompts, the window."""
    known = {"model": model, "fingerprint": folder_fingerprint(folder)}
    known |= {"prompts": tuned.prompts, "max_length": tuned.max_seq_length}
    write_atomic(adapter / BASE, json.dumps(known, indent=1))


def merge_adapter(
    start: str | Path, adapter: str | Path, *, quantized: bool = False
) -> SentenceTransformer:
    """The model that an adapter makes of the model it was trained on, as a plain model with the
    prompts and the window of its training.

    Args:
        start: the model's name or folder.
        adapter: the adapter's folder.
        quantized: the adapter was trained on four-bit weights (QLoRA): it is merged into what
            they hold, which is the model that it was trained to mend.

    Raises:
        EmbkitError: the adapter was trained on another model, or is none.
    """
    from peft import PeftModel, get_peft_model_state_dict
    from safetensors import safe_open

    from ..models.loading import load_model
    from ..models.quantized import dequantize, load_quantized

    def misfit(why: str) -> EmbkitError:
        return refused("adapter", name=Path(adapter).name, start=str(start), why=why)

    known = read_json(Path(adapter) / BASE)
    wanted = known.get("fingerprint")  # None: not written by embkit, and only shapes can tell
    if wanted and folder_fingerprint(resolve(start)) != wanted:
        raise misfit(f"it was trained on the weights of {known.get('model')!r}")
    model = dequantize(load_quantized(start)) if quantized else load_model(start, fp32=True)
    model.prompts |= known.get("prompts", {})
    model.max_seq_length = known.get("max_length", model.max_seq_length)
    try:
        with warnings.catch_warnings():  # peft asks the model for a property of an older name
            warnings.simplefilter("ignore", FutureWarning)
            tuned = PeftModel.from_pretrained(model[0].auto_model, str(adapter))
        # peft only warns of an adapter that has matrices for some of its layers
        with safe_open(Path(adapter) / MATRICES, framework="pt") as file:
            saved = set(file.keys())
        places = set(get_peft_model_state_dict(tuned))
        if saved != places:
            raise ValueError(f"it has {len(saved)} matrices for {len(places)} places")
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        raise misfit(str(error).splitlines()[0]) from error
    model[0].auto_model = tuned.merge_and_unload()
    return model
