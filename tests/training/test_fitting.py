"""A step fits the memory: mini-batches and gradient checkpointing change no gradient, and a step
that ran out of memory is done again in smaller parts."""

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.losses.gradcache import uses_gradient_cache

from embkit import Recipe, forecast
from embkit.errors import EmbkitError
from embkit.models import packing
from embkit.models.loading import load_model
from embkit.training import forecasting, trainer
from embkit.training.fitting import ran_out
from embkit.training.losses import make_loss
from tests.families import make_family

MB = 10**6
IN_BATCH = {
    "contrastive": {},
    "hardness, a negative": {"hardness": 2.0, "hard_negatives": 1},
    "symmetric": {"approach": "symmetric"},
    "gist": {"approach": "gist"},
    "Matryoshka": {"matryoshka": (32, 8)},
    "gist at two sizes": {"approach": "gist", "matryoshka": (32, 8)},
}


@pytest.fixture
def recipe(tiny_model):
    return Recipe(
        model=str(tiny_model), guide=str(tiny_model), epochs=1, batch_size=8, learning_rate=1e-3
    )


def gradient(loss, model, columns):
    features = [model.preprocess(texts) for texts in columns]
    model.zero_grad()
    value = loss(features, None)
    value.backward()
    flat = [w.grad.ravel() for w in model.parameters() if w.grad is not None]
    return value.item(), torch.cat(flat)


def vectors(run, domain):
    return run.model().encode([*domain.corpus.values(), *domain.queries.values()])


@pytest.mark.parametrize("changes", IN_BATCH.values(), ids=IN_BATCH)
@pytest.mark.parametrize("size", [1, 3])
def test_mini_batches_have_the_gradients_of_the_whole_batch(tiny_domain, recipe, changes, size):
    recipe = recipe.replace(**changes)
    pairs = tiny_domain.pairs()[:8]
    columns = [pairs["anchor"], pairs["positive"]]
    columns += [list(tiny_domain.corpus.values())[-8:]] * recipe.hard_negatives
    model = load_model(recipe.model)
    packing.set_dropout(model, 0.0)
    with packing.efficient(model):
        value, whole = gradient(make_loss(recipe.loss, model), model, columns)
        cut = make_loss(recipe.replace(mini_batch_size=size).loss, model)
        assert uses_gradient_cache(cut)
        same_value, parts = gradient(cut, model, columns)
    assert value == pytest.approx(same_value, abs=1e-5)
    assert (whole - parts).abs().max() < 1e-5 < whole.abs().max() / 100


@pytest.mark.parametrize(
    "changes",
    [
        {"gradient_checkpointing": True},
        {"gradient_checkpointing": True, "mini_batch_size": 3, "approach": "gist"},
        {"gradient_checkpointing": True, "lora_rank": 2, "lora_targets": "auto"},
    ],
    ids=str,
)
def test_a_run_that_needs_less_memory_ends_with_the_same_model(store, tiny_domain, recipe, changes):
    whole = recipe.replace(**changes)
    whole = whole.replace(mini_batch_size=None, gradient_checkpointing=False)
    runs = [trainer.train(r, tiny_domain, quiet=True) for r in (whole, recipe.replace(**changes))]
    assert runs[0].path != runs[1].path
    plain, small = (vectors(run, tiny_domain) for run in runs)
    start = load_model(recipe.model).encode(list(tiny_domain.corpus.values()))
    np.testing.assert_allclose(small, plain, atol=1e-5)
    assert np.abs(plain[: len(start)] - start).max() > 1e-3


class Capped:
    """The library's forward pass, without the memory for more than ``most`` texts at once."""

    def __init__(self, monkeypatch, most, error=torch.OutOfMemoryError):
        self.most, self.error, self.refused = most, error, 0
        self.plain = SentenceTransformer.forward
        monkeypatch.setattr(SentenceTransformer, "forward", lambda *a, **k: self.run(*a, **k))

    def run(self, model, features, **given):
        ends = features.get("cu_seq_lens_q")  # of a packed batch
        texts = len(features["input_ids"]) if ends is None else len(ends) - 1
        if model.training and texts > self.most:
            self.refused += 1
            raise self.error("DefaultCPUAllocator: can't allocate memory: 9 bytes")
        return self.plain(model, features, **given)


def test_a_step_without_memory_is_done_again_in_halves_and_that_is_remembered(
    store, tiny_domain, recipe, monkeypatch
):
    whole = trainer.train(recipe, tiny_domain, quiet=True)
    assert "mini_batch_size" not in whole.record
    monkeypatch.setenv("EMBKIT_RUNS", str(store / "cut"))
    capped = Capped(monkeypatch, 3)
    cut = trainer.train(recipe, tiny_domain, quiet=True)
    assert cut.record["mini_batch_size"] == 2 and capped.refused == 2  # at 8, at 4
    assert cut.record["steps"] == whole.record["steps"] and cut.recipe == recipe
    np.testing.assert_allclose(vectors(cut, tiny_domain), vectors(whole, tiny_domain), atol=1e-5)
    again = trainer.train(recipe.replace(seed=1), tiny_domain, quiet=True)
    assert again.record["mini_batch_size"] == 2 and capped.refused == 2, "it begins with what fits"


