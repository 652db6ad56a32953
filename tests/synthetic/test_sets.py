"""Filters, published sets and their cards: what is kept, what is not, and what is never asked."""

import dataclasses
import json
import re
from functools import partial
from unittest import mock

import numpy as np
import pytest

from embkit import session
from embkit.errors import EmbkitError
from embkit.synthetic import sets
from embkit.synthetic.generation import Generated, Row, read_set
from embkit.synthetic.prompts import PROMPTS
from embkit.synthetic.sets import RULES, eligible_documents, filter_generated, make_set, write_set


@pytest.fixture
def data(monkeypatch, tmp_path):
    """The folder that stands for the clone's ``data``."""
    found = dataclasses.replace(session.paths(), data=tmp_path / "data")
    monkeypatch.setattr(sets, "paths", lambda: found)
    return tmp_path / "data"


def letters(texts):
    """Letter counts: a stand-in for a general model."""
    return np.array([[t.lower().count(c) for c in "abcdefghijklmnopqrstuvwxyz"] for t in texts])


def written(domain, *rows):
    """Generated with (document, query) rows; a tuple of three has a kind."""
    rows = tuple(Row(row[0], row[1], *row[2:]) if row[2:] else Row(*row, "layman") for row in rows)
    return Generated(
        rows=rows,
        failed={},
        stopped=None,
        texts=dict(domain.corpus),
        backend="by hand",
        prompt=PROMPTS["general"],
        settings={"seed": 1},
        counts={"queries": len(rows)},
    )


def removed(filtered):
    return {rule: [row.query for row, _ in rows] for rule, rows in filtered.removed.items() if rows}


def test_documents_held_out_for_testing_may_not_be_asked_about(tiny_domain):
    found = eligible_documents(tiny_domain)
    assert set(found) == {d for d, g in tiny_domain.groups.items() if g != "brain"}
    assert found["eye0"] == tiny_domain.corpus["eye0"]


def test_nor_those_of_groups_that_dev_alone_asks_about(tiny_domain):
    qrels = {s: dict(judged) for s, judged in tiny_domain.qrels.items()}
    for query, judged in tiny_domain.qrels["train"].items():
        if any(document.startswith("eye") for document in judged):
            del qrels["train"][query]
    domain = dataclasses.replace(tiny_domain, qrels=qrels)
    assert {domain.groups[d] for d in eligible_documents(domain)} == {
        "ear",
        "skin",
        "heart",
        "lung",
        "bone",
        "liver",
    }


def test_a_domain_without_groups_may_be_asked_about_everything(tiny_domain):
    domain = dataclasses.replace(tiny_domain, groups={}, held_out=None)
    assert eligible_documents(domain) == domain.corpus


def test_each_rule_removes_its_own(tiny_domain):
    own = dict(tiny_domain.corpus)
    generated = written(
        tiny_domain,
        ("eye4", "Ocular  ACHE?"),  # asked in known
        ("ear0", "sepsis in one ear"),  # asked in dev
        ("ear0", "my ear is infected"),
        ("ear1", "My ear is infected!"),  # the same text again
        ("ear2", "aural growth"),  # a query of train
        ("skin0", own["skin0"].upper() + "."),  # the title
        ("skin1", "the injury of skin"),  # 4 of its 4 words
        ("lung4", "zzzz"),  # leads elsewhere
        ("bone4", "bone hurts"),
    )
    found = filter_generated(generated, tiny_domain, retriever=letters, top_k=20)
    assert list(found.removed) == list(RULES)
    assert removed(found) == {
        "copy": [own["skin0"].upper() + ".", "the injury of skin"],
        "test query": ["Ocular  ACHE?", "sepsis in one ear"],
        "duplicate": ["My ear is infected!", "aural growth"],
        "round trip": ["zzzz"],
    }
    assert [row.query for row in found.rows] == ["my ear is infected", "bone hurts"]
    why = {row.query: why for rows in found.removed.values() for row, why in rows}
    assert why["Ocular  ACHE?"] == "a query of 'known'" and "'dev'" in why["sepsis in one ear"]
    assert why["My ear is infected!"] == "already written for ear0 (layman)"
    assert why["aural growth"] == "a query of 'train'"
    assert why["the injury of skin"] == "100% of their words are the same"
    assert why["zzzz"].startswith("not among the first 20; its first is")


