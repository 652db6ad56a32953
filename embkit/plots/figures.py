"""One style for every picture: colours, marks, texts beside them; and a picture as a file."""

from __future__ import annotations

import functools
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar, cast

import matplotlib
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from ..errors import EmbkitError

COLORS: tuple[Any, ...] = tuple(matplotlib.color_sequences["petroff10"])
HATCHES = ("", "///", "...", "xxx", "\\\\\\", "ooo", "++", "--", "**", "||")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "*")
DASHES = ("-", "--", "-.", ":", (0, (5, 1)), (0, (3, 1, 1, 1)), (0, (1, 1)))
AMOUNTS = "viridis"
GREY = "#666666"
_STYLE: Any = {
    "font.size": 11,
    "axes.titlesize": 12,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.prop_cycle": cycler(color=COLORS),
    "grid.color": "#dddddd",
    "grid.linewidth": 0.8,
    "lines.linewidth": 2.0,
    "lines.markersize": 6,
    "hatch.linewidth": 0.6,
    "legend.frameon": False,
    "figure.facecolor": "white",
    "axes.facecolor": "white",
    "image.cmap": AMOUNTS,
}
Draw = TypeVar("Draw", bound=Callable[..., Figure])


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


def apply_style() -> None:
    """Set the course's style for all figures drawn from now on."""
    matplotlib.rcParams.update(_STYLE)


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
    with style():  # some settings, such as a hatch's width, are read while drawing
        figure.savefig(file, format="png", dpi=dpi, facecolor="white", metadata=note)
    return file.getvalue()


def _styled(draw: Draw) -> Draw:
    @functools.wraps(draw)
    def wrapper(*args: Any, **options: Any) -> Figure:
        with style():
            return draw(*args, **options)

    return cast(Draw, wrapper)


_SIDES = ("before", "after")


def _figure(width: float, height: float) -> Figure:
    figure = Picture(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _axes(width: float, height: float) -> tuple[Figure, Axes]:
    figure = _figure(width, height)
    return figure, figure.subplots()


def _color(number: int) -> Any:
    return COLORS[number % len(COLORS)]


def _swatch(number: int) -> Patch:
    hatch = HATCHES[number % len(HATCHES)]
    return Patch(facecolor=_color(number), hatch=hatch, edgecolor="white")


def _legend(axes: Axes, handles: Sequence[Any] | None = None, names: Sequence[str] = ()) -> None:
    """A legend beside the axes, where it hides no data."""
    place: dict[str, Any] = {"loc": "upper left", "bbox_to_anchor": (1.0, 1.0)}
    if handles is None:
        axes.legend(**place)
    else:
        axes.legend(handles, [_plain(name) for name in names], handleheight=1.2, **place)


def _place(row: Mapping[str, Any]) -> str:
    return str(row["split"]) + (f"\n{row['subset']}" if row.get("subset") else "")


def _name(row: Mapping[str, Any]) -> str:
    return str(row.get("label") or row["approach"])


def _metric(name: str) -> str:
    """A metric as it is written in prose: nDCG@10, MRR@10, MAP."""
    stem, at, cut = name.partition("@")
    return {"ndcg": "nDCG", "mrr": "MRR", "map": "MAP"}.get(stem, stem) + at + cut


def _plain(text: str) -> str:
    """Text that matplotlib takes as it is: no formulas, no control characters, no hidden legend."""
    safe = "".join(c if c.isprintable() or c == "\n" else "?" for c in str(text))
    safe = safe.replace("$", r"\$")
    return f"\u200b{safe}" if safe.startswith("_") else safe


def _short(text: str, most: int) -> str:
    text = " ".join(str(text).split())
    return text if len(text) <= most else text[: most - 1].rstrip() + "…"


def _beyond(rank: int | None, k: int) -> bool:
    return rank is None or rank > k


def _some(values: Any, what: str, hint: str) -> None:
    if not len(values):
        raise EmbkitError(f"no {what} to draw", expected=f"some {what}", hint=hint)
