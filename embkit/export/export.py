"""Out again: a domain as a folder, a run's model as a plain folder."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from ..data import Domain
from ..errors import EmbkitError
from ..files import filled, write_lines
from ..search.passages import Passages, by_recipe

if TYPE_CHECKING:
    from ..evaluation.report import Report
    from ..runs import Run

Folder = str | os.PathLike[str]
TEXTS = Path(__file__).parent


def to_beir(domain: Domain, folder: Folder, *, replace: bool = False) -> Path:
    """Writes a domain in BEIR's layout; ``load_domain(folder)`` gives the same content hash.

    Each split is a file of its own. Groups and parents stand in each document's ``metadata``,
    marked negatives in ``negatives.tsv``, the order of the tests and the terms of use in
    ``domain.json``: BEIR's own tools pass over all of them. ``replace`` overwrites an earlier
    export in this folder.

    Raises:
        EmbkitError: the folder holds something, or cannot be written to.
    """
    for split in domain.qrels:
        if not re.fullmatch(r"\w[\w.-]*", split):
            raise EmbkitError(
                f"the split {split!r} cannot be the name of a file",
                expected="letters, digits, dots, dashes and underscores",
                hint="name the split otherwise: dataclasses.replace(domain, qrels=...)",
            )
    with _fresh(folder, replace, mark="corpus.jsonl") as fresh:
        own = {"group": domain.groups, "parent": domain.parents}
        documents = (
            {"_id": i, "title": "", "text": text}
            | {"metadata": {what: of[i] for what, of in own.items() if i in of}}
            for i, text in domain.corpus.items()
        )
        queries = ({"_id": q, "text": t, "metadata": {}} for q, t in domain.queries.items())
        for name, rows in (("corpus", documents), ("queries", queries)):
            write_lines(fresh / f"{name}.jsonl", rows)
        (fresh / "qrels").mkdir()
        for split, qrels in domain.qrels.items():
            judged = ((q, d, grade) for q, of in qrels.items() for d, grade in of.items())
            _tsv(fresh / "qrels" / f"{split}.tsv", judged)
        marked = ((q, d, 0) for q, documents in domain.negatives.items() for d in documents)
        _tsv(fresh / "negatives.tsv", marked)
        text = filled(TEXTS / "readme.jinja", domain=domain)
        (fresh / "README.md").write_text(text, encoding="utf-8")
        names = ("name", "profile", "hash", "test_splits", "held_out")
        facts = {name: getattr(domain, name) for name in names} | {"about": dict(domain.about)}
        (fresh / "domain.json").write_text(json.dumps(facts, indent=1), encoding="utf-8")
    return Path(folder)


def export_model(
    run: Run, folder: Folder, *, replace: bool = False, report: Report | None = None
) -> Path:
    """Copies a finished run's model as a plain sentence-transformers folder: it needs no embkit.

    The model card ends with commands that serve it, and that check what is served. ``replace``
    overwrites a model in this folder. With a ``report``, the card tells of the evaluation.

    Raises:
        EmbkitError: the run has no model, the folder holds something, or cannot be written to.
    """
    model = run.path / "model"
    if not (model / "modules.json").is_file():
        raise EmbkitError(
            f"the run {run.path.name!r} has no model folder",
            expected="a finished run with model/modules.json",
            hint="run.delete(), then ek.train(recipe, domain) again",
        )
    with _fresh(folder, replace, mark="modules.json") as fresh:
        shutil.copytree(model, fresh, dirs_exist_ok=True)
        card = fresh / "README.md"
        told = [card.read_text(encoding="utf-8").rstrip() if card.is_file() else "# A model"]
        told += [f"## Documents are cut into passages\n\n{code}"] if (code := cutting(run)) else []
        if report is not None:
            told.append(filled(TEXTS / "evaluated.jinja", run=run, report=report))
        prompts = run.record.get("prompts")
        told.append(filled(TEXTS / "served.jinja", run=run.path.name, prompts=prompts))
        card.write_text("\n\n".join(told), encoding="utf-8")
    return Path(folder)


def cutting(what: Any) -> str:
    """How the documents of a run are cut, in code; empty where they are not."""
    how = by_recipe(what)
    return filled(TEXTS / "cut.jinja", how=how) if isinstance(how, Passages) else ""


@contextmanager
def _fresh(folder: Folder, replace: bool, mark: str) -> Iterator[Path]:
    """A folder that appears whole or not at all, and never in place of something else.

    With ``replace`` only an earlier export goes: a folder in which the file ``mark`` lies.
    """
    target = Path(folder).expanduser().absolute()
    full = target.exists() and (not target.is_dir() or any(target.iterdir()))
    if full and not (replace and (target / mark).is_file()):
        raise EmbkitError(
            f"{target.name!r} holds something already"
            + (f", and it is no earlier export (no {mark} in it)" if replace else ""),
            expected="a new or an empty folder",
            hint="another folder" if replace else "another folder, or replace=True",
        )
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(".part", f".{target.name}.", target.parent) as made:
            part = Path(made) / target.name
            part.mkdir()
            yield part
            if target.is_dir():
                shutil.rmtree(target)
            part.replace(target)
    except OSError as error:
        raise EmbkitError(
            f"cannot write {target.name!r}: {error.strerror or error}",
            expected="a folder that can be written to, with room on its disk",
            hint="free some space, or choose another folder",
        ) from error


def _tsv(path: Path, rows: Iterable[tuple]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter="\t", lineterminator="\n")
        writer.writerow(("query-id", "corpus-id", "score"))
        writer.writerows(rows)
