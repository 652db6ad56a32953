"""Intervals and tests of a mean over queries, where queries hang together and seeds vary.

What a figure would vary over, were the experiment made again, is not single queries: those of one
document or category win and lose together. So the mean's variance is taken over clusters of
queries, and over seeds where several were trained. One estimate gives the interval and the test, so
that p < 0.05 where, and only where, the 95% interval excludes 0.
"""

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import Any, NamedTuple, Self

import numpy as np

from ..data.domain import Domain, right_documents
from ..data.splits import connected
from .metrics import refused

LEVEL, POWER = 0.05, 0.80  # of a test, two-sided; and of what it is planned to see
ALONE, CLUSTERS = "queries", "clusters"  # in the attrs of a frame of scores
SPREAD = 0.20  # of differences between neighbouring recipes over queries: 0.17 to 0.22
WORTH = 0.02  # nDCG@10: a difference that would matter
FEWEST = 6  # clusters, below which nothing is claimed
_TIES = 0.3  # weight of what was not seen yet, where many values are equal; by simulation
_NORMAL, _MANY = 1.959964, 1e9  # its quantile of 0.975; degrees of freedom that count as endless
_EQUAL = 1e-12  # values no further apart are equal


@dataclass(frozen=True)
class Clusters:
    """What the queries of a split hang together by; ``score`` notes it in its frame's ``attrs``."""

    over: str = ALONE  # groups, documents or queries
    of: Mapping[str, int] = field(default_factory=dict)  # query → its cluster; none: each its own

    def codes(self, queries: Sequence[str]) -> Sequence[Hashable]:
        """The cluster of each query."""
        return [self.of[query] for query in queries] if self.of else list(queries)

    def __deepcopy__(self, memo: Any) -> Self:  # pandas copies attrs at every step
        return self


def clusters(domain: Domain, split: str) -> Clusters:
    """Queries that share a group (a category, a file) of right documents, directly or by others.

    Where the groups do not make ``FEWEST`` clusters (in effect: a large one counts for less), or
    there are none, queries that share a right document; else each query is by itself.
    """
    right = {q: list(right_documents(judged)) for q, judged in domain.split(split).items()}
    levels = {"groups": domain.groups, "documents": {}} if domain.groups else {"documents": {}}
    for over, groups in levels.items():
        parts = connected((q, [groups.get(d, d) for d in found]) for q, found in right.items())
        if len(right) ** 2 >= FEWEST * sum(len(part) ** 2 for part in parts):
            return Clusters(over, {q: number for number, part in enumerate(parts) for q in part})
    return Clusters()


class Estimate(NamedTuple):
    """A mean over queries, and what is known of it."""

    mean: float
    low: float  # the 95% interval
    high: float
    p: float  # two-sided, of a true mean of 0
    queries: int
    clusters: int  # that vary independently: at most one a query
    seeds: int  # 1: what is said holds for these weights, not for the method
    error: float  # standard error of the mean
    df: float  # degrees of freedom of the error
    effect: float  # design effect: by so much clusters widen the variance over queries
    seed_error: float  # the part of `error` that more queries do not lessen

    def within(self, least: float, most: float) -> tuple[float, float]:
        """The interval's ends, no further out than the mean can be."""
        return max(least, self.low), min(most, self.high)

    @property
    def visible(self) -> float:
        """The smallest true mean that a test like this sees in 80% of cases, at a level of 5%."""
        return visible(self.error, self.df)

    def planned(self, spread: float = SPREAD) -> float:
        """The smallest difference between two recipes that a test over these queries would see.

        Where the two are not there yet, ``spread`` is the standard deviation of their differences
        over queries, and the design effect is that of the values at hand.
        """
        return visible(spread * math.sqrt(self.effect / self.queries), self.df)

    def needed(self, difference: float) -> int | None:
        """Queries that show a mean of ``difference`` in 80% of cases; None: it takes more seeds.

        More queries are taken to come in clusters like those that are there (the design effect).
        """
        least = (difference / visible(1)) ** 2 - self.seed_error**2
        if least <= 0:
            return None
        return max(FEWEST, math.ceil(self.queries * (self.error**2 - self.seed_error**2) / least))


class PairedTest(NamedTuple):
    """A paired comparison of a with b: `delta` is the mean of a minus b over the queries."""

    delta: float
    ci_low: float
    ci_high: float
    p: float
    wins: int  # queries; with several seeds, by their mean over the seeds
    ties: int
    losses: int
    queries: int
    estimate: Estimate


def mean_interval(values: Any, clusters: Sequence[Hashable] | None = None) -> tuple[float, float]:
    """The 95% interval of a mean over queries, as `estimate` has it."""
    return estimate(values, clusters)[1:3]


