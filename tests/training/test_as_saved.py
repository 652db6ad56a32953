"""What a base model was saved with: its prompts are trained with, its 16 bits are not."""

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules import Router
from sentence_transformers.sentence_transformer.modules import Normalize, Pooling
from transformers import TrainerCallback

import embkit
from embkit.auditing.base import Sample
from embkit.cli.subjects import encoded
from embkit.models import packing
from embkit.models.encoding import encode_as, prompt_of
from embkit.recipes import script as scripts
from embkit.recipes.recipe import Recipe
from embkit.training import lora, trainer
from embkit.training.heads import fit_head
from tests.training.compared import same, weights

PROMPTS = {"query": "pain in the liver: ", "document": "one eye, "}
GIVEN = {f"{kind}_prompt": prompt for kind, prompt in PROMPTS.items()}
LORA = {"lora_rank": 2, "lora_targets": ("query", "value"), "learning_rate": 5e-2}
APPROACHES = {
    "contrastive": {},
    "hard negatives": {"hard_negatives": 2},
    "whole corpus": {"approach": "corpus"},
    "LoRA": LORA,
    "QLoRA": LORA | {"quantize": "nf4"},
}


@pytest.fixture(scope="module")
def prompted(tiny_model, tmp_path_factory):
    """The tiny model, saved with prompts."""
    folder = tmp_path_factory.mktemp("prompted") / "model"
    SentenceTransformer(str(tiny_model), prompts=PROMPTS, device="cpu").save_pretrained(str(folder))
    return folder


@pytest.fixture
def recipe(tiny_model):
    return Recipe(model=str(tiny_model), epochs=1, batch_size=8, learning_rate=5e-3)


def by_library(model, texts):
    """What the library itself gives for queries and for documents."""
    return [call(texts, normalize_embeddings=True) for call in both(model)]


def both(model):
    return model.encode_query, model.encode_document


# ---- prompts


@pytest.mark.parametrize("changes", APPROACHES.values(), ids=APPROACHES)
def test_the_prompts_a_model_was_saved_with_are_trained_with(
    store, tiny_domain, recipe, prompted, changes
):
    recipe = recipe.replace(**changes)
    saved = trainer.train(recipe.replace(model=prompted), tiny_domain, quiet=True)
    told = trainer.train(recipe.replace(**GIVEN), tiny_domain, quiet=True)
    plain = trainer.train(recipe, tiny_domain, quiet=True)
    assert same(weights(saved), weights(told)) and not same(weights(saved), weights(plain))
    assert saved.record["prompts"] == told.record["prompts"] == PROMPTS
    assert PROMPTS["query"] in saved.table().to_markdown() and plain.record["prompts"] == {}
    # no prompts, where the recipe says so
    without = recipe.replace(model=prompted, query_prompt="", document_prompt="")
    off = trainer.train(without, tiny_domain, quiet=True)
    assert same(weights(off), weights(plain)) and not any(off.model().prompts.values())


@pytest.mark.parametrize("quantize", ["none", "nf4"])
def test_a_merged_adapter_reads_as_it_was_trained(store, tiny_domain, recipe, quantize):
    kept = []

    class Last(TrainerCallback):
        def on_train_end(self, args, state, control, model, **_):
            kept.extend(by_library(model, texts))

    texts = list(tiny_domain.corpus.values())
    recipe = recipe.replace(**LORA, **GIVEN, max_length=9, quantize=quantize)
    run = trainer.train(recipe, tiny_domain, quiet=True, callbacks=[Last()])
    merged = run.model()
    assert merged.max_seq_length == 9 and merged.prompts == PROMPTS
    for mine, trained in zip(by_library(merged, texts), kept, strict=True):
        np.testing.assert_allclose(mine, trained, atol=1e-4)
    again = lora.merge_adapter(recipe.model, run.path / lora.ADAPTER, quantized=quantize != "none")
    assert again.max_seq_length == 9 and again.prompts == PROMPTS


def test_an_adapter_of_another_library_is_merged_as_its_base_is(recipe, tmp_path, tiny_model):
    model = embkit.load_model(tiny_model)
    lora.add_lora(model, recipe.replace(**LORA).lora)
    model.save_pretrained(str(tmp_path / "adapter"))
    merged = lora.merge_adapter(tiny_model, tmp_path / "adapter")
    assert merged.max_seq_length == 48 and not any(merged.prompts.values())


def test_searching_auditing_and_exporting_read_as_the_library(tiny_domain, prompted):
    model, texts = embkit.load_model(prompted), list(tiny_domain.corpus.values())
    asked, shown = by_library(model, texts)
    assert np.abs(asked - shown).max() > 0.01
    sample = Sample(tiny_domain, model)
    for found, wanted in (
        (encoded(model, texts), shown),  # search, check and export of the command line
        (sample.encode(texts), asked),
        (sample.encode(texts, "document"), shown),
        (encode_as(model, texts, "query"), asked),
    ):
        np.testing.assert_allclose(found, wanted, atol=1e-5)


