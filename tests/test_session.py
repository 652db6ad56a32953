"""setup(): profile, folders, device, precision and seeds; each wrong value is one clear error."""

import random
import types
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch

from embkit import session
from embkit.errors import EmbkitError


def test_the_profile_is_the_argument_then_the_variable_then_workshop(monkeypatch):
    monkeypatch.setenv("EMBKIT_PROFILE", "full")
    assert session.profile() == "full"
    assert session.profile("smoke") == "smoke"
    monkeypatch.setenv("EMBKIT_PROFILE", "")
    assert session.profile() == "workshop"
    monkeypatch.delenv("EMBKIT_PROFILE")
    assert session.profile() == "workshop"


def test_an_unknown_profile_names_the_nearest(monkeypatch):
    with pytest.raises(EmbkitError, match="did you mean 'workshop'"):
        session.profile("workshp")
    monkeypatch.setenv("EMBKIT_PROFILE", "smok")
    with pytest.raises(EmbkitError, match="did you mean 'smoke'"):
        session.setup()


def test_two_variables_move_the_folders(monkeypatch, tmp_path):
    monkeypatch.setenv("EMBKIT_RUNS", str(tmp_path / "a"))
    monkeypatch.setenv("EMBKIT_CACHE", str(tmp_path / "b"))
    assert (session.paths().runs, session.paths().cache) == (tmp_path / "a", tmp_path / "b")
    assert not (tmp_path / "a").exists()  # asking where does not make it


def test_the_folders_default_to_the_clone_and_the_users_cache(monkeypatch, tmp_path):
    monkeypatch.delenv("EMBKIT_RUNS")
    monkeypatch.delenv("EMBKIT_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    where = session.paths()
    assert where.cache == tmp_path / "embkit"
    assert where.runs == where.root / "runs" and (where.root / "embkit").is_dir()


def test_folders_may_be_relative_and_may_begin_with_a_tilde(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EMBKIT_RUNS", "here/runs")
    monkeypatch.setenv("EMBKIT_CACHE", "~/there")
    assert session.paths().runs == tmp_path / "here" / "runs"
    assert session.paths().cache == Path.home() / "there"


def test_setup_seeds_python_numpy_and_torch():
    def draw():
        return random.random(), np.random.rand(), torch.rand(1).item()

    session.setup(seed=7)
    first = draw()
    session.setup(seed=7)
    assert draw() == first
    session.setup(seed=8)
    assert not set(draw()) & set(first)


@pytest.mark.parametrize("seed", [-1, 1.5, "42", None])
def test_a_seed_that_is_no_whole_number_is_refused(seed):
    with pytest.raises(EmbkitError, match="seed="):
        session.setup(seed=seed)


def test_the_table_tells_what_was_found_and_escapes_it(store):
    made = session.setup(seed=3)
    rows = dict(made.table().cells)
    assert rows["profile"] == "smoke" and rows["seed"] == "3"
    assert rows["runs are kept in"] == str(store)
    assert f"torch {torch.__version__}" in rows["versions"]
    assert made.threads == torch.get_num_threads() and made.memory_gb > 0
    shown = "".join(str(made).split())  # a long value goes on below
    assert all("".join(f"{what}{value}".split()) in shown for what, value in rows.items())
    odd = session.Session("<b>", 1, "cpu", "a<b>&c", "fp32", 1, 1.0, {}, "runs")
    assert "<b>" not in odd._repr_html_() and "a&lt;b&gt;&amp;c" in odd._repr_html_()


def test_setup_leaves_the_threads_alone():
    before = torch.get_num_threads()
    assert session.setup().threads == torch.get_num_threads() == before


@pytest.mark.parametrize(
    "has, chosen",
    [
        ({"avx512_bf16": True, "avx2": True}, "bf16"),
        ({"amx_bf16": True, "avx512_bf16": False}, "bf16"),
        ({"avx512_bf16": False, "avx2": True}, "fp32"),
        ({"architecture": "aarch64"}, "fp32"),
    ],
)
def test_a_processor_gets_bf16_only_where_it_is_native(monkeypatch, has, chosen):
    monkeypatch.delenv("EMBKIT_PRECISION", raising=False)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: has)
    assert session.precision("cpu") == chosen


CARDS = {  # name -> compute capability, as NVIDIA lists it; what its tensor cores take
    "GTX 1080": ((6, 1), "fp32"),
    "V100": ((7, 0), "fp16"),
    "T4": ((7, 5), "fp16"),
    "RTX 2080": ((7, 5), "fp16"),
    "A100": ((8, 0), "bf16"),
    "RTX 3090": ((8, 6), "bf16"),
    "L4": ((8, 9), "bf16"),
    "H100": ((9, 0), "bf16"),
    "B200": ((10, 0), "bf16"),
}


@pytest.fixture
def two_gpus(monkeypatch):
    """As torch answers where there is a T4 and an A100."""
    cards = [CARDS["T4"][0], CARDS["A100"][0]]
    number = lambda on: torch.device(on).index or 0  # noqa: E731
    monkeypatch.delenv("EMBKIT_PRECISION", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda on: cards[number(on)])
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda on: ("T4", "A100")[number(on)])


@pytest.mark.parametrize("card", CARDS)
def test_a_gpu_gets_what_its_tensor_cores_take(monkeypatch, card):
    monkeypatch.delenv("EMBKIT_PRECISION", raising=False)
    capability, chosen = CARDS[card]
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda on: capability)
    assert session.precision("cuda") == chosen


