"""LoRA and QLoRA: what is trained, what is kept, and that merging changes nothing."""

import json
import shutil
import sys

import numpy as np
import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Dense

import embkit
from embkit.errors import EmbkitError
from embkit.models import packing, quantized
from embkit.models.encoding import weights_fingerprint
from embkit.recipes import settings
from embkit.recipes.recipe import Recipe
from embkit.training import lora, trainer
from tests.families import NETWORKS, make_family

TEXTS = ["ocular sepsis", "cardiac trauma of a rather longer kind", "aural edema"]
VARIANTS = {
    "plain": {},
    "rsLoRA": {"lora_variant": "rslora"},
    "DoRA": {"lora_variant": "dora"},
    "the table of word pieces": {"lora_targets": ("query", "word_embeddings")},
    "LoRA+": {"lora_plus": 4.0, "learning_rate": 1e-2},
    "QLoRA": {"quantize": "nf4"},
}


@pytest.fixture
def recipe(tiny_model):
    return Recipe(
        model=str(tiny_model),
        epochs=2,
        batch_size=8,
        learning_rate=5e-2,
        lora_rank=2,
        lora_targets=("query", "value"),
    )


def fresh(tiny_model, nf4=False):
    load = quantized.load_quantized if nf4 else embkit.load_model
    return load(tiny_model)


def test_only_the_adapter_is_trained_and_it_is_kept_apart(store, tiny_domain, recipe, tiny_model):
    run = trainer.train(recipe, tiny_domain, quiet=True)
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


@pytest.mark.parametrize("changes", VARIANTS.values(), ids=VARIANTS)
def test_merged_equals_unmerged(store, tiny_domain, recipe, tiny_model, changes):
    run = trainer.train(recipe.replace(**changes), tiny_domain, quiet=True)
    apart = fresh(tiny_model, nf4="quantize" in changes)
    apart[0].auto_model = PeftModel.from_pretrained(apart[0].auto_model, str(run.path / "adapter"))
    merged = run.model()
    np.testing.assert_allclose(merged.encode(TEXTS), apart.encode(TEXTS), atol=1e-5)
    plain = SentenceTransformer(str(tiny_model), device="cpu")
    assert np.abs(merged.encode(TEXTS) - plain.encode(TEXTS)).max() > 1e-3
    assert merged.state_dict().keys() == plain.state_dict().keys()
    assert {p.dtype for p in merged.parameters()} == {torch.float32}
    assert "quantization" not in (run.path / "model" / "config.json").read_text()


@pytest.mark.parametrize("changes", [{}, {"lora_variant": "rslora"}], ids=["plain", "rsLoRA"])
def test_the_layer_is_w_and_b_a_times_a_scale(store, tiny_domain, recipe, tiny_model, changes):
    recipe = recipe.replace(lora_alpha=3.0, lora_rank=4, **changes)
    run = trainer.train(recipe, tiny_domain, quiet=True)
    kept = load_file(run.path / "adapter" / "adapter_model.safetensors")
    name = next(n for n in kept if "lora_A" in n)
    a, b = kept[name], kept[name.replace("lora_A", "lora_B")]
    place = name.removeprefix("base_model.model.").removesuffix(".lora_A.weight") + ".weight"
    before = fresh(tiny_model)[0].auto_model.get_parameter(place)
    after = run.model()[0].auto_model.get_parameter(place)
    scale = 3.0 / (2.0 if changes else 4.0)  # the square root of 4, or 4
    torch.testing.assert_close(after, before + scale * b @ a)


def test_alpha_scales_the_update(recipe):
    assert settings.lora_settings(recipe.lora)["lora_alpha"] == 4
    assert settings.lora_settings(recipe.replace(lora_alpha=1).lora)["lora_alpha"] == 1


def test_lora_plus_gives_b_a_learning_rate_of_its_own(recipe, tiny_model):
    recipe = recipe.replace(
        lora_plus=8.0, weight_decay=0.1, lora_targets=("query", "word_embeddings")
    )
    model = fresh(tiny_model)
    assert lora.make_optimizer(model, recipe.replace(lora_plus=1.0).lora) is None
    lora.add_lora(model, recipe.lora)
    optimizer = lora.make_optimizer(model, recipe.lora)
    rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    assert {group["weight_decay"] for group in optimizer.param_groups if group["params"]} == {0.1}
    trained = {n: p for n, p in model.named_parameters() if p.requires_grad}
    assert rates.keys() == {id(p) for p in trained.values()}
    for name, weight in trained.items():
        assert rates[id(weight)] == pytest.approx(0.4 if "lora_B" in name else 0.05)


