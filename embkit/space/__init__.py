"""The embedding space before and after training, on maps and in numbers."""

from ..lazy import exports

_NAMES = {"geometry": ["modality_gap"], "maps": ["project"], "space": ["Space", "fit_space"]}
__getattr__, __dir__, __all__ = exports(__name__, _NAMES)
