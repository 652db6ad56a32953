"""Models of every kind: loaded, quantised, made smaller; and texts to vectors."""

from ..lazy import exports

__getattr__, __dir__, __all__ = exports(__name__)
