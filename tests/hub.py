"""A small hub on this machine: what huggingface_hub and datasets ask of one, and bad behaviour."""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

CHUNK = 1000  # bytes that huggingface_hub writes at a time
ASLEEP = 1  # seconds that a hub sleeps which answers too late


def files_of(folder):
    """File name -> bytes."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


class Repository:
    """A model or a data set: its commits, and who is let in."""

    def __init__(self):
        self.commits: dict[str, dict[str, bytes]] = {}
        self.refs: dict[str, str] = {}
        self.gated = 0  # the status that files are refused with: 401 without a token, 403 with one

    def commit(self, files, *names):
        """A new head of ``main`` (and of a tag, a branch): a folder, or file name -> bytes."""
        files = files_of(files) if isinstance(files, Path) else dict(files)
        digest = hashlib.sha1(str(len(self.commits)).encode())
        for name, data in files.items():
            digest.update(name.encode() + data)
        self.commits[digest.hexdigest()] = files
        self.refs |= dict.fromkeys(["main", *names], digest.hexdigest())
        return digest.hexdigest()


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        hub = self.server.hub
        path = unquote(urlsplit(self.path).path).strip("/")
        hub.requests[f"{self.command} {path}"] += 1
        if any(word in path for word in hub.asleep):
            threading.Event().wait(ASLEEP)
        if self.command == "POST":
            length = int(self.headers["Content-Length"] or 0)
            asked = parse_qs(self.rfile.read(length).decode()).get("paths", [])
        else:
            asked = None
        api = path.startswith("api/")
        parts = path.removeprefix("api/").split("/")
        kind = parts.pop(0) if parts[0] in ("models", "datasets") else "models"
        repository = hub.repositories.get((kind, "/".join(parts[:2])))
        rest = parts[2:] or ["revision", "main"]
        if repository is None:
            return self.refuse(404, "RepoNotFound")
        if repository.gated and (not api or "tree" in rest):
            return self.refuse(repository.gated, "GatedRepo")
        what, revision, file = rest[0], (rest + ["main"])[1], "/".join(rest[2:])
        if what in ("revision", "tree", "paths-info", "resolve"):  # a revision may hold slashes
            every = [*repository.refs, *repository.commits]
            behind = "/".join(rest[1:]) or "main"
            fits = [r for r in every if behind == r or behind.startswith(f"{r}/")]
            revision = max(fits, key=len, default=revision)
            file = behind[len(revision) + 1 :]
        commit = repository.refs.get(revision, revision)
        if commit not in repository.commits:
            return self.refuse(404, "RevisionNotFound")
        files = repository.commits[commit]
        if what == "resolve":
            if file not in files:
                return self.refuse(404, "EntryNotFound", commit)
            return self.send_file(file, files[file], commit)
        listed = [self.entry(name, data) for name, data in files.items()]
        folders = {"/".join(name.split("/")[:n]) for name in files for n in range(1, 9)}
        folders -= {*files, ""}
        listed += [{"type": "directory", "oid": "0" * 40, "size": 0, "path": f} for f in folders]
        if what == "tree":
            below = [x for x in listed if not file or x["path"].startswith(f"{file}/")]
            if file and not below:
                return self.refuse(404, "EntryNotFound", commit)
            if "recursive=true" not in self.path.lower():
                deep = file.count("/") + 1 if file else 0
                below = [x for x in below if x["path"].count("/") == deep]
            return self.send_json(below)
        if what == "paths-info":
            return self.send_json([x for x in listed if x["path"] in asked])
        siblings = [{"rfilename": name} for name in files]
        about = {"id": "/".join(parts[:2]), "sha": commit, "siblings": siblings, "private": False}
        return self.send_json(about | {"gated": bool(repository.gated), "tags": [], "downloads": 0})

    do_HEAD = do_POST = do_GET

    def entry(self, name, data):
        oid = hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
        return {"type": "file", "oid": oid, "size": len(data), "path": name}

    def send_json(self, said):
        self.answer(200, json.dumps(said).encode(), {"Content-Type": "application/json"})

    def refuse(self, status, code, commit=None):
        headers = {"X-Error-Code": code, "X-Error-Message": code}
        self.answer(status, b"", headers | ({"X-Repo-Commit": commit} if commit else {}))

    def send_file(self, name, data, commit):
        hub, asked = self.server.hub, self.headers.get("Range")
        headers = {"X-Repo-Commit": commit, "ETag": f'"{self.entry(name, data)["oid"]}"'}
        headers |= {"Accept-Ranges": "bytes"}
        if asked:
            start, _, end = asked.removeprefix("bytes=").partition("-")
            last = min(int(end), len(data) - 1) if end else len(data) - 1
            headers["Content-Range"] = f"bytes {start}-{last}/{len(data)}"
            data = data[int(start) : last + 1]
            hub.ranges.append((name, int(start)))
        cut = self.command == "GET" and hub.cuts[name] > 0
        hub.cuts[name] -= cut
        self.answer(206 if asked else 200, data, headers, len(data) // 2 if cut else None)

    def answer(self, status, body, headers, keep=None):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            with contextlib.suppress(OSError):  # who asked has gone
                self.wfile.write(body[:keep])
        if keep is not None:  # the rest never comes
            self.close_connection = True

    def log_message(self, *_):
        pass


class Hub:
    """Serves what is put into it, counts what it is asked for, and can misbehave."""

    def __init__(self):
        self.repositories: dict[tuple[str, str], Repository] = {}
        self.requests: Counter[str] = Counter()
        self.ranges: list[tuple[str, int]] = []  # (file, first byte) of what is asked in part
        self.cuts: Counter[str] = Counter()  # file -> how many answers break in the middle
        self.waits: list[float] = []  # seconds that the libraries would wait before another try
        self.asleep: list[str] = []  # words in an address that is answered too late
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.hub, self.server.daemon_threads = self, True
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def add(self, name, kind="models"):
        return self.repositories.setdefault((kind, name), Repository())

    def fetched(self, name=""):
        """How many files were fetched, or how often the one of that name."""
        wanted = [p for p in self.requests if p.startswith("GET ") and "/resolve/" in p]
        return sum(self.requests[path] for path in wanted if path.endswith(name))

    def close(self):
        with contextlib.suppress(OSError):
            self.server.shutdown()
            self.server.server_close()


def ask_it(hub, monkeypatch, folder):
    """This process takes a hub for the hub, with a network and an empty cache below a folder."""
    import datasets
    from huggingface_hub import _tree_cache, constants, file_download

    resolve = hub.url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(constants, "ENDPOINT", hub.url)
    monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", resolve)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(folder / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "DOWNLOAD_CHUNK_SIZE", CHUNK)
    monkeypatch.setattr(_tree_cache, "_IN_MEMORY_TREE_CACHE", {})
    monkeypatch.setattr(file_download.time, "sleep", hub.waits.append)  # before another try
    monkeypatch.setattr(datasets.config, "HF_ENDPOINT", hub.url)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", folder / "datasets")


@contextlib.contextmanager
def wait_less():
    """HF_HUB_DOWNLOAD_TIMEOUT below what a sleeping hub takes."""
    from huggingface_hub import constants

    usual, constants.HF_HUB_DOWNLOAD_TIMEOUT = constants.HF_HUB_DOWNLOAD_TIMEOUT, ASLEEP / 4
    yield
    constants.HF_HUB_DOWNLOAD_TIMEOUT = usual


def take_the_network(monkeypatch):
    """HF_HUB_OFFLINE=1, for a process that has read it already."""
    import datasets
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
