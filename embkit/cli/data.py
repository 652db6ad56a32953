"""check, export, generate, card, advise: what is done with a domain before it is trained on."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from .. import auditing
from ..advice import advise as advice
from ..auditing.base import PROBLEM, TEXTS
from ..data import SOURCES
from ..errors import EmbkitError
from ..export import cards
from ..export import export as out
from ..files import write_atomic
from ..session import paths
from ..synthetic import sets
from . import terminal as shell
from .terminal import FOUND, OK, command, option


@command(
    "look a domain over before anything is trained: sizes, leaks, duplicates, labels",
    "check my_folder --model minilm",
    option("--model", help="also ask a model: tokens, near-duplicates, what it finds"),
    more="Of data of your own it also says how it was read and which rows were put aside.",
    domain="domain",
)
def check(chosen: argparse.Namespace) -> int:
    domain = shell.the_domain(chosen)
    if chosen.model and len(domain.corpus) <= TEXTS:  # of a larger one the audit reads a part
        shell.encoded(chosen.model, list(domain.corpus.values()))
    found = auditing.audit(domain, model=chosen.model)
    read = dict(domain.report.facts()) if domain.report else {}
    told = f"{domain.report!r}\n\n" if domain.report else ""
    result = {"read": read, **json.loads(found.to_json())}
    shell.answer(chosen.json, result, told + found.to_text())
    return FOUND if found.verdict == PROBLEM else OK


@command(
    "write a domain or a model for other tools",
    "export model --run contrastive-1234 my_model",
    option(
        "what",
        choices=("beir", "model"),
        help="beir: the domain; model: a run's, as a plain sentence-transformers folder",
    ),
    option("target", type=Path, help="the folder to write"),
    option("--run", help="which run (default: the best on dev)"),
    option("--replace", action="store_true", help="overwrite an earlier export"),
    json=False,
)
def export(chosen: argparse.Namespace) -> int:
    domain, target = shell.the_domain(chosen), chosen.target
    if chosen.what == "beir":
        written = out.to_beir(domain, target, replace=chosen.replace)
    else:
        run = shell.run_or_best(domain, chosen.run)
        if run is None:
            raise EmbkitError(
                f"nothing has been trained on {domain.name!r} yet",
                expected="a finished run",
                hint=f"python -m embkit run {domain.name}",
            )
        written = out.export_model(run, target, replace=chosen.replace)
    return shell.say(f"written: {written}")


@command(
    "let a language model write queries, filter them, keep them as a set of pairs",
    "generate icd10cm --limit 100",
    option("--limit", type=int, default=100, help="documents to ask about (100)"),
    option("--seed", type=int, default=42, help="of the sample and the model (42)"),
    option("--name", help="of the set (default: the model's)"),
    option("--per-document", type=int, default=1, help="queries of a kind (1)"),
    option("--budget", type=int, help="prompts to send at most"),
    option("--model", default="smollm2", help="of the package, or the endpoint's name"),
    option(
        "--endpoint",
        metavar="URL",
        help="an OpenAI-compatible endpoint instead of a model here; the key is read from "
        "OPENAI_API_KEY",
    ),
    more="Answers are kept one by one: the same command goes on after a stop. "
    'Recipe(pairs="NAME") trains on the set.',
    domain="domain",
    json=False,
)
def generate(chosen: argparse.Namespace) -> int:
    backend = shell.the_writer(chosen.model, chosen.endpoint)
    handed = ("limit", "seed", "name", "per_document", "budget")
    options = {name: getattr(chosen, name) for name in handed}
    where, filtered = sets.make_set(shell.the_domain(chosen), backend, **options)
    shell.say(filtered)
    return shell.say(f"written: {where}, and its card {where.with_suffix('.md').name}")


@command(
    "write a domain's data card: source, terms, counts, lengths, examples, limits",
    "card python_code",
    option("--to", type=Path, metavar="FILE", help="write it into this file"),
    more="The card of a domain that comes with embkit goes into data/ (without a clone, into "
    "runs/sets/), any other to the terminal.",
    domain="domain",
    json=False,
)
def card(chosen: argparse.Namespace) -> int:
    own = chosen.domain not in SOURCES
    text = cards.card(shell.the_domain(chosen) if own else chosen.domain)
    target = chosen.to or (None if own else paths().written / chosen.domain / "README.md")
    if target is None:
        return shell.say(text)
    return shell.note(f"written: {write_atomic(target, text)}")


@command(
    "say whether to fine-tune: evidence, a learning curve from small runs, rules, a verdict",
    "advise my_folder --target 0.7",
    option("--model", default="minilm", help="the general model (minilm)"),
    option("--target", type=float, help="nDCG@10 that would do, 0 to 1"),
    option("--rules", action="store_true", help="print the table of rules, and end"),
    option("--minutes", type=float, default=5.0, help="that it may take, about (5)"),
    more="Only train and dev are read. Small runs are kept: the same command again takes seconds.",
    domain="domain",
)
def advise(chosen: argparse.Namespace) -> int:
    if chosen.rules:
        rules = advice.advice_rules().reset_index().to_dict("records")
        lines = (f"{r['rule']}: {r['when']} -> {r['then']}  ({r['source']})" for r in rules)
        return shell.answer(chosen.json, rules, "\n".join(lines))
    domain = shell.the_domain(chosen)
    options = {"target": chosen.target, "minutes": chosen.minutes}
    found = advice.advise(domain, chosen.model, told=shell.note, **options)
    text = f"{domain!r}\n\n{found.evidence!r}\n\n{found!r}"
    return shell.answer(chosen.json, found.to_dict(), text)
