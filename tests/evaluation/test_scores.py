"""Metrics, intervals, tests and reports, each against a truth from elsewhere."""

from __future__ import annotations

import html.parser
import itertools
import json
import math
import os
import subprocess
import sys

import ir_measures
import numpy as np
import pandas as pd
import pytest
from scipy import stats

from embkit.errors import EmbkitError
from embkit.evaluation.intervals import mean_interval
from embkit.evaluation.metrics import (
    METRICS,
    ranking_from_arrays,
    score_ranking,
)
from embkit.evaluation.report import Report, compare
from embkit.evaluation.scores import Scores
from embkit.files import write_atomic

NAMES = ["ndcg@10", "ndcg@3", "ndcg", "mrr", "map", "map@5", "recall@10", "recall@1000"]
NAMES += ["precision@5", "hit@1", "hit@5"]
THEIRS = ["nDCG@10", "nDCG@3", "nDCG", "RR", "AP", "AP@5", "R@10", "R@1000"]
THEIRS += ["P@5", "Success@1", "Success@5"]


def one(ranking, grades, *metrics):
    """The metrics of a single query."""
    frame = score_ranking({"q": ranking}, {"q": grades}, metrics or METRICS)
    return frame.loc["q"].to_dict()


def make(approach="base", values=(0.2, 0.4, 0.6, 0.8), **changes):
    queries = pd.Index([f"q{n}" for n in range(len(values))], name="query_id", dtype=object)
    frame = pd.DataFrame({name: list(values) for name in METRICS}, index=queries, dtype=float)
    frame.attrs["unanswerable"] = 1
    given = {
        "approach": approach,
        "domain": "tiny",
        "domain_hash": "0123456789abcdef",
        "base_model": "minilm",
        "recipe_hash": None,
        "per_query": {"known": frame, "novel": frame.copy()},
        "subsets": {"known": {"never_positive": ("q0", "q2")}},
        "meta": {"corpus": 50, "dim": 384, "train_seconds": 1.5, "seed": 42},
    }
    return Scores(**(given | changes))


# Metrics


def test_a_case_worked_by_hand():
    # found at ranks 2 (grade 1) and 4 (grade 3); a third one (grade 2) is never returned
    ranking = {"a": 0.9, "b": 0.8, "c": 0.7, "d": 0.6}
    got = one(ranking, {"b": 1, "d": 3, "z": 2, "a": 0})
    gained = 1 / math.log2(3) + 3 / math.log2(5)
    ideal = 3 / math.log2(2) + 2 / math.log2(3) + 1 / math.log2(4)
    assert got["ndcg@10"] == pytest.approx(gained / ideal, abs=1e-12)
    assert got["mrr@10"] == 0.5
    assert got["map"] == pytest.approx((1 / 2 + 2 / 4) / 3, abs=1e-12)
    assert got["recall@10"] == got["recall@100"] == pytest.approx(2 / 3, abs=1e-12)
    assert got["hit@1"] == 0.0


def test_cut_offs_count_ranks():
    ranking = {f"d{rank}": 100.0 - rank for rank in range(1, 31)}
    got = one(ranking, {"d11": 1}, "mrr@10", "mrr@11", "mrr", "hit@10", "hit@11", "recall@11")
    assert got == {
        "mrr@10": 0.0, "mrr@11": 1 / 11, "mrr": 1 / 11,
        "hit@10": 0.0, "hit@11": 1.0, "recall@11": 1.0,
    }  # fmt: skip


