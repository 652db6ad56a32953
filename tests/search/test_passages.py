"""Search by passages, against every score counted one by one."""

import numpy as np
import pytest
from PIL import Image

from embkit.data.images import keep_picture
from embkit.data.passages import cut
from embkit.errors import EmbkitError
from embkit.models.loading import load_model
from embkit.models.window import cut_for, offsets_of
from embkit.search.hybrid import Hybrid
from embkit.search.index import BM25, Dense, places_of
from embkit.search.passages import PassageIndex, Passages, best_mean, index_of, matching
from tests.families import make_family

WORDS = [f"w{i}" for i in range(12)]


def embed(texts):
    """Counts of letters, whole numbers: sums are exact, and ties are many."""
    rows = [[text.count(letter) + 0.5 for letter in "w123"] for text in texts]
    return np.array(rows, np.float32)


@pytest.fixture
def texts():
    rng = np.random.default_rng(0)
    return [" ".join(rng.choice(WORDS, n)) for n in (1, 70, 8, 30, 8, 45, 100, 3)]


def by_hand(how, model, queries, texts, of="text"):
    """Each document's score for each query: the mean of its best passages', in float64."""
    from embkit.models.encoding import unit

    rows = []
    for query in queries:
        row = []
        for text, own in zip(texts, cut(texts, how.size, how.overlap), strict=True):
            shown = [text[p.start : p.end] for p in own]
            scores = sorted(unit(model(shown)) @ unit(model([query]))[0], reverse=True)
            row.append(float(np.mean(scores[: how.best])))
        rows.append(row)
    return np.array(rows)


@pytest.mark.parametrize("how", [{}, {"overlap": 3}, {"best": 2}, {"best": 50}])
@pytest.mark.parametrize("k", [1, 5, 8, 99])
def test_a_document_scores_what_its_best_passages_do(texts, how, k):
    how, queries = Passages(embed, size=8, **how), ["w1 w2", "w3", "w11 w11"]
    index, expected = PassageIndex(how, texts), by_hand(how, embed, queries, texts)
    places, scores = index.search(queries, k)
    assert places.shape == scores.shape == (3, min(k, 8))
    np.testing.assert_allclose(scores, -np.sort(-expected, axis=1)[:, :k], atol=1e-6)
    np.testing.assert_allclose(np.take_along_axis(expected, places, 1), scores, atol=1e-6)
    pairs = index.pair_scores(queries, [1, 6, 0])
    np.testing.assert_allclose(pairs, expected[[0, 1, 2], [1, 6, 0]], atol=1e-6)
    assert len(index) == sum(map(len, cut(texts, 8, how.overlap))) > len(texts)


def test_ties_go_to_the_lower_place_and_a_place_is_hidden(texts):
    index = PassageIndex(Passages(embed, size=8), ["w1 w2", "w3 " * 20, "w1 w2", "w1 w2"])
    assert index.search(["w1 w2"], 3)[0].tolist() == [[0, 2, 3]]
    found = index.search(["w1 w2", "w1 w2"], 4, hidden=[2, -1])
    assert found[0].tolist() == [[0, 3, 1, -1], [0, 2, 3, 1]] and np.isneginf(found[1][0, 3])


def test_the_passage_that_matched_is_shown():
    texts = ["w1 " * 8 + "w2 " * 8, "w3 w3"]
    index = PassageIndex(Passages(embed, size=8), texts)
    assert index.matched("w2 w2", [0, 1]) == ["w2 " * 7 + "w2", "w3 w3"]
    assert matching(index, "w1", texts, [0]) == ["w1 " * 7 + "w1"]
    assert matching(Hybrid(Passages(embed, size=8), texts), "w1", texts, [0])[0] == "w1 " * 7 + "w1"
    assert matching(index_of(embed, texts), "w1", texts, [0]) == [texts[0]]


def test_headings_stand_before_a_passage_that_is_encoded():
    asked = []

    def seen(texts):
        asked.extend(texts)
        return embed(texts)

    PassageIndex(Passages(seen, size=16, headings=True), ["# Top\n" + "w1 " * 30])
    assert sum(text.startswith("Top\nw1") for text in asked) == 2
    assert all(len(text.split()) <= 16 for text in asked)


def test_words_over_passages(texts):
    index = PassageIndex(Passages("bm25", size=8), texts)
    parts = [[t[p.start : p.end] for p in own] for t, own in zip(texts, cut(texts, 8), strict=True)]
    plain = BM25(sum(parts, []))
    every = np.concatenate(list(plain.scores(["w3 w7"])))[0]
    ends = np.cumsum([len(own) for own in parts])
    expected = [every[b - len(own) : b].max() for own, b in zip(parts, ends, strict=True)]
    places, scores = index.search(["w3 w7"], 8)
    order = sorted((i for i in range(8) if expected[i] > 0), key=lambda i: (-expected[i], i))
    assert places[0].tolist() == order + [-1] * (8 - len(order)) and len(order) < 8
    np.testing.assert_allclose(index.pair_scores(["w3 w7"] * 8, range(8)), expected)
    assert np.isneginf(scores[0, len(order) :]).all()


