"""Advice on simulated worlds: how often it sees a gain where there is none, and where there is."""

import dataclasses
from collections import Counter

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from embkit.advice.advise import BOTH, WORTH, decide, needed, winners
from embkit.advice.curves import HEAD_START, Curve
from embkit.advice.evidence import HYBRID, Evidence, Trial, cross_fitted
from embkit.evaluation.intervals import CLUSTERS, LEVEL, Clusters, estimate, queries_needed
from embkit.evaluation.verdict import FINE_TUNE, SWITCH

SD, ALIKE, SEED = 0.2, 0.3, 0.005  # of changes over queries, within clusters of 3, over seeds
SIZES = (500, 1000, 2000)


def world(n, gain=0.0, better=0.0, seed=0):
    """Evidence of n dev queries, where 2,000 pairs gain so much, and another model so much."""
    rng = np.random.default_rng([n, seed])
    ids, codes = [f"q{i}" for i in range(n)], rng.integers(0, max(6, n // 3), n)
    together = Clusters("groups", dict(zip(ids, codes.tolist(), strict=True)))

    def alike():
        """Of variance 1, alike within a cluster."""
        own, shared = rng.normal(size=n), rng.normal(size=n)[codes]
        return ALIKE**0.5 * shared + (1 - ALIKE) ** 0.5 * own

    def change():
        """What differs by query: nothing for a third of them."""
        return SD * alike() * (rng.random(n) < 2 / 3) / (2 / 3) ** 0.5

    def series(values):
        found = pd.Series(values, ids)
        found.attrs[CLUSTERS] = together
        return found

    start, common = np.clip(0.45 + 0.3 * alike(), 0, 1), change()

    def run(pairs, mean=gain):
        far = np.log1p(pairs / HEAD_START) / np.log1p(SIZES[-1] / HEAD_START)  # by the law
        moved = 0.8**0.5 * common + 0.2**0.5 * change()  # all training moves the same queries
        return series(start + far * (mean + moved) + rng.normal(0, SEED))

    base, runs = series(start), {pairs: run(pairs) for pairs in SIZES}
    others = {
        "other, untrained": series(start + better + change()),
        HYBRID: series(start + change()),
    }
    named = {"contrastive": runs[SIZES[-1]], "hard negatives": run(2000), "corpus": run(2000)}
    beside = others | {"contrastive": runs[SIZES[-1]]}
    trials = {k: Trial.of(v, base, beside, pairs=2000) for k, v in named.items()}
    seen = estimate(base)
    points = {pairs: float(np.clip(values.mean(), 0, 1)) for pairs, values in runs.items()}
    return Evidence(
        domain="made",
        model="minilm",
        pairs=3700,
        dev_queries=n,
        test_queries=n,
        documents=7000,
        searched=7000,
        base=seen.mean,
        base_ci=seen[1:3],
        bm25=0.3,
        visible=seen.planned(),
        effect=seen.effect,
        alternatives={k: Trial.of(v, base) for k, v in others.items()},
        trials=trials,
        curve=Curve(seen.mean, points, trials["contrastive"].test.error),
    )


def old(e):
    """The rule of before: p times the number of trials, or the curve alone above the start."""
    best = max(e.trials.values(), key=lambda trial: trial.test.mean).test
    curve = dataclasses.replace(e.curve, error=0.0)
    middle, low = curve.at(e.pairs), curve.interval(e.pairs)[0]
    p = 2 * stats.norm.sf(abs(best.mean) / best.error * best.effect**0.5)  # over queries alone
    seen = best.mean >= WORTH and p * len(e.trials) < LEVEL
    return seen or (low > e.base and middle - e.base >= WORTH)


def shares(n, worlds, **truth):
    """How often each decision is taken, and how often the old rule said fine-tune."""
    found = [world(n, seed=seed, **truth) for seed in range(worlds)]
    decisions = Counter(decide(e).decision for e in found)
    return {k: v / worlds for k, v in decisions.items()}, np.mean([*map(old, found)])


def test_without_an_effect_it_says_fine_tune_in_five_percent_of_worlds_at_most():
    found = [shares(n, 150) for n in (50, 100, 300, 1000)]
    wrong = [decisions.get(FINE_TUNE, 0.0) for decisions, _ in found]
    assert np.mean(wrong) <= 0.05 and max(wrong) <= 0.1
    others = [decisions.get(SWITCH, 0) + decisions.get(BOTH, 0) for decisions, _ in found]
    assert np.mean(others) <= 0.05
    assert np.mean([before for _, before in found[:2]]) >= 0.08, "what the old rule did"


def test_a_gain_is_seen_where_there_are_as_many_queries_as_it_asks_for():
    n = queries_needed(SD, WORTH, 1.6)  # the design effect of clusters of 3 that are this alike
    decisions, _ = shares(n, 30, gain=0.03)
    assert decisions[FINE_TUNE] >= 0.8
    e = world(n, gain=0.03)
    assert needed(e) == pytest.approx(n, rel=0.2) and e.visible == pytest.approx(WORTH, rel=0.1)


def test_what_needs_no_training_is_taken_where_it_is_as_good():
    decisions, _ = shares(1000, 30, better=0.04)
    assert decisions[SWITCH] >= 0.8
    decisions, _ = shares(1000, 30, gain=0.08, better=0.03)
    assert decisions[FINE_TUNE] >= 0.8, "small runs beat it"


def test_the_curves_interval_allows_for_devs_sampling():
    found = [world(60, seed=seed) for seed in range(100)]
    alone = [dataclasses.replace(e.curve, error=0.0) for e in found]
    # without an effect the general model's own is what other queries would show
    held = [
        [low <= e.base <= high for e, (low, high) in zip(found, of, strict=True)]
        for of in ([e.curve.interval(e.pairs) for e in found], [c.interval(3700) for c in alone])
    ]
    assert np.mean(held[0]) >= 0.95 > np.mean(held[1])


def test_uncorrected_tests_would_find_something_too_often():
    """Ten alternatives without an effect, and the best of them."""
    rng = np.random.default_rng(0)
    wrong, plain = 0, 0
    for _ in range(200):
        tests = {str(k): estimate(rng.normal(0, SD, 60)) for k in range(10)}
        wrong += bool(winners(tests))
        plain += any(test.p < LEVEL and test.mean >= WORTH for test in tests.values())
    assert wrong / 200 <= 0.05 < 0.15 < plain / 200


def test_a_weight_is_chosen_on_the_other_half_of_the_clusters():
    rng = np.random.default_rng(1)
    gains, naive = [], []
    for _ in range(100):
        ids, codes = [f"q{i}" for i in range(60)], rng.integers(0, 20, 60)
        together = Clusters("groups", dict(zip(ids, codes.tolist(), strict=True)))
        tried = {w: pd.Series(rng.normal(0, SD, 60), ids) for w in (0.5, 0.75, 0.25, 1.0, 0.0)}
        for series in tried.values():
            series.attrs[CLUSTERS] = together
        found = cross_fitted(tried)
        gains.append(found.mean())
        naive.append(max(series.mean() for series in tried.values()))
        choice = pd.DataFrame({w: series == found for w, series in tried.items()}).idxmax(axis=1)
        assert choice.nunique() <= 2 and found.attrs[CLUSTERS] is together
        assert (choice.groupby(codes).nunique() == 1).all(), "a cluster is on one side"
    assert abs(np.mean(gains)) < 0.01 < 0.02 < np.mean(naive)
    one = tried[0.5].copy()
    one.attrs[CLUSTERS] = Clusters("groups", dict.fromkeys(ids, 0))
    assert len(cross_fitted({0.5: one, 1.0: one + 0.1})) == 60, "one cluster has no other half"
