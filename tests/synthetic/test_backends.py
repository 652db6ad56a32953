"""Language models as backends: an endpoint that misbehaves on purpose, and a tiny local model."""

import http.server
import json
import sys
import threading
import time
import traceback
from contextlib import contextmanager
from unittest import mock

import pytest

from embkit.errors import EmbkitError
from embkit.synthetic import backends
from embkit.synthetic.backends import Failure, OpenAIBackend, TransformersBackend
from embkit.synthetic.generation import generate
from embkit.synthetic.prompts import Prompt
from tests.synthetic.test_generation import run

KEY = "sk-very-secret-0123456789"
PROMPT = Prompt(
    "test",
    "After each title stands {what}.",
    {"layman": ("Patient", "what a patient says")},
    {"layman": (("Heat stroke", "fainted in the hot sun"),)},
    label="Title",
)
TITLES = {"a": "Ringing of the ear", "b": "Itching of the skin", "c": "Pain of the heart"}


def completion(content, **more):
    choice = {"index": 0, "message": {"role": "assistant", "content": content}}
    choice |= {"finish_reason": more.pop("finish_reason", "stop")}
    body = {"id": "1", "object": "chat.completion", "created": 1, "model": "m"}
    body |= {"choices": [choice], "usage": {"total_tokens": 50, "prompt_tokens": 40}}
    return json.dumps(body | more)


GOOD = completion("my ear keeps ringing at night")


class Reply:
    """What the server sends: a body, a status, headers; and how it is rude about it."""

    def __init__(self, body=GOOD, status=200, *, headers=(), wait=0.0, cut=0):
        self.body = body if isinstance(body, bytes) else body.encode()
        self.status, self.headers, self.wait, self.cut = status, dict(headers), wait, cut


