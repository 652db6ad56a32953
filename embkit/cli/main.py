"""python -m embkit: the same functions without a notebook."""

import argparse
import os
import sys
import textwrap
import tomllib
import warnings
from collections.abc import Sequence
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

from ..errors import EmbkitError
from .terminal import BAD_INPUT, INTERRUPTED, note

MODULES = ("data", "training", "results", "together", "machine")
OWN = "how to read data of your own"
TYPES = {"int": int, "float": float, "path": Path}


def parser() -> argparse.ArgumentParser:
    """All commands and their options, as ``commands.toml`` declares them."""
    told = tomllib.loads(Path(__file__).with_name("commands.toml").read_text(encoding="utf-8"))
    plain: Any = {"formatter_class": argparse.RawDescriptionHelpFormatter}
    epilog = f"{told['first_steps']}\n{told['exits']}"
    made = argparse.ArgumentParser("python -m embkit", None, told["about"], epilog, **plain)
    commands = made.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for module in MODULES:
        for name, one in told[module].items():
            text = f"{one['help'][:1].upper()}{one['help'][1:]}. {one.get('more', '')}"
            epilog = f"example:\n  python -m embkit {one['example']}\n\n{told['exits']}"
            shown = plain | {"description": textwrap.fill(text, 80), "epilog": epilog}
            added = commands.add_parser(name, help=one["help"], **shown)
            added.set_defaults(do=partial(_do, module, name))
            if where := one.get("domain", "--domain"):
                place: dict[str, Any] = {} if where.startswith("-") else {"nargs": "?"}
                added.add_argument(where, **told["domain"], **place)
                _add(added, told["with a domain"])
                _add(added.add_argument_group(OWN), told[OWN])
            if one.get("json", True):
                added.add_argument("--json", action="store_true", help="print the result as JSON")
            _add(added, one.get("options", {}))
    return made


def _add(to: Any, options: dict[str, dict[str, Any]]) -> None:
    for name, given in options.items():
        kind = {"type": TYPES[given["type"]]} if "type" in given else {}
        to.add_argument(name, **given | kind)


def _do(module: str, name: str, chosen: argparse.Namespace) -> int:
    return getattr(import_module(f".{module}", __package__), name)(chosen)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns its exit code, one of those that ``--help`` lists."""
    chosen = parser().parse_args(arguments)
    try:
        with warnings.catch_warnings(action="ignore", category=FutureWarning):  # libraries'
            return chosen.do(chosen)
    except EmbkitError as error:
        note(error.in_shell)
        return BAD_INPUT
    except KeyboardInterrupt:
        kept = "Finished runs, checkpoints, scores and embeddings are kept"
        note(f"\nstopped. {kept}: the same command goes on from there")
        return INTERRUPTED
    except BrokenPipeError:  # whoever read the output, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
