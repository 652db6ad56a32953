"""The audit: planted problems are found with the right counts; sound data is left in peace."""

from __future__ import annotations

import html
import json
import math
import random
import re
import unicodedata
import zlib
from collections import Counter
from dataclasses import replace
from functools import cache

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from embkit.auditing import audit, base, labels, leaks
from embkit.auditing.base import Sample, quote
from embkit.auditing.report import CHECKS
from embkit.data import Domain, text_checks
from embkit.display import percent
from embkit.errors import EmbkitError
from embkit.evaluation.metrics import METRICS
from embkit.evaluation.scores import Scores
from tests.html_tables import Page


@cache
def made_up(n, seed=0):
    """Distinct words of no language."""
    rng, found = random.Random(seed), {}
    while len(found) < n:
        found["".join(rng.choice("bdfgklmnprstvz") + rng.choice("aeiou") for _ in range(4))] = None
    return list(found)


def clean(**changed):
    """900 documents of 4 words; a query has two of its document's words and two of its own."""
    pool = iter(made_up(6_000))
    corpus, queries = {}, {}
    qrels = {"train": {}, "dev": {}, "test": {}}
    for i in range(900):
        words = [next(pool) for _ in range(4)]
        corpus[f"d{i}"] = " ".join(words)
        queries[f"q{i}"] = f"{words[0]} {next(pool)} {words[2]} {next(pool)}"
        qrels["train" if i < 420 else "dev" if i < 520 else "test"][f"q{i}"] = {f"d{i}": 1}
    parts = {
        "name": "clean",
        "corpus": corpus,
        "queries": queries,
        "qrels": qrels,
        "test_splits": ("test",),
        "groups": {d: f"g{int(d[1:]) // 10}" for d in corpus},
        "held_out": "test",
    }
    return parts | changed


def audited(parts, **options):
    return audit(Domain(profile="smoke", **parts), **options)


def by_letters(texts):
    """A stand-in for a model: counts of letters, whatever their order."""
    counts = np.zeros((len(texts), 128))
    for row, text in enumerate(texts):
        for letter in text.lower():
            counts[row, min(ord(letter), 127)] += letter != " "
    return counts


def test_sound_data_is_ok_in_every_check():
    found = audited(clean())
    assert {f.name: f.verdict for f in found.findings} == {f.name: "ok" for f in found.findings}
    assert found.verdict == "ok" and len(found.findings) == len(CHECKS) - 2  # no own documents
    assert all(f.todo == "" for f in found.findings)
    assert "No model was given" in found.note
    assert found.domain_hash == Domain(profile="smoke", **clean()).hash


# One check at a time


def test_sizes_give_the_width_of_the_interval_from_the_number_of_queries_or_from_scores(
    tiny_domain,
):
    found = audit(tiny_domain)["sizes"]
    known, novel = len(tiny_domain.qrels["known"]), len(tiny_domain.qrels["novel"])
    assert found.verdict == "problem" and found.numbers["documents"] == 40
    assert found.numbers["known half-width"] == pytest.approx(1.96 * 0.45 / math.sqrt(known))
    assert found.numbers["known visible"] == pytest.approx(2.8016 * 0.2 / math.sqrt(known), 1e-4)
    assert "a test would tell two recipes apart that differ by" in str(found)
    assert found.numbers["novel queries"] == novel == 6
    right = {d for of in tiny_domain.qrels.values() for j in of.values() for d in j if j[d] > 0}
    assert found.numbers["ever right"] == len(right)
    values = np.linspace(0, 1, known)
    frame = pd.DataFrame(dict.fromkeys(METRICS, values), index=[f"q{i}" for i in range(known)])
    scores = Scores("base", "tiny", "00", "m", None, {"known": frame})
    width = audit(tiny_domain, scores=scores)["sizes"].numbers["known half-width"]
    low, high = stats.ttest_1samp(values, 0).confidence_interval()
    assert width == pytest.approx((high - low) / 2)


def test_a_missing_split_is_said():
    parts = clean()
    parts["qrels"]["dev"] = {}
    found = audited(parts)["sizes"]
    assert found.verdict == "look" and "no queries in dev" in found.sentence


