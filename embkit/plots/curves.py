"""Pictures of training: losses, histograms, lines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from . import figures as draw


@draw.style()
def loss_curve(history: draw.Rows, dev: str = "dev sample") -> Figure:
    """The training loss by step and, where it was measured, nDCG@10 on the dev sample below it.

    Args:
        history: dicts with `step` and `loss`, or `step` and a dev score under `dev` or a key
            that holds "ndcg"; other keys are ignored.
        dev: what that score is called.
    """
    found: dict[str, list[tuple[float, float]]] = {"loss": [], f"{dev} nDCG@10": []}
    for row in history:
        measured = next((k for k in row if k == "dev" or "ndcg" in k.lower()), "")
        for name, key in zip(found, ("loss", measured), strict=True):
            if row.get(key) is not None:
                found[name].append((row["step"], row[key]))
    series = {name: points for name, points in found.items() if points}
    draw.some(series, "steps with a loss or a dev score", "ek.plots.loss_curve(run.history)")
    figure, panels = draw.panels(7.0, 2.0 + 1.5 * len(series), len(series), sharex=True)
    parts = []
    for axes, (name, points) in zip(panels, series.items(), strict=True):
        x, y = np.array(points, dtype=float).T
        number = list(found).index(name)
        smooth = name == "loss" and len(y) >= 20
        few = len(y) <= 40 and not smooth
        axes.plot(
            x, y, **draw.line(number), marker=draw.marker(number) if few else None,
            lw=1 if smooth else 2, alpha=0.4 if smooth else 1, label="each step",
        )  # fmt: skip
        if smooth:
            width = max(3, len(y) // 20)
            mean = np.convolve(y, np.ones(width) / width, mode="valid")
            axes.plot(x[width - 1 :], mean, color=draw.color(number), label=f"mean of {width}")
            draw.legend(axes)
        axes.set_ylabel(name)
        parts.append(f"{name} from {y[0]:.3f} at step {x[0]:g} to {y[-1]:.3f} at step {x[-1]:g}")
    panels[-1].set_xlabel("step")
    panels[-1].xaxis.set_major_locator(MaxNLocator(integer=True))
    return draw.alt(figure, f"Training curve: {'; '.join(parts)}.")


@draw.style()
def histogram(values_by_name: Mapping[str, Sequence[float]], xlabel: str, bins: int = 30) -> Figure:
    """Histograms over the same bins, one outline a name, with its median as a vertical line.

    Args:
        values_by_name: name → numbers; the counts are shares, so that sizes may differ.
        bins: how many, over the range of all the numbers.
    """
    samples = {name: np.asarray(values, dtype=float) for name, values in values_by_name.items()}
    draw.some(samples, "values", 'ek.plots.histogram({"name": values}, "similarity")')
    edges = np.histogram_bin_edges(np.concatenate(list(samples.values())), bins)
    figure, (axes,) = draw.panels(6.8, 4.0)
    parts = []
    for number, (name, sample) in enumerate(samples.items()):
        share = np.histogram(sample, edges)[0] / len(sample)
        axes.stairs(share, edges, lw=2, label=draw.plain(name), **draw.line(number))
        axes.stairs(share, edges, color=draw.color(number), fill=True, alpha=0.15)
        median = float(np.median(sample))
        axes.axvline(median, lw=1, **draw.line(number))
        parts.append(f"{name} has median {median:.3g} over {len(sample)} values")
    axes.set(xlabel=draw.plain(xlabel), ylabel="share")
    if len(samples) > 1:
        draw.legend(axes)
    return draw.alt(figure, f"Histogram of {xlabel}: {'; '.join(parts)}.")


@draw.style()
def lines(
    x: Sequence[float], series: Mapping[str, Any], xlabel: str, ylabel: str, *, logx: bool = False
) -> Figure:
    """Lines over a shared x, each with a band where one is given.

    Args:
        series: name → y, or name → (y, low, high) for a band.
        logx: whether x is spaced by its logarithm, with its own values as ticks.
    """
    places = np.asarray(x, dtype=float)
    draw.some(series, "lines", 'ek.plots.lines(x, {"name": y}, "x", "y")')
    figure, (axes,) = draw.panels(6.8, 4.0)
    parts = []
    for number, (name, given) in enumerate(series.items()):
        banded = isinstance(given, tuple) and len(given) == 3 and np.ndim(given[0]) == 1
        y, *band = map(np.asarray, given if banded else (given,))
        mark = draw.marker(number) if len(places) <= 40 else None
        axes.plot(places, y, marker=mark, label=draw.plain(name), **draw.line(number))
        if band:
            low, high = band
            axes.fill_between(places, low, high, color=draw.color(number), alpha=0.18, lw=0)
        parts.append(f"{name} from {y[0]:.3g} at {places[0]:g} to {y[-1]:.3g} at {places[-1]:g}")
    if logx:
        axes.set_xscale("log")
        axes.set_xticks(list(places), [f"{place:g}" for place in places])
        axes.minorticks_off()
    axes.set(xlabel=draw.plain(xlabel), ylabel=draw.plain(ylabel))
    if len(series) > 1:
        draw.legend(axes)
    return draw.alt(figure, f"{ylabel} by {xlabel}: {'; '.join(parts)}.")
