"""Measures of an embedding space: each takes vectors or neighbours and says one thing of them.

Vectors are unit rows, shape (texts, dim), as ``ek.encode`` makes them. All are exact, but for
``uniformity`` and ``trustworthiness``, which look at a seeded sample of a large corpus.
"""

import numpy as np
from scipy.stats import entropy, skew

from ..errors import refusals
from ..models.encoding import Vectors
from ..search.index import exact_search

refused = refusals(__file__)
SAMPLE = 2000  # texts of which every pair is looked at


def alignment(queries: Vectors, documents: Vectors) -> float:
    """How far queries lie from their right documents: the mean of ``|q - d|²``; 0 is best.

    Both have shape (pairs, dim).
    Wang and Isola 2020, https://arxiv.org/abs/2005.10242
    """
    return float(((queries - documents) ** 2).sum(axis=1).mean())


def uniformity(vectors: Vectors) -> float:
    """How evenly texts spread over the sphere: ``log mean exp(-2 |x - y|²)``; lower is more even.

    0 where all are one point; about -4 at best in many dimensions.
    Wang and Isola 2020, https://arxiv.org/abs/2005.10242
    """
    from sklearn.metrics.pairwise import euclidean_distances

    apart = euclidean_distances(vectors[_sample(len(vectors))], squared=True)
    return float(np.log(np.exp(-2 * apart[np.triu_indices(len(apart), 1)]).mean()))


def anisotropy(vectors: Vectors) -> float:
    """The mean cosine of two different texts: 0 in every direction alike, 1 all in one.

    ``(|Σ x|² - n) / (n (n - 1))``, which is the mean over all pairs without making them.
    Ethayarajh 2019, https://arxiv.org/abs/1909.00512
    """
    n, total = len(vectors), vectors.sum(axis=0, dtype=float)
    return float((total @ total - (vectors.astype(float) ** 2).sum()) / (n * (n - 1)))


def effective_rank(vectors: Vectors) -> float:
    """How many directions the space uses: ``exp(H)``, H the entropy of ``σ_i / Σ σ``.

    d equal singular values give d, one alone gives 1.
    Roy and Vetterli 2007, https://www.eurasip.org/Proceedings/Eusipco/Eusipco2007/Papers/a5p-h05.pdf
    """
    rows = vectors.astype(float)
    squares = np.linalg.eigvalsh(rows.T @ rows)  # of the singular values
    return float(np.exp(entropy(np.sqrt(np.maximum(squares, 0)))))


def neighbours(vectors: Vectors, k: int = 15) -> np.ndarray:
    """The k nearest other texts of each text by cosine, nearest first, shape (texts, k)."""
    checked_k(k, len(vectors), len(vectors) - 1)
    return nearest_others(vectors, vectors, k)[0]


def nearest_others(texts: Vectors, vectors: Vectors, k: int) -> tuple[np.ndarray, np.ndarray]:
    """The k nearest vectors of all texts but its own, and their cosines, shape (texts, k) each."""
    found, cosines = exact_search(texts, vectors, k + 1)
    own = found == np.arange(len(found))[:, None]
    own[~own.any(axis=1), -1] = True  # a text that is not in its own list: the last goes
    shape = (len(found), found.shape[1] - 1)
    return found[~own].reshape(shape), cosines[~own].reshape(shape)


def neighbour_overlap(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """How much of each text's neighbourhood stayed: Jaccard of two sets of k, shape (texts,).

    ``|A ∩ B| / |A ∪ B|``: 1 the same k neighbours, 0 none of them.
    """
    both = (before[:, :, None] == after[:, None, :]).any(axis=2).sum(axis=1)
    return both / (2 * before.shape[1] - both)


def occurrences(found: np.ndarray) -> np.ndarray:
    """How many texts have each text among their neighbours (N_k), shape (texts,)."""
    return np.bincount(found.ravel(), minlength=len(found))


def hubness(found: np.ndarray) -> float:
    """Whether a few texts are everybody's neighbours: the skewness of N_k; 0 is even.

    Hubs crowd right answers out of many queries' lists.
    Radovanović, Nanopoulos and Ivanović 2010, https://jmlr.org/papers/v11/radovanovic10a.html
    """
    counts = occurrences(found)
    return float(skew(counts)) if np.ptp(counts) else 0.0


def trustworthiness(vectors: Vectors, places: np.ndarray, k: int = 15) -> float:
    """Whether neighbours on a map, (texts, 2), are neighbours in the space: 1 all are, about 0.5 by
    chance. scikit-learn's takes n² of memory: of a sample, in which k falls as n does.

    Venna and Kaski 2001, https://doi.org/10.1007/3-540-44668-0_68
    """
    from sklearn.manifold import trustworthiness

    some = _sample(len(vectors))
    k = max(1, round(k * len(some) / len(vectors)))
    return float(trustworthiness(vectors[some], places[some], n_neighbors=k, metric="cosine"))


def modality_gap(texts: np.ndarray, pictures: np.ndarray) -> float:
    """The distance between the two clouds' centres, of unit vectors: 0 where they lie together
    (Liang et al. 2022, https://arxiv.org/abs/2203.02053)."""
    return float(np.linalg.norm(texts.mean(axis=0) - pictures.mean(axis=0)))


def checked_k(k: int, texts: int, most: int) -> None:
    """Fails where so many neighbours cannot be looked at."""
    if not 1 <= k <= most:
        raise refused("neighbours", k=k, texts=texts, most=most, fit=max(1, min(15, most)))


def _sample(total: int) -> np.ndarray:
    """Places of a seeded sample, in order; all of them where there are few."""
    return np.sort(np.random.default_rng(0).permutation(total)[:SAMPLE])
