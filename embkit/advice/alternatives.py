"""What may do without training: another general model, and words and meaning together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from timeit import timeit
from typing import TYPE_CHECKING, Any

from ..data import Domain
from ..data.text_checks import words
from ..evaluation.intervals import CLUSTERS

if TYPE_CHECKING:
    import pandas as pd

OTHERS = ("bge-small",)  # general models that a package carries
HYBRID = "hybrid: BM25 and the model"
WEIGHTS = (0.5, 0.75, 0.25, 1.0, 0.0)  # of the model beside BM25; of equal ones, the first


def cost_of_words(domain: Domain, by_words: Any) -> dict[str, float]:
    """What a search by words takes: milliseconds a query, megabytes of index (about)."""
    asked = [domain.queries[q] for q in list(domain.split("dev"))[:20]]
    took = timeit(lambda: [by_words.search([text]) for text in asked], number=1) / len(asked)
    counted = sum(len(set(words(text))) for text in domain.corpus.values())  # 8 bytes each
    return {"query_ms": 1000 * took, "index_mb": counted * 8e-6}


def cross_fitted(tried: Mapping[float, pd.Series]) -> pd.Series:
    """Values of each query by what is best on the other half of the clusters.

    What is chosen and scored on the same queries looks better than it is.
    """
    import pandas as pd

    table, found = pd.DataFrame(dict(tried)), next(iter(tried.values())).copy()
    codes = found.attrs[CLUSTERS].codes(found.index)
    half: dict[Any, bool] = {}
    totals = [0, 0]
    for code, size in Counter(codes).most_common():
        half[code] = side = totals[1] < totals[0]
        totals[side] += size
    places = pd.Series([half[code] for code in codes], index=found.index)
    for side in (False, True):
        other = table[places != side]
        best = (other if len(other) else table).mean().idxmax()
        found[places == side] = table.loc[places == side, best]
    return found
