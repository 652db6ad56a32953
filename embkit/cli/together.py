"""board: the runs of a class on one page, made of the files in a folder that all may write to."""

from __future__ import annotations

import argparse
import secrets
import time
from collections import Counter, defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

from ..display import as_html, short
from ..errors import EmbkitError
from ..evaluation.report import Report, cell, compare
from ..evaluation.scores import Scores
from ..files import write_atomic
from ..pairs.labels import annotator_name
from ..session import paths
from . import subjects
from . import terminal as shell


def board(chosen: argparse.Namespace) -> int:
    folder: Path = chosen.folder
    if chosen.name is not None:
        shell.note(f"written: {hand_in(chosen)}")
    elif not folder.is_dir():
        hint = "python -m embkit board FOLDER --name Anna puts your best run there"
        raise EmbkitError(f"no folder {str(folder)!r}", expected="the class's folder", hint=hint)
    while True:
        report, said = gathered(folder)
        values = {"report": report, "said": said, "cell": cell, "now": time.strftime("%H:%M:%S")}
        where = write_atomic(folder / "board.html", as_html("cli/board.jinja", **values))
        told = "\n".join([*(f"✗ {text}" for text in said), f"written: {where}"])
        shell.answer(chosen.json, {"rows": report.rows, "said": said}, told)
        if not chosen.watch:
            return shell.FOUND if said else shell.OK
        time.sleep(chosen.watch)


def hand_in(chosen: argparse.Namespace) -> Path:
    """Puts a run's scores into the folder under a person's name, and those of its base."""
    domain, name = subjects.the_domain(chosen), annotator_name(chosen.name)
    run = subjects.run_or_best(domain, chosen.run)
    if run is None:
        told, hint = f"nothing has been trained on {domain.name!r} yet", "python -m embkit run"
        raise EmbkitError(told, expected="a finished run", hint=f"{hint} {domain.name}")
    own = paths().runs / "person.txt"  # two people may have one name
    if not own.is_file():
        write_atomic(own, secrets.token_hex(4))
    person, scores = own.read_text(encoding="utf-8"), subjects.scored(run, domain)
    base = subjects.scored(run.recipe.model, domain)
    base.save(chosen.folder / f"base-{domain.hash[:8]}.json")
    letters = "".join(c if c.isalnum() else "-" for c in name)
    signed = replace(scores, meta=scores.meta | {"by": name, "person": person})
    return signed.save(chosen.folder / f"{letters}-{person}-{run.path.name}.json")


def gathered(folder: Path) -> tuple[Report, list[str]]:
    """The scores in a folder's files, compared; and what is said of files that are no scores, are
    of other ones than most, or of people with one name."""
    found: dict[Path, tuple[Any, Scores]] = {}  # with what was asked: domain, queries
    said, people = [], defaultdict(list)
    for path in sorted(folder.glob("*.json")):
        try:
            scores = Scores.load(path)
            asked = {split: frozenset(scores.values(split).index) for split in scores.per_query}
            of = (scores.domain, scores.domain_hash)
            found[path] = (*of, frozenset(asked.items())), scores
        except EmbkitError as error:
            said.append(f"{path.name} is left out: {short(error.given, 200)}")
    (most, _), *_ = Counter(asked for asked, _ in found.values()).most_common(1) or [((), 0)]
    named: dict[str, Scores] = {}
    for path, (asked, scores) in found.items():
        if asked != most:
            kind = "on" if asked[:2] != most[:2] else "with other queries on"
            told = f"scored {kind} {asked[0]} ({asked[1][:8]})"
            said.append(f"{path.name} is left out: {told}, most on {most[0]} ({most[1][:8]})")
            continue
        name = str(scores.meta.get("by") or (path.stem if scores.recipe_hash else ""))
        person = str(scores.meta.get("person", path.stem))
        if person not in people[name]:
            people[name].append(person)
        if number := people[name].index(person):
            name = f"{name} ({number + 1})"
        label = f"{name}: {scores.label}" if name else scores.label
        label += f" ({str(scores.recipe_hash)[:6]})" if label in named else ""
        if label in named:
            said.append(f"{path.name} is left out: a second file of {label!r}")
        named.setdefault(label, scores.labelled(label))
    said += [f"{name!r} is {len(of)} people" for name, of in people.items() if name and of[1:]]
    base = next((label for label, one in named.items() if one.approach == "base"), None)
    if base:
        return compare([*named.values()], base, asked=()), said
    return Report([row for one in named.values() for row in one.rows()]), said