def test_every_rank_is_kept_by_a_cut_off_at_it_and_lost_by_the_one_before():
    for rank in [*range(2, 40), 999, 1000]:
        ranking = {f"d{place}": float(-place) for place in range(1, 1001)}
        at, before = f"mrr@{rank}", f"mrr@{rank - 1}"
        assert one(ranking, {f"d{rank}": 1}, at, before) == {at: 1 / rank, before: 0.0}


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("ties", [False, True])
def test_equal_to_ir_measures_on_random_runs(seed, ties):
    rng = np.random.default_rng(seed)
    docs = [f"d{n}" for n in range(40)]
    qrels, ranking = {}, {}
    for n in range(60):
        chosen = rng.choice(docs, rng.integers(1, 9), replace=False)
        qrels[f"q{n}"] = {doc: int(rng.integers(0, 4)) for doc in chosen}
        if rng.random() < 0.85:  # the others have no ranking
            returned = rng.choice(docs, rng.integers(0, 41), replace=False)
            scores = rng.integers(0, 5, len(returned)) if ties else rng.normal(size=len(returned))
            ranking[f"q{n}"] = {d: float(s) for d, s in zip(returned, scores, strict=True)}
    ours = score_ranking(ranking, qrels, NAMES)
    measures = [ir_measures.parse_measure(name) for name in THEIRS]
    names = dict(zip(measures, NAMES, strict=True))
    answerable = {q: g for q, g in qrels.items() if any(g.values())}
    assert list(ours.index) == list(answerable)
    assert ours.attrs["unanswerable"] == len(qrels) - len(answerable)
    seen = 0
    for query, measure, value in ir_measures.iter_calc(measures, answerable, ranking):
        assert ours.loc[query, names[measure]] == pytest.approx(value, abs=1e-9)
        seen += 1
    assert seen == ours.size


@pytest.mark.parametrize("seed", range(3))
def test_mrr_with_a_cut_off_equals_ir_measures_where_nothing_ties(seed):
    rng = np.random.default_rng(seed)
    docs = [f"d{n}" for n in range(30)]
    qrels = {f"q{n}": {str(rng.choice(docs)): 1} for n in range(50)}
    ranking = {q: dict(zip(docs, rng.normal(size=30).tolist(), strict=True)) for q in qrels}
    ours = score_ranking(ranking, qrels, ["mrr@10", "mrr@3"])
    for name, measure in (("mrr@10", ir_measures.RR @ 10), ("mrr@3", ir_measures.RR @ 3)):
        theirs = {m.query_id: m.value for m in ir_measures.iter_calc([measure], qrels, ranking)}
        assert ours[name].to_dict() == pytest.approx(theirs, abs=1e-9)


def test_ties_are_ordered_by_document_id_from_last_to_first_whatever_the_order_given():
    for docs in itertools.permutations(["a", "b", "c"]):
        ranking = dict.fromkeys(docs, 0.5)
        assert [one(ranking, {d: 1}, "mrr@10")["mrr@10"] for d in "cba"] == [1.0, 0.5, 1 / 3]


def test_scores_that_differ_beyond_float32_are_not_ties():
    close = {"a": 1.0 + 1e-12, "b": 1.0}
    assert np.float32(close["a"]) == np.float32(close["b"])
    assert one(close, {"a": 1}, "mrr@10")["mrr@10"] == 1.0
    assert one({"a": 1.0, "b": 1.0 + 1e-12}, {"b": 1}, "mrr@10")["mrr@10"] == 1.0
    huge = {"a": 1e300, "b": 1e301, "c": -math.inf}  # float32 would make infinities of them
    assert one(huge, {"b": 1}, "mrr@10")["mrr@10"] == 1.0


def test_queries_without_an_answer_are_left_out_and_without_a_ranking_score_nothing():
    qrels = {"a": {"x": 1}, "b": {"x": 0}, "c": {}, "d": {"x": 2}, "e": {"x": -1}}
    frame = score_ranking({"a": {"x": 1.0}, "e": {"x": 1.0}, "other": {"x": 1.0}}, qrels)
    assert list(frame.index) == ["a", "d"] and frame.index.name == "query_id"
    assert list(frame.columns) == list(METRICS)
    assert frame.attrs["unanswerable"] == 3
    assert (frame.loc["a"] == 1.0).all() and (frame.loc["d"] == 0.0).all()


def test_nothing_to_score():
    assert score_ranking({}, {"q": {"x": 1}}).loc["q"].sum() == 0
    empty = score_ranking({"q": {"x": 1.0}}, {"q": {"x": 0}})
    assert empty.shape == (0, len(METRICS)) and empty.attrs["unanswerable"] == 1
    assert one({}, {"x": 1})["ndcg@10"] == 0.0


def test_grades_below_zero_and_numpy_grades():
    ranking = {"a": 2.0, "b": 1.0}
    assert one(ranking, {"a": -2, "b": 1}) == one(ranking, {"a": 0, "b": 1})
    assert one(ranking, {"a": 0, "b": np.int64(2)}) == one(ranking, {"b": 2.0})
    assert one({"a": np.float32(2), "b": 1}, {"a": True}, "hit@1")["hit@1"] == 1.0