def test_lengths_count_tokens_beyond_the_window_and_the_ratio(tiny_domain, tiny_model):
    long = {"eye0": "infection " * 60, "eye1": " ".join(["eye"] * 46), "eye2": "eye " * 47}
    domain = replace(tiny_domain, corpus=dict(tiny_domain.corpus) | long)
    found = audit(domain, model=tiny_model)["lengths"]
    assert found.numbers["documents, over the window"] == 2 / 40  # 46 words and 2 ends are 48
    assert found.numbers["queries, over the window"] == 0
    assert found.verdict == "look" and "62 tokens" in found.examples[0]
    assert len(found.examples) == 2
    flat = replace(tiny_domain, corpus={d: "eye " * 40 for d in tiny_domain.corpus})
    found = audit(flat)["lengths"]
    assert found.numbers["documents, words"] == 40 and found.numbers["ratio"] == 20
    assert found.verdict == "look" and "20 times as long" in found.sentence


def test_duplicates_of_each_kind_are_counted():
    parts = clean()
    corpus, queries = parts["corpus"], parts["queries"]
    corpus |= {"twin": corpus["d5"].upper(), "twin2": f"  {corpus['d5']} ", "twin3": corpus["d7"]}
    queries["q20"] = corpus["d20"]  # the text of its own document
    queries["q21"] = corpus["d22"]  # the text of another
    found = audited(parts)["duplicates"]
    assert found.numbers == {
        "documents": 3,
        "query is its document": 1,
        "query is another document": 1,
    }
    assert found.verdict == "look" and any("twin" in text for text in found.examples)
    corpus |= {f"twin of d{i}": corpus[f"d{i}"] for i in range(100, 150)}
    assert audited(parts)["duplicates"].verdict == "problem"


def test_near_duplicates_are_counted_by_letters_and_by_meaning_and_by_answer():
    parts = clean(held_out=None)
    queries, qrels = parts["queries"], parts["qrels"]
    for test, train in (("q600", "q1"), ("q601", "q2"), ("q602", "q3")):
        queries[test] = queries[train] + "s"
    qrels["test"]["q601"] = {"d2": 1, "d601": 1}  # what training taught is right here too
    for test, train, sign in (("q603", "q4", "w"), ("q604", "q5", "x")):  # the words turned round
        queries[test] = " ".join(queries[train].split()[::-1]) + sign
        qrels["test"][test] = qrels["train"][train]
    found = audited(parts)["near-duplicates across splits"]
    assert found.numbers["test, letters"] == 3 and found.numbers["dev, letters"] == 0
    assert found.numbers["test, same answer"] == 1 and "test, cosine" not in found.numbers
    assert found.verdict == "ok"  # fewer than 1 in 100

    def direction(*parts):
        return np.random.default_rng(zlib.crc32("".join(parts).encode())).standard_normal(1_000)

    def model(texts):  # the same letters: one vector; with w at cosine .95, with x at .85
        bags = [sorted(text.replace("w", "").replace("x", "")) for text in texts]
        away = [0.33 * ("w" in text) + 0.62 * ("x" in text) for text in texts]
        both = zip(bags, away, strict=True)
        return np.stack([direction(*bag) + a * direction(*bag, "!") for bag, a in both])

    found = audited(parts, model=model)["near-duplicates across splits"]
    assert found.numbers["test, letters"] == 3 and found.numbers["test, cosine"] == 1
    assert found.numbers["test, same answer"] == 2
    assert found.examples[0].startswith("test: ") and "the same answer" in found.examples[0]
    for i in range(300):  # memory answers most of dev and test
        queries[f"q{460 + i}"] = queries[f"q{i}"] + "s"
        qrels["dev" if i < 60 else "test"][f"q{460 + i}"] = {f"d{i}": 1}
    assert audited(parts)["near-duplicates across splits"].verdict == "problem"


