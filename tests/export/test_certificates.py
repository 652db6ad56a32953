"""The certificate: each fault of serving, planted on a local server, is named; good ones pass."""

import copy
import http.server
import json
import threading

import numpy as np
import pytest

from embkit.errors import EmbkitError
from embkit.export.certificates import PROBES, certify
from embkit.export.onnx import export_onnx
from embkit.models.encoding import unit
from embkit.models.loading import load_model
from embkit.recipes.recipe import Recipe
from embkit.training.trainer import train

pytest.importorskip("openai", reason="the extra 'openai'")
ASK = "ask of the lung: "


@pytest.fixture(scope="module")
def model(tiny_model):
    loaded = load_model(tiny_model)
    loaded.prompts = {"query": ASK, "document": ""}
    return loaded


@pytest.fixture
def serve(monkeypatch):
    """Serves a function ``list[str] -> (texts, dim)`` as an endpoint; gives its address."""
    monkeypatch.setenv("OPENAI_API_KEY", "any")
    servers = []

    def start(function):
        class Handler(http.server.BaseHTTPRequestHandler):
            def answer(self, data):
                body = json.dumps(data).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def do_GET(self):
                self.answer({"object": "list", "data": [{"id": "served", "object": "model"}]})

            def do_POST(self):
                asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                rows = np.asarray(function(asked["input"]), float).tolist()
                found = [
                    {"object": "embedding", "index": i, "embedding": row}
                    for i, row in enumerate(rows)
                ]
                self.answer({"object": "list", "data": found, "model": asked["model"]})

            def log_message(self, *_):
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{server.server_port}/v1"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def plain(model):
    return lambda texts: model.encode(list(texts), prompt="")


def pooled(model, mode):
    other = copy.deepcopy(model)
    other[1] = type(model[1])(model[1].embedding_dimension, mode)
    return plain(other)


def cut(model, size):
    other = copy.deepcopy(model)
    other.max_seq_length = size
    return plain(other)


def rounded(model, dtype):
    import torch

    return plain(copy.deepcopy(model).to(getattr(torch, dtype)))


def other_weights(model):
    import torch

    other = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return plain(other)


def without(model, characters):
    """Serves with a tokenizer that does not know some characters."""
    gone = str.maketrans(dict.fromkeys(characters, "~"))
    return lambda texts: plain(model)([text.translate(gone) for text in texts])


def padded(model, by=0.2):
    """Reads the padding: a text's vector moves with the longest of its batch."""

    def encode(texts):
        vectors = plain(model)(texts)
        moved = by * (len(max(texts, key=len)) > 100) * np.eye(len(vectors[0]))[0]
        return unit(vectors + moved)

    return encode


def eight_bits(model):
    """Eight bits a number, with one scale for all texts of a batch."""

    def encode(texts):
        vectors = plain(model)(texts)
        scale = np.abs(vectors).max() / 20
        return unit(np.round(vectors / scale) * scale)

    return encode


FAULTS = {
    "pooling by cls": lambda m: pooled(m, "cls"),
    "pooling by max": lambda m: pooled(m, "max"),
    "cut after 32 tokens, not 48": lambda m: cut(m, 32),
    "the prompt is put twice": lambda m: (
        lambda texts: plain(m)([f"{ASK}{text}" if text.startswith(ASK) else text for text in texts])
    ),
    "the prompt is missing": lambda m: (
        lambda texts: plain(m)([text.removeprefix(ASK) for text in texts])
    ),
    "not normalised": lambda m: lambda texts: plain(m)(texts) * 3,
    "16 dimensions where the model has 32": lambda m: lambda texts: unit(plain(m)(texts)[:, :16]),
    "another model": other_weights,
    "another tokenizer: only capitals differ": lambda m: without(m, "WPFTMRIAOKB"),
    "padding is read": padded,
}


WELL = {
    "the same": plain,
    "a copy": lambda m: plain(copy.deepcopy(m)),
    "in bf16": lambda m: rounded(m, "bfloat16"),
    "in fp16": lambda m: rounded(m, "float16"),
    "eight bits, scaled by the batch": eight_bits,
    "six digits": lambda m: lambda texts: np.round(plain(m)(texts), 6),
    "one by one": lambda m: lambda texts: np.concatenate([plain(m)([text]) for text in texts]),
}


@pytest.mark.parametrize("cause", FAULTS)
def test_a_fault_of_a_server_is_named(cause, model, serve):
    found = certify(model, serve(FAULTS[cause](model)))
    assert not found.passed and cause in found.answer
    assert len(found.causes) == 1, found.causes


def test_padding_that_moves_a_vector_less_than_rounding_does_is_named(model):
    assert "padding is read" in certify(model, padded(model, by=0.05)).answer


def test_what_is_served_well_passes(model, serve, tmp_path, tiny_domain):
    for name, well in WELL.items():
        found = certify(model, serve(well(model)), tiny_domain)
        assert found.passed, (name, found.answer)
        assert found.loss.queries == 7 and set(found.apart) == {*PROBES}, name
    model.save_pretrained(str(tmp_path / "plain"))
    export_onnx(model, tmp_path / "onnx")
    for served in (tmp_path / "plain", tmp_path / "onnx", tmp_path / "onnx" / "model.onnx", model):
        found = certify(model, served)
        assert found.passed, (served, found.answer)


def test_a_server_that_puts_the_prompt_itself_is_sent_bare_texts(model, serve):
    """The server cannot tell queries from documents: so here both have the prompt."""
    both = copy.deepcopy(model)
    both.prompts = {"query": ASK, "document": ASK}
    puts = serve(lambda texts: plain(model)([ASK + text for text in texts]))
    assert certify(both, puts, bare=True).passed
    assert "prompt is put twice" in certify(both, puts).answer
    assert "prompt is missing" in certify(both, serve(plain(model)), bare=True).answer


def test_an_adapter_that_is_not_loaded_and_one_that_is(tiny_model, tiny_domain):
    recipe = Recipe(str(tiny_model), epochs=2, batch_size=8, learning_rate=0.05, lora_rank=4)
    run = train(recipe.replace(lora_targets=("query", "value")), tiny_domain)
    assert certify(run, run.path / "adapter").passed
    found = certify(run, tiny_model)
    assert "nothing trained is loaded" in found.answer and len(found.causes) == 1


def test_an_empty_text_is_a_note_and_nonsense_an_error(model, serve):
    def refuses(texts):
        if "" in texts:
            raise ValueError("empty")
        return plain(model)(texts)

    assert any("empty text is refused" in note for note in certify(model, refuses).notes)
    with pytest.raises(EmbkitError, match="came back"):
        certify(model, lambda texts: plain(model)(texts)[:2])
    with pytest.raises(EmbkitError, match="came back"):
        certify(model, lambda texts: plain(model)(texts) * np.nan)
