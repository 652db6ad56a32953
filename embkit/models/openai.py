"""Embeddings from any OpenAI-compatible endpoint."""

import os
from collections.abc import Callable
from typing import Any

import numpy as np

from ..errors import not_installed
from .encoding import refused

KEY = "OPENAI_API_KEY"


def api_key() -> str:
    """The endpoint's key, from the environment; fails where there is none."""
    if not (key := os.environ.get(KEY)):
        raise refused("key", key=KEY)
    return key


def openai_client(**options: Any) -> Any:
    """The openai package's client; fails where that is not installed, and without a key."""
    try:
        import openai
    except ImportError as error:
        raise not_installed("the openai client is not installed", "openai") from error
    api_key()
    return openai.OpenAI(**options)


def openai_embeddings(
    model: str, *, base_url: str | None = None, batch_size: int = 256
) -> Callable[[list[str]], np.ndarray]:
    """A function ``list[str] -> (texts, dim)`` that asks an OpenAI-compatible endpoint.

    The key is read from ``OPENAI_API_KEY`` and neither stored nor shown. ``base_url`` is by default
    ``OPENAI_BASE_URL``, else OpenAI's own. The client itself asks again after a passing fault.
    Fails without the client or a key.
    """
    client = openai_client(base_url=base_url, max_retries=5)

    def embed(texts: list[str]) -> np.ndarray:
        rows: list[list[float]] = []
        for start in range(0, len(texts), batch_size):
            answer = client.embeddings.create(model=model, input=texts[start : start + batch_size])
            rows += [item.embedding for item in sorted(answer.data, key=lambda item: item.index)]
        return np.asarray(rows, dtype=np.float32)

    embed.__name__ = model
    return embed
