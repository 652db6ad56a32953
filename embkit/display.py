"""Tables: the one writer of them, in a notebook, a terminal and a file."""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import zip_longest
from pathlib import Path
from textwrap import wrap
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, FileSystemLoader

if TYPE_CHECKING:  # pandas is imported where a table of it is made
    from pandas import DataFrame as Frame
    from pandas import Series
else:
    Frame, Series = "DataFrame", "Series"

BEST = "★"  # beside the best of a group
WIDTH, NARROW = 100, 8  # characters of a table in a terminal, at most, and of its columns, at least
_AMOUNT = re.compile(r"[-+<>×±]?\s*\.?\d.{,66}$|–$")  # a cell of an amount, or of none
_LATEX = {"Δ": r"$\Delta$", BEST: r"$\star$", "×": r"$\times$", "±": r"$\pm$", "–": "--"}
_LATEX |= {"<": "$<$", ">": "$>$"}
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]")  # and line, direction


@dataclass(frozen=True)
class Table:
    """Cells under their headers, in whatever form a reader needs.

    Example:
        >>> print(Table(["model", "score"], [["minilm", ".47"]]).to_text())
        model   score
        minilm  .47
    """

    head: Sequence[str]  # a header may stand twice
    cells: Sequence[Sequence[str]]  # one list of texts a row, as long as ``head``
    caption: str = ""  # what the table shows; below it
    bold: Collection[tuple[int, int]] = ()  # (row, column) of cells that stand out, with a star

    def frame(self, star: str = f"{{}} {BEST}") -> Frame:
        """The texts, each on one line; ``star`` is how a cell that stands out is written."""
        import pandas as pd

        rows = [
            [star.format(_line(c)) if (i, j) in self.bold else _line(c) for j, c in enumerate(row)]
            for i, row in enumerate(self.cells)
        ]
        head = pd.Index([_line(name) for name in self.head], dtype=object)
        return pd.DataFrame(rows, columns=head, dtype=object)

    def sides(self) -> list[str]:
        """Each column's side: right, if all that stands in it are amounts, else left."""
        columns = zip(*self.cells, strict=True) if self.cells else [()] * len(self.head)
        texts = ([str(cell) for cell in column if str(cell)] for column in columns)
        return [
            "right" if column and all(map(_AMOUNT.match, column)) else "left" for column in texts
        ]

    def to_html(self) -> str:
        """An HTML table; every cell is text, and is escaped here."""
        return as_html("table.jinja", table=self, rows=self.frame("{}"), star=BEST)

    __html__ = _repr_html_ = to_html  # a template takes it as it is, and a notebook

    def to_text(self) -> str:
        """Columns for a terminal; what cannot be seen is spelt out."""
        return "\n".join(self.text_rows())

    __str__ = to_text

    def text_rows(self, width: int = WIDTH) -> list[str]:
        """The head, if there is one, and each row; in a table wider than ``width`` characters the
        texts of the widest columns go on below."""
        frame = self.frame()
        rows = [list(frame.columns)] if any(self.head) else []
        rows = [[visible(cell) for cell in row] for row in rows + frame.to_numpy().tolist()]
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        while sum(widths) + 2 * len(widths) - 2 > width and max(widths) > NARROW:
            widths[widths.index(max(widths))] -= 1
        made = []
        for cells in rows:
            parts = [
                wrap(c, w, break_on_hyphens=False) if len(c) > w else [c]
                for c, w in zip(cells, widths, strict=True)
            ]
            lines = (map(str.ljust, line, widths) for line in zip_longest(*parts, fillvalue=""))
            made.append("\n".join("  ".join(line).rstrip() for line in lines))
        return made

    def to_markdown(self) -> str:
        """A table for a README."""
        cells = [[markdown(cell) for cell in row] for row in self.cells]
        escaped = Table([markdown(name) for name in self.head], cells, bold=self.bold)
        return escaped.frame(f"**{{}}** {BEST}").to_markdown(
            index=False, tablefmt="pipe", disable_numparse=True, colalign=self.sides()
        )

    def to_latex(self) -> str:
        """A ``tabular`` with booktabs' rules, for a paper (``\\usepackage{booktabs}``)."""
        sides = "".join(side[0] for side in self.sides())
        frame = self.frame("\x02{}\x03")
        made = frame.to_latex(index=False, escape=True, column_format=sides)
        made = re.sub("\x02(.*?)\x03", r"\\textbf{\1}", made)
        made = re.sub(r"(?m)^\[", "{[}", made)  # after a row's end it would be a distance
        for letter, command in _LATEX.items():
            made = made.replace(letter, command)
        return made.strip()


@cache
def _templates() -> Environment:
    folder = FileSystemLoader(Path(__file__).parent)
    blocks: Any = {"trim_blocks": True, "lstrip_blocks": True}
    made = Environment(loader=folder, autoescape=True, auto_reload=False, **blocks)
    made.filters["line"] = _line
    return made


def as_html(template: str, **values: Any) -> str:
    """The text of an HTML template, by its path in the package; every value is escaped, but for
    those that have ``__html__``."""
    return _templates().get_template(template).render(values)


class Shown:
    """What shows itself as a table: a class gives ``table``, and has every form of it."""

    def table(self) -> Table:
        """The table that it shows itself as."""
        raise NotImplementedError(type(self).__name__)

    def _repr_html_(self) -> str:
        return self.table().to_html()

    def __str__(self) -> str:
        return self.table().to_text()

    __repr__ = __str__


def table(
    rows: Iterable[Mapping[str, Any]], *, caption: str = "", bold: Collection[tuple[int, int]] = ()
) -> Table:
    """A table of one mapping a row; the first row's keys, and what later ones add, are the head.

    None and what a row lacks stay empty; other values are written with ``str``.
    """
    listed = list(rows)
    head = list(dict.fromkeys(name for row in listed for name in row))
    cells = [["" if row.get(n) is None else str(row[n]) for n in head] for row in listed]
    return Table(head, cells, caption, bold)


def facts(rows: Mapping[str, Any], caption: str = "") -> Table:
    """A table of names and values, one a row, without a header."""
    return Table(["", ""], [[name, str(value)] for name, value in rows.items()], caption)


def no_formula(text: Any) -> Any:
    """A text that no spreadsheet takes for a formula; other values unchanged."""
    risky = isinstance(text, str) and text.startswith(("=", "+", "-", "@", "\t", "\r"))
    return f"'{text}" if risky else text


def percent(share: float) -> str:
    """A share as text; what is not quite none, or not quite all, does not read as such."""
    if 0 < share < 0.0005:
        return "<0.1%"
    return ">99.9%" if 0.9995 < share < 1 else f"{share:.1%}"


def some_of(n: int, one: str, many: str) -> str:
    """A count and its noun."""
    return f"{n:,} {one if n == 1 else many}"


def short(text: Any, most: int) -> str:
    """A text on one line, of so many characters at most."""
    text = " ".join(str(text).split())
    return text if len(text) <= most else text[: most - 1].rstrip() + "…"


def visible(text: str) -> str:
    """A text with what cannot be seen spelt out, so that it cannot change a page or a terminal."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)


def _line(text: Any) -> str:
    """A cell's text on one line, control characters spelt out."""
    return _CONTROL.sub(lambda found: visible(found[0]), re.sub(r"[ \t\r\n]+", " ", str(text)))


def markdown(text: Any) -> str:
    """A text on one line of Markdown that shows no markup of its own."""
    return re.sub(r"([\\|`*_<>~]|(?<=\])[(\[])", r"\\\1", _line(text))
