"""Sweeps: kept, gone on with, cut short, on dev alone; what is refused."""

import builtins
import dataclasses
import math
from types import SimpleNamespace

import pytest

from embkit.errors import EmbkitError
from embkit.recipes.recipe import Recipe
from embkit.training.sweeps import sweep

pytest.importorskip("optuna", reason="the extra 'sweeps'")
SPACE = {"learning_rate": (1e-5, 1e-2, "log"), "batch_size": [8, 16]}
RECIPE = Recipe(model="somewhere", epochs=1)


@pytest.fixture
def trained(monkeypatch):
    """Training that takes no time: dev is best at a learning rate of 1e-3; what was called."""
    calls = []

    def train(recipe, domain, *, stop=None, quiet=False):
        calls.append(recipe)
        if stop is not None and len(calls) == 4:
            raise KeyboardInterrupt
        far = abs(math.log10(recipe.learning_rate) + 3)
        size = 0.05 if recipe.max_pairs is None else 0.0
        return SimpleNamespace(dev_score=0.6 - 0.1 * far + size, seconds=1.0)

    monkeypatch.setattr("embkit.training.sweeps.train", train)
    return calls


def test_the_best_of_dev_is_found_and_kept(trained, tiny_domain):
    found = sweep(RECIPE, tiny_domain, SPACE, trials=12)
    assert 3e-4 < found.best.learning_rate < 3e-3 and found.best.batch_size in (8, 16)
    assert found.best.epochs == 1 and found.best.max_pairs is None
    assert len(found.rows) == 12 and found.file.is_file()
    best = max(r["dev nDCG@10"] for r in found.rows if r["dev nDCG@10"] is not None)
    assert found.frame().iloc[0]["dev nDCG@10"] == best
    calls = len(trained)
    again = sweep(RECIPE, tiny_domain, SPACE, trials=12)
    assert again.rows == found.rows and len(trained) == calls, "nothing is trained twice"
    more = sweep(RECIPE, tiny_domain, SPACE, trials=14)
    assert len(more.rows) == 14 and more.rows[:12] == found.rows
    drawn = [row["learning_rate"] for row in more.rows]
    assert len(set(drawn)) > 12, "it does not draw again what it drew"
    assert "finished" in repr(more) and ">cut short</td>" in more._repr_html_()


def test_what_is_below_the_median_of_a_quarter_is_cut_short(trained, tiny_domain):
    found = sweep(RECIPE, tiny_domain, SPACE, trials=12)
    pruned = [row for row in found.rows if row["state"] == "cut short"]
    assert pruned and all(row["dev nDCG@10"] is None for row in pruned)
    assert {r.max_pairs for r in trained} == {None, 7}, "30 pairs, a quarter of them"
    full = {r.learning_rate for r in trained if r.max_pairs is None}
    assert full == {r["learning_rate"] for r in found.rows if r["state"] == "finished"}
    best = max(row["small"] for row in found.rows)
    assert all(row["small"] < best for row in pruned)


def test_a_trial_that_was_interrupted_is_tried_again_first(trained, tiny_domain):
    import threading

    with pytest.raises(KeyboardInterrupt):
        sweep(RECIPE, tiny_domain, SPACE, trials=5, stop=threading.Event())
    broken = trained[3]
    found = sweep(RECIPE, tiny_domain, SPACE, trials=5)
    assert trained[4].learning_rate == broken.learning_rate
    assert len(found.rows) == 5
    assert broken.learning_rate in [row["learning_rate"] for row in found.rows]


def test_no_test_split_is_read(trained, tiny_domain):
    blind = dataclasses.replace(
        tiny_domain, qrels={k: v for k, v in tiny_domain.qrels.items()}, test_splits=("known",)
    )
    assert sweep(RECIPE, blind, {"temperature": (0.02, 0.1)}, trials=2).fields == ("temperature",)


@pytest.mark.parametrize(
    ("space", "match"),
    [
        ({"learning_rat": [1e-4]}, "learning_rate"),
        ({"learning_rate": (1e-2, 1e-4)}, "low < high"),
        ({"learning_rate": 1e-4}, "low < high"),
        ({"learning_rate": []}, "low < high"),
        ({"learning_rate": (1e-4, 5.0)}, "largest step size"),
        ({}, "one field or more"),
    ],
)
def test_a_space_that_is_none(trained, tiny_domain, space, match):
    with pytest.raises(EmbkitError, match=match):
        sweep(RECIPE, tiny_domain, space)
    assert not trained


def test_another_sweep_of_that_name_is_refused(trained, tiny_domain):
    sweep(RECIPE, tiny_domain, {"temperature": [0.05, 0.1]}, trials=1)
    with pytest.raises(EmbkitError, match="sweep-2"):
        sweep(RECIPE, tiny_domain, {"temperature": [0.02]}, trials=1)
    with pytest.raises(EmbkitError, match="with 0 trials"):
        sweep(RECIPE, tiny_domain, {"temperature": [0.02]}, trials=0)


def test_without_optuna_the_install_line_is_named(tiny_domain, monkeypatch):
    real = builtins.__import__

    def without(name, *args, **options):
        if name == "optuna":
            raise ImportError(name)
        return real(name, *args, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(EmbkitError, match=r'pip install "embkit\[sweeps\]"'):
        sweep(RECIPE, tiny_domain, SPACE)


def test_it_trains_for_true(tiny_model, tiny_domain):
    recipe = Recipe(model=str(tiny_model), epochs=1, batch_size=8)
    found = sweep(recipe, tiny_domain, {"learning_rate": [1e-4, 1e-3]}, trials=1, quiet=True)
    assert found.rows[0]["dev nDCG@10"] > 0 and found.best.learning_rate in (1e-4, 1e-3)