def test_a_cut_off_far_beyond_the_corpus():
    names = ("recall@100000", "ndcg@99999999999999999999", "precision@0002")
    assert one({"a": 1.0}, {"a": 1}, *names) == dict(zip(names, (1.0, 1.0, 0.5), strict=True))


@pytest.mark.parametrize(
    ("metric", "said"),
    [
        ("ndgc@10", "did you mean 'ndcg@10'"),
        ("NDCG@10", "did you mean 'ndcg@10'"),
        ("ndcg@0", "no usable cut-off"),
        ("ndcg@-1", "no usable cut-off"),
        ("ndcg@1.5", "no usable cut-off"),
        ("ndcg@", "no usable cut-off"),
        ("recall", "recall@10"),
        ("", "unknown metric"),
    ],
)
def test_bad_metrics(metric, said):
    with pytest.raises(EmbkitError, match=said):
        one({"a": 1.0}, {"a": 1}, metric)


@pytest.mark.parametrize(
    ("ranking", "qrels", "said"),
    [
        ({"q": {"a": math.nan}}, {"q": {"a": 1}}, "NaN"),
        ({"q": {"a": 1.0}}, {"q": {"a": 0.5}}, "whole number"),
        ({"q": {"a": 1.0}}, {"q": {"a": 10**9}}, "at most 1,000,000"),
        ({"q": {1: 1.0}}, {"q": {"a": 1}}, "cannot be the id"),
        ({"q": {"a": 1.0}}, {1: {"a": 1}}, "cannot be the id"),
        ({"q": {"a\0b": 1.0}}, {"q": {"a": 1}}, "NUL"),
        ({"q": {"\ud800": 1.0}}, {"q": {"a": 1}}, "UTF-8"),
        ({"p": {"a": 1.0}}, {"q": {"a": 1}}, "no query of the ranking"),
    ],
)
def test_bad_rankings_and_qrels(ranking, qrels, said):
    with pytest.raises(EmbkitError, match=said):
        score_ranking(ranking, qrels)
    with pytest.raises(EmbkitError, match="no metrics"):
        score_ranking({}, {}, [])


def test_arrays_become_a_ranking_without_loss():
    indices = np.array([[2, 0], [1, -1]])
    scores = np.array([[0.1, 1 / 3], [2.0, np.nan]])
    got = ranking_from_arrays(["p", "q"], ["a", "b", "c"], indices, scores)
    assert got == {"p": {"c": 0.1, "a": 1 / 3}, "q": {"b": 2.0}}
    assert list(got["p"]) == ["a", "c"], "best first"
    tied = ranking_from_arrays(["q"], ["a", "c", "b"], np.array([[0, 1, 2]]), np.array([[1, 1, 2]]))
    assert list(tied["q"]) == ["b", "c", "a"], "equal ones by id, from last to first"
    for place, document in enumerate(tied["q"], 1):  # and so trec_eval sees them
        found = score_ranking(tied, {"q": {document: 1}}, ["mrr@10"])
        assert found["mrr@10"].iloc[0] == pytest.approx(1 / place)
    single = np.array([[0.1]], dtype=np.float32)
    ranking = ranking_from_arrays(["p"], ["a"], np.array([[0]]), single)
    assert ranking["p"]["a"] == float(single[0, 0])
    assert ranking_from_arrays([], ["a"], np.empty((0, 5), int), np.empty((0, 5))) == {}
    assert ranking_from_arrays(["p"], ["a"], np.empty((1, 0), int), np.empty((1, 0))) == {"p": {}}


@pytest.mark.parametrize(
    ("queries", "docs", "indices", "scores", "said"),
    [
        (["p"], ["a", "b"], [[0, 1]], [[1.0]], "shape"),
        (["p", "q"], ["a", "b"], [[0, 1]], [[1.0, 2.0]], "shape"),
        (["p"], ["a", "b"], [[0, 2]], [[1.0, 2.0]], "for 2 documents"),
        (["p"], ["a", "b"], [[0, -2]], [[1.0, 2.0]], "for 2 documents"),
        (["p"], ["a", "b"], [[0.0, 1.0]], [[1.0, 2.0]], "whole numbers"),
        (["p"], ["a", "b"], [[1, 1]], [[1.0, 2.0]], "listed twice"),
        (["p"], ["a", "a"], [[0, 1]], [[1.0, 2.0]], "document id 'a' is given twice"),
        (["p", "p"], ["a"], [[0], [0]], [[1.0], [2.0]], "query id 'p' is given twice"),
        (["p"], ["a", "b"], [[0, 1]], [[1.0, math.nan]], "NaN"),
    ],
)
def test_bad_arrays(queries, docs, indices, scores, said):
    with pytest.raises(EmbkitError, match=said):
        ranking_from_arrays(queries, docs, np.array(indices), np.array(scores))


