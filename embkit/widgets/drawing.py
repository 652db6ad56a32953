"""What panels show beside their controls: tables, columns, small charts, a picture of lists."""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from ..display import Table
from ..plots import figures as draw

SVG_DASHES = ("none", "6 3", "6 3 2 3", "2 3")  # of a sketch's lines, as ``draw.DASHES``


def listing(
    title: str,
    columns: Mapping[str, Sequence[tuple[str, bool]]],
    notes: str = "",
    width: float = 9.5,
) -> Figure:
    """Columns of text side by side: the still picture of lists.

    Args:
        title: above them.
        columns: heading -> rows of (text, whether it is marked, with a star and in bold).
        notes: below them, a line each.
        width: inches.
    """
    rows = max((len(column) for column in columns.values()), default=0)
    lines = notes.splitlines()
    with draw.style():
        figure = draw.figure(width, 0.26 * (rows + len(lines) + 3))
        axes = figure.subplots()
        axes.set(xlim=(0, max(1, len(columns))), ylim=(rows + len(lines) + 1.6, -1.4))
        axes.axis("off")
        axes.text(0, -0.9, draw.plain(draw.short(title, 110)), weight="bold", va="center")
        most = int(width * 12.5 / max(1, len(columns)))
        for x, (heading, column) in enumerate(columns.items()):
            axes.text(x, 0.1, draw.plain(heading), color="#0b57a4", va="center", size=10)
            for y, (text, marked) in enumerate(column, start=1):
                shown = draw.plain(draw.short(f"★ {text}" if marked else text, most))
                axes.text(x, y, shown, weight="bold" if marked else None, va="center", size=9)
        for y, line in enumerate(lines, start=rows + 1):
            axes.text(
                0, y + 0.3, draw.plain(draw.short(line, 130)), va="center", size=9, color="#444444"
            )
    said = "; ".join(
        f"{heading}: " + ", ".join(("★ " if m else "") + draw.short(t, 60) for t, m in column[:3])
        for heading, column in columns.items()
    )
    return draw.alt(figure, f"{title}. {said}. {notes}".strip())


def framed(table: Table) -> str:
    """A table in a panel: it scrolls where it is too wide."""
    drawn = table.to_html().replace("<table>", "<table cellpadding='4'>", 1)
    style = "overflow-x:auto;overflow-wrap:break-word;line-height:1.4"  # no number is broken
    return f"<div style='{style}'>{drawn}</div>"


def columns(*parts: str) -> str:
    """Parts of a page side by side."""
    style = "flex:1;min-width:0;overflow-wrap:anywhere"
    inner = "".join(f"<div style='{style}'>{part}</div>" for part in parts)
    return f"<div style='display:flex;gap:1.5em;line-height:1.4'>{inner}</div>"


def sketch(
    label: str,
    series: Mapping[str, Sequence[tuple[float, float]]],
    *,
    mark: float | None = None,
    logx: bool = False,
    width: int = 260,
    height: int = 90,
) -> str:
    """Lines as SVG, drawn within a millisecond: for what follows a slider or a training.

    Args:
        label: what is shown; above the lines, with the range of their values.
        series: name -> (x, y) points; an empty name is not written.
        mark: an x at which a line stands.
        logx: whether x is spaced by its logarithm.
        width: pixels.
        height: pixels.
    """
    scale: Callable[[float], float] = np.log if logx else float
    xs, ys = zip(*(point for points in series.values() for point in points), strict=True)
    left, low = scale(min(xs)), min(ys)
    across, up = max(scale(max(xs)) - left, 1e-12), max(max(ys) - low, 1e-12)

    def at(x: float, y: float) -> str:
        right, above = (scale(x) - left) / across, (y - low) / up
        return f"{4 + right * (width - 8):.1f},{height - 4 - above * (height - 8):.1f}"

    drawn = ""
    for number, (name, points) in enumerate(series.items()):
        colour, y = to_hex(draw.color(number)), 14 + 16 * number
        look = f"stroke='{colour}' stroke-width='2' stroke-dasharray='{SVG_DASHES[number]}'"
        path = " ".join(at(*point) for point in points)
        drawn += f"<polyline points='{path}' fill='none' {look}/>"
        if name:
            drawn += f"<path d='M14 {y - 4}h26' {look}/><text x='46' y='{y}' font-size='12' "
            drawn += f"fill='currentColor'>{html.escape(name[:40])}</text>"
    if mark is not None:
        drawn += f"<path d='M{at(mark, low).split(',')[0]} 0V{height}' stroke='currentColor'/>"
    told = html.escape(f"{label} ({low:.4g} to {max(ys):.4g})")
    return (
        f"<figure style='margin:4px 12px 4px 0'><figcaption>{told}</figcaption>"
        f"<svg viewBox='0 0 {width} {height}' width='{width}' style='max-width:100%' role='img' "
        f"aria-label='{told}'>{drawn}</svg></figure>"
    )
