"""python -m tests.benchmarks.picture_table: both towers against what trains nothing, on pictures.

Two cuts of the icons; chance, ridge regression, copied captions and trained towers side by side,
each split with paired tests against the better of the two that train nothing.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from embkit import session
from embkit.data import Domain, load_domain
from embkit.evaluation.intervals import paired_test
from embkit.evaluation.kept import keep
from embkit.evaluation.ranking import evaluate
from embkit.evaluation.scores import Scores, over_seeds
from embkit.files import write_atomic
from embkit.recipes.recipe import Recipe, preset
from embkit.training.trainer import train

SEEDS = (0, 1)  # which families of icons are held out
TRAINED = (42, 43, 44)  # seeds of training whose scores are kept, on the first of these
HEADLINE = "both towers"
METRICS = ("mrr@10", "recall@10")
DEPTH = 10
Row = dict[str, Any]


def chance(domain: Domain, split: str) -> dict[str, float]:
    """What an order by lot scores on a split, on average over its queries.

    Of N documents, R of them right, the first right one is at rank k with the probability
    C(N - k, R - 1) / C(N, R); MRR@10 is the sum over k of that by k, recall@10 is 10 / N.
    """
    total = len(domain.documents(split))
    deep = range(1, min(DEPTH, total) + 1)
    found = []
    for judged in domain.split(split).values():
        right = sum(grade > 0 for grade in judged.values())
        ways = math.comb(total, right)
        found.append(sum(math.comb(total - k, right - 1) / ways / k for k in deep))
    return {"mrr@10": sum(found) / len(found), "recall@10": len(deep) / total}


def rows_of(domain: Domain, frozen: Sequence[Scores], trained: Mapping[str, Scores]) -> list[Row]:
    """One row a split and approach, the trained ones with their gain over the best frozen one.

    Args:
        domain: whose test splits.
        frozen: of what trains nothing; for each split and metric, the best of them is the bar.
        trained: name -> scores.
    """
    found: list[Row] = []
    everything = {one.label: one for one in frozen} | dict(trained)
    for split in domain.test_splits:
        shared: Row = {"domain": domain.name, "domain_hash": domain.hash, "split": split}
        shared |= {"direction": domain.direction(split), "queries": len(domain.split(split))}
        shared["corpus"] = len(domain.documents(split))
        found.append(shared | {"approach": "chance"} | chance(domain, split))
        for name, scores in everything.items():
            row = shared | {"approach": name} | {m: scores.mean(split, m) for m in METRICS}
            row["train_seconds"] = scores.meta.get("train_seconds")
            row["trainable_params"] = scores.meta.get("trainable_params")
            for metric in METRICS if name in trained else ():
                best = max(frozen, key=lambda one: one.mean(split, metric))
                test = paired_test(scores.values(split, metric), best.values(split, metric))
                row[f"{metric} gain"] = {
                    "over": best.label,
                    "delta": test.delta,
                    "ci": [test.ci_low, test.ci_high],
                    "p": test.p,
                }
            found.append(row)
    return found


def measure(
    domain: Domain, recipes: Mapping[str, Recipe], *, ridge: Recipe | None = None, **options: Any
) -> list[Row]:
    """Trains what is not trained yet, scores it beside what trains nothing; ``rows_of`` that.

    Args:
        domain: one with pictures.
        recipes: name -> recipe.
        ridge: the recipe of the frozen towers; default: its preset.
        options: of ``train``.
    """
    frozen = untrained(domain, ridge, **options)
    trained = {
        name: evaluate(train(recipe, domain, **options), domain) for name, recipe in recipes.items()
    }
    return rows_of(domain, frozen, trained)


def untrained(domain: Domain, ridge: Recipe | None = None, **options: Any) -> list[Scores]:
    """Scores of what trains no tower: the ridge, and copied captions."""
    from embkit.training.clip import copy_captions

    start = train(ridge or preset("frozen towers"), domain, **options)
    return [
        evaluate(start, domain).labelled("ridge"),
        evaluate(copy_captions(domain), domain, name="copied captions"),
    ]


def keep_seeds(domain: Domain, recipe: Recipe, ridge: Recipe | None = None, **options: Any) -> None:
    """Keeps the scores of what trains no tower, and of a recipe over ``TRAINED``, with the data."""
    runs = [train(recipe.replace(seed=seed), domain, **options) for seed in TRAINED]
    trained = over_seeds([evaluate(run, domain) for run in runs]).labelled(HEADLINE)
    for scores in untrained(domain, ridge, **options):
        keep(scores, domain)
    keep(trained, domain, json.loads(recipe.to_json()))


def markdown(rows: Sequence[Row]) -> str:
    """The rows as a table in Markdown; the gains with their 95% intervals and p."""
    heads = ["domain", "split", "approach", "MRR@10", "recall@10", "Δ MRR@10", "Δ recall@10", "s"]
    lines = ["| " + " | ".join(heads) + " |", "|---|---|---|---:|---:|---:|---:|---:|"]
    for row in rows:
        seconds = row.get("train_seconds")
        cells = [row["domain"], f"{row['split']} ({row['queries']:,} of {row['corpus']:,})"]
        cells += [row["approach"], *(f"{row[metric]:.3f}" for metric in METRICS)]
        cells += [_gain(row.get(f"{metric} gain")) for metric in METRICS]
        lines.append("| " + " | ".join([*cells, f"{seconds:.0f}" if seconds else ""]) + " |")
    return "\n".join(lines)


def _gain(gain: Row | None) -> str:
    if gain is None:
        return ""
    p = "p < 0.001" if gain["p"] < 0.001 else f"p = {gain['p']:.3f}"
    return f"{gain['delta']:+.3f} [{gain['ci'][0]:+.3f}, {gain['ci'][1]:+.3f}] {p}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures both cuts, prints the table, keeps its rows in ``runs/pictures.json``, and the
    scores of several seeds with the data."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.picture_table", description=__doc__
    )
    parser.parse_args(arguments)
    session.quiet()
    rows: list[Row] = []
    for seed in SEEDS:
        rows += measure(load_domain("icons", seed=seed), {HEADLINE: preset(HEADLINE)})
    keep_seeds(load_domain("icons", seed=SEEDS[0]), preset(HEADLINE))
    kept = {"profile": session.profile(), "machine": session.environment(), "rows": rows}
    where = session.paths().runs / "pictures.json"
    write_atomic(where, json.dumps(kept, indent=1, ensure_ascii=False) + "\n")
    sys.stdout.write(markdown(rows) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
