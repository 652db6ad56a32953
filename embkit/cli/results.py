"""evaluate, compare, leaderboard, search, certify, assets: what is done with models and runs."""

import argparse
import sys
from collections.abc import Iterator
from typing import Any

from .. import export
from ..assets import catalogue
from ..data import Domain
from ..display import Table, short
from ..errors import EmbkitError, unknown
from ..evaluation import ranking
from ..evaluation.report import Report
from ..evaluation.report import compare as compared
from ..evaluation.verdict import verdict
from ..models.loading import as_model, load_model
from ..search.passages import Passages, by_recipe
from . import subjects
from . import terminal as shell
from .terminal import OK

DEEP = 100  # ranks among which a document's place before is looked up
WIDE = 72  # characters of a document, so that a line fits 100 columns


def evaluate(chosen: argparse.Namespace) -> int:
    domain = subjects.the_domain(chosen)
    scores = subjects.scored(subjects.subject(domain, chosen.what), domain)
    return show(Report(scores.rows()), chosen.json)


def compare(chosen: argparse.Namespace) -> int:
    domain = subjects.the_domain(chosen)
    if not chosen.what:
        report = ranking.leaderboard(domain, chosen.baseline or "base")
        return show(report, chosen.json, verdict(report))
    named = [subjects.subject(domain, what) for what in dict.fromkeys(chosen.what)]
    scores = [subjects.scored(what, domain) for what in named]
    names = [one.approach for one in scores]
    baseline = chosen.baseline or ("base" if "base" in names else names[0])
    return show(compared(scores, baseline), chosen.json, verdict(scores, baseline))


def leaderboard(chosen: argparse.Namespace) -> int:
    return show(ranking.leaderboard(subjects.the_domain(chosen)), chosen.json)


def show(report: Report, as_json: bool, verdict: Any = None, more: str = "") -> int:
    """A report, and a verdict and more below it; as JSON the rows alone."""
    told = f"\n\nverdict: {verdict}" if verdict is not None else ""
    return shell.answer(as_json, report.rows, f"{report.to_text()}{told}{more}")


def search(chosen: argparse.Namespace) -> int:
    if chosen.k < 1:
        raise EmbkitError(f"--k {chosen.k}", expected="1 or more", hint="--k 5")
    domain = subjects.the_domain(chosen)
    indices = _before_after(domain, chosen.run)
    for query in [" ".join(chosen.words)] if chosen.words else _typed():
        _look(query, indices, domain, chosen.k, chosen.json)
    return OK


def _before_after(domain: Domain, name: str | None) -> dict[str, Any]:
    """What can be searched with, by name; the documents are encoded once for all queries."""
    run = subjects.run_or_best(domain, name)
    if run:
        models = {f"before: {run.recipe.model}": load_model(run.recipe.model)}
        models[f"after: {run.label} ({run.path.name})"] = as_model(by_recipe(run))
    else:
        told = f"nothing has been trained on {domain.name} yet"
        shell.note(f"{told}: the general model alone searches")
        models = {"minilm": load_model("minilm")}
    texts = list(domain.corpus.values())
    for model in models.values():
        if not isinstance(model, Passages):
            subjects.encoded(model, texts)
    return {title: ranking.indexed(model, texts) for title, model in models.items()}


def _typed() -> Iterator[str]:
    """The queries that are typed, or come through a pipe."""

    def asked() -> str:
        sys.stderr.write("query (empty to end): ")
        sys.stderr.flush()
        return sys.stdin.readline().strip()

    return iter(asked, "") if sys.stdin.isatty() else filter(None, map(str.strip, sys.stdin))


def _look(query: str, indices: dict[str, Any], domain: Domain, k: int, as_json: bool) -> None:
    """Prints what a query finds, with the rank that each document had before."""
    deep = min(max(DEEP, k), len(domain.corpus))
    before: dict[str, int] = {}
    found: dict[str, list[dict[str, Any]]] = {}
    lines = [f"query: {query}"]
    for title, index in indices.items():
        best, ranks = ranking.hits(index, query, domain, k, deep)
        before = before or ranks
        rows: list[dict[str, Any]] = [
            {"rank": rank, "score": round(score, 3), "id": i, "text": text, "before": before.get(i)}
            for rank, (i, text, score) in enumerate(best, 1)
        ]
        cells = []
        for row in rows:
            text = short(shell.visible(" ".join(f"{row['id']}  {row['text']}".split())), WIDE)
            told = f"(was {row['before'] or f'beyond {deep}'})" if found else ""
            cells.append([f"{row['rank']:>4}", f"{row['score']:.3f}", text, told])
        lines += ["", title, Table(["", "", "", ""], cells).to_text()]
        found[title] = rows
    shell.answer(as_json, {"query": query, "found": found}, "\n".join([*lines, ""]))


def certify(chosen: argparse.Namespace) -> int:
    domain = subjects.the_domain(chosen)
    what, dev = subjects.subject(domain, chosen.run), None if chosen.probes else domain
    found = export.certify(what, chosen.served, dev, name=chosen.name, bare=chosen.bare)
    result = {"passed": found.passed, "causes": found.causes, "notes": found.notes}
    result |= {"1 - cosine": found.apart, "dev": found.loss and found.loss[:4]}
    shell.answer(chosen.json, result, f"{found}\n\n{found.table().to_text()}")
    return OK if found.passed else shell.FOUND


def assets(chosen: argparse.Namespace) -> int:
    known = catalogue.CATALOGUE | catalogue.PICTURES
    given = chosen.names or list(known)
    if strange := [name for name in given if name not in known]:
        raise unknown("asset", strange[0], known)
    for asset in map(known.__getitem__, given):
        folder = catalogue.files_of(asset)
        shell.say(f"{asset.name}: {asset.title} ({asset.licence}), checked, in {folder}")
    return OK
