"""Two tiers against exact search, a case worked by hand, and what is refused."""

import numpy as np
import pytest

from embkit.errors import EmbkitError
from embkit.models.loading import load_model
from embkit.search.index import exact_search
from embkit.search.tiered import TieredIndex, overlap, truncate

INDEXES = ["exact", "binary"]


def unit(rows):
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def some(rows, dim=32, seed=0):
    """Vectors in bunches, with most of their length in the first dimensions."""
    rng = np.random.default_rng(seed)
    middles = np.random.default_rng(9).normal(size=(20, dim))
    scale = 1 / np.sqrt(1 + np.arange(dim))
    return unit((middles[rng.integers(20, size=rows)] + rng.normal(size=(rows, dim))) * scale)


DOCUMENTS, QUERIES = some(600), some(40, seed=1)


# -- cut --


def test_cut_vectors_are_those_of_the_library(tiny_model):
    model, texts = load_model(tiny_model), ["sepsis in one eye", "aural trauma"]
    whole = model.encode(texts, normalize_embeddings=True)
    library = model.encode(texts, truncate_dim=8, normalize_embeddings=True)
    np.testing.assert_allclose(truncate(whole, 8), library, atol=1e-6)


def test_cut_leaves_what_it_is_given_and_a_zero_vector_as_they_are():
    given = np.float32([[0, 0, 1], [3, 4, 5]])
    before = given.copy()
    assert truncate(given, 2).tolist() == [[0, 0], [np.float32(0.6), np.float32(0.8)]]
    assert (given == before).all()
    np.testing.assert_allclose(truncate(unit(given), 3), unit(given), atol=1e-7)


@pytest.mark.parametrize("size", [0, -1, 33, 384])
def test_a_size_beyond_the_vectors_is_one_clear_error(size):
    with pytest.raises(EmbkitError, match=f"size={size} of vectors with 32 dimensions"):
        truncate(DOCUMENTS, size)
    with pytest.raises(EmbkitError, match=f"size={size} "):
        TieredIndex(DOCUMENTS, size=size)


# -- the exact truth --


@pytest.mark.parametrize("k", [1, 10, 600, 1000])
@pytest.mark.parametrize("index", INDEXES)
def test_a_shortlist_of_everything_gives_the_exact_result(index, k):
    tiers = TieredIndex(DOCUMENTS, size=8, shortlist=1000, index=index)
    indices, scores = tiers.search(QUERIES, k)
    expected = exact_search(QUERIES, DOCUMENTS, k)
    assert indices.tolist() == expected[0].tolist()
    np.testing.assert_allclose(scores, expected[1], atol=1e-6)
    assert tiers.recall(QUERIES, k) == 1.0


def test_ties_fall_to_the_lower_index():
    draw = np.random.default_rng(5).integers(-2, 3, size=(50, 4)).astype(np.float32)
    tiers = TieredIndex(draw, size=2, shortlist=50)
    indices, scores = tiers.search(draw[:7], 20)
    expected = exact_search(draw[:7], draw, 20)
    assert indices.tolist() == expected[0].tolist() and scores.tolist() == expected[1].tolist()


def test_many_queries_in_blocks_are_what_they_are_one_at_a_time(monkeypatch):
    tiers = TieredIndex(DOCUMENTS, size=8, shortlist=50)
    whole = tiers.search(QUERIES, 10)
    monkeypatch.setattr("embkit.search.tiered._BLOCK", 50 * 32 * 3)  # three queries a block
    for found in (
        tiers.search(QUERIES, 10),
        [
            np.concatenate(p)
            for p in zip(*(tiers.search(q[None], 10) for q in QUERIES), strict=True)
        ],
    ):
        assert found[0].tolist() == whole[0].tolist()
        np.testing.assert_allclose(found[1], whole[1], atol=1e-6)


@pytest.mark.parametrize("index", INDEXES)
def test_recall_grows_with_the_shortlist(index):
    recalls = []
    for shortlist in (10, 20, 40, 80, 160, 320, 600):
        tiers = TieredIndex(DOCUMENTS, size=4, shortlist=shortlist, index=index)
        recalls.append(tiers.recall(QUERIES))
    assert recalls == sorted(recalls)
    assert recalls[0] < 0.7 and recalls[-1] > 0.99  # binary too: the whole corpus is re-ranked