def test_the_counts_are_of_what_reached_a_rule(tiny_domain):
    generated = written(
        tiny_domain,
        ("eye4", "ocular ache"),
        ("ear0", "my ear"),
        ("ear1", "my ear"),
        ("ear2", "my ears"),
    )
    found = filter_generated(generated, tiny_domain, retriever=None)
    assert [[cells[0], *cells[2:]] for cells in found.table().cells] == [
        ["test query", "1", "25.0%", "3"],
        ["duplicate", "1", "33.3%", "2"],
        ["copy", "0", "0.0%", "2"],
    ]
    assert "2 of 4 queries kept" in repr(found) and "33.3%" in repr(found)
    assert ["duplicate", "my ear"] in [cells[:2] for cells in found.removed_examples(5).cells]
    assert [row.document for row in found.rows] == ["ear0", "ear2"]


def test_the_round_trip_agrees_with_a_search_by_hand(tiny_domain):
    rng = np.random.default_rng(0)
    ids = list(tiny_domain.corpus)
    rows = [
        (ids[i], f"query {chr(97 + n)} {ids[i]}") for n, i in enumerate(rng.integers(0, 40, 25))
    ]
    generated = written(tiny_domain, *rows)
    found = filter_generated(generated, tiny_domain, retriever=letters, top_k=3)
    documents = letters(tiny_domain.corpus.values()).astype(float)
    documents /= np.linalg.norm(documents, axis=1, keepdims=True)
    kept = []
    for document, query in rows:
        scores = documents @ letters([query])[0]
        better = (scores > scores[ids.index(document)] + 1e-6).sum()
        kept += [query] if better < 3 else []
    assert 0 < len(kept) < 25 and [row.query for row in found.rows] == kept


def test_a_twin_of_the_document_is_as_good(tiny_domain):
    documents = {"a": "pain of the rib", "b": "Pain of the rib", "c": "itching"}
    qrels = {"train": {"q00": {"a": 1}}, "dev": {}, "known": {}, "brain": {}}
    domain = mock.Mock(corpus=documents, queries={"q00": "a"}, qrels=qrels, split=qrels.get)
    generated = written(domain, ("b", "my rib hurts"), ("c", "my rib itches"))
    found = filter_generated(generated, domain, retriever="bm25", top_k=1)
    assert [row.document for row in found.rows] == ["b"], "by words alone, the first twin wins"


def test_a_query_whose_words_no_document_has_is_lost(tiny_domain):
    generated = written(tiny_domain, ("eye0", "wrench"), ("ear1", "injury of one ear"))
    found = filter_generated(generated, tiny_domain, retriever="bm25", top_k=40)
    assert [row.document for row in found.rows] == ["ear1"]
    ((_, why),) = found.removed["round trip"]
    assert why == "no document shares a word with it"


def test_a_named_model_and_a_loaded_one_do_the_same(tiny_domain, tiny_model):
    from embkit.models.loading import load_model

    generated = written(tiny_domain, ("eye0", "ocular sepsis here"), ("ear1", "injury one ear"))
    by_name = filter_generated(generated, tiny_domain, retriever=tiny_model, top_k=5)
    loaded = filter_generated(generated, tiny_domain, retriever=load_model(tiny_model), top_k=5)
    assert by_name.rows == loaded.rows and removed(by_name) == removed(loaded)


def test_nothing_and_one_left(tiny_domain, data):
    generated = written(tiny_domain, ("ear0", "aural"), ("ear1", "aural"), ("ear2", "aural pus"))
    lost = {"retriever": letters, "top_k": 1}
    none = filter_generated(generated, tiny_domain, **lost)
    assert none.rows == () and "0 of 3 queries kept" in none._repr_html_()
    with pytest.raises(EmbkitError, match="'round trip' removed 2"):
        write_set(none, tiny_domain, "empty")
    twice = written(tiny_domain, ("ear0", "my ear"), ("ear1", "my ear"), ("ear2", "my ear?"))
    one = filter_generated(twice, tiny_domain, retriever=None)
    assert len(one) == 1 and "1 of 3 queries kept" in repr(one)
    assert len(read_set(write_set(one, tiny_domain, "one"))) == 3
    nothing = filter_generated(written(tiny_domain), tiny_domain, retriever=letters)
    assert "0 of 0 queries kept" in repr(nothing) and not nothing.rows


