"""ONNX and its eight bits: the same vectors, a served snippet, what is refused."""

import builtins
import importlib.util
import json

import numpy as np
import pytest

from embkit.errors import EmbkitError
from embkit.evaluation.ranking import evaluate
from embkit.evaluation.report import compare
from embkit.export.onnx import OnnxModel, export_onnx
from embkit.models.encoding import encode_as
from embkit.models.loading import load_model
from tests.families import MANY_WORDS, NETWORKS, make_family

pytest.importorskip("onnxruntime", reason="the extra 'onnx'")
TEXTS = ["injury of the eye", "ocular sepsis in one lung, or another", "ache", "of the the of"]


def asking(tiny_model):
    model = load_model(tiny_model)
    model.prompts = {"query": "ask: ", "document": ""}
    return model


@pytest.fixture(scope="module")
def exported(tiny_model, tmp_path_factory):
    """The tiny model's export, and its own vectors of TEXTS."""
    folder = tmp_path_factory.mktemp("export") / "onnx"
    export_onnx(asking(tiny_model), folder)
    return folder, load_model(tiny_model).encode(TEXTS, normalize_embeddings=True)


def test_the_graph_gives_the_models_own_vectors(exported):
    folder, wanted = exported
    found = OnnxModel(folder, int8=False)(TEXTS)
    assert found.shape == wanted.shape and found.dtype == np.float32
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    alone = np.concatenate([OnnxModel(folder, int8=False)([text]) for text in TEXTS])
    np.testing.assert_allclose(alone, wanted, atol=1e-5, err_msg="padding changes nothing")


def test_eight_bits_are_close_and_small(exported):
    folder, wanted = exported
    found = OnnxModel(folder)(TEXTS)
    assert ((found * wanted).sum(axis=1) > 0.98).all()
    assert not np.allclose(found, wanted, atol=1e-6), "they are other weights"
    sizes = {name: (folder / name).stat().st_size for name in ("model.onnx", "model_int8.onnx")}
    assert sizes["model_int8.onnx"] < 0.9 * sizes["model.onnx"]


def test_openvino_gives_the_models_own_vectors_and_close_ones_in_eight_bits(exported):
    pytest.importorskip("openvino", reason="the extra 'openvino'")
    folder, wanted = exported
    exact = OnnxModel(folder, int8=False, runtime="openvino")
    np.testing.assert_allclose(exact(TEXTS), wanted, atol=1e-5)
    assert exact.__name__ == f"OpenVINO, fp32: {folder.name}"
    close = OnnxModel(folder, runtime="openvino")
    found = close(TEXTS)
    assert ((found * wanted).sum(axis=1) > 0.99).all()
    assert not np.allclose(found, wanted, atol=1e-6), "they are other weights"
    assert close.prompts == {"query": "ask: "}
    with pytest.raises(EmbkitError, match="(?s)unknown runtime 'openvno'.*did you mean 'openvino'"):
        OnnxModel(folder, runtime="openvno")


def test_the_serving_snippet_serves(exported, monkeypatch):
    folder, wanted = exported
    text = (folder / "serve.py").read_text()
    assert len(text.split("here = ")[1].splitlines()) <= 13 and "'query': 'ask: '" in text
    spec = importlib.util.spec_from_file_location("serve", folder / "serve.py")
    served = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(served)
    np.testing.assert_allclose(served.encode(TEXTS), OnnxModel(folder)(TEXTS), atol=1e-2)
    asked = served.encode(["ache"], prompt="of the ")
    np.testing.assert_allclose(asked, OnnxModel(folder)(["of the ache"]), atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(served.encode(TEXTS), axis=1), 1, atol=1e-5)
    long = served.encode(["ache " * 500])
    assert np.isfinite(long).all(), "cut where the model cuts"
    assert "embkit" not in text and "torch" not in text and wanted.shape == (4, 32)


def test_what_is_lost_is_what_evaluate_and_compare_say(exported, tiny_model, tiny_domain):
    own = evaluate(asking(tiny_model), tiny_domain, name="own", splits=["dev"], save=False)
    whole, small = (
        evaluate(OnnxModel(exported[0], int8=int8), tiny_domain, splits=["dev"], save=False)
        for int8 in (False, True)
    )
    rows = {row["label"]: row for row in compare([own, whole, small], baseline="own").rows}
    assert rows["ONNX, fp32: onnx"]["delta_vs_base"] == pytest.approx(0, abs=1e-9)
    row = rows["ONNX, int8: onnx"]
    assert row["ndcg@10"] == pytest.approx(rows["own"]["ndcg@10"] + row["delta_vs_base"])
    low, high = row["delta_vs_base_ci"]
    assert low <= row["delta_vs_base"] <= high


