"""A sentence-transformers model by name, folder or hub id."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..assets import TOWERS
from ..assets.catalogue import resolve
from ..errors import EmbkitError
from ..recipes.settings import FP32
from ..session import device, quiet

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


def reads_pictures(folder: Path) -> bool:
    """Whether a folder holds a CLIP or SigLIP, by its own settings."""
    for file in (folder / "config.json", folder / "0_Transformer" / "config.json"):
        try:
            kind = json.loads(file.read_text(encoding="utf-8")).get("model_type", "")
        except (OSError, ValueError, AttributeError):
            continue
        return "clip" in str(kind) or "siglip" in str(kind)
    return False


def as_model(what: Any) -> Any:
    """What can rank or encode, of whatever stands for it.

    Args:
        what: a Run or a Head, a model's name, folder or hub id, a loaded model, a function
            ``list[str] -> (texts, dim)``, or ``"bm25"``.

    Returns:
        A model or a function; ``"bm25"`` as it is.

    Raises:
        EmbkitError: the model cannot be had, or ``what`` is nothing of the kind.
    """
    if isinstance(what, str) and what == "bm25":
        return what
    if isinstance(what, str | os.PathLike):
        return load_model(what)
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

    Raises:
        EmbkitError: the model cannot be found, or the folder cannot be loaded.
    """
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.model_card import (
        SentenceTransformerModelCardData,
    )

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


@contextlib.contextmanager
def clear_errors(model: Any, what: str, loader: str) -> Iterator[None]:
    """Says what is wrong where a library cannot load a folder; they have many errors for that."""
    try:
        yield
    except EmbkitError:
        raise
    except Exception as error:
        said = (str(error) or repr(error)).splitlines()[0]
        raise EmbkitError(
            f"{str(model)!r} cannot be loaded as a {what}: {said}",
            expected=f"a folder that {loader}(folder) can load",
            hint="save it again with model.save_pretrained(folder)",
        ) from error
