"""The embedding space before and after training, on maps and in numbers."""

from ..lazy import exports

__getattr__, __dir__, __all__ = exports(__name__)
