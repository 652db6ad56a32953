"""board: the runs of a class on one page, made of the files in a folder that all may write to."""

import argparse
import re
import time
from collections import Counter, defaultdict
from pathlib import Path

from ..display import as_html, short
from ..errors import EmbkitError
from ..evaluation.report import Report, cell, compare
from ..evaluation.scores import Scores
from ..files import write_atomic
from . import terminal as shell

COPY = re.compile(r"(\s*\(\d+\)|[\s-]*copy)+$")  # what a computer adds to a name that is taken


def board(chosen: argparse.Namespace) -> int:
    folder: Path = chosen.folder
    if not folder.is_dir():
        hint = f"python -m embkit export scores {folder / 'Anna.json'}"
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


def gathered(folder: Path) -> tuple[Report, list[str]]:
    """The scores in a folder's files, compared; and what is said of files that hold no scores, or
    those of other queries than most, and of names that may be one."""
    found: dict[Path, Scores] = {}
    said = []
    for path in sorted(folder.glob("*.json")):
        try:
            one = Scores.load(path)
            one.rows(), [one.test(one, split) for split in one.per_query]
            found[path] = one
        except Exception as error:  # whatever is in a file that anybody may write
            why = getattr(error, "given", f"{type(error).__name__}: {error}")
            said.append(f"{path.name} is left out: {short(why, 200)}")
    asked = {
        path: (
            one.domain,
            one.domain_hash[:8],
            *((s, *sorted(f.index)) for s, f in one.per_query.items()),
        )
        for path, one in found.items()
    }
    most = max(Counter(asked.values()).items(), key=lambda item: item[1], default=((), 0))[0]
    named: dict[str, Scores] = {}
    alike: dict[str, list[str]] = defaultdict(list)
    for path, one in found.items():
        if asked[path] != most:
            told = f"scored on {one.domain} ({one.domain_hash[:8]})"
            told += f", most on {most[0]} ({most[1]})" if asked[path][:2] != most[:2] else ""
            said.append(f"{path.name} is left out: {told}, not on the same queries as most")
            continue
        free = not one.recipe_hash and one.label not in named  # nobody's: the base, BM25
        label = one.label if free else f"{path.stem}: {one.label}"
        named[label] = one.labelled(label)
        alike[COPY.sub("", path.stem.casefold())].append(path.name)
    said += [f"{', '.join(n)}: one name? Two people, or one twice" for n in alike.values() if n[1:]]
    base = next((one.label for one in named.values() if one.approach == "base"), None)
    if base:
        return compare([*named.values()], base, asked=()), said
    return Report([row for one in named.values() for row in one.rows()]), said
