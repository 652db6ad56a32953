"""What the README promises: no pickle, no remote code, loopback only, keys from the environment."""

import ast
import json
import logging
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from embkit import Recipe
from embkit.synthetic import OpenAIBackend

ROOT = Path(__file__).resolve().parent.parent
SHIPPED = sorted(
    path
    for folder in ("embkit", "notebooks/source", "notebooks/tools")
    for path in (ROOT / folder).rglob("*.py")
)
TESTS = [path for path in sorted((ROOT / "tests").rglob("*.py")) if path != Path(__file__)]
PICKLING = {"pickle", "cPickle", "_pickle", "joblib", "dill", "cloudpickle", "shelve", "marshal"}
LOOPBACK = {"127.0.0.1", "localhost", "::1"}
BINDING = re.compile(r"^(bind|create_server|\w*Server)$")
ADDRESS = re.compile(r"(?:^--|\.)ip=(.*)$")  # --ip=…, --ServerApp.ip=…
KEY = "sk-a-key-that-nobody-may-see"


def breaches(source, file="a file"):
    """Lines that open a pickle, run code that came with a model, or load without a check."""
    tree, found = ast.parse(source), []
    torch = {"torch"}  # every name that torch has here
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            torch |= {a.asname for a in node.names if a.name == "torch" and a.asname}

    def say(node, what):
        found.append(f"{file}:{node.lineno}: {what}")

    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            module = getattr(node, "module", None)
            for name in [module] if module else [alias.name for alias in node.names]:
                if name.split(".")[0] in PICKLING:
                    say(node, f"imports {name}")
            if module in ("torch", "numpy") and "load" in {alias.name for alias in node.names}:
                say(node, f"imports {module}.load alone, which hides what it is")
        if isinstance(node, ast.Call):
            given = {word.arg: word.value for word in node.keywords}
            called = node.func
            if isinstance(called, ast.Name) and called.id in ("eval", "exec"):
                say(node, f"{called.id}() of a text")
            of_torch = (
                isinstance(called, ast.Attribute)
                and called.attr == "load"
                and isinstance(called.value, ast.Name)
                and called.value.id in torch
            )
            if of_torch and not _is(given.get("weights_only"), True):
                say(node, "torch.load without weights_only=True")
            for name in ("allow_pickle", "trust_remote_code"):
                if name in given and not _is(given[name], False):
                    say(node, f"{name} is set")
        if isinstance(node, ast.Dict):
            for key, value in zip(node.keys, node.values, strict=True):
                for name in ("allow_pickle", "trust_remote_code"):
                    if _is(key, name) and not _is(value, False):
                        say(node, f"{name} is set")
    return found


def open_addresses(source, file="a file"):
    """Lines that listen on an address other than loopback."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            given = ADDRESS.search(node.value)
            if given and given[1] not in LOOPBACK:
                found.append(f"{file}:{node.lineno}: {node.value}")
        if isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Tuple):
            called = getattr(node.func, "attr", getattr(node.func, "id", ""))
            if BINDING.match(called) and node.args[0].elts:
                host = node.args[0].elts[0]
                if not (isinstance(host, ast.Constant) and host.value in LOOPBACK):
                    found.append(f"{file}:{node.lineno}: {called}{ast.unparse(node.args[0])}")
    return found


def _is(node, value):
    return isinstance(node, ast.Constant) and repr(node.value) == repr(value)


def read(path):
    return path.read_text(encoding="utf-8")


# -- no pickle, no remote code --


def test_nothing_that_is_shipped_opens_a_pickle_or_runs_code_of_others():
    assert len(SHIPPED) > 80, "the package and the notebooks are looked at"
    assert [line for path in SHIPPED for line in breaches(read(path), path.name)] == []


@pytest.mark.parametrize(
    "line",
    [
        "import pickle",
        "import os, pickle as p",
        "def f():\n    from joblib import load",
        "import torch\ntorch.load(path)",
        "import torch\ntorch.load(path, weights_only=False)",
        "import torch\ntorch.load(path, weights_only=safe)",
        "import torch as t\nt.load(path)",
        "from torch import load",
        "from numpy import load as read",
        "np.load(path, allow_pickle=True)",
        "np.load(path, mmap_mode='r', allow_pickle=asked)",
        "SentenceTransformer(name, trust_remote_code=True)",
        "AutoModel.from_pretrained(name, **{'trust_remote_code': True})",
        "eval(text)",
        "exec(text)",
    ],
)
def test_a_planted_line_is_found(line):
    assert len(breaches(line)) == 1


def test_what_only_looks_like_one_is_left_alone():
    fine = """
