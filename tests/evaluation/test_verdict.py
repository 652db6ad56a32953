"""The verdict: what it decides on figures made so that the answer is known."""

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest

from embkit.errors import EmbkitError
from embkit.evaluation.intervals import CLUSTERS, Clusters, holm
from embkit.evaluation.report import WORTH, compare
from embkit.evaluation.scores import Scores, over_seeds
from embkit.evaluation.verdict import verdict


def scores(approach, seed=None, n=200, dev=None, trained=True, **gains):
    """Scores over splits, each the baseline's plus a gain (mean, spread over queries)."""
    per_query = {}
    for number, (split, (gain, spread)) in enumerate(gains.items()):
        rng = np.random.default_rng(number)
        base = 0.5 + 0.1 * rng.standard_normal(n)
        noise = np.random.default_rng([number, seed or 0]).standard_normal(n)
        noise = (noise - noise.mean()) / noise.std(ddof=1)  # mean and spread are exact
        index = pd.Index([f"q{i}" for i in range(n)], name="query_id")
        per_query[split] = pd.DataFrame({"ndcg@10": base + gain + spread * noise}, index=index)
    trained = trained and seed is not None
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
        dev={} if dev is None else {"v": dev},
    )


def base(**options):
    return scores("base", n=options.pop("n", 200), **{s: (0, 0) for s in options or ["test"]})


def test_dev_chooses_and_the_test_reports_though_it_would_choose_otherwise():
    found = verdict(
        [
            base(),
            scores("contrastive", 1, dev=0.60, test=(0.06, 0.2)),
            scores("LoRA", 2, dev=0.59, test=(0.08, 0.2)),
            scores("corpus", 3, dev=0.50, test=(0.15, 0.2)),
            scores("bm25", None, dev=0.40, test=(-0.2, 0.2)),
        ]
    )
    assert found.decision == "fine-tune" and found.approach == "contrastive"
    assert found.text.startswith("fine-tune: contrastive, chosen on dev, gains +0.060 [+0.03")
    assert "on test (200 queries, p < 0.001), in nDCG@10; LoRA has 0.590 on dev where" in found.text
    assert "with 2.7% of the trained parameters, trained in 50 s instead of 100 s" in found.text
    assert "; bm25 (untrained) has 0.400 on dev where contrastive has 0.600" in found.text
    assert "corpus" not in found.text, "what dev puts far behind is not told"
    assert [gain.approach for gain in found.gains] == ["contrastive"]
    assert found.text.endswith("one seed: of these weights, not of the method")


def test_of_ten_equal_approaches_the_chosen_one_has_its_true_gain():
    """What the tests would choose of ten is reported too high; what dev chooses is not."""
    told, most = [], []
    rng = np.random.default_rng(0)
    for _ in range(60):
        noise = rng.normal(0.05, 0.02, 10)
        made = [
            scores(f"a{i}", i + 1, n=30, dev=d, test=(g, 0.1))
            for i, (g, d) in enumerate(zip(noise, rng.random(10), strict=True))
        ]
        found = verdict([base(n=30), *made])
        told.append(found.gains[0].delta)
        most.append(max(noise))
    assert np.mean(told) == pytest.approx(0.05, abs=3 * 0.02 / 60**0.5)
    assert np.mean(most) > 0.07


def test_an_untrained_model_as_good_is_taken_before_training():
    other = scores("bge-small", 9, dev=0.585, trained=False, test=(0.05, 0.1))
    tuned = scores("contrastive", 1, dev=0.60, test=(0.06, 0.1))
    found = verdict([base(), other, tuned])
    assert (found.decision, found.approach) == ("take another model, untrained", "bge-small")
    assert found.text.startswith("take another model, untrained: bge-small, chosen on dev, gains")
    assert "one seed" not in found.text
    behind = dataclasses.replace(other, dev={"v": 0.579})
    assert verdict([base(), behind, tuned]).approach == "contrastive"


def test_a_merged_model_was_trained_though_no_recipe_made_it():
    merged = scores("contrastive", 1, dev=0.60, test=(0.06, 0.1))
    merged = dataclasses.replace(merged, approach="merged", recipe_hash=None)
    assert verdict([base(), merged]).decision == "fine-tune"


