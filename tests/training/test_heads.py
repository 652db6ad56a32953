"""Heads on frozen vectors: they start as the model, are fitted as a formula says, are routed."""

import dataclasses
import json

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer

from embkit.errors import EmbkitError
from embkit.evaluation import ranking
from embkit.losses.corpus import CorpusSoftmaxLoss
from embkit.models.encoding import encode, encode_as
from embkit.models.loading import load_model
from embkit.models.packing import embed
from embkit.recipes.recipe import Recipe
from embkit.search.index import Dense
from embkit.training import heads, trainer
from embkit.training.heads import KINDS, HeadSettings, fit_head
from embkit.training.trainer import training_pairs

FAST = {"learning_rate": 1e-2, "epochs": 8, "batch_size": 8}


@pytest.fixture
def learnable(tiny_domain):
    """The tiny domain with dev and known exchanged: dev asks in the adjectives that train has."""
    qrels = dict(tiny_domain.qrels)
    qrels["dev"], qrels["known"] = qrels["known"], qrels["dev"]
    return dataclasses.replace(tiny_domain, qrels=qrels)


@pytest.fixture
def fitted(learnable, tiny_model):
    return lambda kind="linear", **changes: fit_head(
        kind, learnable, str(tiny_model), **(FAST | changes)
    )


@pytest.mark.parametrize("kind", KINDS)
def test_every_head_starts_as_the_identity(kind):
    vectors = torch.nn.functional.normalize(torch.randn(5, 12), dim=-1)
    router = heads.routes(kind, 12)
    for way in ("query", "document"):
        assert torch.allclose(heads.apply(router, way, vectors), vectors, atol=1e-6)


@pytest.mark.parametrize("kind, matrices", [("linear", 1), ("two-sided", 2)])
def test_a_head_learns_and_the_best_epoch_is_kept(fitted, kind, matrices):
    head = fitted(kind)
    scores = [row["dev_ndcg@10"] for row in head.history]
    assert len(scores) == FAST["epochs"] + 1
    assert head.dev_score == max(scores) == scores[head.record["epoch"]] > scores[0]
    assert head.history[-1]["loss"] < head.history[1]["loss"]
    assert head.record["trainable_params"] == matrices * 32 * 32
    assert head.label in repr(head) and "trained parameters" in head._repr_html_()


def test_dev_scores_are_those_of_the_model_with_its_head(fitted, learnable):
    from embkit.training.callbacks import DevScore

    head = fitted()
    assert DevScore(learnable)(head.model())["dev_ndcg@10"] == pytest.approx(head.dev_score)


def test_the_loss_is_the_softmax_over_all_documents(tiny_domain, tiny_model):
    model, pairs = load_model(tiny_model), training_pairs(Recipe(), tiny_domain)
    queries = encode_as(model, [anchor for _, anchor, _ in pairs.rows], "query")
    corpus = encode_as(model, list(tiny_domain.corpus.values()), "document")
    matrix = np.eye(32) + 0.1 * np.random.default_rng(0).normal(size=(32, 32))
    router = heads.routes("linear", 32)
    with torch.no_grad():
        router.sub_modules["query"][0].linear.weight.copy_(torch.tensor(matrix))
    loss = CorpusSoftmaxLoss(router.sub_modules["query"], 0.05, in_batch_weight=0.0)
    loss.documents = torch.tensor(corpus)
    places = torch.tensor(pairs.places())
    found = loss([{"sentence_embedding": torch.tensor(queries)}], places).item()
    moved = queries @ matrix.T
    scores = moved / np.linalg.norm(moved, axis=1, keepdims=True) @ corpus.T / 0.05
    by_hand = []
    for row, (positive, *others) in zip(scores, pairs.places(), strict=True):
        among = np.delete(row, [place for place in others if place >= 0])
        by_hand.append(np.log(np.exp(among).sum()) - row[positive])
    assert found == pytest.approx(np.mean(by_hand), abs=1e-4)


def test_weights_are_held_to_the_identity(fitted, monkeypatch):
    def distance(head):
        matrix = head.model()[-1].sub_modules["query"][0].linear.weight
        return (matrix - torch.eye(32)).norm().item()

    found = []
    for seed, pull in enumerate((0, 5, 1e9)):  # another seed: else the first is given back
        monkeypatch.setitem(heads.PULL, "linear", pull)
        found.append(fitted(seed=seed))
    free, held, tied = found
    kept = {head.record["epoch"] for head in (free, held)}
    assert 0 not in kept and distance(held) < distance(free)
    assert distance(tied) == 0 and len({row["dev_ndcg@10"] for row in tied.history}) == 1


def test_the_same_head_is_fitted_once_and_again_alike(fitted, monkeypatch):
    first = fitted()
    weights = first.model()[-1].state_dict()
    (first.path / "head.json").unlink()
    again = fitted()
    assert again.path == first.path and again.dev_score == first.dev_score
    assert all(torch.equal(weights[k], w) for k, w in again.model()[-1].state_dict().items())
    monkeypatch.setattr(heads, "_fit", lambda *_: pytest.fail("fitted again"))
    assert fitted().record == again.record
    with pytest.raises(pytest.fail.Exception):
        fitted(epochs=7)


@pytest.mark.parametrize("kind", KINDS)
def test_a_saved_model_goes_both_ways_without_embkit(fitted, kind, tmp_path, tiny_domain):
    model = fitted(kind).model()
    model.save_pretrained(str(tmp_path / "saved"))
    stock = SentenceTransformer(str(tmp_path / "saved"), device="cpu")
    texts = list(tiny_domain.corpus.values())[:7]
    asked, shown = stock.encode_query(texts), stock.encode_document(texts)
    assert np.abs(asked - encode_as(model, texts, "query")).max() < 1e-5
    assert np.abs(shown - encode_as(model, texts, "document")).max() < 1e-5
    assert np.abs(asked - shown).max() > 0.01
    plain = SentenceTransformer(modules=list(stock.children())[:-1], device="cpu")
    unchanged = np.abs(plain.encode(texts) - shown).max() < 1e-5
    assert unchanged == (kind != "two-sided")


