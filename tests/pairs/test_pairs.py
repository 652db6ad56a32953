"""Training pairs by source, and what may meet in a batch."""

import dataclasses
import itertools
import json

import pytest

from embkit import session
from embkit.errors import EmbkitError
from embkit.pairs.pairs import batches, collect, in_batch_false_negatives, sets, source_hash
from embkit.recipes.recipe import Recipe
from embkit.training.trainer import training_pairs


@pytest.fixture
def data(monkeypatch, tmp_path):
    """A data folder of the test's own."""
    real = session.paths()
    monkeypatch.setattr(
        session, "paths", lambda: dataclasses.replace(real, data=tmp_path, runs=tmp_path / "runs")
    )
    return tmp_path


def write_set(data, domain, rows, name="made"):
    path = data / domain.name / f"{name}.jsonl"
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def held_out_document(domain):
    return next(d for d in domain.corpus if domain.groups[d] in domain.tested_groups)


def trained_document(domain):
    return next(iter(sorted(domain.trained_documents)))


def test_human_pairs_are_the_training_split(tiny_domain):
    rows, dropped = collect(tiny_domain, "human")
    assert dropped == {}
    assert {(q, d) for q, _, d in rows} == {
        (q, d) for q, judged in tiny_domain.qrels["train"].items() for d in judged
    }
    assert all(tiny_domain.queries[q] == anchor for q, anchor, _ in rows)


def test_a_set_gives_its_kept_rows_and_all_of_them_when_asked(data, tiny_domain):
    document = trained_document(tiny_domain)
    rows = [
        {"query": "one", "document": document},
        {"query": "two", "document": document, "kept": False, "removed_by": "copies"},
        {"query": "three", "document": document, "split": "test"},
    ]
    write_set(data, tiny_domain, rows)
    assert [anchor for _, anchor, _ in collect(tiny_domain, "made")[0]] == ["one"]
    assert [anchor for _, anchor, _ in collect(tiny_domain, "made:all")[0]] == ["one", "two"]
    both = collect(tiny_domain, ["human", "made"])[0]
    assert len(both) == len(collect(tiny_domain, "human")[0]) + 1
    assert sets(tiny_domain) == ["made"]
    write_set(data, tiny_domain, [], name="corpus")  # a folder in BEIR's layout may lie there
    assert sets(tiny_domain) == ["made"]


def test_no_row_of_a_set_leaks_a_test_into_training(data, tiny_domain):
    asked = tiny_domain.queries[next(iter(tiny_domain.qrels["known"]))]
    document = trained_document(tiny_domain)
    rows = [
        {"query": "fine", "document": document},
        {"query": f"  {asked.upper()} ", "document": document},
        {"query": "held out", "document": held_out_document(tiny_domain)},
        {"query": "elsewhere", "document": "no such document"},
    ]
    write_set(data, tiny_domain, rows)
    found, dropped = collect(tiny_domain, "made")
    assert [anchor for _, anchor, _ in found] == ["fine"]
    assert dropped == {
        "made: query asked in a dev or test split": 1,
        "made: document of a group held out for testing": 1,
        "made: document not in this profile": 1,
    }


def test_an_unknown_source_names_the_known_ones(data, tiny_domain):
    write_set(data, tiny_domain, [{"query": "q", "document": trained_document(tiny_domain)}])
    with pytest.raises(EmbkitError, match="human, made"):
        collect(tiny_domain, "maid")


def test_a_changed_set_is_another_run(data, tiny_domain):
    document = trained_document(tiny_domain)
    write_set(data, tiny_domain, [{"query": "one", "document": document}])
    first = source_hash(tiny_domain, ["human", "made"])
    assert source_hash(tiny_domain, ["human"]) == ""
    write_set(data, tiny_domain, [{"query": "two", "document": document}])
    assert source_hash(tiny_domain, ["human", "made"]) != first != ""


def test_negatives_are_columns_beside_the_pair(tiny_domain, tiny_model):
    recipe = Recipe(model=str(tiny_model), hard_negatives=2, miner="random")
    pairs = training_pairs(recipe, tiny_domain)
    data = pairs.dataset()
    assert data.column_names == ["anchor", "positive", "negative_1", "negative_2"]
    for row, negatives in zip(data, pairs.mined.negatives, strict=True):
        assert [row["negative_1"], row["negative_2"]] == [tiny_domain.corpus[d] for d in negatives]
        assert row["positive"] not in (row["negative_1"], row["negative_2"])


@pytest.mark.parametrize("unique", ["texts", "families"])
def test_what_must_be_unique_never_meets_in_a_batch(tiny_domain, unique):
    pairs = training_pairs(Recipe(unique_in_batch=unique), tiny_domain)
    found = batches(pairs, 4, seed=3, unique=unique)
    assert sorted(itertools.chain(*found)) == list(range(len(pairs)))
    for batch in found:
        documents = [pairs.rows[i][2] for i in batch]
        keys = [tiny_domain.groups[d] for d in documents] if unique == "families" else documents
        assert len(set(keys)) == len(keys)
    assert ("family" in pairs.record().column_names) == (unique == "families")


def test_false_negatives_in_batches_by_hand(tiny_domain):
    a, b = sorted(tiny_domain.trained_documents)[:2]
    other = next(d for d in tiny_domain.corpus if tiny_domain.groups[d] != tiny_domain.groups[a])
    domain = dataclasses.replace(
        tiny_domain,
        groups=tiny_domain.groups | {b: tiny_domain.groups[a]},
        parents={b: a},
        held_out=None,
    )
    base = training_pairs(Recipe(), domain)
    rows = (
        ("1", "first", a),
        ("2", "second", a),  # the same document
        ("3", "third", b),  # its child, of its group
        ("4", "first", other),  # the first query's other right answer
    )
    pairs = dataclasses.replace(base, rows=rows)
    assert in_batch_false_negatives(pairs, [[0, 1, 2, 3]]) == {
        "negatives": 12,
        "same document": 2,
        "known positive": 3,  # row 4's document for row 1; rows 1's and 2's for row 4
        "relatives": 4,
        "same family": 6,
    }
    assert in_batch_false_negatives(pairs, [[0], [1, 3], [2]])["negatives"] == 2
