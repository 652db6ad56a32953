"""What a training will hold and take is told beforehand, as a step that is taken counts it."""

import gc
import itertools
import weakref
from dataclasses import astuple

import numpy as np
import pytest
import torch
from transformers import BertConfig, Qwen3Config

from embkit import Recipe, forecast
from embkit.errors import EmbkitError
from embkit.recipes.views import AUTO
from embkit.training import footprint, forecasting
from embkit.training.callbacks import Watch
from embkit.training.forecasting import _fullest, count, deeper, kept_for_backward
from tests.families import make_family

LORA = {"lora_rank": 2, "lora_targets": AUTO}


@pytest.fixture
def recipe(tiny_model):
    return Recipe(model=str(tiny_model), epochs=1, batch_size=16)


@pytest.mark.parametrize("changes", [{}, LORA, LORA | {"quantize": "nf4"}, {"layers": 1}])
def test_parts_are_those_of_a_step_that_is_taken(tiny_domain, recipe, changes):
    recipe = recipe.replace(**changes)
    told, taken = forecast(recipe, tiny_domain).parts, footprint(recipe, tiny_domain)
    close = pytest.approx
    if "quantize" not in changes:  # whose forward pass keeps what no configuration tells
        kept = told["activations"] + told.get("weights in 16 bits", 0)
        assert kept == close(taken["activations"], rel=0.12)
        assert told["AdamW's moments"] == close(taken["optimizer"], rel=0.08)  # the pooler has none
    assert told["weights"] == close(taken["weights"], rel=0.06)
    if "lora_rank" not in changes:
        assert told["gradients"] == close(taken["gradients"], rel=0.08)


def test_what_a_network_holds_is_counted_by_hand():
    config = BertConfig(
        hidden_size=64, num_hidden_layers=3, num_attention_heads=2, intermediate_size=256,
        vocab_size=100, max_position_embeddings=32,
    )  # fmt: skip
    found = count(config, Recipe().lora, 16)
    block = 4 * (64 * 64 + 64) + 2 * 64 * 256 + 256 + 64 + 4 * 64
    tables = (100 + 32 + 2) * 64 + 2 * 64
    assert found.weights == found.trained == 4 * (3 * block + tables + 64 * 64 + 64)
    twice = BertConfig(**config.to_dict() | {"num_hidden_layers": 6})
    once = BertConfig(**config.to_dict() | {"num_hidden_layers": 1})
    six, one = (count(c, Recipe().lora, 16).token for c in (twice, once))
    assert six - found.token == pytest.approx(1.5 * (found.token - one), rel=1e-6)


@pytest.mark.parametrize("changes", [{}, LORA | {"quantize": "nf4"}])
def test_a_deep_network_is_told_by_shallow_ones(changes):
    sizes = {"hidden_size": 64, "num_attention_heads": 2, "num_key_value_heads": 1}
    lora = Recipe(**changes).lora
    few, more, nine = (
        count(Qwen3Config(**sizes, vocab_size=99, num_hidden_layers=n), lora, 16)
        for n in (*forecasting.SHALLOW, 9)
    )
    assert astuple(deeper(few, more, 9)) == pytest.approx(astuple(nine))


def test_large_models_fit_where_memory_is_large(tmp_path, monkeypatch):
    told = forecasting.LARGE.read_text(encoding="utf-8").split('["Qwen3-Embedding 0.6B"]')[1]
    (tmp_path / "one.toml").write_text("[one]" + told.split("[")[0])
    monkeypatch.setattr(forecasting, "LARGE", tmp_path / "one.toml")
    full, lora, qlora = forecasting.large_models((8, 80)).cells
    assert full[:3] == ["one", "full", "2.4"]  # 0.6 billion weights of four bytes
    assert full[3] == "–"  # 7 GiB: weights, gradients and two moments are 9.5 GB
    assert 0 < int(lora[3]) < int(qlora[3]) < int(qlora[4]) and int(full[4]) > 100


