"""Intervals and tests: against textbooks, other libraries, and worlds whose truth is known."""

import dataclasses
import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from embkit.errors import EmbkitError
from embkit.evaluation.intervals import (
    CLUSTERS,
    Clusters,
    clusters,
    estimate,
    mean_interval,
    paired_test,
    queries_needed,
)

from .simulate import coverage, false_positives

TIMES = 1000  # worlds; 5% of them is 50, with a standard error of 7


# Against textbooks


@pytest.mark.parametrize("n", [3, 12, 400])
def test_without_clusters_it_is_the_t_test(n):
    values = np.random.default_rng(n).normal(0.05, 0.2, n)
    theirs = stats.ttest_1samp(values, 0)
    found = estimate(values)
    assert found.p == pytest.approx(theirs.pvalue)
    assert [found.low, found.high] == pytest.approx([*theirs.confidence_interval()])
    assert (found.clusters, found.seeds, found.df) == (n, 1, pytest.approx(n - 1))
    assert mean_interval(values) == (found.low, found.high)


def test_clusters_of_one_size_are_a_t_test_of_their_means():
    rng = np.random.default_rng(0)
    values = rng.normal(0.02, 0.2, 60) + np.repeat(rng.normal(0, 0.2, 12), 5)
    codes = np.repeat(np.arange(12), 5)
    theirs = stats.ttest_1samp(values.reshape(12, 5).mean(1), 0)
    found = estimate(values, list(codes))
    assert (found.p, found.clusters) == (pytest.approx(theirs.pvalue), 12)
    assert found.df == pytest.approx(11)
    order = rng.permutation(60)  # what a cluster is called and where it stands does not matter
    assert estimate(values[order], [f"c{c}" for c in codes[order]])[:4] == pytest.approx(found[:4])


def test_clusters_of_other_sizes_by_the_matrices_themselves():
    """CR2 and its degrees of freedom, as Bell and McCaffrey, Imbens and Kolesar write them."""
    rng = np.random.default_rng(3)
    codes = np.repeat(np.arange(8), [1, 2, 2, 3, 5, 8, 13, 4])
    values, n = rng.normal(0, 1, len(codes)) + rng.normal(0, 1, 8)[codes], len(codes)
    inside = codes[:, None] == codes[None]
    annihilator = np.eye(n) - 1 / n
    variance, rows = 0.0, []
    for cluster in range(8):
        at = codes == cluster
        own = annihilator[np.ix_(at, at)]
        roots, basis = np.linalg.eigh(own)
        half = basis @ np.diag(roots**-0.5) @ basis.T
        variance += (half @ (values - values.mean())[at]).sum() ** 2 / n**2
        rows.append(annihilator[at].T @ half @ np.ones(at.sum()) / n)
    found = estimate(values, list(codes))
    assert found.error**2 == pytest.approx(variance)
    size = (np.bincount(codes) ** 2).sum() / n
    alike = (found.effect * n / (n - 1) - 1) / (size - 1)  # effect is against n - 1
    model = np.where(inside, min(1, max(0, alike)), 0) + np.eye(n) * (1 - min(1, max(0, alike)))
    made = np.array(rows) @ model @ np.array(rows).T
    assert found.df == pytest.approx(np.trace(made) ** 2 / np.trace(made @ made))


def test_seeds_add_what_their_means_vary_by():
    rng = np.random.default_rng(1)
    table = rng.normal(0, 0.1, (3, 4000)) + np.array([[-0.03], [0.0], [0.03]])
    found = estimate(table)
    by_seed = table.mean(1).std(ddof=1) / math.sqrt(3)
    assert found.seed_error == pytest.approx(by_seed) and found.seeds == 3
    assert 2 < found.df < 2.1, "the seeds decide, and there are three"
    theirs = stats.ttest_1samp(table.mean(1), 0)
    assert found.high - found.low == pytest.approx(
        np.diff([*theirs.confidence_interval()])[0], rel=0.05
    )
    assert found.needed(0.02) is None, "no number of queries makes up for three seeds"


