"""evaluate(), the leaderboard and search_side_by_side(): one way to rank, whatever is evaluated."""

from dataclasses import replace

import ir_measures
import numpy as np
import pandas as pd
import pytest

import embkit as ek
from embkit.errors import EmbkitError
from embkit.evaluation import ranking


def letters(texts):
    """An embedding that anyone can recompute: random, but fixed by the text; no two are near."""
    return np.array([np.random.default_rng(list(text.encode())).normal(size=16) for text in texts])


def test_a_function_is_judged_like_a_model_and_equal_to_ir_measures(store, tiny_domain):
    scores = ek.evaluate(letters, tiny_domain, save=False)
    ids = list(tiny_domain.corpus)
    documents = letters(list(tiny_domain.corpus.values())).astype(np.float32)
    documents /= np.linalg.norm(documents, axis=1, keepdims=True)
    for split in tiny_domain.test_splits:
        run = {}
        for query in tiny_domain.qrels[split]:
            vector = letters([tiny_domain.queries[query]])[0].astype(np.float32)
            vector /= np.linalg.norm(vector)
            run[query] = dict(zip(ids, (documents @ vector).tolist(), strict=True))
        qrels = {q: dict(judged) for q, judged in tiny_domain.qrels[split].items()}
        expected = ir_measures.calc_aggregate([ir_measures.nDCG @ 10], qrels, run)
        assert scores.mean(split) == pytest.approx(expected[ir_measures.nDCG @ 10], abs=1e-6)


def test_everything_that_can_be_judged_reaches_the_leaderboard(
    store, cache, tiny_domain, tiny_model
):
    recipe = ek.Recipe(model=str(tiny_model), epochs=1, batch_size=4)
    run = ek.train(recipe, tiny_domain, quiet=True)
    for what in ("bm25", str(tiny_model), run, letters):
        ek.evaluate(what, tiny_domain)
    rows = ek.leaderboard(tiny_domain).rows
    assert {row["approach"] for row in rows} == {"bm25", "base", "contrastive", "letters"}
    trained = next(r for r in rows if r["approach"] == "contrastive" and r["split"] == "known")
    assert trained["recipe_hash"] == recipe.hash
    assert trained["trainable_params"] == trained["total_params"] > 0
    assert trained["train_seconds"] > 0 and trained["dim"] == 32
    assert trained["corpus"] == len(tiny_domain.corpus)
    assert trained["queries"] == len(tiny_domain.qrels["known"])


def test_one_recipe_trained_on_two_domains_is_two_models(store, cache, tiny_domain, tiny_model):
    some = dict(list(tiny_domain.qrels["train"].items())[:4])
    other = replace(tiny_domain, name="other", qrels=tiny_domain.qrels | {"train": some})
    recipe = ek.Recipe(model=str(tiny_model), epochs=2, batch_size=4, learning_rate=0.01)
    runs = [ek.train(recipe, domain, quiet=True) for domain in (tiny_domain, other)]
    assert runs[0].path.name == runs[1].path.name
    for domain in (tiny_domain, other, ek.data.general_probe()):
        for run in runs:
            kept, anew = ek.evaluate(run, domain), ek.evaluate(run, domain, save=False)
            for split in domain.test_splits:
                pd.testing.assert_series_equal(kept.values(split), anew.values(split))
    general = [ek.evaluate(run, ek.data.general_probe()).mean("general") for run in runs]
    assert general[0] != general[1]
    for domain, mine in zip((tiny_domain, other), general, strict=True):
        told = {row["general_ndcg@10"] for row in ek.leaderboard(domain).rows}
        assert mine in told


def test_scores_are_kept_and_read_again(store, cache, tiny_domain, monkeypatch):
    first = ek.evaluate("bm25", tiny_domain)
    monkeypatch.setattr(ranking, "rank", lambda *_, **__: pytest.fail("ranked again"))
    again = ek.evaluate("bm25", tiny_domain)
    assert all(again.mean(s) == first.mean(s) for s in tiny_domain.test_splits)


def test_half_written_scores_are_scored_again(store, cache, tiny_domain):
    first = ek.evaluate("bm25", tiny_domain)
    (path,) = store.rglob("scores.json")
    path.write_text(path.read_text()[:50])
    assert ek.evaluate("bm25", tiny_domain).mean("known") == first.mean("known")


def test_an_empty_leaderboard_says_what_to_type(store, tiny_domain):
    with pytest.raises(EmbkitError, match="ek.evaluate"):
        ek.leaderboard(tiny_domain)


def test_what_cannot_be_judged_is_named(store, tiny_domain):
    with pytest.raises(EmbkitError, match="int"):
        ek.evaluate(7, tiny_domain)
    with pytest.raises(EmbkitError, match="did you mean 'known'"):
        ek.evaluate("bm25", tiny_domain, splits=["knwon"])


