"""Checks for the exercises: a cell says whether an answer is right, and stops nothing."""

import html
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Checked:
    """What a check found; ``right`` is None while there is no answer yet."""

    exercise: str
    right: bool | None
    message: str

    def _repr_html_(self) -> str:
        sign = {None: "…", True: "✓", False: "✗"}[self.right]
        return f"<b>{sign} exercise {html.escape(self.exercise)}</b>: {html.escape(self.message)}"

    def __repr__(self) -> str:
        sign = {None: "...", True: "right", False: "not yet"}[self.right]
        return f"exercise {self.exercise}: {sign}: {self.message}"


def check(
    exercise: str, answer: Any, test: Callable[[Any], bool], *, hint: str = "", right: str = ""
) -> Checked:
    """Checks an answer; ``...`` stands for none yet.

    An error in ``test`` counts as wrong and is shown. ``hint`` is shown with a wrong answer,
    ``right`` with a right one: what it teaches. A wrong answer is an AssertionError while solutions
    are being tested (``EMBKIT_SOLUTIONS=1``).

    Example:
        >>> check("1", 4, lambda a: a == 2 + 2)
        exercise 1: right: that is it
    """
    passed: bool | None = None
    message = "no answer yet: replace the ... and run the cell again"
    if answer is not ...:
        try:
            passed = bool(test(answer))
            message = (right or "that is it") if passed else (hint or "look again")
        except Exception as error:
            passed, message = False, f"{type(error).__name__}: {error}. {hint}".strip()
    found = Checked(exercise, passed, message)
    if os.environ.get("EMBKIT_SOLUTIONS") == "1" and not found.right:
        raise AssertionError(repr(found))
    return found
