"""The domain docstrings: what is a document, who asks, where an answer stands, what is held out."""

import dataclasses
import json

import pytest

from embkit import session
from embkit.data import load_domain
from embkit.data.domain import normalise
from embkit.data.sources import docstrings
from embkit.data.sources.docstrings import WINDOW, WORD, behind, split_of, standing
from embkit.data.splits import query_id

SUMMARY = "Turn one thing into another."
REST = " ".join(f"word{i}" for i in range(80))


@pytest.fixture(scope="module")
def smoke():
    return load_domain("docstrings", profile="smoke")


def module_of(document):
    return document.split(":")[0]


def test_no_module_of_dev_or_a_test_is_trained_on(smoke):
    modules = {
        split: {module_of(d) for _, d in smoke.right(split)} for split in (*smoke.qrels, "train")
    }
    assert all(modules.values()) and set(modules) == {"train", "dev", "novel", "near", "far"}
    for split, found in modules.items():
        own = split if split in ("train", "dev") else "novel"
        assert {split_of(module) for module in found} == {own}, split
    assert smoke.groups == {d: module_of(d) for d in smoke.corpus}
    assert smoke.test_splits == ("novel", "near", "far") and smoke.held_out == "novel"


def test_near_and_far_are_as_far_as_they_say(smoke):
    asked = session.paths().data / "docstrings" / docstrings.QUESTIONS
    answers = {}
    for row in map(json.loads, asked.read_text(encoding="utf-8").splitlines()):
        answers[row["query"], row["document"]] = row["answer"]
    for split, is_far in (("near", False), ("far", True)):
        assert smoke.right(split)
        for query, document in smoke.right(split):
            text = " ".join(smoke.corpus[document].split())
            answer = " ".join(answers[smoke.queries[query], document].split())
            before, found, _ = text.partition(answer)
            assert found and (len(WORD.findall(before)) >= WINDOW) == is_far


def test_documents_are_long_and_do_not_hold_their_first_sentence(smoke):
    lengths = [len(WORD.findall(text)) for text in smoke.corpus.values()]
    assert min(lengths) >= docstrings.WORDS and sum(n > WINDOW for n in lengths) > len(lengths) / 5
    for query, document in smoke.right("novel"):
        assert " ".join(smoke.queries[query].split()) not in smoke.corpus[document]


def test_smoke_is_small_and_the_same_each_time(smoke):
    assert 100 < len(smoke.corpus) < 1000 and all(d.startswith("numpy") for d in smoke.corpus)
    assert load_domain("docstrings", profile="smoke").hash == smoke.hash


def test_where_an_answer_stands_by_hand():
    assert behind("one, two three", "two") == 2  # a word and a mark
    assert behind("one\n  two   three", "two three") == 1
    assert behind("one two", "two two") is None
    assert behind("a (b) c", "(b)") == 1, "signs are no pattern"


@pytest.mark.parametrize("text", ["One line. More.", "One\n   line. More.", "0 One line. More."])
@pytest.mark.parametrize("phrase", ["One line.", " One  line.\n"])
def test_where_a_phrase_begins_and_ends(phrase, text):
    start, end = standing(phrase, text)
    assert text[start:end].split() == ["One", "line."]
    assert text[:start] + "|" + text[end:] in ("| More.", "0 | More.")


def module_for(split):
    return next(f"numpy.m{i}" for i in range(1000) if split_of(f"numpy.m{i}") == split)


def test_questions_go_to_dev_near_and_far_and_what_is_gone_is_counted(monkeypatch, tmp_path):
    far = f"{'w ' * WINDOW}the answer stands here, after {REST}"
    homes = {split: f"{module_for(split)}:f" for split in ("novel", "dev", "train")}
    rows = [(homes[s], module_of(homes[s]), f"{SUMMARY} {s}", f"{s} {far}") for s in homes]
    # a twin of a trained document in a held-out module is one document, and asked for by nobody new
    rows.append((f"{module_for('novel')}:g", module_for("novel"), "Do the same.", f"train {far}"))
    monkeypatch.setattr(docstrings, "_documented", lambda profile: iter(rows))
    asked = [
        {"query": "far away?", "document": homes["novel"], "answer": "the answer  stands"},
        {"query": "near by?", "document": homes["novel"], "answer": "novel"},
        {"query": "on dev?", "document": homes["dev"], "answer": "the answer"},
        {"query": "lost?", "document": homes["novel"], "answer": "no longer there"},
        {"query": "elsewhere?", "document": "numpy.other:f", "answer": "one"},
        {"query": f"{SUMMARY} novel", "document": homes["novel"], "answer": "novel"},
    ]
    (tmp_path / "docstrings").mkdir()
    file = tmp_path / "docstrings" / docstrings.QUESTIONS
    file.write_text("".join(json.dumps(row) + "\n" for row in asked))
    real = session.paths()
    monkeypatch.setattr(docstrings, "paths", lambda: dataclasses.replace(real, data=tmp_path))
    domain = docstrings.load("smoke")
    texts = {split: {domain.queries[q] for q in judged} for split, judged in domain.qrels.items()}
    assert texts == {
        "train": {f"{SUMMARY} train", "Do the same."},
        "dev": {f"{SUMMARY} dev", "on dev?"},
        "novel": {f"{SUMMARY} novel"},
        "near": {"near by?"},
        "far": {"far away?"},
    }
    assert domain.qrels["far"][query_id("far away?")] == {homes["novel"]: 1}
    assert "2 of them ask for what" in domain.about["limits"].replace("\n", " ")


def test_a_docstring_is_parted_into_its_summary_and_the_rest(monkeypatch, tmp_path):
    (tmp_path / "numpy").mkdir()
    (tmp_path / "numpy" / "__init__.py").write_text("")
    (tmp_path / "numpy" / "m.py").write_text(
        f'def shown(a):\n    """f(a)\n\n    {SUMMARY}\n\n    {REST}\n    """\n'
        f'def short(a):\n    """{SUMMARY}\n\n    A little. {"x" * 80}\n    """\n'
        f'def _hidden(a):\n    """{SUMMARY}\n\n    {REST}\n    """\n'
        f'class Box:\n    """{SUMMARY}\n\n    {REST} more\n    """\n'
    )
    spec = type("spec", (), {"origin": str(tmp_path / "numpy" / "__init__.py")})
    monkeypatch.setattr(docstrings, "find_spec", lambda name: spec)
    monkeypatch.setattr(docstrings, "share", lambda text: 0.0)
    found = list(docstrings._documented("smoke"))
    assert found == [
        ("numpy.m:shown", "numpy.m", SUMMARY, f"f(a)\n\n{REST}"),
        ("numpy.m:Box", "numpy.m", SUMMARY, f"{REST} more"),
    ]


def test_what_was_read_again_is_what_the_page_beside_it_says():
    folder = session.paths().data / "docstrings"
    read = lambda name: map(json.loads, (folder / name).read_text().splitlines())  # noqa: E731
    asked = {
        (query_id(normalise(row["query"])), row["document"]) for row in read(docstrings.QUESTIONS)
    }
    graded = {(row["query"], row["document"]): row["grade"] for row in read("reviewed.jsonl")}
    own = {pair: grade for pair, grade in graded.items() if pair in asked}
    assert {query for query, _ in graded} == {query for query, _ in own}
    weak, beside = [grade for grade in own.values() if grade < 2], graded.keys() - own.keys()
    said = " ".join((folder / "questions.md").read_text().split())
    assert f"{len(own)} drawn at random" in said and f"In {len(weak)} of {len(own)}" in said
    assert f"for {len({query for query, _ in beside})} of {len(own)} another docstring" in said