def test_near_pairs_are_those_that_comparing_all_with_all_gives():
    rng = random.Random(1)
    words = made_up(60)
    texts = [" ".join(rng.choices(words, k=rng.randint(1, 9))) for _ in range(150)]

    def altered(text):
        letters = list(text)
        for _ in range(rng.randint(0, 4)):
            letters[rng.randrange(len(letters))] = rng.choice("abcdefgh")
        return "".join(letters)

    others = [altered(rng.choice(texts)) for _ in range(250)] + ["", "x", "日本語"]
    exact = {
        (i, j): a
        for i, left in enumerate(texts)
        for j, right in enumerate(others)
        if (a := text_checks.jaccard(text_checks.shingles(left), text_checks.shingles(right)))
        >= 0.8
    }
    found = {(i, j): a for i, j, a in text_checks.near_pairs(texts, others)}
    assert len(exact) > 60 and found.items() <= exact.items()
    assert len(found) >= 0.99 * len(exact)
    assert text_checks.near_pairs([], others) == [] == text_checks.near_pairs(texts, [])


def test_jaccard_by_hand():
    assert text_checks.shingles("Abc  def") == {"abc d", "bc de", "c def"}
    assert text_checks.shingles("ab") == {"ab"}
    assert text_checks.jaccard({"a", "b", "c"}, {"b", "c", "d"}) == 0.5
    assert text_checks.jaccard(set(), set()) == 0


def test_texts_from_one_template_are_not_all_compared_with_all(monkeypatch):
    calls = Counter()
    original = text_checks.jaccard
    monkeypatch.setattr(text_checks, "jaccard", lambda a, b: calls.update("x") or original(a, b))
    template = "what would be the best price of the new article with the number "
    left = [f"{template}{i:03d}" for i in range(200)]
    found = text_checks.near_pairs(left, [template + "007", template + "xyz", "no such thing"])
    assert (7, 0, 1.0) in found and calls["x"] <= 2 * text_checks.MOST


def test_queries_about_a_group_that_training_saw_are_counted():
    parts = clean(held_out=None)
    parts["groups"] |= {"d600": "g1", "d700": "g2"}
    found = audited(parts)["leakage by group"]
    assert found.verdict == "ok" and found.numbers == {"dev, seen": 0, "test, seen": 2}
    assert "test 2 of 380" in found.sentence


def test_without_groups_documents_count_and_a_test_of_nothing_new_is_to_be_looked_at():
    parts = clean(groups={}, held_out=None)
    assert audited(parts)["leakage by group"].numbers["test, seen"] == 0
    for i, query in enumerate(parts["qrels"]["test"]):
        parts["qrels"]["test"][query] = {f"d{i}": 1}
    found = audited(parts)["leakage by group"]
    assert found.numbers["test, seen"] == 380 and found.verdict == "look"
    assert "hold some documents out" in found.todo


def test_queries_that_copy_their_document_are_counted():
    parts = clean()
    for i in range(520, 620):
        parts["queries"][f"q{i}"] = parts["corpus"][f"d{i}"].replace(" ", " - ").upper()
    found = audited(parts)["queries that copy their document"]
    assert found.numbers["test, copies"] == 100 and found.numbers["train, copies"] == 0
    assert found.verdict == "look" and "100 of 380 (26.3%)" in found.sentence
    for i in range(620, 800):
        parts["queries"][f"q{i}"] = parts["corpus"][f"d{i}"]
    assert audited(parts)["queries that copy their document"].verdict == "problem"


@pytest.mark.parametrize(
    ("query", "document", "share"),
    [
        ("iron in the blood", "The blood, and iron!", 3 / 4),
        ("iron iron gout", "iron", 1 / 2),
        ("鉄が血", "血の鉄", 2 / 3),
        ("?!", "iron", 0),
    ],
)
def test_containment_by_hand(query, document, share):
    assert text_checks.containment(query, document) == pytest.approx(share)


