"""A sentence-transformers model by name, folder or hub id; with fewer of its layers; its speed."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..assets import TOWERS
from ..assets.catalogue import resolve
from ..display import Frame
from ..errors import EmbkitError
from ..files import read_json
from ..recipes.pruning import blocks_of, keep_blocks
from ..recipes.settings import FP32
from ..session import device, quiet
from .encoding import refused

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


def reads_pictures(folder: Path) -> bool:
    """Whether a folder holds a CLIP or SigLIP, by its own settings."""
    for file in ("config.json", "0_Transformer/config.json"):
        if settings := read_json(folder / file):
            kind = str(settings.get("model_type", ""))
            return "clip" in kind or "siglip" in kind
    return False


def as_model(what: Any) -> Any:
    """The model or function that a Run, a Head, a name, a folder or a hub id stands for.

    A loaded model, a function ``list[str] -> (texts, dim)`` and ``"bm25"`` stay what they are.
    Fails for anything else.
    """
    if isinstance(what, str | os.PathLike):
        return what if what == "bm25" else load_model(what)
    if callable(getattr(what, "model", None)) and not callable(what):
        return what.model()
    if hasattr(what, "preprocess") or hasattr(what, "vectors") or callable(what):
        return what
    raise refused("no model", kind=type(what).__name__)


def load_model(
    model: str | os.PathLike, *, fp32: bool = False, **kwargs: Any
) -> SentenceTransformer:
    """A sentence-transformers model by name, folder or hub id, on the session's device.

    ``trust_remote_code`` is never set: code that comes with a model is not run. ``fp32`` reads
    weights of 16 bits in fp32, as training wants them; ``kwargs`` go to ``SentenceTransformer``.
    Fails where there is no such model, or it cannot be loaded.
    """
    from sentence_transformers import SentenceTransformer, SentenceTransformerModelCardData

    from .clip import PictureReader, Towers

    quiet()
    folder = resolve(model)
    card = SentenceTransformerModelCardData(generate_widget_examples=False)
    options: dict[str, Any] = {"device": device(), "model_card_data": card} | kwargs
    if fp32:
        options["model_kwargs"] = FP32 | options.get("model_kwargs", {})
    with clear_errors(model, "model", "SentenceTransformer"):
        if (folder / TOWERS).is_file():
            return SentenceTransformer(modules=[Towers.load(str(folder))], **options)
        kind = PictureReader if reads_pictures(folder) else SentenceTransformer
        loaded = kind(str(folder), **options)
        return loaded.float() if fp32 else loaded


def keep_layers(model: SentenceTransformer, kept: int | None) -> SentenceTransformer:
    """Takes layers out of a model's encoder, in place; None leaves all.

    A student that starts from some of a trained encoder's layers starts far ahead of a random one
    (Sanh et al. 2019, https://arxiv.org/abs/1910.01108). Fails for more layers than there are.
    """
    if kept is None:
        return model
    network = getattr(model[0], "auto_model", None)
    many = len(blocks_of(network))
    if kept > many:
        there = f"1 to {many}" if many else "an encoder with one stack of like layers"
        of = {"many": many or "no stack of layers", "half": max(1, many // 2) if many else None}
        raise refused("layers", kept=kept, expected=there, **of)
    keep_blocks(network, kept)
    model.__dict__.pop("_embkit_engine", None)
    return model


def encode_speeds(
    models: Mapping[str, SentenceTransformer], texts: Sequence[str], *, rounds: int = 3
) -> Frame:
    """Texts a second that models encode, measured one after another, and their size.

    Nothing is cached. Each of ``rounds`` times, every model encodes the texts, one after the other.
    One row a model: ``texts/s`` (the rounds' median), ``speed`` (the median of the rounds' ratios
    to the first model), ``parameters``, ``MB`` of weights in memory.
    """
    import pandas as pd

    from . import packing

    listed = list(texts)
    seconds: dict[str, list[float]] = {name: [] for name in models}
    for model in models.values():
        packing.embed(model, listed[:16])  # the first call makes ready what the others find there
    for _ in range(rounds):
        for name, model in models.items():
            started = time.perf_counter()
            packing.embed(model, listed)
            seconds[name].append(time.perf_counter() - started)
    took = pd.DataFrame(seconds).rename_axis("model", axis=1)  # (rounds, models)
    weights = {name: list(model.parameters()) for name, model in models.items()}
    return pd.DataFrame(
        {
            "texts/s": len(listed) / took.median(),
            "speed": (took.iloc[:, [0]].to_numpy() / took).median(),
            "parameters": {n: sum(w.numel() for w in own) for n, own in weights.items()},
            "MB": {n: sum(w.nbytes for w in own) / 1e6 for n, own in weights.items()},
        },
        index=took.columns,
    )


def first_line(error: Exception) -> str:
    """What an error says, in its first line."""
    return (str(error).strip() or repr(error)).splitlines()[0]


@contextlib.contextmanager
def clear_errors(model: Any, what: str, loader: str) -> Iterator[None]:
    """Says what is wrong where a library cannot load a folder; they have many errors for that."""
    try:
        yield
    except EmbkitError:
        raise
    except Exception as error:
        of = {"model": str(model), "what": what, "loader": loader}
        raise refused("cannot be loaded", why=first_line(error), **of) from error