def test_the_shortlist_that_is_needed_is_the_shortest_that_does():
    tiers = TieredIndex(DOCUMENTS, size=4)
    for recall in (0.5, 0.9, 1.0):
        needed = tiers.shortlist_for_recall(QUERIES, 5, recall=recall)
        assert tiers.replace(shortlist=needed).recall(QUERIES, 5) >= recall
        assert tiers.replace(shortlist=needed - 1).recall(QUERIES, 5) < recall
    assert tiers.shortlist_for_recall(QUERIES, 5, recall=1.0, deepest=20) is None
    assert tiers.shortlist_for_recall(QUERIES, 5, recall=0.01) == 5  # never below k
    assert tiers.shortlist_for_recall(QUERIES[:0]) == 10


def test_tiers_are_shared_when_the_search_changes():
    tiers = TieredIndex(DOCUMENTS, size=4, shortlist=20)
    wider = tiers.replace(shortlist=600)
    assert wider.cold is tiers.cold and wider._hot is tiers._hot and tiers.shortlist == 20
    assert tiers.recall(QUERIES) < wider.recall(QUERIES)
    with pytest.raises(EmbkitError, match="shortlist=0"):
        tiers.replace(shortlist=0)


def test_scores_are_those_of_the_cold_tier():
    tiers = TieredIndex(DOCUMENTS.astype(np.float16), size=8, shortlist=50)
    indices, scores = tiers.search(QUERIES, 5)
    rounded = DOCUMENTS.astype(np.float16).astype(np.float32)
    np.testing.assert_allclose(scores, (QUERIES[:, None] * rounded[indices]).sum(2), atol=1e-6)


def test_a_case_by_hand():
    """Cut to one dimension, documents are +1 or -1: d0 and d2 look right, d1 and d3 do not."""
    documents = np.float32([[0.6, 0.8], [-0.6, 0.8], [0.8, -0.6], [-1, 0]])
    query = np.float32([[0.28, 0.96]])  # whole products: 0.936, 0.6, -0.352, -0.28
    tiers = TieredIndex(documents, size=1, shortlist=2)
    indices, scores = tiers.search(query, 2)
    assert indices.tolist() == [[0, 2]]
    np.testing.assert_allclose(scores, [[0.936, -0.352]], atol=1e-6)
    assert tiers.recall(query, 2) == 0.5  # exact search finds 0 and 1
    assert tiers.recall(query, 1) == 1.0
    assert tiers.hot_bytes == 4 * 1 * 4


# -- the tiers --


def test_bytes_are_those_of_the_codes():
    assert TieredIndex(DOCUMENTS, size=8).hot_bytes == 600 * 8 * 4
    assert TieredIndex(DOCUMENTS, size=32, index="binary").hot_bytes == 600 * 4


def test_the_cold_tier_may_lie_on_disk_in_half_precision(tmp_path):
    np.save(tmp_path / "d.npy", DOCUMENTS.astype(np.float16))
    mapped = np.load(tmp_path / "d.npy", mmap_mode="r")
    tiers = TieredIndex(mapped, size=8, shortlist=600)
    assert tiers.cold is mapped and "600 documents" in repr(tiers)
    found, exact = tiers.search(QUERIES)[0], exact_search(QUERIES, mapped)[0]
    assert found.tolist() == exact.tolist()


def test_fewer_documents_than_k_give_them_all():
    tiers = TieredIndex(DOCUMENTS[:3], size=8, shortlist=5)
    assert tiers.search(QUERIES, 10)[0].shape == (40, 3)
    assert tiers.search(np.empty((0, 32), np.float32), 2)[0].shape == (0, 2)


def test_overlap_is_the_share_that_is_found():
    wanted = np.array([[1, 2], [3, 4]])
    assert overlap(np.array([[2, 9], [4, 3]]), wanted) == 0.75
    assert overlap(np.empty((0, 2)), np.empty((0, 2))) == 1.0


@pytest.mark.parametrize(
    "options, said, hint",
    [
        ({"shortlist": 5}, "shortlist=5 for k=10", "shortlist=100"),
        ({"shortlist": 0}, "shortlist=0", "shortlist=200"),
        ({"index": "SQ8"}, "unknown index 'SQ8'", "exact"),
    ],
)
def test_bad_options_are_one_clear_error(options, said, hint):
    with pytest.raises(EmbkitError, match=said) as caught:
        TieredIndex(DOCUMENTS, size=8, **options).search(QUERIES, 10)
    assert hint in caught.value.hint


@pytest.mark.parametrize("k", [0, -3])
def test_a_k_below_one_is_refused(k):
    with pytest.raises(EmbkitError, match=f"k={k}"):
        TieredIndex(DOCUMENTS, size=8).search(QUERIES, k)


def test_queries_of_another_size_are_refused():
    with pytest.raises(EmbkitError, match="cannot be compared"):
        TieredIndex(DOCUMENTS, size=8).search(QUERIES[:, :16])