def test_queries_that_nothing_finds_are_counted_and_a_model_may_find_some(monkeypatch):
    parts = clean()
    missing = made_up(3, seed=9)
    for i, word in enumerate(missing):
        parts["queries"][f"q{600 + i}"] = f"{word}zq"
        parts["corpus"][f"d{600 + i}"] = f"{word[::-1]}qz"  # no word in common, the same letters
    monkeypatch.setattr(labels, "SEARCHED", 5_000)
    found = audited(parts)["unanswerable queries"]
    assert found.verdict == "ok" and found.numbers["lost"] == found.numbers["missed by words"] == 3
    assert found.numbers["depth"] == 45 and found.numbers["sampled"] == 900
    assert any(missing[0] in text for text in found.examples)
    found = audited(parts, model=by_letters)["unanswerable queries"]
    assert found.numbers["missed by words"] == 3 and found.numbers["lost"] == 0
    monkeypatch.setattr(labels, "SEARCHED", 10)
    assert audited(parts)["unanswerable queries"].numbers["sampled"] == 10


def test_many_queries_without_a_word_of_their_document_are_to_be_looked_at():
    parts = clean()
    for i in range(300, 420):
        parts["queries"][f"q{i}"] = f"nowhere{i}"
    found = audited(parts)["unanswerable queries"]
    assert found.verdict == "look" and found.numbers["lost"] == 120 and "model=" in found.todo


def test_balance_by_hand():
    parts = clean()
    parts["qrels"]["train"] = {f"q{i}": {"d0": 2} for i in range(3)} | {"q3": {"d1": 1, "d2": 0}}
    found = audited(parts)["label balance"]
    assert found.numbers["gini"] == pytest.approx(0.25)  # pairs 3 and 1
    assert found.numbers["top tenth"] == pytest.approx(0.75) and found.verdict == "look"
    assert found.numbers["groups without a pair"] == 51  # 90, less 38 held out, less one
    assert "grades: 0 (1), 1 (481), 2 (3)" in found.sentence
    assert any(text.startswith("3 pairs") for text in found.examples)
    parts["qrels"]["train"] = {f"q{i}": {f"d{i}": 1} for i in range(40)}
    assert audited(parts)["label balance"].numbers["gini"] == pytest.approx(0)
    parts["qrels"]["train"] |= {f"q{i}": {"d0": 1} for i in range(40, 420)}
    assert audited(parts)["label balance"].numbers["top tenth"] == pytest.approx(384 / 420)
    assert audited(parts)["label balance"].verdict == "problem"


SOUND = [
    "Iron deficiency anemia, 2 < 3 & 4 > 1; a<b, AT&T; x & y;",
    "crème brûlée à la «façon» de Ménière – naïve, œuvre … “quoted”",
    "Straße, Übermaß, Ärger “so” und ‚so‘",
    "железодефицитная анемия",
    "فقر الدم",
    "می‌خواهم",  # a zero-width non-joiner where Persian wants it
    "鉄欠乏性貧血",
    "family 👨‍👩‍👧 and a flag",
    "one\ttab\r\nand two lines",
]


@pytest.mark.parametrize("text", SOUND)
def test_sound_texts_show_no_damage(text):
    assert text_checks.oddities(text) == []


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        ("CafÃ©", {"mojibake"}),
        ("MÃ©niÃ¨re’s disease", {"mojibake"}),
        ("donâ€™t", {"mojibake"}),
        ("don’t – “now” …".encode().decode("latin-1"), {"mojibake"}),
        ("железо".encode().decode("latin-1"), {"mojibake"}),
        ("smile 😀".encode().decode("cp1252"), {"mojibake"}),
        ("caf\ufffd", {"replacement character"}),
        ("iron\0deficiency", {"NUL"}),
        ("iron\x1bdeficiency", {"control character"}),
        ("iron\u200bdeficiency", {"invisible character"}),
        ("\ufeffiron", {"invisible character"}),
        ("iron \u202egnp", {"invisible character"}),
        (unicodedata.normalize("NFD", "Ménière"), {"not NFC"}),
        ("iron &amp; blood", {"HTML entity"}),
        ("iron &#39;s", {"HTML entity"}),
        ("iron <br/> blood", {"HTML tag"}),
        ("<script>alert(1)</script>", {"HTML tag"}),
        ("iron " * 3_000, {"very long line"}),
        ("<b>Caf\u00c3\u00a9</b>\0", {"mojibake", "HTML tag", "NUL"}),
    ],
)
def test_damage_is_named(text, kinds):
    assert set(text_checks.oddities(text)) == kinds


