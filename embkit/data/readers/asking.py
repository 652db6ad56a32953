"""What could be read in two ways is asked: each way counted, with rows, and the line to type."""

import contextlib
import operator
import re
import shlex
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...display import Table as Facts
from ...errors import EmbkitError, unknown
from ..domain import normalise
from ..refusals import refused
from . import kinds
from .kinds import Table
from .rows import Quarantine, binary, is_numbered
from .shapes import NAMES, ROLES, Choice, Roles, Way, choose, example, fitting

_OPERATORS = {">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt}
_CONDITION = re.compile(r"(.+?)\s*(==|!=|>=|<=|>|<)\s*(.+)$", re.DOTALL)
QUERIES = 3  # different ones that a reading needs, to make train, dev and test from, and shows
Shown = tuple[str, ...]  # a row: query, document
Columns = Mapping[str, str | int | Sequence[str | int]]
WANTED = "one column of anchors (queries) and one of positives (the right documents)"


@dataclass(frozen=True)
class Reading:
    """One way to read a file: what to type for it, and what it gives."""

    what: str
    options: Mapping[str, Any]  # keyword arguments of ``load_domain``
    right: int  # rows with a right pair
    wrong: int  # rows with a wrong one
    rows: tuple[Shown, ...]  # a few of the right ones

    @property
    def python(self) -> str:
        """What to type in Python."""
        return ", ".join(f"{name}={value!r}" for name, value in self.options.items())

    @property
    def shell(self) -> str:
        """What to type in a shell, behind the path."""
        typed = []
        for name, value in self.options.items():
            parts = [value]
            if isinstance(value, Mapping):
                several = ((role, g if isinstance(g, list) else [g]) for role, g in value.items())
                parts = [f"{role}={column}" for role, given in several for column in given]
            typed.append(f"--{name} {shlex.join(map(str, parts))}")
        return " ".join(typed)

    def told(self, typed: str) -> str:
        """The reading in lines: what to type, its counts, its rows."""
        counts = f"{self.right:,} right, {self.wrong:,} wrong"
        rows = [f"\n      {' → '.join(row)}" for row in self.rows]
        return f"\n    {typed}\n      {self.what}: {counts}{''.join(rows)}"


class Unclear(EmbkitError):
    """A file that can be read in several ways; ``readings`` has them, the likeliest first."""

    def __init__(self, given: str, *, expected: str, readings: Sequence[Reading]) -> None:
        self.readings = tuple(readings)
        python, shell = (
            "one of these" + "".join(r.told(getattr(r, form)) for r in self.readings)
            for form in ("python", "shell")
        )
        super().__init__(given, expected=expected, hint=python, shell=shell)

    def _render_traceback_(self) -> list[str]:
        """In a notebook: the readings as a table, below the error's first lines."""
        from IPython.display import display

        heads = ["to type", "", "right", "wrong", "such as"]
        rows = [
            [r.python, r.what, f"{r.right:,}", f"{r.wrong:,}", "; ".join(map(" → ".join, r.rows))]
            for r in self.readings
        ]
        display({"text/html": Facts(heads, rows).to_html(), "text/plain": ""}, raw=True)
        return [f"EmbkitError: {self.given}", f"  expected: {self.expected}"]


def to_type(options: Mapping[str, Any], before: str = "") -> dict[str, str]:
    """An error's hint, in Python and in a shell: what to type behind the path."""
    step = Reading("", options, 0, 0, ())
    return {"hint": before + step.python, "shell": before + step.shell}


def condition(text: str, header: Sequence[str]) -> tuple[str, Callable[[Mapping[str, Any]], bool]]:
    """The column and the test of a condition, such as ``label == 0``, ``score >= 3.5`` or
    ``label == yes,maybe``. A row without a value does not fulfil it."""
    found = _CONDITION.match(text)
    column, sign, said = found.groups() if found else ("", "", "")
    compare: Any = _OPERATORS.get(sign)
    limit = kinds.number_of(said)
    if not found or (compare and limit is None):
        step = to_type({"columns": {"right": f"{[*header, 'label'][-1]} == 1"}}, "such as ")
        raise refused("condition", text=text, **step)
    words = {kinds.word_of(part.strip()) for part in said.split(",")}

    def holds(values: Mapping[str, Any]) -> bool:
        value = values.get(column)
        if value is None or value == "":
            return False
        if compare:
            number = kinds.number_of(value)
            return number is not None and compare(number, limit)
        return (kinds.word_of(value) in words) == (sign == "==")

    return column, holds


def grader(roles: Roles, header: Sequence[str]) -> Callable[[Mapping[str, Any]], tuple[Any, str]]:
    """Row -> its grade, or None and the cause why it has none, by a column or by conditions."""
    if score := roles.get("score"):
        return lambda values: grade_of(values.get(score[0]))
    right, wrong = ([condition(c, header)[1] for c in roles.get(r, ())] for r in ("right", "wrong"))

    def grade(values: Mapping[str, Any]) -> tuple[int | None, str]:
        if any(holds(values) for holds in wrong):
            return 0, ""
        if not right or any(holds(values) for holds in right):
            return 1, ""
        return None, "neither right nor wrong, as it was asked"

    return grade


def grade_of(value: Any) -> tuple[int | None, str]:
    """A score as a whole number from 0 up, or None and the cause why it is none."""
    number = kinds.number_of(value)
    if number is None or number in (float("inf"), float("-inf")) or number != number:
        return None, "score that is no number"
    if number < 0:
        return None, "negative score"
    if number != number // 1:
        return None, "score that is no whole number"
    return int(number), ""


def typed(roles: Roles, header: Sequence[str]) -> dict[str, Any]:
    """``columns=`` for some roles; columns without names are numbers."""
    numbered = is_numbered(header)

    def given(name: str) -> str | int:
        return int(name) if numbered and name.isdecimal() else name

    plainly = {r: [given(n) if r not in ("right", "wrong") else n for n in roles[r]] for r in roles}
    return {role: names if names[1:] else names[0] for role, names in plainly.items() if names}


def roles_of(table: Table, given: Columns | None, encoding: str | None = None) -> Choice:
    """The columns that were named, or those that are plain; else one error that asks."""
    if given is not None:
        return Choice(_named(table, given))
    choice = choose(table)
    if not choice.why:
        return choice
    why, expected = described(table, choice.why), WANTED
    if table.how is not None and not fitting(table.header, [*NAMES["anchor"], *NAMES["positive"]]):
        expected += " (of a file without a header: their numbers, from 0)"
    options = {"encoding": encoding} if encoding else {}
    if readings := _counted(table, choice.readings, options):
        raise Unclear(why, expected=expected, readings=readings)
    raise refused("no reading", why=why, expected=expected)


def _named(table: Table, columns: Columns) -> Roles:
    header, found = table.header, Roles()

    def asked(why: str) -> EmbkitError:
        taken = {name for role in NAMES for name in found.get(role, ())}
        texts = [c for c in header if table.held[c] in kinds.TEXTUAL and c not in taken]
        free = iter([*texts, *(c for c in header if c not in {*taken, *texts})])
        guessed = {r: found.get(r) or (next(free, "the column's name")[:40],) for r in NAMES}
        step = to_type({"columns": typed(guessed, header)})
        return EmbkitError(described(table, why), expected=WANTED, **step)

    if not isinstance(columns, Mapping):
        raise asked(f"columns={columns!r} names no roles")
    for role, given in columns.items():
        role = "negative" if role == "negatives" else role
        if role not in ROLES:
            raise unknown("role in columns=", role, ROLES)
        found[role] = tuple(map(str, given if isinstance(given, list | tuple) else [given]))
        for name in found[role]:
            column = condition(name, header)[0] if role in ("right", "wrong") else name
            if column not in header:
                raise unknown(f"column (for {role}, in {table.file!r})", column, header)
    for role in NAMES:
        if len(found.get(role, ())) != 1:
            raise asked(f"columns= names no {role}")
    return found


def described(table: Table, why: str) -> str:
    """A table's columns, and what is not plain about them."""
    listed = ", ".join(repr(name[:40]) for name in table.header[:20])
    more = ", …" if len(table.header) > 20 else ""
    return f"{table.file!r} has the columns {listed}{more}: {why}"


def _counted(table: Table, ways: Sequence[Way], options: Mapping[str, Any]) -> list[Reading]:
    """The readings that load, with what they give: in one pass over the rows."""
    right, wrong = [0] * len(ways), [0] * len(ways)
    rows: list[dict[str, Shown]] = [{} for _ in ways]  # query -> its first right row
    grades = [grader(roles, table.header) for _, roles in ways]
    for row in table.rows(Quarantine(kept=False)):
        for n, (_, roles) in enumerate(ways):
            cells = [row.values.get(roles[role][0]) for role in ("anchor", "positive")]
            if not all(kinds.texts_of(cell)[0] for cell in cells):
                continue
            grade = grades[n](row.values)[0]
            right[n] += grade is not None and grade > 0
            wrong[n] += grade == 0
            if grade and len(rows[n]) < QUERIES:
                rows[n].setdefault(normalise(str(cells[0])), example(roles, row.values))
    told = zip(ways, right, wrong, rows, strict=True)
    return [
        Reading(what, {"columns": typed(roles, table.header), **options}, n, m, (*found.values(),))
        for (what, roles), n, m, found in told
        if len(found) == QUERIES
    ]


def encodings(path: Path) -> Iterator[tuple[str, tuple[Shown, ...]]]:
    """The encodings that a text file may have, likeliest first, with lines as each reads them."""
    from charset_normalizer import from_bytes

    data = b""
    with contextlib.suppress(OSError, EOFError, zlib.error), binary(path) as stream:
        data = stream.read(1 << 20)
    best = from_bytes(data).best()
    latin = all(letter < "\u0250" for letter in str(best or "") if letter.isalpha())
    likely = ["cp1252"] * latin + ([best.encoding] if best else [])  # the commonest of its script
    seen = set()
    for encoding in dict.fromkeys([*likely, "cp1252", "cp1250", "cp1251", "shift_jis", "gb18030"]):
        with contextlib.suppress(UnicodeDecodeError):
            text = data.decode(encoding)
            odd = [line.strip()[:80] for line in text.splitlines() if not line.isascii()]
            if odd and text not in seen:
                seen.add(text)
                yield encoding, tuple((line,) for line in odd[:QUERIES])
