"""What all commands share: how they speak, and how they name domains, runs and models."""

from __future__ import annotations

import argparse
import json
import sys
import textwrap
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from ..errors import EmbkitError, unknown

if TYPE_CHECKING:
    from ..data import Domain
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
    """Writes lines; what could turn a terminal (control characters in data) is spelt out."""
    from ..display import visible

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
    commands: Commands, name: str, do: Command, help: str, example: str, more: str = ""
) -> argparse.ArgumentParser:
    """A new command with its help, an example and the exit codes."""
    parser = commands.add_parser(
        name,
        help=help,
        description=textwrap.fill(f"{help[:1].upper()}{help[1:]}.{more and ' ' + more}", 80),
        epilog=f"example:\n  python -m embkit {example}\n\n{EXITS}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(do=do)
    return parser


def domain_options(parser: argparse.ArgumentParser, positional: bool = False) -> None:
    """How a command is told which domain, and how to read one's own data."""
    settings: dict[str, Any] = {"nargs": "?"} if positional else {}
    parser.add_argument(
        "domain" if positional else "--domain",
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


def json_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print the result as JSON")


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
    found: dict[str, Any] = {}
    for text in given:
        role, equals, column = text.partition("=")
        if not equals or not role or not column:
            raise EmbkitError(
                f"--columns {text!r}",
                expected="role=column, with the roles anchor, positive, negative, score",
                hint="--columns anchor=question positive=answer",
            )
        value: Any = int(column) if column.isdecimal() else column
        before = found.get(role, [])  # a role that is given twice has two columns
        found[role] = [*(before if isinstance(before, list) else [before]), value]
        found[role] = value if len(found[role]) == 1 else found[role]
    return found


def subject(domain: Domain, what: str) -> Any:
    """What a text names, as ``evaluate`` takes it: ``bm25``, a run, or a model.

    A run is named by its folder, its name in the store, or the beginning of its name or recipe.

    Raises:
        EmbkitError: there is no such run or model, or several.
    """
    from ..assets.catalogue import names
    from ..runs import RECORD, Run, finished

    if what == "bm25" or what in names():
        return what
    if Path(what).expanduser().exists():
        path = Path(what).expanduser()
        return Run.load(path) if (path / RECORD).is_file() else what
    runs = finished(domain)
    found = [r for r in runs if r.path.name == what]
    found = found or [r for r in runs if _begins(r, what)]
    if len(found) == 1:
        return found[0]
    if found:
        raise EmbkitError(
            f"{what!r} begins the names of {len(found)} runs: "
            + ", ".join(run.path.name for run in found[:5]),
            expected="the beginning of one run's name",
            hint=found[-1].path.name,
        )
    if what.count("/") == 1 and not what.startswith((".", "/", "~")):
        return what  # a hub id; evaluate() says what is wrong with it
    raise unknown("run or model", what, ["bm25", *names(), *(run.path.name for run in runs)])


def _begins(run: Run, text: str) -> bool:
    return len(text) >= 4 and (run.path.name.startswith(text) or run.recipe.hash.startswith(text))


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


@contextmanager
def bar(label: str, total: int, unit: str = "text") -> Iterator[Callable[[int], None]]:
    """A progress bar on stderr, as a function of how many are done."""
    from tqdm import tqdm

    with tqdm(desc=label, total=total, unit=unit, file=sys.stderr, mininterval=1, delay=1) as drawn:
        yield lambda done: drawn.update(done - drawn.n) and None


def scored(what: Any, domain: Domain, name: str | None = None) -> Any:
    """``evaluate``, with a bar while the documents are encoded for the first time."""
    from ..evaluation.ranking import evaluate
    from ..models.encoding import encode
    from ..models.loading import load_model
    from ..runs import Run

    kept = isinstance(what, Run) and (what.path / "scores.json").is_file()
    if what != "bm25" and not kept and not _has_scores(domain, what):
        model = what.model() if isinstance(what, Run) else load_model(what)
        label = what.recipe.label if isinstance(what, Run) else str(what)
        texts = list(domain.corpus.values())
        with bar(f"{label}: encoding", len(set(texts))) as progress:
            encode(model, texts, progress=progress)  # kept on disk: evaluate() finds it there
    return evaluate(what, domain, name=name)


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
