"""The general probe, and the mean of two models' weights."""

import numpy as np
import pytest
import torch

from embkit.data.sources.python_code import general_probe
from embkit.errors import EmbkitError
from embkit.models.loading import load_model
from embkit.training.merging import merge_weights


def test_the_probe_asks_about_functions_and_trains_on_nothing(monkeypatch):
    monkeypatch.setenv("EMBKIT_PROFILE", "workshop")
    probe = general_probe()
    assert probe.test_splits == ("general",) and not probe.qrels["train"]
    right = {d for judged in probe.qrels["general"].values() for d in judged}
    assert right <= set(probe.corpus) and len(probe.corpus) >= 1_000
    assert len(probe.qrels["general"]) >= 200
    assert general_probe() is probe
    monkeypatch.setenv("EMBKIT_PROFILE", "smoke")
    small = general_probe()
    assert len(small.qrels["general"]) == 60 and len(small.corpus) < 200
    assert set(small.corpus) == {d for judged in small.qrels["general"].values() for d in judged}


@pytest.fixture
def pair(tiny_model):
    start, tuned = load_model(tiny_model), load_model(tiny_model)
    with torch.no_grad():
        for weight in tuned.parameters():
            weight += torch.randn(weight.shape, generator=torch.Generator().manual_seed(1)) * 0.1
    return start, tuned


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_each_weight_is_the_weighted_mean(pair, share):
    start, tuned = pair
    before = {name: weight.clone() for name, weight in tuned.state_dict().items()}
    merged = merge_weights(tuned, start, share).state_dict()
    for name, weight in start.state_dict().items():
        wanted = (1 - share) * weight.double() + share * before[name].double()
        np.testing.assert_allclose(merged[name], wanted, atol=1e-6)
        assert torch.equal(tuned.state_dict()[name], before[name]), "the tuned model is left alone"


def test_a_share_beyond_one_and_another_model_are_one_clear_error(pair, tiny_model, minilm):
    with pytest.raises(EmbkitError, match="0 to 1"):
        merge_weights(*pair, share=1.5)
    with pytest.raises(EmbkitError, match="fine-tuned from"):
        merge_weights(pair[0], minilm)
