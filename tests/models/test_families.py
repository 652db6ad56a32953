"""Every family's vectors and gradients are sentence-transformers' own, whichever way is taken."""

import functools
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from sentence_transformers.sentence_transformer import losses
from transformers.masking_utils import AttentionMaskInterface

from embkit.models import packing, trial
from tests.families import LONGEST, MANY_WORDS, MORE, NETWORKS, WINDOW, make_family

# positions count the padding on the left
ABSOLUTE = ["bert-cls", "minilm", "distilbert", "albert", "bigbird", "electra", "gpt2"]
ABSOLUTE += ["deberta", "roformer"]
GROUPED = ["xlm-r", "mpnet", "t5", "bigbird", "deberta", "gemma2", "mamba", "roformer"]
ENCODERS = [*NETWORKS, *MORE]
CASES = [(name, side) for name in ENCODERS for side in ("left", "right")]
CASES += [("static", "right"), ("router", "right")]
WAYS = dict.fromkeys(GROUPED, "grouped") | {"static": "plain"}


@pytest.fixture(autouse=True)
def tried_anew(monkeypatch):
    """What another test has found out about a family is not known here."""
    monkeypatch.setattr(packing, "_TRIED", {})


@functools.cache
def family(name, side):
    """One model a test process; no test changes it."""
    changes = {"padding_side": side} if name in ENCODERS else {}
    with tempfile.TemporaryDirectory() as folder:
        return make_family(name, Path(folder), **changes)


