"""Weights that packages carry quantised, made once into folders that the libraries load.

A converter takes the folder of a package's own files, checked against ``catalogue.CATALOGUE``, and
fills an empty folder. After that nothing needs onnx or gguf.
"""

import contextlib
import io
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from . import TOWERS

Converter = Callable[[Path, Path], None]  # the package's files, the folder to fill
Weights = dict[str, Any]  # tensors by their names


def cross_encoder(source: Path, target: Path, *, heads: int) -> None:
    """Makes a folder for ``CrossEncoder(folder)`` from a quantised BERT: its scores are logits.

    ``source`` holds ``model.onnx`` and the tokenizer's files; ``heads`` are attention heads.
    """
    from sentence_transformers import CrossEncoder
    from torch.nn import Identity
    from transformers import BertForSequenceClassification

    weights = onnx_weights(source / "model.onnx")
    network = _bert(BertForSequenceClassification, weights, heads, num_labels=1)
    options = {"device": "cpu", "activation_fn": Identity(), "local_files_only": True}
    _save(network, source, target, lambda plain: CrossEncoder(plain, **options))


def text_encoder(source: Path, target: Path, *, heads: int, pooling: str) -> None:
    """Makes a folder for ``SentenceTransformer(folder)`` from a quantised BERT: unit vectors.
    ``pooling`` is ``cls`` or ``mean``, all else as in ``cross_encoder``."""
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer
    from transformers import BertModel

    weights = onnx_weights(source / "model.onnx")
    dim = len(weights["embeddings.LayerNorm.weight"])
    # The file leaves out BERT's pooler, which no embedding uses. Zeros stand in its place: without
    # them every load would draw other random ones, and the model's fingerprint would change.
    weights |= {"pooler.dense.weight": torch.zeros(dim, dim), "pooler.dense.bias": torch.zeros(dim)}

    def load(plain: str) -> SentenceTransformer:
        modules = [Transformer(plain), Pooling(dim, pooling), Normalize()]
        return SentenceTransformer(modules=modules, device="cpu")

    _save(_bert(BertModel, weights, heads), source, target, load)


def language_model(source: Path, target: Path) -> None:
    """Makes a folder for ``AutoModelForCausalLM`` and ``AutoTokenizer`` from one GGUF file.

    The weights are kept in bf16. The tokenizer pads on the left, as generation needs it, and
    splits numbers into digits first: the file says so only by a name that transformers passes over.
    """
    import torch
    from tokenizers.pre_tokenizers import ByteLevel, Digits, Sequence
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    (file,) = source.glob("*.gguf")
    with contextlib.redirect_stderr(io.StringIO()):  # a progress bar that nothing else switches off
        network = AutoModelForCausalLM.from_pretrained(
            source, gguf_file=file.name, quantization_config=GgufConfig(dequantize=True)
        )
    network.to(torch.bfloat16).save_pretrained(target)
    window = network.config.max_position_embeddings
    tokenizer = AutoTokenizer.from_pretrained(
        source, gguf_file=file.name, padding_side="left", model_max_length=window
    )
    tokenizer.backend_tokenizer.pre_tokenizer = Sequence(
        [Digits(individual_digits=True), ByteLevel(add_prefix_space=False)]
    )
    tokenizer.save_pretrained(target)


def two_towers(source: Path, target: Path) -> None:
    """Makes the folder of untrained towers from a ``.pth`` file of EfficientNet-Lite0."""
    import torch
    from safetensors.torch import save_file

    from .efficientnet import WEIGHTS, ImageTower

    (file,) = source.glob("*.pth")
    image = ImageTower()
    # the original names stand in this tower's order; the classifier is left out
    original = torch.load(file, weights_only=True)
    kept = [weight for name, weight in original.items() if not name.startswith("_fc.")]
    image.load_state_dict(dict(zip(image.state_dict(), kept, strict=True)))
    weights = {f"image.{k}": v.contiguous() for k, v in image.state_dict().items()}
    save_file(weights, target / WEIGHTS)
    (target / TOWERS).write_text(json.dumps({"size": 96, "text": "minilm"}))


def onnx_weights(path: Path) -> Weights:
    """A quantised ONNX file's weights as float32, by the names they have in torch.

    onnxruntime's dynamic quantisation keeps integers ``q`` that stand for
    ``(q - zero_point) * scale``, by tensor or by column. Such a weight has often lost its name; the
    node that uses it still has it.
    """
    import onnx
    import torch
    from onnx import numpy_helper

    graph = onnx.load(path).graph
    arrays = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    users = {name: node for node in graph.node for name in node.input}
    found: dict[str, np.ndarray] = {}
    for name, array in arrays.items():
        stem, _, what = name.rpartition("_")
        if what != "quantized":
            owner = name.removesuffix("_scale").removesuffix("_zero_point")
            if f"{owner}_quantized" not in arrays:
                found[name] = array
            continue
        node = users[name]
        scale, zero = arrays[f"{stem}_scale"], arrays[f"{stem}_zero_point"]
        array = array.astype(np.float32) - zero.astype(np.float32)
        array *= scale.astype(np.float32)
        if node.op_type == "MatMulInteger":
            array = array.T  # ONNX keeps (in, out), torch (out, in)
        if "::" in stem:  # "/encoder/layer.0/output/dense/MatMul_quant" uses it
            stem = node.name.strip("/").rpartition("/")[0].replace("/", ".") + ".weight"
        found[stem] = array
    return {name: torch.tensor(array) for name, array in found.items()}


def _bert(kind: Any, weights: Weights, heads: int, **settings: Any) -> Any:
    """A network of that class with these weights; every one of them must fit."""
    import torch
    from transformers import BertConfig

    bare = {name.removeprefix("bert."): tensor.shape for name, tensor in weights.items()}
    words, hidden = bare["embeddings.word_embeddings.weight"]
    config = BertConfig(
        vocab_size=words,
        hidden_size=hidden,
        num_hidden_layers=sum(n.endswith("intermediate.dense.weight") for n in bare),
        num_attention_heads=heads,
        intermediate_size=bare["encoder.layer.0.intermediate.dense.weight"][0],
        max_position_embeddings=bare["embeddings.position_embeddings.weight"][0],
        type_vocab_size=bare["embeddings.token_type_embeddings.weight"][0],
        **settings,
    )
    with torch.random.fork_rng(devices=[]):  # drawn only to be replaced
        network = kind(config)
    network.load_state_dict(weights)
    return network


def _save(network: Any, source: Path, target: Path, load: Callable[[str], Any]) -> None:
    """Saves what ``load`` makes of a folder with the network and its tokenizer."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(source)
    tokenizer.backend_tokenizer.no_padding()  # the file says: always to 512 tokens
    tokenizer.backend_tokenizer.no_truncation()
    with tempfile.TemporaryDirectory(dir=target.parent) as plain:
        network.save_pretrained(plain)
        tokenizer.save_pretrained(plain)
        model = load(plain)
        model.save_pretrained(str(target), create_model_card=False)
    path = target / "config_sentence_transformers.json"
    settings = json.loads(path.read_text(encoding="utf-8"))
    settings.pop("__version__", None)  # it would change the fingerprint
    path.write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
