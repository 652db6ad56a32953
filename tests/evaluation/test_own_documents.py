"""Queries that stand in the corpus under their own id, as in ArguAna, do not find themselves."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest

import embkit as ek
from embkit.auditing import audit
from embkit.data import Domain, load_domain
from embkit.evaluation.hybrid import choose_weight
from embkit.pairs.mining import mine
from embkit.pairs.pairs import TrainingPairs
from embkit.search.hybrid import Fusion
from embkit.search.index import BM25, Dense, exact_search
from embkit.search.tiered import TieredIndex

TEXTS = {f"c{i}": f"claim {word} is argued at length" for i, word in enumerate("abcdef")}
TEXTS |= {"n0": "claim a counter", "n1": "claim b counter", "n2": "claim c counter"}
PLACES = [0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 0.3, 1.3, 2.3]
ANGLES = dict(zip(TEXTS.values(), PLACES, strict=True))


def embed(texts):
    """Claims a radian apart; the counter-argument of each of the first three is nearest to it."""
    return np.array([[np.cos(ANGLES[t]), np.sin(ANGLES[t])] for t in texts])


def arguments(**changed):
    """Three queries, each a document's text under the document's id."""
    parts = {
        "name": "arguments",
        "profile": "smoke",
        "corpus": TEXTS,
        "queries": {q: TEXTS[q] for q in ("c0", "c1", "c2")},
        "qrels": {"train": {"c0": {"n0": 1}}, "dev": {"c1": {"n1": 1}}, "test": {"c2": {"n2": 1}}},
        "test_splits": ("test",),
    }
    return Domain(**parts | changed)


def test_ndcg_with_and_without_the_own_document_by_hand(store):
    domain = arguments()
    assert domain.own == {"c0", "c1", "c2"}
    # with it: the query itself is first, the right one second
    index = Dense(embed, list(TEXTS.values()))
    assert index.search([TEXTS["c2"]], 2)[0].tolist() == [[2, 8]]
    ranking = {"c2": {"c2": 1.0, "n2": 0.9}}
    second = ek.evaluation.score(ranking, domain, "test", ["ndcg@10", "hit@1"]).loc["c2"]
    assert second.tolist() == [pytest.approx(1 / math.log2(3)), 0.0]
    # without it, whatever searches
    for what in (embed, "bm25", Fusion(embed), TieredIndex):
        if what is TieredIndex:
            vectors = embed([*TEXTS.values()]).astype(np.float32)
            found = TieredIndex(vectors, size=2).search(vectors[2:3], 3, hidden=[2])
            assert found[0][0, 0] == 8 and 2 not in found[0]
            continue
        assert "c2" not in ek.rank(what, domain, "test")["c2"]
    scores = ek.evaluate(embed, domain, save=False)
    assert scores.mean("test") == scores.mean("test", "hit@1") == 1.0
    assert choose_weight(domain, embed, weights=(1,)).dev == {1: 1.0}


def test_what_bears_the_same_id_is_not_always_the_same():
    other = arguments(queries={"c0": "first", "c1": "second", "c2": "third"})
    assert not other.own  # numbers that only coincide
    titled = TEXTS | {"c2": f"A title {TEXTS['c2'].upper()}", "c1": f"{TEXTS['c1']} and more"}
    assert arguments(corpus=titled).own == {"c0", "c2"}
    judged = arguments().qrels | {"test": {"c2": {"c2": 1, "n2": 1}}}
    kept = arguments(qrels=judged)
    assert kept.own == {"c0", "c1"}  # what is judged right is found
    assert next(iter(ek.rank(embed, kept, "test")["c2"])) == "c2"
    assert arguments().hash != other.hash


@pytest.mark.parametrize("k", [1, 4, 30])
def test_any_search_leaves_one_place_a_query_out(k):
    rng = np.random.default_rng(0)
    queries, documents = (rng.normal(size=(n, 8)).astype(np.float32) for n in (5, 30))
    hidden = [*exact_search(queries, documents, 1)[0][:3, 0].tolist(), -1, 7]
    indices, scores = exact_search(queries, documents, k, hidden)
    every = exact_search(queries, documents, 30)
    assert indices.shape == (5, k)
    for row, one in enumerate(hidden):
        kept = every[0][row] != one
        wanted = [*every[0][row][kept], *[-1] * 30][:k]
        assert indices[row].tolist() == wanted
        found = indices[row] >= 0
        assert scores[row][found].tolist() == every[1][row][kept][:k].tolist()
        assert np.isneginf(scores[row][~found]).all()
    words = BM25(["iron", "iron anemia", "cough"])
    assert words.search(["iron", "iron"], 3, [0, -1])[0].tolist() == [[1, -1, -1], [0, 1, -1]]


@pytest.mark.parametrize("miner", ["dense", "bm25", "random"])
def test_it_is_never_mined_and_meets_its_query_in_no_batch(miner):
    qrels = {"train": {"c0": {"c1": 1}, "c1": {"c0": 1}}}
    domain = arguments(qrels=arguments().qrels | qrels | {"dev": {}})
    rows = [("c0", TEXTS["c0"], "c1"), ("c1", TEXTS["c1"], "c0")]
    for hidden in (0.0, 1.0):  # a miner that is told nothing of what is right knows this
        mined = mine(domain, rows, 3, miner=miner, model=embed, hidden_positives=hidden)
        assert all(q not in found for (q, _, _), found in zip(rows, mined.negatives, strict=True))
    also = TrainingPairs(domain, tuple(rows)).record()["also"][:]
    assert also == [[TEXTS["c0"]], [TEXTS["c1"]]]


def test_the_audit_and_the_report_say_it(tmp_path):
    domain = arguments()
    found = audit(domain)
    assert found["own documents"].numbers == {"left out": 3}
    assert "3 of 3" in found["own documents"].sentence and found["own documents"].verdict == "ok"
    assert found["duplicates"].numbers["query is another document"] == 0
    twin = audit(arguments(corpus=TEXTS | {"twin": TEXTS["c2"]}))
    assert twin["duplicates"].numbers["query is another document"] == 1
    plain = arguments(queries={"c0": "first", "c1": "second", "c2": "third"})
    assert "own documents" not in {one.name for one in audit(plain).findings}
    ek.export.to_beir(domain, tmp_path / "arguments")
    read = load_domain(tmp_path / "arguments", profile="workshop")
    assert read.own == domain.own
    assert any("3 queries are documents too" in note for note in read.report.notes)


def test_judged_documents_that_the_corpus_lacks_are_counted(tmp_path, store):
    ek.export.to_beir(arguments(), tmp_path / "cut")
    rows = [("c2", "x1", 1), ("c2", "x2", 2), ("c2", "x3", 0), ("lost", "x4", 1)]
    with (tmp_path / "cut" / "qrels" / "test.tsv").open("a") as file:
        file.write("".join("\t".join(map(str, row)) + "\n" for row in rows))
    with (tmp_path / "cut" / "queries.jsonl").open("a") as file:
        file.write(json.dumps({"_id": "lost", "text": "all of its documents are missing"}) + "\n")
    read = load_domain(tmp_path / "cut", profile="workshop")
    assert read.missing_judged == {"test": 3}
    assert any("3 judged documents of test are not in the corpus" in n for n in read.report.notes)
    scores = ek.evaluate("bm25", read)
    assert scores.meta["missing_judged"] == {"test": 3}
    # scores that were kept from before it was counted
    ek.evaluation.Scores.save(
        replace(scores, meta={"bm25": BM25.VERSION}), next(store.rglob("scores.json"))
    )
    assert ek.evaluate("bm25", read).meta["missing_judged"] == {"test": 3}