# Scores


def test_scores_come_back_from_json_bit_for_bit(tmp_path):
    values = [*np.random.default_rng(0).random(50).tolist(), 5e-324, 0.1 + 0.2, 1 / 3, -0.0]
    scores = make("<b>é", values, meta={"dim": np.int64(3), "x": math.nan, "label": "ü|$"})
    back = Scores.load(scores.save(tmp_path / "a" / "scores.json"))
    for split, frame in scores.per_query.items():
        pd.testing.assert_frame_equal(back.per_query[split], frame, check_exact=True)
        assert back.per_query[split].attrs == frame.attrs
    assert back.subsets == scores.subsets and back.label == "ü|$"
    assert back.meta == {"dim": 3, "x": None, "label": "ü|$"}
    assert back.to_json() == scores.to_json()
    assert [f.name for f in (tmp_path / "a").iterdir()] == ["scores.json"]


def test_means_and_intervals_by_split_and_subset():
    scores = make()
    assert scores.mean("known") == 0.5
    assert scores.mean("known", "map", "never_positive") == pytest.approx(0.4)
    assert scores.ci("known") == mean_interval([0.2, 0.4, 0.6, 0.8])
    for given, said in [
        (("knwon",), "did you mean 'known'"),
        (("known", "ndcg@11"), "did you mean 'ndcg@10'"),
        (("known", "map", "never_positve"), "did you mean 'never_positive'"),
        (("novel", "map", "never_positive"), "unknown subset"),
    ]:
        with pytest.raises(EmbkitError, match=said):
            scores.mean(*given)


def test_rows_hold_none_where_nothing_applies():
    scores = make(subsets={"known": {"nobody": ()}}, meta={"train_seconds": math.nan})
    whole, nobody, _ = scores.rows()
    assert (whole["split"], whole["subset"], nobody["subset"]) == ("known", None, "nobody")
    assert whole["train_seconds"] is None and whole["corpus"] is None
    assert nobody["queries"] == 0 and nobody["ndcg@10"] is nobody["ndcg@10_ci"] is None
    assert math.isnan(scores.mean("known", "map", "nobody"))
    json.dumps(scores.rows(), allow_nan=False)


@pytest.mark.parametrize("keep", [0, 1, 50, -2])
def test_a_half_written_file_says_so(tmp_path, keep):
    text = make().to_json()
    (tmp_path / "scores.json").write_text(text[:keep])
    with pytest.raises(EmbkitError, match="cannot be read as scores") as caught:
        Scores.load(tmp_path / "scores.json")
    assert "scores.json" in caught.value.given and "evaluate again" in caught.value.hint


def test_other_files_are_refused(tmp_path):
    file = tmp_path / "scores.json"
    data = json.loads(make().to_json())
    data["per_query"]["known"]["queries"].pop()
    for text in ("[]", "{}", "null", json.dumps(data)):
        file.write_text(text)
        with pytest.raises(EmbkitError, match="cannot be read as scores"):
            Scores.load(file)
    file.write_bytes(b"\xff\xfe")
    for path in (file, tmp_path, tmp_path / "missing.json"):
        with pytest.raises(EmbkitError, match="cannot be read as scores"):
            Scores.load(path)


def test_bad_scores_are_refused_at_construction():
    frame = pd.DataFrame({"map": [0.1, math.nan]}, index=["p", "q"])
    twice = pd.DataFrame({"map": [0.1, 0.2]}, index=["p", "p"])
    for broken in (frame, twice, frame[[]]):
        with pytest.raises(EmbkitError, match="repeat a query, hold NaN or have no metric"):
            make(per_query={"known": broken}, subsets={})
    with pytest.raises(EmbkitError, match="without a split"):
        make(per_query={}, subsets={})
    with pytest.raises(EmbkitError, match="2 queries that were not scored"):
        make(subsets={"known": {"odd": ("q0", "x", "y")}})
    assert make(subsets={"known": {"one unanswerable": ("q0", "x")}}).rows()[1]["queries"] == 1
    with pytest.raises(EmbkitError, match="unknown split"):
        make(subsets={"test": {}})


