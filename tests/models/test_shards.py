"""Vectors in shards: equal to encode's, kept through kills and damage, never half-made."""

import hashlib
import json
import signal
import subprocess
import sys
import tracemalloc
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from embkit.errors import EmbkitError
from embkit.models import encoding
from embkit.models.encoding import encode, encode_shards
from embkit.models.loading import load_model
from embkit.search.index import exact_search

TEXTS = [f"text {i % 37} of {'x' * (i % 5)}" for i in range(100)]  # 100, all but 15 distinct
TEXTS[85:] = TEXTS[:15]


def drawn(texts):
    """A row for each text that the text alone decides."""
    rows = [hashlib.sha256(text.encode()).digest() for text in texts]
    return np.frombuffer(b"".join(rows), np.uint8).reshape(-1, 32) - 127.5


class Counted:
    """A function as a model that remembers what it was asked."""

    def __init__(self):
        self.calls = []

    def __call__(self, texts):
        self.calls.append(list(texts))
        return drawn(texts)


class Named:
    """A function with what a model is known by: its name stands for the weights."""

    device, max_seq_length = SimpleNamespace(type="cpu"), None

    def __init__(self, function, name):
        self.function, self.name = function, name

    def __call__(self, texts):
        return self.function(texts)

    def __repr__(self):
        return self.name

    def state_dict(self):
        return {}

    def named_modules(self):
        return []


def shards(function, texts, *, name, **options):
    return encode_shards(Named(function, name), list(texts), **options)


@pytest.fixture
def model(tiny_model):
    return load_model(tiny_model)


def files(cache):
    return sorted(p.suffix for p in (cache / "embeddings").iterdir() if p.suffix != ".lock")


def expected(dtype=np.float32):
    return encode(drawn, TEXTS).astype(dtype)


# -- the same vectors --


@pytest.mark.parametrize("shard", [1, 7, 10, 50, 99, 100, 101, 5000])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_functions_vectors_are_encodes_in_shards_of_any_size(cache, shard, dtype):
    found = shards(drawn, TEXTS, name="drawn", shard=shard, dtype=dtype)
    assert isinstance(found, np.memmap) and found.dtype == dtype
    assert (found == expected(dtype)).all()
    assert files(cache) == [".npy"]


def test_a_models_vectors_are_encodes(cache, model):
    whole = encode(model, TEXTS, cache=False)
    found = encode_shards(model, TEXTS, shard=16)
    np.testing.assert_allclose(found, whole, atol=1e-6)
    prompted = encode_shards(model, TEXTS, shard=16, prompt="eye: ")
    np.testing.assert_allclose(prompted, encode(model, TEXTS, prompt="eye: "), atol=1e-6)
    assert np.abs(prompted - found).max() > 0.01
    half = encode_shards(model, TEXTS, shard=16, dtype="float16")
    assert half.dtype == np.float16 and half.nbytes == found.nbytes / 2
    np.testing.assert_allclose(half, whole, atol=5e-4)
    np.testing.assert_allclose(half.astype(np.float32) @ whole[0], whole @ whole[0], atol=1e-3)


def test_each_distinct_text_is_encoded_once_and_has_one_vector(cache, model):
    counted = Counted()
    shards(counted, TEXTS, name="counted", shard=9)
    asked = [text for call in counted.calls for text in call]
    assert asked == list(dict.fromkeys(TEXTS))
    found = encode_shards(model, TEXTS, shard=9)
    assert (found[85:] == found[:15]).all()


def test_one_text_many_times(cache):
    found = shards(drawn, ["same"] * 50, name="drawn", shard=8)
    assert (found == encode(drawn, ["same"])[0]).all()


def test_what_the_array_is_searched_for_is_found(cache):
    found = shards(drawn, TEXTS[:85], name="drawn", shard=20, dtype="float16")
    queries = encode(drawn, TEXTS[:85])
    assert exact_search(queries, found, 1)[0][:, 0].tolist() == list(range(85))


def test_what_is_written_into_the_array_stays_out_of_the_file(cache):
    found = shards(drawn, TEXTS, name="drawn")
    found *= 0
    assert (shards(drawn, TEXTS, name="drawn") == expected()).all()


