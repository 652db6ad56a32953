"""LoRA: what is trained, what is kept, and that merging changes nothing."""

import numpy as np
import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from sentence_transformers import SentenceTransformer

from embkit import adapters, training
from embkit.errors import EmbkitError
from embkit.recipes import Recipe

TEXTS = ["ocular sepsis", "cardiac trauma of a rather longer kind", "aural edema"]


@pytest.fixture
def recipe(tiny_model):
    return Recipe(
        model=str(tiny_model),
        epochs=2,
        batch_size=8,
        learning_rate=5e-2,
        lora_rank=2,
        lora_targets="query,value",
    )


def test_only_the_adapter_is_trained_and_it_is_kept_apart(store, tiny_domain, recipe, tiny_model):
    run = training.train(recipe, tiny_domain, quiet=True)
    start = SentenceTransformer(str(tiny_model), device="cpu")
    layers = [m for n, m in start.named_modules() if n.endswith(("query", "value"))]
    wanted = sum(2 * (m.in_features + m.out_features) for m in layers)
    assert run.record["trainable_params"] == wanted
    total = sum(p.numel() for p in start.parameters())
    assert run.record["total_params"] == total + wanted
    kept = load_file(run.path / "adapter" / "adapter_model.safetensors")
    assert sum(t.numel() for t in kept.values()) == wanted
    assert any(t.abs().max() > 0 for n, t in kept.items() if "lora_B" in n)  # it did learn

    before, after = start.state_dict(), run.model().state_dict()
    assert before.keys() == after.keys()  # the merged model is a plain one
    changed = {n for n, t in before.items() if not torch.equal(t, after[n])}
    assert changed == {
        f"{n}.weight" for n, _ in start.named_modules() if n.endswith(("query", "value"))
    }


def test_merged_equals_unmerged(store, tiny_domain, recipe, tiny_model):
    run = training.train(recipe, tiny_domain, quiet=True)
    apart = SentenceTransformer(str(tiny_model), device="cpu")
    apart[0].auto_model = PeftModel.from_pretrained(
        apart[0].auto_model, str(run.path / "adapter")
    )
    merged = run.model().encode(TEXTS)
    np.testing.assert_allclose(merged, apart.encode(TEXTS), atol=1e-5)
    plain = SentenceTransformer(str(tiny_model), device="cpu").encode(TEXTS)
    assert np.abs(merged - plain).max() > 1e-3


def test_alpha_scales_the_update(recipe):
    assert adapters.lora_settings(recipe)["lora_alpha"] == 4
    assert adapters.lora_settings(recipe.replace(lora_alpha=1))["lora_alpha"] == 1


@pytest.mark.parametrize("wanted", ["querry", "query,nothing", ","])
def test_unknown_targets_name_the_known_ones(store, tiny_domain, recipe, wanted):
    with pytest.raises(EmbkitError, match="dense, key, query, value"):
        training.train(recipe.replace(lora_targets=wanted), tiny_domain, quiet=True)


def test_an_adapter_for_another_base_is_refused(store, tiny_domain, recipe, minilm):
    run = training.train(recipe, tiny_domain, quiet=True)
    with pytest.raises(EmbkitError, match="does not fit"):
        adapters.merge(minilm, run.path / "adapter")