def test_seeds_are_taken_in_pairs_or_each_side_for_itself():
    rng = np.random.default_rng(2)
    shift = rng.normal(0, 0.1, (3, 1))
    a = rng.normal(0.5, 0.01, (3, 50)) + shift
    b = rng.normal(0.5, 0.01, (3, 50)) + shift
    assert paired_test(a, b).estimate.seed_error < 0.01 < paired_test(a, b[:2]).estimate.seed_error
    alone = paired_test(a, b[0]).estimate.seed_error
    assert alone == pytest.approx(float(shift.std(ddof=1)) / 3**0.5, rel=0.2)


# Small and odd samples


def test_values_that_are_all_equal_give_the_rule_of_three():
    assert mean_interval([0.7] * 50) == pytest.approx((0.7 - 0.0582, 0.7 + 0.0582), abs=1e-4)
    assert 1 - (1 - 0.0582) ** 50 == pytest.approx(0.95, abs=1e-3)
    one = estimate([0.3])
    assert (one.low, one.high) == pytest.approx((0.3 - 0.95, 0.3 + 0.95))
    together = estimate([0.1, 0.4, 0.9], ["a", "a", "a"])
    assert together.clusters == 1 and together.high - together.low == pytest.approx(1.9)
    same = paired_test(np.ones(500), np.ones(500))
    assert (same.delta, same.p, same.ties) == (0, 1, 500) and same.ci_low < 0 < same.ci_high


def test_a_p_below_5_percent_is_an_interval_without_0():
    rng = np.random.default_rng(4)
    for _ in range(300):
        n = rng.integers(2, 40)
        values = rng.normal(0.3, 0.4, n).round(1) * (rng.random(n) < 0.6)
        found = estimate(values, list(rng.integers(0, 9, n)))
        assert (found.p < 0.05) == (not found.low <= 0 <= found.high)


@pytest.mark.parametrize("values", [[], [math.nan], [[[0.1]]], [math.inf]])
def test_bad_samples(values):
    with pytest.raises(EmbkitError, match="shape"):
        mean_interval(values)
    with pytest.raises(EmbkitError, match="2 clusters for 3"):
        estimate([1, 2, 3], ["a", "b"])


def test_queries_are_matched_by_id():
    a = pd.Series({"p": 0.9, "q": 0.1, "r": 0.5})
    assert paired_test(a, a.iloc[::-1]).ties == 3
    assert paired_test({"p": 1.0, "q": 0.0}, {"q": 0.0, "p": 0.5})[4:8] == (1, 1, 0, 2)
    for other in (a.rename({"r": "s"}), a.iloc[:2], pd.Series([0.1] * 3, index=["p", "p", "q"])):
        with pytest.raises(EmbkitError, match="same queries"):
            paired_test(a, other)
    with pytest.raises(EmbkitError, match="3 values against 2"):
        paired_test([1, 2, 3], [1, 2])


