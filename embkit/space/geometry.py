"""Measures of an embedding space: each takes vectors or neighbours and says one thing of them.

Vectors are unit rows, shape (texts, dim), as ``ek.encode`` makes them. All are exact, but for
``uniformity`` and ``trustworthiness``, which look at a seeded sample of a large corpus. Arrays of
other shapes, or with too few rows, are an EmbkitError.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..errors import EmbkitError
from ..models.vectors import Vectors
from ..search.index import exact_search

MOST_PAIRED = 4000  # texts of which every pair is looked at
MOST_RANKED = 1000  # points whose neighbours on a map are ranked


def alignment(queries: Vectors, documents: Vectors) -> float:
    """How far queries lie from their right documents: the mean of ``|q - d|²``; 0 is best.

    Both have shape (pairs, dim).
    Wang and Isola 2020, https://arxiv.org/abs/2005.10242
    """
    _same_shape(queries, documents, "a right document for each query")
    return float(((queries - documents) ** 2).sum(axis=1).mean())


def uniformity(vectors: Vectors) -> float:
    """How evenly texts spread over the sphere: ``log mean exp(-2 |x - y|²)``; lower is more even.

    0 where all are one point; about -4 at best in many dimensions.
    Wang and Isola 2020, https://arxiv.org/abs/2005.10242
    """
    some = _some(vectors, 2)[_sample(len(vectors), MOST_PAIRED, 0)].astype(np.float32)
    close = np.exp(4.0 * (np.clip(some @ some.T, -1, 1) - 1.0))  # |x - y|² = 2 - 2 cos
    n = len(some)
    return float(np.log((close.sum(dtype=float) - np.trace(close)) / (n * (n - 1))))


def anisotropy(vectors: Vectors) -> float:
    """The mean cosine of two different texts: 0 in every direction alike, 1 all in one.

    ``(|Σ x|² - n) / (n (n - 1))``, which is the mean over all pairs without making them.
    Ethayarajh 2019, https://arxiv.org/abs/1909.00512
    """
    n = len(_some(vectors, 2))
    total = vectors.sum(axis=0, dtype=float)
    return float((total @ total - (vectors.astype(float) ** 2).sum()) / (n * (n - 1)))


def effective_rank(vectors: Vectors) -> float:
    """How many directions the space uses: ``exp(H)``, H the entropy of ``σ_i / Σ σ``.

    d equal singular values give d, one alone gives 1.
    Roy and Vetterli 2007, https://www.eurasip.org/Proceedings/Eusipco/Eusipco2007/Papers/a5p-h05.pdf
    """
    from scipy.stats import entropy

    rows = _some(vectors, 1).astype(float)
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
    Jaccard 1912, https://doi.org/10.1111/j.1469-8137.1912.tb05611.x
    """
    _same_shape(before, after, "the same texts and the same k")
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
    from scipy.stats import skew

    counts = occurrences(_some(found, 1))
    return float(skew(counts)) if np.ptp(counts) else 0.0


def separation(right: Any, wrong: Any) -> float:
    """How often a right document's similarity is above a wrong one's (the area under the ROC).

    Over all (right, wrong) pairs; a tie counts half. 0.5 says nothing is told apart, 1 all is.
    Mann and Whitney 1947, https://doi.org/10.1214/aoms/1177730491
    """
    from sklearn.metrics import roc_auc_score

    kinds = np.repeat([1, 0], [len(_some(right, 1)), len(_some(wrong, 1))])
    return float(roc_auc_score(kinds, np.concatenate([right, wrong])))


def rotation(moving: Vectors, fixed: Vectors) -> np.ndarray:
    """The rotation that brings one space closest to another: orthogonal Procrustes.

    R, shape (dim, dim), makes ``|moving R - fixed|`` smallest. Similarities within ``moving`` stay
    as they are, so it changes no ranking: only comparisons across spaces.
    Schönemann 1966, https://doi.org/10.1007/BF02289451; for embeddings Hamilton, Leskovec and
    Jurafsky 2016, https://arxiv.org/abs/1605.09096
    """
    from scipy.linalg import orthogonal_procrustes

    _same_shape(moving, fixed, "the same texts and dimensions")
    return orthogonal_procrustes(moving.astype(float), fixed.astype(float))[0]


def drift(before: Vectors, after: Vectors) -> np.ndarray:
    """How far each text moved: ``1 - cos(before, after)``, shape (texts,); 0 not at all.

    The two spaces must be aligned first (``rotation``), or a rotation of the whole space counts as
    movement.
    Hamilton, Leskovec and Jurafsky 2016, https://arxiv.org/abs/1605.09096
    """
    _same_shape(before, after, "the same texts and dimensions")
    return 1.0 - (before * after).sum(axis=1)


def trustworthiness(vectors: Vectors, places: np.ndarray, k: int = 15, seed: int = 0) -> float:
    """Whether neighbours on a map are neighbours in the space: 1 all are, about 0.5 by chance.

    ``1 - 2 / (n k (2N - 3k - 1)) Σ_i Σ_j max(0, r(i, j) - k)`` over the k map neighbours j of n
    points i (a sample of ``MOST_RANKED`` where there are more); r(i, j) is j's rank among the N
    texts by cosine from i. scikit-learn's takes N² of memory. ``places`` has shape (texts, 2).
    Venna and Kaski 2001, https://doi.org/10.1007/3-540-44668-0_68
    """
    _same_shape(vectors[:, :0], places[:, :0], "a place for each text")
    total = len(vectors)
    checked_k(k, total, (total - 1) // 2)
    chosen = _sample(total, MOST_RANKED, seed)
    penalty = 0
    for i, cosines in zip(chosen, vectors[chosen] @ vectors.T, strict=True):  # (texts,)
        on_map = ((places - places[i]) ** 2).sum(axis=1)
        on_map[i], cosines[i] = np.inf, -np.inf
        near = np.argpartition(on_map, k)[:k]
        ranks = 1 + np.searchsorted(np.sort(-cosines), -cosines[near], side="left")
        penalty += np.maximum(0, ranks - k).sum()
    return float(1 - 2 * penalty / (len(chosen) * k * (2 * total - 3 * k - 1)))


def modality_gap(texts: np.ndarray, pictures: np.ndarray) -> float:
    """The distance between the two clouds' centres, of unit vectors: 0 where they lie together
    (Liang et al. 2022, https://arxiv.org/abs/2203.02053)."""
    return float(np.linalg.norm(texts.mean(axis=0) - pictures.mean(axis=0)))


def checked_k(k: int, texts: int, most: int) -> None:
    """Fails where so many neighbours cannot be looked at."""
    if not 1 <= k <= most:
        raise EmbkitError(
            f"k={k} neighbours of {texts} texts",
            expected=f"k from 1 to {most}",
            hint=f"k={max(1, min(15, most))}, or more documents",
        )


def _sample(total: int, most: int, seed: int) -> np.ndarray:
    """Places of a seeded sample, in order; all of them where there are few."""
    if total <= most:
        return np.arange(total)
    return np.sort(np.random.default_rng(seed).choice(total, most, replace=False))


def _some(rows: Any, least: int) -> Any:
    if len(rows) < least:
        raise EmbkitError(
            f"{len(rows)} rows to measure",
            expected=f"{least} or more",
            hint="a domain with more documents, or another split",
        )
    return rows


def _same_shape(a: np.ndarray, b: np.ndarray, what: str) -> None:
    if a.shape != b.shape or not len(a):
        raise EmbkitError(
            f"arrays of shape {a.shape} and {b.shape}",
            expected=f"{what}, and at least one",
            hint="encode the same texts with both models",
        )
