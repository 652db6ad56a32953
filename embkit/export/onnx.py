"""A model as ONNX, and in eight bits: a folder that serves with onnxruntime alone, and its loss.

sentence-transformers' ONNX backend needs optimum, which does not work with transformers 5.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import logging
import statistics
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..data import Domain
from ..errors import EmbkitError, not_installed
from ..evaluation.metrics import paired_test
from ..evaluation.ranking import rank, score
from ..files import write_atomic
from ..models.loading import as_model
from ..models.packing import embed
from ..models.vectors import checked_texts, checked_vectors, prompt_of, weights_fingerprint
from ..runs import Run, store
from ..session import precision
from .export import Folder, _fresh

if TYPE_CHECKING:
    import pandas as pd
    from sentence_transformers import SentenceTransformer

FLOAT, INT8, PROMPTS = "model.onnx", "model_int8.onnx", "prompts.json"
FORMS = {"ONNX, fp32": FLOAT, "ONNX, int8": INT8}
INPUTS = ("input_ids", "attention_mask", "token_type_ids")
OPSET, BATCH = 17, 64
SERVE = '''"""Texts to unit vectors, with onnxruntime, tokenizers and numpy alone."""

from pathlib import Path

import numpy as np
import onnxruntime
from tokenizers import Tokenizer

here = Path(__file__).parent
tokenizer = Tokenizer.from_file(str(here / "tokenizer.json"))
session = onnxruntime.InferenceSession(here / {file!r}, providers=["CPUExecutionProvider"])
columns = {{"input_ids": "ids", "attention_mask": "attention_mask", "token_type_ids": "type_ids"}}
prompts = {prompts}


def encode(texts, prompt=""):  # of queries: encode(texts, prompts["query"])
    rows = tokenizer.encode_batch([prompt + text for text in texts])
    names = [column.name for column in session.get_inputs()]
    feed = {{n: np.array([getattr(row, columns[n]) for row in rows], np.int64) for n in names}}
    return session.run(None, feed)[0]  # (texts, dim), each row of length 1
'''


class OnnxModel:
    """An exported folder as a function ``list[str] -> (texts, dim)``: ``ek.evaluate`` takes it.

    Args:
        folder: that ``export_onnx`` made.
        int8: whether the weights of eight bits are used, where they are there.

    Raises:
        EmbkitError: onnxruntime is not installed, or the folder is no export.
    """

    def __init__(self, folder: Folder, *, int8: bool = True) -> None:
        import torch
        from tokenizers import Tokenizer

        runtime = _runtime()
        self.folder = Path(folder)
        self.file = self.folder / (INT8 if int8 else FLOAT)
        if not (self.file.is_file() and (self.folder / "tokenizer.json").is_file()):
            raise EmbkitError(
                f"no {self.file.name} and tokenizer.json in {self.folder.name!r}",
                expected="a folder that export_onnx() made",
                hint="ek.export.export_onnx(run, folder)",
            )
        settings = runtime.SessionOptions()
        settings.intra_op_num_threads = torch.get_num_threads()
        self._session = runtime.InferenceSession(
            str(self.file), settings, providers=["CPUExecutionProvider"]
        )
        kept = self.folder / PROMPTS  # a search puts them first
        self.prompts = json.loads(kept.read_text(encoding="utf-8")) if kept.is_file() else {}
        self._tokenizer = Tokenizer.from_file(str(self.folder / "tokenizer.json"))
        self.__name__ = f"ONNX, {'int8' if int8 else 'fp32'}: {self.folder.name}"

    def __call__(self, texts: Sequence[str]) -> np.ndarray:
        """Unit vectors of texts, shape (texts, dim)."""
        listed = checked_texts(texts)
        order = np.argsort([len(text) for text in listed], kind="stable")  # short ones together
        columns = dict(zip(INPUTS, ("ids", "attention_mask", "type_ids"), strict=True))
        names = [column.name for column in self._session.get_inputs()]
        found = []
        for start in range(0, len(order), BATCH):
            rows = self._tokenizer.encode_batch([listed[i] for i in order[start : start + BATCH]])
            feed = {n: np.array([getattr(r, columns[n]) for r in rows], np.int64) for n in names}
            found.append(self._session.run(None, feed)[0])  # (batch, dim)
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

    Eight bits: the weights of all matrix products and of the embedding table, one scale a
    channel; activations are quantised on the fly. No data is needed; ``onnx_loss`` measures what
    is lost.

    Args:
        what: a run, a model's name or folder, or a model of one transformer.
        folder: where; it is made.
        int8: whether the weights of eight bits are made, too.
        replace: whether an earlier export in this folder may be overwritten.

    Returns:
        The folder. ``serve.py`` in it needs onnxruntime, tokenizers and numpy alone.

    Raises:
        EmbkitError: onnxruntime is not installed, the model is no text model with a fast
            tokenizer, or the folder holds something.
    """
    _runtime()
    model = as_model(what)
    tokenizer = getattr(getattr(model, "tokenizer", None), "backend_tokenizer", None)
    if tokenizer is None or getattr(model[0], "auto_model", None) is None:
        raise EmbkitError(
            f"{type(model).__name__} is no transformer of texts with a fast tokenizer",
            expected="a run, or a model such as 'minilm'",
            hint="ek.export.export_onnx(run, folder)",
        )
    with _fresh(folder, replace, mark=FLOAT) as fresh:
        _write_graph(model, fresh / FLOAT)
        if int8:
            _quantise(fresh / FLOAT, fresh / INT8)
        model.tokenizer.save_pretrained(str(fresh))
        saved = tokenizer.from_str(tokenizer.to_str())
        saved.enable_truncation(int(model.max_seq_length or 512))
        saved.enable_padding(
            pad_id=model.tokenizer.pad_token_id or 0, pad_token=model.tokenizer.pad_token or "[PAD]"
        )
        saved.save(str(fresh / "tokenizer.json"))
        prompts = {kind: prompt_of(model, kind) or "" for kind in ("query", "document")}
        (fresh / PROMPTS).write_text(json.dumps(prompts), encoding="utf-8")
        text = SERVE.format(file=INT8 if int8 else FLOAT, prompts=repr(prompts))
        (fresh / "serve.py").write_text(text, encoding="utf-8")
    return Path(folder)


