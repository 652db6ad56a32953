"""Queries written by a language model: asked for, filtered, kept with a card."""

from ..lazy import exports

__getattr__, __dir__, __all__ = exports(__name__)
