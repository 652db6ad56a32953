"""A result that is kept comes back only for what it was made of."""

import dataclasses
import json
import shutil

import numpy as np
import pandas as pd
import pytest
import torch
from sentence_transformers import SentenceTransformer

from embkit import EmbkitError, Recipe, evaluate
from embkit.advice import evidence
from embkit.cli.training import _kept
from embkit.evaluation.ranking import leaderboard
from embkit.files import write_atomic
from embkit.models.encoding import weights_fingerprint
from embkit.models.loading import load_model
from embkit.runs import RECORD
from embkit.training import heads, trainer
from embkit.training.distillation import Teacher


def change(folder):
    """Other weights in the same folder."""
    model = SentenceTransformer(str(folder), device="cpu")
    with torch.no_grad():
        next(model.parameters()).add_(0.1)
    model.save_pretrained(str(folder))


@pytest.fixture
def another(tmp_path, tiny_model):
    return shutil.copytree(tiny_model, tmp_path / "another")


@pytest.fixture
def place(monkeypatch, tiny_domain, tiny_model):
    """Where a recipe's run lies; nothing is trained."""

    def made(recipe, _domain, _folder, path, *_):
        write_atomic(path / RECORD, json.dumps({"recipe": json.loads(recipe.to_json())}))

    monkeypatch.setattr(trainer, "_train", made)
    recipe = Recipe(model=str(tiny_model))
    return lambda **changes: trainer.train(recipe.replace(**changes), tiny_domain).path


@pytest.mark.parametrize("field", ["guide", "reranker_filter"])
def test_other_weights_of_a_guide_or_a_reranker_are_another_run(place, another, field):
    used = {"approach": "gist"} if field == "guide" else {"hard_negatives": 1}
    used[field] = str(another)
    first = place(**used)
    unused = place(guide=str(another))  # contrastive training asks no guide
    change(another)
    assert place(**used) != first
    assert place(guide=str(another)) == unused


def test_another_precision_is_another_run(place, monkeypatch):
    first = place()
    assert place() == first
    monkeypatch.setenv("EMBKIT_PRECISION", "bf16")
    assert place() != first


def test_a_head_is_never_put_on_other_weights(tiny_domain, another):
    head = heads.fit_head("linear", tiny_domain, another, epochs=1)
    assert head.model()
    change(another)
    with pytest.raises(EmbkitError, match="other weights"):
        head.model()
    assert heads.fit_head("linear", tiny_domain, another, epochs=1).path != head.path


def test_a_kept_score_takes_the_name_that_is_asked_for(tiny_domain):
    first = evaluate("bm25", tiny_domain, name="A")
    again = evaluate("bm25", tiny_domain, name="B")
    assert (first.label, again.label) == ("A", "B")
    assert evaluate("bm25", tiny_domain).label == "B"  # no other name is asked for
    assert [row["label"] for row in leaderboard(tiny_domain).rows][0] == "B"
    split = tiny_domain.test_splits[0]
    assert again.mean(split) == first.mean(split)


def test_dev_evidence_is_kept_by_the_documents_that_were_searched(
    monkeypatch, tmp_path, tiny_domain
):
    asked = []

    def ndcg(model, domain, split, documents, **_):
        asked.append(documents)
        return pd.Series({"q": float(len(asked))})

    monkeypatch.setattr(evidence, "ndcg", ndcg)
    run = type("Run", (), {"path": tmp_path, "model": lambda self: None})()
    ids = list(tiny_domain.corpus)
    first = evidence.on_dev(run, tiny_domain, ids[:10])
    assert evidence.on_dev(run, tiny_domain, ids[10:20])["q"] == 2.0  # as many, and others
    assert evidence.on_dev(run, tiny_domain, ids[:10]).equals(first)


def test_two_domains_of_one_name_leave_two_reports(tiny_domain, store):
    first = _kept(tiny_domain)
    first.mkdir(parents=True)
    (first / "audit.json").write_text(json.dumps({"domain_hash": tiny_domain.hash}))
    other = dataclasses.replace(tiny_domain, negatives={})
    assert _kept(tiny_domain) == first == store / tiny_domain.name
    assert _kept(other) == store / f"{tiny_domain.name}-{other.hash[:8]}"


def test_a_fingerprint_sees_every_write_and_nothing_else(tiny_model):
    model = load_model(tiny_model)
    first = weights_fingerprint(model)
    model.encode(["a text that sets truncation and padding"])
    assert weights_fingerprint(model) == first == weights_fingerprint(load_model(tiny_model))
    weight = next(model.parameters())
    version, address = weight._version, weight.data_ptr()
    weight.data.add_(1e-3)  # as peft merges: neither version nor address changes
    assert (weight._version, weight.data_ptr()) == (version, address)
    changed = weights_fingerprint(model)
    assert changed != first
    weight.data.sub_(1e-3)
    model.half()
    assert weights_fingerprint(model) not in (first, changed)
    model.tokenizer.add_tokens(["zebra"])
    assert weights_fingerprint(model) != first


def test_a_teacher_with_other_prompts_is_another_teacher(tiny_model):
    plain, asking = load_model(tiny_model), load_model(tiny_model)
    asking.prompts = {"query": "ask: "}
    assert Teacher("t", (plain,)).fingerprint() != Teacher("t", (asking,)).fingerprint()


def test_labels_take_no_room_for_the_longest(tiny_domain):
    from embkit import training_pairs
    from embkit.losses.batches import padded

    pairs = training_pairs(Recipe(approach="corpus"), tiny_domain)
    stored = pairs.dataset()["label"][:]
    assert {len(row) for row in stored} == {1, 2}  # one query has two right documents
    batch = pairs.dataset().with_transform(padded)[:]["label"]
    assert np.array(batch).shape == (len(pairs), 2)
    assert batch == pairs.places()
