"""Figures: what they draw, the text beside them, and that pyplot keeps none of them."""

from __future__ import annotations

import inspect
import warnings
from typing import Any

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from embkit import plots
from embkit.errors import EmbkitError
from embkit.evaluation.metrics import METRICS
from embkit.evaluation.report import compare
from embkit.evaluation.scores import Scores
from embkit.plots import figures


@pytest.fixture(autouse=True)
def clean():
    before = dict(matplotlib.rcParams)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield
    assert plt.get_fignums() == []
    assert dict(matplotlib.rcParams) == before


def make(approach, values):
    index = pd.Index([f"q{n}" for n in range(len(values))])
    frame = pd.DataFrame({name: list(values) for name in METRICS}, index=index, dtype=float)
    return Scores(approach, "tiny", "00", "m", None, {"known": frame, "novel": frame.copy()})


BASE, TUNED = make("base", [0.1, 0.5, 0.9, 0.4]), make("_tuned $x$", [0.4, 0.5, 0.7, 0.8])


def words(figure):
    return [text.get_text() for axes in figure.axes for text in axes.texts]


def drawn(figure):
    """The figure, once it is known to draw and to carry its text."""
    data = plots.png(figure)
    assert isinstance(figure, Figure) and data.startswith(b"\x89PNG") and len(data) < 300_000
    text = plots.alt_text(figure)
    assert len(text) > 20 and text.endswith(".") and text[:20].encode() in data
    return figure


def test_a_model_of_the_course_has_one_colour_in_every_picture():
    def colours(*names):
        rows = [{"approach": n, "split": "test", "subset": None, "ndcg@10": 0.5} for n in names]
        axes = plots.metric_bars(rows).axes[0]
        return {c.get_label(): c[0].get_facecolor() for c in axes.containers}

    few, more = colours("base", "mine"), colours("corpus", "other", "mine", "contrastive", "base")
    assert few["base"] == more["base"]
    assert len({*more.values()}) == 5 and few["mine"] != few["base"]
    assert len({*colours(*map(str, range(10))).values()}) == 10


def test_metric_bars_has_a_bar_an_approach_and_split_and_an_interval_on_each():
    report = compare([BASE, TUNED])
    figure = drawn(plots.metric_bars(report))
    (axes,) = figure.axes
    bars = [c for c in axes.containers if hasattr(c, "patches")]
    assert [len(c.patches) for c in bars] == [2, 2]
    assert {c.patches[0].get_hatch() for c in bars} == {"", "///"}
    assert len({c.patches[0].get_facecolor() for c in bars}) == 2
    spans = [c for c in axes.containers if not hasattr(c, "patches")]
    (segment,) = spans[0].lines[2][0].get_segments()
    assert segment[:, 1] == pytest.approx(report.rows[0]["ndcg@10_ci"])
    assert len(spans) == 4
    assert [t.get_text() for t in axes.get_xticklabels()] == ["known", "novel"]
    assert len(axes.get_legend().get_texts()) == 2
    assert "base 0.475" in plots.alt_text(figure)
    assert not [c for c in plots.metric_bars(report, "map").axes[0].containers if "Err" in repr(c)]
    for given, metric in (([], "map"), (report, "ndcg@3")):
        with pytest.raises(EmbkitError, match="no rows"):
            plots.metric_bars(given, metric)


def test_intervals_has_a_line_an_approach_the_best_on_top_in_every_split():
    report = compare([BASE, TUNED])
    figure = drawn(plots.intervals(report))
    assert [axes.get_title(loc="left") for axes in figure.axes] == ["known", "novel"]
    names = [t.get_text() for t in figure.axes[0].get_yticklabels()]
    names = [name.lstrip("\u200b").replace("\\$", "$") for name in names]
    rows = [r for r in report.rows if r["split"] == "known" and not r["subset"]]
    assert names == [r["label"] for r in sorted(rows, key=lambda r: r["ndcg@10"])]
    for axes, split in zip(figure.axes, ("known", "novel"), strict=True):
        spans = [c.lines[2][0].get_segments()[0] for c in axes.containers]
        for place, name in enumerate(names):
            row = next(r for r in report.rows if r["label"] == name and r["split"] == split)
            assert spans[place][:, 0] == pytest.approx(row["ndcg@10_ci"])
            assert spans[place][:, 1] == pytest.approx([place, place])
    many = [rows[0] | {"label": f"approach {n}", "ndcg@10": n / 100} for n in range(80)]
    wide, high = plots.intervals(many).get_size_inches()
    assert wide < 8 and high < 25, "grows downwards, as a page does"
    with pytest.raises(EmbkitError, match="no rows"):
        plots.intervals([])


def test_before_after_counts_the_queries():
    figure = drawn(plots.before_after(BASE, TUNED, "known"))
    (axes,) = figure.axes
    names = [t.get_text() for t in axes.get_legend().get_texts()]
    assert names == ["worse: 1", "better: 2", "the same: 1"]
    worse, better = axes.collections
    assert worse.get_datalim(axes.transData).bounds == pytest.approx((0, -0.2, 1, 0.2))
    assert better.get_datalim(axes.transData).bounds == pytest.approx((2, 0, 2, 0.4))
    assert "mean +0.125" in plots.alt_text(figure)
    drawn(plots.before_after(BASE, BASE, "known"))
    with pytest.raises(EmbkitError, match="not the same"):
        plots.before_after(BASE, make("short", [0.1]), "known")
    with pytest.raises(EmbkitError, match="unknown split"):
        plots.before_after(BASE, TUNED, "test")


