"""Which passage of a right document is trained on."""

import dataclasses

import pytest

from embkit.models.loading import load_model
from embkit.pairs.pairs import make_pairs
from embkit.recipes.recipe import Recipe
from embkit.training.passages import TrainedPassages


@pytest.fixture
def long_domain(tiny_domain):
    """The tiny domain, each document with two others before it."""
    texts = list(tiny_domain.corpus.values())
    told = [f"{texts[i - 2]} {texts[i - 1]} {text} " * 3 for i, text in enumerate(texts)]
    return dataclasses.replace(tiny_domain, corpus=dict(zip(tiny_domain.corpus, told, strict=True)))


@pytest.mark.parametrize("choice", ["best", "first"])
def test_the_first_passage_or_the_nearest_to_the_anchor_is_shown(long_domain, tiny_model, choice):
    recipe = Recipe(model=str(tiny_model), passage_size=16, passage_choice=choice)
    model, pairs = load_model(tiny_model), make_pairs(recipe, long_domain)
    shown = TrainedPassages(model, pairs, recipe.passages, (None, None))
    assert bool(any(shown.chosen)) == (choice == "best")
    assert len(shown.pairs) == len(shown.chosen) and set(shown.columns) == {"positive"}
    for (anchor, text), place in zip(shown.pairs, shown.chosen, strict=True):
        own = shown.passages[text]
        scores = model.encode(own) @ model.encode(anchor)
        assert len(own) > 1 and scores[place] == pytest.approx(
            scores.max() if choice == "best" else scores[0], abs=1e-5
        )
        rows = shown({"anchor": [anchor], "positive": [text]})
        assert rows == {"anchor": [anchor], "positive": [own[place]]}
