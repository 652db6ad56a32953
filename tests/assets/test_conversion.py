"""Converters against models of our own, quantised by hand, and against the originals' figures."""

import json
import shutil

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from safetensors.torch import load_file
from sentence_transformers import CrossEncoder, SentenceTransformer
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    BertForSequenceClassification,
    BertModel,
    LlamaConfig,
    LlamaForCausalLM,
)

from embkit.assets.conversion import cross_encoder, language_model, onnx_weights, text_encoder
from embkit.models.encoding import encode
from embkit.models.loading import load_model

TEXTS = ["Infection of the ear", "aural sepsis", "Pain of the heart", "tumor, of one lung"]


@pytest.fixture(autouse=True)
def one_seed():
    torch.manual_seed(0)


# -- ONNX: weights --


def quantised(name, weights, *, columns=False, signed=True, node=None):
    """Initializers and a node, as onnxruntime's dynamic quantisation writes them.

    Args:
        name: of the weight; initializers are called ``name_quantized`` and so on.
        weights: as torch keeps them, (out, in); an embedding's as it is.
        columns: whether every column of (in, out) has a scale of its own.
        signed: int8 with zero point 0, else uint8 with another.
        node: name of the MatMulInteger that uses them; none: they are an embedding's.
    """
    array = weights.detach().numpy().T if node else weights.detach().numpy()
    axis = 0 if columns else None
    if signed:
        scale = np.abs(array).max(axis=axis) / 127
        zero = np.zeros_like(scale, dtype=np.int8)
    else:
        low, high = np.minimum(array.min(axis=axis), 0), np.maximum(array.max(axis=axis), 0)
        scale = (high - low) / 255
        zero = np.round(-low / scale).astype(np.uint8)
    scale = np.asarray(scale, np.float32)
    limits = np.iinfo(zero.dtype)
    integers = np.clip(np.round(array / scale) + zero, limits.min, limits.max).astype(zero.dtype)
    tensors = [
        numpy_helper.from_array(value, f"{name}_{what}")
        for what, value in (("quantized", integers), ("scale", scale), ("zero_point", zero))
    ]
    if node:
        inputs = [f"{node}_in", f"{name}_quantized", f"{node}_zero", f"{name}_zero_point"]
        return tensors, helper.make_node("MatMulInteger", inputs, [f"{node}_out"], name=node)
    inputs = [f"{name}_quantized", "ids"]
    return tensors, helper.make_node("Gather", inputs, [f"{name}_rows"], name=f"/{name}/Gather")


def write(path, tensors, nodes):
    graph = helper.make_graph(nodes, "made by hand", [], [], initializer=tensors)
    onnx.save(helper.make_model(graph), path)


def onnx_of(network, path, **how):
    """A network's weights as a quantised ONNX file; every second linear layer has lost its name."""
    tensors, nodes = [], []
    for number, (name, weights) in enumerate(network.state_dict().items()):
        if weights.ndim == 2 and "embeddings" not in name:
            layer = name.removesuffix(".weight").replace(".", "/").replace("layer/", "layer.")
            kept = number % 4 == 0
            found, node = quantised(
                name if kept else f"onnx::MatMul_{number}",
                weights,
                node=f"/{layer}/{'Gemm_' * kept}MatMul_quant",
                **how,
            )
        elif weights.ndim == 2:
            found, node = quantised(name, weights, signed=False)
        else:
            tensors.append(numpy_helper.from_array(weights.numpy(), name))
            continue
        tensors += found
        nodes.append(node)
    write(path, tensors, nodes)


def reference(name, path):
    """A weight's value by ONNX's own definition of DequantizeLinear."""
    stored = {x.name: x for x in onnx.load(path).graph.initializer}
    parts = [stored[f"{name}_{what}"] for what in ("quantized", "scale", "zero_point")]
    names = [x.name for x in parts]
    node = helper.make_node("DequantizeLinear", names, ["w"], axis=1)
    value = helper.make_tensor_value_info("w", TensorProto.FLOAT, list(parts[0].dims))
    graph = helper.make_graph([node], "g", [], [value], initializer=parts)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)])
    return torch.tensor(ReferenceEvaluator(model).run(None, {})[0])


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("columns", [True, False])
def test_a_weight_is_what_onnx_says_and_as_torch_keeps_it(tmp_path, columns, signed):
    weights = torch.randn(5, 3) * torch.tensor([[0.1], [1.0], [10.0], [1.0], [1.0]]) + 0.3
    for name, file in (("onnx::MatMul_7", "a.onnx"), ("layer.0.query.weight", "b.onnx")):
        node = "/encoder/layer.0/query/MatMul_quant"
        tensors, node = quantised(name, weights, columns=columns, signed=signed, node=node)
        write(tmp_path / file, tensors, [node])
        (found,) = onnx_weights(tmp_path / file).items()
        named = {"a.onnx": "encoder.layer.0.query.weight", "b.onnx": name}
        assert found[0] == named[file]
        assert found[1].dtype == torch.float32 and found[1].shape == (5, 3)
        torch.testing.assert_close(found[1], reference(name, tmp_path / file).T)
        scale = numpy_helper.to_array(tensors[1])  # a number, or one a row of (out, in)
        error = (found[1] - weights).abs().numpy() / np.reshape(scale, (-1, 1))
        assert error.max() < 0.51  # no weight moved by more than half a step


