"""Figures: every function takes data and returns a matplotlib Figure with a text for its picture.

Classes are told apart by a petroff10 colour and a second sign (hatch, marker or line style);
amounts are drawn in viridis.
"""

from __future__ import annotations

import functools
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar, cast

import matplotlib
import numpy as np
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator

from embkit.errors import EmbkitError

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


# Results


@_styled
def metric_bars(report: Any, metric: str = "ndcg@10") -> Figure:
    """Bars of a metric, one group a split and one bar an approach, with intervals where known.

    Args:
        report: a Report, or its rows.
        metric: a column of the rows; its interval is the column `<metric>_ci`.
    """
    rows = [row for row in getattr(report, "rows", report) if row.get(metric) is not None]
    _some(rows, f"rows with {metric!r}", "report = ek.compare([...])")
    groups = list(dict.fromkeys(_place(row) for row in rows))
    names = list(dict.fromkeys(_name(row) for row in rows))
    figure, axes = _axes(max(6.4, 1.2 + 0.42 * (len(names) + 1) * len(groups)), 4.2)
    width = 0.84 / len(names)
    for number, name in enumerate(names):
        mine = [row for row in rows if _name(row) == name]
        x = [groups.index(_place(row)) + (number - (len(names) - 1) / 2) * width for row in mine]
        axes.bar(
            x,
            [row[metric] for row in mine],
            width * 0.92,
            color=_color(number),
            hatch=HATCHES[number % len(HATCHES)],
            edgecolor="white",
            label=_plain(name),
        )
        for place, row in zip(x, mine, strict=True):
            top, interval = row[metric], row.get(f"{metric}_ci")
            if interval:
                below, above = max(top - interval[0], 0.0), max(interval[1] - top, 0.0)
                axes.errorbar(place, top, [[below], [above]], color="#222222", capsize=3, lw=1.2)
                top = max(top, interval[1])
            axes.annotate(
                f"{row[metric]:.2f}", (place, top), (0, 3), textcoords="offset points",
                ha="center", va="bottom", fontsize=9,
            )  # fmt: skip
    axes.set_xticks(range(len(groups)), [_plain(group) for group in groups])
    axes.grid(visible=False, axis="x")
    axes.set_ylabel(_metric(metric))
    axes.set_ylim(0, max(axes.get_ylim()[1], 1e-9) * 1.08)
    _legend(axes, [_swatch(number) for number in range(len(names))], names)
    parts = []
    for group in groups:
        values = [f"{_name(row)} {row[metric]:.3f}" for row in rows if _place(row) == group]
        parts.append(f"{' / '.join(group.splitlines())}: {', '.join(values)}")
    return alt(figure, f"Bar chart of {_metric(metric)}. {'; '.join(parts)}.")


@_styled
def before_after(scores_a: Any, scores_b: Any, split: str, metric: str = "ndcg@10") -> Figure:
    """The change of every query from one approach to another, sorted from worst to best.

    Args:
        scores_a: Scores before.
        scores_b: Scores after, over the same queries.
        split: the split that is shown.
        metric: a column of the per-query scores.
    """
    a, b = scores_a.values(split, metric), scores_b.values(split, metric)
    if len(a) != len(b) or set(a.index) != set(b.index):
        raise EmbkitError(
            f"{len(a)} queries before and {len(b)} after, not the same ones",
            expected="scores of the same queries",
            hint="evaluate both on the same domain and profile",
        )
    change = np.sort((b.loc[a.index] - a).to_numpy())
    _some(change, f"queries in {split!r}", "ek.evaluate(run, domain)")
    wins, losses = int((change > 0).sum()), int((change < 0).sum())
    ties = len(change) - wins - losses
    figure, axes = _axes(7.2, 4.0)
    edges, steps = np.arange(len(change) + 1), np.append(change, change[-1])
    parts = (("worse", losses, 1, steps < 0), ("better", wins, 0, steps > 0))
    handles, names = [], []
    for name, count, number, where in parts:
        # each query owns the stretch from its place to the next
        shown = where.copy()
        shown[1:] |= where[:-1]
        axes.fill_between(
            edges, 0, np.where(where, steps, 0.0), where=shown, step="post",
            facecolor=_color(number), hatch=HATCHES[number], edgecolor="white", linewidth=0,
        )  # fmt: skip
        handles.append(_swatch(number))
        names.append(f"{name}: {count:,}")
    handles.append(Patch(facecolor="none", edgecolor="none"))
    names.append(f"the same: {ties:,}")
    mean = float(change.mean())
    axes.axhline(0, color="#222222", lw=1)
    axes.axhline(mean, color=GREY, lw=1.4, ls="--")
    axes.annotate(
        f"mean {mean:+.3f}", (0, mean), (4, 3 if mean >= 0 else -3), textcoords="offset points",
        va="bottom" if mean >= 0 else "top", color="#444444",
    )  # fmt: skip
    axes.set_xlim(0, len(change))
    axes.set_xlabel(f"queries of {_plain(split)}, sorted by change")
    axes.set_ylabel(f"change in {_metric(metric)}")
    title = f"{scores_b.label} against {scores_a.label}"
    axes.set_title(_plain(title))
    _legend(axes, handles, names)
    text = f"Per-query change in {_metric(metric)} on {split}, {title}: "
    text += f"{wins} better, {losses} worse, {ties} the same, mean {mean:+.3f}."
    return alt(figure, text)


