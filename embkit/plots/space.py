"""Figures of the embedding space."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from . import figures as draw

SIDES = ("before", "after")
REST = ("none", "other", "not asked")  # classes that are drawn grey, beneath the others
_BOX = {"facecolor": "white", "alpha": 0.7, "pad": 1, "edgecolor": draw.GREY, "lw": 0.5}


@draw.style()
def space_maps(space: Any, by: str = "group", *, query: str = "", selected: Any = ()) -> Figure:
    """The same documents before and after on one map, its trustworthiness under each side.

    Args:
        space: from ``ek.space.fit_space``; ``by`` is one of its colours.
        query: a star where it falls, joined with the documents that it finds.
        selected: numbers of documents that are ringed on both sides.
    """
    drawn, values = space.map, space.colours(by)
    names = [draw.short(name, 48) for name in space.names]
    sides = [(drawn.before, drawn.trust[0]), (drawn.after, drawn.trust[1])]
    figure, panels = _maps(names, sides, values, by, share=True)
    if len(selected):
        for axes, (points, _) in zip(panels, sides, strict=True):
            x, y = points[list(selected)].T
            axes.scatter(x, y, s=60, facecolors="none", edgecolors="black", linewidths=1.2)
    text = f"{drawn.method.upper()} map of {len(values):,} documents, {' and '.join(space.names)}, "
    text += f"coloured by {by}; trustworthiness {drawn.trust[0]:.3f} and {drawn.trust[1]:.3f}"
    if query:
        places, found = space.place(query)
        for axes, star, near, (points, _) in zip(panels, places, found, sides, strict=True):
            for neighbour in points[near]:
                axes.plot(*np.array([star, neighbour]).T, color="black", lw=0.9, zorder=4)
            look: Any = {"marker": "*", "color": "gold", "edgecolors": "black", "zorder": 5}
            axes.scatter(star[0], star[1], s=260, **look)
        figure.suptitle(draw.plain(f"★ {draw.short(query, 80)}"), fontsize=11)
        documents = list(space.domain.corpus.values())
        lists = [", ".join(draw.short(documents[i], 40) for i in near[:3]) for near in found]
        text += f"; {query!r} finds {lists[0]} before and {lists[1]} after"
    return draw.alt(figure, f"{text}.")


@draw.style()
def map_settings(maps: Mapping[str, Any], colours: Sequence[Any], *, by: str = "group") -> Figure:
    """The same points, after, under several settings, a panel each, trustworthiness under each.

    Args:
        maps: title -> Map, of the same texts.
        colours: one a text: strings for classes, numbers for amounts; what they are is ``by``.
    """
    draw.some(maps, "maps", 'maps = {"5 neighbours": ek.space.project(a, b, k=5)}')
    values, sides = np.asarray(colours), [(drawn.after, drawn.trust[1]) for drawn in maps.values()]
    figure, _ = _maps(maps, sides, values, by, share=False)
    parts = [f"{n}, trustworthiness {trust:.3f}" for n, (_, trust) in zip(maps, sides, strict=True)]
    text = f"{len(values):,} texts mapped in {len(maps)} ways: {'; '.join(parts)}."
    return draw.alt(figure, text)


def _maps(
    names: Any, sides: Sequence[tuple[np.ndarray, float]], values: np.ndarray, by: str, share: bool
) -> tuple[Figure, list[Axes]]:
    """A panel for each (points, trustworthiness), and one key of their colours."""
    draw.some(values, "documents", "a domain with documents")
    rows = 1 if len(sides) <= 3 else 2
    columns = -(-len(sides) // rows)
    width = 4.4 if columns <= 2 else 3.5
    size = 1.2 + width * columns, width * rows
    figure, panels = draw.panels(*size, rows, columns, sharex=share, sharey=share)
    if len(panels) > len(sides):
        panels.pop().remove()
    for axes, name, (points, trust) in zip(panels, names, sides, strict=True):
        last = _scatter(axes, points, values, named=by == "group")
        axes.set(title=draw.plain(name), xlabel=f"trustworthiness {trust:.3f}")
        axes.set(xticks=[], yticks=[])  # numbers that mean nothing
        axes.grid(visible=False)
        axes.set_aspect("equal", adjustable="box" if share else "datalim")
    corner = panels[columns - 1]
    if last is not None:
        figure.colorbar(last, ax=panels, label=draw.plain(by))
        return figure, panels
    for number, name in enumerate(classes(values)):
        corner.scatter([], [], s=40, label=draw.plain(name, 24), **_mark(number, name))
    draw.legend(corner)
    return figure, panels


def classes(values: np.ndarray) -> list[str]:
    """Classes in their order, the largest first where there are too many for their colours."""
    names, counts = np.unique(values.astype(str), return_counts=True)
    names = names[np.argsort(-counts, kind="stable")][: len(draw.COLORS)]
    return sorted(names, key=lambda name: (name in REST, name))


def _scatter(axes: Axes, points: np.ndarray, values: np.ndarray, named: bool) -> Any:
    """Points coloured by class, which may be named where they gather; or by amount."""
    size = float(np.clip(50_000 / len(points), 2, 30))  # many points leave something to see
    if values.dtype.kind in "fi":
        order = np.argsort(values)  # the large amounts lie above
        look: Any = {"c": values[order], "cmap": draw.AMOUNTS, "s": size, "linewidths": 0}
        return axes.scatter(*points[order].T, **look)
    for number, name in enumerate(classes(values)):
        mine, rest = points[values.astype(str) == name], name in REST
        over = 1 if rest else 2 - len(mine) / len(points)  # the rarer lies above
        look = {"s": size, "linewidths": 0, "zorder": over} | _mark(number, name)
        axes.scatter(*mine.T, **look)
        if named and not rest:  # where a quarter of them lie closest together
            some = mine[:: len(mine) // 500 + 1]
            reach = np.sort(np.linalg.norm(some[:, None] - some, axis=2))[:, len(some) // 4]
            x, y = some[reach.argmin()]
            look = {"ha": "center", "va": "center", "fontsize": 9, "fontweight": "bold"}
            axes.text(x, y, draw.plain(name, 14), zorder=3, bbox=_BOX, **look)
    return None


def _mark(number: int, name: str) -> dict[str, Any]:
    """Mark and colour of a class; the rest is grey."""
    color = draw.LIGHT if name in REST else draw.color(number)
    return {"marker": draw.marker(number), "color": color}
