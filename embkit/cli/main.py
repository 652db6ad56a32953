"""python -m embkit: the same functions without a notebook."""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Sequence

from ..errors import EmbkitError
from . import data, results, training
from .terminal import BAD_INPUT, DECLARED, EXITS, INTERRUPTED, note

ABOUT = "Learn and do the fine-tuning of embedding models: the notebooks' functions, typed."
FIRST_STEPS = """first steps:
  python -m embkit check my_folder       is the data fit to train on?
  python -m embkit advise my_folder      is it worth fine-tuning at all?
  python -m embkit run my_folder         baseline, fine-tuning, LoRA, and a verdict
  python -m embkit start my_documents    documents without labels: a test by you, a verdict
  python -m embkit search "a query"      what is found, before and after
  python -m embkit COMMAND --help        each command's options, with an example
"""


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(
        prog="python -m embkit",
        description=ABOUT,
        epilog=f"{FIRST_STEPS}\n{EXITS}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = made.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for module in (data, training, results):
        for add in DECLARED[module.__name__]:
            add(commands)
    return made


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns its exit code, one of ``EXITS``."""
    chosen = parser().parse_args(arguments)
    try:
        # libraries' notes to each other
        with warnings.catch_warnings(action="ignore", category=FutureWarning):
            return chosen.do(chosen)
    except EmbkitError as error:
        note(error.in_shell)
        return BAD_INPUT
    except KeyboardInterrupt:
        note(
            "\nstopped. Finished runs, checkpoints, scores and embeddings are kept: the same "
            "command goes on from there"
        )
        return INTERRUPTED
    except BrokenPipeError:  # whoever read the output, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
