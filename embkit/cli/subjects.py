"""How all commands name domains, runs and models."""

import argparse
import sys
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ..assets.catalogue import names
from ..assets.hub import is_id
from ..data import Domain, load_domain
from ..errors import EmbkitError, unknown
from ..evaluation.ranking import evaluate, place_of
from ..evaluation.scores import Scores
from ..models.encoding import Vectors, encode_as
from ..models.loading import as_model
from ..runs import RECORD, Run, finished
from ..search.hybrid import as_fusion
from ..search.passages import Passages, by_recipe
from ..synthetic import backends

WORDS = ("bm25", "hybrid")  # what can be scored and is no model of the catalogue


def the_domain(chosen: argparse.Namespace) -> Domain:
    """The domain that the arguments name."""
    found: dict[str, list[Any]] = {}
    for text in chosen.columns or ():
        role, equals, column = text.partition("=")
        if not equals or not role or not column:
            raise EmbkitError(
                f"--columns {text!r}",
                expected="role=column, with the roles anchor, positive, negative, score, right, "
                "wrong",
                hint="--columns anchor=question positive=answer",
            )
        found.setdefault(role, []).append(int(column) if column.isdecimal() else column)
    # a role that is given twice has two columns
    columns = {role: cols if cols[1:] else cols[0] for role, cols in found.items()} or None
    given = {name: getattr(chosen, name) for name in ("profile", "encoding", "subset")}
    return load_domain(chosen.domain, columns=columns, **given)


def the_writer(model: str, endpoint: str | None) -> Any:
    """The language model that is to write: of an endpoint, else of the package."""
    return (
        backends.OpenAIBackend(model, endpoint) if endpoint else backends.TransformersBackend(model)
    )


def subject(domain: Domain, what: str) -> Any:
    """What a text names, as ``evaluate`` takes it: ``bm25``, ``hybrid``, a run, or a model.

    A run is named by its folder, its name in the store, or the beginning of its name or recipe.
    """
    if what in WORDS or what in names():
        return what
    path = Path(what).expanduser()
    if path.exists():
        return Run.load(path) if (path / RECORD).is_file() else what
    runs = finished(domain)
    found = [run for run in runs if run.path.name == what]
    if not found and len(what) >= 4:
        found = [r for r in runs if r.path.name.startswith(what) or r.recipe.hash.startswith(what)]
    if len(found) == 1:
        return found[0]
    if found:
        raise EmbkitError(
            f"{what!r} begins the names of {len(found)} runs: "
            + ", ".join(run.path.name for run in found[:5]),
            expected="the beginning of one run's name",
            hint=found[-1].path.name,
        )
    if is_id(what):
        return what  # a hub id; evaluate() says what is wrong with it
    raise unknown("run or model", what, [*WORDS, *names(), *(run.path.name for run in runs)])


def run_or_best(domain: Domain, name: str | None) -> Run | None:
    """The run that is named, else the one with the best dev score; None where there is none."""
    if name is None:
        return max(finished(domain), key=lambda run: run.dev_score, default=None)
    found = subject(domain, name)
    if not isinstance(found, Run):
        given, expected = f"{name!r} is a model, not a run", "the name of a finished run"
        hint = "python -m embkit leaderboard --json shows recipe_hash, which names a run"
        raise EmbkitError(given, expected=expected, hint=hint)
    return found


def encoded(model: Any, texts: list[str], label: str = "encoding") -> Vectors:
    """Documents' embeddings from the cache of evaluation, with a bar where they are made."""
    model, total = as_model(model), len(set(texts))
    with tqdm(desc=label, total=total, unit="text", file=sys.stderr, mininterval=1, delay=1) as bar:
        told = lambda done: bar.update(done - bar.n) and None  # noqa: E731
        return encode_as(model, texts, "document", progress=told)


def scored(what: Any, domain: Domain, name: str | None = None) -> Scores:
    """``evaluate``, with a bar while the documents are encoded for the first time."""
    fusion = as_fusion(what)
    model = by_recipe(fusion.of if fusion else what)
    known = model == "bm25" or isinstance(model, Passages)  # those are not encoded whole
    if not known and not place_of(model, domain).is_file():
        label = f"{getattr(model, 'label', model)}: encoding"
        encoded(model, list(domain.corpus.values()), label)
    return evaluate(what, domain, name=name)