def test_nan_from_a_function_is_one_clear_error(store, tiny_domain):
    with pytest.raises(EmbkitError, match="NaN"):
        ek.evaluate(lambda texts: np.full((len(texts), 3), np.nan), tiny_domain)


def test_look_puts_models_side_by_side(tiny_domain):
    query = next(iter(tiny_domain.corpus.values()))
    table = ek.search_side_by_side(query, {"letters": letters, "words": "bm25"}, tiny_domain, k=3)
    table = table.frame()
    assert list(table.columns) == ["rank", "letters", "letters: score", "words", "words: score"]
    assert len(table) == 3 and query in table["letters"].iloc[0]
    with pytest.raises(EmbkitError, match="empty query"):
        ek.search_side_by_side("  ", {"letters": letters}, tiny_domain)


@pytest.fixture
def foreign(tiny_domain):
    """The tiny domain with queries of another language; one test query shares a word."""
    queries = dict.fromkeys(tiny_domain.queries, "wrench zz")
    queries = {q: f"{text}{n}" for n, (q, text) in enumerate(queries.items())}
    asked = next(iter(tiny_domain.qrels["known"]))
    return replace(tiny_domain, queries=queries | {asked: "injury wrench"}), asked


def test_what_shares_no_word_is_not_found(store, foreign):
    domain, asked = foreign
    shares = {d for d, text in domain.corpus.items() if "injury" in text.casefold()}
    found = ek.rank("bm25", domain, "known")
    assert set(found[asked]) == shares and not any(v for q, v in found.items() if q != asked)
    scores = ek.evaluate("bm25", domain)
    assert scores.per_query["known"].loc[asked, "recall@100"] == 1
    assert not scores.per_query["known"].drop(index=asked).to_numpy().any()
    assert not scores.per_query["novel"].to_numpy().any()


def test_places_without_a_document_are_said(foreign):
    domain, asked = foreign
    query, shares = domain.queries[asked], sum("njury" in text for text in domain.corpus.values())
    table = ek.search_side_by_side(query, {"words": "bm25"}, domain, k=shares + 2).frame()
    assert list(table["words"][shares:]) == ["nothing found"] * 2
    scores = list(table["words: score"])
    assert scores[shares:] == ["–"] * 2 and float(scores[0]) > 0
    right = ("eye0",)  # "Infection of the eye"
    places = ranking.rank_changes(query, "bm25", letters, domain, right, k=3)
    eye = next(row for row in places if row["relevant"])
    assert eye["before"] is None and 1 <= eye["after"] <= len(domain.corpus)
    assert sorted(row["before"] for row in places if row["before"])[:3] == [1, 2, 3]
    back = ranking.rank_changes(query, letters, "bm25", domain, right, k=3)
    assert back[-1]["after"] is None
    ek.plots.rank_change(places, query, k=3)


def test_scores_of_a_bm25_that_found_other_documents_are_counted_anew(store, tiny_domain):
    first = ek.evaluate("bm25", tiny_domain)
    (path,) = store.rglob("scores.json")
    replace(first, meta={"trainable_params": 0}, approach="old").save(path)
    with pytest.raises(EmbkitError, match="ek.evaluate"):
        ek.leaderboard(tiny_domain)
    assert ek.evaluate("bm25", tiny_domain).approach == "bm25"
    assert {row["approach"] for row in ek.leaderboard(tiny_domain).rows} == {"bm25"}


def test_a_function_is_scored_anew_and_reads_the_corpus_once(store, tiny_domain):
    asked = []

    def better(texts):
        asked.append(len(texts))
        return letters(texts)

    def twin(texts):
        return letters([text[::-1] for text in texts])

    first = ek.evaluate(better, tiny_domain, name="mine")
    assert sorted(asked) == sorted(
        [
            len(tiny_domain.corpus),
            *(len(tiny_domain.qrels[s]) for s in (*tiny_domain.test_splits, "dev")),
        ]
    )
    second = ek.evaluate(twin, tiny_domain, name="mine")  # same name, another function
    assert any(
        not first.values(s, "ndcg@10").equals(second.values(s, "ndcg@10"))
        for s in tiny_domain.test_splits
    )


def test_an_object_that_is_a_function_is_asked_itself_whatever_it_holds(store, tiny_domain):
    class Wrapped:
        model = staticmethod(lambda texts: pytest.fail("its own business"))

        def __call__(self, texts):
            return letters(texts)

    mine, plain = (ek.evaluate(w, tiny_domain, save=False) for w in (Wrapped(), letters))
    assert mine.approach == "Wrapped" and mine.mean("known") == plain.mean("known")