@pytest.mark.parametrize("family", NETWORKS)
def test_any_family_is_exported_with_its_prompts(family, tmp_path):
    model = make_family(family, tmp_path)
    model.prompts = {"query": "w1 w2 : ", "passage": "w3 : "}
    served = OnnxModel(export_onnx(model, tmp_path / "onnx", int8=False), int8=False)
    texts = ["w9", "w8 w7 w6 w5", " ".join(MANY_WORDS[:70])]
    for kind in ("query", "document"):
        own = getattr(model, f"encode_{kind}")(texts, normalize_embeddings=True)
        np.testing.assert_allclose(encode_as(served, texts, kind), own, atol=1e-4)
    assert np.abs(served(texts) - own).max() > 1e-2


def test_prompts_are_in_the_figures_and_in_the_snippet(tiny_model, tiny_domain, tmp_path):
    model = load_model(tiny_model)
    model.prompts = {"query": "ache of the brain, ", "document": "one liver "}
    folder = export_onnx(model, tmp_path / "onnx", int8=False)
    own = evaluate(model, tiny_domain, save=False).mean("known", "ndcg@10")
    served = evaluate(OnnxModel(folder, int8=False), tiny_domain, save=False)
    assert served.mean("known", "ndcg@10") == pytest.approx(own, abs=1e-9)
    assert own != pytest.approx(evaluate(str(tiny_model), tiny_domain).mean("known", "ndcg@10"))
    assert "prompts = {'query': 'ache of the brain, '" in (folder / "serve.py").read_text()


def test_a_graph_that_gives_other_vectors_or_none_is_refused(tiny_model, tmp_path, monkeypatch):
    model = load_model(tiny_model)
    model.prompts = {"query": "ache "}
    model[1].include_prompt = False  # a graph does not know which tokens are the prompt's
    with pytest.raises(EmbkitError, match="BertModel cannot be .* its graph gives other vectors"):
        export_onnx(model, tmp_path / "a")

    def fail(*_):
        raise RuntimeError("unordered_map::at")

    monkeypatch.setattr("embkit.export.onnx._write_graph", fail)
    with pytest.raises(EmbkitError, match="cannot be exported as ONNX: unordered_map::at"):
        export_onnx(str(tiny_model), tmp_path / "b")
    assert not (tmp_path / "a").exists() and not (tmp_path / "b").exists()


def test_an_earlier_export_is_overwritten_only_when_told(exported, tiny_model, tmp_path):
    folder = tmp_path / "again"
    export_onnx(str(tiny_model), folder, int8=False)
    assert not (folder / "model_int8.onnx").exists()
    with pytest.raises(EmbkitError, match="holds something already"):
        export_onnx(str(tiny_model), folder)
    with pytest.raises(EmbkitError, match="no model_int8.onnx"):
        OnnxModel(folder)
    export_onnx(str(tiny_model), folder, replace=True)
    assert len(OnnxModel(folder)(["ache"])) == 1
    assert json.loads((folder / "tokenizer.json").read_text())["truncation"]["max_length"] == 48


def test_an_export_searches_with_the_models_prompts(exported, tiny_model):
    model = load_model(tiny_model, prompts={"query": "ask: "})
    found, documents = OnnxModel(exported[0], int8=False), ["ache of the ear"]
    for kind, by_library in (("query", model.encode_query), ("document", model.encode_document)):
        wanted = by_library(documents, normalize_embeddings=True)
        np.testing.assert_allclose(encode_as(found, documents, kind), wanted, atol=1e-5)


def test_what_is_no_model_and_what_is_not_installed(tmp_path, tiny_model, exported, monkeypatch):
    with pytest.raises(EmbkitError, match="no transformer of texts"):
        export_onnx(lambda texts: texts, tmp_path / "a")
    real = builtins.__import__

    def without(name, *args, **options):
        if name in ("onnxruntime", "openvino"):
            raise ImportError(name)
        return real(name, *args, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    calls = lambda: export_onnx(str(tiny_model), tmp_path / "b"), lambda: OnnxModel(exported[0])  # noqa: E731
    for call in calls:
        with pytest.raises(EmbkitError, match=r'pip install "embkit\[onnx\]"'):
            call()
    with pytest.raises(EmbkitError, match=r'pip install "embkit\[openvino\]"'):
        OnnxModel(exported[0], runtime="openvino")
    assert not (tmp_path / "b").exists()
