"""The engine's embeddings, loss and gradients against the stock forward pass."""

import json
import types

import numpy as np
import pytest
import torch
from datasets import Dataset
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer import losses

from embkit.models import packing

TEXTS = [
    "iron",
    "a fever of unknown origin that lasts for many days and nights",
    "iron deficiency",
    "pain in the left arm",
    "x",
    "pain in the right arm",
    "iron deficiency anemia with loss of blood",
]


@pytest.fixture
def model(tiny_model):
    model = SentenceTransformer(str(tiny_model), device="cpu")
    packing.set_dropout(model, 0.0)
    return model


def unpackable(model):
    model.__dict__["_embkit_engine"] = dict.fromkeys(
        [(None, model.tokenizer.padding_side, model.max_seq_length, "cpu")], "grouped"
    )
    assert packing.engine(model) == "grouped"
    return model


def test_pack_lays_texts_end_to_end_shortest_first():
    features = {
        "input_ids": torch.tensor([[5, 6, 7, 0], [8, 0, 0, 0], [1, 2, 3, 4]]),
        "attention_mask": torch.tensor([[1, 1, 1, 0], [1, 0, 0, 0], [1, 1, 1, 1]]),
        "modality": "text",
    }
    packed, place = packing.pack(features)
    assert packed["input_ids"].tolist() == [[8, 5, 6, 7, 1, 2, 3, 4]]
    assert packed["position_ids"].tolist() == [[0, 0, 1, 2, 0, 1, 2, 3]]
    assert packed["cu_seq_lens_q"].tolist() == [0, 1, 4, 8]
    assert place.tolist() == [1, 0, 2]
    assert packed["modality"] == "text" and "attention_mask" not in packed


def test_pack_takes_left_padding():
    features = {
        "input_ids": torch.tensor([[0, 0, 5], [1, 2, 3]]),
        "attention_mask": torch.tensor([[0, 0, 1], [1, 1, 1]]),
    }
    packed, _ = packing.pack(features)
    assert packed["input_ids"].tolist() == [[5, 1, 2, 3]]
    assert packed["position_ids"].tolist() == [[0, 0, 1, 2]]


@pytest.mark.parametrize("waste", [1.0, 1.2, 2.0])
def test_chunks_hold_every_row_once_and_waste_no_more_than_allowed(waste, monkeypatch):
    monkeypatch.setattr(packing, "WASTE", waste)
    lengths = torch.from_numpy(np.random.default_rng(0).integers(1, 60, size=200))
    groups = packing.chunks(lengths, smallest=4)
    assert sorted(torch.cat(groups).tolist()) == list(range(200))
    for rows in groups:
        padded = int(lengths[rows].max()) * len(rows)
        assert len(rows) <= 4 or padded <= waste * int(lengths[rows].sum())


@pytest.mark.parametrize("prepare", [lambda m: m, unpackable], ids=["packed", "chunked"])
def test_embeddings_equal_the_stock_ones(model, prepare):
    expected = model.encode(TEXTS, batch_size=2)
    found = packing.embed(prepare(model), TEXTS, tokens=24).numpy()
    np.testing.assert_allclose(found, expected, atol=2e-6)


def test_the_tiny_model_is_packed(model):
    assert packing.engine(model) == "packed"


def test_models_of_one_make_are_tried_once_and_others_anew(tiny_model, tmp_path, monkeypatch):
    tried = []
    monkeypatch.setattr(packing, "_TRIED", {})
    monkeypatch.setattr(packing, "first_equal", lambda model, *_: tried.append(model) or "packed")

    def engine(change=lambda model: None, folder=tiny_model):
        model = SentenceTransformer(str(folder), device="cpu")
        change(model)
        packing.engine(model)
        return len(tried)

    def other_weights(model):
        with torch.no_grad():
            model[0].auto_model.embeddings.word_embeddings.weight.mul_(2)

    def other_network(model):
        model[0].auto_model.pooler = torch.nn.Bilinear(2, 2, 2)

    def other_settings(model):
        model[0].auto_model.config.hidden_act = "relu"

    SentenceTransformer(str(tiny_model), device="cpu").save(str(tmp_path / "saved"))
    assert engine() == 1 and engine(other_weights) == 1 and engine(folder=tmp_path / "saved") == 1
    for number, change in enumerate(
        [
            lambda model: setattr(model, "max_seq_length", 8),
            lambda model: setattr(model.tokenizer, "padding_side", "left"),
            lambda model: setattr(model[1], "pooling_mode", "cls"),
            lambda model: model.to(torch.bfloat16),
            other_network,
            other_settings,
        ],
        start=2,
    ):
        assert engine(change) == engine(change) == number


