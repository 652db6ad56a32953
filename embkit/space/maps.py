"""Maps of two dimensions, fitted once to two sets of vectors, and kept on disk."""

import hashlib
import json
import warnings
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import numpy as np

from ..errors import unknown
from ..models.encoding import Vectors, kept
from ..session import paths
from . import geometry

METHODS = ("umap", "pca")
TRUSTED = 15  # neighbours of a point on a map that trustworthiness looks at, whatever the map's k
FORM = 4  # one more whenever the same inputs give another map than before


@dataclass(frozen=True, eq=False, repr=False)
class Map:
    """Where every text lies on a map of two dimensions, before and after, shape (texts, 2) each."""

    method: str
    before: np.ndarray
    after: np.ndarray
    trust: tuple[float, float]  # trustworthiness of both, each against its own vectors

    def __repr__(self) -> str:
        before, after = self.trust
        trust = f"trustworthiness {before:.3f} before, {after:.3f} after"
        return f"Map({self.method!r}, {len(self.before):,} texts, {trust})"


def project(
    before: Vectors,
    after: Vectors,
    method: str = "umap",
    *,
    k: int = 15,
    min_dist: float = 0.1,
    seed: int = 0,
) -> Map:
    """One map of two sets of vectors, fitted to both together; read from disk the second time.

    UMAP gets exact neighbours: of each text, half among its own model's vectors and half among the
    other's (as in batch-balanced graphs), so that one model's texts do not drift off as an island.
    The same text there is left out: it would hold it in its place. UMAP starts from PCA.

    Args:
        before, after: unit vectors of the same texts, aligned, shape (texts, dim) each.
        k: neighbours that UMAP keeps together.
        min_dist: how close it may pack points.
        seed: of UMAP, which then runs on one thread.

    McInnes, Healy and Melville 2018, https://arxiv.org/abs/1802.03426; Polański et al. 2020, on
    balanced neighbours, https://doi.org/10.1093/bioinformatics/btz625
    """
    if method not in METHODS:
        raise unknown("method", method, METHODS)
    asked: dict[str, Any] = {"method": method, "form": FORM}
    if method == "umap":
        asked |= {"k": k, "min_dist": min_dist, "seed": seed, "version": version("umap-learn")}

    def fit() -> np.ndarray:
        """Both maps' places, one below the other, and the trustworthiness of both."""
        from sklearn.decomposition import PCA

        both = np.concatenate([before, after])
        points = PCA(2, svd_solver="covariance_eigh").fit_transform(both)
        if method == "umap":
            points = _umap(before, after, points, k, min_dist, seed)
        first, second = np.split(points, 2)
        near = min(TRUSTED, (len(before) - 1) // 2)
        sides = ((before, first), (after, second))
        trust = [geometry.trustworthiness(v, p, near) for v, p in sides]
        return np.concatenate([points, [trust]])

    digest = hashlib.sha256(json.dumps(asked, sort_keys=True).encode())
    for array in (before, after):
        digest.update(str((array.shape, array.dtype)).encode())
        digest.update(np.ascontiguousarray(array).data)
    where = paths().cache / "spaces" / f"maps-{digest.hexdigest()[:32]}.npy"
    found = kept(where, 2 * len(before) + 1, fit)
    first, second = np.split(found[:-1], 2)
    return Map(method, first, second, (float(found[-1, 0]), float(found[-1, 1])))


def _umap(
    before: Vectors, after: Vectors, start: np.ndarray, k: int, min_dist: float, seed: int
) -> np.ndarray:
    """UMAP of both sets on given neighbours, shape (2 texts, 2)."""
    n, cross = len(before), max(1, k // 2)
    own = np.arange(n)[:, None]
    lists, cosines = [], []
    # each text itself, then its neighbours among its own model's vectors and the other's
    for side, (mine, other) in enumerate(((before, after), (after, before))):
        same, near = geometry.nearest_others(mine, mine, k - cross)
        across, far = geometry.nearest_others(mine, other, cross)
        lists.append(np.hstack([own + side * n, same + side * n, across + (1 - side) * n]))
        cosines.append(np.hstack([np.ones((n, 1)), near, far]))
    found = np.concatenate(lists)
    distances = np.sqrt(np.maximum(2 - 2 * np.concatenate(cosines), 0)).astype(np.float32)
    order = np.argsort(distances, axis=1, kind="stable")
    found, distances = (np.take_along_axis(rows, order, axis=1) for rows in (found, distances))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that a seed means one thread, and such
        import umap

        model = umap.UMAP(
            n_neighbors=found.shape[1],
            min_dist=min_dist,
            init=start.astype(np.float32),
            precomputed_knn=(found, distances, None),
            force_approximation_algorithm=True,
            random_state=seed,
        )
        return np.asarray(model.fit_transform(start), np.float32)