import torch, json
torch.load(path, weights_only=True)
np.load(path, mmap_mode="r", allow_pickle=False)
SentenceTransformer(name, trust_remote_code=False)
model.eval()
json.load(stream)
"trust_remote_code is never set"
"""
    assert breaches(fine) == []


@pytest.mark.parametrize("approach", ["contrastive", "symmetric", "gist", "corpus"])
def test_a_printed_script_keeps_the_promise_too(approach):
    script = Recipe(approach=approach).to_script()
    assert "SentenceTransformer(" in script and breaches(script) == []


# -- loopback --


def test_nothing_listens_but_on_loopback():
    looked_at = [*SHIPPED, *TESTS]
    assert [x for path in looked_at for x in open_addresses(read(path), path.name)] == []


@pytest.mark.parametrize(
    "line",
    [
        "free.bind(('0.0.0.0', 0))",
        "free.bind(('', 0))",
        "ThreadingHTTPServer((host, 0), Handler)",
        "http.server.HTTPServer(('', 80), Handler)",
        "socket.create_server(('10.0.0.1', 0))",
        "options = ['--ServerApp.ip=0.0.0.0']",
        "options = ['--ip=*']",
    ],
)
def test_a_planted_address_is_found(line):
    assert len(open_addresses(line)) == 1
    for given in ("'0.0.0.0'", "''", "host", "'10.0.0.1'"):
        line = line.replace(given, "'127.0.0.1'", 1)
    assert open_addresses(re.sub(r"ip=[^']*", "ip=127.0.0.1", line)) == []


def test_make_starts_servers_on_loopback_alone():
    from jupyter_client.manager import AsyncKernelManager
    from jupyter_server.serverapp import ServerApp

    makefile = read(ROOT / "Makefile")
    starts = [line for line in makefile.splitlines() if re.search(r"/(jupyter lab|voila)\b", line)]
    assert len(starts) >= 2
    for line in starts:
        given = re.search(r"ip=(\S+)", line)
        assert given[1] in LOOPBACK if given else "jupyter lab" in line, line
    assert ServerApp().ip in LOOPBACK, "jupyter lab's own default"
    assert AsyncKernelManager().ip in LOOPBACK, "the kernels of make run"


# -- keys --


def test_no_option_takes_a_key():
    options = [
        f"{path.name}: {node.value}"
        for path in SHIPPED
        for node in ast.walk(ast.parse(read(path)))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
        if re.fullmatch(r"--[a-z-]*(key|token|secret|password)", node.value)
    ]
    assert options == [], "what is typed stays in the shell's history: keys come from variables"


def test_the_most_talkative_log_holds_no_key(monkeypatch, caplog, capfd, tmp_path):
    pytest.importorskip("openai", reason="the optional extra 'openai' is not installed")
    seen = []

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def do_POST(self):
            seen.append(self.headers["Authorization"])
            self.rfile.read(int(self.headers["Content-Length"]))
            body = json.dumps({"error": {"message": f"bad key {KEY}"}}).encode()
            self.send_response(400)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    try:
        with caplog.at_level(logging.DEBUG):
            backend = OpenAIBackend("m", f"http://127.0.0.1:{server.server_port}/v1")
            answers = backend.generate(["a"], max_tokens=8, temperature=0.0, seed=0)
    finally:
        server.shutdown()
        server.server_close()
    assert seen == [f"Bearer {KEY}"], "the endpoint alone is told"
    assert len(caplog.records) > 3, "something was logged"
    logged = "".join(str(vars(record)) for record in caplog.records)
    assert KEY not in logged + caplog.text + repr(answers) + "".join(capfd.readouterr())
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert not [path for path in files if KEY.encode() in path.read_bytes()]


# -- the promises and their tests --


def test_every_test_that_a_promise_names_is_there():
    named = re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", read(ROOT / "tests" / "README.md"))
    assert len(named) >= 12
    for file, name in named:
        functions = {
            node.name
            for node in ast.walk(ast.parse(read(ROOT / file)))
            if isinstance(node, ast.FunctionDef)
        }
        assert name in functions, f"{file}::{name}"
