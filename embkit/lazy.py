"""Folders that list their names, and import a module when one of its names is first asked for."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any


def exports(
    package: str, modules: Mapping[str, Sequence[str]]
) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """A package's ``__getattr__``, ``__dir__`` and ``__all__``.

    Args:
        package: its ``__name__``.
        modules: a module below it -> the names of it that the package offers.

    Example:
        >>> __getattr__, __dir__, __all__ = exports(__name__, {"index": ["BM25"]})  # doctest: +SKIP
    """
    home = {name: module for module, names in modules.items() for name in names}
    listed = sorted(home)

    def get(name: str) -> Any:
        if name in home:
            value = getattr(importlib.import_module(f".{home[name]}", package), name)
            setattr(sys.modules[package], name, value)
            return value
        try:  # a module of the folder, by its own name
            return importlib.import_module(f".{name}", package)
        except ModuleNotFoundError as error:
            if error.name != f"{package}.{name}":
                raise
        raise AttributeError(f"{package} has no {name!r}; it has {', '.join(listed)}")

    return get, lambda: listed, listed
