"""One kind of error for bad input: what was given, what was expected, what to type next."""

import difflib
import tomllib
from collections.abc import Callable, Iterable
from functools import cache, partial
from pathlib import Path
from typing import Any

MOST = 60  # names that an error lists


class EmbkitError(ValueError):
    """Bad input, said once and clearly: what was given, what is right, what to type next."""

    def __init__(self, given: str, *, expected: str, hint: str, shell: str = "") -> None:
        self.given, self.expected, self.hint = given, expected, hint
        self.shell = shell or hint  # the hint in a shell, where it is another one there
        super().__init__(f"{given}\n  expected: {expected}\n  try next: {hint}")

    @property
    def in_shell(self) -> str:
        """The error as a command shows it: what to type next is a shell's line there."""
        return f"{self.given}\n  expected: {self.expected}\n  try next: {self.shell}"

    def __reduce__(self) -> Any:  # keyword arguments survive pickling between processes
        told = {"expected": self.expected, "hint": self.hint, "shell": self.shell}
        return partial(EmbkitError, **told), (self.given,)


def refusals(module: str | Path) -> Callable[..., EmbkitError]:
    """The maker of the errors in ``refusals.toml`` beside a module (its ``__file__``): by a name
    ``given``, ``expected``, ``hint`` and maybe ``shell``, in which values stand for their names."""
    table = Path(module).with_name("refusals.toml")
    told = cache(lambda: tomllib.loads(table.read_text(encoding="utf-8")))

    def refused(name: str, /, **values: Any) -> EmbkitError:
        said = {part: text.format(**values) for part, text in told()[name].items()}
        return EmbkitError(said.pop("given"), **said)

    return refused


def not_installed(given: str, extra: str) -> EmbkitError:
    """The error for a package that is missing, naming the line that installs the extra with it."""
    hint = f'pip install "embkit[{extra}]"'
    return EmbkitError(given, expected=f"the optional extra {extra!r}", hint=hint)


def unknown(kind: str, given: object, known: Iterable[str]) -> EmbkitError:
    """The error for a name that is not in a list, naming the nearest one that is.

    Example:
        >>> print(unknown("domain", "icd10", ["icd10cm", "folder"]).hint)
        did you mean 'icd10cm'?
    """
    names = sorted(known)
    near = difflib.get_close_matches(str(given), names, n=1, cutoff=0.3)
    listed = ", ".join(names[:MOST]) + f", … ({len(names):,} in all)" * (len(names) > MOST)
    hint = f"did you mean {near[0]!r}?" if near else f"choose one of {listed}"
    return EmbkitError(f"unknown {kind} {given!r}", expected=f"one of: {listed}", hint=hint)