def onnx_loss(
    what: Run | str,
    folder: Folder,
    domain: Domain,
    split: str = "dev",
    *,
    documents: Sequence[str] | None = None,
    rounds: int = 3,
) -> pd.DataFrame:
    """What an export loses in nDCG@10 and wins in speed, beside the engine's own precision.

    Kept in the run store under the hash of all that it was measured on, so that it is measured
    once: ``table.attrs["kept"]`` names the file, to be deleted where it should be measured again.

    Args:
        what: the run or the model's name that was exported.
        folder: the export.
        domain: on what.
        split: whose queries.
        documents: ids to search; default: the whole corpus.
        rounds: how often each encodes 1,000 documents at most, in turn.

    Returns:
        One row a form: ``nDCG@10``, ``loss`` (of the mean, against the engine) with ``low``,
        ``high`` (95%) and ``p`` of a paired test, ``texts/s`` (median), ``speed``, ``MB``.
    """
    import pandas as pd

    model = as_model(what)
    files = {
        label: file for label, name in FORMS.items() if (file := Path(folder) / name).is_file()
    }
    searched = list(domain.corpus if documents is None else documents)
    asked = [domain.hash, split, searched, rounds, precision(model.device.type), model.prompts]
    digest = hashlib.sha256(json.dumps([weights_fingerprint(model), *asked]).encode())
    for file in files.values():
        digest.update(file.read_bytes())
    kept = store(domain) / "onnx" / f"{digest.hexdigest()[:16]}.json"
    try:
        rows = json.loads(kept.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # not measured yet, or cut off
        rows = _measured(model, folder, files, domain, split, searched, rounds)
        write_atomic(kept, json.dumps(rows, indent=1))
    table = pd.DataFrame.from_dict(rows, orient="index").rename_axis(f"on {split}")
    table.attrs["kept"] = str(kept)
    return table


def _measured(
    model: SentenceTransformer,
    folder: Folder,
    files: Mapping[str, Path],
    domain: Domain,
    split: str,
    documents: Sequence[str],
    rounds: int,
) -> dict[str, dict[str, float | None]]:
    name = f"engine, {precision(model.device.type)}"
    forms: dict[str, Any] = {name: lambda texts: embed(model, list(texts)).numpy()}
    sizes = {name: sum(p.numel() * p.element_size() for p in model.parameters()) / 1e6}
    for label, file in files.items():
        forms[label] = OnnxModel(folder, int8=file.name == INT8)
        sizes[label] = file.stat().st_size / 1e6
    texts = list(domain.corpus.values())[:1000]
    # speed, one form after the other in each round
    seconds: dict[str, list[float]] = {label: [] for label in forms}
    for form in forms.values():
        form(texts[:64])
    for _ in range(rounds):
        for label, form in forms.items():
            started = time.perf_counter()
            form(texts)
            seconds[label].append(time.perf_counter() - started)
    took = {label: statistics.median(found) for label, found in seconds.items()}
    # quality, each form against the engine
    rows: dict[str, dict[str, float | None]] = {}
    engine: pd.Series | None = None
    for label, form in forms.items():
        ranking = rank(model if label == name else form, domain, split, documents=documents, k=10)
        values = score(ranking, domain, split, ["ndcg@10"])["ndcg@10"]
        test = paired_test(engine, values) if engine is not None else None
        engine = values if engine is None else engine
        rows[label] = {
            "nDCG@10": float(values.mean()),
            "loss": test.delta if test else None,
            "low": test.ci_low if test else None,
            "high": test.ci_high if test else None,
            "p": test.p if test else None,
            "texts/s": len(texts) / took[label],
            "speed": took[name] / took[label],
            "MB": sizes[label],
        }
    return rows


def _runtime() -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise not_installed("onnxruntime is not installed", "onnx") from error
    return onnxruntime


@contextlib.contextmanager
def _hushed() -> Iterator[None]:
    """Without the exporters' notes to their authors."""
    root, before = logging.getLogger(), logging.getLogger().level
    root.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        root.setLevel(before)


def _write_graph(model: SentenceTransformer, file: Path) -> None:
    import torch
    import torch.nn.functional as F

    class Whole(torch.nn.Module):
        """Tokens to unit vectors: the transformer, its pooling, and length 1."""

        def __init__(self) -> None:
            super().__init__()
            self.model = model

        def forward(self, *columns: torch.Tensor) -> torch.Tensor:
            features = dict(zip(names, columns, strict=True))
            return F.normalize(self.model(features)["sentence_embedding"], dim=-1)

    features = model.preprocess(["one", "a text of some more words than that one"])
    names = [name for name in INPUTS if name in features]
    axes = {name: {0: "texts", 1: "tokens"} for name in names}
    was, training = model.device, model.training
    model.eval().to("cpu")
    try:
        with _hushed(), torch.no_grad():
            torch.onnx.export(
                Whole(),
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


def _quantise(source: Path, target: Path) -> None:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with _hushed():
        # seven bits of the range: processors without VNNI would overflow in 16-bit sums
        quantize_dynamic(
            source, target, weight_type=QuantType.QInt8, per_channel=True, reduce_range=True
        )


__all__ = ["OnnxModel", "export_onnx", "onnx_loss"]
