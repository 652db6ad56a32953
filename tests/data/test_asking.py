"""What the first rows of a file do not show, what only content tells, and how it is asked."""

import json

import pandas as pd
import pytest

from embkit.data import load_domain
from embkit.data.readers import joined as reading
from embkit.data.readers import tables
from embkit.data.readers.kinds import kind_of
from embkit.data.readers.parts import split_name
from embkit.errors import EmbkitError
from tests.data.written import RIGHT_PAIRS, WRONG_PAIRS


@pytest.fixture(autouse=True)
def own_runs(tmp_path, monkeypatch):
    monkeypatch.setenv("EMBKIT_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("EMBKIT_PROFILE", "full")


def jsonl(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def rows(*extra, first="query", second="document"):
    return [{first: q, second: d, **dict(extra)} for q, d in RIGHT_PAIRS]


@pytest.fixture
def few(monkeypatch):
    """Ten rows are the first ones."""
    monkeypatch.setattr(tables, "SOME", 10)


def test_a_label_behind_the_first_rows_is_asked(few, tmp_path):
    late = [{"query": q, "document": d, "good": 0} for q, d in WRONG_PAIRS]
    path = jsonl(tmp_path / "a.jsonl", rows(("good", 1)) + late)
    with pytest.raises(EmbkitError, match="'good' may say that some pairs are wrong") as caught:
        load_domain(path)
    right = caught.value.readings[0]
    assert (right.right, right.wrong) == (len(RIGHT_PAIRS), len(WRONG_PAIRS))


def test_negatives_behind_the_first_rows_are_used(few, tmp_path):
    wrong = dict(WRONG_PAIRS)
    late = [{"query": q, "document": d, "negative": [wrong[q]]} for q, d in RIGHT_PAIRS[12:]]
    domain = load_domain(jsonl(tmp_path / "a.jsonl", rows()[:12] + late))
    assert domain.report.columns["negative"] == "negative"
    found = {
        domain.queries[q]: {domain.corpus[d] for d in of} for q, of in domain.negatives.items()
    }
    assert found == {q: {wrong[q]} for q, _ in RIGHT_PAIRS[12:]}
    assert sum(domain.report.rows.values()) == len(RIGHT_PAIRS)  # counted once


def test_a_note_behind_the_first_rows_changes_nothing(few, tmp_path, monkeypatch):
    read = []
    add = reading.add_pairs
    monkeypatch.setattr(
        "embkit.data.readers.folder.add_pairs", lambda *a: (read.append(1), add(*a))[1]
    )
    path = jsonl(tmp_path / "a.jsonl", [*rows(), {"query": "x y", "document": "z", "who": "Ann"}])
    assert len(load_domain(path).queries) == len(RIGHT_PAIRS) + 1
    assert len(read) == 1


@pytest.mark.parametrize(
    "rows, why",
    [
        # words that nobody listed are labels where they are few
        (
            [{"query": q, "document": d, "verdict": "upheld"} for q, d in RIGHT_PAIRS]
            + [{"query": q, "document": d, "verdict": "struck"} for q, d in WRONG_PAIRS],
            "'verdict' may say",
        ),
        # passages beside short answers are the likelier documents
        (
            [
                {"query": q, "answer": "yes, it is", "evidence": [{"text": d}]}
                for q, d in RIGHT_PAIRS
            ],
            "'evidence' holds passages",
        ),
        # decimals of any name
        (
            [
                {"query": q, "document": d, "p": 0.1 + n / 50}
                for n, (q, d) in enumerate(RIGHT_PAIRS)
            ],
            "'p' may say",
        ),
    ],
    ids=["words", "passages", "decimals"],
)
def test_content_is_asked_about(rows, why, tmp_path):
    path = jsonl(tmp_path / "a.jsonl", rows)
    with pytest.raises(EmbkitError, match=why) as caught:
        load_domain(path)
    for offered in caught.value.readings:
        domain = load_domain(path, **offered.options)
        assert sum(1 for split in domain.qrels for _ in domain.right(split)) == offered.right


def test_the_choices_of_label_studio_are_asked(tmp_path):
    def task(query, document, *choices):
        results = [{"result": [{"value": {"choices": [choice]}}]} for choice in choices]
        return {"id": 1, "data": {"query": query, "document": document}, "annotations": results}

    made = [task(*pair, "Relevant", "Relevant") for pair in RIGHT_PAIRS]
    made += [task(*pair, "Not relevant") for pair in WRONG_PAIRS]
    made += [task(RIGHT_PAIRS[0][0], "people differ", "Relevant", "Not relevant")]
    path = tmp_path / "export.json"
    path.write_text(json.dumps(made, indent=1), encoding="utf-8")
    with pytest.raises(EmbkitError, match="'annotations' may say") as caught:
        load_domain(path)
    first = caught.value.readings[0]
    assert (first.right, first.wrong) == (len(RIGHT_PAIRS), len(WRONG_PAIRS))
    assert sum(load_domain(path, **first.options).report.quarantined.values()) == 1


@pytest.mark.parametrize(
    "extra",
    [("split", "train"), ("lang", "en"), ("relevant", "yes"), ("type", "normal"), ("id", None)],
    ids=lambda extra: extra[0],
)
def test_what_says_nothing_of_right_and_wrong_is_not_asked(extra, tmp_path):
    made = [dict(row, **{extra[0]: n if extra[1] is None else extra[1]})
            for n, row in enumerate(rows())]  # fmt: skip
    if extra[0] in ("split", "lang"):
        made[3][extra[0]] = "test"
    domain = load_domain(jsonl(tmp_path / "a.jsonl", made))
    assert domain.report.columns["not used"] == extra[0]


@pytest.mark.parametrize("form", ["list", "columns"])
def test_a_json_object_of_columns_is_read_as_pandas_writes_it(form, tmp_path):
    frame = pd.DataFrame(rows())
    path = tmp_path / "a.json"
    written = json.dumps(frame.to_dict("list")) if form == "list" else frame.to_json()
    path.write_text(written, encoding="utf-8")
    assert set(load_domain(path).queries.values()) == {q for q, _ in RIGHT_PAIRS}


@pytest.mark.parametrize(
    "labels, reading",
    [
        ((1, -1), {"right": "mark == 1", "wrong": "mark == -1"}),
        (("80%", "7,5%"), {"right": "mark >= 80"}),
        (("\u2713", "\u2717"), {"right": "mark == \u2713", "wrong": "mark == \u2717"}),
    ],
    ids=["signs", "percent", "ticks"],
)
def test_labels_of_other_kinds_are_asked(labels, reading, tmp_path):
    wrong = [{"query": q, "document": d, "mark": labels[1]} for q, d in WRONG_PAIRS]
    path = jsonl(tmp_path / "a.jsonl", rows(("mark", labels[0])) + wrong)
    with pytest.raises(EmbkitError, match="'mark' may say") as caught:
        load_domain(path)
    first = caught.value.readings[0]
    assert first.right == len(RIGHT_PAIRS) and reading.items() <= first.options["columns"].items()


def test_texts_that_are_none_are_noted(tmp_path):
    extra = [("a real question", "nan"), ("another one", "None"), ("12.0", "['x', 'y']")]
    made = rows() + [{"query": q, "document": d} for q, d in extra]
    notes = load_domain(jsonl(tmp_path / "a.jsonl", made)).report.notes
    assert "2 documents are no texts: nan / None as text" in notes
    assert "1 documents are no texts: a list printed as text" in notes
    assert "1 queries are no texts: digits alone" in notes


def test_a_label_is_asked_about_where_the_columns_have_no_names(tmp_path):
    labelled = [(*pair, 1) for pair in RIGHT_PAIRS] + [(*pair, 0) for pair in WRONG_PAIRS]
    path = tmp_path / "a.tsv"
    lines = ["\t".join(map(str, row)) for row in labelled if "\n" not in row[1]]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    with pytest.raises(EmbkitError) as caught:
        load_domain(path)
    first = caught.value.readings[0]
    assert first.options["columns"] == {"anchor": 0, "positive": 1, "score": 2}
    assert (first.right, first.wrong) == (len(RIGHT_PAIRS), len(WRONG_PAIRS))
    assert len(load_domain(path, **first.options).negatives) == len(WRONG_PAIRS)


def test_queries_that_are_objects_are_read_by_their_text(tmp_path):
    made = [{"question": {"text": q}, "answer": {"title": "", "text": d}} for q, d in RIGHT_PAIRS]
    domain = load_domain(jsonl(tmp_path / "a.jsonl", made))
    assert set(domain.queries.values()) == {q for q, _ in RIGHT_PAIRS}


def test_answers_of_a_word_beside_texts_that_are_not_understood_are_asked(tmp_path):
    made = [{"question": q, "answer": "oil", "about": [["t", [d, d, d]]]} for q, d in RIGHT_PAIRS]
    with pytest.raises(EmbkitError, match="'about' holds longer texts than 'answer'"):
        load_domain(jsonl(tmp_path / "a.jsonl", made))


def test_dpr_without_negatives_takes_its_passages(tmp_path):
    made = [
        {"question": q, "answers": ["x"], "positive_ctxs": [{"title": "", "text": d}]}
        for q, d in RIGHT_PAIRS
    ]
    domain = load_domain(jsonl(tmp_path / "a.jsonl", made))
    assert set(domain.corpus.values()) == {d for _, d in RIGHT_PAIRS}


def test_a_file_of_pairs_whose_name_says_queries_is_read_by_what_it_holds(tmp_path):
    path = jsonl(tmp_path / "mine" / "customer_queries.jsonl", rows())
    assert len(load_domain(path.parent).queries) == len(RIGHT_PAIRS)


def test_a_notebook_shows_the_readings_as_a_table(tmp_path, monkeypatch):
    shown = []
    monkeypatch.setattr("IPython.display.display", lambda data, raw: shown.append(data))
    path = jsonl(tmp_path / "a.jsonl", rows(first="<b>ask", second="reply"))
    with pytest.raises(EmbkitError) as caught:
        load_domain(path)
    lines = caught.value._render_traceback_()
    assert lines[0].startswith("EmbkitError: 'a.jsonl' has the columns") and len(shown) == 1
    table = shown[0]["text/html"]
    assert "&lt;b&gt;ask" in table and "<b>ask" not in table
    assert table.count("<tr") == 1 + len(caught.value.readings)


@pytest.mark.parametrize(
    "values, kind",
    [
        (["0", "1", "1", "0"], "labels"),
        ([True, False, True], "labels"),
        (["entailment", "neutral", "contradiction"], "labels"),
        (["Relevant", "Not relevant", "relevant"], "labels"),
        ([0.5, 1.0, 3.65], "scores"),
        (["12", "13", "900"], "whole numbers"),
        (["d1", "d2", "q-77"], "ids"),
        (["a.jpg", "b/c.PNG", "x.jpeg#3"], "pictures"),
        (["one answer", "another one", "E11.9 is a code"], "texts"),
        ([["one"], ["two", "three"]], "texts"),
        ([[{"text": "one"}], [{"title": "t", "text": "two"}]], "passages"),
        ([[0.1, 0.2], [0.3, 0.4]], "something else"),
        ([None, "", []], "nothing"),
        (["web", "book"] * 4, "a few short texts"),
        ([0, 1, 2, 3, 4, 5], "whole numbers"),
        (["3,65", "80%"], "scores"),
        (["0", "nan", "1", "None", "1"], "labels"),  # as no_text tells them
        (["nan", "None"], "nothing"),
        (["第1章从零开始", "第2章向量", "第3章检索"], "texts"),
    ],
)
def test_what_a_column_holds(values, kind):
    assert kind_of(values) == kind


@pytest.mark.parametrize(
    "name, split",
    [
        ("train.tsv", "train"),
        ("qrels.tsv", ""),
        ("qrels.test.tsv", "test"),
        ("qrels.dev.small.tsv", "dev"),
        ("validation-00000-of-00001.parquet", "dev"),
        ("lay.tsv", "lay"),
        ("test.trec", "test"),
        ("all.jsonl.gz", ""),
    ],
)
def test_the_split_that_a_name_says(name, split):
    assert split_name(name) == split