def test_a_frame_brings_its_clusters_along():
    frame = pd.DataFrame({"m": np.random.default_rng(5).random(9)}, index=list("abcdefghi"))
    frame.attrs[CLUSTERS] = Clusters("groups", {q: i // 3 for i, q in enumerate(frame.index)})
    found = estimate(frame["m"])
    assert found.clusters == 3
    assert estimate((frame["m"] - 0.1).iloc[::-1]).error == pytest.approx(found.error)
    assert paired_test(frame["m"], frame["m"] / 2).estimate.clusters == 3
    assert estimate(frame["m"], list(range(9))).clusters == 9


# Power


def test_what_a_test_could_see_it_sees_in_80_percent():
    rng, n, seen = np.random.default_rng(6), 60, 0
    least = estimate(rng.normal(0, 0.2, 100_000)).planned(0.2) * (100_000 / n) ** 0.5
    for _ in range(TIMES):
        seen += estimate(rng.normal(least, 0.2, n)).p < 0.05
    assert 0.76 < seen / TIMES < 0.84


@pytest.mark.parametrize("sd, difference", [(0.2, 0.02), (0.35, 0.02), (0.1, 0.05)])
def test_so_many_queries_give_a_power_of_80_percent(sd, difference):
    n = queries_needed(sd, difference)

    def power(n):
        away = difference * math.sqrt(n) / sd
        z = stats.norm.ppf(0.975)
        return stats.norm.sf(z - away) + stats.norm.cdf(-z - away)

    assert power(n) >= 0.80 > power(n - 1)
    assert queries_needed(0.0) == 2
    assert queries_needed(sd, difference, effect=3) == pytest.approx(3 * n, abs=3)


def test_clusters_ask_for_more_queries():
    values = np.repeat(np.random.default_rng(7).normal(0, 0.2, 40), 10)
    alone, together = estimate(values), estimate(values, list(np.repeat(np.arange(40), 10)))
    assert alone.effect == pytest.approx(1, abs=1e-3)
    assert together.effect == pytest.approx(10, rel=0.05)
    assert together.needed(0.02) == pytest.approx(10.23 * alone.needed(0.02), rel=0.01)
    assert alone.needed(0.02) == pytest.approx(queries_needed(values.std()), rel=0.01)


# What hangs together


def test_queries_hang_together_by_group_or_by_document(tiny_domain):
    split = tiny_domain.test_splits[0]
    found = clusters(dataclasses.replace(tiny_domain, groups={}, held_out=None), split)
    assert found.over in ("documents", "queries")


def made(tiny_domain, queries, groups):
    """A domain whose test asks for one document a query, as given."""
    corpus = {d: f"document {d}" for d in {*queries.values(), "x", "y"}}
    asked = {q: f"query {q}" for q in [*queries, "t", "v"]}
    qrels = {"train": {"t": {"x": 1}}, "dev": {"v": {"y": 1}}}
    return dataclasses.replace(
        tiny_domain,
        corpus=corpus,
        queries=asked,
        qrels=qrels | {"test": {q: {d: 1} for q, d in queries.items()}},
        test_splits=("test",),
        groups=groups,
        held_out=None,
        parents={},
        negatives={},
        searched={},
    )


def test_the_coarsest_level_with_enough_clusters_is_taken(tiny_domain):
    queries = {f"q{i}": f"d{i // 2}" for i in range(24)}  # 12 documents, two queries each
    eight = {f"d{i}": f"g{i % 8}" for i in range(12)}
    found = clusters(made(tiny_domain, queries, eight), "test")
    assert found.over == "groups" and len(set(found.of.values())) == 8
    assert found.of["q0"] == found.of["q1"] == found.of["q16"] != found.of["q2"]
    few = {f"d{i}": f"g{i % 2}" for i in range(12)}  # two groups: nothing can be said over them
    found = clusters(made(tiny_domain, queries, few), "test")
    assert found.over == "documents" and len(set(found.of.values())) == 12
    one = dict.fromkeys(queries, "d0")  # one document: each query is by itself
    assert clusters(made(tiny_domain, one, {}), "test") == Clusters()


# Worlds whose truth is known; ``python -m tests.evaluation.simulate`` runs more of them


@pytest.mark.parametrize("split, over", [("novel", "groups"), ("lay", "documents")])
@pytest.mark.parametrize("seeds", [1, 3])
def test_without_an_effect_one_test_in_twenty_is_wrong(split, over, seeds):
    assert 0.03 <= false_positives(split, seeds, TIMES, over=over) <= 0.07
    naive = false_positives(split, seeds, TIMES, over=over, naive=True)
    assert naive > (0.2 if over == "groups" else 0.055), "as tests over queries alone were"


@pytest.mark.parametrize("queries", [5, 20, 200, 5000])
def test_an_interval_holds_the_truth_as_often_as_it_says(queries):
    most = 0.98 if queries > 5 else 1  # five values, most of them equal: the interval is wide
    assert 0.925 <= coverage(queries, TIMES) <= most
