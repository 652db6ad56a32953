"""How all commands speak: to the terminal, which gets no control characters from what is said."""

import json
import os
import sys
from typing import Any, TextIO

from ..display import visible

OK, FOUND, BAD_INPUT, INTERRUPTED = 0, 1, 2, 130
COLOURS = {"✓": "\x1b[32m", "✗": "\x1b[31m"}  # of lines that begin so, on a terminal


def say(text: object = "", to: TextIO | None = None) -> int:
    """Writes lines, each of them ``visible``; what is said last ends a command with ``OK``."""
    stream = to or sys.stdout
    lines = [visible(line) for line in str(text).split("\n")]
    if stream.isatty() and not os.environ.get("NO_COLOR") and sys.platform != "win32":
        lines = [f"{COLOURS[x[0]]}{x}\x1b[0m" if x[:1] in COLOURS else x for x in lines]
    shown = "\n".join(lines) + "\n"
    encoding = stream.encoding or "utf-8"  # a terminal may know fewer letters
    stream.write(shown.encode(encoding, "replace").decode(encoding))
    stream.flush()
    return OK


def note(text: object = "") -> int:
    """Writes lines beside the result: to stderr, where they spoil no JSON."""
    return say(text, sys.stderr)


def answer(as_json: bool, value: Any, text: object) -> int:
    """Writes a result, as JSON in ASCII or as text."""
    return say(json.dumps(value, indent=1) if as_json else text)