def test_passages_of_a_model_are_fused_with_the_words_of_documents(texts):
    both = Hybrid(Passages(embed, size=8), texts, weight=1.0)
    alone = PassageIndex(Passages(embed, size=8), texts)
    assert both.search(["w3"], 8)[0].tolist() == alone.search(["w3"], 8)[0].tolist()
    assert isinstance(both.words, BM25)


@pytest.mark.parametrize("n", [1, 2, 3, 9])
def test_the_mean_of_the_best(n):
    scores = np.random.default_rng(n).normal(size=(4, 10)).astype(np.float32)
    starts, ends = np.array([0, 1, 4, 6]), [1, 4, 6, 10]
    found = best_mean(scores, starts, n)
    for row in range(4):
        for d, (a, b) in enumerate(zip(starts, ends, strict=True)):
            best = sorted(scores[row, a:b].tolist(), reverse=True)[:n]
            assert found[row, d] == pytest.approx(sum(best) / len(best), abs=1e-6)


def test_places_are_those_of_a_stable_sort_whatever_the_blocks():
    scores = np.random.default_rng(0).integers(0, 4, size=(9, 20)).astype(np.float32)
    for blocks in ([scores], np.split(scores, [2, 3, 8])):
        places, found = places_of(blocks, 7, 1.0)
        order = np.argsort(-scores, axis=1, kind="stable")[:, :7]
        best = np.take_along_axis(scores, order, 1)
        assert places.tolist() == np.where(best > 1, order, -1).tolist()
        assert found.tolist() == np.where(best > 1, best, -np.inf).tolist()
    assert places_of([], 3)[0].shape == (0, 3)


def test_scores_of_pairs_are_those_of_a_search(tiny_model, texts):
    queries = ["eye", "ear", "eye"]
    index = Dense(load_model(tiny_model), ["eye", "pain of the ear", "lung"])
    whole = np.concatenate(list(index.scores(queries)))
    pairs, off = index.pair_scores(queries, [2, 0, 1]), 2 * np.finfo(np.float32).eps  # one rounding
    np.testing.assert_allclose(pairs, whole[range(3), [2, 0, 1]], rtol=off)
    with pytest.raises(EmbkitError, match="k=0"):
        PassageIndex(Passages(embed, size=8), texts).search(queries, 0)


def test_one_query_alone_is_not_kept_on_disk(tiny_model, cache):
    index = Dense(load_model(tiny_model), ["eye", "ear"])
    kept = lambda: len(list((cache / "embeddings").glob("*.npy")))  # noqa: E731
    before = kept()
    index.search(["a typed query"])
    assert before == kept() == 1
    index.search(["one", "two"])
    assert kept() == 2


def test_a_passage_has_room_for_what_the_model_adds(tiny_model):
    model, texts = (
        load_model(tiny_model, prompts={"document": "one eye in "}),
        ["pain of ear " * 30],
    )
    offsets, added = offsets_of(model)
    assert added == 2 + 3  # [CLS] and [SEP], and the prompt's words
    assert offsets(["pain in eye"]) == [[(0, 4), (5, 7), (8, 11)]] and offsets([]) == []
    for own in cut_for(model, texts, 16):
        read = [
            model.tokenizer(f"one eye in {texts[0][p.start : p.end]}")["input_ids"] for p in own
        ]
        assert max(map(len, read)) == 16
    assert cut_for(model, texts, 26, 12) and cut_for(model, texts, 27, 12)
    assert offsets_of(embed) == (None, 0)


@pytest.mark.parametrize("name", ["xlm-r", "qwen3"])
def test_offsets_of_other_tokenizers_are_read(name, tmp_path):
    model = make_family(name, tmp_path)
    text = " ".join(f"w{i}" for i in range(40))
    parts = [text[p.start : p.end] for p in cut_for(model, [text], 12)[0]]
    assert " ".join(parts) == text
    assert max(len(model.tokenizer(part)["input_ids"]) for part in parts) <= 12


def test_what_does_not_fit_is_refused(tiny_model, texts):
    with pytest.raises(EmbkitError, match="a model that reads 48") as caught:
        PassageIndex(Passages(load_model(tiny_model), size=64), texts)
    assert caught.value.hint == "size=48"
    picture = keep_picture(Image.new("RGB", (4, 4)))
    with pytest.raises(EmbkitError, match="pictures"):
        cut_for(embed, [picture], 16)
    for wrong in (
        {"size": 4},
        {"size": 16, "overlap": 8},
        {"best": 0},
        {"late": True, "overlap": 2},
    ):
        with pytest.raises(EmbkitError):
            Passages(embed, **wrong)


def test_what_is_told_tells_apart():
    ways = [{}, {"size": 64}, {"overlap": 8}, {"headings": True}, {"best": 2}, {"late": True}]
    assert len({Passages(embed, **way).told for way in ways}) == len(ways)
    assert Passages(embed, 64, 8, True, 2).told == "passages of 64, 8 shared, headings, mean of 2"
