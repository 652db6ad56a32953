"""python -m tests.benchmarks.bench: the engine against the stock trainer, in one process, in turn.

The same recipe, weights, pairs, order and steps. A round runs each side once; a ratio is taken
within a round, so that a machine that slows down slows both. The part ``size`` has no contender: it
shows how time and memory grow with a folder of one's own (see ``bench_size``). The part ``tiered``
sets two tiers against exact search (see ``bench_tiered``). The part ``space`` times a map of 30,000
documents and the labs' sliders (see ``bench_space``). The
part ``browser`` presses keys in a real one (see ``bench_browser``).
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from embkit import session
from embkit.data import Domain, load_domain
from embkit.evaluation.intervals import paired_test
from embkit.evaluation.ranking import rank, score
from embkit.files import write_atomic
from embkit.models.loading import load_model
from embkit.models.packing import efficient, embed
from embkit.pairs.mining import mine
from embkit.recipes.recipe import Recipe
from embkit.training.callbacks import Memory
from embkit.training.trainer import make_trainer, training_pairs
from tests.benchmarks.bench_browser import bench_browser
from tests.benchmarks.bench_size import bench_size
from tests.benchmarks.bench_space import bench_space, empty_cache
from tests.benchmarks.bench_tiered import bench_tiered

PARTS = ("encoding", "training", "quality", "mining", "size", "tiered", "space", "browser")
# TFLOP/s of products of 16 bits that are added up in fp32, dense, by NVIDIA's data sheets
PEAKS = {"B200": 2250, "H200": 989, "H100 PCIe": 756, "H100": 989, "A100": 312, "A10G": 70}
PEAKS |= {"L40S": 362, "L4": 121, "T4": 65, "V100": 125, "RTX 4090": 165, "RTX 3090": 71}
BOUND = 0.01  # nDCG@10: the paired interval of the difference must lie within


def say(*words: object) -> None:
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


@dataclass
class Side:
    """One contender: how it is set up, and what was measured a round."""

    name: str
    packed: bool
    recipe: Recipe
    flags: dict[str, Any] = field(default_factory=dict)
    rates: list[float] = field(default_factory=list)
    peak_mb: float = 0.0
    model: Any = None


def fit(side: Side, domain: Domain, steps: int = -1) -> float:
    """Trains with the stock trainer, inside the engine or not; returns pairs a second."""
    recipe, side.model = side.recipe, None
    gc.collect()
    pairs = training_pairs(recipe, domain)
    with tempfile.TemporaryDirectory() as folder, Memory() as memory:
        trainer = make_trainer(
            recipe, recipe.model, pairs, folder, **side.flags, max_steps=steps, save_strategy="no"
        )
        side.model = trainer.model
        on_gpu = side.model.device.type == "cuda"
        if on_gpu:
            torch.cuda.reset_peak_memory_stats()
        way = efficient(side.model) if side.packed else contextlib.nullcontext()
        tf32 = session.products() if side.flags else contextlib.nullcontext()
        with way, tf32:
            started = time.perf_counter()
            trainer.train()
            seconds = time.perf_counter() - started
    peak = torch.cuda.max_memory_allocated() / 2**20 if on_gpu else memory.peak_mb
    side.peak_mb = max(side.peak_mb, peak)
    seen = steps * recipe.batch_size if steps > 0 else len(pairs) * recipe.epochs
    return seen / seconds


def spread(values: list[float]) -> str:
    """Median, least and most."""
    return f"{statistics.median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


def ratios(mine: list[float], theirs: list[float]) -> list[float]:
    return [a / b for a, b in zip(mine, theirs, strict=True)]


def matmul_gflops(dtype: torch.dtype, size: int = 2048) -> float:
    """The best of a few square matrix products on the device, in 10^9 operations a second."""
    on = session.device()
    wait = torch.cuda.synchronize if on.startswith("cuda") else lambda: None
    size = 8192 if on.startswith("cuda") else size
    a, best = torch.ones(size, size, dtype=dtype, device=on), float("inf")
    for _ in range(5):
        wait()
        start = time.perf_counter()
        a @ a
        wait()
        best = min(best, time.perf_counter() - start)
    return 2 * size**3 / best / 1e9


def known_peak() -> float | None:
    """The device's peak in 10^9 operations a second, where a data sheet says it."""
    name = session.device_name() if session.device().startswith("cuda") else ""
    known = [peak for card, peak in PEAKS.items() if card in name]
    return 1e3 * known[0] if known and session.precision() != "fp32" else None


def device_line() -> str:
    """The machine, its device and precision."""
    return (
        f"{platform.platform(terse=True)}, {session.device_name()} ({session.device()}), "
        f"{session.precision()}, {torch.get_num_threads()} threads"
    )


