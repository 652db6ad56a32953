"""check, card, generate, export: what is done with a domain's data."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from ..errors import EmbkitError
from . import terminal as shell
from .terminal import FOUND, OK, Commands, command


def add(commands: Commands) -> None:
    """Adds the commands."""
    parser = command(
        commands,
        check,
        "look a domain over before anything is trained: sizes, leaks, duplicates, labels",
        "check my_folder --model minilm",
        "Of data of your own it also says how it was read and which rows were put aside.",
        domain="domain",
    )
    parser.add_argument("--model", help="also ask a model: tokens, near-duplicates, what it finds")

    parser = command(
        commands,
        export,
        "write a domain, a model or embeddings for other tools",
        "export model --run contrastive-1234 my_model",
        json=False,
    )
    parser.add_argument(
        "what",
        choices=("beir", "datasets", "model", "parquet"),
        help="beir and datasets: the domain; model: a run's, as a plain sentence-transformers "
        "folder; parquet: the documents with their embeddings and places on a map",
    )
    parser.add_argument("target", type=Path, help="the folder, or the Parquet file, to write")
    parser.add_argument("--run", help="which run (default: the best on dev)")
    parser.add_argument("--model", help="parquet: embeddings of this model, not of a run")
    parser.add_argument(
        "--map",
        choices=("pca", "umap", "none"),
        default="pca",
        help="parquet: how the columns x and y are made (default: pca; umap is slower)",
    )
    parser.add_argument("--replace", action="store_true", help="overwrite an earlier export")

    parser = command(
        commands,
        generate,
        "let a language model write queries, filter them, keep them as a set of pairs",
        "generate icd10cm --limit 100",
        "Answers are kept one by one: the same command goes on after a stop. "
        'Recipe(pairs="NAME") trains on the set.',
        domain="domain",
        json=False,
    )
    parser.add_argument("--limit", type=int, default=100, help="documents to ask about (100)")
    parser.add_argument("--seed", type=int, default=42, help="of the sample and the model (42)")
    parser.add_argument("--name", help="of the set (default: the model's)")
    parser.add_argument("--per-document", type=int, default=1, help="queries of a kind (1)")
    parser.add_argument("--budget", type=int, help="prompts to send at most")
    parser.add_argument("--model", default="smollm2", help="of the package, or the endpoint's name")
    parser.add_argument(
        "--endpoint",
        metavar="URL",
        help="an OpenAI-compatible endpoint instead of a model here; the key is read from "
        "OPENAI_API_KEY",
    )

    parser = command(
        commands,
        card,
        "write a domain's data card: source, terms, counts, lengths, examples, limits",
        "card python_code",
        "The card of a domain that comes with embkit goes into data/ (without a clone, into "
        "runs/sets/), any other to the terminal.",
        domain="domain",
        json=False,
    )
    parser.add_argument("--to", type=Path, metavar="FILE", help="write it into this file")


def check(chosen: argparse.Namespace) -> int:
    """Prints how the data was read and the audit; 1 when something is a problem."""
    from ..auditing import audit
    from ..auditing.base import PROBLEM, TEXTS

    domain = shell.the_domain(chosen)
    if chosen.model and len(domain.corpus) <= TEXTS:  # of a larger one the audit reads a part
        shell.encoded(chosen.model, list(domain.corpus.values()))
    found = audit(domain, model=chosen.model)
    if chosen.json:
        read = dict(domain.report.facts()) if domain.report else {}
        shell.as_json({"read": read, **json.loads(found.to_json())})
    else:
        if domain.report:
            shell.say(f"{domain.report!r}\n")
        shell.say(found.to_text())
    return FOUND if found.verdict == PROBLEM else OK


def export(chosen: argparse.Namespace) -> int:
    """Writes a domain, a model or embeddings."""
    from ..export import export as out

    domain, target = shell.the_domain(chosen), chosen.target
    if chosen.what == "beir":
        written = out.to_beir(domain, target, replace=chosen.replace)
    elif chosen.what == "datasets":
        written = out.to_datasets(domain, target, replace=chosen.replace)
    elif chosen.what == "model":
        run = shell.run_or_best(domain, chosen.run)
        if run is None:
            raise EmbkitError(
                f"nothing has been trained on {domain.name!r} yet",
                expected="a finished run",
                hint=f"python -m embkit run {domain.name}",
            )
        written = out.export_model(run, target, replace=chosen.replace)
    else:
        run = None if chosen.model else shell.run_or_best(domain, chosen.run)
        model = shell.subject(domain, chosen.model or "minilm") if run is None else run
        ids, texts = list(domain.corpus), list(domain.corpus.values())
        vectors = shell.encoded(model, texts)
        groups = {"group": [domain.groups.get(i) for i in ids]} if domain.groups else {}
        places = _coordinates(vectors, chosen.map)
        written = out.to_parquet(
            vectors, texts, ids, target, places, replace=chosen.replace, **groups
        )
    shell.say(f"written: {written}")
    return OK


def _coordinates(vectors, how: str):
    """Places on a map, shape (texts, 2)."""
    if how == "none" or len(vectors) < 3:
        return None
    if how == "pca":
        from ..space.maps import pca

        return pca(vectors, 2)
    import umap

    return umap.UMAP(metric="cosine", random_state=0, n_jobs=1).fit_transform(vectors)


def generate(chosen: argparse.Namespace) -> int:
    """Generates, filters and writes a set of queries."""
    from ..synthetic.sets import make_set

    if chosen.endpoint:
        from ..synthetic.backends import OpenAIBackend

        backend: Any = OpenAIBackend(chosen.model, chosen.endpoint)
    else:
        from ..synthetic.local import TransformersBackend

        backend = TransformersBackend(chosen.model)
    where, filtered = make_set(
        shell.the_domain(chosen),
        backend,
        limit=chosen.limit,
        seed=chosen.seed,
        name=chosen.name,
        per_document=chosen.per_document,
        budget=chosen.budget,
    )
    shell.say(filtered)
    shell.say(f"written: {where}, and its card {where.with_suffix('.md').name}")
    return OK


def card(chosen: argparse.Namespace) -> int:
    """Writes a data card."""
    from ..data import SOURCES
    from ..export.cards import card as made
    from ..files import write_atomic
    from ..session import paths

    target, own = chosen.to, chosen.domain not in SOURCES
    text = made(shell.the_domain(chosen) if own else chosen.domain)
    if not own:
        target = target or paths().written / chosen.domain / "README.md"
    if target is None:
        shell.say(text)
    else:
        shell.note(f"written: {write_atomic(target, text)}")
    return OK