def test_rank_change_follows_the_relevant_documents():
    rows: list[dict[str, Any]] = [
        {"text": "Heart $failure$ " * 9, "before": 3, "after": 1, "relevant": True},
        {"text": "Cardiac arrest", "before": 1, "after": 2, "relevant": False},
        {"text": "Angina", "before": None, "after": 3, "relevant": True},
        {"text": "Stroke", "before": 2, "after": 40},
    ]
    figure = drawn(plots.rank_change(rows, query="weak _heart_ <b>", k=3))
    lines = [line for line in figure.axes[0].lines if line.get_marker() == "o"]
    assert [list(line.get_ydata()) for line in lines] == [[3, 1], [4, 3]]
    shown = words(figure)
    assert len(shown) == 2 + 7  # two titles; Stroke is beyond k=3 after, and not relevant
    assert "Angina  not found" in shown and all(len(text) < 60 for text in shown)
    assert "Angina: not found to 3" in plots.alt_text(figure)
    drawn(plots.rank_change([{"text": "a", "before": 1, "after": 1}]))
    with pytest.raises(EmbkitError, match="no rows"):
        plots.rank_change([])
    with pytest.raises(EmbkitError, match="k=0"):
        plots.rank_change(rows, k=0)


def test_loss_curve_draws_dev_scores_where_there_are_any():
    history: list[dict[str, Any]] = [{"step": n, "loss": 1 / n} for n in range(1, 31)]
    assert len(drawn(plots.loss_curve(history)).axes) == 1
    history += [{"step": 10, "eval_ndcg@10": 0.4}, {"step": 20, "dev": 0.5, "loss": None}]
    loss, dev = drawn(plots.loss_curve(history)).axes
    assert len(loss.lines) == 2 and list(loss.lines[0].get_xdata()) == list(range(1, 31))
    assert list(dev.lines[0].get_ydata()) == [0.4, 0.5]
    assert len(drawn(plots.loss_curve([{"step": 1, "loss": 2.0}])).axes[0].lines) == 1
    with pytest.raises(EmbkitError):
        plots.loss_curve([{"step": 1}])


def test_histogram_shares_sum_to_one_over_the_same_bins():
    figure = drawn(plots.histogram({"_a$": [0.0, 0.5, 1.0], "b": [2.0] * 5}, "cosine", bins=8))
    outlines = figure.axes[0].patches[::2]
    assert [p.get_data().values.sum() for p in outlines] == pytest.approx([1, 1])
    assert list(outlines[0].get_data().edges) == list(outlines[1].get_data().edges)
    assert outlines[0].get_linestyle() != outlines[1].get_linestyle()
    assert len(figure.axes[0].lines) == 2
    with pytest.raises(EmbkitError):
        plots.histogram({}, "x")
    with pytest.raises(ValueError, match="not finite"):
        plots.histogram({"a": [np.nan]}, "x")


def test_lines_have_a_band_where_one_is_given():
    series = {"a": ([1, 2, 3], [0, 1, 2], [2, 3, 4]), "b": [3, 2, 1]}
    figure = drawn(plots.lines([32, 64, 384], series, "dimensions", "nDCG@10", logx=True))
    (axes,) = figure.axes
    assert [list(line.get_ydata()) for line in axes.lines] == [[1, 2, 3], [3, 2, 1]]
    assert len(axes.collections) == 1
    assert len({(line.get_marker(), line.get_linestyle()) for line in axes.lines}) == 2
    assert [t.get_text() for t in axes.get_xticklabels()] == ["32", "64", "384"]
    with pytest.raises(EmbkitError):
        plots.lines([1, 2, 3], {}, "x", "y")
    for bad in ({"a": [1]}, {"a": ([1, 2, 3], [1, 2], [1, 2])}):
        with pytest.raises(ValueError, match=r"same first dimension|unequal size"):
            plots.lines([1, 2, 3], bad, "x", "y")


def test_the_style_stays_inside_its_context():
    size = matplotlib.rcParams["axes.spines.top"]
    with plots.style():
        assert matplotlib.rcParams["axes.spines.top"] is False
        assert matplotlib.rcParams["image.cmap"] == plots.AMOUNTS == "viridis"
    assert matplotlib.rcParams["axes.spines.top"] == size


def test_colours_are_petroff10_and_no_two_classes_look_alike_without_colour():
    assert list(plots.COLORS) == list(matplotlib.color_sequences["petroff10"])
    assert len(set(figures.HATCHES)) == len(set(figures.MARKERS)) == len(plots.COLORS)


def test_a_figure_shows_itself_once_with_its_text(monkeypatch):
    import IPython.display

    shown = []
    monkeypatch.setattr(IPython.display, "display", lambda *a, **k: shown.append((a, k)))
    figure = plots.lines([1, 2], {"a": [1, 2]}, "x", "y")
    assert isinstance(figure, figures.Picture)
    figure._ipython_display_()
    ((data,), options) = shown[0]
    assert data["image/png"].startswith(b"\x89PNG") and data["text/plain"] == figure.embkit_alt
    assert options["metadata"]["image/png"]["alt"].startswith("y by x: a from 1 at 1")
    assert plots.alt_text(plots.alt(Figure(), "mine")) == "mine" and plots.alt_text(Figure()) == ""


def test_every_figure_says_what_it_draws():
    for name, function in inspect.getmembers(plots, inspect.isfunction):
        if not name.startswith("_") and function.__module__.startswith("embkit.plots"):
            assert (function.__doc__ or "").strip(), name
