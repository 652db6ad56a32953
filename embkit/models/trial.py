"""Whether a faster way of running a model gives the same vectors and gradients: tried, not guessed.

Texts of a few words tell nothing about attention that looks only so far, so the longest text of a
trial is longer than any such window. Its tokens are random: all of them differ.
"""

import contextlib
import json
import re
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from sentence_transformers import SentenceTransformer
from sentence_transformers.util import batch_to_device
from torch import Tensor

LONG = 160  # tokens of the longest text, where a model's windows are shorter or it has none
LONGEST = 1024  # tokens that a trial has at most: a model with a longer window is not packed
TOLERANCE = 1e-4  # how far apart two unit vectors may be in fp32
Features = dict[str, Any]


@torch.inference_mode(False)
@torch.enable_grad()
def first_equal(
    model: SentenceTransformer, run: Callable[[str, Features], Tensor], route: dict[str, str]
) -> str:
    """The first of ``packed`` and ``grouped`` that gives what ``plain`` gives, or ``plain``.

    ``run`` takes one of these and a padded batch, and gives embeddings, shape (texts, dim).
    """
    training = model.training
    model.eval()
    floats = [p.dtype for p in model.parameters() if p.is_floating_point()]
    off = max([TOLERANCE, *(12 * torch.finfo(dtype).eps for dtype in floats)])  # of 16 bits: more
    if torch.get_float32_matmul_precision() != "highest":
        off = max(off, 12 * torch.finfo(torch.bfloat16).eps)
    slope = min(10 * off, 0.3)  # of gradients, as a share of their length
    try:
        with torch.autocast(model.device.type, enabled=False):
            features, packable = _texts(model, route)
            vectors, gradient = _outcome(model, partial(run, "plain", features))
            for way in ("packed", "grouped") if packable else ("grouped",):
                with contextlib.suppress(Exception):  # a way that fails is not taken
                    found, other = _outcome(model, partial(run, way, features))
                    near = (found - vectors).norm(dim=-1).max() <= off
                    if near and (other - gradient).norm() <= slope * gradient.norm():
                        return way
        return "plain"
    except Exception:  # it takes no texts, or has no gradients: nothing is known
        return "plain"
    finally:
        model.train(training)


def _texts(model: SentenceTransformer, route: dict[str, str]) -> tuple[Features, bool]:
    """A short, a middling and a long text of random tokens; and whether packing can be tried."""
    network = getattr(model[0], "auto_model", None)
    packable = getattr(network, "is_backend_compatible", bool)() and model.device.type == "cpu"
    config = json.dumps(network.config.to_dict(), default=str) if network is not None else ""
    windows = re.findall(r'"\w*(?:window|chunk|local_attention|original_max)\w*": (\d+)', config)
    most = model.max_seq_length or float("inf")  # a window that no text fills needs no trial
    long = min(most, max(LONG, *(3 * int(n) // 2 for n in [*windows, 0] if int(n) < most)))
    packable = packable and long <= LONGEST
    long = int(long if packable else min(long, LONG))  # padding shows in shorter texts, too
    features = model.preprocess(["a", "a " * (long // 3), "a " * long], prompt="a ", **route)
    if network is not None:
        tokenizer, ids = model.tokenizer, features["input_ids"]
        known = min(len(tokenizer), network.get_input_embeddings().num_embeddings)
        special = set(tokenizer.all_special_ids) - {tokenizer.unk_token_id}
        words = torch.tensor([i for i in range(known) if i not in special])
        drawn = torch.randint(len(words), ids.shape, generator=torch.Generator().manual_seed(0))
        fixed = torch.isin(ids, torch.tensor([*special])) | (features["attention_mask"] == 0)
        features["input_ids"] = torch.where(fixed, ids, words[drawn])
    return batch_to_device(features, model.device), packable


def _outcome(model: SentenceTransformer, run: Callable[[], Tensor]) -> tuple[Tensor, Tensor]:
    """Unit vectors; and a fixed sum's gradient by each dimension of each embedding table."""
    tables = [module for module in model.modules() if isinstance(module, torch.nn.Embedding)]
    ones = [torch.ones(t.embedding_dim, device=model.device, requires_grad=True) for t in tables]
    hooks = [
        table.register_forward_hook(lambda _, __, out, one=one: out * one.to(out.dtype))
        for table, one in zip(tables, ones, strict=True)
    ]
    try:
        vectors = F.normalize(run().float(), dim=-1)
    finally:
        for hook in hooks:
            hook.remove()
    weights = torch.arange(vectors.numel(), device=model.device).cos().view_as(vectors)
    gradients = torch.autograd.grad((vectors * weights).sum(), ones, materialize_grads=True)
    return vectors.detach(), torch.cat(gradients)
