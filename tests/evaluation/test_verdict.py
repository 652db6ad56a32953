"""The verdict: what it decides on figures made so that the answer is known."""

import json
import math

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from embkit.errors import EmbkitError
from embkit.evaluation.metrics import holm
from embkit.evaluation.scores import Scores, compare
from embkit.evaluation.verdict import WORTH, queries_needed, verdict


def scores(approach, seed=None, n=200, **gains):
    """Scores over splits, each the baseline's plus a gain (mean, spread over queries)."""
    per_query = {}
    for number, (split, (gain, spread)) in enumerate(gains.items()):
        rng = np.random.default_rng(number)
        base = 0.5 + 0.1 * rng.standard_normal(n)
        noise = np.random.default_rng([number, seed or 0]).standard_normal(n)
        noise = (noise - noise.mean()) / noise.std(ddof=1)  # mean and spread are exact
        index = pd.Index([f"q{i}" for i in range(n)], name="query_id")
        per_query[split] = pd.DataFrame({"ndcg@10": base + gain + spread * noise}, index=index)
    trained = seed is not None
    return Scores(
        approach=approach,
        domain="made",
        domain_hash="0" * 16,
        base_model=None if approach == "bm25" else "minilm",
        recipe_hash=4 * f"{seed:03d}" if trained else None,
        per_query=per_query,
        meta={"trainable_params": 600_000, "train_seconds": 50.0}
        if "LoRA" in approach
        else {"trainable_params": 22_000_000 if trained else 0, "train_seconds": 100.0},
    )


def base(**options):
    return scores("base", n=options.pop("n", 200), **{s: (0, 0) for s in options or ["test"]})


def test_a_clear_gain_is_a_reason_to_fine_tune_and_the_cheaper_way_is_named():
    found = verdict(
        [
            base(),
            scores("contrastive", 1, test=(0.08, 0.2)),
            scores("LoRA", 2, test=(0.06, 0.2)),
            scores("bm25", None, test=(-0.2, 0.2)),
        ]
    )
    assert found.decision == "fine-tune" and found.approach == "contrastive"
    assert found.text.startswith("fine-tune: contrastive gains +0.080 [+0.05")
    assert "on test (200 queries, p < 0.001) nDCG@10; LoRA +0.060" in found.text
    assert "with 2.7% of the trained parameters, trained in 50 s instead of 100 s" in found.text
    assert [gain.approach for gain in found.gains] == ["contrastive", "LoRA"]


def test_the_best_approach_is_that_with_the_larger_gain_over_all_splits():
    both = {"known": 1, "novel": 1}
    found = verdict(
        [
            base(**both),
            scores("a", 1, known=(0.10, 0.1), novel=(0.00, 0.1)),
            scores("b", 2, known=(0.08, 0.1), novel=(0.06, 0.1)),
        ]
    )
    assert (found.decision, found.approach) == ("fine-tune", "b")


def test_what_gains_here_and_loses_there_is_mixed():
    both = {"known": 1, "novel": 1}
    found = verdict([base(**both), scores("a", 1, known=(0.1, 0.1), novel=(-0.1, 0.1))])
    assert found.decision == "mixed" and found.approach is None
    assert "-0.100" in found.text and "+0.100" in found.text


@pytest.mark.parametrize(
    "n, gain, spread",
    [
        (200, -0.05, 0.1),  # a loss: no more queries are wanted to keep what is better
        (200, 0.002, 0.05),  # the whole interval lies below what would matter
        (2000, 0.001, 0.2),  # queries enough, and nothing seen
    ],
)
def test_the_general_model_is_kept(n, gain, spread):
    found = verdict([base(n=n), scores("a", 1, n=n, test=(gain, spread))])
    assert found.decision == "keep the general model"
    assert f"{n:,} queries" in found.text and f"{gain:+.3f}" in found.text


def test_too_few_queries_say_how_many_are_needed():
    found = verdict([base(n=40), scores("a", 1, n=40, test=(0.01, 0.2))])
    assert found.decision == "too few test queries for a verdict"
    assert "40 on test; about 785 are needed to see a difference of 0.02" in found.text
    assert found.gains[0].needed == 785


def test_many_approaches_by_chance_are_no_reason_to_fine_tune():
    """Each alone would pass a test at 5%; twelve of them are looked at."""
    alone = scores("a", 1, n=400, test=(0.0105, 0.1))
    found = verdict([base(n=400), alone])
    assert found.decision == "fine-tune" and 0.01 < found.gains[0].p < 0.05
    rest = [scores(f"x{i}", i, n=400, test=(0.0, 0.1)) for i in range(2, 13)]
    assert verdict([base(n=400), alone, *rest]).decision != "fine-tune"


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == pytest.approx([1.0, 1.0])
    assert holm([0.2]) == [0.2]
    assert holm([]) == []


@pytest.mark.parametrize("sd, difference", [(0.2, 0.02), (0.35, 0.02), (0.1, 0.05)])
def test_so_many_queries_give_a_power_of_80_percent(sd, difference):
    n = queries_needed(sd, difference)

    def power(n):
        away = difference * math.sqrt(n) / sd
        z = stats.norm.ppf(0.975)
        return stats.norm.sf(z - away) + stats.norm.cdf(-z - away)

    assert power(n) >= 0.80 > power(n - 1)
    assert queries_needed(0.0) == 2


def test_a_report_gives_nearly_the_same_as_the_scores():
    made = [base(n=300), scores("a", 1, n=300, test=(0.005, 0.25))]
    exact, told = verdict(made), verdict(compare(made, "base"))
    assert exact.decision == told.decision == "too few test queries for a verdict"
    assert exact.gains[0].sd == pytest.approx(0.25)
    assert told.gains[0].sd == pytest.approx(0.25, rel=0.06)
    assert told.gains[0].p == exact.gains[0].p


def test_nothing_trained_and_no_baseline():
    assert verdict([base()]).decision == "nothing to compare"
    with pytest.raises(EmbkitError, match="baseline"):
        verdict([scores("a", 1, test=(0, 0.1))])
    with pytest.raises(EmbkitError, match="without a baseline"):
        verdict(type(compare([base()]))(compare([base()]).rows))


def test_labels_that_differ_by_recipe_alone_are_told_apart():
    found = verdict([base(), scores("a", 1, test=(0.1, 0.1)), scores("a", 2, test=(0.05, 0.1))])
    assert [gain.approach for gain in found.gains] == ["a (001001)", "a (002002)"]
    assert found.approach == "a (001001)"


def test_a_verdict_shows_itself_and_its_text_is_no_markup():
    found = verdict([base(), scores("<b>a</b>: x", 1, test=(0.1, 0.1))])
    shown = found._repr_html_()
    assert "<b>fine-tune</b>" in shown and "&lt;b&gt;a&lt;/b&gt;" in shown and "<b>a" not in shown
    assert repr(found) == found.text
    assert json.loads(json.dumps(found.to_dict()))["gains"][0]["queries"] == 200
    assert WORTH == 0.02