def test_bad_bounds(tiny_domain):
    with pytest.raises(EmbkitError, match="top_k=0"):
        filter_generated(written(tiny_domain), tiny_domain, retriever=None, top_k=0)


def test_queries_of_another_domain(tiny_domain):
    with pytest.raises(EmbkitError, match="1 queries are of documents that are not searched"):
        filter_generated(written(tiny_domain, ("nose0", "my nose")), tiny_domain, retriever=None)


def test_a_page_is_escaped(tiny_domain):
    generated = written(tiny_domain, ("ear0", "<script>ear"), ("ear1", "<i>x"), ("ear2", "<i>x"))
    page = filter_generated(generated, tiny_domain, retriever=None)._repr_html_()
    assert "&lt;script&gt;" in page and "<script>" not in page and "<i>" not in page


# Files


def test_a_set_holds_what_was_removed_too(tiny_domain, data):
    generated = written(
        tiny_domain,
        ("ear0", "my | ear"),
        ("ear1", "aural ache"),
        ("ear2", "another ear", "keyword"),
    )
    path = write_set(
        filter_generated(generated, tiny_domain, retriever=None),
        tiny_domain,
        "mine",
        command="python -m embkit generate tiny --limit 3",
    )
    assert path == data / "tiny" / "mine.jsonl"
    assert read_set(path) == [
        {"query": "my | ear", "document": "ear0", "kind": "layman", "kept": True}
        | {"removed_by": None},
        {"query": "aural ache", "document": "ear1", "kind": "layman", "kept": False}
        | {"removed_by": "test query"},
        {"query": "another ear", "document": "ear2", "kind": "keyword", "kept": True}
        | {"removed_by": None},
    ]
    card = re.sub(" +", " ", path.with_suffix(".md").read_text())  # columns are padded
    for part in (
        "`python -m embkit generate tiny --limit 3`",
        "| model | by hand |",
        "| seed | 1 |",
        "| kept | 2 queries for 2 documents |",
        "| layman | 2 | 1 | 50% |",
        "| test query | asked word for word in a test split or in dev | 1 | 33.3% | 2 |",
        "| test query | aural ache | Injury of the ear | a query of 'known' |",
        "my \\| ear",
        PROMPTS["general"].render("{document}", "layman"),
        PROMPTS["general"].render("{document}", "keyword"),
        f"content {tiny_domain.hash}",
    ):
        assert part in card, part
    assert PROMPTS["general"].render("{document}", "question") not in card, "was not asked"


def test_unfiltered_queries_can_be_written(tiny_domain, data):
    path = write_set(written(tiny_domain, ("ear0", "an ear")), tiny_domain, "raw")
    assert [row["kept"] for row in read_set(path)] == [True]
    assert "## Filters" not in path.with_suffix(".md").read_text()


@pytest.mark.parametrize("name", ["", "human", "a b", "../x", "x.jsonl", "smollm2:all"])
def test_bad_names(tiny_domain, data, name):
    with pytest.raises(EmbkitError, match="a set named"):
        write_set(written(tiny_domain, ("ear0", "an ear")), tiny_domain, name)


def test_queries_for_a_held_out_document_are_refused(tiny_domain, data):
    generated = written(tiny_domain, ("ear0", "an ear"), ("brain0", "my brain"))
    with pytest.raises(EmbkitError, match=r"held out for testing.*brain0"):
        write_set(generated, tiny_domain, "leak")
    assert not data.exists()


def test_a_set_that_people_made_is_not_overwritten(tiny_domain, data):
    generated = written(tiny_domain, ("ear0", "an ear"))
    path = write_set(generated, tiny_domain, "mine")
    write_set(generated, tiny_domain, "mine")  # its own may be made again
    path.with_suffix(".md").write_text("# Written by people")
    path.write_text("precious")
    for _ in range(2):
        with pytest.raises(EmbkitError, match="made in another way"):
            write_set(generated, tiny_domain, "mine")
        path.with_suffix(".md").unlink(missing_ok=True)
    assert path.read_text() == "precious"


