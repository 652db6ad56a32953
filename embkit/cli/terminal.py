"""What all commands share: how they speak, and how they name domains, runs and models."""

from __future__ import annotations

import argparse
import json
import sys
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from ..display import visible
from ..errors import EmbkitError, unknown

if TYPE_CHECKING:
    from ..data import Domain
    from ..evaluation.scores import Scores
    from ..models.vectors import Vectors
    from ..runs import Run

OK, FOUND, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130
EXITS = """exit codes:
  0    done
  1    done, and a problem was found (check)
  2    bad input: one error says what was given, what was expected, what to type next
  130  stopped by Ctrl-C; the same command goes on from what was finished"""

Command = Callable[[argparse.Namespace], int]
Commands = Any  # what argparse's add_subparsers returns


def say(text: object = "", to: TextIO | None = None) -> None:
    """Writes lines, each of them ``visible``."""
    stream = to or sys.stdout
    shown = "\n".join(map(visible, str(text).split("\n"))) + "\n"
    try:
        stream.write(shown)
    except UnicodeEncodeError:  # a terminal that knows fewer letters
        encoding = stream.encoding or "ascii"
        stream.write(shown.encode(encoding, "replace").decode(encoding))
    stream.flush()


def note(text: object = "") -> None:
    """Writes lines beside the result: to stderr, where they spoil no JSON."""
    say(text, sys.stderr)


def as_json(value: Any) -> None:
    """Writes a value as JSON, all of it in ASCII."""
    say(json.dumps(value, indent=1))


def command(
    commands: Commands,
    do: Command,
    help: str,
    example: str,
    more: str = "",
    *,
    domain: str = "--domain",
    json: bool = True,
) -> argparse.ArgumentParser:
    """A new command, called as its function is.

    Args:
        commands: where it is added.
        do: what it does; gives the exit code.
        help: one line, without a full stop.
        example: a call that works, without ``python -m embkit``.
        more: sentences for the command's own help.
        domain: how a domain is given: ``--domain``, ``domain`` (its place), or empty: not at all.
        json: whether it can print JSON.
    """
    parser = commands.add_parser(
        do.__name__,
        help=help,
        description=textwrap.fill(f"{help[:1].upper()}{help[1:]}.{more and ' ' + more}", 80),
        epilog=f"example:\n  python -m embkit {example}\n\n{EXITS}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(do=do)
    if domain:
        _domain_options(parser, domain)
    if json:
        parser.add_argument("--json", action="store_true", help="print the result as JSON")
    return parser


def _domain_options(parser: argparse.ArgumentParser, name: str) -> None:
    """How a command is told which domain, and how to read one's own data."""
    settings: dict[str, Any] = {} if name.startswith("-") else {"nargs": "?"}
    parser.add_argument(
        name,
        metavar="DOMAIN",
        **settings,
        help="icd10cm, python_code, or data of your own: a folder in BEIR's layout, a file of "
        "pairs, a hub id (default: EMBKIT_DOMAIN, else icd10cm)",
    )
    parser.add_argument(
        "--profile", help="smoke, workshop or full (default: EMBKIT_PROFILE, else workshop)"
    )
    own = parser.add_argument_group("how to read data of your own")
    own.add_argument(
        "--columns",
        nargs="+",
        metavar="ROLE=COLUMN",
        help="which column is what, in a file of pairs: anchor=question positive=answer",
    )
    own.add_argument("--encoding", help="of text files that are not UTF-8, such as cp1252")
    own.add_argument("--subset", help="the configuration of a hub data set")


def the_domain(chosen: argparse.Namespace) -> Domain:
    """The domain that the arguments name."""
    from ..data import load_domain

    return load_domain(
        chosen.domain,
        profile=chosen.profile,
        columns=_columns(chosen.columns),
        encoding=chosen.encoding,
        subset=chosen.subset,
    )


def _columns(given: Sequence[str] | None) -> dict[str, Any] | None:
    if given is None:
        return None
    found: dict[str, list[Any]] = {}
    for text in given:
        role, equals, column = text.partition("=")
        if not equals or not role or not column:
            raise EmbkitError(
                f"--columns {text!r}",
                expected="role=column, with the roles anchor, positive, negative, score",
                hint="--columns anchor=question positive=answer",
            )
        found.setdefault(role, []).append(int(column) if column.isdecimal() else column)
    # a role that is given twice has two columns
    return {role: columns if columns[1:] else columns[0] for role, columns in found.items()}


def subject(domain: Domain, what: str) -> Any:
    """What a text names, as ``evaluate`` takes it: ``bm25``, a run, or a model.

    A run is named by its folder, its name in the store, or the beginning of its name or recipe.

    Raises:
        EmbkitError: there is no such run or model, or several.
    """
    from ..assets.catalogue import names
    from ..assets.hub import is_id
    from ..runs import RECORD, Run, finished

    if what == "bm25" or what in names():
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
    raise unknown("run or model", what, ["bm25", *names(), *(run.path.name for run in runs)])


def run_or_best(domain: Domain, name: str | None) -> Run | None:
    """The run that is named, else the one with the best dev score; None where there is none.

    Raises:
        EmbkitError: the name is that of a model.
    """
    from ..runs import Run, finished

    if name is None:
        return max(finished(domain), key=lambda run: run.dev_score, default=None)
    found = subject(domain, name)
    if not isinstance(found, Run):
        raise EmbkitError(
            f"{name!r} is a model, not a run",
            expected="the name of a finished run",
            hint="python -m embkit leaderboard --json shows recipe_hash, which names a run",
        )
    return found


def encoded(model: Any, texts: list[str], label: str = "encoding") -> Vectors:
    """Documents' embeddings from the cache of evaluation, with a bar where they are made."""
    from tqdm import tqdm

    from ..models.encoding import encode_as
    from ..models.loading import as_model

    model = as_model(model)
    total = len(set(texts))
    with tqdm(desc=label, total=total, unit="text", file=sys.stderr, mininterval=1, delay=1) as bar:
        told = lambda done: bar.update(done - bar.n) and None  # noqa: E731
        return encode_as(model, texts, "document", progress=told)


def scored(what: Any, domain: Domain) -> Scores:
    """``evaluate``, with a bar while the documents are encoded for the first time."""
    from ..evaluation.ranking import evaluate
    from ..runs import Run

    kept = isinstance(what, Run) and (what.path / "scores.json").is_file()
    if what != "bm25" and not kept and not _has_scores(domain, what):
        label = what.label if isinstance(what, Run) else str(what)
        encoded(what, list(domain.corpus.values()), f"{label}: encoding")
    return evaluate(what, domain)


def _has_scores(domain: Domain, model: Any) -> bool:
    from ..evaluation.scores import Scores
    from ..runs import store

    for path in store(domain).glob("base-*/scores.json"):
        try:
            if Scores.load(path).base_model == str(model):
                return True
        except EmbkitError:
            continue
    return False
