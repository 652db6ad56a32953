"""python -m notebooks.tools.full: the main job at full size, from the clone to the figures."""

from __future__ import annotations

import sys
import time

from embkit import session
from embkit.data import load_domain
from embkit.evaluation.ranking import evaluate, leaderboard
from embkit.recipes.recipe import Recipe
from embkit.training.trainer import train

RECIPE = Recipe(epochs=3)


def main() -> int:
    """Loads every chapter but injury and external causes, trains, evaluates, prints."""
    started = time.perf_counter()
    session.quiet()
    domain = load_domain("icd10cm", profile="full")
    sys.stdout.write(f"{domain!r}\n")
    evaluate("bm25", domain)
    evaluate(RECIPE.model, domain)
    run = train(RECIPE, domain)
    evaluate(run, domain)
    report = leaderboard(domain)
    report.save(session.paths().runs / "full")
    sys.stdout.write(f"{report.to_text()}\n{(time.perf_counter() - started) / 60:.1f} minutes\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
