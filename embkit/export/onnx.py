"""A model as ONNX, and in eight bits: a folder that serves with onnxruntime alone, or OpenVINO.

sentence-transformers' ONNX backend needs optimum, which does not work with transformers 5.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any
from unittest import mock

import numpy as np

from ..errors import EmbkitError, not_installed, unknown
from ..models.encoding import checked_texts, checked_vectors, encode_as, prompt_of
from ..models.loading import as_model
from ..models.trial import TOLERANCE
from ..runs import Run
from .export import Folder, _fresh, cutting

if TYPE_CHECKING:
    from sentence_transformers import SentenceTransformer

FLOAT, INT8 = "model.onnx", "model_int8.onnx"
PROMPTS = "prompts.json"
LONG = 700  # words of a trial, more than local windows have
INPUTS = {"input_ids": "ids", "attention_mask": "attention_mask", "token_type_ids": "type_ids"}
OPSET, BATCH = 17, 64
Begun = tuple[list[str], Callable[[dict[str, Any]], np.ndarray]]  # inputs; they -> (batch, dim)


class OnnxModel:
    """A folder of ``export_onnx`` as a function ``list[str] -> (texts, dim)``, for ``evaluate``.

    ``prompts`` are those of the exported model: what evaluates and searches puts them before texts.
    ``int8`` says whether the weights of eight bits are used. ``runtime`` is ``onnxruntime``, or
    ``openvino``, which makes its eight bits of ``model.onnx`` as it loads, of the weights alone.

    Raises:
        EmbkitError: the runtime is not installed, or the folder is no export.
    """

    def __init__(self, folder: Folder, *, int8: bool = True, runtime: str = "onnxruntime") -> None:
        from tokenizers import Tokenizer

        if runtime not in RUNTIMES:
            raise unknown("runtime", runtime, RUNTIMES)
        folder, begin = Path(folder), RUNTIMES[runtime]
        file = folder / (INT8 if int8 and runtime == "onnxruntime" else FLOAT)
        if not (file.is_file() and (folder / "tokenizer.json").is_file()):
            raise EmbkitError(
                f"no {file.name} and tokenizer.json in {folder.name!r}",
                expected="a folder that export_onnx() made",
                hint="ek.export.export_onnx(run, folder)",
            )
        self._names, self._run = begin(file, int8)
        text = (folder / PROMPTS).read_text(encoding="utf-8")
        self.prompts: dict[str, str] = json.loads(text)
        self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.__name__ = f"{KINDS[runtime]}, {'int8' if int8 else 'fp32'}: {folder.name}"

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """Unit vectors of texts, shape (texts, dim)."""
        listed = checked_texts(texts)
        order = np.argsort([len(text) for text in listed], kind="stable")  # short ones together
        found = []
        for start in range(0, len(order), BATCH):
            rows = self._tokenizer.encode_batch([listed[i] for i in order[start : start + BATCH]])
            feed = {n: [getattr(row, INPUTS[n]) for row in rows] for n in self._names}
            found.append(self._run({n: np.array(ids, np.int64) for n, ids in feed.items()}))
        vectors = np.concatenate(found)[np.argsort(order)] if found else np.empty((0, 0))
        return checked_vectors(vectors, len(listed))


def export_onnx(
    what: Run | str | SentenceTransformer,
    folder: Folder,
    *,
    int8: bool = True,
    replace: bool = False,
) -> Path:
    """Writes a model as ONNX: ``model.onnx``, ``model_int8.onnx``, its tokenizer, ``serve.py``.

    Eight bits (``int8``): the weights of all matrix products and of the embedding table, one scale
    a channel; activations are quantised on the fly. No data is needed; ``evaluate`` of an
    ``OnnxModel`` measures what is lost. ``serve.py`` needs onnxruntime, tokenizers and numpy alone.
    ``replace`` overwrites an earlier export in this folder.

    Raises:
        EmbkitError: onnxruntime is not installed, the model is no text model with a fast
            tokenizer, its graph cannot be written or gives other vectors, or the folder holds
            something.
    """
    with _installed("onnxruntime", "onnx"):
        from onnxruntime.quantization import QuantType, quantize_dynamic

    model = as_model(what)
    tokenizer = getattr(getattr(model, "tokenizer", None), "backend_tokenizer", None)
    if tokenizer is None or getattr(model[0], "auto_model", None) is None:
        raise EmbkitError(
            f"{type(model).__name__} is no transformer of texts with a fast tokenizer",
            expected="a run, or a model such as 'minilm'",
            hint="ek.export.export_onnx(run, folder)",
        )
    with _fresh(folder, replace, mark=FLOAT) as fresh:
        try:
            _write_graph(model, fresh / FLOAT)
        except Exception as error:  # each operator has its own way to fail
            raise _unfit(model, str(error)) from error
        if int8:
            # seven bits of the range: processors without VNNI would overflow in 16-bit sums
            how = {"weight_type": QuantType.QInt8, "per_channel": True, "reduce_range": True}
            with _hushed():
                quantize_dynamic(fresh / FLOAT, fresh / INT8, **how)
        own, saved = model.tokenizer, tokenizer.from_str(tokenizer.to_str())
        own.save_pretrained(str(fresh))
        cut = min(int(model.max_seq_length or 512), 2**31)  # T5 has no window
        saved.enable_truncation(cut, direction=own.truncation_side)
        pad = {"pad_id": own.pad_token_id or 0, "pad_token": own.pad_token or "[PAD]"}
        saved.enable_padding(direction=own.padding_side, **pad)
        saved.save(str(fresh / "tokenizer.json"))
        prompts = {kind: p for kind in ("query", "document") if (p := prompt_of(model, kind))}
        (fresh / PROMPTS).write_text(json.dumps(prompts), encoding="utf-8")
        serve = Template(Path(__file__).with_name("serve.txt").read_text(encoding="utf-8"))
        names = {"file": repr(INT8 if int8 else FLOAT), "prompts": repr(prompts)}
        told = cutting(what) and f"\n\nDocuments are cut by the run's own model:\n\n{cutting(what)}"
        text = serve.substitute(names, cut=told)
        (fresh / "serve.py").write_text(text, encoding="utf-8")
        _check_graph(model, fresh)
    return Path(folder)


def _check_graph(model: SentenceTransformer, folder: Path) -> None:
    """Refuses an export whose vectors are not the model's; short texts and long in one batch."""
    import torch

    served = OnnxModel(folder, int8=False)
    known = sorted(filter(str.isalnum, model.tokenizer.get_vocab())) or ["a"]
    words = [known[i * len(known) // LONG] for i in range(LONG)]
    texts = [words[0], " ".join(words[::100]), " ".join(words)]
    off = max(TOLERANCE, 12 * torch.finfo(next(model.parameters()).dtype).eps)
    for kind in ("query", "document"):
        wanted = getattr(model, f"encode_{kind}")(texts, normalize_embeddings=True)
        apart = float(np.abs(encode_as(served, texts, kind) - wanted).max())
        if not apart < off:
            raise _unfit(model, f"its graph gives other vectors, by {apart:.4f}")


def _unfit(model: SentenceTransformer, why: str) -> EmbkitError:
    return EmbkitError(
        f"{type(model[0].auto_model).__name__} cannot be exported as ONNX: "
        f"{(why.strip() or 'no cause is given').splitlines()[0]}",
        expected="a model whose graph torch can write, and that gives the model's own vectors",
        hint="model.save_pretrained(folder): sentence-transformers serves it from there",
    )


@contextlib.contextmanager
def _installed(name: str, extra: str) -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        raise not_installed(f"{name} is not installed", extra) from error


def _onnxruntime(file: Path, int8: bool) -> Begun:
    import torch

    with _installed("onnxruntime", "onnx"):
        import onnxruntime
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = torch.get_num_threads()
    providers = ["CPUExecutionProvider"]
    session = onnxruntime.InferenceSession(str(file), settings, providers=providers)
    return [column.name for column in session.get_inputs()], lambda feed: session.run(None, feed)[0]


def _openvino(file: Path, int8: bool) -> Begun:
    import torch

    with _installed("openvino", "openvino"):
        import openvino
        from openvino import opset13 as ops
    core = openvino.Core()
    model, how = core.read_model(file), {"INFERENCE_NUM_THREADS": torch.get_num_threads()}
    for product in (op for op in model.get_ops() if int8 and op.get_type_name() == "MatMul"):
        weight = product.input_value(1).get_node()
        if weight.get_type_name() == "Constant":  # a scale a channel, as its plugin looks for it
            inner = -1 if product.get_attributes()["transpose_b"] else -2
            scale = np.abs(weight.data).max(axis=inner, keepdims=True).clip(1e-12) / 127
            bits = np.rint(weight.data / scale).astype(np.int8)
            back = ops.multiply(ops.convert(ops.constant(bits), "f32"), ops.constant(scale))
            product.input(1).replace_source_output(back.output(0))
    exact = {} if int8 else {"INFERENCE_PRECISION_HINT": "f32"}  # else bf16, where that is native
    compiled = core.compile_model(model, "CPU", {"PERFORMANCE_HINT": "LATENCY"} | how | exact)
    return [c.get_any_name() for c in compiled.inputs], lambda feed: compiled(feed)[0]


KINDS = {"onnxruntime": "ONNX", "openvino": "OpenVINO"}
RUNTIMES = {"onnxruntime": _onnxruntime, "openvino": _openvino}


@contextlib.contextmanager
def _hushed() -> Iterator[None]:
    """Without the exporters' notes to their authors."""
    before = logging.root.level
    logging.root.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(action="ignore"), contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        logging.root.setLevel(before)


def _write_graph(model: SentenceTransformer, file: Path) -> None:
    import torch
    import torch.nn.functional as F
    from transformers import masking_utils as masks

    class Whole(torch.nn.Sequential):
        """Tokens to unit vectors: the transformer, its pooling, and length 1."""

        def forward(self, *columns: torch.Tensor) -> torch.Tensor:
            features = dict(zip(names, columns, strict=True))
            vectors = self[0](features)["sentence_embedding"][..., : model.truncate_dim]
            return F.normalize(vectors, dim=-1)

    features = model.preprocess(["one", "a text of some more words than that one"])
    names = [name for name in INPUTS if name in features]
    axes = {name: {0: "texts", 1: "tokens"} for name in names}
    # attention masks by broadcasting: torch.onnx cannot write vmap (Gemma3's local windows)
    spread: dict[str, Any] = {"TransformGetItemToIndex": contextlib.nullcontext}
    spread["_vmap_expansion_sdpa"] = lambda f: lambda *a: f(*masks._non_vmap_expansion_sdpa(*a))
    was, training = model.device, model.training
    model.eval().to("cpu")
    try:
        with _hushed(), mock.patch.multiple(masks, create=True, **spread), torch.no_grad():
            torch.onnx.export(
                Whole(model),
                tuple(features[name].to("cpu") for name in names),
                str(file),
                input_names=names,
                output_names=["embedding"],
                dynamic_axes={**axes, "embedding": {0: "texts"}},
                opset_version=OPSET,
                dynamo=False,
            )
    finally:
        model.to(was).train(training)