def test_a_model_of_which_nothing_is_known_is_not_called_untrained():
    other = scores("bge-small", 9, dev=0.585, trained=False, test=(0.05, 0.1))
    teacher = scores("contrastive", 1, dev=0.61, test=(0.06, 0.1))
    teacher = dataclasses.replace(teacher, approach="teacher", recipe_hash=None, meta={})
    found = verdict([base(), other, teacher])
    assert found.text.startswith("take another model: teacher, chosen on dev, gains")
    assert "bge-small (untrained) has 0.585 on dev where teacher has 0.610" in found.text
    nearer = dataclasses.replace(other, dev={"v": 0.605})
    assert verdict([base(), nearer, teacher]).approach == "bge-small", "needs no training, for sure"


def test_without_dev_nothing_chooses_among_several():
    made = [base(), scores("a", 1, test=(0.1, 0.1)), scores("b", 2, test=(0.2, 0.1))]
    found = verdict(made)
    assert found.decision == "nothing to choose by" and found.approach is None
    assert verdict(made[:2]).approach == "a", "one needs no choice"
    some = [*made, scores("c", 3, dev=0.5, test=(0.05, 0.1))]
    found = verdict(some)
    assert found.approach == "c" and "so not looked at: b, a (evaluate again)" in found.text


def test_what_gains_here_and_loses_there_is_mixed():
    both = {"known": 1, "novel": 1}
    found = verdict([base(**both), scores("a", 1, known=(0.1, 0.1), novel=(-0.1, 0.1))])
    assert found.decision == "mixed"
    assert "-0.100" in found.text and "+0.100" in found.text
    # a loss counts by its interval alone, without a correction for the number of splits
    found = verdict([base(**both), scores("a", 1, known=(0.1, 0.1), novel=(-0.0145, 0.1))])
    loss = found.gains[1]
    assert loss.high < 0 and 0.03 < loss.p and found.decision == "mixed"


def test_the_splits_are_one_family():
    both = {"known": 1, "novel": 1}
    found = verdict([base(**both), scores("a", 1, known=(0.0155, 0.1), novel=(0.0, 0.1))])
    assert found.gains[0].low > 0 and 0.05 < found.gains[0].p < 0.1
    assert found.decision != "fine-tune"
    alone = verdict([base(), scores("a", 1, test=(0.0155, 0.1))])
    assert alone.decision == "fine-tune" and alone.gains[0].p < 0.05


@pytest.mark.parametrize(
    "n, gain, spread, decision",
    [
        (200, -0.05, 0.1, "keep the general model"),  # a loss
        (200, 0.002, 0.05, "keep the general model"),  # the interval ends below what would matter
        (810, 0.0075, 0.2, "keep the general model"),  # queries enough, and nothing seen
        (700, 0.0075, 0.2, "too few test queries for a verdict"),  # not enough, and it reaches 0.02
        (200, 0.002, 0.2, "too few test queries for a verdict"),
    ],
)
def test_the_general_model_is_kept_where_a_gain_is_ruled_out(n, gain, spread, decision):
    found = verdict([base(n=n), scores("a", 1, n=n, test=(gain, spread))])
    assert found.decision == decision
    assert f"{n:,} queries" in found.text and f"{gain:+.3f}" in found.text


def test_a_gain_that_is_sure_is_never_a_reason_to_keep():
    """Its interval excludes 0, though p with the other split's does not reach 5%."""
    both = {"known": 1, "novel": 1}
    n = 1500
    made = scores("a", 1, n=n, known=(0.0112, 0.2), novel=(0.0, 0.2))
    found = verdict([base(n=n, **both), made])
    assert found.gains[0].low > 0 and found.gains[0].p > 0.05
    assert found.gains[0].high > WORTH and found.gains[0].queries > found.gains[0].needed
    assert found.decision == "too few test queries for a verdict"