def test_an_embedding_keeps_its_way_round_and_plain_weights_pass(tmp_path):
    words, bias = torch.rand(7, 4) - 0.2, torch.randn(4)
    tensors, node = quantised("words.weight", words, signed=False)
    write(tmp_path / "a.onnx", [*tensors, numpy_helper.from_array(bias.numpy(), "bias")], [node])
    found = onnx_weights(tmp_path / "a.onnx")
    assert sorted(found) == ["bias", "words.weight"]
    assert torch.equal(found["bias"], bias)
    torch.testing.assert_close(
        found["words.weight"], reference("words.weight", tmp_path / "a.onnx")
    )
    assert (found["words.weight"] - words).abs().max() < 1 / 255


# -- ONNX: models --


@pytest.fixture
def source(tiny_model, tmp_path):
    """A package's folder: the tiny model's tokenizer, which says: always 40 tokens."""
    folder = tmp_path / "source"
    folder.mkdir()
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(tiny_model / name, folder / name)
    pieces = json.loads((folder / "tokenizer.json").read_text())
    pieces["padding"] = {
        "strategy": {"Fixed": 40},
        "direction": "Right",
        "pad_to_multiple_of": None,
        "pad_id": 0,
        "pad_type_id": 0,
        "pad_token": "[PAD]",
    }
    pieces["truncation"] = {
        "direction": "Right",
        "max_length": 40,
        "strategy": "LongestFirst",
        "stride": 0,
    }
    (folder / "tokenizer.json").write_text(json.dumps(pieces))
    return folder


@pytest.fixture
def target(tmp_path):
    folder = tmp_path / "target"
    folder.mkdir()
    return folder


@pytest.mark.parametrize("columns", [True, False])
def test_a_text_encoder_embeds_nearly_as_before_it_was_quantised(
    tiny_model, source, target, columns
):
    network = BertModel.from_pretrained(tiny_model, add_pooling_layer=False)
    onnx_of(network, source / "model.onnx", columns=columns)
    text_encoder(source, target, heads=4, pooling="mean")
    model, original = load_model(target), load_model(tiny_model)
    assert type(model) is SentenceTransformer and model.get_embedding_dimension() == 32
    found, wanted = (encode(m, TEXTS, cache=False) for m in (model, original))
    assert (found * wanted).sum(axis=1).min() > 0.999
    assert np.abs(found - wanted).max() > 1e-6  # it was quantised
    other = wanted[[1, 2, 3, 0]]  # and a text's vector is not another's
    assert (found * other).sum(axis=1).max() < 0.99


def test_a_text_encoder_pools_as_it_is_told(tiny_model, source, target):
    onnx_of(BertModel.from_pretrained(tiny_model, add_pooling_layer=False), source / "model.onnx")
    text_encoder(source, target, heads=4, pooling="cls")
    model = SentenceTransformer(str(target), device="cpu")
    network = BertModel.from_pretrained(target).eval()
    tokens = AutoTokenizer.from_pretrained(target)(TEXTS, padding=True, return_tensors="pt")
    with torch.no_grad():
        first = network(**tokens).last_hidden_state[:, 0]  # (texts, dim): that of [CLS]
    wanted = torch.nn.functional.normalize(first, dim=-1)
    torch.testing.assert_close(torch.tensor(model.encode(TEXTS)), wanted)


