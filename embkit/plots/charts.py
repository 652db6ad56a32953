"""Approaches in one picture: bars, intervals, changes by query, quality against cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from ..errors import EmbkitError
from . import figures as draw


@draw.styled
def metric_bars(report: Any, metric: str = "ndcg@10") -> Figure:
    """Bars of a metric, one group a split and one bar an approach, with intervals where known.

    Args:
        report: a Report, or its rows.
        metric: a column of the rows; its interval is the column `<metric>_ci`.
    """
    rows = draw.rows_with(report, metric)
    groups = list(dict.fromkeys(draw.place(row) for row in rows))
    names = list(dict.fromkeys(draw.name(row) for row in rows))
    figure, axes = draw.axes(max(6.4, 1.2 + 0.42 * (len(names) + 1) * len(groups)), 4.2)
    width = 0.84 / len(names)
    for number, name in enumerate(names):
        mine = [row for row in rows if draw.name(row) == name]
        shift = (number - (len(names) - 1) / 2) * width
        x = [groups.index(draw.place(row)) + shift for row in mine]
        heights = [row[metric] for row in mine]
        axes.bar(x, heights, width * 0.92, label=draw.plain(name), **draw.area(number))
        for place, row in zip(x, mine, strict=True):
            top = row[metric]
            if row.get(f"{metric}_ci"):
                reach = draw.spread(row, metric)
                axes.errorbar(place, top, reach, color="#222222", capsize=3, lw=1.2)
                top += reach[1][0]
            axes.annotate(
                f"{row[metric]:.2f}", (place, top), (0, 3), textcoords="offset points",
                ha="center", va="bottom", fontsize=9,
            )  # fmt: skip
    axes.set_xticks(range(len(groups)), [draw.plain(group) for group in groups])
    axes.grid(visible=False, axis="x")
    axes.set(ylabel=draw.metric(metric), ylim=(0, max(axes.get_ylim()[1], 1e-9) * 1.08))
    draw.legend(axes)
    parts = []
    for group in groups:
        values = [f"{draw.name(row)} {row[metric]:.3f}" for row in rows if draw.place(row) == group]
        parts.append(f"{' / '.join(group.splitlines())}: {', '.join(values)}")
    return draw.alt(figure, f"Bar chart of {draw.metric(metric)}. {'; '.join(parts)}.")


@draw.styled
def intervals(report: Any, metric: str = "ndcg@10", baseline: str = "base") -> Figure:
    """A dot with its interval an approach, one panel a split: readable for any number of them.

    Args:
        report: a Report, or its rows; the order is that of the first split's best.
        metric: a column of the rows; its interval is the column `<metric>_ci`.
        baseline: the label at whose value a line is drawn, where it is among the rows.
    """
    rows = [row for row in draw.rows_with(report, metric) if not row.get("subset")]
    groups = list(dict.fromkeys(draw.place(row) for row in rows))
    first = {draw.name(row): row[metric] for row in reversed(rows) if draw.place(row) == groups[0]}
    names = sorted({draw.name(row) for row in rows}, key=lambda name: first.get(name, -1.0))
    figure = draw.figure(3.4 + 2.4 * len(groups), 1.1 + 0.24 * len(names))
    panels = figure.subplots(1, len(groups), sharey=True, squeeze=False)[0]
    told = []
    for axes, group in zip(panels, groups, strict=True):
        mine = {draw.name(row): row for row in rows if draw.place(row) == group}
        for place, name in enumerate(names):
            if name not in mine:
                continue
            look = {"color": draw.color(0), "marker": "o"}
            if name == baseline:
                look = {"color": "#222222", "marker": "s"}
            value, reach = mine[name][metric], draw.spread(mine[name], metric)
            axes.errorbar(value, place, xerr=reach, ms=5, lw=1.2, **look)
        if baseline in mine:
            axes.axvline(mine[baseline][metric], color="#222222", ls=":", lw=1, zorder=1)
        axes.set(title=draw.plain(group), xlabel=draw.metric(metric))
        best = max(mine.values(), key=lambda row: row[metric])
        told.append(f"{group}: best of {len(mine)} {draw.name(best)} {best[metric]:.3f}")
    panels[0].set_yticks(range(len(names)), [draw.plain(draw.short(name, 48)) for name in names])
    panels[0].set_ylim(-0.7, len(names) - 0.3)
    text = f"{draw.metric(metric)} of each approach with its interval. {'; '.join(told)}."
    return draw.alt(figure, text)


@draw.styled
def before_after(scores_a: Any, scores_b: Any, split: str, metric: str = "ndcg@10") -> Figure:
    """The change of every query from one approach to another, sorted from worst to best.

    Args:
        scores_a: Scores before.
        scores_b: Scores after, over the same queries.
        split: the split that is shown.
        metric: a column of the per-query scores.
    """
    change = np.sort(scores_a.change(scores_b, split, metric).to_numpy())
    draw.some(change, f"queries in {split!r}", "ek.evaluate(run, domain)")
    wins, losses = int((change > 0).sum()), int((change < 0).sum())
    ties = len(change) - wins - losses
    figure, axes = draw.axes(7.2, 4.0)
    edges, steps = np.arange(len(change) + 1), np.append(change, change[-1])
    parts = (("worse", losses, 1, steps < 0), ("better", wins, 0, steps > 0))
    for name, count, number, where in parts:
        shown = where.copy()
        shown[1:] |= where[:-1]  # each query owns the stretch from its place to the next
        axes.fill_between(
            edges, 0, np.where(where, steps, 0.0), where=shown, step="post", linewidth=0,
            label=f"{name}: {count:,}", **draw.area(number),
        )  # fmt: skip
    axes.plot([], ls="", label=f"the same: {ties:,}")
    mean = float(change.mean())
    axes.axhline(0, color="#222222", lw=1)
    axes.axhline(mean, color=draw.GREY, lw=1.4, ls="--")
    axes.annotate(
        f"mean {mean:+.3f}", (0, mean), (4, 3 if mean >= 0 else -3), textcoords="offset points",
        va="bottom" if mean >= 0 else "top", color="#444444",
    )  # fmt: skip
    axes.set(
        xlim=(0, len(change)),
        xlabel=f"queries of {draw.plain(split)}, sorted by change",
        ylabel=f"change in {draw.metric(metric)}",
    )
    title = f"{scores_b.label} against {scores_a.label}"
    axes.set_title(draw.plain(title))
    draw.legend(axes)
    text = f"Per-query change in {draw.metric(metric)} on {split}, {title}: "
    text += f"{wins} better, {losses} worse, {ties} the same, mean {mean:+.3f}."
    return draw.alt(figure, text)


@draw.styled
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
    draw.some(rows, "rows", 'rows = [{"text": ..., "before": 7, "after": 1, "relevant": True}]')
    if k < 1:
        raise EmbkitError(
            f"k={k}", expected="k of 1 or more", hint="ek.plots.rank_change(rows, k=10)"
        )
    # a relevant document beyond the first k stands below the columns, each on its own line
    ranks = {id(row): [row.get("before"), row.get("after")] for row in rows}
    lost = [
        row
        for row in rows
        if row.get("relevant") and any(rank is None or rank > k for rank in ranks[id(row)])
    ]
    floors = {id(row): k + 1 + place for place, row in enumerate(lost)}
    depth = k + len(lost)
    figure, axes = draw.axes(10.4, 1.1 + 0.34 * depth)
    # each document's name on both sides, and a line between them if it is relevant
    story = []
    for row in rows:
        relevant = bool(row.get("relevant"))
        heights: list[Any] = []
        for rank, x, align in zip(ranks[id(row)], (0.43, 0.57), ("right", "left"), strict=True):
            height = floors.get(id(row)) if rank is None or rank > k else rank
            heights.append(height)
            if height is None:
                continue
            parts = [draw.short(str(row["text"]), 44), str(rank or "not found")]
            axes.text(
                x, height, draw.plain("  ".join(parts if align == "right" else parts[::-1])),
                ha=align, va="center", color="#111111" if relevant else "#555555",
                fontsize=10, fontweight="bold" if relevant else "normal",
            )  # fmt: skip
        if relevant:
            if None not in heights:
                axes.plot([0.445, 0.555], heights, color=draw.color(0), marker="o", clip_on=False)
            before, after = (str(rank or "not found") for rank in ranks[id(row)])
            story.append(f"{draw.short(str(row['text']), 60)}: {before} to {after}")
    # the columns' titles, and the border below the first k
    if lost:
        axes.axhline(k + 0.5, color=draw.GREY, lw=1, ls=":")
    for x, align, title in ((0.43, "right", titles[0]), (0.57, "left", titles[1])):
        axes.text(x, 0.1, draw.plain(title), ha=align, va="center", fontweight="bold")
    axes.set(xlim=(0, 1), ylim=(depth + 0.6, -0.3))
    axes.axis("off")
    if query:
        axes.set_title(draw.plain(f"query: {draw.short(query, 90)}"))
    text = f"Ranks of the relevant documents for {query!r}, {titles[0]} to {titles[1]}: "
    return draw.alt(figure, text + ("; ".join(story) or "none is relevant") + ".")


@draw.styled
def pareto(
    rows: Sequence[Mapping[str, Any]],
    front: Sequence[Mapping[str, Any]],
    cost: str = "train_seconds",
    metric: str = "ndcg@10",
    *,
    missing: int = 0,
) -> Figure:
    """Quality against cost, one mark an approach; the front that nothing beats is joined, named.

    Args:
        rows: what is shown; a Report's ``pareto`` gives those of one split.
        front: those of them that are on the front.
        cost: a column, drawn on a scale of logarithms; what costs nothing stands at the left.
        metric: a column; its interval is the column `<metric>_ci`.
        missing: approaches that are left out because their cost is not known.
    """
    draw.some(rows, f"rows with {metric!r}", "ek.compare([...]).pareto()")
    figure, axes = draw.axes(10.5, 4.8)
    # what costs nothing has no logarithm: it stands left of the cheapest
    least = min((row[cost] for row in rows if row[cost]), default=1.0)
    places = {id(row): row[cost] or least / 3 for row in rows}
    on_front = [row for row in rows if row in front]
    for row in rows:
        look: dict[str, Any] = {"marker": "s", "color": "#999999", "ms": 5, "zorder": 2}
        if row in on_front:
            look = {"marker": "o", "color": draw.color(0), "ms": 14, "zorder": 3}
        reach = draw.spread(row, metric)
        axes.errorbar(places[id(row)], row[metric], reach, ls="", lw=1, **look)
    # the front: joined, numbered, named beside the axes
    on_front.sort(key=lambda row: row[cost])
    axes.plot(
        [places[id(row)] for row in on_front], [row[metric] for row in on_front],
        drawstyle="steps-post", color=draw.color(0), lw=1.4,
    )  # fmt: skip
    for number, row in enumerate(on_front, 1):
        axes.annotate(
            str(number), (places[id(row)], row[metric]), ha="center", va="center_baseline",
            color="white", fontsize=9, fontweight="bold", zorder=4,
        )  # fmt: skip
        axes.plot([], ls="", label=f"{number}  {draw.short(draw.name(row), 40)}")
    draw.legend(axes)
    # the axes, and the text
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.set(
        xlabel=f"{draw.plain(cost.replace('_', ' '))} (at the left end: none)",
        ylabel=f"{draw.metric(metric)} on {draw.plain(rows[0]['split'])}",
        title="round: nothing is as cheap and better",
    )
    told = "; ".join(f"{draw.name(row)} {row[metric]:.3f} for {row[cost]:,.3g}" for row in on_front)
    beaten = len(rows) - len(on_front)
    text = f"{draw.metric(metric)} on {rows[0]['split']} against {cost.replace('_', ' ')} of "
    text += f"{len(rows)} approaches; on the front: {told}; {beaten} are beaten."
    text += f" {missing} without a known cost are left out." if missing else ""
    return draw.alt(figure, text)
