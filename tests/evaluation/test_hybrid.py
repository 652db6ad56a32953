"""A model and BM25 fused: the weight that dev chooses, and where a fusion is taken."""

from dataclasses import replace

import numpy as np
import pytest

import embkit as ek
from embkit.data import Domain
from embkit.errors import EmbkitError
from embkit.evaluation import ranking
from embkit.evaluation.hybrid import WEIGHTS, choose_weight
from embkit.search.hybrid import Fusion
from embkit.search.index import BM25

# BM25 finds "words" and then "both"; the model finds "model", then "both", and "words" last
CORPUS = {"model": "omega", "both": "alpha gamma delta", "words": "alpha"}
CORPUS |= {f"other{i}": f"filler{i}" for i in range(37)}
ANGLES = {"omega": 0.05, "alpha gamma delta": 0.1, "alpha": 1.0}
ANGLES |= {f"filler{i}": 0.2 + 0.01 * i for i in range(37)}
QUERIES = {"q1": "alpha one", "q2": "alpha two", "q3": "alpha three"}


def embed(texts):
    """Queries at angle 0, documents at that of the table."""
    angles = [ANGLES.get(text, 0.0) for text in texts]
    return np.array([[np.cos(angle), np.sin(angle)] for angle in angles])


def domain(right):
    judged = {right: 1}
    qrels = {"train": {"q1": judged}, "dev": {"q2": judged}, "test": {"q3": judged}}
    return Domain("made up", "smoke", CORPUS, QUERIES, qrels, ("test",))


# "both" scores 1/62 at any weight; "model" w/61, so more from w = 61/62 on; "words", which the
# model ranks 40th, (1 - w)/61 + w/100, so more below w = 0.041
@pytest.mark.parametrize(("right", "best"), [("model", 1.0), ("both", 0.5), ("words", 0.0)])
def test_dev_chooses_the_weight_that_is_known_to_be_best(right, best, store):
    made = domain(right)
    chosen = choose_weight(made, embed)
    assert chosen.weight == best and chosen.dev[best] == 1.0
    assert tuple(chosen.dev) == WEIGHTS
    assert (chosen.dev[best] > max(chosen.dev[0.0], chosen.dev[1.0])) == (right == "both")
    third = {"model": 0.5, "both": 1.0, "words": 1 / np.log2(3)}[right]  # "words" is second
    assert chosen.dev[0.3] == pytest.approx(third)
    scores = ek.evaluate(Fusion(embed), made, save=False)
    assert scores.meta["weight"] == best and scores.mean("test") == 1.0


def test_each_weight_scores_on_dev_what_evaluate_gives_it():
    made = domain("both")
    chosen = choose_weight(made, embed, weights=(0, 0.25, 1))
    for weight, ndcg in chosen.dev.items():
        scores = ek.evaluate(Fusion(embed, weight), made, splits=["dev"], save=False)
        assert scores.mean("dev") == pytest.approx(ndcg)


def test_without_a_dev_query_the_fusion_is_plain():
    made = domain("model")
    made = replace(made, qrels=made.qrels | {"dev": {}})
    chosen = choose_weight(made, embed)
    assert chosen == (0.5, {})


def test_a_fusion_is_kept_and_read_again_and_is_no_baseline(
    store, cache, tiny_domain, tiny_model, monkeypatch
):
    run = ek.train(
        ek.Recipe(model=str(tiny_model), epochs=1, batch_size=4), tiny_domain, quiet=True
    )
    subjects = (Fusion(str(tiny_model)), Fusion(run), Fusion(str(tiny_model), 0.3))
    first = [ek.evaluate(what, tiny_domain) for what in subjects]
    for what in ("bm25", str(tiny_model), run):
        ek.evaluate(what, tiny_domain)
    plain, tuned, fixed = first
    assert plain.recipe_hash is None and plain.meta["trainable_params"] == 0
    assert plain.base_model == plain.meta["model"] == str(tiny_model)
    assert tuned.recipe_hash == run.recipe.hash and tuned.label == "hybrid of contrastive"
    assert fixed.meta["weight"] == 0.3 and fixed.label.endswith("weight 0.3")
    names = {row["approach"] for row in ek.leaderboard(tiny_domain).rows}
    assert names == {"bm25", "base", "contrastive", *(one.approach for one in first)}
    # read again, until BM25, the run or the weights that are tried are others
    seen = []
    rank = ranking.rank
    monkeypatch.setattr(ranking, "rank", lambda *a, **k: seen.append(a) or rank(*a, **k))
    again = [ek.evaluate(what, tiny_domain) for what in subjects]
    assert not seen and [a.meta for a in again] == [f.meta for f in first]
    other = ek.Run(run.path, run.record | {"seconds": 0.0})
    ek.evaluate(Fusion(other), tiny_domain)
    assert len(seen) == 3, "two tests and dev"
    monkeypatch.setattr(ranking, "WEIGHTS", (0.0, 1.0))
    ek.evaluate(subjects[0], tiny_domain), ek.evaluate(subjects[2], tiny_domain)
    assert len(seen) == 6
    monkeypatch.setattr(BM25, "VERSION", BM25.VERSION + 1)
    assert {r["approach"] for r in ek.leaderboard(tiny_domain).rows} == {"base", "contrastive"}


def test_hybrid_is_the_general_model_and_bm25(store, tiny_domain, minilm_by_name):
    scores = ek.evaluate("hybrid", tiny_domain)
    assert (scores.approach, scores.base_model) == ("hybrid", "minilm")
    weight = choose_weight(tiny_domain).weight
    assert scores.meta["weight"] == weight
    found = ek.rank("hybrid", tiny_domain, "known")
    assert found == ek.rank(Fusion("minilm", weight), tiny_domain, "known")
    both = {"hybrid": "hybrid", "words": "bm25"}
    table = ek.search_side_by_side("ocular injury", both, tiny_domain, k=3).frame()
    assert len(table) == 3 and "nothing found" not in set(table["hybrid"])
    texts = list(tiny_domain.corpus.values())
    assert ranking.indexed("hybrid", texts).weight == 0.5
    with pytest.raises(EmbkitError, match="no vectors"):
        ek.evaluate_sizes("hybrid", tiny_domain)