def estimate(values: Any, clusters: Sequence[Hashable] | None = None) -> Estimate:
    """The mean over queries with its 95% interval and its test against 0, by Student's t.

    The variance over clusters is the bias-reduced linearisation of Bell and McCaffrey (CR2), with
    the degrees of freedom of Imbens and Kolesar; that over seeds is added to it, the degrees by
    Satterthwaite's approximation: seeds and clusters are crossed, as readers and cases are in
    radiology. Where many values are equal (queries on which nothing changed), the spread of what
    was not seen yet is allowed for; where all are, the rule of three is (95% of samples of n would
    show a value that has a share of 1 - 0.05^(1/n); it is taken to be 1 away).

    Args:
        values: (queries,), or (seeds, queries) for several runs of one recipe.
        clusters: (queries,) what each query belongs to; default: what the scores of a domain
            (a Series of `score` or of `Scores.values`) say, else each query by itself.

    Papers: Bell and McCaffrey, Bias reduction in standard errors for linear regression with
    multi-stage samples, 2002; Imbens and Kolesar, Robust standard errors in small samples: some
    practical advice, 2016; Satterthwaite, An approximate distribution of estimates of variance
    components, 1946; Hillis, Berbaum and Metz, Recent developments in the
    Dorfman-Berbaum-Metz procedure for multireader ROC study analysis, 2008.
    """
    table, _ = _read(values)
    return _estimate(table.mean(axis=0), [table], _codes(values, clusters, table.shape[1]))


def paired_test(a: Any, b: Any, clusters: Sequence[Hashable] | None = None) -> PairedTest:
    """Test whether the mean of a differs from that of b over the same queries.

    Args:
        a: values of the approach: a Series or a dict by query id, or an array (queries,) or
            (seeds, queries).
        b: values of the baseline, over the same queries; matched by id where both have ids. As
            many seeds as a has are taken in pairs, another number for itself.
        clusters: (queries,) in a's order, as in `estimate`.
    """
    (left, ids_a), (right, ids_b) = _read(a), _read(b)
    queries = left.shape[1]
    what, alike = "values", queries == right.shape[1]
    if ids_a is not None and ids_b is not None:
        places = {query: place for place, query in enumerate(ids_b)}
        what, alike = "queries", alike and len(places) == len(ids_b) and places.keys() == set(ids_a)
        right = right[:, [places[query] for query in ids_a]] if alike else right
    if not alike:
        raise refused("not paired", n=queries, what=what, m=right.shape[1])
    change = left.mean(axis=0) - right.mean(axis=0)  # (queries,)
    paired = len(left) == len(right) or 1 in (len(left), len(right))
    tables = [left - right] if paired else [left, right]
    found = _estimate(change, tables, _codes(a, clusters, queries))
    wins, ties, losses = (int((np.sign(change) == sign).sum()) for sign in (1, 0, -1))
    return PairedTest(*found[:4], wins, ties, losses, queries, found)


def holm(values: Sequence[float]) -> list[float]:
    """p values of one family, corrected for their number, in the same order, 1 at most.

    The k-th smallest of m is taken times m + 1 - k, and they never fall.

    Paper: Holm, A simple sequentially rejective multiple test procedure, 1979.
    """
    p = np.array(values, dtype=float)
    order = np.argsort(p, kind="stable")
    adjusted = np.maximum.accumulate(np.arange(len(p), 0, -1) * p[order])
    p[order] = np.minimum(adjusted, 1.0)
    return p.tolist()


def visible(error: float, df: float = _MANY) -> float:
    """The true mean that a test sees in ``POWER`` of cases, by its standard error."""
    from scipy.special import stdtrit

    return error * float(sum(stdtrit(df, [1 - LEVEL / 2, POWER])))


def queries_needed(sd: float, difference: float = 0.02, effect: float = 1.0) -> int:
    """Queries that a paired test needs to see a difference, at a level of 5% and a power of 80%.

    n = effect · ((z₀.₉₇₅ + z₀.₈₀) · sd / difference)², which is effect · 7.85 · (sd / difference)²,
    rounded up; sd is the standard deviation, over queries, of the paired differences, ``effect``
    the design effect of their clusters (`Estimate.effect`).
    """
    return max(2, math.ceil(effect * (visible(sd) / difference) ** 2))


