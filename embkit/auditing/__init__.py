"""audit(domain) -> Audit: what is wrong with the data, before a model learns it."""

from ..lazy import exports

_NAMES = {"base": ["Finding"], "report": ["Audit", "audit"]}
__getattr__, __dir__, __all__ = exports(__name__, _NAMES)