# -- encode takes this way by itself --


def test_encode_takes_shards_for_many_texts_and_for_no_others(cache, model, monkeypatch):
    few = encode(model, TEXTS)
    assert not isinstance(few, np.memmap)
    monkeypatch.setattr(encoding, "LARGE", 99)
    many = encode(model, TEXTS)
    assert isinstance(many, np.memmap) and many.dtype == np.float32
    np.testing.assert_allclose(many, few, atol=1e-6)
    assert encode(model, TEXTS, dtype="float16").dtype == np.float16
    assert not isinstance(encode(model, TEXTS, cache=False), np.memmap)
    monkeypatch.setattr(encoding, "LARGE", 100)
    assert (encode(model, TEXTS) == few).all()


def test_encode_gives_half_precision_for_few_texts_too(cache, model):
    whole = encode(model, TEXTS)
    for found in (encode(model, TEXTS, dtype="float16"), encode(drawn, TEXTS, dtype="float16")):
        assert found.dtype == np.float16
    assert (encode(model, TEXTS, dtype="float16") == whole.astype(np.float16)).all()
    assert len(list(cache.rglob("*.npy"))) == 1


def test_the_cache_of_few_texts_has_the_key_it_always_had(cache, model):
    encode(model, TEXTS, prompt="eye: ")
    digest = hashlib.sha256(encoding.weights_fingerprint(model).encode())
    digest.update(json.dumps(["fp32", "eye: ", TEXTS]).encode())
    assert [p.name for p in cache.rglob("*.npy")] == [f"{digest.hexdigest()[:32]}.npy"]


# -- the second call --


def test_the_second_call_asks_for_nothing(cache):
    counted = Counted()
    first = shards(counted, TEXTS, name="counted", shard=30)
    asked = len(counted.calls)
    again = shards(counted, tuple(TEXTS), name="counted", shard=7)
    assert len(counted.calls) == asked == 3 and (first == again).all()


@pytest.mark.parametrize(
    "change",
    [
        {"name": "other"},
        {"prompt": "a "},
        {"task": "query"},
        {"dtype": "float16"},
        {"texts": TEXTS[::-1]},
        {"texts": TEXTS[:99]},
        {"texts": [*TEXTS[:98], TEXTS[98] + TEXTS[99]]},
    ],
)
def test_anything_else_is_encoded_again(cache, change):
    counted = Counted()
    shards(counted, TEXTS, name="counted")
    options = {"texts": TEXTS, "name": "counted"} | change
    texts = options.pop("texts")
    found = shards(counted, texts, **options)
    assert len(counted.calls) == 2
    truth = encode(drawn, [options.get("prompt", "") + text for text in texts])
    assert (found == truth.astype(found.dtype)).all()


def test_other_weights_are_encoded_again(cache, model):
    import torch

    first = np.array(encode_shards(model, TEXTS))
    with torch.no_grad():
        next(model.parameters())[5:] *= -1
    second = encode_shards(model, TEXTS)
    assert np.abs(first - second).max() > 1e-3


def test_progress_counts_distinct_texts_and_goes_on_where_it_stopped(cache, model):
    seen = []
    encode_shards(model, TEXTS, shard=20, progress=seen.append)
    assert seen == sorted(seen) and seen[-1] == 85
    counted, seen = Failing(after=2), []
    with pytest.raises(RuntimeError):
        shards(counted, TEXTS, name="f", shard=20, progress=seen.append)
    assert seen == [20, 40]
    shards(drawn, TEXTS, name="f", shard=20, progress=seen.append)
    assert seen == [20, 40, 40, 60, 80, 85]


# -- a kill --

