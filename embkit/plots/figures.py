"""One style for every picture: colours, marks, texts beside them; and a picture as a file."""

import io
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ..display import short
from ..errors import EmbkitError

COLORS: tuple[Any, ...] = tuple(matplotlib.color_sequences["petroff10"])
HATCHES = ("", "///", "...", "xxx", "\\\\\\", "ooo", "++", "--", "**", "||")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "*")
DASHES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)), (0, (1, 1)))
NAMED = """base/untrained/general|contrastive/the whole|bm25|corpus|hard negatives|distilled
Matryoshka/every size|LoRA|hybrid|bge-small, untrained"""  # models with a colour of their own
AMOUNTS = "viridis"
INK, GREY, LIGHT = "#222222", "#666666", "#d4d4d4"
_FILE = Path(__file__).with_name("course.mplstyle")
_STYLE: Any = matplotlib.rc_params_from_file(_FILE, use_default_template=False)
_STYLE["axes.prop_cycle"] = cycler(color=COLORS)
Rows = Sequence[Mapping[str, Any]]  # of results, as a Report's


class Picture(Figure):
    """A Figure that pyplot does not keep, and that shows itself with its text in a notebook."""

    embkit_alt: str = ""

    def _ipython_display_(self) -> None:
        from IPython.display import display

        data = {"image/png": png(self), "text/plain": self.embkit_alt or repr(self)}
        display(data, raw=True, metadata={"image/png": {"alt": self.embkit_alt}})


@contextmanager
def style() -> Iterator[None]:
    """Draw your own figures in the course's style: `with plots.style(): ...`."""
    with matplotlib.rc_context(_STYLE):
        yield


def alt(figure: Figure, text: str) -> Figure:
    """Give a figure the text that stands in for its picture, and return it."""
    figure.embkit_alt = text  # type: ignore[attr-defined]
    return figure


def alt_text(figure: Figure) -> str:
    """The text that stands in for a figure's picture."""
    return getattr(figure, "embkit_alt", "")


def png(figure: Figure, dpi: int = 110) -> bytes:
    """A figure as PNG, with its text in the file's description."""
    file = io.BytesIO()
    note = {"Description": alt_text(figure), "Software": None}
    with style(), warnings.catch_warnings():  # a hatch's width, for one, is read while drawing
        warnings.filterwarnings("ignore", message="Glyph")  # a letter that the font lacks
        figure.savefig(file, format="png", dpi=dpi, facecolor="white", metadata=note)
    return file.getvalue()


def panels(
    width: float, height: float, rows: int = 1, columns: int = 1, **options: Any
) -> tuple[Figure, list[Axes]]:
    """A figure that pyplot does not keep, in inches, and its axes; options as ``subplots``'."""
    figure = Picture(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure, list(figure.subplots(rows, columns, squeeze=False, **options).flat)


def color(number: int) -> Any:
    """The colour of a class."""
    return COLORS[number % len(COLORS)]


def numbers(names: Sequence[str]) -> dict[str, int]:
    """A class for each name: a model that the course knows has the same in every picture, by any of
    its names."""
    kinds = [kind.split("/") for kind in NAMED.replace("\n", "|").split("|")]
    known = {name: number for number, kind in enumerate(kinds) for name in kind}
    free = iter([*(n for n, kind in enumerate(kinds) if not {*kind} & {*names}), *range(99)])
    return {name: known[name] if name in known else next(free) for name in names}


def marker(number: int) -> str:
    """The mark of a class."""
    return MARKERS[number % len(MARKERS)]


def line(number: int) -> dict[str, Any]:
    """Colour and dashes of a line."""
    return {"color": color(number), "ls": DASHES[number % len(DASHES)]}


def area(number: int) -> dict[str, Any]:
    """Colour and hatch of a bar or an area."""
    hatch = HATCHES[number % len(HATCHES)]
    return {"facecolor": color(number), "hatch": hatch, "edgecolor": "white"}


def legend(axes: Axes) -> None:
    """A legend beside the axes, where it hides no data."""
    axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), handleheight=1.2)


def rows_with(report: Any, metric: str) -> Rows:
    """A report's rows, or rows, that have a metric; fails where none has."""
    rows = [row for row in getattr(report, "rows", report) if row.get(metric) is not None]
    some(rows, f"rows with {metric!r}", "report = ek.compare([...])")
    return rows


def by_place(rows: Rows) -> dict[str, dict[str, Mapping[str, Any]]]:
    """Split, its subset in a second line -> what an approach is called -> its row."""
    found: dict[str, dict[str, Mapping[str, Any]]] = {}
    for row in rows:
        place = str(row["split"]) + (f"\n{row['subset']}" if row.get("subset") else "")
        found.setdefault(place, {})[name(row)] = row
    return found


def spread(row: Mapping[str, Any], metric: str) -> list[list[float]]:
    """How far a row's interval reaches below and above its value, as ``errorbar`` takes it."""
    value = row[metric]
    low, high = row.get(f"{metric}_ci") or (value, value)
    return [[max(value - low, 0.0)], [max(high - value, 0.0)]]


def name(row: Mapping[str, Any]) -> str:
    """What a row's approach is called."""
    return str(row.get("label") or row["approach"])


def metric(name: str) -> str:
    """A metric as it is written in prose: nDCG@10, MRR@10; "map" is that of 100 ranks, MAP@100."""
    stem, at, depth = ("map@100" if name == "map" else name).partition("@")
    return {"ndcg": "nDCG", "mrr": "MRR", "map": "MAP"}.get(stem, stem) + at + depth


def plain(text: str, most: int = 0) -> str:
    """Text that matplotlib takes as it is: no formulas, no control characters, no hidden legend;
    if ``most`` is given, on one line of so many characters."""
    text = short(text, most) if most else str(text)
    safe = "".join(c if c.isprintable() or c == "\n" else "?" for c in text)
    safe = safe.replace("$", r"\$")
    return f"\u200b{safe}" if safe.startswith("_") else safe


def some(values: Any, what: str, hint: str) -> None:
    """Fails where there is nothing to draw."""
    if not len(values):
        raise EmbkitError(f"no {what} to draw", expected=f"some {what}", hint=hint)
