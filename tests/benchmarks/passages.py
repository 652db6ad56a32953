"""Whole documents and passages on the domain ``docstrings``: every way with its cost.

``python -m tests.benchmarks.passages`` evaluates the ways that need no training, trains the arms
with their seeds, and keeps the scores in data/docstrings/results/; ``--write`` puts the tables into
data/results.md, and ``--write`` alone takes nothing but what is kept.
"""

import argparse
import json
import sys
import time
from dataclasses import replace

from embkit.data import load_domain
from embkit.evaluation.kept import keep, results, results_folder
from embkit.evaluation.ranking import evaluate, indexed
from embkit.evaluation.report import compare
from embkit.evaluation.scores import over_seeds
from embkit.models.loading import load_model
from embkit.recipes.recipe import Recipe, preset
from embkit.search import Fusion, Passages
from embkit.training.trainer import train
from tests.benchmarks.kept_table import cell, dev_of, into_results

COSTS = "costs.json"
# arm -> recipe, learning rates for dev to choose among
ARMS = {
    "contrastive, whole": (Recipe(), (2e-4, 4e-4)),
    "contrastive, best passages": (Recipe(passage_size=128), (2e-4, 4e-4)),
    "contrastive, first passages": (
        Recipe(passage_size=128, passage_choice="first"),
        (2e-4, 4e-4),
    ),
    "LoRA, best passages": (preset("LoRA", passage_size=128), (1e-3, 2e-3)),
}


def whole(model, window):
    """A model that reads so many word pieces of a document."""
    loaded = load_model(model)
    loaded.max_seq_length = window
    return loaded


def ways():
    """Name -> what is evaluated as it is, without training."""
    cut = Passages("minilm", 128)
    yield "bm25", "bm25"
    for window in (128, 256, 512):
        yield f"minilm, whole, window {window}", lambda window=window: whole("minilm", window)
    yield "minilm, passages of 128", cut
    yield "minilm, passages of 128, mean of 2", replace(cut, best=2)
    yield "hybrid of passages of 128", Fusion(cut)
    yield "minilm, passages of 256", replace(cut, size=256)
    yield "minilm, passages of 64", replace(cut, size=64)
    yield "bm25, passages of 256", Passages("bm25", 256)
    yield "hybrid", "hybrid"
    yield (
        "minilm, passages of 128, late",
        lambda: Passages(whole("minilm", 512), 128, late=True),
    )
    yield "bge-small, whole, window 512", "bge-small"
    yield "bge-small, passages of 128", Passages("bge-small", 128)
    yield "minilm, passages of 128, 32 shared", replace(cut, overlap=32)
    yield "minilm, passages of 128, headings", replace(cut, headings=True)


def say(text):
    sys.stdout.write(f"{time.strftime('%H:%M:%S')} {text}\n")
    sys.stdout.flush()


def untrained(domain):
    costs = known_costs(domain)
    for name, what in ways():
        if name in costs:
            continue
        what = what() if callable(what) and not isinstance(what, Passages | Fusion) else what
        scores = evaluate(what, domain, name=name)
        keep(scores.labelled(name), domain)
        costs[name] = cost(what, domain)
        cost_file(domain).write_text(json.dumps(costs, indent=1) + "\n", encoding="utf-8")
        say(f"{name}: {told(scores)}; {costs[name]}")


def timed(domain):
    """The costs anew, on a quiet machine; vectors come from the cache."""
    costs = known_costs(domain)
    for name, what in ways():
        if name in costs:
            what = what() if callable(what) and not isinstance(what, Passages | Fusion) else what
            costs[name] = cost(what, domain)
            say(f"{name}: {costs[name]}")
    cost_file(domain).write_text(json.dumps(costs, indent=1) + "\n", encoding="utf-8")


def cost(what, domain, n=200):
    """Vectors of the index, its MB in float32, and milliseconds a query, encoding it included."""
    index = indexed(what, list(domain.corpus.values()))
    queries = [domain.queries[q] for split in ("near", "far") for q in domain.split(split)][:n]
    started = time.perf_counter()
    for query in queries:
        index.search([query], 10)
    ms = 1000 * (time.perf_counter() - started) / len(queries)
    dense = getattr(index, "dense", index)
    inner = getattr(dense, "_index", dense)
    vectors = getattr(inner, "_documents", None)
    size = {} if vectors is None else {"vectors": len(vectors), "MB": round(vectors.size * 4e-6, 1)}
    return size | {"ms": round(ms, 1)}


def trained(domain, seeds, arms):
    for name in arms:
        recipe, rates = ARMS[name]
        tried = [train(recipe.replace(learning_rate=rate), domain) for rate in rates]
        best = max(tried, key=lambda run: run.dev_score).recipe
        shown = [f"{run.recipe.learning_rate:g} {run.dev_score:.3f}" for run in tried]
        say(f"{name}: dev sample {', '.join(shown)}")
        runs = [train(best.replace(seed=seed), domain) for seed in seeds]
        scores = over_seeds([evaluate(run, domain, name=name) for run in runs])
        keep(scores.labelled(name), domain, json.loads(best.to_json()))
        say(f"{name}: {told(scores)}")
        if not best.passage_size:
            name = f"{name}, searched by passages"
            cut = [evaluate(Passages(run, 128), domain, name=name) for run in runs]
            keep(over_seeds(cut).labelled(name), domain, json.loads(best.to_json()))
            say(f"{name}: {told(over_seeds(cut))}")


def told(scores):
    return ", ".join(f"{split} {scores.mean(split):.3f}" for split in scores.per_query)


def cost_file(domain):
    folder = results_folder(domain).parent
    folder.mkdir(parents=True, exist_ok=True)
    return folder / COSTS


def known_costs(domain):
    file = cost_file(domain)
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}


def lines(domain, baseline):
    """The table in Markdown: one row a way or an arm, the best on dev first."""
    kept, costs = results(domain), known_costs(domain)
    rows = compare(list(kept.values()), baseline=baseline).rows
    found = {(row["label"], row["split"]): row for row in rows if not row["subset"]}
    dev = {name: dev_of(one) for name, one in kept.items()}
    yield "| | seeds | dev | near | far | novel | vectors | MB | ms |"
    yield "|---|---:|---:|---:|---:|---:|---:|---:|---:|"
    for name in sorted(kept, key=lambda name: -dev[name]):
        seeds = [r.meta.get("seed") for r in kept[name].runs or () if r.meta.get("seed")]
        cells = [cell(found[name, split], bold=True) for split in ("near", "far", "novel")]
        beside = [str(costs.get(name, {}).get(what, "")) for what in ("vectors", "MB", "ms")]
        count = len(seeds) or ""
        yield f"| {name} | {count} | {dev[name]:.3f} | {' | '.join(cells + beside)} |"


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", choices=["untrained", "trained", "costs"])
    parser.add_argument("--arms", nargs="+", choices=list(ARMS), default=list(ARMS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[42, 43, 44])
    parser.add_argument("--baseline", default="contrastive, whole")
    parser.add_argument("--write", action="store_true", help="the kept table into data/results.md")
    chosen = parser.parse_args(arguments)
    domain = load_domain("docstrings", profile="workshop")
    if not chosen.write:
        if chosen.only in (None, "untrained"):
            untrained(domain)
        if chosen.only in (None, "trained"):
            trained(domain, chosen.seeds, chosen.arms)
        if chosen.only == "costs":
            timed(domain)
    table = "\n".join(lines(domain, chosen.baseline))
    if not chosen.write:
        return say(table)
    into_results("passages", table)


if __name__ == "__main__":
    main()