def test_the_largest_batch_is_the_largest_that_fits():
    step = count(BertConfig(num_hidden_layers=2), Recipe().lora, 64)
    for room, beside in itertools.product((2e9, 1e10), (False, True)):
        assert step.at(step.tokens(room, beside), beside) == pytest.approx(room)
        assert step.at(1.01 * step.tokens(room, beside), beside) > room
    assert step.tokens(step.weights) < 0
    first, later = (step.at(9e3, beside) for beside in (False, True))
    assert later - first == pytest.approx(step.trained), "the gradients of the passes before"


def test_what_does_not_fit_is_said_with_what_to_change(tiny_domain, recipe):
    ample = forecast(recipe, tiny_domain)
    assert ample.largest == 30 and not ample.advice and ample.peak > ample.process
    short = forecast(recipe, tiny_domain, memory_gb=0.1)
    assert short.largest == 0 and short.advice[0] == "it does not fit"
    assert "lora_rank=16" in str(short)
    for line in short.advice[1:]:
        changed = eval(line.rsplit(":", 1)[0], {"recipe": recipe})  # noqa: S307
        assert changed != recipe


def test_a_step_that_was_counted_is_let_go():
    """A node's own output, kept as it is, would hold the node, and that its weights."""
    layer, x = torch.nn.Linear(3, 3), torch.ones(2, 3)
    weight = weakref.ref(layer.weight)
    with kept_for_backward(layer) as kept:
        side = layer(x).tanh()  # no backward pass comes by
    assert sum(storage.nbytes() for storage in kept.values()) >= side.nbytes
    del layer, side, kept
    gc.collect()
    assert weight() is None


def test_minutes_grow_with_the_epochs(tiny_domain, recipe):
    one, many = (forecast(recipe.replace(epochs=n), tiny_domain).minutes for n in (1, 50))
    assert many > 5 * one


def test_a_batch_is_as_long_as_its_texts(monkeypatch):
    lengths = np.array([10] * 99 + [1000])
    monkeypatch.setenv("EMBKIT_DEVICE", "cpu")
    one, many = (_fullest([lengths], 64, texts) for texts in (64, 64 * 50))
    assert 10 <= one < many < 200
    # two columns are seldom at their fullest in the same batch
    assert many < _fullest([lengths, lengths], 64, 64 * 50) < 2 * many
    monkeypatch.setattr("embkit.session.device", lambda: "cuda")  # padded to a batch's longest
    assert _fullest([lengths], 64, 64 * 50) == 1000


def test_what_is_no_transformer_is_refused(tiny_domain, tmp_path):
    with pytest.raises(EmbkitError, match="no transformer of texts"):
        forecast(
            Recipe(model=make_family("static", tmp_path) and str(tmp_path / "model")), tiny_domain
        )


def test_a_gpu_s_peak_is_the_gpu_s_own(tmp_path, monkeypatch):
    begun = []
    monkeypatch.setenv("EMBKIT_DEVICE", "cuda")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda: begun.append(1))
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: 7 * 2**20)
    with Watch(tmp_path, "a run", "dev", None, quiet=True) as watch:
        pass
    assert begun and watch.peak_memory_mb == 7
    monkeypatch.setenv("EMBKIT_DEVICE", "cpu")
    with Watch(tmp_path, "a run", "dev", None, quiet=True) as watch:
        pass
    assert watch.peak_memory_mb > 50, "the process's"


REFUSED = {"named 'nonsense'": LORA | {"lora_targets": ("nonsense",)}, "has 2": {"layers": 9}}


@pytest.mark.parametrize("said, changes", REFUSED.items())
def test_what_cannot_be_trained_is_refused_as_training_refuses_it(
    tiny_domain, recipe, said, changes
):
    with pytest.raises(EmbkitError, match=said):
        forecast(recipe.replace(**changes), tiny_domain)
