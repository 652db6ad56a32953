"""python -m tests.benchmarks.bench_gpu: a GPU in ten minutes, embkit against sentence-transformers.

Three parts. ``schmid``: BERT of bge-base's shape and random weights, 6,300 made-up pairs of a
question and a paragraph, 4 epochs, 32 pairs at once and 16 such batches a step, Matryoshka at five
sizes (https://www.philschmid.de/fine-tune-embedding-model-for-rag). ``lora``: MiniLM with LoRA on
short pairs. ``encode``: paragraphs through MiniLM. Each side is sentence-transformers' own trainer
or ``encode``: embkit's way, the library's defaults, and its best flags. All is written to one JSON,
of which ``--table`` prints rows for data/results.md. ``--small`` runs all of it on anything, in
seconds.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer
from transformers import BertConfig, BertModel

from embkit import session
from embkit.assets.catalogue import resolve
from embkit.data import Domain
from embkit.files import write_atomic
from embkit.models.loading import load_model
from embkit.models.packing import embed
from embkit.recipes.recipe import Recipe
from tests.benchmarks.bench import Side, device_line, fit, say, training_share
from tests.benchmarks.bench_size import sentences

PARTS = ("schmid", "lora", "encode")
ACCUMULATED = 16  # batches a step of Schmid's
SHAPE = {"hidden_size": 768, "num_hidden_layers": 12, "num_attention_heads": 12}
SHAPE |= {"intermediate_size": 3072}
TINY = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
TINY |= {"intermediate_size": 128}
QUESTION, PAGE, TITLE = (8, 24), (50, 130), (4, 12)  # words


def made_model(folder: Path, shape: dict[str, int]) -> str:
    """A folder with a BERT of a shape, random weights, and MiniLM's tokenizer."""
    torch.manual_seed(0)
    tokenizer = load_model("minilm").tokenizer
    BertModel(BertConfig(**shape, vocab_size=len(tokenizer))).save_pretrained(folder / "bert")
    tokenizer.save_pretrained(folder / "bert")
    network = Transformer(str(folder / "bert"), max_seq_length=512)
    parts = [network, Pooling(shape["hidden_size"], "cls"), Normalize()]
    SentenceTransformer(modules=parts, device="cpu").save_pretrained(str(folder / "model"))
    return str(folder / "model")


def made_domain(pairs: int, question: tuple[int, int], page: tuple[int, int]) -> Domain:
    """Made-up texts: each question asks for one document."""
    rng = np.random.default_rng(0)
    texts = [[" ".join(row) for row in sentences(pairs, words, rng)] for words in (question, page)]
    queries, corpus = ({f"{i}": text for i, text in enumerate(own)} for own in texts)
    qrels = {"train": {i: {i: 1} for i in list(queries)[2:]}}
    qrels |= {"dev": {"0": {"0": 1}}, "test": {"1": {"1": 1}}}
    return Domain("made-up", "smoke", corpus, queries, qrels, ("test",))


def sides(recipe: Recipe, **flags: Any) -> list[Side]:
    """embkit's way, the library's defaults, its best flags."""
    best = session.precision_flags()
    stock = recipe.replace(dropout=None)
    return [
        Side("embkit", True, recipe, flags | best),
        Side("stock, defaults", False, stock, flags),
        Side("stock, best flags", False, recipe, flags | best),
    ]


def trained(found: list[Side], domain: Domain, rounds: int, steps: int, batches: int = 1) -> Any:
    """Pairs a second of each side, ``steps`` a round; and what the first makes of the device."""
    for side in found:  # the first steps of a process are slower: not counted
        fit(side, domain, steps=1)
    for _ in range(rounds):
        for side in found:
            side.rates.append(fit(side, domain, steps) * batches)
    return {
        "pairs_per_second": {side.name: side.rates for side in found},
        "peak_memory_mb": {side.name: side.peak_mb for side in found},
    } | training_share(found[0], domain)


