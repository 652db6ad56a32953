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
from matplotlib.lines import Line2D
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

_SPACE = ("space_maps", "space_arrows", "map_settings", "matryoshka_curve", "batch_softmax")


def __getattr__(name: str) -> Any:
    """Figures of the space, of cut vectors and of a batch lie in ``plots_space``."""
    if name not in _SPACE:
        raise AttributeError(f"embkit.plots has no {name!r}")
    from embkit import plots_space

    return getattr(plots_space, name)


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
def intervals(report: Any, metric: str = "ndcg@10", baseline: str = "base") -> Figure:
    """A dot with its interval an approach, one panel a split: readable for any number of them.

    Args:
        report: a Report, or its rows; the order is that of the first split's best.
        metric: a column of the rows; its interval is the column `<metric>_ci`.
        baseline: the label at whose value a line is drawn, where it is among the rows.
    """
    rows = [row for row in getattr(report, "rows", report) if row.get(metric) is not None]
    rows = [row for row in rows if not row.get("subset")]
    _some(rows, f"rows with {metric!r}", "report = ek.compare([...])")
    groups = list(dict.fromkeys(_place(row) for row in rows))
    first = {_name(row): row[metric] for row in reversed(rows) if _place(row) == groups[0]}
    names = sorted({_name(row) for row in rows}, key=lambda name: first.get(name, -1.0))
    figure = _figure(3.4 + 2.4 * len(groups), 1.1 + 0.24 * len(names))
    panels = figure.subplots(1, len(groups), sharey=True, squeeze=False)[0]
    told = []
    for axes, group in zip(panels, groups, strict=True):
        mine = {_name(row): row for row in rows if _place(row) == group}
        for place, name in enumerate(names):
            if name not in mine:
                continue
            value = mine[name][metric]
            low, high = mine[name].get(f"{metric}_ci") or (value, value)
            spread = [[max(value - low, 0.0)], [max(high - value, 0.0)]]
            color = "#222222" if name == baseline else _color(0)
            mark = MARKERS[1 if name == baseline else 0]
            axes.errorbar(value, place, xerr=spread, marker=mark, color=color, ms=5, lw=1.2)
        if baseline in mine:
            axes.axvline(mine[baseline][metric], color="#222222", ls=":", lw=1, zorder=1)
        axes.set_title(_plain(group))
        axes.set_xlabel(_metric(metric))
        best = max(mine.values(), key=lambda row: row[metric])
        told.append(f"{group}: best of {len(mine)} {_name(best)} {best[metric]:.3f}")
    panels[0].set_yticks(range(len(names)), [_plain(_short(name, 48)) for name in names])
    panels[0].set_ylim(-0.7, len(names) - 0.3)
    return alt(figure, f"{_metric(metric)} of each approach with its interval. {'; '.join(told)}.")


@_styled
def before_after(scores_a: Any, scores_b: Any, split: str, metric: str = "ndcg@10") -> Figure:
    """The change of every query from one approach to another, sorted from worst to best.

    Args:
        scores_a: Scores before.
        scores_b: Scores after, over the same queries.
        split: the split that is shown.
        metric: a column of the per-query scores.
    """
    from .contrast import per_query_change

    change = np.sort(per_query_change(scores_a, scores_b, split, metric).to_numpy())
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


@_styled
def pareto(
    report: Any, cost: str = "train_seconds", metric: str = "ndcg@10", split: str | None = None
) -> Figure:
    """Quality against cost, one mark an approach; the front that nothing beats is joined, named.

    Args:
        report: a Report, or its rows.
        cost: a column, drawn on a scale of logarithms; what costs nothing stands at the left,
            what has no known cost is left out and counted.
        metric: a column; its interval is the column `<metric>_ci`.
        split: the test split that is shown; default: the first.
    """
    from embkit.contrast import pareto_front, priced

    rows = priced(report, cost, metric, split)
    _some(rows, f"rows with {metric!r}", "report = ek.compare([...])")
    front = pareto_front(rows, cost, metric, rows[0]["split"])
    figure, axes = _axes(10.5, 4.8)
    least = min((row[cost] for row in rows if row[cost]), default=1.0)
    places = {id(row): row[cost] or least / 3 for row in rows}
    on_front = [row for row in rows if row in front]
    for row in rows:
        first = row in on_front
        low, high = row.get(f"{metric}_ci") or (row[metric], row[metric])
        spread = [[max(row[metric] - low, 0.0)], [max(high - row[metric], 0.0)]]
        axes.errorbar(
            places[id(row)], row[metric], spread, marker=MARKERS[0 if first else 1], ls="",
            color=_color(0) if first else "#999999", lw=1, ms=14 if first else 5,
            zorder=3 if first else 2,
        )  # fmt: skip
    on_front.sort(key=lambda row: row[cost])
    axes.plot(
        [places[id(row)] for row in on_front], [row[metric] for row in on_front],
        drawstyle="steps-post", color=_color(0), lw=1.4,
    )  # fmt: skip
    for number, row in enumerate(on_front, 1):
        axes.annotate(
            str(number), (places[id(row)], row[metric]), ha="center", va="center_baseline",
            color="white", fontsize=9, fontweight="bold", zorder=4,
        )  # fmt: skip
    names = [f"{n}  {_short(_name(row), 40)}" for n, row in enumerate(on_front, 1)]
    _legend(axes, [Line2D([], [], ls="")] * len(names), names)
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set_xlabel(f"{_plain(cost.replace('_', ' '))} (at the left end: none)")
    axes.set_ylabel(f"{_metric(metric)} on {_plain(rows[0]['split'])}")
    axes.set_title("round: nothing is as cheap and better")
    told = "; ".join(f"{_name(row)} {row[metric]:.3f} for {row[cost]:,.3g}" for row in on_front)
    beaten = len(rows) - len(on_front)
    text = f"{_metric(metric)} on {rows[0]['split']} against {cost.replace('_', ' ')} of "
    text += f"{len(rows)} approaches; on the front: {told}; {beaten} are beaten."
    of_split = [r for r in getattr(report, "rows", report) if r["split"] == rows[0]["split"]]
    if unknown := sum(not r.get("subset") for r in of_split) - len(rows):
        text += f" {unknown} without a known cost are left out."
    return alt(figure, text)


@_styled
def trials(rows: Sequence[Mapping[str, Any]], x: str, color: str | None = None) -> Figure:
    """What a sweep tried: a setting against the dev score; what was cut short as a cross.

    Args:
        rows: of ``sweep(...).rows``.
        x: a setting, drawn on a scale of logarithms where it spans a factor of five.
        color: another setting, shown as an amount of colour.
    """
    _some(rows, "trials", "ek.sweep(recipe, domain, space).rows")
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
