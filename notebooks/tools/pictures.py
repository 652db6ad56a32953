"""The pictures of the README, made from the runs of the course."""

from __future__ import annotations

import sys
from pathlib import Path

from embkit.data import load_domain
from embkit.evaluation.ranking import evaluate, rank_changes
from embkit.files import write_atomic
from embkit.models.loading import load_model
from embkit.plots import png, rank_change
from embkit.recipes.recipe import Recipe
from embkit.session import paths
from embkit.training.trainer import train


def before_after() -> Path:
    """One query of the `known` test split, searched before and after: the largest gain."""
    domain = load_domain("icd10cm")
    recipe = Recipe()
    run = train(recipe, domain)
    before = evaluate(recipe.model, domain).per_query["known"]["ndcg@10"]
    query = (evaluate(run, domain).per_query["known"]["ndcg@10"] - before).idxmax()
    right = list(domain.qrels["known"][query])
    phrase = domain.queries[query]
    rows = rank_changes(phrase, load_model(recipe.model), run.model(), domain, right, k=6)
    figure = rank_change(rows, phrase, k=6)
    return write_atomic(paths().notebooks / "pictures" / "before_after.png", png(figure))


def main() -> None:
    """Draws the picture, and says where it is."""
    sys.stdout.write(f"written: {before_after()}\n")


if __name__ == "__main__":
    main()
