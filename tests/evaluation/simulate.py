"""How often intervals and tests are right, in worlds where the truth is known.

``python -m tests.evaluation.simulate`` prints both tables; ``--write`` puts them into
``data/results.md``. The tests run the same worlds fewer times.
"""

from __future__ import annotations

import argparse
from functools import cache
from pathlib import Path

import numpy as np

from embkit import load_domain
from embkit.display import Table, table
from embkit.evaluation.intervals import clusters, estimate

RESULTS = Path(__file__).parents[2] / "data" / "results.md"
SIZES = (5, 10, 20, 50, 200, 1000, 5000)
SPLITS = ("known", "novel", "lay", "dev")
ALIKE = 0.2  # correlation of the differences within a cluster
SEED_SPREAD = (
    0.013  # of a method's mean over seeds: contrastive on `novel` has 0.020, on `known` 0.01
)


@cache
def structure(split: str, over: str = "groups") -> np.ndarray:
    """The cluster of each query of a split of icd10cm."""
    domain = load_domain(profile="workshop")
    if over == "documents":
        import dataclasses

        domain = dataclasses.replace(domain, groups={}, held_out=None)
    found = clusters(domain, split)
    assert found.over == over, found.over
    return np.array(list(found.of.values()))


def no_effect(rng: np.random.Generator, codes: np.ndarray, seeds: int = 1) -> np.ndarray:
    """Differences of nDCG@10 whose true mean is 0, shape (seeds, queries).

    Half of the queries are ties; those of a cluster are alike; a seed moves all of them a little.
    """
    of_cluster = rng.standard_normal(codes.max() + 1)[codes]
    alone = rng.standard_normal(len(codes))
    values = 0.3 * (ALIKE**0.5 * of_cluster + (1 - ALIKE) ** 0.5 * alone)
    values = np.where(rng.random(len(codes)) < 0.5, 0, values)
    if seeds == 1:
        return values
    shift = SEED_SPREAD * rng.standard_normal((seeds, 1))
    return values + shift + 0.12 * rng.standard_normal((seeds, len(codes)))


def false_positives(
    split: str, seeds: int, times: int, *, over: str = "groups", naive: bool = False
) -> float:
    """Share of worlds without an effect in which p < 0.05; ``naive``: over queries, one seed."""
    codes, rng = structure(split, over), np.random.default_rng(len(split) * 10 + seeds)
    found = 0
    for _ in range(times):
        values = no_effect(rng, codes, seeds)
        told = estimate(values.mean(0) if values.ndim > 1 else values) if naive else None
        found += (told or estimate(values, list(codes))).p < 0.05
    return found / times


def of_ranks(rng: np.random.Generator, *shape: int) -> np.ndarray:
    """What nDCG@10 gains, where the one right document moves from rank to rank for half of them."""

    def ndcg(tail: float) -> np.ndarray:
        ranks = np.floor(rng.pareto(tail, shape)) + 1
        return np.where(ranks <= 10, 1 / np.log2(ranks + 1), 0)

    before = ndcg(0.8)
    return np.where(rng.random(shape) < 0.5, 0, ndcg(0.95) - before)


@cache
def gain() -> float:
    """The true mean of ``of_ranks``."""
    return float(of_ranks(np.random.default_rng(0), 4_000_000).mean())


def coverage(queries: int, times: int) -> float:
    """Share of 95% intervals that hold the true mean."""
    rng = np.random.default_rng(queries)
    found = (estimate(of_ranks(rng, queries)) for _ in range(times))
    return sum(one.low <= gain() <= one.high for one in found) / times


def tables(times: int) -> tuple[Table, Table]:
    """Both, measured."""
    rows = []
    for over, seeds in (("groups", 1), ("groups", 3), ("documents", 1), ("documents", 3)):
        row = {"over": over, "seeds": str(seeds)}
        for split in SPLITS:
            ours = false_positives(split, seeds, times, over=over)
            naive = false_positives(split, seeds, times, over=over, naive=True)
            row[split] = f"{ours:.1%} ({naive:.1%})"
        rows.append(row)
    wrong = table(rows, caption="No effect: share of tests with p < 0.05 (over queries alone)")
    held = {f"{n:,}": f"{coverage(n, times):.1%}" for n in SIZES}
    return wrong, table([{"queries": "held"} | held], caption="95% intervals that hold the truth")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--times", type=int, default=4000, help="worlds a cell")
    parser.add_argument("--write", action="store_true", help="into data/results.md")
    chosen = parser.parse_args()
    made = "\n\n".join(f"{one.caption}:\n\n{one.to_markdown()}" for one in tables(chosen.times))
    print(made)
    if chosen.write:
        text = RESULTS.read_text(encoding="utf-8")
        before, _, rest = text.partition("<!-- simulations -->")
        after = rest.partition("<!-- /simulations -->")[2]
        made = f"<!-- simulations -->\n{made}\n<!-- /simulations -->"
        RESULTS.write_text(before + made + after, encoding="utf-8")