def texts(seed, count=18):
    """Random ones, of 1 word up to more than a model reads."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, LONGEST + 10, size=count)
    lengths[: count // 3] = rng.integers(1, 9, size=count // 3)
    return [" ".join(rng.choice(MANY_WORDS, size=n)) for n in rng.permutation(lengths)]


@pytest.mark.parametrize(("name", "side"), CASES)
def test_embeddings_are_the_librarys_at_any_length(name, side):
    model = family(name, side)
    for seed, tokens in ((0, 200), (1, 2048)):
        some = texts(seed)
        for task, encode in (
            ("query", model.encode_query),
            ("document", model.encode_document),
        ):
            prompt, expected = model.prompts.get(task) or None, encode(some)
            found = packing.embed(model, some, prompt=prompt, task=task, tokens=tokens).numpy()
            np.testing.assert_allclose(found, expected, atol=1e-5)
    # and the vectors tell texts apart, so that equality means something
    assert np.ptp(expected, axis=0).max() > 0.05


@pytest.mark.parametrize(("name", "side"), CASES)
def test_the_way_that_is_taken(name, side):
    model = family(name, side)
    if name == "router":
        ways = [packing.engine(model, task) for task in ("query", "document")]
        assert ways == ["plain", "grouped"]
        return
    expected = WAYS.get(name, "packed")
    if side == "left" and name in ABSOLUTE:
        expected = "plain"
    assert packing.engine(model) == expected


@pytest.mark.parametrize(("name", "side"), [case for case in CASES if case[0] in ENCODERS])
def test_loss_and_gradients_are_the_librarys(name, side):
    model = family(name, side).eval()
    loss = losses.MultipleNegativesRankingLoss(model)
    prompt = model.prompts.get("query") or None
    columns = [model.preprocess(texts(3, 9), prompt=prompt), model.preprocess(texts(4, 9))]

    def outcome():
        model.zero_grad()
        value = loss([dict(column) for column in columns], None)
        value.backward()
        return value.item(), {n: p.grad for n, p in model.named_parameters()}

    value, gradients = outcome()
    with packing.efficient(model):
        found, others = outcome()
    assert found == pytest.approx(value, abs=1e-5)
    for weight, gradient in gradients.items():
        if gradient is not None:
            torch.testing.assert_close(others[weight], gradient, atol=2e-5, rtol=2e-3)


@pytest.mark.parametrize("excluded", [False, True])
@pytest.mark.parametrize("mode", ["cls", "mean", "max", "weightedmean", "lasttoken"])
def test_every_pooling_with_and_without_the_prompt(mode, excluded, tmp_path):
    model = make_family("qwen3", tmp_path)
    model[1].pooling_mode, model[1].include_prompt = mode, not excluded
    prompt, some = model.prompts["query"], texts(5)
    np.testing.assert_allclose(
        packing.embed(model, some, prompt=prompt).numpy(), model.encode_query(some), atol=1e-5
    )


@pytest.mark.parametrize("name", ["qwen3", "gemma3"])
def test_a_network_whose_norms_stay_in_fp32_is_packed_in_bf16_too(name, monkeypatch):
    model, some = family(name, "right"), texts(2)
    wanted = packing.embed(model, some)
    monkeypatch.setenv("EMBKIT_PRECISION", "bf16")
    found = packing.embed(model, some)
    assert packing.engine(model) == "packed"
    assert 1e-6 < 1 - torch.cosine_similarity(found, wanted).min() < 0.01


@pytest.mark.parametrize("name", ["modernbert", "gemma3", "qwen3"])
def test_the_trial_fails_a_packing_that_forgets_what_a_token_may_see(name, tmp_path, monkeypatch):
    register = AttentionMaskInterface.register
    model = make_family(name, tmp_path)
    register(packing.ATTENTION, lambda *args, **kwargs: None)
    try:
        assert packing.engine(model) == "grouped"
    finally:
        register(packing.ATTENTION, packing._sight)


def test_texts_within_the_window_would_not_have_shown_it(tmp_path, monkeypatch):
    """Why the long text of a trial is long."""
    model = make_family("modernbert", tmp_path)
    monkeypatch.setattr(model, "max_seq_length", WINDOW - 1)
    AttentionMaskInterface.register(packing.ATTENTION, lambda *args, **kwargs: None)
    try:
        assert packing.engine(model) == "packed"
        model.max_seq_length = LONGEST  # tried anew
        assert packing.engine(model) == "grouped"
    finally:
        AttentionMaskInterface.register(packing.ATTENTION, packing._sight)


def test_a_model_whose_window_is_longer_than_any_trial_is_not_packed(tmp_path, monkeypatch):
    monkeypatch.setattr(trial, "LONG", 10)
    monkeypatch.setattr(trial, "LONGEST", WINDOW)
    model = make_family("modernbert", tmp_path)
    assert packing.engine(model) == "grouped"
    model.max_seq_length = WINDOW  # never more than a layer sees
    assert packing.engine(model) == "packed"


def test_the_trial_fails_a_packing_whose_gradient_differs(tmp_path, monkeypatch):
    attend = packing._attend

    def halved(module, query, *args, **kwargs):
        return attend(module, query, *args, **kwargs)[0] * 0.5 + 0.5 * attend(
            module, query.detach(), *args, **kwargs
        )[0], None

    packing.AttentionInterface.register(packing.ATTENTION, halved)
    try:
        assert packing.engine(make_family("minilm", tmp_path)) == "grouped"
    finally:
        packing.AttentionInterface.register(packing.ATTENTION, attend)


def test_the_side_of_padding_is_part_of_the_case(tmp_path):
    model = make_family("minilm", tmp_path)
    assert packing.engine(model) == "packed"
    model.tokenizer.padding_side = "left"
    assert packing.engine(model) == "plain"
    some = texts(6)
    np.testing.assert_allclose(packing.embed(model, some).numpy(), model.encode(some), atol=1e-6)


@pytest.mark.parametrize("side", ["left", "right"])
def test_a_part_of_a_batch_keeps_the_columns_of_its_texts(side):
    mask = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0], [1, 0, 0, 0]])
    ids = torch.tensor([[5, 6, 7, 8], [3, 4, 0, 0], [2, 0, 0, 0]])
    if side == "left":
        mask, ids = mask.flip(1), ids.flip(1)
    part = packing._part({"input_ids": ids, "attention_mask": mask}, torch.tensor([2, 1]))
    expected = [[2, 0], [3, 4]] if side == "right" else [[0, 2], [4, 3]]
    assert part["input_ids"].tolist() == expected
    assert part["attention_mask"].sum(dim=1).tolist() == [1, 2]


def test_a_trial_leaves_the_model_as_it_was(tmp_path):
    model = make_family("qwen3", tmp_path).train()
    before = model[0].auto_model.config._attn_implementation
    with torch.inference_mode():
        packing.engine(model)
    assert model.training and all(p.grad is None for p in model.parameters())
    assert model[0].auto_model.config._attn_implementation == before
    assert not any(m._forward_hooks for m in model.modules())