def test_a_router_in_front_is_routed_too(tiny_model, tiny_domain):
    from sentence_transformers.base.modules import Dense as Layer
    from sentence_transformers.base.modules import Router

    parts = list(load_model(tiny_model).children())
    turned = Layer(32, 32, bias=False, activation_function=None)
    model = SentenceTransformer(
        modules=[Router.for_query_document([*parts, turned], parts)], device="cpu"
    )
    texts = list(tiny_domain.corpus.values())
    for way, stock in (("query", model.encode_query), ("document", model.encode_document)):
        wanted = stock(texts, normalize_embeddings=True)
        assert np.abs(encode_as(model, texts, way) - wanted).max() < 1e-5
    found = Dense(model, texts)
    assert np.abs(found._documents - encode(load_model(tiny_model), texts)).max() < 1e-5
    assert not torch.allclose(embed(model, texts, task="query"), embed(model, texts))


def test_a_model_of_one_way_takes_any_task(tiny_model):
    model = load_model(tiny_model)
    assert np.array_equal(encode(model, ["ear"], task="query"), encode(model, ["ear"]))


def test_a_head_stands_in_the_leaderboard_with_its_cost(fitted, learnable):
    head = fitted()
    scores = ranking.evaluate(head, learnable)
    assert scores.approach == head.label
    ranking.evaluate(head.record["model"], learnable)
    row = next(
        row
        for row in ranking.leaderboard(learnable).rows
        if row["label"] == head.label and row["subset"] is None
    )
    assert row["trainable_params"] == 32 * 32 and row["train_seconds"] == head.seconds
    assert row["total_params"] > 32 * 32 and row["p_vs_base"] is not None


def test_the_base_s_prompts_are_used(fitted, tiny_model, learnable, tmp_path):
    model = load_model(tiny_model)
    model.prompts |= {"query": "in the ear: "}
    model.save_pretrained(str(tmp_path / "prompted"))
    head = fit_head("linear", learnable, tmp_path / "prompted", **FAST)
    assert head.model().prompts["query"] == "in the ear: "
    assert head.history[0]["dev_ndcg@10"] != fitted().history[0]["dev_ndcg@10"]


def test_labels_tell_heads_apart():
    assert HeadSettings("two-sided").label == "two-sided head"
    assert HeadSettings(learning_rate=1).label == "linear query adapter, learning rate 1"
    one = HeadSettings(learning_rate=1)
    assert one.hash == HeadSettings(learning_rate=1.0).hash != HeadSettings().hash


def test_models_served_with_other_prompts_have_scores_of_their_own(tiny_model, tiny_domain):
    model = load_model(tiny_model)
    plain = ranking.evaluate(model, tiny_domain, name="plain")
    model.prompts["query"] = "in one skin, "
    prompted = ranking.evaluate(model, tiny_domain, name="prompted")
    assert prompted.approach == "prompted" and plain.approach == "plain"
    assert not np.array_equal(prompted.values("known"), plain.values("known"))


# Bad input


@pytest.mark.parametrize("given, nearest", [("linaer", "linear"), ("two_sided", "two-sided")])
def test_an_unknown_head_names_the_nearest(given, nearest, tiny_domain):
    with pytest.raises(EmbkitError, match=f"did you mean {nearest!r}"):
        fit_head(given, tiny_domain)


@pytest.mark.parametrize(
    "changes",
    [
        {"learning_rate": 0},
        {"learning_rate": 2.0},
        {"batch_size": 1},
        {"epochs": 0},
        {"learning_rate": float("nan")},
    ],
)
def test_a_setting_out_of_its_range_is_named(changes, tiny_domain):
    (name,) = changes
    with pytest.raises(EmbkitError, match=name):
        fit_head("linear", tiny_domain, **changes)
    with pytest.raises(TypeError, match="'epoch'"):
        fit_head("linear", tiny_domain, epoch=3)


@pytest.mark.parametrize("split, words", [("train", "at least two"), ("dev", "'dev'")])
def test_an_empty_split_is_one_clear_error(split, words, tiny_domain, tiny_model):
    empty = dataclasses.replace(tiny_domain, qrels=dict(tiny_domain.qrels) | {split: {}})
    with pytest.raises(EmbkitError, match=words):
        fit_head("linear", empty, tiny_model)


def test_a_prompt_that_fills_the_window_is_one_clear_error(tiny_model, tiny_domain):
    long = "of the ear " * 30
    with pytest.raises(EmbkitError, match=r"prompt of 92 tokens.*reads 48"):
        encode(load_model(tiny_model), ["ear"], prompt=long)
    recipe = Recipe(model=str(tiny_model), query_prompt=long)
    with pytest.raises(EmbkitError, match=r"prompt of 92 tokens.*reads 48"):
        trainer.train(recipe, tiny_domain, quiet=True)


def test_a_record_holds_no_nan(fitted):
    json.loads((fitted().path / heads.RECORD).read_text(), parse_constant=pytest.fail)


def test_a_fitted_head_lies_where_its_model_lies(fitted, monkeypatch):
    head, load = fitted(), heads.load_model
    monkeypatch.setattr(heads, "load_model", lambda *a, **k: load(*a, **k).to("meta"))
    assert {weight.device.type for weight in head.model().parameters()} == {"meta"}
