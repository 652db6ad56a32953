"""Approaches in one picture: bars, intervals, changes by query, quality against cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from ..errors import EmbkitError
from .figures import (
    _SIDES,
    COLORS,
    GREY,
    HATCHES,
    MARKERS,
    _axes,
    _beyond,
    _color,
    _figure,
    _legend,
    _metric,
    _name,
    _place,
    _plain,
    _short,
    _some,
    _styled,
    _swatch,
    alt,
)


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
    change = np.sort(scores_a.change(scores_b, split, metric).to_numpy())
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


@_styled
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
    _some(rows, f"rows with {metric!r}", "ek.compare([...]).pareto()")
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
    text += f" {missing} without a known cost are left out." if missing else ""
    return alt(figure, text)