@pytest.mark.parametrize("variant", ["plain", "dora"])
def test_no_input_of_a_branch_is_copied_in_fp32_before_its_16_bits(tiny_model, recipe, variant):
    """The product, and its gradients, are those that peft gives, to the last bit."""
    model = fresh(tiny_model)
    lora.add_lora(model, recipe.replace(lora_variant=variant).lora)
    layers = [module for module in model.modules() if hasattr(module, "lora_A")]
    for layer in layers:
        torch.nn.init.normal_(layer.lora_B["default"].weight)

    def made():
        x, casts = torch.randn(3, layers[0].in_features, dtype=torch.bfloat16), []
        x.requires_grad_(True)
        hook = lambda _, inputs: casts.append(inputs[0].dtype)  # noqa: E731
        handle = layers[0].lora_A["default"].register_forward_pre_hook(hook)
        with torch.autocast("cpu", torch.bfloat16):
            y = layers[0](x)
        y.float().square().sum().backward()
        handle.remove()
        kept = [y, x.grad, layers[0].lora_A["default"].weight.grad.clone()]
        layers[0].zero_grad()
        return set(casts), kept

    torch.manual_seed(0)
    ours = made()
    for layer in layers:
        layer.cast_input_dtype_enabled = True
    torch.manual_seed(0)
    theirs = made()
    assert theirs[0] == {torch.float32}
    assert ours[0] == {torch.float32 if variant == "dora" else torch.bfloat16}
    assert all(torch.equal(a, b) for a, b in zip(ours[1], theirs[1], strict=True))


@pytest.mark.parametrize("wanted", ["querry", ("query", "nothing"), ()])
def test_unknown_targets_name_the_known_ones(store, tiny_domain, recipe, wanted):
    with pytest.raises(EmbkitError, match="dense, key, position_embeddings, query") as caught:
        trainer.train(recipe.replace(lora_targets=wanted), tiny_domain, quiet=True)
    assert "lora_targets=('dense', 'key', 'query', 'value')" in caught.value.hint


@pytest.mark.parametrize("family", NETWORKS)
def test_every_linear_layer_of_any_family_is_trained_kept_and_merged(
    store, tiny_domain, family, tmp_path
):
    plain = make_family(family, tmp_path)
    if family == "gemma3":  # as EmbeddingGemma, with layers after its pooling
        plain.insert(2, Dense(32, 32, activation_function=torch.nn.Identity()))
        plain.save_pretrained(str(tmp_path / "model"))
    recipe = Recipe(model=str(tmp_path / "model"), epochs=1, batch_size=8, learning_rate=1e-2)
    with pytest.raises(EmbkitError, match="or 'auto'"):
        trainer.train(recipe.replace(lora_rank=2, lora_targets="q_projj"), tiny_domain, quiet=True)
    run = trainer.train(recipe.replace(lora_rank=2, lora_targets="auto"), tiny_domain, quiet=True)
    linear = {
        name: module
        for name, module in plain[0].auto_model.named_modules()
        if isinstance(module, torch.nn.Linear) and "pooler" not in name
    }
    wanted = sum(2 * (m.in_features + m.out_features) for m in linear.values())
    assert run.record["trainable_params"] == wanted and len(linear) >= 3 * 4
    before, after = plain.state_dict(), run.model().state_dict()
    assert before.keys() == after.keys()
    changed = {name for name, weight in before.items() if not torch.equal(weight, after[name])}
    assert changed == {f"0.model.{name}.weight" for name in linear}


def test_what_peft_refuses_is_said_once(tmp_path):
    with pytest.raises(EmbkitError, match="LoRA for MambaModel: .*out_proj") as caught:
        lora.add_lora(make_family("mamba", tmp_path), Recipe(lora_rank=2, lora_targets="auto").lora)
    assert "lora_rank=0" in caught.value.hint