CHILD = """
import os, signal, sys
sys.path.insert(0, {tests!r})
from test_shards import TEXTS, drawn, shards
from embkit.models import encoding
calls = syncs = 0
def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)
def model(texts):
    global calls
    calls += 1
    if {where!r} == "encoding" and calls == {at}:
        die()
    return drawn(texts)
synced = os.fsync
def fsync(number):
    global syncs
    synced(number)
    syncs += 1
    if {where!r} == "after writing" and syncs == {at}:
        die()
os.fsync = fsync
def replace(*names, replaced=os.replace):
    if {where!r} == "before the end" and str(names[1]).endswith(".npy"):
        die()
    replaced(*names)
    if {where!r} == "at the end" and str(names[1]).endswith(".npy"):
        die()
os.replace = replace
shards(model, TEXTS, name="counted", shard=30, dtype={dtype!r})
"""


def run_and_kill(where, at, dtype="float32"):
    code = CHILD.format(tests=str(Path(__file__).parent), where=where, at=at, dtype=dtype)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr


@pytest.mark.parametrize(
    "where, at, left",
    [
        ("encoding", 1, 3),  # nothing is there yet
        ("encoding", 2, 2),
        ("encoding", 3, 1),
        ("after writing", 1, 3),  # the first shard is on the disk, and has not got its name
        ("after writing", 2, 2),  # now it has; the second shard is there
        ("after writing", 3, 1),
        ("after writing", 4, 0),  # the whole array
        ("before the end", 0, 0),
        ("at the end", 0, 0),
    ],
)
def test_a_kill_costs_the_shard_in_hand_and_changes_no_bit(cache, where, at, left):
    run_and_kill(where, at)
    counted = Counted()
    found = shards(counted, TEXTS, name="counted", shard=30)
    assert len(counted.calls) == left
    assert found.tobytes() == expected().tobytes()
    assert files(cache) == [".npy"]


def test_two_kills_one_after_the_other(cache):
    for _ in range(2):
        run_and_kill("encoding", 2, "float16")  # each time one shard more
    counted = Counted()
    found = shards(counted, TEXTS, name="counted", shard=30, dtype="float16")
    assert len(counted.calls) == 1 and found.tobytes() == expected(np.float16).tobytes()


