"""The run table: sorted, sifted, chosen from code and from the page; a still picture."""

import pytest

from embkit.errors import EmbkitError
from embkit.evaluation.report import Report
from embkit.widgets import RunTable

MARKUP = "<b>bold</b>"


def row(label, split, ndcg, seconds, subset=None):
    found = dict.fromkeys(
        """approach p_holm wins ties losses trainable_params bytes_per_embedding
        general_ndcg@10 delta_vs_base delta_vs_base_ci""".split()
    )
    found |= {"label": label, "split": split, "subset": subset, "ndcg@10": ndcg}
    return found | {"ndcg@10_ci": [ndcg - 0.1, ndcg + 0.1], "train_seconds": seconds}


@pytest.fixture
def table():
    rows = [row(name, "known", n, s) for name, n, s in (("a", 0.4, None), (MARKUP, 0.6, 9.0))]
    rows += [row("LoRA", "known", 0.5, 70.0), row("LoRA", "known", 0.3, 70.0, "rare")]
    return RunTable(Report(rows, baseline="a"))


def names(table):
    return [cells[0] for cells in table.rows]


def test_the_best_comes_first_and_any_column_sorts(table):
    assert table.splits == ["known", "known / rare"]
    assert names(table) == [MARKUP, "LoRA", "a"]
    assert names(table.by("seconds")) == ["LoRA", MARKUP, "a"]
    assert names(table.by("seconds")) == [MARKUP, "LoRA", "a"], "what has none stays at the end"
    assert names(table.by("approach")) == [MARKUP, "LoRA", "a"]
    table.split = "known / rare"
    assert names(table) == ["LoRA"] and table.rows[0][1] == "0.300 [0.200, 0.400]"


def test_a_name_sifts(table):
    table.find = "lor"
    assert names(table) == ["LoRA"] and "1 approaches" in repr(table)
    table.find = "none of them"
    assert table.rows == [] and "0 of 0" in table.still()


def test_what_the_page_sends_is_what_code_can_type(table):
    table._handle_custom_msg({"choose": "LoRA"}, [])
    table._handle_custom_msg({"choose": "a"}, [])
    assert table.chosen == ["LoRA", "a"]
    assert [r["label"] for r in table.report.rows] == ["a", "LoRA", "LoRA"]
    table._handle_custom_msg({"choose": "LoRA"}, [])
    table._handle_custom_msg({"sort": "seconds"}, [])
    assert table.chosen == ["a"] and table.sort == "seconds"
    assert table.report.baseline == "a" and len(table.report.rows) == 1


def test_errors_of_the_page_are_shown_and_those_of_code_raised(table):
    table._handle_custom_msg({"choose": "LoRB"}, [])
    assert "Not done" in table.message and "LoRA" in table.message
    assert isinstance(table.error, EmbkitError)
    table._handle_custom_msg({"sort": "seconds"}, [])
    assert table.message == "" and table.error is None
    with pytest.raises(EmbkitError, match="seconds"):
        table.by("second")
    with pytest.raises(EmbkitError, match="without rows"):
        RunTable(Report([]))


def test_the_still_picture_is_escaped_and_in_the_bundle(table):
    data, _ = table._repr_mimebundle_()
    assert data["text/html"] == table.still()
    assert MARKUP not in table.still() and "&lt;b&gt;bold&lt;/b&gt;" in table.still()
    assert "innerHTML" not in table._esm
