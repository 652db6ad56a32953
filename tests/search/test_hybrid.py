"""Rank fusion: five documents by hand, the paper's formula written again, and the two ends."""

import numpy as np
import pytest

from embkit.errors import EmbkitError
from embkit.search.hybrid import Fusion, Hybrid, as_fusion, fuse
from embkit.search.index import BM25, Dense

TEXTS = ["iron iron", "iron deficiency anemia", "whooping cough", "anemia", "broken bone"]
ANGLES = dict(zip([*TEXTS, "iron"], [0.5, 0.2, 0.1, 0.4, 0.3, 0.0], strict=True))


def embed(texts):
    """Documents at an angle from the query "iron": the model ranks them 2, 1, 4, 3, 0."""
    return np.array([[np.cos(ANGLES[t]), np.sin(ANGLES[t])] for t in texts])


def test_five_documents_by_hand():
    # the model: 2, 1, 4, 3, 0; BM25: 0, 1 and nothing else
    assert Dense(embed, TEXTS).search(["iron"], 5)[0].tolist() == [[2, 1, 4, 3, 0]]
    assert BM25(TEXTS).search(["iron"], 5)[0].tolist() == [[0, 1, -1, -1, -1]]
    indices, scores = Hybrid(embed, TEXTS, weight=0.6).search(["iron"], 5)
    expected = {
        1: 0.6 / 62 + 0.4 / 62,
        0: 0.6 / 65 + 0.4 / 61,
        2: 0.6 / 61,
        4: 0.6 / 63,
        3: 0.6 / 64,
    }
    assert indices.tolist() == [list(expected)]
    np.testing.assert_allclose(scores[0], list(expected.values()), rtol=1e-12)
    assert Hybrid(embed, TEXTS, weight=0.6).search(["iron"], 2)[0].tolist() == [[1, 0]]


def test_it_is_plain_reciprocal_rank_fusion():
    rng, n, depth = np.random.default_rng(0), 60, 20
    lists = [np.array([rng.permutation(n)[:depth] for _ in range(8)]) for _ in range(2)]
    lists[1][3, 5:] = -1  # few found
    lists[1][4] = -1  # none
    indices, scores = fuse(*lists, 0.5, 10)
    for row in range(8):
        gains = {}
        for one in lists:
            for rank, document in enumerate(one[row].tolist(), start=1):
                if document >= 0:
                    gains[document] = gains.get(document, 0) + 1 / (60 + rank)
        best = sorted(gains, key=lambda d: (-gains[d], d))[:10]  # ties by lower index
        assert indices[row].tolist() == best
        np.testing.assert_allclose(scores[row], [gains[d] / 2 for d in best], rtol=1e-12)


@pytest.mark.parametrize("weight", [0, 1])
def test_at_the_ends_one_of_both_orders_alone(weight):
    alone = Dense(embed, TEXTS) if weight else BM25(TEXTS)
    found = Hybrid(embed, TEXTS, weight=weight).search(["iron", "whooping cough"][:1], 5)
    assert found[0].tolist() == alone.search(["iron"], 5)[0].tolist()
    assert (found[1] > 0).tolist() == (found[0] >= 0).tolist()


def test_a_shallow_fusion_does_not_find_everything():
    indices, scores = Hybrid(embed, TEXTS, weight=0.6, depth=1).search(["iron"], 1)
    assert indices.tolist() == [[2]]  # the model's first, 0.6 / 61, before that of BM25, 0.4 / 61
    assert Hybrid(embed, TEXTS, depth=1).search(["iron"], 3)[0].tolist() == [[1, 0, 2]]  # k deep
    assert fuse(np.array([[3]]), np.array([[3]]), 0.5, 4)[0].tolist() == [[3]]
    assert np.isneginf(fuse(np.array([[-1]]), np.array([[-1]]), 0.5, 1)[1]).all()


def test_a_place_is_hidden_before_the_lists_are_fused():
    index, rest = Hybrid(embed, TEXTS, weight=0.6), TEXTS[:2] + TEXTS[3:]
    found = index.search(["iron"], 5, hidden=[2])
    less = Hybrid(embed, rest, weight=0.6).search(["iron"], 4)
    assert found[0].tolist() == [[*np.where(less[0][0] > 1, less[0][0] + 1, less[0][0]), -1]]
    np.testing.assert_allclose(found[1][0, :4], less[1][0])
    assert (
        index.search(["iron"], 5, hidden=[-1])[0].tolist() == index.search(["iron"], 5)[0].tolist()
    )


def test_what_stands_for_a_fusion_and_what_is_refused():
    assert as_fusion("hybrid") == Fusion("minilm") and as_fusion("bm25") is None
    assert as_fusion(Fusion(embed, 0.3)).weight == 0.3
    for make in (lambda w: Hybrid(embed, TEXTS, weight=w), lambda w: Fusion(embed, w)):
        with pytest.raises(EmbkitError, match="0 to 1"):
            make(1.1)
    with pytest.raises(EmbkitError, match="k of 1 or more"):
        Hybrid(embed, TEXTS).search(["iron"], 0)
