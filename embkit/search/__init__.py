"""Search: exact, by words, and in two tiers."""

from .index import BM25, Dense, exact_search
from .tiered import TieredIndex, TieredSearch, truncate

__all__ = [
    "BM25",
    "Dense",
    "TieredIndex",
    "TieredSearch",
    "exact_search",
    "truncate",
]
