"""The end of ``make run``: twenty lines, each figure as the scores have it."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from embkit.evaluation.metrics import METRICS
from embkit.evaluation.report import compare
from embkit.evaluation.scores import Scores
from notebooks.tools.ending import ending

RNG = np.random.default_rng(0)
BASE = RNG.uniform(0.2, 0.6, 60)


def scores(approach, gain, dev, trained=True, **meta):
    queries = pd.Index([f"q{n}" for n in range(60)], name="query_id", dtype=object)
    values = np.clip(BASE + gain + RNG.normal(0, 0.02, 60), 0, 1)
    frame = pd.DataFrame({name: values for name in METRICS}, index=queries, dtype=float)
    given = {"approach": approach, "domain": "tiny", "domain_hash": "0123456789abcdef"}
    given |= {"base_model": "minilm", "recipe_hash": f"{approach}" if trained else None}
    given |= {"per_query": {"known": frame, "novel": frame.copy()}, "dev": {"d": dev}}
    meta |= {"trainable_params": 22_600_000 if trained else 0}
    return Scores(**given, meta=meta | ({"train_seconds": 90.0} if trained else {}))


@pytest.fixture
def tried():
    made = [scores("base", 0, 0.4, False), scores("bm25", -0.1, 0.3, False)]
    made += [scores("hybrid", 0.05, 0.45, False)]
    return made + [scores(f"approach {n}", 0.01 * n, 0.4 + 0.003 * n) for n in range(40)]


def told(report):
    return ending(report, Path("runs/course/index.html"), Path("runs/report.html"), 600)


def test_it_fits_twenty_lines_of_100_columns(tried):
    lines = told(compare(tried, asked=())).splitlines()
    assert len(lines) <= 20 and max(map(len, lines)) <= 100
    assert lines[-2].endswith("runs/report.html") and lines[-1].endswith("runs/course/index.html")


def test_its_figures_are_those_of_the_scores(tried):
    text = told(compare(tried, asked=()))
    by = {one.approach: one for one in tried}
    best = by["approach 39"]
    assert "43 approaches: 3 without training, 40 trained" in " ".join(text.split())
    assert "60 min of training in all; the notebooks took 10 min" in " ".join(text.split())
    assert "best on dev: approach 39 (nDCG@10 0.517 on dev)" in " ".join(text.split())
    assert "hybrid (nDCG@10 0.450 on dev)" in text
    (row,) = [line for line in text.splitlines() if line.startswith("known")]
    assert f"60       {best.mean('known'):.3f} [" in row
    for rival in ("base", "hybrid"):
        test = best.test(by[rival], "known")
        assert f"{test.delta:+.3f} [{test.ci_low:+.3f}, {test.ci_high:+.3f}]" in row
    assert "verdict:" in text


def test_a_best_on_the_tests_is_not_taken_for_it(tried):
    lucky = scores("lucky on the tests", 0.5, 0.1)
    assert "lucky" not in told(compare([*tried, lucky], asked=()))


def test_what_is_merged_of_trained_models_is_not_taken_for_free(tried):
    merged = scores("merged", 0.3, 0.9, trained=False)
    merged.meta.clear()
    text = told(compare([*tried, merged], asked=()))
    assert "best on dev: merged (nDCG@10 0.900 on dev)" in text
    assert "untrained:   hybrid" in text


def test_where_the_base_is_the_best_untrained_one_column_is_enough(tried):
    text = told(compare([*tried[:2], *tried[3:]], asked=()))  # without the hybrid
    assert "untrained:   base (nDCG@10 0.400 on dev)" in text
    assert "against base" in text and "against untrained" not in text


def test_many_splits_leave_the_verdict_less_room(tried):
    frame = tried[0].per_query["known"]
    per_query = {f"split {n}": frame.copy() for n in range(7)}
    many = [Scores(**{**vars(one), "per_query": per_query}) for one in tried[:6]]
    assert len(told(compare(many, asked=())).splitlines()) <= 20


def test_nothing_trained_or_no_dev_is_no_reason_to_fail(tried):
    text = told(compare(tried[:2], asked=()))
    assert "2 approaches: 2 without training, 0 trained" in " ".join(text.split())
    assert "nothing to compare" in text
    bare = [Scores(**{**vars(one), "dev": {}}) for one in tried[:4]]
    assert "verdict:" in told(compare(bare, asked=()))
