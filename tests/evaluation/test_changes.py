"""Who wins on which queries, what is on the front, names told apart, exports of a report."""

import csv
import dataclasses
import io
import re

import numpy as np
import pandas as pd
import pytest

from embkit import plots
from embkit.errors import EmbkitError
from embkit.evaluation.intervals import clusters, estimate, holm
from embkit.evaluation.ranking import leaderboard
from embkit.evaluation.report import Report, compare, pareto_front
from embkit.evaluation.scores import Scores, over_seeds
from embkit.runs import store
from embkit.search.index import BM25


def scores(domain, approach, values, recipe_hash=None, base_model="minilm", **meta):
    """Scores over the queries of ``known``, padded with the last value."""
    queries = list(domain.qrels["known"])
    padded = [*values, *[values[-1]] * (len(queries) - len(values))]
    index = pd.Index(queries, name="query_id")
    frame = pd.DataFrame({"ndcg@10": padded}, index=index, dtype=float)
    return Scores(
        approach=approach,
        domain=domain.name,
        domain_hash=domain.hash,
        base_model=base_model,
        recipe_hash=recipe_hash,
        per_query={"known": frame},
        meta=meta,
    )


@pytest.fixture
def base(tiny_domain):
    return scores(tiny_domain, "base", [0.5, 0.5, 0.5, 0.5], trainable_params=0)


@pytest.fixture
def tuned(tiny_domain):
    return scores(tiny_domain, "contrastive", [1.0, 0.6, 0.2, 0.5], "aa", train_seconds=9.0)


def test_wins_ties_and_losses_are_counted_by_query(base, tuned, tiny_domain):
    queries = len(tiny_domain.qrels["known"])
    board = compare([base, tuned])
    found = next(r for r in board.rows if r["label"] == "contrastive")
    assert (found["wins"], found["ties"], found["losses"]) == (2, queries - 3, 1)


def test_other_queries_are_refused(base, tuned):
    frame = base.per_query["known"].iloc[1:]
    with pytest.raises(EmbkitError, match="not the same"):
        dataclasses.replace(base, per_query={"known": frame}).change(tuned, "known")


def test_the_front_is_what_nothing_beats_in_both():
    rng = np.random.default_rng(0)
    rows = [
        {"split": "a", "subset": None, "train_seconds": float(s), "ndcg@10": float(q), "label": n}
        for n, (s, q) in enumerate(rng.integers(1, 8, size=(40, 2)))
    ]
    rows.append(rows[0] | {"split": "b", "ndcg@10": 99.0})
    rows.append(rows[0] | {"subset": "part", "ndcg@10": 99.0})
    front = pareto_front(rows)
    kept = [row for row in rows if row["split"] == "a" and row["subset"] is None]
    for row in kept:  # by definition: beaten, or of the front's own cost and quality
        beaten = any(
            o["train_seconds"] <= row["train_seconds"]
            and o["ndcg@10"] >= row["ndcg@10"]
            and (o["train_seconds"], o["ndcg@10"]) != (row["train_seconds"], row["ndcg@10"])
            for o in kept
        )
        same = [(f["train_seconds"], f["ndcg@10"]) for f in front]
        assert beaten == ((row["train_seconds"], row["ndcg@10"]) not in same)
    free = rows[0] | {"train_seconds": None, "trainable_params": 0, "ndcg@10": 0.5}
    assert pareto_front([*rows, free])[0]["train_seconds"] == 0.0, "never trained: no cost"
    unknown = rows[0] | {"train_seconds": None, "ndcg@10": 99.0}
    assert pareto_front([*rows, unknown]) == front, "an unknown cost is not a low one"


def test_the_pareto_picture_tells_its_front(base, tuned):
    figure = compare([base, tuned]).pareto()
    assert "on the front: base 0.500" in plots.alt_text(figure)
    assert "0 are beaten" in plots.alt_text(figure) and plots.png(figure).startswith(b"\x89PNG")
    with pytest.raises(EmbkitError, match="no rows"):
        Report([]).pareto()


def test_holm_is_what_its_definition_says():
    rng = np.random.default_rng(1)
    p = list(rng.uniform(0, 0.2, 9))
    order = sorted(p)
    for value, found in zip(p, holm(p), strict=True):
        rank = order.index(value)
        wanted = max(min(1.0, (len(p) - k) * order[k]) for k in range(rank + 1))
        assert found == pytest.approx(wanted)
    assert holm([]) == [] and holm([0.7]) == [0.7]


def test_a_report_corrects_for_all_of_its_tests(base, tuned, tiny_domain):
    other = scores(tiny_domain, "LoRA", [0.9, 0.9, 0.1, 0.6], "bb")
    rows = [row for row in compare([base, tuned, other]).rows if row["p_vs_base"] is not None]
    assert [row["p_holm"] for row in rows] == pytest.approx(holm([r["p_vs_base"] for r in rows]))
    assert all(row["p_holm"] >= row["p_vs_base"] for row in rows)


