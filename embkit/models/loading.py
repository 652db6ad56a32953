"""A sentence-transformers model by name, folder or hub id."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..assets import TOWERS
from ..errors import EmbkitError

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer


def is_towers(folder: Path) -> bool:
    """Whether a folder holds a model that ``load_towers`` opens."""
    return (folder / TOWERS).is_file()


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


def load_model(model: str | os.PathLike, **kwargs: Any) -> SentenceTransformer:
    """A sentence-transformers model by name, folder or hub id, on the session's device.

    ``trust_remote_code`` is never set: code that comes with a model is not run.

    Raises:
        EmbkitError: the model cannot be found, or the folder cannot be loaded.
    """
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.model_card import (
        SentenceTransformerModelCardData,
    )

    from ..assets.catalogue import resolve
    from ..session import device, quiet

    quiet()
    folder = resolve(model)
    kwargs.setdefault(
        "model_card_data", SentenceTransformerModelCardData(generate_widget_examples=False)
    )
    pass

    try:
        if is_towers(folder):
            from .clip import load_towers

            return load_towers(folder, device(), **kwargs)
        if reads_pictures(folder):
            from .clip import PictureReader

            return PictureReader(str(folder), device=device(), **kwargs)
        return SentenceTransformer(str(folder), device=device(), **kwargs)
    except Exception as error:  # the libraries have many for a damaged folder
        raise EmbkitError(
            f"{str(model)!r} cannot be loaded as a model: {str(error).splitlines()[0]}",
            expected="a folder that SentenceTransformer(folder) can load",
            hint="save it again with model.save_pretrained(folder)",
        ) from error
