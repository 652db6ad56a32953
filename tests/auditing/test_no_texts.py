"""Texts that are no texts are told by their kind; what only looks like one is left in peace."""

import time

import pytest

from embkit.auditing import audit
from embkit.data.text_checks import ids, no_text
from tests.auditing.test_audit import audited, clean

EMPTY, LISTED, DIGITS = "nan / None as text", "a list printed as text", "digits alone"
AN_ID = "an id instead of a text"


@pytest.mark.parametrize(
    ("kind", "texts"),
    [
        (
            EMPTY,
            ["nan", "NaN", "None", "null", "NULL", "N/A", "#N/A", "<NA>", "undefined", " nan "],
        ),
        (DIGITS, ["524399", "12.0", "-3", "1,234,567", "1e-05", "2019-04-01", "12:30", "٣٤٥"]),
        (
            LISTED,
            [
                "['a', 'b']",
                '["a"]',
                '[ "a long text, of which there is only one in the list, as readers print it" ]',
                "{'text': 'a', 'id': 3}",
                '{"text": "a"}',
                '[{"text": "a"}]',
                "[['a'], ['b']]",
                "['a' 'b']",
                "[b'raw', b'bytes']",
                "array(['a', 'b'], dtype=object)",
                "array([0.1, 0.2], dtype=float32)",
                "[0.12, -3.4e-05, 7]",
                "[[0.1 0.2]\n [0.3 0.4]]",
                '["It\'s a trap", nan]',
                "[None, 'a']",
                "[nan]",
                "[]",
                "{}",
                "\n['a']\n",
                "['" + "a" * 100_000 + "']",
            ],
        ),
    ],
)
def test_the_kind_is_named(kind, texts):
    assert {text: no_text(text) for text in texts} == dict.fromkeys(texts, kind)


@pytest.mark.parametrize(
    "text",
    [
        "B12",
        "E11.9",
        "iPhone",
        "i2c",
        "3D",
        "d17",
        "covid-19",
        "nan bread",
        "Nan",
        "None of these",
        "none",
        "null hypothesis",
        "undefined behaviour",
        "NA",
        "1984 by George Orwell",
        "12 monkeys",
        "3.14 is less than 22/7",
        "[citation needed]",
        "[1] Smith et al., 2019 [in German]",
        "['Tis the season]",
        "[None of the above]",
        "[[Main Page]]",
        "[x for x in y]",
        "{{Infobox person}}",
        "{x | x > 0}",
        "{\\displaystyle x^2}",
        "array(3) makes an array (of zeros)",
        "array of [3]",
        "['a', 'b'] is how Python prints a list",
        "(see 'a', 'b')",
        "“nan”",
        "",
    ],
)
def test_near_misses_are_texts(text):
    assert no_text(text) is None


def test_long_texts_cost_next_to_nothing():
    texts = [
        "word " * 20_000,
        "[ " * 50_000 + "x]",
        "[1, " * 50_000 + "x]",
        "['" + "a'b" * 50_000 + "]",
    ]
    started = time.perf_counter()
    assert [no_text(text) for text in texts] == [None] * 4
    assert time.perf_counter() - started < 20, "no text is read over and over"


@pytest.mark.parametrize(
    "form", ["d{}", "q_{}", "{}", "1f{}-9c", "https://host/item?id={}", "B{}.1"]
)
def test_a_column_of_ids_is_told_from_many_texts_together(form):
    column = [form.format(i) for i in range(100, 200)]
    assert ids(column) and ids([*column, "a text", "and one more"])
    assert not ids(column[:19]), "B12, i2c and mp3 are texts that people search for"
    assert not ids([*column, *["a text of words"] * 20]) and not ids(column[:2] * 50)


def test_columns_of_texts_are_no_ids():
    assert not ids(["B12", "E11.9", "iPhone", "i2c", "vitamin D", "GPT-4", "H2O", "wd40"] * 10)
    assert not ids([f"第{i}章" for i in range(100)]), "a sentence may have no space"
    assert not ids([f"what is {i}" for i in range(100)]) and not ids([])
    assert not ids([chr(97 + i % 26) * (i + 1) for i in range(100)]), "words without a digit"


def test_sound_texts_are_said_to_be_texts():
    found = audited(clean())["texts that are no texts"]
    assert found.verdict == "ok" and found.numbers == {"right pairs": 0} and not found.todo


def test_what_is_no_text_is_counted_by_kind_with_its_pairs():
    parts = clean()
    parts["corpus"] |= {"d0": "nan", "d1": "['a', 'b']", "d2": "[]", "lone": "17"}
    parts["queries"] |= {"q1": "524399", "q5": "None"}
    found = audited(parts)["texts that are no texts"]
    assert found.numbers == {
        f"documents, {EMPTY}": 1,
        f"documents, {LISTED}": 2,
        f"documents, {DIGITS}": 1,
        f"queries, {DIGITS}": 1,
        f"queries, {EMPTY}": 1,
        "right pairs": 4,
    }
    assert found.verdict == "look" and "4 of 900 (0.4%) right pairs" in found.sentence
    assert "2 of 901 (0.2%) a list printed as text" in found.sentence
    assert f"{LISTED}, documents d1: “['a', 'b']”" in found.examples and found.todo
    parts["corpus"] |= {f"d{i}": f"['part {i}']" for i in range(100, 107)}
    assert audited(parts)["texts that are no texts"].verdict == "problem"


def test_a_few_documents_of_many_pairs_are_a_problem():
    parts = clean()
    parts["corpus"]["d0"] = "nan"
    parts["qrels"]["train"] |= {f"q{i}": {"d0": 1} for i in range(20)}
    found = audited(parts)["texts that are no texts"]
    assert found.numbers["right pairs"] == 20 and found.verdict == "problem"


def test_a_column_of_ids_is_a_problem():
    parts = clean()
    parts["corpus"] = {d: f"doc_{d[1:]}" for d in parts["corpus"]} | {
        "d3": "a real text",
        "d4": "7",
    }
    found = audited(parts)["texts that are no texts"]
    assert found.numbers[f"documents, {AN_ID}"] == 898 and found.verdict == "problem"
    assert found.numbers[f"documents, {DIGITS}"] == 1 and found.numbers["right pairs"] == 899


def test_pictures_are_no_ids(monkeypatch, tiny_domain):
    monkeypatch.setattr(
        "embkit.auditing.texts.is_picture", lambda text: text.startswith("picture:")
    )
    parts = clean()
    parts["corpus"] = {d: f"picture:{d}" for d in parts["corpus"]}
    assert audited(parts)["texts that are no texts"].verdict == "ok"
    assert audit(tiny_domain)["texts that are no texts"].verdict == "ok"
