"""Presets: what each approach, and each source of data, changes, as ``presets.toml`` has it."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any


def _read(kind: str) -> dict[str, dict[str, Any]]:
    """Name -> what it changes in Recipe(); what has several values is a tuple."""
    told = tomllib.loads(Path(__file__).with_name("presets.toml").read_text(encoding="utf-8"))
    plain = lambda value: tuple(value) if isinstance(value, list) else value  # noqa: E731
    return {name: {k: plain(v) for k, v in of.items()} for name, of in told[kind].items()}


PRESETS = _read("texts")
PICTURES = _read("pictures")  # on a domain with pictures
SOURCES = _read("sources")  # what the training data is made of, beside one and the same recipe