def training_share(side: Side, domain: Domain) -> dict[str, Any]:
    """FLOP/s that a side's training needs without any padding, and their share of the peak."""
    total = sum(p.numel() for n, p in side.model.named_parameters() if "embeddings" not in n)
    measured = matmul_gflops(session.torch_dtype(session.precision()))
    peak, told = known_peak(), "the device's peak by its data sheet"
    if peak is None:
        peak, told = measured, "what a large square product reaches here"
    used = 6 * total * tokens_a_pair(domain, side.recipe) * statistics.median(side.rates) / 1e9
    return {
        "share_of_matmul": used / measured,
        "matmul_gflops": measured,
        "told": f"training needs {used:,.0f} GFLOP/s of matrix products without any padding: "
        f"{used / peak:.0%} of {peak:,.0f}, {told}",
    }


def tokens_a_pair(domain: Domain, recipe: Recipe) -> float:
    """Mean tokens of an anchor and its positive, special tokens included."""
    model = load_model(recipe.model)
    pairs = training_pairs(recipe, domain)
    texts = [text for _, a, d in pairs.rows for text in (a, domain.corpus[d])]
    cut = {"truncation": True, "max_length": recipe.max_length} if recipe.max_length else {}
    return sum(map(len, model.tokenizer(texts, **cut)["input_ids"])) / len(pairs)


def bench_training(recipe: Recipe, domain: Domain, rounds: int, steps: int) -> dict[str, Any]:
    native, flags = session.precision(), session.precision_flags()
    engine = Side("engine", True, recipe, flags)
    sides = [engine, Side("stock, same recipe", False, recipe)]
    if recipe.dropout is not None:
        sides.append(Side("stock, the model's own dropout", False, recipe.replace(dropout=None)))
    if flags:
        sides.append(Side(f"stock, {native}=True", False, recipe, flags))
    for side in sides:  # the first steps of a process are slower: not counted
        fit(side, domain, steps=1)
    for number in range(rounds):
        for side in sides:
            side.rates.append(fit(side, domain, steps))
        say(f"  training, round {number + 1}:", _line(sides))
    _table("training, pairs a second", sides, "pairs/s")
    if not flags:
        fast, slow = matmul_gflops(torch.float32), matmul_gflops(torch.bfloat16, 256)
        say(
            f"  bf16 flag: not run. Matrix products here make {slow:.1f} GFLOP/s in bf16 and "
            f"{fast:.0f} in fp32: the flag would slow the stock trainer, so its defaults are its "
            "best."
        )
    share = training_share(engine, domain)
    say(f"  {share['told']}")
    return {
        "pairs_per_second": {s.name: s.rates for s in sides},
        "peak_memory_mb": {s.name: s.peak_mb for s in sides},
        "ratio": {s.name: ratios(engine.rates, s.rates) for s in sides[1:]},
    } | share


def bench_quality(recipe: Recipe, domain: Domain) -> dict[str, Any]:
    """Both sides over the whole recipe; the paired interval of the difference in nDCG@10."""
    engine = Side("engine", True, recipe, session.precision_flags())
    stock = Side("stock", False, recipe)
    tables: dict[str, dict[str, Any]] = {}
    for side in (engine, stock):
        fit(side, domain)
        tables[side.name] = {
            split: score(rank(side.model, domain, split, cache=False), domain, split)["ndcg@10"]
            for split in domain.test_splits
        }
    found: dict[str, Any] = {}
    say(f"\nthe same {len(training_pairs(recipe, domain)):,} pairs and order, nDCG@10")
    for split in domain.test_splits:
        mine, theirs = tables["engine"][split], tables["stock"][split]
        test = paired_test(mine, theirs)
        inside = -BOUND <= test.ci_low and test.ci_high <= BOUND
        say(
            f"  {split:>8}: engine {mine.mean():.4f}, stock {theirs.mean():.4f}, difference "
            f"{test.delta:+.4f} [{test.ci_low:+.4f}, {test.ci_high:+.4f}], "
            f"{'within' if inside else 'NOT within'} ±{BOUND}"
        )
        found[split] = {
            "engine": float(mine.mean()),
            "stock": float(theirs.mean()),
            "difference": [test.delta, test.ci_low, test.ci_high],
        }
    return found


def bench_encoding(recipe: Recipe, domain: Domain, rounds: int, texts: int) -> dict[str, Any]:
    model = load_model(recipe.model)
    titles = list(domain.corpus.values())[:texts]
    ways: dict[str, Callable[[], Any]] = {
        "engine": lambda: embed(model, titles).numpy(),
        "stock": lambda: model.encode(titles, show_progress_bar=False),
    }
    sides = [Side(name, name == "engine", recipe) for name in ways]
    vectors = {}
    for run in ways.values():
        run()
    for _ in range(rounds):
        for side in sides:
            started = time.perf_counter()
            vectors[side.name] = ways[side.name]()
            side.rates.append(len(titles) / (time.perf_counter() - started))
    _table("encoding, titles a second", sides, "titles/s")
    off = float(np.abs(vectors["engine"] - vectors["stock"]).max())
    say(f"  largest difference of any entry of any vector: {off:.1e}")
    return {
        "titles_per_second": {s.name: s.rates for s in sides},
        "ratio": {"stock": ratios(sides[0].rates, sides[1].rates)},
        "largest_difference": off,
    }