def test_a_model_without_linear_layers_is_refused_in_one_sentence(tmp_path):
    for family in ("static", "router"):
        (tmp_path / family).mkdir()
        model = make_family(family, tmp_path / family)
        with pytest.raises(EmbkitError, match="a model of one transformer") as caught:
            lora.add_lora(model, Recipe(lora_rank=2, lora_targets="auto").lora)
        assert "lora_rank=0" in caught.value.hint


# -- an adapter for another base --


def test_an_adapter_for_another_base_is_refused(store, tiny_domain, recipe, minilm):
    run = trainer.train(recipe, tiny_domain, quiet=True)
    for known in (True, False):  # by the weights' hash, or else by shapes
        if not known:
            (run.path / "adapter" / "base.json").unlink()
        with pytest.raises(EmbkitError, match="does not fit"):
            lora.merge_adapter(minilm, run.path / "adapter")


def test_an_adapter_for_other_weights_of_the_same_shapes_is_refused(store, tiny_domain, recipe):
    run = trainer.train(recipe, tiny_domain, quiet=True)
    with pytest.raises(EmbkitError, match="trained on the weights of") as caught:
        lora.merge_adapter(run.path / "model", run.path / "adapter")
    assert recipe.model in str(caught.value)
    assert json.loads((run.path / "adapter" / "base.json").read_text())["model"] == recipe.model


def test_an_adapter_with_matrices_missing_is_refused(store, tiny_domain, recipe, tmp_path):
    run = trainer.train(recipe, tiny_domain, quiet=True)
    part = tmp_path / "part"
    shutil.copytree(run.path / "adapter", part)
    kept = load_file(part / "adapter_model.safetensors")
    kept.pop(sorted(kept)[0])
    save_file(kept, part / "adapter_model.safetensors")
    with pytest.raises(EmbkitError, match="7 matrices for 8 places"):
        lora.merge_adapter(recipe.model, part)
    with pytest.raises(EmbkitError, match="does not fit"):
        lora.merge_adapter(recipe.model, tmp_path / "nowhere")


# -- several adapters on one base --


def test_adapters_are_switched_at_run_time(store, tiny_domain, recipe, tiny_model):
    runs = {
        seed: trainer.train(recipe.replace(seed=seed), tiny_domain, quiet=True) for seed in (1, 2)
    }
    shared = fresh(tiny_model)
    plain = embkit.encode(shared, TEXTS)
    for seed, run in runs.items():
        shared.load_adapter(str(run.path / "adapter"), adapter_name=f"seed{seed}")
    for seed in (1, 2, 1):
        shared.set_adapter(f"seed{seed}")
        expected = embkit.encode(runs[seed].model(), TEXTS)
        np.testing.assert_allclose(embkit.encode(shared, TEXTS), expected, atol=1e-5)
    shared.disable_adapters()
    np.testing.assert_allclose(embkit.encode(shared, TEXTS), plain, atol=1e-6)


def test_the_adapter_in_use_is_part_of_a_models_fingerprint(recipe, tiny_model):
    model = fresh(tiny_model)
    bare = weights_fingerprint(model)
    lora.add_lora(model, recipe.lora)
    model.add_adapter(model[0].auto_model.peft_config["default"], "second")
    found = [bare]
    for switch in (lambda: model.set_adapter("default"), lambda: model.set_adapter("second")):
        switch()
        found.append(weights_fingerprint(model))
    model.disable_adapters()
    found.append(weights_fingerprint(model))
    assert len(set(found)) == 4
    model.enable_adapters()
    assert weights_fingerprint(model) == found[2]


# -- four bits --


def test_four_bits_by_hand(tiny_model):
    from bitsandbytes.functional import dequantize_4bit, get_4bit_type

    weight = fresh(tiny_model)[0].auto_model.encoder.layer[0].output.dense.weight.detach()
    blocks = weight.reshape(-1, 64)
    largest = blocks.abs().max(dim=1, keepdim=True).values
    values = get_4bit_type("nf4", device="cpu").data
    nearest = ((blocks / largest)[..., None] - values).abs().argmin(-1)
    by_hand = (values[nearest] * largest).reshape(weight.shape)
    kept = fresh(tiny_model, nf4=True)[0].auto_model.encoder.layer[0].output.dense.weight
    torch.testing.assert_close(dequantize_4bit(kept.data, kept.quant_state), by_hand)