def test_damaged_texts_are_counted_over_documents_and_queries():
    parts = clean()
    for i in range(4):
        parts["corpus"][f"d{i}"] += " CafÃ©"
    parts["queries"]["q0"] += " <b>"
    found = audited(parts)["encoding"]
    assert found.numbers == {"mojibake": 4, "HTML tag": 1} and found.verdict == "look"
    for i in range(20):
        parts["corpus"][f"d{i}"] += "\0"
    assert audited(parts)["encoding"].verdict == "problem"


def test_scripts_and_languages():
    shares = text_checks.scripts(["abc абв", "αβγ 日本ひカ 12?"])
    assert shares == {"Han and kana": 4 / 13, "Latin": 3 / 13, "Cyrillic": 3 / 13, "Greek": 3 / 13}
    told = text_checks.languages(
        ["The heart of the matter, without doubt", "Das Herz und die Lunge", "gout"]
    )
    assert told == {"English": 1, "German": 1}


@pytest.mark.parametrize(
    ("query", "document"),
    [
        ("Entzündung der Lunge und des Herzens", "Inflammation of the lung and of the heart"),
        ("воспаление лёгких", "inflammation of the lung"),
    ],
)
def test_queries_in_another_language_than_the_documents_are_to_be_looked_at(query, document):
    parts = clean()
    parts["queries"] = {q: f"{query} {q}" for q in parts["queries"]}
    parts["corpus"] = {d: f"{document} {d}" for d in parts["corpus"]}
    found = audited(parts)["languages"]
    assert found.verdict == "look" and "multilingual" in found.todo


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("貧血の患者", "each character of Han and kana as a word"),
        ("โรคโลหิตจาง", "each character of Thai as a word"),
        ("железодефицитная", None),
        ("빈혈 환자", None),
    ],
)
def test_scripts_without_spaces_are_said_to_be_searched_by_character(text, told):
    parts = clean()
    parts["corpus"] |= {f"d{i}": f"{text} {i}" for i in range(300)}
    said = audited(parts)["languages"].sentence
    assert (
        (told in said and "BM25's figures are those of characters" in said)
        if told
        else ("each character" not in said)
    )
    parts = clean()
    parts["corpus"] |= {f"d{i}": f"{text} {i}" for i in range(9)}  # fewer than 1 letter in 20
    assert "each character" not in audited(parts)["languages"].sentence


def test_one_is_not_written_as_many():
    qrels = {"train": {"a": {"x": 1}}, "dev": {}, "test": {}}
    domain = Domain("one", "smoke", {"x": "iron"}, {"a": "irons"}, qrels, test_splits=("test",))
    said = audit(domain).to_text(1_000)
    assert "1 document; queries: 1 train" in said and "1 training pair over 1 document," in said
    assert "- 1 pair: “iron”" in said and "2 texts read" in said


def test_a_corpus_in_two_scripts_is_to_be_looked_at_with_examples():
    parts = clean()
    for i in range(90):
        parts["corpus"][f"d{i}"] = "железодефицитная анемия и подагра"
    found = audited(parts)["languages"]
    assert found.verdict == "look" and found.examples[0].startswith("documents, Cyrillic: ")


class Chunks:
    """A tokenizer that cuts a word into pieces of four letters; of z it knows nothing."""

    unk_token_id = 0

    def tokenize(self, text):
        return [w[i : i + 4] for w in text.split() for i in range(0, len(w), 4)]

    def __call__(self, texts, **_):
        return {"input_ids": [[0 if "z" in p else 1 for p in self.tokenize(t)] for t in texts]}


def chunked(texts):
    return by_letters(texts)


chunked.tokenizer = Chunks()