@pytest.mark.parametrize("prepare", [lambda m: m, unpackable], ids=["packed", "chunked"])
def test_loss_and_every_gradient_equal_the_stock_ones(tiny_model, prepare):
    found = {}
    for name in ("stock", "engine"):
        model = SentenceTransformer(str(tiny_model), device="cpu")
        packing.set_dropout(model, 0.0)
        model.train()
        loss = losses.MultipleNegativesRankingLoss(model)
        columns = [model.preprocess(TEXTS[:3]), model.preprocess(TEXTS[3:6])]
        if name == "engine":
            with packing.efficient(prepare(model)):
                value = loss(columns, None)
        else:
            value = loss(columns, None)
        value.backward()
        found[name] = (
            value.item(),
            {n: p.grad for n, p in model.named_parameters() if p.grad is not None},
        )
    assert found["engine"][0] == pytest.approx(found["stock"][0], abs=1e-5)
    assert found["engine"][1].keys() == found["stock"][1].keys()
    for name, gradient in found["stock"][1].items():
        torch.testing.assert_close(found["engine"][1][name], gradient, atol=2e-5, rtol=1e-3)


@pytest.mark.parametrize("most", [1, 8], ids=["a text a part, long ones too", "several"])
def test_a_batch_that_is_larger_than_the_cache_likes_is_run_in_parts(tiny_model, monkeypatch, most):
    model = SentenceTransformer(str(tiny_model), device="cpu").train()
    packing.set_dropout(model, 0.0)
    features, found, run, parts = model.preprocess(TEXTS), [], packing.pack, []
    monkeypatch.setattr(packing, "pack", lambda f: (parts.append(1), run(f))[1])
    for tokens in (packing.CACHED, most):
        monkeypatch.setattr(packing, "CACHED", tokens)
        packing.engine(model)  # its trial packs, too
        parts.clear()
        with packing.efficient(model):
            vectors = model(dict(features))["sentence_embedding"]
        model.zero_grad()
        (vectors @ vectors.T).logsumexp(dim=1).sum().backward()
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        found.append((len(parts), vectors, gradients))
    (one, whole, expected), (several, vectors, gradients) = found
    read = int(features["attention_mask"].sum())
    assert (one, several) == (1, min(len(TEXTS), round(read / most)))
    torch.testing.assert_close(vectors, whole, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(gradients, expected, atol=1e-5, rtol=1e-4)


def test_freed_memory_is_given_back_while_it_trains(model, monkeypatch):
    asked = []
    monkeypatch.setattr(packing.session, "give_back", lambda **how: asked.append(how))
    with packing.efficient(model):
        asked.clear()  # what a trial of the engine has asked
        for _ in range(2):
            model(model.preprocess(TEXTS))
        layers = model[0].auto_model.config.num_hidden_layers
        # what lives shortly leaves holes in a single pass, too
        assert asked == 2 * (1 + layers) * [{"cycles": False, "each": packing.HOLES}]
        with torch.inference_mode():  # somebody waits for the answer to a query
            model(model.preprocess(TEXTS))
    assert len(asked) == 2 * (1 + layers)


def test_works_under_a_loss_that_wraps_the_forward_pass(model):
    inner = losses.MultipleNegativesRankingLoss(model)
    loss = losses.MatryoshkaLoss(model, inner, matryoshka_dims=[32, 16])
    model.train()
    columns = [model.preprocess(TEXTS[:3]), model.preprocess(TEXTS[3:6])]
    expected = loss([dict(c) for c in columns], None).item()
    with packing.efficient(model):
        assert loss(columns, None).item() == pytest.approx(expected, abs=1e-5)


def test_nothing_is_left_behind(model, tmp_path):
    before = model[0].auto_model.config._attn_implementation
    with packing.efficient(model):
        packing.embed(model, TEXTS)
        model.save_pretrained(str(tmp_path / "saved"))
    assert "forward" not in model.__dict__
    assert model[0].auto_model.config._attn_implementation == before
    for file in (tmp_path / "saved").rglob("*.json"):
        assert packing.ATTENTION not in file.read_text()


def test_the_attention_is_put_back_after_an_error(model):
    config = model[0].auto_model.config
    before = config._attn_implementation
    with packing.efficient(model), pytest.raises(IndexError):
        ids = torch.tensor([[10**6, 10**6]])
        model({"input_ids": ids, "attention_mask": torch.ones_like(ids)})
    assert config._attn_implementation == before
    assert "forward" not in model.__dict__


def test_a_distinct_text_is_embedded_once_and_order_is_kept(model, monkeypatch):
    seen = []
    preprocess = model.preprocess
    monkeypatch.setattr(
        model, "preprocess", lambda texts, **k: seen.extend(texts) or preprocess(texts, **k)
    )
    packing.engine(model)
    seen.clear()
    found = packing.embed(model, ["b", "a", "b", "a"])
    assert sorted(seen) == ["a", "b"]
    assert torch.equal(found[0], found[2]) and torch.equal(found[1], found[3])
    assert not torch.equal(found[0], found[1])


def test_batches_hold_each_text_once_with_texts_of_its_length(monkeypatch):
    texts = [f"{'ab ' * (n % 23)}{n}" for n in range(200)] + ["日本" * 40, "x" * 9000, "2", "2"]
    batches = list(packing._batches(texts, 64, window=32))
    flat = [text for batch in batches for text in batch]
    assert sorted(flat) == sorted(set(texts)) and len(flat) == len(texts) - 1
    assert [len(text.encode()) for text in flat] == sorted(
        (len(text.encode()) for text in flat), reverse=True
    )
    for batch in batches:
        longest = min(len(batch[0].encode()) // 4 + 3, 32)
        assert len(batch) == 1 or longest * len(batch) <= 64
    monkeypatch.setattr(packing, "is_picture", lambda text: text.startswith("ab"))
    for batch in packing._batches(texts, 640, window=None):
        assert len({text.startswith("ab") for text in batch}) == 1


def test_embed_of_nothing_and_with_a_prompt(model):
    assert packing.embed(model, []).shape == (0, 32)
    expected = model.encode(["iron"], prompt="query: ")
    np.testing.assert_allclose(
        packing.embed(model, ["iron"], prompt="query: ").numpy(), expected, atol=2e-6
    )


def test_training_inside_the_engine_gives_the_stock_trainers_weights(tiny_model, tmp_path):
    from sentence_transformers import SentenceTransformerTrainer as Trainer
    from sentence_transformers import SentenceTransformerTrainingArguments as Arguments

    pairs = Dataset.from_dict(
        {"anchor": TEXTS[:6], "positive": [t + " disease" for t in TEXTS[:6]]}
    )
    weights = []
    for packed in (False, True):
        model = SentenceTransformer(str(tiny_model), device="cpu")
        packing.set_dropout(model, 0.0)
        arguments = Arguments(
            output_dir=str(tmp_path / json.dumps(packed)),
            num_train_epochs=3,
            use_cpu=True,
            per_device_train_batch_size=3,
            learning_rate=1e-3,
            save_strategy="no",
            seed=1,
            disable_tqdm=True,
            report_to="none",
        )
        trainer = Trainer(
            model=model,
            args=arguments,
            train_dataset=pairs,
            loss=losses.MultipleNegativesRankingLoss(model),
        )
        if packed:
            with packing.efficient(model):
                trainer.train()
        else:
            trainer.train()
        weights.append({n: p.detach().clone() for n, p in model.named_parameters()})
    for name, weight in weights[0].items():
        torch.testing.assert_close(weights[1][name], weight, atol=5e-4, rtol=1e-2)


class OnGpu:
    """As much of a model as its budget looks at, on a GPU."""

    device, max_seq_length = torch.device("cuda"), 32_768

    def __init__(self, attention, **config):
        self.network = types.SimpleNamespace(
            config=types.SimpleNamespace(_attn_implementation=attention, **config)
        )

    def __getitem__(self, place):
        return types.SimpleNamespace(auto_model=self.network)


MINILM = {"hidden_size": 384, "intermediate_size": 1536, "num_attention_heads": 12}


@pytest.mark.parametrize(
    ("attention", "free", "length", "tokens"),
    [
        ("sdpa", 2**37, 64, packing.ON_GPU),  # never more, however much is free
        ("sdpa", 2**30, 64, 2**29 // (4 * (8 * 384 + 3 * 1536) + 5 * 64)),
        ("eager", 2**30, 8192, 2**29 // (4 * (8 * 384 + 3 * 1536) + 8 * 12 * 8192)),
        ("sdpa", 2**10, 8192, 1),
    ],
)
def test_a_gpu_is_given_what_its_free_memory_holds(monkeypatch, attention, free, length, tokens):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda on: (free, 2**40))
    text = "a" * (4 * (length - 3))
    assert packing.budget(OnGpu(attention, **MINILM), ["short", text]) == tokens


def test_a_batch_that_does_not_fit_is_halved(model, monkeypatch):
    texts = [f"word {i} of many" for i in range(40)]
    wanted, sizes, stock = packing.embed(model, texts, tokens=10**6), [], model.preprocess

    def preprocess(batch, **options):
        sizes.append(len(batch))
        if len(batch) > 12:
            raise torch.OutOfMemoryError("as a GPU says it")
        return stock(batch, **options)

    monkeypatch.setattr(model, "preprocess", preprocess)
    found = packing.embed(model, texts, tokens=10**6)
    assert sizes[-7:] == [40, 20, 10, 10, 20, 10, 10]
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=0)

    def never(batch, **options):
        raise torch.OutOfMemoryError("not even one text")

    monkeypatch.setattr(model, "preprocess", never)
    with pytest.raises(torch.OutOfMemoryError):
        packing._vectors(model, texts, None, {})


def test_the_library_s_own_batches_are_of_few_long_texts(model, monkeypatch):
    monkeypatch.setattr(packing, "engine", lambda *_: "plain")
    given = []
    stock = model.encode
    monkeypatch.setattr(
        model, "encode", lambda *a, **k: given.append(k["batch_size"]) or stock(*a, **k)
    )
    monkeypatch.setattr(packing, "ON_GPU", 2 * model.max_seq_length)
    packing.embed(model, ["word " * 2000, "eye"])
    monkeypatch.setattr(packing, "ON_GPU", 32_768)
    packing.embed(model, ["word", "eye"])
    assert given == [2, 32]
