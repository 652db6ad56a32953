"""Weights kept in four bits by bitsandbytes: what QLoRA trains its adapters on.

NF4 divides each block of 64 weights by its largest, and keeps of every weight the nearest of 16
quantiles of a normal distribution: 4 bits a weight and 32 a block (Dettmers et al. 2023,
https://arxiv.org/abs/2305.14314). Other layers than linear ones stay as they are.
"""

import importlib
import os
from typing import Any

import torch
from sentence_transformers import SentenceTransformer
from transformers import BitsAndBytesConfig

from ..recipes.settings import nf4_settings
from ..session import device, quiet
from .encoding import refused
from .loading import first_line, load_model


def require_bitsandbytes() -> Any:
    """The bitsandbytes module; fails where it is missing or has no 4-bit kernel for the device."""
    quiet()
    where, told = device(), "4-bit weights need bitsandbytes, which cannot be imported"
    try:
        bnb: Any = importlib.import_module("bitsandbytes")
        told = f"bitsandbytes has no working 4-bit kernel for {where!r}"
        kept, state = bnb.functional.quantize_4bit(
            torch.linspace(-1, 1, 256, device=where).view(4, 64), quant_type="nf4"
        )
        read = bnb.functional.dequantize_4bit(kept, state)
        assert bool(torch.isfinite(read).all()), "it gives NaN"
    except Exception as error:  # a library that does not open, or each backend's own way to fail
        raise refused("four bits", told=told, why=first_line(error)) from error
    return bnb


def load_quantized(model: str | os.PathLike) -> SentenceTransformer:
    """A model whose linear layers hold their weights in four bits; fails without a kernel."""
    bnb = require_bitsandbytes()
    settings = BitsAndBytesConfig(**nf4_settings())
    loaded = load_model(model, fp32=True, model_kwargs={"quantization_config": settings})
    for module in loaded.modules():
        if isinstance(module, bnb.nn.Linear4bit):
            # On processors with AVX512-BF16, a layer once run in eval mode stays packed in a
            # format whose product has no gradient (bitsandbytes 0.50).
            module.support_avx512bf16_for_cpu = False
    return loaded


def dequantize(model: SentenceTransformer) -> SentenceTransformer:
    """The same model with its weights written out again, in place: what four bits could keep."""
    network = model[0].auto_model
    if getattr(network, "is_quantized", False):
        model[0].auto_model = network.dequantize()
    return model


def weight_bytes(model: SentenceTransformer) -> dict[str, float]:
    """What the four-bit layers' weights take: codes, the scale of each block, the 16 values.

    Gives the number of ``layers``, their ``MB``, the ``MB in fp32``, and the ``ratio`` of both.
    """
    layers = [module for module in model.modules() if scales(module)]
    kept = sum(t.nbytes for layer in layers for t in (layer.weight.data, *scales(layer)))
    whole = sum(4 * layer.in_features * layer.out_features for layer in layers)
    ratio = kept / whole if whole else float("nan")
    return {"layers": len(layers), "MB": kept / 1e6, "MB in fp32": whole / 1e6, "ratio": ratio}


def scales(module: Any) -> list[Any]:
    """The tensors that a four-bit layer holds beside its codes; none for any other layer."""
    state = getattr(getattr(module, "weight", None), "quant_state", None)
    found = []
    while state is not None:  # scales may be quantised themselves, and have scales
        found += [t for t in (state.absmax, state.code, state.offset) if t is not None]
        state = state.state2 if state.nested else None
    return found