def test_what_else_is_kept_changes_no_p(base, tuned, tiny_domain):
    """Holm over what was asked for: one comparison's p does not depend on the store."""
    for key, one in (("base-1", base), ("run-1", tuned)):
        one.save(store(tiny_domain) / key / "scores.json")

    def p(**asked):
        rows = leaderboard(tiny_domain, **asked).rows
        return [(r["p_vs_base"], r["p_holm"]) for r in rows if r["label"] == "contrastive"]

    few, alone = p(asked=["contrastive"]), p()
    for n in range(5):
        other = scores(tiny_domain, f"other {n}", [0.1 * n, 0.9, 0.2], f"{n:02d}")
        other.save(store(tiny_domain) / f"more-{n}" / "scores.json")
    assert p(asked=["contrastive"]) == few and few[0][0] == few[0][1]
    assert p() == alone and alone[0][1] is None
    board = leaderboard(tiny_domain, asked=["contrastive", "other 1"])
    assert board.tests == 2 and "the 2 tests that were asked for" in board.table().caption
    assert "p Holm" in board.table().head
    assert "p Holm" not in leaderboard(tiny_domain).table().head
    with pytest.raises(EmbkitError, match="did you mean 'contrastive'"):
        leaderboard(tiny_domain, asked=["contrastiv"])


def test_seeds_of_one_recipe_are_one_row(base, tiny_domain):
    base.save(store(tiny_domain) / "base-1" / "scores.json")
    runs = [
        scores(tiny_domain, "contrastive", v, f"a{n}", seed=n, method="m")
        for n, v in enumerate([[0.9, 0.2, 0.6], [0.7, 0.4, 0.5], [0.8, 0.6, 0.9]])
    ]
    for n, one in enumerate(runs):
        one.save(store(tiny_domain) / f"run-{n}" / "scores.json")
    rows = [r for r in leaderboard(tiny_domain).rows if r["approach"] == "contrastive"]
    assert len(rows) == 1 and rows[0]["seeds"] == 3
    values = np.stack([one.values("known") for one in runs])
    assert rows[0]["ndcg@10"] == pytest.approx(values.mean())
    wanted = estimate(
        values - 0.5, clusters(tiny_domain, "known").codes(runs[0].values("known").index)
    )
    assert rows[0]["p_vs_base"] == pytest.approx(wanted.p)
    back = Scores.load(over_seeds(runs).save(store(tiny_domain) / "x" / "mean.json"))
    assert len(back.runs) == 3 and back.ci("known") == over_seeds(runs).ci("known")
    again = scores(tiny_domain, "contrastive", [0.1], "a9", seed=1, method="m")
    again.save(store(tiny_domain) / "run-9" / "scores.json")
    labels = {r["label"] for r in leaderboard(tiny_domain).rows}
    assert len(labels) == 5, "one seed twice is not two seeds"


def test_equal_names_are_told_apart_by_what_differs(tiny_domain, monkeypatch):
    kept = {
        "base-1": scores(tiny_domain, "base", [0.5]),
        "base-2": scores(tiny_domain, "base", [0.6], base_model="bge-small"),
        "teacher-1234567": scores(tiny_domain, "teacher", [0.7], base_model=None),
        "teacher-89abcde": scores(tiny_domain, "teacher", [0.8], base_model=None),
        "run-1": scores(tiny_domain, "contrastive", [0.7], "aa", learning_rate=1e-4, seed=1),
        "run-2": scores(tiny_domain, "contrastive", [0.8], "bb", learning_rate=4e-4, seed=1),
        "run-3": scores(tiny_domain, "LoRA", [0.7], "cc", learning_rate=1e-4, seed=1),
        "run-4": scores(tiny_domain, "LoRA", [0.8], "dd", learning_rate=1e-4, seed=2),
        "bm25": scores(tiny_domain, "bm25", [0.3], base_model=None, bm25=BM25.VERSION),
    }
    for key, one in kept.items():
        one.save(store(tiny_domain) / key / "scores.json")
    board = leaderboard(tiny_domain)
    assert {row["label"] for row in board.rows} == {
        "base (minilm)",
        "base (bge-small)",
        "teacher (123456)",
        "teacher (89abcd)",
        "contrastive (learning rate 0.0001)",
        "contrastive (learning rate 0.0004)",
        "LoRA (seed 1)",
        "LoRA (seed 2)",
        "bm25",
    }
    assert board.baseline == "base" and all(row["label"] for row in board.rows)


def test_a_report_as_csv_and_latex(base, tuned, tiny_domain):
    odd = scores(tiny_domain, "=HYPERLINK(1) & 50% of_$x{}", [0.9], "cc")
    given = zip((base, tuned, odd), (0.3, 0.4, 0.2), strict=True)
    board = compare([dataclasses.replace(s, dev={"v": value}) for s, value in given])
    rows = list(csv.DictReader(io.StringIO(board.to_csv())))
    assert len(rows) == len(board.rows)
    for row, wanted in zip(rows, board.rows, strict=True):
        assert float(row["ndcg@10"]) == wanted["ndcg@10"]
        assert float(row["ndcg@10_low"]) == wanted["ndcg@10_ci"][0]
        if wanted["label"] == odd.label:
            assert row["label"] == "'" + odd.label, "no formula for a spreadsheet"
    latex = board.to_latex()
    assert latex.startswith(r"\begin{tabular}{llr") and latex.endswith(r"\end{tabular}")
    assert r"=HYPERLINK(1) \& 50\% of\_\$x\{\}" in latex and r"\textbf{" in latex
    columns = {len(re.split(r"(?<!\\)&", line)) for line in latex.splitlines() if "&" in line}
    assert len(columns) == 1, "as many cells in every row"
    folder = board.save(store(tiny_domain).parent / "out")
    assert (folder / "leaderboard.tex").read_text() == latex + "\n"
    assert (folder / "leaderboard.csv").read_text() == board.to_csv()
    assert (folder / "leaderboard.md").read_text() == board.to_markdown() + "\n"
    assert (folder / "report.html").read_text().count("<img alt=") == 2
