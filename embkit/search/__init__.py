"""Search: exact, by words, both fused, by passages, and in two tiers."""

from ..lazy import exports

__getattr__, __dir__, __all__ = exports(
    __name__,
    {
        "hybrid": ["Fusion", "Hybrid"],
        "index": ["BM25", "Dense", "exact_search"],
        "passages": ["PassageIndex", "Passages"],
        "tiered": ["TieredIndex", "truncate"],
    },
)
