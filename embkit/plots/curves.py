"""Pictures of training: losses, a temperature, trials, similarities."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ..errors import EmbkitError
from .figures import (
    AMOUNTS,
    COLORS,
    DASHES,
    HATCHES,
    MARKERS,
    _axes,
    _color,
    _figure,
    _legend,
    _plain,
    _short,
    _some,
    _styled,
    alt,
)


@_styled
def loss_curve(history: Sequence[Mapping[str, Any]]) -> Figure:
    """The training loss by step and, where it was measured, nDCG@10 on the dev split below it.

    Args:
        history: dicts with `step` and `loss`, or `step` and a dev score under `dev` or a key
            that holds "ndcg"; other keys are ignored.
    """
    losses = [(row["step"], row["loss"]) for row in history if row.get("loss") is not None]
    dev = []
    for row in history:
        key = next((k for k in row if k == "dev" or "ndcg" in k.lower()), None)
        if key is not None and row[key] is not None:
            dev.append((row["step"], row[key]))
    _some([*losses, *dev], "steps with a loss or a dev score", "loss_curve(run.history)")
    series = [("loss", losses, 0)] * bool(losses) + [("dev nDCG@10", dev, 1)] * bool(dev)
    figure = _figure(7.0, 2.0 + 1.5 * len(series))
    parts = []
    panels = figure.subplots(len(series), 1, sharex=True, squeeze=False)[:, 0]
    for axes, (name, points, number) in zip(panels, series, strict=True):
        x, y = (np.asarray(column, dtype=float) for column in zip(*points, strict=True))
        smooth = name == "loss" and len(y) >= 20
        few = len(y) <= 40 and not smooth
        axes.plot(
            x, y, color=_color(number), ls=DASHES[number], marker=MARKERS[number] if few else None,
            lw=1 if smooth else 2, alpha=0.4 if smooth else 1, label="each step",
        )  # fmt: skip
        if smooth:
            width = max(3, len(y) // 20)
            mean = np.convolve(y, np.ones(width) / width, mode="valid")
            axes.plot(x[width - 1 :], mean, color=_color(number), label=f"mean of {width}")
            _legend(axes)
        axes.set_ylabel(name)
        parts.append(f"{name} from {y[0]:.3f} at step {x[0]:g} to {y[-1]:.3f} at step {x[-1]:g}")
    panels[-1].set_xlabel("step")
    panels[-1].xaxis.set_major_locator(MaxNLocator(integer=True))
    return alt(figure, f"Training curve: {'; '.join(parts)}.")


@_styled
def temperature_softmax(
    similarities: Sequence[float],
    temperatures: Sequence[float],
    labels: Sequence[str] | None = None,
) -> Figure:
    """What each temperature makes of the same similarities: softmax(similarity / temperature).

    Args:
        similarities: of one anchor to its candidates, the positive first.
        temperatures: above 0, one panel each.
        labels: one a candidate; "positive", "negative 1" … when left out.
    """
    values = np.asarray(similarities, dtype=float)
    heats = np.asarray(temperatures, dtype=float)
    if not values.size or not heats.size or not (heats > 0).all():
        raise EmbkitError(
            f"{values.size} similarities, temperatures {list(temperatures)}",
            expected="one similarity or more, and temperatures above 0",
            hint="temperature_softmax([0.8, 0.6, 0.3], [0.02, 0.05, 1.0])",
        )
    if labels is None:
        labels = ["positive", *(f"negative {n}" for n in range(1, len(values)))]
    figure = _figure(1.2 + 2.6 * len(heats), 3.6)
    panels = figure.subplots(1, len(heats), sharey=True, squeeze=False)[0]
    parts = []
    for axes, heat in zip(panels, heats, strict=True):
        logits = values / heat
        weights = np.exp(logits - logits.max())
        weights /= weights.sum()
        bars = axes.bar(range(len(weights)), weights, edgecolor="white", color=COLORS[1])
        for bar in bars[1:]:
            bar.set_hatch(HATCHES[1])
        bars[0].set_facecolor(COLORS[0])
        if len(weights) <= 8:
            axes.bar_label(bars, fmt="%.2f", fontsize=9, padding=2)
        names = [_plain(_short(label, 18)) for label in labels]
        axes.set_xticks(range(len(weights)), names, rotation=40, ha="right")
        axes.grid(visible=False, axis="x")
        axes.set_title(f"temperature {heat:g}")
        parts.append(f"at {heat:g} the first candidate gets {weights[0]:.2f}")
    panels[0].set_ylabel("softmax weight")
    panels[0].set_ylim(0, 1.08)
    return alt(figure, f"Softmax of the same similarities: {'; '.join(parts)}.")


@_styled
def trials(rows: Sequence[Mapping[str, Any]], x: str, color: str | None = None) -> Figure:
    """What a sweep tried: a setting against the dev score; what was cut short as a cross.

    Args:
        rows: of ``sweep(...).rows``.
        x: a setting, drawn on a scale of logarithms where it spans a factor of five.
        color: another setting, shown as an amount of colour.
    """
    _some(rows, "trials", "ek.training.sweep(recipe, domain, space).rows")
    figure, axes = _axes(7.2, 4.2)
    done = [row for row in rows if row["dev nDCG@10"] is not None]
    short = [row for row in rows if row["dev nDCG@10"] is None]
    amounts = [float(row[color]) for row in rows] if color else []
    scale: dict[str, Any] = {"vmin": min(amounts), "vmax": max(amounts)} if color else {}
    drawn: Any = None
    for part, marker, y, name in (
        (done, "o", "dev nDCG@10", "all pairs"),
        (short, "X", "small", "cut short after a quarter"),
    ):
        if part:
            given: dict[str, Any] = {"c": [float(r[color]) for r in part]} if color else {}
            drawn = axes.scatter(
                [row[x] for row in part], [row[y] for row in part], marker=marker, s=70,
                label=name, edgecolors="#222222", linewidths=0.8, cmap=AMOUNTS, **given, **scale,
            ) if color else axes.scatter(
                [row[x] for row in part], [row[y] for row in part], marker=marker, s=70, label=name
            )  # fmt: skip
    if color:
        figure.colorbar(drawn, ax=axes, label=_plain(color))
    values = [float(row[x]) for row in rows]
    if min(values) > 0 and max(values) >= 5 * min(values):
        axes.set_xscale("log")
    axes.set_xlabel(_plain(x.replace("_", " ")))
    axes.set_ylabel("dev nDCG@10")
    axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
    best = max(done, key=lambda row: row["dev nDCG@10"], default=None)
    told = f"; the best, {best['dev nDCG@10']:.3f}, at {best[x]:g}" if best else ""
    text = f"Dev nDCG@10 by {x}: {len(done)} trials on all pairs, {len(short)} cut short{told}."
    return alt(figure, text)


@_styled
def histogram(values_by_name: Mapping[str, Sequence[float]], xlabel: str, bins: int = 30) -> Figure:
    """Histograms over the same bins, one outline a name, with its median as a vertical line.

    Args:
        values_by_name: name → numbers; the counts are shares, so that sizes may differ.
        xlabel: what the numbers are, with their unit.
        bins: how many, over the range of all the numbers.
    """
    samples = {name: np.asarray(values, dtype=float) for name, values in values_by_name.items()}
    _some(samples, "values", 'histogram({"name": values}, "similarity")')
    for name, sample in samples.items():
        if not sample.size or not np.isfinite(sample).all():
            raise EmbkitError(
                f"{name!r} has no values, or values that are NaN or infinite",
                expected="one finite number or more a name",
                hint="drop the name, or the values that are not finite",
            )
    edges = np.histogram_bin_edges(np.concatenate(list(samples.values())), bins)
    figure, axes = _axes(6.8, 4.0)
    parts = []
    for number, (name, sample) in enumerate(samples.items()):
        share = np.histogram(sample, edges)[0] / len(sample)
        dashes = DASHES[number % len(DASHES)]
        axes.stairs(share, edges, color=_color(number), ls=dashes, lw=2, label=_plain(name))
        axes.stairs(share, edges, color=_color(number), fill=True, alpha=0.15)
        median = float(np.median(sample))
        axes.axvline(median, color=_color(number), ls=dashes, lw=1)
        parts.append(f"{name} has median {median:.3g} over {len(sample)} values")
    axes.set_xlabel(_plain(xlabel))
    axes.set_ylabel("share")
    if len(samples) > 1:
        _legend(axes)
    return alt(figure, f"Histogram of {xlabel}: {'; '.join(parts)}.")


@_styled
def similarity_heatmap(
    matrix: Any, row_labels: Sequence[str], col_labels: Sequence[str], label: str = "similarity"
) -> Figure:
    """A matrix of similarities as colours, with the numbers where they fit.

    Args:
        matrix: (rows, columns) numbers.
        row_labels: one a row, such as the queries.
        col_labels: one a column, such as the documents.
        label: what the numbers are.
    """
    values = np.asarray(matrix, dtype=float)
    if values.shape != (len(row_labels), len(col_labels)) or not values.size:
        raise EmbkitError(
            f"a matrix of shape {values.shape} for {len(row_labels)} row labels and "
            f"{len(col_labels)} column labels",
            expected="one label a row and one a column",
            hint="similarity_heatmap(queries @ docs.T, query_texts, doc_texts)",
        )
    height, width = values.shape
    figure, axes = _axes(min(4.0 + 0.62 * width, 12), min(2.2 + 0.42 * height, 11))
    image = axes.imshow(values, cmap=AMOUNTS, aspect="auto")
    axes.set_xticks(
        range(width), [_plain(_short(t, 28)) for t in col_labels], rotation=35, ha="right"
    )
    axes.set_yticks(range(height), [_plain(_short(t, 36)) for t in row_labels])
    axes.grid(visible=False)
    if values.size <= 150 and width <= 15:
        middle = (values.min() + values.max()) / 2
        for (row, column), value in np.ndenumerate(values):
            ink = "black" if value > middle else "white"
            axes.text(column, row, f"{value:.2f}", ha="center", va="center", color=ink, fontsize=9)
    figure.colorbar(image, ax=axes, label=_plain(label))
    row, column = divmod(int(np.nanargmax(values)), width)
    text = f"Heat map of {label}, {height} by {width}; the highest, {values[row, column]:.2f}, "
    text += f"is between {row_labels[row]!r} and {col_labels[column]!r}."
    return alt(figure, text)


@_styled
def lines(
    x: Sequence[float],
    series: Mapping[str, Any],
    xlabel: str,
    ylabel: str,
    *,
    logx: bool = False,
) -> Figure:
    """Lines over a shared x, each with a band where one is given.

    Args:
        x: the places; all lines share them.
        series: name → y, or name → (y, low, high) for a band.
        xlabel: with its unit.
        ylabel: with its unit.
        logx: whether x is spaced by its logarithm, with its own values as ticks.
    """
    places = np.asarray(x, dtype=float)
    _some(series, "lines", 'lines(x, {"name": y}, "x", "y")')
    figure, axes = _axes(6.8, 4.0)
    parts = []
    for number, (name, given) in enumerate(series.items()):
        banded = isinstance(given, tuple) and len(given) == 3 and np.ndim(given[0]) == 1
        columns = [np.asarray(column, dtype=float) for column in (given if banded else [given])]
        if not places.size or any(column.shape != places.shape for column in columns):
            raise EmbkitError(
                f"{name!r} has shape {columns[0].shape} over x of shape {places.shape}",
                expected="one y for each x, in the band too",
                hint='lines(x, {"name": (y, low, high)}, "x", "y")',
            )
        y = columns[0]
        axes.plot(
            places, y, color=_color(number), ls=DASHES[number % len(DASHES)], label=_plain(name),
            marker=MARKERS[number % len(MARKERS)] if len(places) <= 40 else None,
        )  # fmt: skip
        if banded:
            axes.fill_between(
                places, columns[1], columns[2], color=_color(number), alpha=0.18, lw=0
            )
        parts.append(f"{name} from {y[0]:.3g} at {places[0]:g} to {y[-1]:.3g} at {places[-1]:g}")
    if logx:
        axes.set_xscale("log")
        axes.set_xticks(places, [f"{place:g}" for place in places])
        axes.minorticks_off()
    axes.set_xlabel(_plain(xlabel))
    axes.set_ylabel(_plain(ylabel))
    if len(series) > 1:
        _legend(axes)
    return alt(figure, f"{ylabel} by {xlabel}: {'; '.join(parts)}.")
