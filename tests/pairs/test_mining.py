"""Hard negatives: each rule by hand, and sentence-transformers' own miner as the reference."""

import dataclasses

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer, mine_hard_negatives
from sentence_transformers.base.modules import Dense, Router
from sentence_transformers.sentence_transformer.modules import Normalize

from embkit.errors import EmbkitError
from embkit.pairs.mining import mine
from embkit.pairs.pairs import collect
from embkit.pairs.rules import relatives
from embkit.search.index import BM25


@pytest.fixture
def model(tiny_model):
    return SentenceTransformer(str(tiny_model), device="cpu")


@pytest.fixture
def rows(tiny_domain):
    return collect(tiny_domain, "human")[0]


def vectors(table):
    """An embed function of a table text -> unit vector in the plane, given as an angle."""
    return lambda texts: np.array([[np.cos(table[t]), np.sin(table[t])] for t in texts])


@pytest.fixture
def line(tiny_domain):
    """Documents d0..d6 at growing angles from the query q, and the embed function of them."""
    texts = {f"d{i}": f"document {i}" for i in range(7)}
    angles = {"query": 0.0} | {f"document {i}": 0.1 * (i + 1) for i in range(7)}
    domain = dataclasses.replace(
        tiny_domain,
        corpus=texts,
        queries={"q": "query", "x": "other", "y": "another"},
        qrels={"train": {"q": {"d2": 1}}, "dev": {"x": {"d6": 1}}, "test": {"y": {"d5": 1}}},
        test_splits=("test",),
        groups={},
        held_out=None,
        parents={},
        negatives={"q": ("d6", "d2")},
    )
    return domain, vectors(angles)


def found(line, **options):
    domain, embed = line
    return mine(domain, [("q", "query", "d2")], model=embed, **options)


def test_the_best_ranked_wrong_documents_are_taken_with_their_scores(line):
    mined = found(line, n=3)
    assert mined.negatives == (("d0", "d1", "d3"),)
    np.testing.assert_allclose(mined.scores[0], np.cos([0.1, 0.2, 0.4]), atol=1e-6)
    np.testing.assert_allclose(mined.positive_scores, np.cos([0.3]), atol=1e-6)
    assert mined.removed["known positive"] == 1 and mined.filled == 0
    assert mined.candidates == 7


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"range_min": 1}, ["d1", "d3"]),
        ({"range_max": 2}, ["d0", "d1"]),
        ({"relative_margin": 0.0}, ["d3", "d4"]),
        # cos .3 = .955; the bounds are .907 (cos .434) and .860 (cos .536)
        ({"relative_margin": 0.05}, ["d4", "d5"]),
        ({"relative_margin": 0.1}, ["d5", "d6"]),
    ],
)
def test_window_and_margin(line, options, expected):
    assert list(found(line, **({"n": 2} | options)).negatives[0]) == expected


def test_relatives_and_twins_of_the_positive_are_never_negatives(line):
    domain, embed = line
    parents = {"d2": "d0", "d0": "d4", "d1": "d2"}  # d4 above d0 above d2 above d1
    corpus = domain.corpus | {"d3": "Document  2"}
    table = {"query": 0.0, "Document  2": 0.3} | {f"document {i}": 0.1 * (i + 1) for i in range(7)}
    domain = dataclasses.replace(domain, corpus=corpus, parents=parents)
    mined = mine(domain, [("q", "query", "d2")], 2, model=vectors(table))
    assert mined.negatives == (("d5", "d6"),)
    assert mined.removed["relatives of a positive"] == 3
    assert mined.removed["same text as a positive"] == 1
    kept = mine(domain, [("q", "query", "d2")], 2, model=vectors(table), keep_relatives=True)
    assert kept.negatives == (("d0", "d1"),)


