"""Folders that list their names, and import a module when one of its names is first asked for."""

import importlib
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any


def exports(
    package: str, modules: Mapping[str, Sequence[str]], folders: Sequence[str] = ()
) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """A package's ``__getattr__``, ``__dir__`` and ``__all__``.

    ``modules`` says which names a module below it has; ``folders`` are offered themselves.
    """
    home = {name: module for module, names in modules.items() for name in names}
    listed = sorted([*home, *folders])

    def get(name: str) -> Any:
        if name in home:
            value = getattr(importlib.import_module(f".{home[name]}", package), name)
            setattr(sys.modules[package], name, value)
            return value
        try:  # a module of the folder, by its own name
            if not name.startswith("_"):
                return importlib.import_module(f".{name}", package)
        except ModuleNotFoundError as error:
            if error.name != f"{package}.{name}":
                raise
        raise AttributeError(f"{package} has no {name!r}; it has {', '.join(listed)}")

    return get, lambda: listed, listed