@_styled
def rank_change(
    rows: Sequence[Mapping[str, Any]],
    query: str = "",
    *,
    k: int = 10,
    titles: tuple[str, str] = ("before", "after"),
) -> Figure:
    """The same search twice: two ranked columns, with lines that follow the relevant documents.

    Args:
        rows: one dict a document: `text`; `before` and `after`, its rank from 1, or None where
            it was not returned; `relevant`, whether it answers the query.
        query: shown above the columns.
        k: ranks that are shown; a relevant document beyond them is drawn below the columns.
        titles: of the two columns.
    """
    _some(rows, "rows", 'rows = [{"text": ..., "before": 7, "after": 1, "relevant": True}]')
    if k < 1:
        raise EmbkitError(f"k={k}", expected="k of 1 or more", hint="rank_change(rows, k=10)")
    lost = [r for r in rows if r.get("relevant") and any(_beyond(r.get(s), k) for s in _SIDES)]
    floors = {id(row): k + 1 + place for place, row in enumerate(lost)}
    depth = k + len(lost)
    figure, axes = _axes(10.4, 1.1 + 0.34 * depth)
    story = []
    for row in rows:
        relevant = bool(row.get("relevant"))
        heights: list[Any] = []
        for side, x, align in (("before", 0.43, "right"), ("after", 0.57, "left")):
            rank = row.get(side)
            height = floors.get(id(row)) if _beyond(rank, k) else rank
            heights.append(height)
            if height is None:
                continue
            number = "not found" if rank is None else str(rank)
            name = _short(str(row["text"]), 44)
            text = f"{name}  {number}" if side == "before" else f"{number}  {name}"
            axes.text(
                x, height, _plain(text), ha=align, va="center",
                color="#111111" if relevant else "#555555",
                fontsize=10, fontweight="bold" if relevant else "normal",
            )  # fmt: skip
        if relevant and None not in heights:
            axes.plot([0.445, 0.555], heights, color=COLORS[0], marker=MARKERS[0], clip_on=False)
        if relevant:
            places = [str(row.get(side) or "not found") for side in _SIDES]
            story.append(f"{_short(str(row['text']), 60)}: {places[0]} to {places[1]}")
    if lost:
        axes.axhline(k + 0.5, color=GREY, lw=1, ls=":")
    for x, align, title in ((0.43, "right", titles[0]), (0.57, "left", titles[1])):
        axes.text(x, 0.1, _plain(title), ha=align, va="center", fontweight="bold")
    axes.set(xlim=(0, 1), ylim=(depth + 0.6, -0.3))
    axes.axis("off")
    if query:
        axes.set_title(_plain(f"query: {_short(query, 90)}"))
    text = f"Ranks of the relevant documents for {query!r}, {titles[0]} to {titles[1]}: "
    return alt(figure, text + ("; ".join(story) or "none is relevant") + ".")


# Training


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


# Values


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


# Parts

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