def test_every_positive_of_the_same_text_is_spared(line):
    domain, embed = line
    pairs = [("q", "query", "d2"), ("other id", "query", "d0")]
    mined = mine(domain, pairs, 2, model=embed)
    assert mined.negatives == (("d1", "d3"), ("d1", "d3"))
    # the margin is taken from the least similar positive
    strict = mine(domain, pairs, 2, model=embed, relative_margin=0.0)
    assert strict.negatives == (("d3", "d4"), ("d3", "d4"))


def test_a_hidden_positive_is_taken_as_a_negative_unless_the_margin_catches_it(line):
    assert found(line, n=3, hidden_positives=1.0).negatives == (("d0", "d1", "d2"),)
    caught = found(line, n=2, hidden_positives=1.0, relative_margin=0.05)
    assert caught.negatives == (("d4", "d5"),)


def test_the_reranker_filter_removes_what_it_prefers_and_asks_for_no_more_than_it_needs(line):
    asked = []

    def scores(texts):
        asked.extend(document for _, document in texts)
        return [{"document 2": 1.0, "document 0": 2.0}.get(d, 0.0) for _, d in texts]

    mined = found(line, n=2, reranker_filter=scores)
    assert mined.negatives == (("d1", "d3"),)
    assert mined.removed["reranker filter"] == 1
    assert asked == ["document 2", "document 0", "document 1", "document 3"]


def test_random_places_of_the_window_are_seeded_and_stay_inside(line):
    seen = {found(line, n=2, sampling="random", range_max=4, seed=s).negatives for s in range(20)}
    assert len(seen) > 2
    assert {d for (row,) in seen for d in row} == {"d0", "d1", "d3", "d4"}
    again = found(line, n=2, sampling="random", range_max=4, seed=3)
    assert again.negatives == found(line, n=2, sampling="random", range_max=4, seed=3).negatives


def test_human_negatives_come_first_and_the_rest_is_filled(line):
    mined = found(line, n=2, miner="human")
    assert mined.negatives[0][0] == "d6"  # d2 is the positive: spared although marked
    assert mined.negatives[0][1] in {"d0", "d1", "d3", "d4", "d5"}
    assert mined.filled == 1 and np.isnan(mined.scores).all()


def test_random_negatives_are_wrong_distinct_and_seeded(tiny_domain, rows):
    mined = mine(tiny_domain, rows, 3, miner="random", seed=1)
    for (_, _, positive), negatives in zip(rows, mined.negatives, strict=True):
        assert len(set(negatives)) == 3 and positive not in negatives
    assert mined.negatives == mine(tiny_domain, rows, 3, miner="random", seed=1).negatives
    assert mined.negatives != mine(tiny_domain, rows, 3, miner="random", seed=2).negatives


def test_bm25_negatives_are_its_ranking_less_the_positive(tiny_domain, rows):
    mined = mine(tiny_domain, rows, 2, miner="bm25")
    ids, index = list(tiny_domain.corpus), BM25(list(tiny_domain.corpus.values()))
    for row, (_, anchor, positive) in enumerate(rows):
        places, scores = index.search([anchor], len(ids))
        spared = {positive, *relatives(tiny_domain.parents)[positive]}
        wanted = [ids[p] for p, s in zip(places[0], scores[0], strict=True) if s > 0]
        wanted = [d for d in wanted if d not in spared][:2]
        assert list(mined.negatives[row])[: len(wanted)] == wanted
    assert mined.filled == sum(np.isnan(mined.scores).ravel())


def test_what_shares_no_word_is_no_bm25_negative(tiny_domain):
    pairs = [("q0", "injury wrench", "eye0"), ("q1", "wrench zz", "eye0")]
    mined = mine(tiny_domain, pairs, 7, miner="bm25", range_min=2)
    shares = [d for d, text in tiny_domain.corpus.items() if "njury" in text]
    taken = ~np.isnan(mined.scores)
    assert mined.candidates == len(shares) and mined.removed["before the window"] == 2
    assert taken.sum(axis=1).tolist() == [len(shares) - 2, 0]
    assert list(mined.negatives[0][: len(shares) - 2]) == shares[2:]
    assert mined.filled == 14 - (len(shares) - 2) and "eye0" not in mined.negatives[1]


