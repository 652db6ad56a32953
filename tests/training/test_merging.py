"""The general probe, and the mean of two models' weights."""

import numpy as np
import pytest
import torch

from embkit.data.sources.python_code import general_probe
from embkit.errors import EmbkitError
from embkit.evaluation.ranking import rank, score
from embkit.models.loading import load_model
from embkit.training.merging import MergeChoice, merge_weights, tune_share


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


def test_the_smallest_share_within_the_cost_is_chosen():
    dev = {0.5: 0.60, 0.6: 0.66, 0.7: 0.64, 0.8: 0.69, 1.0: 0.70}
    assert MergeChoice(dev, cost=0.01).best == 0.8
    assert MergeChoice(dev, cost=0.05).best == 0.6
    assert MergeChoice(dev, cost=0.0).best == 1.0
    assert (
        "0.8" in repr(MergeChoice(dev, 0.01)) and "<table" in MergeChoice(dev, 0.01)._repr_html_()
    )
    assert "dev sample nDCG@10" in repr(MergeChoice(dev, 0.01))
    whole = repr(MergeChoice(dev, 0.01, "dev"))  # the corpus is small: one figure, one name
    assert "dev nDCG@10" in whole and "on dev:" in whole


def test_each_share_is_judged_on_dev_alone(pair, tiny_domain):
    start, tuned = pair
    found = tune_share(tuned, start, tiny_domain, shares=(0.25,))
    merged = merge_weights(tuned, start, 0.25)
    for share, model in {0.25: merged, 1.0: tuned}.items():
        ranking = rank(model, tiny_domain, "dev", documents=tiny_domain.dev_corpus(), cache=False)
        wanted = score(ranking, tiny_domain, "dev")["ndcg@10"].mean()
        assert found.dev[share] == pytest.approx(wanted)


def test_no_share_and_a_negative_cost_are_one_clear_error(pair, tiny_domain):
    for wrong in ({"shares": ()}, {"cost": -0.1}):
        with pytest.raises(EmbkitError, match="at least one share"):
            tune_share(pair[1], pair[0], tiny_domain, **wrong)