@pytest.mark.parametrize(
    ("prompts", "default"),
    [
        (PROMPTS, None),
        ({"query": "ask: ", "passage": "eye: "}, None),
        ({"corpus": "ear: "}, None),
        ({"eye": "in one eye "}, "eye"),
        ({}, None),
    ],
)
def test_which_prompt_is_the_librarys_own_choice(tiny_model, prompts, default):
    model = SentenceTransformer(str(tiny_model), device="cpu")
    model.prompts, model.default_prompt_name = dict(prompts), default
    for kind, call in zip(("query", "document"), both(model), strict=True):
        prompt = prompt_of(model, kind) or ""
        np.testing.assert_array_equal(call(["ache"]), model.encode(["ache"], prompt=prompt))


def test_a_function_gets_the_prompt_that_it_has():
    def table(texts):
        return [[len(text), 1.0] for text in texts]

    longer = np.array([[6.0, 1.0]])
    wanted = longer / np.linalg.norm(longer)
    np.testing.assert_allclose(embkit.encode(table, ["ear"], prompt="an "), wanted)


def test_a_model_of_two_ways_is_trained_on_both(store, tiny_domain, recipe, tiny_model, tmp_path):
    parts = list(SentenceTransformer(str(tiny_model), device="cpu"))[:1]
    router = Router.for_query_document(parts, list(embkit.load_model(tiny_model))[:1])
    model = SentenceTransformer(modules=[router, Pooling(32, "mean"), Normalize()], device="cpu")
    model.save_pretrained(str(tmp_path / "two"))
    run = trainer.train(recipe.replace(model=tmp_path / "two"), tiny_domain, quiet=True)
    texts = list(tiny_domain.corpus.values())[:5]
    before, after = by_library(model, texts), by_library(run.model(), texts)
    assert all(np.abs(a - b).max() > 0.01 for a, b in zip(before, after, strict=True))


# ---- weights of 16 bits


@pytest.fixture(scope="module", params=["float16", "bfloat16"])
def halved(request, tiny_model, tmp_path_factory):
    """The tiny model, saved in 16 bits; and the same values, saved in fp32."""
    folder = tmp_path_factory.mktemp(request.param)
    dtype = getattr(torch, request.param)
    model = SentenceTransformer(str(tiny_model), device="cpu", model_kwargs={"dtype": dtype})
    model.save_pretrained(str(folder / "half"))
    model.float().save_pretrained(str(folder / "whole"))
    return folder


@pytest.mark.parametrize("changes", [{}, LORA], ids=["every weight", "LoRA"])
def test_weights_of_16_bits_are_trained_in_32(store, tiny_domain, recipe, halved, changes):
    small = recipe.replace(learning_rate=1e-5) if not changes else recipe.replace(**changes)
    half, whole = (
        trainer.train(small.replace(model=halved / name), tiny_domain, quiet=True)
        for name in ("half", "whole")
    )
    assert same(weights(half), weights(whole))
    assert {t.dtype for t in weights(half).values()} == {torch.float32}


def test_weights_of_16_bits_are_encoded_in_the_other_16(tiny_domain, halved, monkeypatch):
    monkeypatch.setenv("EMBKIT_PRECISION", "bf16")
    model, texts = embkit.load_model(halved / "half"), list(tiny_domain.corpus.values())
    many = texts + [f"{text} {i}" for i in range(30) for text in texts]  # as many as a copy is for
    wanted = SentenceTransformer(str(halved / "whole"), device="cpu").encode(
        many, normalize_embeddings=True
    )
    for rows in (texts, many):
        found = embkit.encode(model, rows, cache=False)
        assert np.abs(found - wanted[: len(rows)]).max() < 0.03


def test_a_head_goes_behind_16_bits(store, tiny_domain, halved):
    model = fit_head("linear", tiny_domain, halved / "half", epochs=1).model()
    assert embkit.encode(model, ["ache"], task="query").shape == (1, 32)


# ---- dropout


def test_no_dropout_is_left_in_attention():
    from transformers import BartConfig, BartModel, T5Config, T5EncoderModel

    sizes = {"d_model": 32, "vocab_size": 50}
    t5 = T5EncoderModel(T5Config(**sizes, d_kv=8, d_ff=48, num_heads=4, num_layers=2))
    bart = BartModel(BartConfig(**sizes, encoder_layers=1, decoder_layers=1, attention_dropout=0.5))
    for network in (t5, bart):
        network.train()
        ids = torch.arange(10, 40)[None]
        first, other = (network(input_ids=ids).last_hidden_state for _ in range(2))
        assert not torch.equal(first, other)
        packing.set_dropout(network, 0.0)
        first, other = (network(input_ids=ids).last_hidden_state for _ in range(2))
        assert torch.equal(first, other)
        # and in the words of the script
        packing.set_dropout(network, 0.5)
        script = scripts.stock_script(Recipe(dropout=0.0))
        start = script.index(
            "for module in model.modules():\n    if isinstance(module, torch.nn.Dropout)"
        )
        lines = script[start : script.index("\nasked, shown", start)]
        assert lines.count("\n") == 5
        exec(lines, {"model": network, "torch": torch})
        first, other = (network(input_ids=ids).last_hidden_state for _ in range(2))
        assert torch.equal(first, other)
