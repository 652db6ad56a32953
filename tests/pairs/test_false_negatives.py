"""Likely false negatives: what a cross-encoder prefers, and how often it errs."""

import dataclasses

import numpy as np
import pytest

from embkit.errors import EmbkitError
from embkit.pairs.mining import find_false_negatives, mine
from embkit.pairs.pairs import collect


@pytest.fixture
def mined(tiny_domain):
    return mine(tiny_domain, collect(tiny_domain, "human")[0], 2, miner="random")


def test_suspects_are_those_that_score_as_high_as_the_positive(tiny_domain, mined):
    suspicious = tiny_domain.corpus[mined.negatives[0][0]]

    def score(pairs):
        known = zip(mined.anchors, mined.positives, strict=True)
        positives = {(anchor, tiny_domain.corpus[document]) for anchor, document in known}
        return [3.0 if p in positives or p[1] == suspicious else 0.0 for p in pairs]

    found = find_false_negatives(mined, tiny_domain, score, sample=1000)
    places = [d for negatives in mined.negatives for d in negatives]
    share = np.mean([tiny_domain.corpus[d] == suspicious for d in places])
    assert len(found.sample) == len(places)
    assert found.suspected == pytest.approx(share) and 0 < share < 1
    assert found.sample[0].reasons[0] == "the cross-encoder prefers it"
    assert found.sample[-1].negative_score < found.sample[-1].positive_score
    low, high = found.suspected_ci
    assert low <= found.suspected <= high


def test_people_are_the_second_classifier(tiny_domain, mined):
    query = next(iter(tiny_domain.negatives))
    marked = tiny_domain.negatives[query]
    alarmed = tiny_domain.corpus[marked[0]]
    found = find_false_negatives(
        mined, tiny_domain, lambda pairs: [2.0 if p[1] == alarmed else 1.0 for p in pairs]
    )
    assert found.marked == len(marked) == 2
    assert (
        found.false_alarms == 1.0
    )  # 2 > 1 for the one, and 1 ties with the positive for the other
    assert found.verdict().endswith("but also 100% of the 2 documents that people marked as wrong")
    nobody = dataclasses.replace(tiny_domain, negatives={})
    silent = find_false_negatives(mined, nobody, lambda pairs: np.arange(len(pairs)))
    assert silent.false_alarms is None and "people" not in silent.verdict()


def test_it_shows_texts_as_text(tiny_domain, mined):
    row = dataclasses.replace(mined, corpus=mined.corpus)
    domain = dataclasses.replace(
        tiny_domain, corpus=tiny_domain.corpus | {mined.negatives[0][0]: "<script>x</script>"}
    )
    shown = find_false_negatives(row, domain, lambda pairs: [len(p[1]) for p in pairs], sample=500)
    assert "<script>" not in shown._repr_html_()


def test_nothing_mined_is_refused(tiny_domain, mined):
    empty = dataclasses.replace(mined, negatives=())
    with pytest.raises(EmbkitError, match="no mined negatives"):
        find_false_negatives(empty, tiny_domain, lambda pairs: [])