def bench_mining(rounds: int, queries: int) -> dict[str, Any]:
    """Two hard negatives a pair from the full corpus, embeddings included, nothing cached."""
    from sentence_transformers import mine_hard_negatives

    domain = load_domain("icd10cm", profile="full")
    recipe = Recipe(max_pairs=queries)
    pairs, model = training_pairs(recipe, domain), load_model(recipe.model)
    data, texts = pairs.dataset(), list(domain.corpus.values())
    rules: dict[str, Any] = {"range_max": 50, "relative_margin": 0.05}

    def engine() -> set[tuple[str, ...]]:
        with empty_cache():
            mined = mine(domain, pairs.rows, 2, model=model, keep_relatives=True, **rules)
        corpus, scored = domain.corpus, ~np.isnan(mined.scores).any(axis=1)
        rows = zip(mined.anchors, mined.positives, mined.negatives, scored, strict=True)
        return {(a, corpus[p], *(corpus[d] for d in n)) for a, p, n, whole in rows if whole}

    def stock() -> set[tuple[str, ...]]:
        found = mine_hard_negatives(
            data,
            model,
            corpus=texts,
            num_negatives=2,
            output_format="n-tuple",
            verbose=False,
            **rules,
        )
        return set(zip(*(found[c][:] for c in found.column_names), strict=True))

    sides = [Side("engine", True, recipe), Side("stock", False, recipe)]
    found = {}
    for number in range(rounds):
        for side, run in zip(sides, (engine, stock), strict=True):
            started = time.perf_counter()
            found[side.name] = run()
            side.rates.append(len(pairs) / (time.perf_counter() - started))
        say(f"  mining, round {number + 1}:", _line(sides))
    same = len(found["engine"] & found["stock"]) / max(1, len(found["stock"]))
    title = f"mining for {len(pairs):,} pairs in {len(texts):,} documents, pairs a second"
    _table(title, sides, "pairs/s")
    say(
        f"  {same:.1%} of the stock miner's rows are found with the same two negatives in the same "
        f"order; it drops {len(pairs) - len(found['stock']):,} pairs that are short of negatives"
    )
    return {
        "pairs_per_second": {s.name: s.rates for s in sides},
        "ratio": {"stock": ratios(sides[0].rates, sides[1].rates)},
        "same_rows": same,
    }


def _line(sides: list[Side]) -> str:
    return ", ".join(f"{side.name} {side.rates[-1]:.1f}" for side in sides)


def _table(title: str, sides: list[Side], unit: str) -> None:
    say(f"\n{title}: median (least to most) of {len(sides[0].rates)} rounds")
    for side in sides:
        ratio = (
            "" if side is sides[0] else f"   engine ×{spread(ratios(sides[0].rates, side.rates))}"
        )
        memory = f"   peak {side.peak_mb:,.0f} MB" if side.peak_mb else ""
        say(f"  {side.name:<32} {spread(side.rates):>26} {unit}{memory}{ratio}")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3, help="rounds, at least 3 to quote")
    parser.add_argument("--steps", type=int, default=8, help="training steps a round")
    parser.add_argument("--texts", type=int, default=2000, help="titles to encode a round")
    parser.add_argument("--queries", type=int, default=10_000, help="pairs to mine for")
    parser.add_argument("--only", choices=PARTS, help="one part alone")
    chosen = parser.parse_args()
    session.quiet()
    domain = load_domain("icd10cm")
    recipe = Recipe(epochs=1)
    say(device_line())
    say(f"recipe {recipe.hash}: {recipe.to_json()}")
    parts: dict[str, Callable[[], dict[str, Any]]] = {
        "encoding": lambda: bench_encoding(recipe, domain, chosen.rounds, chosen.texts),
        "training": lambda: bench_training(recipe, domain, chosen.rounds, chosen.steps),
        "quality": lambda: bench_quality(recipe.replace(max_pairs=1536), domain),
        "mining": lambda: bench_mining(chosen.rounds, chosen.queries),
        "size": lambda: bench_size(say),
        "tiered": lambda: bench_tiered(chosen.rounds),
        "space": lambda: bench_space(say),
        "browser": lambda: bench_browser(say),
    }
    found: dict[str, Any] = {
        "environment": session.environment(),
        "recipe": json.loads(recipe.to_json()),
    }
    found |= {part: parts[part]() for part in ([chosen.only] if chosen.only else PARTS)}
    name = f"bench-{chosen.only}.json" if chosen.only else "bench.json"
    where = write_atomic(session.paths().runs / name, json.dumps(found, indent=1))
    say(f"\nwritten: {where.name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