@pytest.mark.parametrize(
    ("asked", "precision", "name"), [("cuda", "fp16", "T4"), ("cuda:1", "bf16", "A100")]
)
def test_the_gpu_that_is_asked_for_is_the_one_that_is_looked_at(
    monkeypatch, two_gpus, asked, precision, name
):
    monkeypatch.setenv("EMBKIT_DEVICE", asked)
    assert (session.device(), session.precision(), session.device_name()) == (
        asked,
        precision,
        name,
    )


@pytest.mark.parametrize("asked", ["cuda:2", "cuda:x", "gpu", "mps"])
def test_a_device_that_is_not_here_is_refused_with_those_that_are(monkeypatch, two_gpus, asked):
    monkeypatch.setenv("EMBKIT_DEVICE", asked)
    with pytest.raises(EmbkitError, match="cpu, cuda:0, cuda:1"):
        session.device()


def test_the_best_device_is_taken(monkeypatch, two_gpus):
    monkeypatch.delenv("EMBKIT_DEVICE", raising=False)
    assert session.device() == "cuda"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert session.device() == "mps" and session.precision() == "fp32"
    assert not session.precision_flags()
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert session.device() == "cpu"


def test_beside_a_gpu_batches_are_made_ahead_and_products_of_bf16_training_are_tf32(
    monkeypatch, two_gpus, tmp_path
):
    from sentence_transformers import SentenceTransformerTrainingArguments

    made = SentenceTransformerTrainingArguments(str(tmp_path), use_cpu=True)
    assert made.optim == "adamw_torch_fused", "transformers' default, and not set by embkit"
    assert made.__dataclass_fields__["dataloader_pin_memory"].default is True
    monkeypatch.setattr("multiprocessing.get_start_method", lambda: "fork")
    for asked, flag, products in (("cuda:1", "bf16", "high"), ("cuda", "fp16", "highest")):
        monkeypatch.setenv("EMBKIT_DEVICE", asked)
        flags = session.precision_flags()
        assert flags[flag] is True and flags["dataloader_num_workers"] == 1
        with session.products():
            assert torch.get_float32_matmul_precision() == products
            with session.products("highest"):
                assert torch.get_float32_matmul_precision() == "highest"
        assert torch.get_float32_matmul_precision() == "highest"
    monkeypatch.setattr("multiprocessing.get_start_method", lambda: "spawn")
    assert "dataloader_num_workers" not in session.precision_flags()


def test_the_precision_can_be_asked_for_at_any_time(monkeypatch):
    for asked in ("bf16", "fp32"):
        monkeypatch.setenv("EMBKIT_PRECISION", asked)
        assert session.precision("cpu") == asked


def test_an_unknown_precision_names_the_nearest(monkeypatch):
    monkeypatch.setenv("EMBKIT_PRECISION", "fp23")
    with pytest.raises(EmbkitError, match="did you mean 'fp32'"):
        session.precision("cpu")


def test_a_run_records_the_machine(monkeypatch):
    made = session.environment()
    assert made["device"] == "cpu" and made["precision"] == "fp32" and made["device_name"]
    assert {"python", "torch", "sentence-transformers", "transformers"} <= set(made["versions"])


GIB = 2**30


def group(folder, limit, held, files, version=2):
    """A control group's files, in bytes."""
    names = ("max", "current") if version == 2 else ("limit_in_bytes", "usage_in_bytes")
    inactive = "inactive_file" if version == 2 else "total_inactive_file"
    folder.mkdir(parents=True, exist_ok=True)
    for name, value in zip(names, (limit, held), strict=True):
        (folder / f"memory.{name}").write_text(f"{value}\n")
    (folder / "memory.stat").write_text(f"anon {held - files}\n{inactive} {files}\n")


@pytest.mark.parametrize(
    ("own", "groups", "free"),
    [
        ("0::/", [("", "max", 9 * GIB, 0)], 50),
        ("0::/", [("", 6 * GIB, 5 * GIB, 2 * GIB)], 3),
        ("0::/user/job", [("user", 8 * GIB, 7 * GIB, 0), ("user/job", "max", GIB, 0)], 1),
        ("0::/on/the/host", [("", 6 * GIB, 2 * GIB, 0)], 4),
        ("0::/job", [("job", 2 * GIB, 3 * GIB, 0)], 0),
        ("4:memory:/job\n2:cpu:/else\n0::/", [("memory/job", 6 * GIB, 4 * GIB, GIB, 1)], 3),
        ("4:memory:/job\n0::/", [("memory/job", 2**63 - 4096, 4 * GIB, GIB, 1)], 50),
    ],
)
def test_a_control_groups_limit_is_what_may_be_had(monkeypatch, tmp_path, own, groups, free):
    machine = types.SimpleNamespace(available=50 * GIB)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: machine)
    (tmp_path / "own").write_text(f"{own}\n")
    for name, *told in groups:
        group(tmp_path / "groups" / name, *told)
    found = session.free_memory(tmp_path / "groups", str(tmp_path / "own"))
    assert found == free * GIB


def test_without_control_groups_it_is_what_the_machine_has(monkeypatch, tmp_path):
    machine = types.SimpleNamespace(available=5 * GIB)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: machine)
    assert session.free_memory(tmp_path, str(tmp_path / "none")) == 5 * GIB


def test_freed_memory_is_given_back_once_in_so_many_seconds(monkeypatch):
    given, clock = [], types.SimpleNamespace(monotonic=lambda: now)
    library = types.SimpleNamespace(malloc_trim=given.append)
    monkeypatch.setattr(session.ctypes, "CDLL", lambda _: library)
    monkeypatch.setattr(session, "time", clock)
    now = 1e9
    session.give_back(cycles=False, each=2)
    now += 1.9
    session.give_back(cycles=False, each=2)
    assert len(given) == 1
    session.give_back(cycles=False)  # asked for outright
    now += 2
    session.give_back(cycles=False, each=2)
    assert len(given) == 3
