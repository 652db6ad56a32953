"""evaluate, compare, leaderboard, search, pictures: what is done with models and runs."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .terminal import (
    OK,
    Commands,
    as_json,
    bar,
    command,
    domain_options,
    json_option,
    note,
    run_or_best,
    say,
    scored,
    subject,
    the_domain,
)

if TYPE_CHECKING:
    from ..data import Domain
    from ..evaluation.report import Report

DEEP = 100  # ranks among which a document's place before is looked up


def add(commands: Commands) -> None:
    """Adds the commands."""
    parser = command(
        commands,
        "evaluate",
        evaluate,
        "score a model or a run on a domain's test splits",
        "evaluate minilm --domain python_code",
    )
    parser.add_argument(
        "what",
        metavar="WHAT",
        help="bm25, a model (a name, a folder, a hub id), or a run (its folder, or the beginning "
        "of its name or of its recipe's hash)",
    )
    domain_options(parser)
    json_option(parser)

    parser = command(
        commands,
        "compare",
        compare,
        "put runs and models side by side, with paired tests and a verdict",
        "compare bm25 minilm contrastive-1234",
        "What has not been scored yet is scored first. Without names: everything scored so far.",
    )
    parser.add_argument("what", nargs="*", metavar="WHAT", help="as for evaluate")
    parser.add_argument("--baseline", help="what the others are tested against (default: base)")
    domain_options(parser)
    json_option(parser)

    parser = command(
        commands,
        "leaderboard",
        leaderboard,
        "show everything scored on a domain so far",
        "leaderboard icd10cm",
    )
    domain_options(parser, positional=True)
    json_option(parser)

    parser = command(
        commands,
        "search",
        search,
        "type a query and see what is found before and after fine-tuning",
        'search "low iron in the blood" --k 3',
        "Without words it asks for queries until an empty line.",
    )
    parser.add_argument("words", nargs="*", metavar="WORD", help="the query")
    parser.add_argument("--run", help="the run to search with (default: the best on dev)")
    parser.add_argument("--k", type=int, default=5, help="documents to show (5)")
    domain_options(parser)
    json_option(parser)

    command(
        commands,
        "screenshots",
        screenshots,
        "draw the README's pictures from the course's runs",
        "screenshots",
    )


def evaluate(chosen: argparse.Namespace) -> int:
    """Scores one thing and prints its rows."""
    from ..evaluation.report import Report

    domain = the_domain(chosen)
    show(Report(scored(subject(domain, chosen.what), domain).rows()), chosen.json)
    return OK


def compare(chosen: argparse.Namespace) -> int:
    """Compares what is named, or everything, and prints table and verdict."""
    from ..evaluation.scores import compare as compared
    from ..evaluation.verdict import verdict

    domain = the_domain(chosen)
    if not chosen.what:
        report = _all(domain, chosen.baseline)
        show(report, chosen.json, verdict(report))
        return OK
    scores = [scored(subject(domain, what), domain) for what in dict.fromkeys(chosen.what)]
    names = [one.approach for one in scores]
    baseline = chosen.baseline or ("base" if "base" in names else names[0])
    show(compared(scores, baseline), chosen.json, verdict(scores, baseline))
    return OK


def leaderboard(chosen: argparse.Namespace) -> int:
    """Prints everything scored on a domain."""
    show(_all(the_domain(chosen)), chosen.json)
    return OK


def _all(domain: Domain, baseline: str | None = None) -> Report:
    from ..evaluation.ranking import leaderboard as board

    return board(domain, baseline or "base")


def show(report: Report, json: bool, verdict: Any = None) -> None:
    """A report, and a verdict below it; as JSON the rows alone."""
    if json:
        as_json(report.rows)
        return
    say(report.to_text())
    if verdict is not None:
        say(f"\nverdict: {verdict}")


def search(chosen: argparse.Namespace) -> int:
    """Searches with the general model and with a run, once or until an empty line."""
    domain = the_domain(chosen)
    models = _before_after(domain, chosen.run)
    if chosen.words:
        _look(" ".join(chosen.words), models, domain, chosen.k, chosen.json)
        return OK
    for query in _typed():
        _look(query, models, domain, chosen.k, chosen.json)
    return OK


def _before_after(domain: Domain, name: str | None) -> dict[str, Callable]:
    from ..models.loading import load_model

    run = run_or_best(domain, name)
    if run is None:
        note(f"nothing has been trained on {domain.name} yet: the general model alone searches")
        return {"minilm": _encoded_once(load_model("minilm"), domain)}
    return {
        f"before: {run.recipe.model}": _encoded_once(load_model(run.recipe.model), domain),
        f"after: {run.recipe.label} ({run.path.name})": _encoded_once(run.model(), domain),
    }


def _encoded_once(model: Any, domain: Domain) -> Callable:
    """A model as a function for ``look``, its documents encoded once for all queries."""
    from ..models.encoding import encode

    texts = list(domain.corpus.values())
    with bar("encoding", len(set(texts))) as progress:
        vectors = encode(model, texts, progress=progress)
    return lambda rows: vectors if rows == texts else encode(model, rows, cache=False)


def _typed():
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


def _look(query: str, models: dict[str, Callable], domain: Domain, k: int, json: bool) -> None:
    from ..errors import EmbkitError
    from ..evaluation.ranking import search_side_by_side

    if k < 1:
        raise EmbkitError(f"--k {k}", expected="1 or more", hint="--k 5")
    deep = min(max(DEEP, k), len(domain.corpus))
    table = search_side_by_side(query, models, domain, k=deep)
    ids = {f"{i}  {text}": i for i, text in domain.corpus.items()}  # as look() shows them
    before = dict(zip(table[next(iter(models))], table.index, strict=True))
    found: dict[str, list[dict[str, Any]]] = {
        name: [
            {"rank": int(rank), "score": float(table[f"{name}: score"][rank]), "id": ids[shown]}
            | {"text": domain.corpus[ids[shown]], "before": before.get(shown)}
            for rank, shown in table[name].head(k).items()
        ]
        for name in models
    }
    if json:
        as_json({"query": query, "found": found})
        return
    say(f"query: {query}")
    for number, (name, rows) in enumerate(found.items()):
        say(f"\n{name}")
        for row in rows:
            was = f"  (was {row['before'] or f'beyond {deep}'})" if number else ""
            text = " ".join(f"{row['id']}  {row['text']}".split())
            text = text if len(text) <= 100 else text[:99] + "…"
            say(f"{row['rank']:>4}  {row['score']:.3f}  {text}{was}")
    say()


def screenshots(_: argparse.Namespace) -> int:
    """Draws the README's pictures."""
    from notebooks.tools.pictures import before_after
    from notebooks.tools.screenshots import screenshots as panels

    for path in (before_after(), *panels()):
        say(f"written: {path}")
    return OK