def test_weight_bytes_count_codes_scales_and_values(tiny_model):
    size = quantized.weight_bytes(fresh(tiny_model, nf4=True))
    shapes = [(32, 32)] * 4 + [(64, 32)] * 2
    weights = 2 * sum(a * b for a, b in shapes) + 32 * 32  # two layers and the pooler
    kept = weights // 2 + 4 * weights // 64 + 13 * 16 * 4
    assert size["layers"] == 13 and size["MB in fp32"] == 4e-6 * weights
    assert size["MB"] == kept / 1e6 and size["ratio"] == kept / (4 * weights) < 0.30
    none = quantized.weight_bytes(fresh(tiny_model))
    assert none["layers"] == 0 and none["ratio"] != none["ratio"]


def test_gradients_pass_four_bit_layers_also_after_an_evaluation(tiny_model, recipe):
    found = []
    for evaluated_before in (False, True):
        torch.manual_seed(0)
        model = fresh(tiny_model, nf4=True)
        packing.set_dropout(model, 0.0)
        lora.add_lora(model, recipe.lora)
        if evaluated_before:
            packing.embed(model, TEXTS)
        model.train()
        with packing.efficient(model):
            model(model.preprocess(TEXTS))["sentence_embedding"][:, :9].sum().backward()
        found.append({n: p.grad for n, p in model.named_parameters() if p.grad is not None})
    assert found[0].keys() == found[1].keys() and len(found[0]) == 8
    for name, gradient in found[0].items():
        torch.testing.assert_close(found[1][name], gradient)


def test_the_engine_packs_a_four_bit_model(tiny_model):
    model = fresh(tiny_model, nf4=True)
    assert packing.engine(model) == "packed"
    np.testing.assert_allclose(packing.embed(model, TEXTS).numpy(), model.encode(TEXTS), atol=1e-5)


def test_a_quantised_adapter_is_merged_into_what_four_bits_hold(
    store, tiny_domain, recipe, tiny_model
):
    run = trainer.train(recipe.replace(quantize="nf4"), tiny_domain, quiet=True)
    written_out = quantized.dequantize(fresh(tiny_model, nf4=True)).state_dict()
    kept, plain = run.model().state_dict(), fresh(tiny_model).state_dict()
    untouched = "0.model.encoder.layer.0.output.dense.weight"
    assert torch.equal(kept[untouched], written_out[untouched])
    assert not torch.equal(kept[untouched], plain[untouched])
    other = lora.merge_adapter(tiny_model, run.path / "adapter")
    assert torch.equal(other.state_dict()[untouched], plain[untouched])


def test_a_device_without_a_kernel_and_a_missing_library_are_said(monkeypatch):
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(quantized, "device", lambda: "meta")
        with pytest.raises(EmbkitError, match="no working 4-bit kernel for 'meta'") as caught:
            quantized.require_bitsandbytes()
    assert "quantize='none'" in caught.value.hint

    monkeypatch.setitem(sys.modules, "bitsandbytes", None)  # as if it were not installed
    with pytest.raises(EmbkitError, match="need bitsandbytes") as caught:
        quantized.load_quantized("minilm")
    assert "[qlora]" in caught.value.hint


# -- memory --


def test_a_footprint_counts_what_is_trained(tiny_domain, recipe, tiny_model):
    def measured(recipe):
        found = embkit.training.footprint(recipe, tiny_domain)
        assert found["total"] == pytest.approx(sum(found.values()) - found["total"])
        return {name: round(1e6 * size) for name, size in found.items()}

    start = fresh(tiny_model)
    total = 4 * sum(p.numel() for p in start.parameters())
    full = measured(recipe.replace(lora_rank=0))
    used = total - 4 * sum(p.numel() for n, p in start.named_parameters() if "pooler" in n)
    buffers = sum(b.numel() * b.element_size() for b in start.buffers())
    assert full["weights"] == total + buffers and full["gradients"] == used
    assert 2 * used <= full["optimizer"] <= 2 * used + 1000  # two moments, and a count a tensor
    lora = measured(recipe)
    assert lora["gradients"] == 4 * 2 * 4 * 64
    assert lora["weights"] == full["weights"] + lora["gradients"] and full["activations"] > 0
    four_bits = measured(recipe.replace(quantize="nf4"))
    assert four_bits["weights"] < lora["weights"] and four_bits["gradients"] == lora["gradients"]