@contextmanager
def serving(answer):
    """An endpoint on loopback; ``answer(number of the request, its JSON) -> Reply``."""
    pytest.importorskip("openai", reason="the optional extra 'openai' is not installed")
    seen = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            seen.append(body | {"authorization": self.headers["Authorization"]})
            reply = answer(len(seen), body)
            time.sleep(reply.wait)
            self.send_response(reply.status)
            for name, value in reply.headers.items():
                self.send_header(name, value)
            if "Content-Type" not in reply.headers:
                self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(reply.body) + reply.cut))
            self.end_headers()
            try:
                self.wfile.write(reply.body)
            except OSError:
                pass  # the client gave up

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1", seen
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture(autouse=True)
def key(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


@pytest.fixture(autouse=True)
def waits(monkeypatch):
    """The seconds that the client would have waited before it asked again."""
    waited = []
    try:
        from openai import _base_client as base
    except ImportError:  # what needs it is skipped
        return waited
    seconds = base.BaseClient._calculate_retry_timeout

    def at_once(*given):
        waited.append(seconds(*given))
        return 0.0

    monkeypatch.setattr(base.BaseClient, "_calculate_retry_timeout", at_once)
    return waited


def ask(url, documents=None, *, retries=3, **options):
    """One item by default; ``retries`` are those of the client and those of bad answers."""
    options = {"workers": 1, "timeout": 5.0} | options
    with mock.patch.object(backends, "RETRIES", retries):
        backend = OpenAIBackend("some-model", url, **options)
    return run(documents or {"a": TITLES["a"]}, backend, PROMPT, retries=retries)


BAD = {  # name -> (reply, what the report says), for what is asked for again
    "rate limited": (Reply("{}", 429, headers={"Retry-After": "7"}), "HTTP 429"),
    "server error": (Reply("oops", 500), "HTTP 500"),
    "overloaded": (Reply("<html>", 503), "HTTP 503"),
    "slow": (Reply(wait=0.5), "no answer within 0.2 seconds"),
    "connection broken": (Reply(cut=40), "cannot be reached"),
    "cut off": (Reply(completion("my ear", finish_reason="length")), "cut off"),
    "empty answer": (Reply(completion("")), "an empty answer"),
    "JSON": (Reply(completion('{"query": "my ea')), "JSON"),
    "another script": (Reply(completion("у меня звенит в ухе")), "another language"),
    "another language": (Reply(completion("mir klingt es in dem Ohr und ich bin müde")), "an"),
    "10,000 words": (Reply(completion("ear " * 10_000)), "too many words: 10,000"),
    "signs": (Reply(completion("@@ ## 4711 a ((()))")), "garbage"),
    "a refusal": (Reply(completion("I'm sorry, but I can't help with that.")), "a refusal"),
    "an example": (Reply(completion("Fainted in the hot sun.")), "an example of the prompt"),
}
WORSE = {  # the same for what is reported at once
    "bytes that are no text": (Reply(b"\xff\xfe\x00\x01"), "garbage came back"),
    "a web page": (Reply("<html>hello</html>", headers={"Content-Type": "text/html"}), ""),
    "half a reply": (Reply(GOOD[:90]), "garbage came back"),
    "a list": (Reply("[1, 2]"), "garbage came back"),
    "no choice": (Reply(completion("", choices=[])), "garbage came back"),
    "null choices": (Reply(completion("", choices=None)), "garbage came back"),
    "choices of another shape": (Reply(completion("", choices=[3])), "garbage came back"),
    "no text": (Reply(completion(None)), "no text"),
}


@pytest.mark.parametrize("name", [*BAD, *WORSE])
def test_a_fault_is_reported_and_what_may_pass_is_asked_for_again(name, waits):
    reply, reason = (BAD | WORSE)[name]
    with serving(lambda n, _: reply) as (url, seen):
        found = ask(url, retries=2, timeout=0.2 if name == "slow" else 5.0)
    assert (len(found.rows), len(found.failed), found.counts["left"]) == (0, 1, 0)
    assert reason in found.failed["a", "layman", 0]
    assert len(seen) == (3 if name in BAD else 1)
    assert waits == [7, 7] if name == "rate limited" else max(waits, default=0) <= 1
    assert found.reasons().total() == 1 and "failed" in repr(found)
    well = 3 if name in BAD else 2
    with serving(lambda n, _: reply if n < well else Reply()) as (url, seen):  # then it is well
        for _ in range(4 - well):
            found = ask(url, retries=2, timeout=0.2 if name == "slow" else 5.0)
    assert [row.query for row in found.rows] == ["my ear keeps ringing at night"]
    assert len(seen) == well and not found.failed


def test_an_endpoint_that_is_down(waits):
    with serving(lambda *_: Reply()) as (url, _):
        pass  # closed again: nobody listens
    found = ask(url, TITLES, retries=1)
    assert {document for document, _, _ in found.failed} == set(TITLES)
    assert all("cannot be reached" in why for why in found.failed.values()) and len(waits) == 3


def test_a_bad_request_is_reported_at_once_and_the_others_are_asked():
    def answer(_, body):
        return Reply("{}", 400) if TITLES["b"] in body["messages"][0]["content"] else Reply()

    with serving(answer) as (url, seen):
        found = ask(url, TITLES)
    assert len(found.failed) == 1 and "HTTP 400" in found.failed["b", "layman", 0]
    assert {row.document for row in found.rows} == {"a", "c"} and len(seen) == 3


@pytest.mark.parametrize(
    "reply",
    [Reply("{}", 401), Reply("{}", 403), Reply("{}", 404)]
    + [Reply('{"error": {"code": "insufficient_quota", "message": "pay"}}', 429)],
)
def test_a_refused_key_stops_everything_and_keeps_what_there_is(reply):
    with serving(lambda n, _: Reply() if n == 1 else reply) as (url, seen):
        with pytest.raises(EmbkitError, match="refuses every request"):
            ask(url, TITLES, retries=0)
        assert len(seen) == 2
    with serving(lambda *_: Reply()) as (again, seen):
        found = ask(again, TITLES)  # another port is another endpoint: it has another cache
        assert len(seen) == 3 and found.counts["from the cache"] == 0


def test_what_is_sent():
    with serving(lambda *_: Reply()) as (url, seen):
        ask(url)
        assert seen[0]["messages"] == [
            {"role": "user", "content": PROMPT.render(TITLES["a"], "layman")}
        ]
        assert seen[0]["authorization"] == f"Bearer {KEY}"
        assert (seen[0]["model"], seen[0]["max_tokens"], seen[0]["seed"]) == ("some-model", 32, 42)
        extra = {"max_tokens": None, "max_completion_tokens": 500, "temperature": None}
        ask(url, extra=extra)
        assert len(seen) == 2, "other settings are asked anew"
        assert "max_tokens" not in seen[1] and "temperature" not in seen[1]
        assert seen[1]["max_completion_tokens"] == 500


def test_the_key_is_nowhere(cache):
    def answer(n, _):
        if n == 1:
            return Reply(completion(f"my ear rings {KEY}"))
        return Reply(json.dumps({"error": {"message": f"bad key {KEY}"}}), 400 if n < 3 else 401)

    with serving(answer) as (url, _):
        with pytest.raises(EmbkitError, match="a user or a password") as refused:
            OpenAIBackend("m", url.replace("//", f"//user:{KEY}@"))
        backend = OpenAIBackend("m", url, workers=1)
        found = generate({"a": TITLES["a"], "b": TITLES["b"]}, backend, PROMPT)
        assert len(found.rows) == len(found.failed) == 1
        with pytest.raises(EmbkitError) as raised:
            generate(TITLES | {"d": "Gout"}, backend, PROMPT)
    error = raised.value
    shown = [str(refused.value), repr(backend), str(backend.name), str(vars(backend)), repr(found)]
    shown += [found._repr_html_(), str(vars(found))]
    shown += ["".join(traceback.format_exception(error)), repr(error.__context__)]
    shown += [path.read_text() for path in cache.rglob("*") if path.is_file()]
    assert any("[key]" in text for text in shown)
    assert not [text for text in shown if KEY in text]


def test_a_placeholder_for_a_key_is_no_secret(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "ear")
    with serving(lambda *_: Reply()) as (url, _):
        assert ask(url).rows[0].query == "my ear keeps ringing at night"


def test_workers_ask_at_the_same_time():
    together = threading.Barrier(3, timeout=5)

    def answer(*_):
        together.wait()  # breaks unless three requests are under way at once
        return Reply()

    with serving(answer) as (url, _):
        found = ask(url, TITLES, workers=3)
    assert len(found.rows) == 3


def test_no_client_names_the_line_that_installs_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(EmbkitError, match=r'pip install "embkit\[openai\]"'):
        OpenAIBackend("m")


def test_no_key_is_one_clear_error(monkeypatch):
    pytest.importorskip("openai", reason="the optional extra 'openai' is not installed")
    monkeypatch.delenv("OPENAI_API_KEY")
    with pytest.raises(EmbkitError, match="OPENAI_API_KEY is not set"):
        OpenAIBackend("m")


# The local model


@pytest.fixture(scope="module")
def tiny_llm(tmp_path_factory):
    """A folder with a random Llama of 2 layers; the line end is likely enough to come up."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=300,
        special_tokens=["<end>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    core.train_from_iterator([PROMPT.render(text, "layman") for text in TITLES.values()], trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<end>")
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        initializer_range=0.5,
        eos_token_id=0,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = LlamaForCausalLM(config)
    with torch.no_grad():
        model.lm_head.weight[tokenizer.encode("\n")[0]] *= 2.5
    folder = tmp_path_factory.mktemp("llm") / "tiny"
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def by_hand(folder, prompt, max_tokens, empty=False):
    """Greedy decoding, one prompt, no cache, no padding: what the backend must equal."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    lines = [i for i in range(len(tokenizer)) if "\n" in tokenizer.decode([i])]
    ids, new = tokenizer(prompt)["input_ids"], []
    while len(new) < max_tokens:
        with torch.no_grad():
            logits = model(torch.tensor([ids + new])).logits[0, -1]
        if not new and not empty:
            logits[lines] = float("-inf")
        new.append(int(logits.argmax()))
        if new[-1] in (0, *lines):
            return tokenizer.decode(new, skip_special_tokens=True).strip()
    text = tokenizer.decode(new, skip_special_tokens=True).strip()
    return Failure(f"cut off after {max_tokens} tokens: {text[:60]!r}", again=True)


def prompts(n=12):
    words = ["ear", "skin", "heart", "left ear and right ear", "in the hot sun of the skin"]
    return [PROMPT.render(f"Pain of {words[i % 5]} {i}", "layman") for i in range(n)]


def test_batches_padding_and_the_shared_prefix_change_nothing(tiny_llm):
    expected = [by_hand(tiny_llm, prompt, 8) for prompt in prompts()]
    assert {type(answer) for answer in expected} == {str, Failure}, "both ends are tested"
    free = [by_hand(tiny_llm, prompt, 8, empty=True) for prompt in prompts()]
    assert "" in free and "" not in expected, "an answer does not begin with its end"
    options = {"max_tokens": 8, "temperature": 0, "seed": 0}
    for size in (1, 5, 12):
        backend = TransformersBackend(tiny_llm, batch_size=size)
        batches = [prompts()[start : start + size] for start in range(0, 12, size)]
        found = [answer for batch in batches for answer in backend.generate(batch, **options)]
        assert found == expected
    assert len(backend._prefix[0]) > 20, "the examples were computed once"


def test_prompts_that_share_nothing(tiny_llm):
    texts = ["Ear", "title of the skin", "9"]
    found = TransformersBackend(tiny_llm).generate(texts, max_tokens=5, temperature=0, seed=0)
    assert found == [by_hand(tiny_llm, text, 5) for text in texts]


def test_sampling_follows_the_seed_and_nothing_else(tiny_llm):
    import torch

    backend = TransformersBackend(tiny_llm)
    options = {"max_tokens": 8, "temperature": 1.0}
    first = backend.generate(prompts(), seed=1, **options)
    torch.manual_seed(5)
    wanted = torch.rand(3)
    torch.manual_seed(5)
    assert backend.generate(prompts(), seed=1, **options) == first
    assert torch.equal(torch.rand(3), wanted), "other random numbers are left alone"
    assert backend.generate(prompts(), seed=2, **options) != first


def test_a_prompt_that_does_not_fit_is_reported(tiny_llm):
    backend = TransformersBackend(tiny_llm)
    long, short = "ear " * 400, prompts(1)[0]
    found = backend.generate([long, short], max_tokens=8, temperature=0, seed=0)
    assert isinstance(found[0], Failure) and not found[0].again
    assert "too long a prompt" in found[0].reason and found[1] == by_hand(tiny_llm, short, 8)


def test_the_name_follows_the_weights(tiny_llm, tmp_path):
    import shutil

    name = TransformersBackend(tiny_llm).name
    assert name.startswith("tiny (") and TransformersBackend(tiny_llm).name == name
    other = shutil.copytree(tiny_llm, tmp_path / "tiny")
    with (other / "model.safetensors").open("r+b") as file:
        file.seek(-1, 2)
        file.write(b"\x17")
    assert TransformersBackend(other).name != name


def test_generate_with_a_local_model(tiny_llm):
    backend = TransformersBackend(tiny_llm, batch_size=2)
    first = generate(TITLES, backend, PROMPT, max_tokens=6)
    assert len(first.rows) + len(first.failed) == 3
    again = generate(TITLES, backend, PROMPT, max_tokens=6)
    assert again.rows[: len(first.rows)] == first.rows
    assert again.counts["from the cache"] == len(first.rows)


def test_folders_that_are_no_language_model(tiny_llm, tiny_model, tmp_path):
    import shutil

    with pytest.raises(EmbkitError, match="no folder"):
        TransformersBackend(tmp_path / "nothing/there")
    with pytest.raises(EmbkitError, match="no causal language model but BertModel"):
        TransformersBackend(tiny_model)
    (tmp_path / "empty").mkdir()
    with pytest.raises(EmbkitError, match="not a model folder"):
        TransformersBackend(tmp_path / "empty")
    with pytest.raises(EmbkitError, match="unknown model 'smollm'"):
        TransformersBackend("smollm")
    broken = shutil.copytree(tiny_llm, tmp_path / "broken")
    with (broken / "model.safetensors").open("r+b") as file:
        file.truncate(1000)
    with pytest.raises(EmbkitError, match="cannot be loaded"):
        generate(TITLES, TransformersBackend(broken), PROMPT)
