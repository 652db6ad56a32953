"""Scores at several sizes: against evaluating a truncated model, and what is said and refused."""

import warnings

import numpy as np
import pytest

from embkit.errors import EmbkitError
from embkit.evaluation.ranking import evaluate, leaderboard
from embkit.evaluation.truncation import UntrainedDimension, evaluate_sizes
from embkit.models import encoding
from embkit.models.loading import load_model
from embkit.recipes.recipe import Recipe
from embkit.training import trainer

pytestmark = pytest.mark.filterwarnings("ignore::embkit.evaluation.truncation.UntrainedDimension")


@pytest.fixture
def recipe(tiny_model):
    return Recipe(
        model=str(tiny_model), epochs=2, batch_size=4, learning_rate=1e-3, matryoshka=(32, 8, 4)
    )


@pytest.fixture
def run(store, tiny_domain, recipe):
    return trainer.train(recipe, tiny_domain, quiet=True)


def test_a_size_scores_what_the_library_s_truncated_model_scores(store, tiny_domain, tiny_model):
    sizes = evaluate_sizes(load_model(tiny_model), tiny_domain, [16, 4])
    assert list(sizes.scores) == [32, 16, 4] and sizes.whole == 32
    for size in (16, 4):
        cut = evaluate(load_model(tiny_model, truncate_dim=size), tiny_domain, save=False)
        for split in tiny_domain.test_splits:
            mine = sizes.scores[size].values(split)
            assert mine.tolist() == cut.values(split).tolist()
    whole = evaluate(load_model(tiny_model), tiny_domain, save=False)
    assert sizes.scores[32].values("known").tolist() == whole.values("known").tolist()


def test_the_corpus_is_encoded_once(store, cache, tiny_domain, tiny_model, monkeypatch):
    from embkit.models import packing

    seen = []
    embed = packing.embed
    monkeypatch.setattr(
        packing,
        "embed",
        lambda model, texts, **o: seen.append(len(texts)) or embed(model, texts, **o),
    )
    evaluate_sizes(load_model(tiny_model), tiny_domain, [16, 8, 4])
    assert seen.count(len(tiny_domain.corpus)) == 2, "once to search, once to tell the speed"
    assert len(seen) == 3 + len((*tiny_domain.test_splits, "dev")), "its first call is not timed"


def test_by_name_by_model_and_by_function_it_is_the_same(store, cache, tiny_domain, tiny_model):
    model = load_model(tiny_model)

    def function(texts):
        return encoding.encode(model, texts)

    tables = [evaluate_sizes(w, tiny_domain, [8]) for w in (str(tiny_model), model, function)]
    assert len({tuple(t.scores[8].values("known")) for t in tables}) == 1
    assert all(t.untrained == (8,) for t in tables)


def test_a_run_s_own_sizes_are_taken_and_kept_in_the_leaderboard(run, tiny_domain, tiny_model):
    evaluate(str(tiny_model), tiny_domain)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        sizes = evaluate_sizes(run, tiny_domain)
    assert list(sizes.scores) == [32, 8, 4] and not sizes.untrained and not sizes.notes
    rows = {row["label"]: row for row in leaderboard(tiny_domain).rows}
    label = run.recipe.label
    assert {label, f"{label}, truncated to 8", f"{label}, truncated to 4", "base"} == rows.keys()
    assert rows[f"{label}, truncated to 8"]["dim"] == 8
    with pytest.warns(UntrainedDimension):
        evaluate_sizes(run, tiny_domain, [16])
    assert len({row["label"] for row in leaderboard(tiny_domain).rows}) == 4


def test_nothing_is_kept_where_it_is_not_wanted(run, store, tiny_domain):
    evaluate_sizes(run, tiny_domain, save=False)
    assert not list(store.rglob("scores.json"))


def test_a_size_that_was_not_trained_for_is_a_warning_with_the_loss(run, tiny_domain):
    with pytest.warns(UntrainedDimension) as caught:
        sizes = evaluate_sizes(run, tiny_domain, [16, 8, 2])
    assert sizes.untrained == (16, 2)
    said = [str(w.message) for w in caught]
    assert said == sizes.notes and len(said) == 2
    lost = sizes.scores[2].mean("known") - sizes.scores[32].mean("known")
    assert "at 2 of 32 dimensions: not trained for" in said[1]
    assert f"{lost:+.3f} on 'known' ({sizes.kept(2, 'known'):.0%} kept)" in said[1]


def test_a_band_is_what_the_picture_takes(run, tiny_domain):
    from embkit import plots

    sizes = evaluate_sizes(run, tiny_domain)
    means, low, high = sizes.band("known")
    assert means == [scores.mean("known") for scores in sizes.scores.values()]
    assert all(a <= b <= c for a, b, c in zip(low, means, high, strict=True))
    kept = [sizes.kept(size, "known") for size in sizes.scores]
    assert kept == pytest.approx([m / means[0] if means[0] else np.nan for m in means], nan_ok=True)
    figure = plots.lines(
        list(sizes.scores), {"run": (means, low, high)}, "dimensions", "nDCG@10", logx=True
    )
    assert "at 32" in plots.alt_text(figure)


def test_it_shows_itself(run, tiny_domain):
    sizes = evaluate_sizes(run, tiny_domain, [16, 8])
    assert "\n16 *        " in repr(sizes) and "dimensions: not trained for" in repr(sizes)
    shown = sizes._repr_html_()
    assert ">16 *</td>" in shown and ">8</td>" in shown and "* not trained for" in shown
    for split in tiny_domain.test_splits:
        assert f"{sizes.scores[8].mean(split):.3f} [" in shown and f"{split}</th>" in shown
        assert f">{sizes.kept(8, split):.1%}</td>" in shown


def test_sizes_in_any_order_are_each_scored_once(store, tiny_domain, tiny_model):
    assert list(evaluate_sizes(str(tiny_model), tiny_domain, [4, 8, 8, 32]).scores) == [32, 8, 4]


@pytest.mark.parametrize("sizes", [[8, 0], [64, 8]])
def test_a_size_beyond_the_model_is_one_clear_error(tiny_domain, tiny_model, sizes):
    with pytest.raises(EmbkitError, match="of vectors with 32 dimensions"):
        evaluate_sizes(str(tiny_model), tiny_domain, sizes)


def test_words_have_no_sizes(tiny_domain):
    with pytest.raises(EmbkitError, match="no vectors to truncate"):
        evaluate_sizes("bm25", tiny_domain)


def test_without_sizes_a_model_is_halved(store, tiny_domain, tiny_model):
    sizes = evaluate_sizes(load_model(tiny_model), tiny_domain)
    assert list(sizes.scores) == [32, 16, 8, 4]
    assert all(np.isfinite(sizes.band(split)).all() for split in tiny_domain.test_splits)