def _estimate(each: np.ndarray, tables: Sequence[np.ndarray], codes: np.ndarray) -> Estimate:
    """``each``: (queries,) means over the seeds; ``tables``: (seeds, queries), varied apart."""
    from scipy.special import stdtr, stdtrit

    mean, clusters = fmean(each.tolist()), int(codes.max()) + 1
    variance, df = _over_clusters(each - mean, codes) if clusters > 1 else (0.0, _MANY)
    if variance < _EQUAL**2:  # all values are equal, or there is one cluster: the rule of three
        variance, df = ((1 - LEVEL ** (1 / clusters)) / _NORMAL) ** 2, _MANY
    parts = [(variance, df)]
    parts += [
        (float(table.mean(axis=1).var(ddof=1)) / len(table), len(table) - 1)  # queries held fixed
        for table in tables
        if len(table) > 1
    ]
    total = sum(part for part, _ in parts)
    df = min(_MANY, total**2 / sum(part**2 / own for part, own in parts))
    error = math.sqrt(total)
    width = float(stdtrit(df, 1 - LEVEL / 2)) * error
    alone = float(each.var(ddof=1)) / len(each) if len(each) > 1 else 0.0
    return Estimate(
        mean=mean,
        low=mean - width,
        high=mean + width,
        p=float(2 * stdtr(df, -abs(mean) / error)),
        queries=len(each),
        clusters=clusters,
        seeds=max(map(len, tables)),
        error=error,
        df=df,
        effect=max(1.0, variance / alone) if alone > _EQUAL**2 else 1.0,
        seed_error=math.sqrt(total - variance),
    )


def _over_clusters(centred: np.ndarray, codes: np.ndarray) -> tuple[float, float]:
    """Variance of the mean over two clusters or more, and its degrees of freedom."""
    sizes, sums = np.bincount(codes), np.bincount(codes, centred)  # (clusters,)
    shares = sizes / len(codes)
    variance = float((sums**2 / (1 - shares)).sum()) / len(codes) ** 2 + _unseen(sums / sizes)
    # how alike the queries of a cluster are, by how much wider the clusters make the variance
    alone, mean_size = float(centred @ centred) / len(codes) ** 2, float(shares @ sizes)
    alike = (variance / alone - 1) / (mean_size - 1) if alone > 0 and mean_size > 1 else 0.0
    return variance, _degrees(shares, shares * (1 + (sizes - 1) * min(1.0, max(0.0, alike))))


def _degrees(shares: np.ndarray, spread: np.ndarray) -> float:
    """Degrees of freedom where the clusters' sums have variances ``spread``: tr(M)² / tr(M²).

    M = diag(p) - x y' - y x' + s y y' is the covariance of the scaled sums of residuals.
    """
    scale, s = 1 / np.sqrt(1 - shares), float(spread.sum())
    x, y, p = scale * spread, scale * shares, scale**2 * spread  # (clusters,)
    xx, xy, yy = float(x @ x), float(x @ y), float(y @ y)
    trace = float(p.sum()) - 2 * xy + s * yy
    square = float(p @ p - 4 * (p * x) @ y + 2 * s * (p * y) @ y)
    return trace**2 / (square + 2 * (xy**2 + xx * yy) + s**2 * yy**2 - 4 * s * xy * yy)


def _unseen(means: np.ndarray) -> float:
    """What values that are rare among many equal ones add to the variance of a mean."""
    near, counts = np.unique(means.round(12), return_counts=True)
    most, n = int(counts.max()), len(means)
    if most in (1, n):
        return 0.0
    others = means[np.abs(means - near[counts.argmax()]) > _EQUAL]
    apart = float(((others - near[counts.argmax()]) ** 2).mean())
    return _TIES * most / n * apart / (n * (n - 1))


def _codes(values: Any, clusters: Sequence[Hashable] | None, queries: int) -> np.ndarray:
    """(queries,) the clusters as numbers from 0."""
    if clusters is None:
        known = getattr(values, "attrs", {}).get(CLUSTERS)
        clusters = known.codes(values.index) if known else range(queries)
    if len(clusters) != queries:
        raise refused("clusters", n=len(clusters), queries=queries)
    first: dict[Hashable, int] = {}
    return np.array([first.setdefault(cluster, len(first)) for cluster in clusters])


def _read(values: Any) -> tuple[np.ndarray, list[Any] | None]:
    """The values as floats, (seeds, queries); the queries' ids, where there are some."""
    ids = list(values.index) if hasattr(values, "iloc") else None
    if isinstance(values, Mapping):
        ids, values = list(values), list(values.values())
    table = np.atleast_2d(np.asarray(values, dtype=np.float64))
    if table.ndim != 2 or not table.size or not np.isfinite(table).all():
        raise refused("values", shape=table.shape, odd=" with NaN or infinity" * bool(table.size))
    return table, ids