def test_fragmentation_by_hand():
    parts = clean()
    parts["corpus"] = {d: "mellitus mellitus iron" for d in parts["corpus"]}  # 2 + 2 + 1 pieces
    parts["queries"] = {q: f"nonproliferative x{q[1:]}" for q in parts["queries"]}  # 4 + 1
    found = audited(parts, model=chunked)["tokenizer fragmentation"]
    assert found.numbers["pieces a word"] == pytest.approx((5 + 5) / (3 + 2))
    assert found.numbers["split in three"] == pytest.approx(1 / 5)
    assert found.numbers["unknown"] == 0 and found.verdict == "look"
    assert found.examples == ("“nonproliferative” 900 times: nonp roli fera tive",)
    everyday = [len(w) for w in text_checks.letter_words([text_checks.EVERYDAY]).elements()]
    assert found.numbers["everyday English"] == pytest.approx(
        sum(-(-n // 4) for n in everyday) / len(everyday)
    )


def test_words_that_the_tokenizer_does_not_know_are_a_problem():
    parts = clean()
    parts["corpus"] = {d: "iron zinc" for d in parts["corpus"]}
    parts["queries"] = {q: f"iron {q[1:]}" for q in parts["queries"]}
    found = audited(parts, model=chunked)["tokenizer fragmentation"]
    assert found.numbers["unknown"] == pytest.approx(1 / 3) and found.verdict == "problem"


def test_pieces_of_a_real_tokenizer(tiny_model):
    from embkit.models.loading import load_model

    tokenizer = load_model(tiny_model).tokenizer
    found = text_checks.fertility(tokenizer, Counter({"eye": 2, "ocular": 1, "abc": 3, "é日": 1}))
    assert found == [
        ("eye", 2, 1, False),
        ("ocular", 1, 1, False),
        ("abc", 3, 3, False),
        ("é日", 1, 2, True),
    ]


# The report


def hostile():
    parts = clean()
    parts["name"] = "<img src=x>"
    parts["corpus"]["d1"] = "<script>alert('x')</script> \u202e\0 &amp;"
    parts["queries"]["q600"] = "<b onmouseover=alert(1)>\x1b[31m"
    parts["queries"] |= {f"q{i}": f"{i}" for i in range(700, 720)}
    return parts


def test_text_is_never_markup_and_control_characters_are_spelt_out():
    found = audited(hostile())
    page = found._repr_html_()
    assert "<script>alert" not in page and "<b onmouseover" not in page and "<img" not in page
    assert "&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt; \\u202e\\x00 &amp;amp;" in page
    text = found.to_text()
    for shown in (page, text):
        assert all(c.isprintable() or c == "\n" for c in shown)
    assert "<script>alert('x')</script>" in text and repr(found) == text


def test_every_finding_has_its_verdict_in_text_html_and_json():
    found = audited(hostile(), model=by_letters)
    text, page, data = found.to_text(60), found._repr_html_(), json.loads(found.to_json())
    assert found.verdict == data["verdict"] == "problem" and data["note"] == ""
    shown, cases = Page(page).tables
    assert len(data["findings"]) == len(found.findings) == len(shown) - 1
    assert [row[1] for row in cases[1:]] == [text for f in found.findings for text in f.examples]
    for finding, row in zip(found.findings, data["findings"], strict=True):
        assert finding.name in text and finding.name in page
        assert row["verdict"] == finding.verdict in ("ok", "look", "problem")
        assert row["numbers"] == finding.numbers and row["examples"] == list(finding.examples)
        assert bool(finding.todo) == (finding.verdict != "ok")
    assert max(map(len, text.splitlines())) <= 60
    assert text.startswith("<img src=x>: ") and text.count("✗ problem") == 1
    assert audited(hostile(), model=by_letters).to_json() == found.to_json()


def test_a_real_model_and_a_real_domain_work_together(tiny_domain, tiny_model):
    found = audit(tiny_domain, model=str(tiny_model))
    assert len(found.findings) == len(CHECKS) - 1 and found.note == ""  # no own documents
    assert found["leakage by group"].numbers["novel, seen"] == 0
    assert found["duplicates"].numbers["documents"] == 0


def test_twenty_documents_and_three_queries():
    parts = {
        "name": "small",
        "corpus": {f"d{i}": f"{word} thing" for i, word in enumerate(made_up(20))},
        "queries": {"a": "one", "b": "two", "c": "three"},
        "qrels": {"train": {"a": {"d0": 1}}, "dev": {"b": {"d1": 1}}, "test": {"c": {"d2": 1}}},
        "test_splits": ("test",),
    }
    for model in (None, by_letters):
        found = audited(parts, model=model)
        assert found["sizes"].verdict == "problem"
        assert found.to_text() and found._repr_html_() and json.loads(found.to_json())


@pytest.mark.parametrize("asked", [[], ["train"], ["test"]])
def test_labels_that_are_missing_are_no_crash(asked):
    qrels = {s: {"a": {"x": 1}} if s in asked else {} for s in ("train", "dev", "test")}
    domain = Domain("bare", "smoke", {"x": "?"}, {"a": "!"}, qrels, test_splits=("test",))
    found = audit(domain, model=by_letters)
    assert found["sizes"].verdict == "problem" and found.to_text()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("icd10cm", "'icd10cm'"),
        ({"corpus": {"a": "b"}, "queries": {"b": "c"}, "qrels": {}}, "dict"),
    ],
)
def test_bad_input_is_said_once(given, words):
    with pytest.raises(EmbkitError) as error:
        audit(given)
    assert words in error.value.given and error.value.hint


