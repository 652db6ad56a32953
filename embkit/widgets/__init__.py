"""Widgets: each shows what functions do, calls the same functions, and has a still picture."""

from ..lazy import exports

__getattr__, __dir__, __all__ = exports(__name__)
