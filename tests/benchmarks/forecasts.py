"""What ``forecast`` tells of memory and minutes, beside what a training then takes.

``python -m tests.benchmarks.forecasts`` trains each model with each recipe for two steps, in a
process of its own, and prints the table; ``--write`` puts it, and the table of large models, into
data/results.md.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import replace

from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
from transformers import BertConfig, BertModel

from embkit import forecast, load_domain, train
from embkit.models.loading import load_model
from embkit.recipes.recipe import Recipe
from embkit.training.forecasting import ADAPTER, large_models
from tests.benchmarks.kept_table import into_results

BASE = "BERT-base's shape, random"
MODELS = ("minilm", "bge-small", BASE)
RECIPES = {
    "contrastive": {},
    "one hard negative": {"hard_negatives": 1},
    "mini-batches of 8": {"mini_batch_size": 8},
    "gradient checkpointing": {"gradient_checkpointing": True},
    "texts cut at 128": {"max_length": 128},
    "LoRA": ADAPTER | {"learning_rate": 1e-3},
}
BATCH, DOCUMENTS = 32, 120


def small():
    """A domain of long documents, of which few are searched on dev."""
    whole = load_domain("docstrings", profile="smoke")
    kept = dict.fromkeys(d for s in ("train", "dev") for _, d in whole.right(s))
    corpus = {d: whole.corpus[d] for d in list(kept)[-DOCUMENTS:]}
    qrels = {
        split: {q: r for q, r in judged.items() if r.keys() <= corpus.keys()}
        for split, judged in whole.qrels.items()
    }
    return replace(whole, name="small", corpus=corpus, qrels=qrels)


def base_shape(folder):
    """A random model of BERT-base's shape, with the word pieces of minilm."""
    tokenizer = load_model("minilm").tokenizer
    config = BertConfig(vocab_size=len(tokenizer))
    for made in (BertModel(config), tokenizer):
        made.save_pretrained(f"{folder}/bert")
    network = Transformer(f"{folder}/bert", max_seq_length=256)
    model = SentenceTransformer(modules=[network, Pooling(config.hidden_size, "mean")])
    model.save_pretrained(f"{folder}/model")
    return f"{folder}/model"


def one(model, name):
    """Told and taken, of one model and recipe, in this process."""
    with tempfile.TemporaryDirectory() as folder:
        path = base_shape(folder) if model == BASE else model
        recipe = Recipe(model=path, epochs=1, batch_size=BATCH, max_pairs=2 * BATCH)
        recipe, domain = recipe.replace(**RECIPES[name]), small()
        told = forecast(recipe, domain)
        run = train(recipe, domain, quiet=True)
    taken = run.record["peak_memory_mb"] * 2**20 / 1e6
    return {"told": told.peak, "taken": taken, "told s": told.minutes * 60, "s": run.seconds}


def lines(models):
    yield "| model | recipe | MB told | MB taken | ratio | s told | s taken |"
    yield "|---|---|---:|---:|---:|---:|---:|"
    for model in models:
        for name in RECIPES:
            with tempfile.TemporaryDirectory() as runs:
                done = subprocess.run(
                    [sys.executable, "-m", __spec__.name, "--one", model, name],
                    capture_output=True,
                    text=True,
                    check=True,
                    env=os.environ | {"EMBKIT_RUNS": runs},
                )
            f = json.loads(done.stdout.splitlines()[-1])
            yield (
                f"| {model} | {name} | {f['told']:,.0f} | {f['taken']:,.0f} "
                f"| {f['told'] / f['taken']:.2f} | {f['told s']:.0f} | {f['s']:.0f} |"
            )


def main(arguments=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--one", nargs=2, metavar=("MODEL", "RECIPE"), help=argparse.SUPPRESS)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=MODELS)
    parser.add_argument("--write", action="store_true", help="the tables into data/results.md")
    chosen = parser.parse_args(arguments)
    if chosen.one:
        sys.stdout.write(json.dumps(one(*chosen.one)) + "\n")
        return
    made = []
    for line in lines(chosen.models):
        made.append(line)
        sys.stdout.write(line + "\n")
        sys.stdout.flush()
    large = large_models().to_markdown()
    sys.stdout.write(f"\n{large}\n")
    if chosen.write:
        into_results("forecasts", "\n".join(made))
        into_results("large models", large)


if __name__ == "__main__":
    main()
