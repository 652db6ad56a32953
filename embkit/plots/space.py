"""Figures of the embedding space, of truncated vectors, and of a batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..errors import EmbkitError, unknown
from . import figures as draw

SIDES = ("before", "after")
REST = ("none", "other", "not asked")  # classes that are drawn grey, beneath the others
MOST_CLASSES = len(draw.COLORS)


@draw.styled
def space_maps(
    space: Any,
    method: str = "umap",
    by: str = "group",
    *,
    query: str = "",
    selected: Sequence[int] = (),
) -> Figure:
    """The same documents before and after on one map, its trustworthiness under each side.

    Args:
        space: from ``ek.space.fit_space``.
        method: ``umap`` or ``pca``.
        by: colour, as in ``Space.colours``.
        query: a star where it falls, joined with the documents that it finds.
        selected: numbers of documents that are ringed on both sides.
    """
    drawn, values = space.map(method), space.colours(by)
    figure, panels = _panels(len(values), SIDES)
    sides = (drawn.before, drawn.after)
    for axes, points, name, trust in zip(panels, sides, space.names, drawn.trust, strict=True):
        last = _scatter(axes, points, values, named=by == "group")
        axes.set(title=draw.plain(draw.short(name, 48)), xlabel=f"trustworthiness {trust:.3f}")
        if len(selected):
            x, y = points[list(selected)].T
            axes.scatter(x, y, s=60, facecolors="none", edgecolors="black", linewidths=1.2)
    if query:
        places, found = space.place(query, method)
        for axes, star, near, points in zip(panels, places, found, sides, strict=True):
            for neighbour in points[near]:
                axes.plot(*np.array([star, neighbour]).T, color="black", lw=0.9, zorder=4)
            x, y = star
            axes.scatter(x, y, marker="*", s=260, color="gold", edgecolors="black", zorder=5)
        figure.suptitle(draw.plain(f"★ {draw.short(query, 80)}"), fontsize=11)
    _key(figure, panels[1], values, last, by)
    text = f"{drawn.title} of {len(values):,} documents, {space.names[0]} and {space.names[1]}, "
    text += f"coloured by {by}; trustworthiness {drawn.trust[0]:.3f} and {drawn.trust[1]:.3f}"
    if query:
        lists = [", ".join(draw.short(_text(space, i), 40) for i in near[:3]) for near in found]
        text += f"; {query!r} finds {lists[0]} before and {lists[1]} after"
    return draw.alt(figure, f"{text}.")


@draw.styled
def space_arrows(space: Any, method: str = "umap", most: int = 200) -> Figure:
    """Where documents went: an arrow from before to after for those that drifted most.

    Args:
        space: from ``ek.space.fit_space``.
        method: ``umap`` or ``pca``.
        most: arrows; the text of the furthest ten is in the picture's own text.
    """
    if most < 1:
        raise EmbkitError(f"most={most}", expected="1 arrow or more", hint="most=200")
    drawn, drift = space.map(method), space.drift
    chosen = np.argsort(-drift, kind="stable")[:most]
    figure, axes = draw.axes(7.6, 6.0)
    x, y = drawn.before.T
    axes.scatter(x, y, s=_size(len(drift)), color="#cccccc", linewidths=0)
    start, step = drawn.before[chosen], (drawn.after - drawn.before)[chosen]
    arrows = axes.quiver(
        *start.T, *step.T, drift[chosen], cmap=draw.AMOUNTS, angles="xy", scale_units="xy", scale=1,
        width=0.0025, headwidth=5,
    )  # fmt: skip
    figure.colorbar(arrows, ax=axes, label="drift (1 - cosine)")
    _bare(axes)
    axes.set(
        title=draw.plain(f"the {len(chosen)} documents that moved most, of {len(drift):,}"),
        xlabel=f"grey: before; arrows end after; trustworthiness {drawn.trust[1]:.3f}",
    )
    told = "; ".join(f"{draw.short(_text(space, i), 60)} {drift[i]:.2f}" for i in chosen[:10])
    return draw.alt(figure, f"{drawn.title} with arrows from before to after. Most drift: {told}.")


@draw.styled
def map_settings(
    maps: Mapping[str, Any], colours: Sequence[Any], *, side: str = "after", by: str = "group"
) -> Figure:
    """The same points under several settings, a panel each, trustworthiness under each.

    Args:
        maps: title -> Map, of the same texts.
        colours: one a text: strings for classes, numbers for amounts.
        side: ``before`` or ``after``.
        by: what the colours are.
    """
    draw.some(maps, "maps", 'maps = {"5 neighbours": ek.space.project(a, b, k=5)}')
    if side not in SIDES:
        raise unknown("side", side, SIDES)
    values = np.asarray(colours)
    figure, panels = _panels(len(values), maps, share=False)
    parts = []
    for axes, (name, drawn) in zip(panels, maps.items(), strict=True):
        points, trust = getattr(drawn, side), drawn.trust[SIDES.index(side)]
        if len(points) != len(values):
            raise EmbkitError(
                f"{len(points)} points in {name!r} and {len(values)} colours",
                expected="one colour a text, in every map",
                hint="project the same texts with each setting",
            )
        last = _scatter(axes, points, values, named=by == "group")
        axes.set(title=draw.plain(name), xlabel=f"trustworthiness {trust:.3f}")
        parts.append(f"{name}, trustworthiness {trust:.3f}")
    _key(figure, panels[-1], values, last, by)
    text = f"{len(values):,} texts mapped in {len(maps)} ways: {'; '.join(parts)}."
    return draw.alt(figure, text)


@draw.styled
def matryoshka_curve(tables: Mapping[str, Any], split: str) -> Figure:
    """nDCG@10 by dimensions with bands, one line a model; filled marks are sizes it was taught.

    Args:
        tables: name -> DimensionScores, from ``ek.evaluate_sizes``.
        split: the test split that is shown.
    """
    draw.some(tables, "models", '{"plain": ek.evaluate_sizes(run, domain)}')
    figure, axes = draw.axes(7.0, 4.2)
    ticks, parts = set(), []
    for number, (name, sizes) in enumerate(tables.items()):
        places = list(sizes.scores)
        means, low, high = sizes.band(split)
        axes.plot(places, means, label=draw.plain(name), **draw.line(number))
        draw.band(axes, number, places, means, low, high)
        for place, mean in zip(places, means, strict=True):
            colour = draw.color(number)
            inner = colour if place in sizes.trained else "white"
            axes.plot(place, mean, draw.marker(number), color=colour, mfc=inner)
        ticks |= set(places)
        parts.append(f"{name} {means[0]:.3f} at {places[0]} and {means[-1]:.3f} at {places[-1]}")
    draw.log_ticks(axes, sorted(ticks))
    axes.set(xlabel="dimensions (filled: trained for)", ylabel=f"nDCG@10 on {draw.plain(split)}")
    draw.legend(axes)
    return draw.alt(figure, f"nDCG@10 on {split} by dimensions: {'; '.join(parts)}.")


@draw.styled
def batch_softmax(similarities: Any, temperature: float, curve: Mapping[float, float]) -> Figure:
    """A batch at one temperature: similarities, softmax, gradient; and the loss at others.

    Args:
        similarities: of each query (row) to each document, the right ones on the diagonal.
        temperature: above 0.
        curve: temperature -> loss of the same batch.
    """
    from ..losses.in_batch import batch_loss

    values = np.asarray(similarities, float)
    found = batch_loss(values, temperature)
    figure = draw.figure(13.0, 3.6)
    panels = figure.subplots(1, 4, width_ratios=[1, 1, 1, 1.15])
    push = float(np.abs(found.gradient).max()) or 1.0
    looks: tuple[dict[str, Any], ...] = (
        {"cmap": draw.AMOUNTS},
        {"cmap": draw.AMOUNTS, "vmin": 0, "vmax": 1},
        {"cmap": "PuOr", "vmin": -push, "vmax": push},
    )
    titles = ("similarity", "softmax of each row", "gradient by similarity")
    matrices = (values, found.softmax, found.gradient)
    for axes, matrix, title, look in zip(panels[:3], matrices, titles, looks, strict=True):
        figure.colorbar(axes.imshow(matrix, **look), ax=axes, shrink=0.75)
        axes.set(title=title, xlabel="documents", ylabel="queries", xticks=[], yticks=[])
        axes.grid(visible=False)
    panels[3].plot(list(curve), list(curve.values()), color=draw.color(0))
    panels[3].plot(temperature, found.loss, "o", color=draw.color(1), ms=9)
    panels[3].set(xscale="log", xlabel="temperature", title=f"loss {found.loss:.3f}")
    text = f"A batch of {len(values)} pairs at temperature {temperature:g}: loss {found.loss:.3f}, "
    text += f"the right documents' mean share {found.right:.2f}, the hardest negative's share of "
    return draw.alt(figure, f"{text}the push {found.hardest:.2f}.")


def _panels(points: int, names: Any, *, share: bool = True) -> tuple[Figure, list[Axes]]:
    draw.some(range(points), "documents", "a domain with documents")
    width = 4.4 if len(names) <= 2 else 3.5
    figure = draw.figure(1.2 + width * len(names), width)
    panels = figure.subplots(1, len(names), sharex=share, sharey=share, squeeze=False)[0]
    for axes in panels:
        _bare(axes, "box" if share else "datalim")
    return figure, list(panels)


def _bare(axes: Axes, fit: Literal["box", "datalim"] = "box") -> None:
    """Axes whose numbers mean nothing have none."""
    axes.set(xticks=[], yticks=[])
    axes.grid(visible=False)
    axes.set_aspect("equal", adjustable=fit)


def _size(points: int) -> float:
    """Area of a mark, so that many points leave something to see."""
    return float(np.clip(50_000 / max(points, 1), 2, 30))


def classes(values: np.ndarray) -> list[str]:
    """Classes in their order, the largest first where there are too many for their colours."""
    names, counts = np.unique(values.astype(str), return_counts=True)
    names = names[np.argsort(-counts, kind="stable")][:MOST_CLASSES]
    return sorted(names, key=lambda name: (name in REST, name))


def _scatter(axes: Axes, points: np.ndarray, values: np.ndarray, named: bool) -> Any:
    """Points coloured by class, which may be named where they gather; or by amount."""
    size = _size(len(points))
    if values.dtype.kind in "fi":
        order = np.argsort(values)  # the large amounts lie above
        x, y = points[order].T
        return axes.scatter(x, y, c=values[order], cmap=draw.AMOUNTS, s=size, linewidths=0)
    for number, name in enumerate(classes(values)):
        mine = points[values.astype(str) == name]
        rest = name in REST
        x, y = mine.T
        axes.scatter(x, y, s=size, linewidths=0, zorder=1 if rest else 2, **_mark(number, name))
        if named and not rest:
            x, y = np.median(mine, axis=0)
            axes.text(
                x, y, draw.plain(draw.short(name, 14)), ha="center", va="center",
                fontsize=9, fontweight="bold", zorder=3, bbox=_BOX,
            )  # fmt: skip
    return None


_BOX = {"facecolor": "white", "alpha": 0.7, "pad": 1, "edgecolor": draw.GREY, "lw": 0.5}


def _mark(number: int, name: str) -> dict[str, Any]:
    """Mark and colour of a class; the rest is grey."""
    color = draw.LIGHT if name in REST else draw.color(number)
    return {"marker": draw.marker(number), "color": color}


def _key(figure: Figure, axes: Axes, values: np.ndarray, last: Any, by: str) -> None:
    """A colour bar for amounts, a legend for classes."""
    if last is not None:
        figure.colorbar(last, ax=axes, label=draw.plain(by))
        return
    for number, name in enumerate(classes(values)):
        axes.scatter([], [], s=40, label=draw.plain(draw.short(name, 24)), **_mark(number, name))
    draw.legend(axes)


def _text(space: Any, number: int) -> str:
    return space.domain.corpus[space.ids[number]]
