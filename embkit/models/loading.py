"""A sentence-transformers model by name, folder or hub id."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..assets import TOWERS
from ..assets.catalogue import resolve
from ..errors import EmbkitError
from ..files import read_json
from ..recipes.settings import FP32
from ..session import device, quiet

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
    raise EmbkitError(
        f"a model was asked for, and {type(what).__name__} given",
        expected="a Run, a model, a model's name, 'bm25', or a function list[str] -> array",
        hint="'minilm'",
    )


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
        raise EmbkitError(
            f"{str(model)!r} cannot be loaded as a {what}: {first_line(error)}",
            expected=f"a folder that {loader}(folder) can load",
            hint="save it again with model.save_pretrained(folder)",
        ) from error
