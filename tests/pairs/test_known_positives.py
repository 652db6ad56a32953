"""What is known to be right for a query is no negative of it, whatever part is trained on."""

import dataclasses

import pytest
from datasets import Dataset

from embkit import Recipe, mine, training_pairs
from embkit.data import Domain
from embkit.losses.batches import Apart
from embkit.pairs.pairs import batch_sampler, batches, in_batch_false_negatives

N = 24


@pytest.fixture
def ring():
    """Query i is right for documents i, i + 1 and i + 2: each document is right for three."""
    train = {f"q{i}": {f"d{(i + k) % N}": 1 for k in range(3)} for i in range(N)}
    corpus = {f"d{i}": f"page {i} shows chain and brake" for i in range(N + 3)}
    queries = {q: f"chain or brake {q}" for q in train}
    other = {f"t{k}": {f"d{N + k}": 1} for k in range(2)}
    queries |= {q: f"asked elsewhere {q}" for q in other}
    qrels = {"train": train, "dev": {"t0": other["t0"]}, "test": {"t1": other["t1"]}}
    return Domain("ring", "smoke", corpus, queries, qrels, ("test",))


@pytest.fixture
def right(ring):
    """Query text -> the ids that the judgements call right."""
    return {ring.queries[q]: set(judged) for q, judged in ring.qrels["train"].items()}


@pytest.mark.parametrize("most", [None, 30])
@pytest.mark.parametrize("unique", ["texts", "families"])
@pytest.mark.parametrize("negatives", [0, 2])
def test_no_row_of_a_batch_shows_what_is_right_for_another(ring, right, most, unique, negatives):
    recipe = Recipe(max_pairs=most, unique_in_batch=unique, hard_negatives=negatives, miner="bm25")
    pairs = training_pairs(recipe, ring)
    found = batches(pairs, 8, 1, unique)
    assert sorted(i for batch in found for i in batch) == list(range(len(pairs)))
    for batch in found:
        for i in batch:
            for j in set(batch) - {i}:
                shown = {pairs.rows[j][2], *(pairs.mined.negatives[j] if negatives else ())}
                assert not shown & right[pairs.rows[i][1]]
    assert in_batch_false_negatives(pairs, found)["known positive"] == 0
    assert in_batch_false_negatives(pairs, [range(len(pairs))])["known positive"] > 0


def test_a_file_of_pairs_says_which_rows_may_not_meet(ring, tmp_path):
    pairs = training_pairs(Recipe(max_pairs=30), ring)
    pairs.record().to_json(tmp_path / "pairs.jsonl")
    read = Dataset.from_json(str(tmp_path / "pairs.jsonl"), cache_dir=str(tmp_path))
    assert Apart(read).values == Apart(pairs.record()).values
    assert "also" in read.column_names
    assert "also" not in training_pairs(Recipe(), ring).record().column_names  # the rows say it


def test_the_corpus_softmax_knows_what_it_is_not_trained_on(ring, right):
    pairs = training_pairs(Recipe(approach="corpus", max_pairs=10), ring)
    ids = list(ring.corpus)
    for (_, anchor, document), places in zip(pairs.rows, pairs.places(), strict=True):
        assert ids[places[0]] == document
        assert {ids[place] for place in places if place >= 0} == right[anchor]


def test_mining_knows_what_it_is_not_trained_on(ring, right):
    options = {"miner": "random", "hard_negatives": N}  # all the documents that are left
    pairs = training_pairs(Recipe(max_pairs=10, **options, range_max=100), ring)
    by_hand = mine(ring, pairs.rows, N, miner="random", range_max=100)
    for mined in (pairs.mined, by_hand):
        for anchor, negatives in zip(mined.anchors, mined.negatives, strict=True):
            assert not right[anchor].intersection(negatives)


def test_the_shuffled_control_knows_no_label(ring):
    pairs = training_pairs(Recipe(shuffle_labels=True, max_pairs=10), ring)
    assert not pairs.known


def test_the_library_makes_the_batches_where_texts_say_it_all(ring):
    own = {q: {d: 1} for q, d in zip(ring.qrels["train"], ring.corpus, strict=False)}
    pairs = training_pairs(Recipe(), dataclasses.replace(ring, qrels={**ring.qrels, "train": own}))
    assert batch_sampler(pairs) == "no_duplicates"
    assert batch_sampler(training_pairs(Recipe(), ring)) != "no_duplicates"
    alone = Recipe(approach="triplet", hard_negatives=1, miner="bm25")  # no other row's documents
    assert batch_sampler(training_pairs(alone, ring)) == "no_duplicates"