def test_too_few_queries_say_how_many_are_needed():
    found = verdict([base(n=40), scores("a", 1, n=40, test=(0.01, 0.2))])
    assert found.decision == "too few test queries for a verdict"
    assert "40 on test; about 785 are needed to see a difference of 0.02" in found.text
    assert found.gains[0].needed == 785


@pytest.mark.parametrize("n", [2, 3, 5])
@pytest.mark.parametrize("gain", [0.7, -0.3, 0.0])
def test_below_six_queries_there_is_no_verdict(n, gain):
    found = verdict([base(n=n), scores("a", 1, n=n, test=(gain, 0.01))])
    assert found.decision == "too few test queries for a verdict"
    assert found.gains[0].needed >= 6 and "needed" in found.text


def test_clusters_not_queries_are_counted():
    n = 300
    made = [base(n=n), scores("a", 1, n=n, test=(0.3, 0.1))]
    assert verdict(made).decision == "fine-tune"
    for one in made:
        of = {f"q{i}": i % 5 for i in range(n)}
        one.per_query["test"].attrs[CLUSTERS] = Clusters("groups", of)
    found = verdict(made)
    assert found.decision == "too few test queries for a verdict"
    assert "(300 queries in 5 groups" in found.text


def test_seeds_that_differ_ask_for_more_seeds():
    made = [
        scores("a", n, n=4000, test=(gain, 0.1)) for n, gain in ((1, -0.05), (2, 0.0), (3, 0.09))
    ]
    found = verdict([base(n=4000), over_seeds(made)])
    assert found.decision == "too few test queries for a verdict"
    assert found.gains[0].needed is None and "more seeds, not queries, are needed" in found.text
    assert "one seed" not in found.text


def test_parts_of_a_split_do_not_decide():
    part = {"test": {"never_positive": tuple(f"q{i}" for i in range(50))}}
    made = [dataclasses.replace(s, subsets=part) for s in (base(), scores("a", 1, test=(0.1, 0.1)))]
    assert [gain.split for gain in verdict(made).gains] == ["test"]
    assert verdict(made).gains[0].queries == 200


def test_holm_by_hand():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == pytest.approx([1.0, 1.0])
    assert holm([0.2]) == [0.2]
    assert holm([]) == []


def test_a_report_gives_the_same_as_the_scores():
    made = [base(n=300), scores("a", 1, n=300, test=(0.005, 0.25))]
    assert verdict(made) == verdict(compare(made, "base"))


def test_nothing_trained_and_no_baseline():
    assert verdict([base()]).decision == "nothing to compare"
    assert verdict([base(), scores("bm25", None, test=(0.1, 0.1))]).decision == "nothing to compare"
    with pytest.raises(EmbkitError, match="baseline"):
        verdict([scores("a", 1, test=(0, 0.1))])
    with pytest.raises(EmbkitError, match="without a baseline"):
        verdict(type(compare([base()]))(compare([base()]).rows))


def test_labels_that_differ_by_recipe_alone_are_told_apart():
    made = [scores("a", n, dev=dev, test=(0.1, 0.1)) for n, dev in ((1, 0.60), (2, 0.59))]
    found = verdict([base(), *made])
    assert found.approach == "a (001001)" and "; a (002002) has 0.590 on dev" in found.text


def test_a_verdict_shows_itself_and_its_text_is_no_markup():
    found = verdict([base(), scores("<b>a</b>: x", 1, test=(0.1, 0.1))])
    shown = found._repr_html_()
    assert "<b>fine-tune</b>" in shown and "&lt;b&gt;a&lt;/b&gt;" in shown and "<b>a" not in shown
    assert repr(found) == found.text
    assert json.loads(json.dumps(dataclasses.asdict(found)))["gains"][0]["queries"] == 200
    assert WORTH == 0.02


def test_one_query_is_not_written_as_many():
    made = base(n=3), scores("a", 1, n=3, test=(0.1, 0.1))
    for n, told in ((1, "(1 query, p = "), (2, "(2 queries, p = ")):
        few = [dataclasses.replace(s, per_query={"test": s.per_query["test"][:n]}) for s in made]
        assert told in verdict(few).text