def test_a_model_killed_within_a_shard_gives_the_same_bits(cache, model, tiny_model, monkeypatch):
    """The model's own process dies in the middle of a shard; what it left is gone on with."""
    code = f"""
import os, signal, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from test_shards import TEXTS
from embkit.models.loading import load_model
from embkit.models.encoding import encode_shards
def die(done):
    if done > 40:
        os.kill(os.getpid(), signal.SIGKILL)
encode_shards(load_model({str(tiny_model)!r}), TEXTS, shard=16, progress=die)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    seen = []
    found = encode_shards(model, TEXTS, shard=16, progress=seen.append)
    assert seen[0] == 32  # two shards were there
    monkeypatch.setenv("EMBKIT_CACHE", str(cache / "other"))
    assert found.tobytes() == encode_shards(model, TEXTS, shard=16).tobytes()


class Failing(Counted):
    """A function that fails after so many calls."""

    def __init__(self, after):
        super().__init__()
        self.after = after

    def __call__(self, texts):
        if len(self.calls) == self.after:
            raise RuntimeError("the network is gone")
        return super().__call__(texts)


@pytest.fixture
def begun(cache):
    """Three shards of five are there: their files."""
    with pytest.raises(RuntimeError, match="network"):
        shards(Failing(after=3), TEXTS, name="f", shard=20)
    found = sorted(cache.rglob("*.shards/*"), key=lambda path: int(path.name))
    assert [path.name for path in found] == ["0", "20", "40"]
    return found


def gone_on_with():
    """How many shards the next call makes; its result is right in any case."""
    counted = Counted()
    found = shards(counted, TEXTS, name="f", shard=20)
    assert found.tobytes() == expected().tobytes()
    return len(counted.calls)


def test_an_error_keeps_what_is_finished(begun):
    assert gone_on_with() == 2


def test_what_was_begun_goes_on_with_its_own_size_of_shard(begun):
    counted = Counted()
    found = shards(counted, TEXTS, name="f", shard=33)
    assert [len(call) for call in counted.calls] == [20, 5]
    assert (found == expected()).all()


# -- damage --


@pytest.mark.parametrize("shard", [0, 1, 2])
@pytest.mark.parametrize("keep", [0, 100, 128, 128 + 10 * 128, -1])
def test_a_shard_that_was_cut_off_is_made_again(begun, shard, keep):
    begun[shard].write_bytes(begun[shard].read_bytes()[:keep])
    assert gone_on_with() == 3


def test_a_damaged_header_of_a_shard_is_written_again(begun):
    begun[1].write_bytes(b"\0" * 128 + begun[1].read_bytes()[128:])
    assert gone_on_with() == 3


@pytest.mark.parametrize("other", [(19, 32), (20, 32, 1), (20,)])
def test_a_shard_of_another_shape_is_made_again(begun, other):
    with begun[1].open("wb") as file:
        np.save(file, np.zeros(other, np.float32))
    assert gone_on_with() == 3


@pytest.mark.parametrize("gone", [[0], [1], [2], [0, 1, 2]])
def test_shards_that_are_gone_are_made_again(begun, gone):
    for number in gone:
        begun[number].unlink()
    assert gone_on_with() == 2 + len(gone)


@pytest.mark.parametrize("keep", [0, 60, 128, 5000, -1])
def test_a_finished_array_that_was_cut_off_is_made_again(cache, keep):
    shards(drawn, TEXTS, name="f", shard=20)
    (path,) = cache.rglob("*.npy")
    path.write_bytes(path.read_bytes()[:keep])
    assert gone_on_with() == 5


# -- refused --


def test_an_unknown_dtype_is_refused(cache):
    with pytest.raises(EmbkitError, match="unknown dtype"):
        encode(drawn, TEXTS, dtype="float8")
    assert not cache.exists()


def test_nan_is_refused_and_never_kept(begun):
    with pytest.raises(EmbkitError, match="NaN"):
        shards(lambda texts: drawn(texts) * np.nan, TEXTS, name="f", shard=20)
    assert gone_on_with() == 2


def test_a_disk_without_room_is_said_before_the_work_begins(cache, monkeypatch):
    counted = Counted()
    with monkeypatch.context() as patch:
        patch.setattr(encoding.shutil, "disk_usage", lambda _: SimpleNamespace(free=5000))
        with pytest.raises(EmbkitError, match="GiB are needed") as caught:
            shards(counted, TEXTS, name="f", shard=20)
    assert "EMBKIT_CACHE" in caught.value.hint and len(counted.calls) == 1
    assert gone_on_with() == 5


def test_a_disk_that_fills_up_keeps_what_is_finished(begun, monkeypatch):
    def full(number):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(encoding.os, "fsync", full)
        with pytest.raises(EmbkitError, match="No space left"):
            shards(drawn, TEXTS, name="f", shard=20)
    assert gone_on_with() == 2


def test_a_cache_that_cannot_be_written_is_said(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("EMBKIT_CACHE", str(tmp_path / "file"))
    with pytest.raises(EmbkitError, match="cannot be kept"):
        shards(drawn, TEXTS, name="f")


def test_a_functions_own_failure_is_not_taken_for_the_disks(cache):
    def model(texts):
        raise ConnectionError("no route to host")

    with pytest.raises(ConnectionError):
        shards(model, TEXTS, name="f")


# -- memory, and two at once --


def test_memory_does_not_grow_with_the_array(cache):
    texts = [f"{i}" for i in range(20_000)]

    def wide(rows):
        return np.ones((len(rows), 256), np.float32)

    tracemalloc.start()
    found = shards(wide, texts, name="wide", shard=500)
    most = tracemalloc.get_traced_memory()[1] / 2**20
    tracemalloc.stop()
    assert found.nbytes / 2**20 > 19 and most < 8


def test_two_processes_share_the_work_of_one(cache):
    code = CHILD.format(tests=str(Path(__file__).parent), where="", at=0, dtype="float32")
    running = [subprocess.Popen([sys.executable, "-c", code]) for _ in range(2)]
    assert [child.wait(60) for child in running] == [0, 0]
    assert shards(Counted(), TEXTS, name="counted").tobytes() == expected().tobytes()
    assert files(cache) == [".npy"]