def test_an_unknown_finding_names_the_nearest():
    with pytest.raises(EmbkitError) as error:
        audited(clean())["duplicate"]
    assert error.value.hint == "did you mean 'duplicates'?"


def test_shares_and_quotes_read_as_what_they_are():
    assert [percent(x) for x in (0, 0.0001, 0.5, 0.9999, 1)] == [
        "0.0%", "<0.1%", "50.0%", ">99.9%", "100.0%",
    ]  # fmt: skip
    assert quote("a" * 100) == "“" + "a" * 79 + "…”"
    assert quote("a\u200b\n b\0") == "“a\\u200b b\\x00”"


# Large domains


def test_a_large_domain_is_sampled_and_the_report_says_so(monkeypatch):
    """Limits of a few hundred stand for those of 50,000; damage and copies are still counted."""
    monkeypatch.setattr(base, "TEXTS", 300)
    monkeypatch.setattr(labels, "TEXTS", 300)
    monkeypatch.setattr(Sample.some, "__defaults__", (300,))
    monkeypatch.setattr(Sample.of, "__defaults__", (300,))
    monkeypatch.setattr(leaks, "NEAR", 50)
    monkeypatch.setattr(base, "NEAR", 50)
    corpus = clean()["corpus"]
    twin = {"twin": corpus["d899"].upper()}
    monkeypatch.setattr(labels, "SEARCHED", 100)
    found = audited(clean(corpus=corpus | twin))
    sampled = (
        "Sampled: lengths, languages and encoding read 300 of 901 documents and 300 of 900 "
        "queries; copies were looked for in 300 of 420 train queries and 300 of 380 test queries; "
        "near-duplicates were looked for in 50 of 100 dev queries and 50 of 380 test queries; "
        "near-duplicates were compared with 300 of 420 train queries. Labels "
        "and equal texts are counted in full."
    )
    assert found.note.startswith("No model was given") and found.note.endswith(f". {sampled}")
    assert sampled in " ".join(found.to_text().split())
    assert html.escape(sampled) in found._repr_html_()
    assert json.loads(found.to_json())["note"] == found.note
    assert "600 texts read" in found["encoding"].sentence
    assert "dev: 0 of 50" in found["near-duplicates across splits"].sentence
    assert found["duplicates"].numbers["documents"] == 1  # however far apart they stand
    assert found["sizes"].numbers["documents"] == 901


def test_a_query_with_very_many_right_documents_does_not_make_its_sample_the_corpus(monkeypatch):
    monkeypatch.setattr(labels, "TEXTS", 300)
    monkeypatch.setattr(Sample.some, "__defaults__", (300,))
    parts = clean(held_out=None)
    parts["qrels"]["train"]["q0"] = dict.fromkeys(parts["corpus"], 1)
    monkeypatch.setattr(labels, "SEARCHED", 1)
    said = audited(parts)["unanswerable queries"].sentence
    searched = int(re.search(r"when (\d+) documents are searched", said)[1])
    assert 300 <= searched <= 320 and "0 of 1 " in said


def test_nothing_is_said_of_samples_where_all_was_read():
    found = audited(clean(), model=by_letters)
    assert found.note == ""
