"""Retrieval measured: by query, with intervals, compared in pairs."""

from ..lazy import exports

__getattr__, __dir__, __all__ = exports(__name__)