# All of it


class Patient:
    """A backend that says where it hurts; counts what it is asked."""

    name = "patient 1.0"
    batch_size = 4

    def __init__(self, dies_at=None):
        self.prompts, self.dies_at = [], dies_at

    def generate(self, prompts, **_):
        self.prompts += prompts
        if self.dies_at and len(self.prompts) >= self.dies_at:
            raise KeyboardInterrupt
        titles = [prompt.split("Document: ")[-1].split("\n")[0] for prompt in prompts]
        return [f"help, {title.split()[-1]} {title.split()[0].lower()}" for title in titles]


def make(domain, backend, *, top_k=10, **options):
    rules = partial(filter_generated, retriever=letters, top_k=top_k)
    with mock.patch.object(sets, "filter_generated", rules):
        return make_set(domain, backend, **({"limit": 20} | options))


def test_a_set_is_made_whole(tiny_domain, data):
    patient = Patient()
    path, filtered = make(tiny_domain, patient, top_k=5)
    assert path.name == "patient.jsonl" and len(patient.prompts) == 60
    assert not [prompt for prompt in patient.prompts if "brain" in prompt]
    rows = read_set(path)
    assert len(rows) == 60 and sum(row["kept"] for row in rows) == len(filtered.rows) == 20
    assert {row["removed_by"] for row in rows} == {None, "duplicate"}, "three kinds, one answer"
    assert not {row["document"] for row in rows} & {f"brain{i}" for i in range(5)}
    before = {file.name: file.read_bytes() for file in path.parent.iterdir()}
    again = Patient()
    make(tiny_domain, again, top_k=5)
    assert not again.prompts, "all of it was answered already"
    assert {file.name: file.read_bytes() for file in path.parent.iterdir()} == before
    card = before["patient.md"].decode()
    assert "python -m embkit generate tiny --limit 20 --profile smoke`" in card


def test_a_set_is_never_written_in_part(tiny_domain, data):
    with pytest.raises(KeyboardInterrupt):
        make(tiny_domain, Patient(dies_at=20))
    with pytest.raises(EmbkitError, match=r"budget of 4 prompts.*20 queries done.*40 left"):
        make(tiny_domain, Patient(), budget=4)
    assert not data.exists()
    rest = Patient()
    make(tiny_domain, rest)
    assert len(rest.prompts) == 40


def test_the_card_names_each_option(tiny_domain, data):
    path, _ = make(tiny_domain, Patient(), limit=2, name="words", seed=3, per_document=2)
    assert path.name == "words.jsonl" and len(read_set(path)) == 12
    assert "--seed 3 --name words --per-document 2`" in path.with_suffix(".md").read_text()


def test_the_domains_own_prompt_is_taken(tiny_domain, data):
    domain = dataclasses.replace(tiny_domain, name="icd10cm")
    patient = Patient()
    path, _ = make(domain, patient, limit=2)
    assert patient.prompts[0].startswith(PROMPTS["icd10cm"].render("x", "keyword")[:50])
    assert path.parent.name == "icd10cm"


def test_what_a_recipe_reads_is_what_was_written(tiny_domain, data, monkeypatch):
    from embkit.pairs import pairs as training

    monkeypatch.setattr(training.session, "paths", sets.paths)
    path, filtered = make(tiny_domain, Patient())
    rows, dropped = training.collect(tiny_domain, path.stem)
    assert [(anchor, document) for _, anchor, document in rows] == [
        (row.query, row.document) for row in filtered.rows
    ]
    assert not dropped and len(training.collect(tiny_domain, "patient:all")[0]) == 60


def test_each_line_is_json_of_its_own(tiny_domain, data):
    path, _ = make(tiny_domain, Patient(), limit=2)
    keys = [list(json.loads(line)) for line in path.read_text().splitlines()]
    assert keys == [["query", "document", "kind", "kept", "removed_by"]] * 6