def test_every_load_has_the_same_weights(tiny_model, source, target):
    onnx_of(BertModel.from_pretrained(tiny_model, add_pooling_layer=False), source / "model.onnx")
    text_encoder(source, target, heads=4, pooling="cls")
    first, second = (load_model(target).state_dict() for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert not any("pooler" in name and weights.any() for name, weights in first.items())


@pytest.fixture
def classifier(tiny_model):
    """The tiny network with a head of one logit, all of it random."""
    network = BertForSequenceClassification.from_pretrained(tiny_model, num_labels=1)
    with torch.no_grad():
        network.classifier.weight.normal_(std=2)
        network.bert.pooler.dense.weight.normal_(std=0.3)
    return network.eval()


@pytest.mark.parametrize("columns", [True, False])
def test_a_cross_encoder_gives_the_logits_it_had(classifier, source, target, columns):
    onnx_of(classifier, source / "model.onnx", columns=columns)
    cross_encoder(source, target, heads=4)
    pairs = [(TEXTS[i], TEXTS[j]) for i in range(4) for j in range(4)]
    model = CrossEncoder(str(target), device="cpu")
    tokenizer = AutoTokenizer.from_pretrained(target)
    tokens = tokenizer(*map(list, zip(*pairs, strict=True)), padding=True, return_tensors="pt")
    assert tokens["token_type_ids"].any()
    pieces = json.loads((target / "tokenizer.json").read_text())
    assert pieces["padding"] is None and pieces["truncation"] is None
    with torch.no_grad():
        wanted = classifier(**tokens).logits[:, 0].numpy()
    found = model.predict(pairs)
    assert np.std(wanted) > 0.3
    assert np.abs(found - wanted).max() < 0.25 * np.std(wanted)
    assert found.max() > 1  # logits, no sigmoid
    stored = onnx_weights(source / "model.onnx")
    assert all(
        torch.equal(stored[k], v) for k, v in load_file(target / "model.safetensors").items()
    )


def test_a_conversion_leaves_the_random_numbers_alone(classifier, source, target):
    onnx_of(classifier, source / "model.onnx")
    torch.manual_seed(5)
    wanted = torch.rand(3)
    torch.manual_seed(5)
    cross_encoder(source, target, heads=4)
    assert torch.equal(torch.rand(3), wanted)


def test_a_conversion_gives_the_same_bytes_each_time(classifier, source, tmp_path):
    onnx_of(classifier, source / "model.onnx")
    made = []
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        cross_encoder(source, tmp_path / name, heads=4)
        files = sorted(p for p in (tmp_path / name).rglob("*") if p.is_file())
        made.append([(p.relative_to(tmp_path / name), p.read_bytes()) for p in files])
    assert made[0] == made[1]
    settings = json.loads((tmp_path / "one" / "config_sentence_transformers.json").read_text())
    assert "__version__" not in settings and settings["model_type"] == "CrossEncoder"


# -- GGUF --

PIECES = [chr(c) for c in (*range(33, 127), *range(161, 173), *range(174, 256))]
PIECES += [chr(256 + n) for n in range(68)]  # the 256 letters of byte-level BPE
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]