def schmid(small: bool, rounds: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        model = made_model(Path(folder), TINY if small else SHAPE)
        sizes = (64, 32) if small else (768, 512, 256, 128, 64)
        recipe = Recipe(
            model=model,
            epochs=1 if small else 4,
            batch_size=4 if small else 32,
            learning_rate=2e-5,
            matryoshka=sizes,
            max_length=64 if small else 512,
        )
        domain = made_domain(40 if small else 6302, QUESTION, PAGE)
        accumulated = 2 if small else ACCUMULATED
        own = sides(recipe, gradient_accumulation_steps=accumulated)
        found = trained(own, domain, rounds, 1 if small else 4, accumulated)
        whole = fit(own[0], domain)  # all of the protocol
    return found | {"protocol_seconds": recipe.epochs * (len(domain.queries) - 2) / whole}


def lora(small: bool, rounds: int) -> dict[str, Any]:
    recipe = Recipe(lora_rank=16, epochs=1, batch_size=8 if small else 128, learning_rate=1e-3)
    domain = made_domain(34 if small else 10_002, TITLE, TITLE)
    return trained(sides(recipe), domain, rounds, 2 if small else 40)


def encode(small: bool, rounds: int) -> dict[str, Any]:
    """Texts a second; best flags: weights of 16 bits where the device has them, larger batches."""
    rng = np.random.default_rng(0)
    texts = [" ".join(row) for row in sentences(20 if small else 20_000, PAGE, rng)]
    half = session.torch_dtype(session.precision())
    plain, cast = load_model("minilm"), load_model("minilm").to(half)
    ways = {
        "embkit": lambda: embed(plain, texts),
        "stock, defaults": lambda: plain.encode(texts, show_progress_bar=False),
        "stock, best flags": lambda: cast.encode(texts, batch_size=256, show_progress_bar=False),
    }
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        for name, run in ways.items():
            began = time.perf_counter()
            run()
            if number:  # the first is not counted
                rates[name].append(len(texts) / (time.perf_counter() - began))
    return {"texts_per_second": rates}


def rows(found: dict[str, Any]) -> list[str]:
    """The JSON as a table in Markdown, a row a part and side."""
    made = ["| | | a second, median | peak, MB |", "|---|---|---:|---:|"]
    for part in PARTS:
        own = found.get(part, {})
        for unit in ("pairs", "texts"):
            for side, rates in own.get(f"{unit}_per_second", {}).items():
                peak = own.get("peak_memory_mb", {}).get(side)
                told = f"{statistics.median(rates):,.0f} {unit}"
                made.append(f"| {part} | {side} | {told} | {f'{peak:,.0f}' if peak else ''} |")
    return made


def main(given: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks.bench_gpu")
    parser.add_argument("--small", action="store_true", help="tiny, on anything, in seconds")
    parser.add_argument("--rounds", type=int, default=3, help="rounds, at least 3 to quote")
    parser.add_argument("--only", choices=PARTS, help="one part alone")
    parser.add_argument("--table", action="store_true", help="print what was kept; run nothing")
    chosen = parser.parse_args(given)
    kept = session.paths().runs / ("bench-gpu-small.json" if chosen.small else "bench-gpu.json")
    if not chosen.table:
        session.quiet()
        resolve("minilm")
        say(device_line())
        made: dict[str, Any] = {"environment": session.environment(), "small": chosen.small}
        parts = {"schmid": schmid, "lora": lora, "encode": encode}
        for part in [chosen.only] if chosen.only else PARTS:
            made[part] = parts[part](chosen.small, chosen.rounds)
        write_atomic(kept, json.dumps(made, indent=1))
    found = json.loads(kept.read_text(encoding="utf-8"))
    env = found["environment"]
    say(f"{env['device_name']} ({env['device']}), {env['precision']}")
    say("\n".join(rows(found)))
    for part in PARTS:
        if told := found.get(part, {}).get("told"):
            say(f"{part}: {told}")
    if seconds := found.get("schmid", {}).get("protocol_seconds"):
        say(f"schmid: the whole protocol in {seconds:,.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