@pytest.mark.parametrize(
    "most, changes",
    [
        (0, {}),
        (3, {"approach": "triplet", "hard_negatives": 1}),
        (0, {"gradient_checkpointing": True, "lora_rank": 2, "lora_targets": "auto"}),
    ],
)
def test_what_fits_in_no_way_is_one_clear_error(
    store, tiny_domain, recipe, monkeypatch, most, changes
):
    recipe = recipe.replace(**changes)
    Capped(monkeypatch, most)
    with pytest.raises(
        EmbkitError, match=r"memory ran out in a step of 8 pairs, [18] at once"
    ) as e:
        trainer.train(recipe, tiny_domain, quiet=True)
    assert "MB are free" in e.value.given and "can't allocate" in e.value.given
    for hint in e.value.hint.split("; or "):
        assert eval(hint.partition(":")[0], {"recipe": recipe}) != recipe  # noqa: S307
    assert e.value.hint.count("batch_size=4") == (changes.get("approach") == "triplet")


def test_memory_that_ran_out_is_told_from_other_errors():
    for error in (
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:1] DefaultCPUAllocator: not enough memory: 9"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
        RuntimeError("MPS backend out of memory (MPS allocated: 1 GB)"),
        MemoryError(),
    ):
        assert ran_out(error)
    assert not ran_out(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    assert not ran_out(ValueError("a value"))


def test_texts_that_pass_at_once_are_counted_by_hand(tiny_domain, recipe, monkeypatch):
    shown = {*tiny_domain.corpus.values()}  # 6 tokens, a query 2: 8 a pair, 64 a batch
    tokens = lambda _, texts: np.full(len(texts), 6 if {*texts} <= shown else 2)  # noqa: E731
    step = forecasting.Step(weights=96 * MB, trained=0, copies=4 * MB, token=MB)
    fixed = {"FREED": 1, "BESIDE": 0, "token_lengths": tokens, "count": lambda *_, **__: step}
    for name, value in {**fixed, "encode_speed": lambda *_: 1.0}.items():
        monkeypatch.setattr(forecasting, name, value)

    def found(recipe, mb):
        process = forecast(recipe, tiny_domain).process
        return forecast(recipe, tiny_domain, memory_gb=(process + mb) * MB / 2**30).at_once

    # 100 and 64: all; 100 and 6 a text: the longer column, one after the other
    assert [found(recipe, mb) for mb in (174, 154, 130, 117, 90)] == [8, 4, 4, 2, 1]
    assert found(recipe.replace(approach="triplet", hard_negatives=1), 117) == 8, "needs them all"
    for asked, given in ((3, 3), (6, 6), (20, 8)):
        assert found(recipe.replace(mini_batch_size=asked), 90) == given, "as it was asked for"
    monkeypatch.setattr(forecasting, "CACHED", 8)  # an eighth of what is free, 8 tokens at least
    assert [found(recipe, 100 + mb) for mb in (512, 511, 256, 64, 7)] == [8, 4, 4, 1, 1]


def test_a_run_is_cut_where_the_whole_step_does_not_fit(store, tiny_domain, recipe, monkeypatch):
    for mb, size in ((10_000, None), (1, 1)):
        monkeypatch.setattr(forecasting, "memory", lambda mb=mb: (0, mb * MB))
        run = trainer.train(recipe.replace(seed=size or 0), tiny_domain, quiet=True)
        assert run.record.get("mini_batch_size") == size


def test_checkpointing_keeps_less_and_a_script_says_it(tiny_domain, recipe):
    plain, less = (
        forecast(recipe.replace(gradient_checkpointing=on), tiny_domain) for on in (False, True)
    )
    assert less.parts["activations"] < 0.8 * plain.parts["activations"]
    assert "gradient_checkpointing=True" in recipe.replace(gradient_checkpointing=True).to_script()


def test_a_model_without_blocks_cannot_be_checkpointed_or_cut(store, tiny_domain, tmp_path):
    make_family("static", tmp_path)
    static = Recipe(model=str(tmp_path / "model"), epochs=1, batch_size=8)
    for changes in ({"gradient_checkpointing": True}, {"mini_batch_size": 2}):
        with pytest.raises(EmbkitError) as caught:
            trainer.train(static.replace(**changes), tiny_domain, quiet=True)
        followed = eval(caught.value.hint, {"recipe": static.replace(**changes)})  # noqa: S307
        trainer.train(followed, tiny_domain, quiet=True)


def test_mini_batches_of_another_loss_are_refused_with_words():
    with pytest.raises(EmbkitError, match="triplet.*mini_batch_size=4") as caught:
        Recipe(approach="triplet", hard_negatives=1, mini_batch_size=4)
    assert "mini_batch_size=None" in caught.value.hint