@pytest.mark.parametrize(
    "rules",
    [
        {},
        {"range_min": 2, "range_max": 12},
        {"range_max": 20, "relative_margin": 0.05},
        {"range_min": 1, "range_max": 15, "relative_margin": 0.0},
    ],
)
@pytest.mark.parametrize("ways", ["plain", "prompts", "routes"])
def test_the_same_negatives_as_sentence_transformers(tiny_domain, rows, model, rules, ways):
    if ways == "prompts":
        model.prompts |= {"query": "pain in the liver: ", "document": "one eye, "}
    if ways == "routes":
        model.append(other_way_for_documents())
    rules = {"range_max": 10} | rules
    texts = list(tiny_domain.corpus.values())
    assert len(set(texts)) == len(texts)
    mined = mine(tiny_domain, rows, 2, model=model, keep_relatives=True, **rules)
    data = collect_dataset(tiny_domain, rows)
    theirs = mine_hard_negatives(
        data,
        model,
        query_prompt_name="query",
        corpus_prompt_name="document",
        corpus=texts,
        num_negatives=2,
        output_format="n-tuple",
        output_scores=True,
        verbose=False,
        **rules,
    )
    kept = {
        (anchor, positive): ([first, second], scores)
        for anchor, positive, first, second, scores in zip(
            *(theirs[c][:] for c in ("anchor", "positive", "negative_1", "negative_2", "scores")),
            strict=True,
        )
    }
    assert kept
    for row, (_, anchor, document) in enumerate(rows):
        if (anchor, tiny_domain.corpus[document]) in kept:
            negatives, scores = kept[anchor, tiny_domain.corpus[document]]
            assert [tiny_domain.corpus[d] for d in mined.negatives[row]] == negatives
            np.testing.assert_allclose(mined.scores[row], scores[1:], atol=1e-5)
            np.testing.assert_allclose(mined.positive_scores[row], scores[0], atol=1e-5)
        else:  # it drops rows that are short of negatives; here they are filled
            assert np.isnan(mined.scores[row]).any()


def other_way_for_documents():
    """Queries as they are, and documents through a random matrix."""
    torch.manual_seed(1)
    matrix = Dense(32, 32, bias=False, activation_function=torch.nn.Identity())
    return Router.for_query_document([Normalize()], [matrix, Normalize()])


def collect_dataset(domain, rows):
    from datasets import Dataset

    return Dataset.from_dict(
        {"anchor": [a for _, a, _ in rows], "positive": [domain.corpus[d] for _, _, d in rows]}
    )


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"n": 0}, "at least one negative"),
        ({"n": 7}, "neither right nor relatives"),
        ({"n": 6}, "neither right nor relatives"),
        ({"n": 3, "range_min": 4, "range_max": 6}, "ranks 4 to 6"),
        ({"miner": "densee"}, "did you mean 'dense'"),
        ({"sampling": "best"}, "unknown sampling"),
    ],
)
def test_bad_input(line, options, words):
    domain, embed = line
    domain = dataclasses.replace(domain, parents={"d2": "d0"})
    with pytest.raises(EmbkitError, match=words):
        mine(domain, [("q", "query", "d2")], model=embed, **({"n": 1, "range_max": 20} | options))


def test_it_shows_itself_with_markup_as_text(line):
    domain, embed = line
    domain = dataclasses.replace(domain, corpus=domain.corpus | {"d0": "<script>alert(1)</script>"})
    table = {"query": 0.0, "<script>alert(1)</script>": 0.1}
    table |= {f"document {i}": 0.1 * (i + 1) for i in range(7)}
    mined = mine(domain, [("q", "query", "d2")], 1, model=vectors(table))
    assert "<script>" not in mined._repr_html_() and "&lt;script&gt;" in mined._repr_html_()
    assert "known positive 1" in repr(mined)