# Comparison and report


@pytest.fixture
def report():
    scores = [make(), make("contrastive", (0.3, 0.5, 0.7, 0.9), recipe_hash="f00ba4")]
    return compare(scores)


FIELDS = """approach domain split subset base_model recipe_hash ndcg@10 ndcg@10_ci mrr@10 map
recall@10 recall@100 hit@1 queries corpus trainable_params total_params train_seconds
peak_memory_mb dim p_vs_base delta_vs_base delta_vs_base_ci learning_rate seed
general_ndcg@10 p_holm wins ties losses bytes_per_embedding encode_per_second""".split()


def test_a_report_has_every_field_for_every_split_and_subset(report):
    places = [(row["split"], row["subset"], row["approach"]) for row in report.rows]
    splits = (("known", None), ("known", "never_positive"), ("novel", None))
    assert places == [(*p, name) for p in splits for name in ("contrastive", "base")]
    for row in report.rows:
        assert set(FIELDS) <= row.keys()
        low, high = row["ndcg@10_ci"]
        assert low <= row["ndcg@10"] <= high
        assert row["queries"] == (2 if row["subset"] else 4) and row["corpus"] == 50
        paired = [row["p_vs_base"], row["delta_vs_base"], row["delta_vs_base_ci"]]
        if row["approach"] == "base":
            assert paired == [None, None, None]
        else:
            few = 1 - 0.05 ** (1 / row["queries"])  # all differences are equal: the rule of three
            assert paired[1:] == [pytest.approx(0.1), pytest.approx([0.1 - few, 0.1 + few])]
            assert paired[0] == pytest.approx(2 * stats.norm.sf(0.1 / few * 1.959964))


def test_a_saved_report_is_a_json_list_and_a_page_of_its_own(report, tmp_path):
    folder = report.save(tmp_path / "runs")
    names = [f"leaderboard.{ending}" for ending in ("csv", "json", "md", "tex")]
    assert sorted(f.name for f in folder.iterdir()) == [*names, "report.html"]
    text = (folder / "leaderboard.json").read_text()
    assert json.loads(text) == report.rows and "NaN" not in text
    page = (folder / "report.html").read_text()
    assert 'src="data:image/png;base64,iVBOR' in page and "<caption " in page
    assert "http" not in page and "<script" not in page
    assert 'alt="nDCG@10 of each approach with its interval. known: best of ' in page


def test_the_best_is_bold_and_marked(report):
    assert "★</b>" not in report._repr_html_(), "the test split marks nothing"
    scores = [make(dev={"v": 0.6}), make("contrastive", recipe_hash="f00ba4", dev={"v": 0.5})]
    chosen = compare(scores)
    assert chosen._repr_html_().count("<b>") == chosen._repr_html_().count("★</b>") == 3
    assert chosen.to_text().count("★") == chosen.to_markdown().count("** ★") == 3
    assert "base ★" not in chosen.to_text() and "★ marks what dev chose" in chosen.table().caption
    assert [row["dev"] for row in chosen.rows if row["approach"] == "base"] == [0.6] * 3
    unknown = compare([*scores, make("LoRA", recipe_hash="f1")])
    assert "★" not in unknown.to_text(), "what has no score on dev may have been the best"
    assert "known / never_positive, 2 queries" in report.to_text()
    assert "0.600 [" in str(report) and "+0.100 [-0.427, +0.627]" in str(report)
    assert "★</b>" not in make()._repr_html_() and "Δ" not in make()._repr_html_()


class Tags(html.parser.HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags = set()

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)


