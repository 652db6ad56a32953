"""Approaches in one picture: bars, intervals, changes by query, quality against cost; and lines:
losses, histograms, anything over a shared x."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from ..errors import EmbkitError
from . import figures as draw


@draw.style()
def metric_bars(report: Any, metric: str = "ndcg@10") -> Figure:
    """Bars of a metric, one group a split and one bar an approach, with intervals where known.

    ``report`` is a Report, or its rows; the metric's interval is the column `<metric>_ci`.
    """
    rows = draw.rows_with(report, metric)
    groups, names = draw.by_place(rows), list(dict.fromkeys(map(draw.name, rows)))
    places, beside = (len(names) + 1) * len(groups), 1.6 + 0.09 * max(map(len, names))
    wide = min(max(6.4, beside + 0.42 * places), 10.5)  # a page's; where bars are thin, text stands
    figure, (axes,) = draw.panels(wide, 4.2)
    turned = 90 if (wide - beside) / places < 0.37 else 0
    width, kind = 0.84 / len(names), draw.numbers(names)
    for number, name in enumerate(names):
        shift = (number - (len(names) - 1) / 2) * width
        mine = {n + shift: group[name] for n, group in enumerate(groups.values()) if name in group}
        heights = [row[metric] for row in mine.values()]
        axes.bar(list(mine), heights, width * 0.92, label=draw.plain(name), **draw.area(kind[name]))
        for x, row in mine.items():
            top, reach = row[metric], draw.spread(row, metric)
            if row.get(f"{metric}_ci"):
                axes.errorbar(x, top, reach, color=draw.INK, capsize=3, lw=1.2)
            axes.annotate(
                f"{top:.2f}", (x, top + reach[1][0]), (0, 3), textcoords="offset points",
                ha="center", va="bottom", fontsize=9, rotation=turned,
            )  # fmt: skip
    axes.set_xticks(range(len(groups)), [draw.plain(g.replace("_", " ")) for g in groups])
    axes.grid(visible=False, axis="x")
    axes.set(ylabel=draw.metric(metric), ylim=(0, max(axes.get_ylim()[1], 1e-9) * 1.12))
    draw.legend(axes)
    parts = []
    for group, found in groups.items():
        values = [f"{name} {row[metric]:.3f}" for name, row in found.items()]
        parts.append(f"{' / '.join(group.splitlines())}: {', '.join(values)}")
    return draw.alt(figure, f"Bar chart of {draw.metric(metric)}. {'; '.join(parts)}.")


@draw.style()
def intervals(report: Any) -> Figure:
    """nDCG@10 with its interval, a dot an approach and a panel a split, for any number of them.

    The order is that of the first split's best; a line is drawn at the value of ``base``.
    """
    metric = "ndcg@10"
    rows = [row for row in draw.rows_with(report, metric) if not row.get("subset")]
    groups = draw.by_place(rows)
    first = {name: row[metric] for name, row in next(iter(groups.values())).items()}
    names = sorted(set(map(draw.name, rows)), key=lambda name: first.get(name, -1.0))
    width, height = 3.4 + 2.4 * len(groups), 1.1 + 0.24 * len(names)
    figure, panels = draw.panels(width, height, 1, len(groups), sharey=True)
    told = []
    for axes, (group, mine) in zip(panels, groups.items(), strict=True):
        for place, name in [(n, name) for n, name in enumerate(names) if name in mine]:
            row, look = mine[name], {"color": draw.color(0), "marker": "o"}
            if name == "base":
                look = {"color": draw.INK, "marker": "s"}
                axes.axvline(row[metric], color=draw.INK, ls=":", lw=1, zorder=1)
            reach = draw.spread(row, metric)
            axes.errorbar(row[metric], place, xerr=reach, ms=5, lw=1.2, **look)
        axes.set(title=draw.plain(group), xlabel=draw.metric(metric))
        best = max(mine, key=lambda name: mine[name][metric])
        told.append(f"{group}: best of {len(mine)} {best} {mine[best][metric]:.3f}")
    panels[0].set_yticks(range(len(names)), [draw.plain(name, 48) for name in names])
    panels[0].set_ylim(-0.7, len(names) - 0.3)
    text = f"{draw.metric(metric)} of each approach with its interval. {'; '.join(told)}."
    return draw.alt(figure, text)


@draw.style()
def before_after(scores_a: Any, scores_b: Any, split: str, metric: str = "ndcg@10") -> Figure:
    """The change of every query of a split from one approach's Scores to another's, sorted."""
    change = np.sort(scores_a.change(scores_b, split, metric).to_numpy())
    draw.some(change, f"queries in {split!r}", "ek.evaluate(run, domain)")
    wins, losses = int((change > 0).sum()), int((change < 0).sum())
    ties = len(change) - wins - losses
    figure, (axes,) = draw.panels(7.2, 4.0)
    parts = (("worse", 1, 0, losses), ("better", 0, len(change) - wins, len(change)))
    for name, number, start, end in parts:  # each query owns the stretch from its place to the next
        steps = np.append(change[start:end], change[start:end][-1:])
        axes.fill_between(
            start + np.arange(len(steps)), 0, steps, step="post", linewidth=0,
            label=f"{name}: {end - start:,}", **draw.area(number),
        )  # fmt: skip
    axes.plot([], ls="", label=f"the same: {ties:,}")
    mean = float(change.mean())
    axes.axhline(0, color=draw.INK, lw=1)
    axes.axhline(mean, color=draw.GREY, lw=1.4, ls="--")
    axes.annotate(
        f"mean {mean:+.3f}", (0, mean), (4, 3 if mean >= 0 else -3), textcoords="offset points",
        va="bottom" if mean >= 0 else "top", color="#444444",
    )  # fmt: skip
    title, name = f"{scores_b.label} against {scores_a.label}", draw.metric(metric)
    where = f"queries of {draw.plain(split)}, sorted by change"
    axes.set(xlim=(0, len(change)), xlabel=where, ylabel=f"change in {name}")
    axes.set_title(draw.plain(title))
    draw.legend(axes)
    text = f"Per-query change in {name} on {split}, {title}: "
    text += f"{wins} better, {losses} worse, {ties} the same, mean {mean:+.3f}."
    return draw.alt(figure, text)


@draw.style()
def rank_change(rows: draw.Rows, query: str = "", *, k: int = 10) -> Figure:
    """The same search twice: two ranked columns, with lines that follow the relevant documents.

    Args:
        rows: one dict a document: `text`; `before` and `after`, its rank from 1, or None where
            it was not returned; `relevant`, whether it answers the query.
        k: ranks that are shown; a relevant document beyond them is drawn below the columns.
    """
    draw.some(rows, "rows", 'rows = [{"text": ..., "before": 7, "after": 1, "relevant": True}]')
    if k < 1:
        raise EmbkitError(f"k={k}", expected="k of 1 or more", hint="rank_change(rows, k=10)")
    sides = {"before": (0.43, "right"), "after": (0.57, "left")}
    # a place a document and side: its rank, below the columns its own line, or None
    places, story, depth = [], [], k
    for row in rows:
        ranks = [row.get(side) for side in sides]
        heights: list[Any] = [r if r is not None and r <= k else None for r in ranks]
        if row.get("relevant"):
            depth += None in heights
            heights = [depth if height is None else height for height in heights]
            before, after = (str(rank or "not found") for rank in ranks)
            story.append(f"{draw.short(row['text'], 60)}: {before} to {after}")
        places.append((row, ranks, heights))
    figure, (axes,) = draw.panels(10.4, 1.1 + 0.34 * depth)
    # each document's name on both sides, and a line between them if it is relevant
    for row, ranks, heights in places:
        relevant = bool(row.get("relevant"))
        ink, weight = ("#111111", "bold") if relevant else ("#555555", "normal")
        for (x, align), rank, height in zip(sides.values(), ranks, heights, strict=True):
            parts = [draw.short(row["text"], 44), str(rank or "not found")]
            text = draw.plain("  ".join(parts if align == "right" else parts[::-1]))
            if height is not None:
                named: Any = {"fontsize": 10, "color": ink, "fontweight": weight}
                axes.text(x, height, text, ha=align, va="center", **named)
        if relevant:
            axes.plot([0.445, 0.555], heights, color=draw.color(0), marker="o", clip_on=False)
    # the columns' titles, and the border below the first k
    if depth > k:
        axes.axhline(k + 0.5, color=draw.GREY, lw=1, ls=":")
    for title, (x, align) in sides.items():
        axes.text(x, 0.1, title, ha=align, va="center", fontweight="bold")
    axes.set(xlim=(0, 1), ylim=(depth + 0.6, -0.3))
    axes.axis("off")
    if query:
        axes.set_title(draw.plain(f"query: {draw.short(query, 90)}"))
    text = f"Ranks of the relevant documents for {query!r}, before to after: "
    return draw.alt(figure, text + ("; ".join(story) or "none is relevant") + ".")


@draw.style()
def pareto(rows: draw.Rows, front: draw.Rows, cost: str, *, missing: int = 0) -> Figure:
    """nDCG@10 against cost, one mark an approach; the front that nothing beats is joined, named.

    Args:
        rows: what is shown; a Report's ``pareto`` gives those of one split.
        front: those of them that are on the front.
        cost: a column, drawn on a scale of logarithms; what costs nothing stands at the left.
        missing: approaches that are left out because their cost is not known.
    """
    metric = "ndcg@10"
    draw.some(rows, f"rows with {metric!r}", "ek.compare([...]).pareto()")
    figure, (axes,) = draw.panels(10.5, 4.8)
    # what costs nothing has no logarithm: it stands left of the cheapest
    least = min((row[cost] for row in rows if row[cost]), default=1.0)
    on_front = sorted((row for row in rows if row in front), key=lambda row: row[cost])
    for row in rows:
        look: dict[str, Any] = {"marker": "s", "color": "#999999", "ms": 5, "zorder": 2}
        if row in on_front:
            look = {"marker": "o", "color": draw.color(0), "ms": 14, "zorder": 3}
        reach = draw.spread(row, metric)
        axes.errorbar(row[cost] or least / 3, row[metric], reach, ls="", lw=1, **look)
    # the front: joined, numbered, named beside the axes
    points = [(row[cost] or least / 3, row[metric]) for row in on_front]
    axes.plot(*zip(*points, strict=True), drawstyle="steps-post", color=draw.color(0), lw=1.4)
    bold: Any = {"color": "white", "fontsize": 9, "fontweight": "bold", "zorder": 4}
    for number, (row, point) in enumerate(zip(on_front, points, strict=True), 1):
        axes.annotate(str(number), point, ha="center", va="center_baseline", **bold)
        axes.plot([], ls="", label=f"{number}  {draw.short(draw.name(row), 40)}")
    draw.legend(axes)
    # the axes, and the text
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:g}")
    name, paid, split = draw.metric(metric), cost.replace("_", " "), rows[0]["split"]
    axes.set(xlabel=f"{draw.plain(paid)} (at the left end: none)")
    axes.set(ylabel=f"{name} on {draw.plain(split)}", title="round: nothing is as cheap and better")
    told = "; ".join(f"{draw.name(row)} {row[metric]:.3f} for {row[cost]:,.3g}" for row in on_front)
    text = f"{name} on {split} against {paid} of {len(rows)} approaches; on the front: {told}; "
    text += f"{len(rows) - len(on_front)} are beaten."
    text += f" {missing} without a known cost are left out." if missing else ""
    return draw.alt(figure, text)


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
        axes.plot(
            x, y, **draw.line(number), marker=draw.marker(number) if len(y) < 20 else None,
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
def histogram(values_by_name: Mapping[str, Sequence[float]], xlabel: str, bins: Any = 30) -> Figure:
    """Histograms over the same bins, one outline a name, with its median as a vertical line.

    Args:
        values_by_name: name → numbers; the counts are shares, so that sizes may differ.
        bins: how many, over the range of all the numbers; or their edges.
    """
    samples = {name: np.asarray(values, dtype=float) for name, values in values_by_name.items()}
    draw.some(samples, "values", 'ek.plots.histogram({"name": values}, "similarity")')
    edges = np.histogram_bin_edges(np.concatenate(list(samples.values())), bins)
    figure, (axes,) = draw.panels(6.8, 4.0)
    parts = []
    for number, (name, sample) in enumerate(samples.items()):
        share = np.histogram(sample, edges)[0] / len(sample)
        axes.stairs(share, edges, lw=2, label=draw.plain(name), **draw.line(number))
        axes.stairs(share, edges, color=draw.color(number), fill=True, alpha=0.3 / len(samples))
        median = float(np.median(sample))
        axes.axvline(median, lw=1, **draw.line(number))
        parts.append(f"{name} has median {median:.3g} over {len(sample)} values")
    axes.set(xlabel=draw.plain(xlabel), ylabel="share (vertical: the median)")
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
    for (name, given), number in zip(series.items(), draw.numbers([*series]).values(), strict=True):
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
