"""Arms of one cost: the same number of pairs, the rate from dev, p against the first arm."""

from dataclasses import replace
from types import SimpleNamespace

import pytest

from embkit.errors import EmbkitError
from embkit.evaluation import ranking
from embkit.evaluation.intervals import clusters, estimate
from embkit.evaluation.report import compare
from embkit.pairs.pairs import collect
from embkit.recipes.recipe import Recipe
from embkit.training import experiments, trainer

ARMS = {"in-batch": {}, "random": {"hard_negatives": 1, "miner": "random"}}


@pytest.fixture
def recipe(tiny_model):
    return Recipe(model=str(tiny_model), epochs=1, batch_size=8)


@pytest.fixture
def compared(store, tiny_domain, recipe):
    return experiments.equal_cost(
        recipe, tiny_domain, ARMS, rates=(1e-4, 3e-3), references=("bm25",), quiet=True
    )


def test_every_arm_sees_as_many_pairs_and_dev_chooses_its_rate(compared, tiny_domain):
    assert compared.pairs == len(collect(tiny_domain, "human")[0])
    for sweep in compared.sweeps.values():
        for run in sweep.runs:
            kept = run.record["dev_queries"]
            assert kept.keys() == tiny_domain.split("dev").keys()
            assert sum(kept.values()) / len(kept) == pytest.approx(run.dev_score, abs=1e-6)
        assert {run.recipe.learning_rate for run in sweep.runs} == {1e-4, 3e-3}
        assert {run.record["pairs"] for run in sweep.runs} == {compared.pairs}
        assert {run.record["steps"] for run in sweep.runs} == {-(-compared.pairs // 8)}
    frame = compared.frame()
    for arm, sweep in compared.sweeps.items():
        best = max(sweep.runs, key=lambda run: run.dev_score)
        assert frame.loc[arm, "learning rate"] == best.recipe.learning_rate


def test_p_and_difference_are_against_the_first_arm(compared):
    frame = compared.frame()
    assert list(frame.index) == ["in-batch", "random", "bm25"]
    assert (
        frame.loc["in-batch", "known: difference"] is None
        or frame.isna().loc["in-batch", "known: difference"]
    )
    first, second = (compared.scores[arm] for arm in ("in-batch", "random"))
    delta = second.mean("known") - first.mean("known")
    assert frame.loc["random", "known: difference"] == pytest.approx(delta)
    (row,) = (
        r
        for r in compare([*compared.scores.values()], baseline="in-batch").rows
        if (r["label"], r["split"], r["subset"]) == ("random", "known", None)
    )
    assert frame.loc["random", "known: p"] == row["p_holm"] >= row["p_vs_base"]
    assert "known" in compared._repr_html_() and "in-batch" in repr(compared)


def test_a_rate_at_the_edge_of_its_grid_is_said(compared):
    """Two rates were tried, so that each is at an edge."""
    sweep = compared.sweeps["in-batch"]
    assert sweep.edge in ("lowest", "highest") and "try further out" in sweep.table().caption
    assert f"in-batch ({sweep.edge})" in compared.table().caption
    high, low = (r for r in sorted(sweep.runs, key=lambda run: -run.recipe.learning_rate))
    between = high.recipe.replace(learning_rate=1e-3)
    best = SimpleNamespace(recipe=between, dev_score=2.0, seconds=1.0)
    inside = replace(sweep, runs=(low, best, high), less=(None,) * 3)
    assert inside.edge is None and inside.table().caption == ""
    assert replace(sweep, runs=(low,)).edge is None, "one value is no grid"


def test_a_best_that_dev_does_not_tell_from_others_is_not_marked(monkeypatch, tiny_domain, recipe):
    queries = list(tiny_domain.split("dev"))
    scored = {
        0.1: {q: 0.2 + 0.01 * (n % 3) for n, q in enumerate(queries)},
        0.2: {q: 0.6 + 0.02 * (n % 3) for n, q in enumerate(queries)},
        0.3: {q: float(n > 0) for n, q in enumerate(queries)},  # far above, but for one query
    }

    def trained(recipe, domain, quiet=False):
        values = scored[recipe.temperature]
        dev = sum(values.values()) / len(values)
        record = {"dev_queries": values} if kept else {}
        told = {"dev_score": dev, "dev_name": "dev", "seconds": 1.0, "record": record}
        return SimpleNamespace(recipe=recipe, **told)

    def tuned(*temperatures):
        return experiments.tune(recipe, tiny_domain, temperature=temperatures)

    kept = True
    monkeypatch.setattr(experiments, "train", trained)
    found = tuned(0.1, 0.2)
    assert found.table().bold == {(1, 1)} and found.less[1] is None
    codes = clusters(tiny_domain, "dev").codes(queries)
    change = [scored[0.2][query] - scored[0.1][query] for query in queries]
    assert found.less[0][:3] == pytest.approx(estimate(change, codes)[:3]), "paired, over clusters"
    noisy = tuned(0.2, 0.3).table()
    assert noisy.bold == set() and "Dev's queries do not tell from the best: 0.2." in noisy.caption
    kept = False
    older = tuned(0.1, 0.2)
    assert older.less == (None, None) and older.table().bold == {(1, 1)}


def test_the_arm_with_the_fewest_pairs_sets_the_number(store, tiny_domain, recipe):
    found = experiments.equal_cost(
        recipe.replace(max_pairs=12),
        tiny_domain,
        {"a": {}},
        rates=(1e-3,),
        references=(),
        quiet=True,
    )
    assert found.pairs == 12 and found.sweeps["a"].runs[0].record["pairs"] == 12


def test_no_arm_is_refused(tiny_domain, recipe):
    with pytest.raises(EmbkitError, match="no arm"):
        experiments.equal_cost(recipe, tiny_domain, {})


@pytest.fixture
def probe(monkeypatch, tiny_domain):
    """A tiny stand-in for the general probe."""
    asked = tiny_domain.qrels["known"]
    tiny = replace(
        tiny_domain,
        name="general",
        queries={query: tiny_domain.queries[query] for query in asked},
        qrels={"train": {}, "dev": {}, "general": asked},
        test_splits=("general",),
        held_out=None,
        negatives={},
    )
    monkeypatch.setattr(experiments, "general_probe", lambda: tiny)
    return tiny


def test_a_better_general_model_is_a_reference_where_it_is_at_hand(monkeypatch):
    monkeypatch.setattr(experiments, "is_here", lambda name: True)
    named = {"bm25": None, "minilm": None, "hybrid": None, "bge-small": "bge-small, untrained"}
    assert experiments._there(experiments.REFERENCES) == named
    monkeypatch.setattr(experiments, "is_here", lambda name: False)
    with pytest.warns(UserWarning, match="embkit assets bge-small"):
        assert list(experiments._there(experiments.REFERENCES)) == ["bm25", "minilm", "hybrid"]


def test_approaches_take_the_mean_over_seeds_and_tell_what_was_forgotten(
    store, tiny_domain, tiny_model, probe
):
    found = experiments.approaches(
        tiny_domain,
        ["contrastive", "corpus"],
        seeds=(1, 2),
        baseline="contrastive",
        references=("bm25",),
        quiet=True,
        model=str(tiny_model),
        epochs=1,
        batch_size=8,
    )
    assert list(found.scores) == ["bm25", "contrastive", "corpus"]
    best = found.sweeps["corpus"].best
    assert best.seed == 1
    runs = [trainer.train(best.replace(seed=seed), tiny_domain, quiet=True) for seed in (1, 2)]
    for split in tiny_domain.test_splits:
        each = [ranking.evaluate(run, tiny_domain).mean(split) for run in runs]
        assert found.scores["corpus"].mean(split) == pytest.approx(sum(each) / 2)
    general = [ranking.evaluate(run, probe).mean("general") for run in runs]
    told = {row["label"]: row["general_ndcg@10"] for row in found.report.rows}
    assert told["corpus"] == pytest.approx(sum(general) / 2)
    rows = [r for r in ranking.leaderboard(tiny_domain).rows if r["seeds"] == 2 and not r["subset"]]
    row = next(r for r in rows if r["recipe_hash"] in {run.recipe.hash for run in runs})
    assert row["general_ndcg@10"] == pytest.approx(sum(general) / 2)
    assert row["train_seconds"] == pytest.approx(sum(run.seconds for run in runs) / 2)
    rate = best.learning_rate
    once = experiments.approaches(
        tiny_domain,
        ["contrastive"],
        seeds=(1,),
        factors=(1,),
        references=(),
        baseline="contrastive",
        quiet=True,
        model=str(tiny_model),
        epochs=1,
        batch_size=8,
        learning_rate=rate,
    )
    assert [run.recipe.learning_rate for run in once.sweeps["contrastive"].runs] == [rate]
    with pytest.raises(EmbkitError, match="above 0"):
        experiments.approaches(tiny_domain, ["corpus"], factors=(0,), quiet=True)
    with pytest.raises(EmbkitError, match="did you mean 'corpus'"):
        experiments.approaches(tiny_domain, ["corps"], quiet=True)
    with pytest.raises(EmbkitError, match="seed"):
        experiments.approaches(tiny_domain, ["corpus"], seeds=(), quiet=True)
