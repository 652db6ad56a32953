"""audit(domain) -> Audit: what is wrong with the data, before a model learns it."""

from ..lazy import exports

__getattr__, __dir__, __all__ = exports(__name__)