def test_no_text_becomes_markup(tmp_path):
    evil = '<script>alert("1")</script>|`\x1b[31m\n'
    frames = {evil: make().per_query["known"]}
    common = {"domain": evil, "base_model": evil, "per_query": frames}
    common["subsets"] = {evil: {evil: ("q0",)}}
    scores = [make(evil, recipe_hash=evil, meta={"label": n + evil}, **common) for n in "ab"]
    report = compare(scores, baseline="a" + evil)
    report.save(tmp_path)
    for text in (report._repr_html_(), (tmp_path / "report.html").read_text()):
        tags = Tags()
        tags.feed(text)
        assert "script" not in tags.tags and "table" in tags.tags
        assert "&lt;script&gt;" in text
    assert "\x1b" not in report.to_text() and "\x1b" not in report.to_markdown()
    markdown = report.to_markdown().splitlines()
    assert len(markdown) == 2 + len(report.rows) and "<script>" not in report.to_markdown()
    assert all(line.replace("\\|", "").count("|") == 13 for line in markdown)


def test_what_cannot_be_compared():
    base = make()
    with pytest.raises(EmbkitError, match="no scores"):
        compare([])
    with pytest.raises(EmbkitError, match="other queries or documents"):
        compare([base, make("other", domain_hash="fedcba")])
    with pytest.raises(EmbkitError, match="given twice"):
        compare([base, make()])
    with pytest.raises(EmbkitError, match=r"unknown baseline 'bsae'[^$]*did you mean 'base'"):
        compare([base], baseline="bsae")
    with pytest.raises(EmbkitError, match="4 queries of 'base' and 3 of 'short' on 'known'"):
        compare([base, make("short", (0.1, 0.2, 0.3))])
    alone = {"known": base.per_query["known"]}
    with pytest.raises(EmbkitError, match="unknown split 'novel'"):
        compare([make(per_query=alone), make("more")])


def test_each_approach_meets_the_baseline_of_its_own_model():
    scores = [
        make("base", (0.1,) * 4), make("base", (0.5,) * 4, base_model="bge"),
        make("tuned", (0.2,) * 4), make("tuned", (0.9,) * 4, base_model="bge"),
        make("bm25", (0.3,) * 4, base_model=None),
    ]  # fmt: skip
    got = {
        (row["approach"], row["base_model"]): row["delta_vs_base"]
        for row in compare(scores).rows
        if row["split"] == "novel"
    }
    assert got == {
        ("base", "minilm"): None, ("base", "bge"): None,
        ("tuned", "minilm"): pytest.approx(0.1), ("tuned", "bge"): pytest.approx(0.4),
        ("bm25", None): pytest.approx(0.2),
    }  # fmt: skip


def test_a_baseline_may_be_named_by_its_label():
    scores = [make("base", meta={"label": "MiniLM"}), make("contrastive")]
    assert compare(scores, baseline="MiniLM").rows == compare(scores).rows


def test_a_report_without_rows(tmp_path):
    assert "Nothing evaluated yet" in Report([])._repr_html_()
    assert Report([]).to_text() == "nothing evaluated yet"
    Report([]).save(tmp_path)
    assert json.loads((tmp_path / "leaderboard.json").read_text()) == []


def test_nothing_half_written_is_left(tmp_path, monkeypatch, report):
    file = write_atomic(tmp_path / "x.json", "old")

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(EmbkitError, match="No space left"):
        write_atomic(file, "new")
    with pytest.raises(EmbkitError, match="No space left"):
        make().save(tmp_path / "scores.json")
    with pytest.raises(EmbkitError, match="No space left"):
        report.save(tmp_path)
    assert [f.name for f in tmp_path.iterdir()] == ["x.json"] and file.read_text() == "old"
    with pytest.raises(EmbkitError, match="cannot write"):
        write_atomic(file / "below" / "y.json", "a file is no folder")


def test_importing_needs_no_torch():
    code = "import sys, embkit.evaluation.scores; print([m for m in sys.modules if m in "
    code += "('torch', 'sentence_transformers', 'matplotlib', 'scipy.stats', 'pandas')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("asked", [None, ()])
def test_a_report_fits_a_terminal_of_100_columns(asked):
    label = "contrastive over the whole corpus, with prompts, LoRA r16 and 2 hard negatives"
    dev = {"dev": {"v": 0.5}}
    told = {"recipe_hash": "a1", "meta": {"label": label}} | dev
    other = make("contrastive", (0.3, 0.5, 0.5, 0.9), **told)
    text = compare([make(**dev), other], "base", asked=asked).to_text()
    assert max(map(len, text.splitlines())) <= 100
    assert "nDCG@10 [95%]" in text and "Δ base [95%]" in text and "dev" in text
    assert ("p Holm" in text) == (asked is None)
    assert "0.550 [" in text and "recall" not in text