@pytest.fixture(scope="module")
def gguf_folder(tmp_path_factory):
    """A random Llama of 2 layers as a GGUF file of 4 bits, as llama.cpp's own script writes it."""
    import gguf

    torch.manual_seed(0)
    merges = ["Ġ a", "Ċ Ċ", "Ġ Ġ", "t h", "th e"]
    tokens = [*SPECIAL, *PIECES, *(merge.replace(" ", "") for merge in merges)]
    config = LlamaConfig(
        vocab_size=len(tokens),
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=1,
        max_position_embeddings=128,
        initializer_range=0.3,
        tie_word_embeddings=True,
    )
    network = LlamaForCausalLM(config).eval()
    folder = tmp_path_factory.mktemp("gguf")
    writer = gguf.GGUFWriter(folder / "tiny.gguf", "llama")
    writer.add_block_count(2)
    writer.add_context_length(128)
    writer.add_embedding_length(64)
    writer.add_feed_forward_length(96)
    writer.add_head_count(2)
    writer.add_head_count_kv(1)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(10_000.0)
    writer.add_rope_dimension_count(32)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokens)
    writer.add_token_types([3] * len(SPECIAL) + [1] * (len(tokens) - len(SPECIAL)))
    writer.add_token_merges(merges)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_pad_token_id(2)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, 2)
    kinds = gguf.GGMLQuantizationType
    for name, weights in network.state_dict().items():
        if name == "lm_head.weight":
            continue  # tied
        array = weights.numpy()
        if "q_proj" in name or "k_proj" in name:  # llama.cpp turns pairs of neighbours
            heads = 2 if "q_proj" in name else 1
            halves = array.reshape(heads, 2, 16, 64)
            array = halves.swapaxes(1, 2).reshape(array.shape)
        kind = kinds.F32 if array.ndim == 1 else kinds.Q8_0 if "embed" in name else kinds.Q4_1
        found = names.get_name(name, try_suffixes=(".weight",))
        writer.add_tensor(found, gguf.quants.quantize(array, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    network.save_pretrained(folder / "original")
    return folder


def test_a_language_model_is_the_one_that_the_gguf_file_holds(gguf_folder, target):
    language_model(gguf_folder, target)
    model = AutoModelForCausalLM.from_pretrained(target, dtype=torch.float32).eval()
    loaded = AutoModelForCausalLM.from_pretrained(gguf_folder, gguf_file="tiny.gguf").eval()
    original = AutoModelForCausalLM.from_pretrained(gguf_folder / "original").eval()
    ids = torch.randint(3, 200, (2, 12))
    with torch.no_grad():
        found, wanted, before = (network(ids).logits for network in (model, loaded, original))
        for weights in loaded.parameters():
            weights.copy_(weights.to(torch.bfloat16))
        rounded = loaded(ids).logits
    torch.testing.assert_close(found, rounded)  # the file's weights, rounded to bf16
    assert (found - wanted).abs().max() < 0.1 * wanted.std()
    assert (found - before).abs().mean() < 0.5 * wanted.std()  # 4 bits are rough


def test_a_language_model_needs_no_gguf_any_more(gguf_folder, target):
    language_model(gguf_folder, target)
    assert not list(target.rglob("*.gguf"))
    assert load_file(target / "model.safetensors")["model.norm.weight"].dtype == torch.bfloat16
    settings = json.loads((target / "config.json").read_text())
    assert "quantization_config" not in settings and settings["tie_word_embeddings"]


def test_a_tokenizer_pads_on_the_left_and_knows_its_window(gguf_folder, target):
    language_model(gguf_folder, target)
    tokenizer = AutoTokenizer.from_pretrained(target)
    ids = tokenizer(["a", "a b c"], padding=True, return_tensors="pt")["input_ids"]
    assert ids[0, 0] == tokenizer.pad_token_id == 2 and ids[0, -1] != 2
    assert tokenizer.model_max_length == 128
    assert tokenizer.decode(tokenizer("naïve 2 <|im_end|>")["input_ids"]) == "naïve 2 <|im_end|>"


def test_digits_stand_alone(gguf_folder, target):
    language_model(gguf_folder, target)
    tokenizer = AutoTokenizer.from_pretrained(target)
    pieces = tokenizer.convert_ids_to_tokens(tokenizer("the\n\n1 a  22")["input_ids"])
    assert pieces == ["the", "ĊĊ", "1", "Ġa", "ĠĠ", "2", "2"]  # a digit takes no blank


# -- the real ones --


@pytest.fixture(scope="session")
def asset(minilm):
    """Folders of real assets by name, in the cache that everyone uses."""
    from embkit.assets.catalogue import resolve

    def find(name):
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("EMBKIT_CACHE", str(minilm.parent.parent))
            return resolve(name)

    return find


BERLIN = "How many people live in Berlin?"
ANSWERS = [
    "Berlin had a population of 3,520,031 registered inhabitants in an area of 891.82 square "
    "kilometers.",
    "Berlin is well known for its museums.",
    "New York City is famous for the Metropolitan Museum of Art.",
]


def test_the_real_text_encoder_agrees_with_onnxruntime(asset):
    vectors = encode(load_model(asset("bge-small")), [BERLIN, *ANSWERS], cache=False)
    # onnxruntime 1.32 on the package's own int8 file, activations quantised as well
    assert vectors[0] @ vectors[1:].T == pytest.approx([0.7855, 0.7182, 0.4991], abs=0.005)


def test_the_real_language_model_goes_on_as_its_gguf_file_does(asset):
    folder = asset("smollm2")
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokens = tokenizer("The capital of France is", return_tensors="pt")
    with torch.inference_mode():
        found = model.generate(**tokens, max_new_tokens=8, do_sample=False)
    # transformers 5.23 on the package's own file, gguf_file=..., float32
    wanted = [7042, 30, 198, 198, 504, 2988, 314, 42]
    assert found[0, tokens["input_ids"].shape[1] :].tolist() == wanted
    assert tokenizer.decode(wanted) == " Paris.\n\nThe answer is:"
