"""One call at the top of a notebook: profile, seed, device, precision, threads and folders."""

import contextlib
import ctypes
import gc
import logging
import multiprocessing
import os
import platform
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .display import Shown, Table, facts
from .errors import EmbkitError, unknown

PROFILES = ("smoke", "workshop", "full")
PRECISIONS = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}  # as torch calls them
TENSOR_CORES = {"bf16": (8, 0), "fp16": (7, 0)}  # compute capability from which a GPU's take it
NATIVE_BF16 = ("amx_bf16", "avx512_bf16", "arm_bf16", "bf16")  # as torch names what a CPU has
_GIVEN_BACK = {"at": 0.0}  # by a monotonic clock, in seconds
# oneDNN keeps code for 1,024 shapes: a GB, and without padding hardly a shape comes again but in
# the next layer
os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", "24")
PACKED = Path(__file__).resolve().parent / "_data"  # where a wheel carries the clone's data/


@dataclass(frozen=True)
class Paths:
    """Where things lie: ``runs`` (made here), ``cache`` (can be made again), ``root``, and
    ``data``, which comes with embkit: the clone's folder, or the one in the installed package.
    """

    root: Path
    runs: Path
    cache: Path
    notebooks: Path
    data: Path

    @property
    def written(self) -> Path:
        """Where sets of queries and cards are written: a clone's ``data``, else ``runs/sets``."""
        return self.runs / "sets" if self.data == PACKED else self.data

    def data_file(self, *parts: str) -> Path:
        """A file of ``data``: the one that was written here, else the one that came along."""
        own = self.written.joinpath(*parts)
        return own if own.exists() else self.data.joinpath(*parts)


@dataclass(frozen=True, repr=False)
class Session(Shown):
    """What ``setup()`` found and fixed; shows itself as a table."""

    profile: str
    seed: int
    device: str
    device_name: str
    precision: str
    threads: int
    memory_gb: float
    versions: dict[str, str]
    runs: str

    def table(self) -> Table:
        rows = {
            "profile": self.profile,
            "device": f"{self.device} ({self.device_name})",
            "precision": self.precision,
            "threads": self.threads,
            "memory": f"{self.memory_gb:.0f} GB",
            "seed": self.seed,
            "runs are kept in": self.runs,
            "versions": ", ".join(f"{name} {v}" for name, v in self.versions.items()),
        }
        return facts(rows)


def profile(name: str | None = None) -> str:
    """The profile in force: the argument, else ``EMBKIT_PROFILE``, else ``workshop``."""
    chosen = name or os.environ.get("EMBKIT_PROFILE") or "workshop"
    if chosen not in PROFILES:
        raise unknown("profile", chosen, PROFILES)
    return chosen


def paths() -> Paths:
    """The folders in use. ``EMBKIT_RUNS`` and ``EMBKIT_CACHE`` move two of them."""
    packed = PACKED.is_dir()  # installed without the clone: work where the user is
    root = Path.cwd() if packed else PACKED.parent.parent
    runs = Path(os.environ.get("EMBKIT_RUNS") or root / "runs").expanduser().absolute()
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    cache = Path(os.environ.get("EMBKIT_CACHE") or home / "embkit").expanduser().absolute()
    return Paths(root, runs, cache, root / "notebooks", PACKED if packed else root / "data")


def cache_gb() -> float:
    """Gigabytes of embeddings that stay in the cache: ``EMBKIT_CACHE_GB``, else 5."""
    given = os.environ.get("EMBKIT_CACHE_GB") or "5"
    if re.fullmatch(r"\d+(\.\d+)?|inf", given.strip()):
        return float(given)
    expected = "gigabytes, 0 or more, or inf for no limit"
    raise EmbkitError(f"EMBKIT_CACHE_GB={given!r}", expected=expected, hint="EMBKIT_CACHE_GB=5")


def shown(path: Path) -> str:
    """A path as it is shown: from the project's folder, where it lies in there."""
    root = paths().root
    return str(path.relative_to(root) if path.is_relative_to(root) else path)


def device() -> str:
    """``cuda``, ``mps`` or ``cpu``: the best this machine has. ``EMBKIT_DEVICE`` overrules; what it
    names must be here."""
    import torch

    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    apple = ["mps"] if torch.backends.mps.is_available() else []
    here = [*(f"cuda:{n}" for n in range(gpus)), *apple, "cpu"]
    asked = os.environ.get("EMBKIT_DEVICE") or here[0].partition(":")[0]
    if asked not in {*here, *(name.partition(":")[0] for name in here)}:
        raise unknown("device", asked, here)
    return asked


def precision(on: str | None = None) -> str:
    """The precision the device is fastest at without changing what is learnt.

    On a GPU that is what its tensor cores take: bf16 (A100, RTX 30 and later), else fp16 (V100, T4,
    RTX 20), else, and on Apple's, fp32. On a processor it is bf16 only where its matrix products
    are native: emulated ones are up to a hundred times slower than fp32.
    """
    import torch

    if asked := os.environ.get("EMBKIT_PRECISION"):
        if asked not in PRECISIONS:
            raise unknown("precision", asked, PRECISIONS)
        return asked
    on = on or device()
    if on.startswith("cuda"):
        card = torch.cuda.get_device_capability(on)
        return next((name for name, least in TENSOR_CORES.items() if card >= least), "fp32")
    if on != "cpu":
        return "fp32"
    has = torch.cpu.get_capabilities()
    return "bf16" if any(has.get(name) for name in NATIVE_BF16) else "fp32"


def torch_dtype(name: str) -> Any:
    """torch's dtype of a precision."""
    import torch

    return getattr(torch, PRECISIONS[name])


def autocast(on: str, *, wanted: bool = True) -> Any:
    """torch's autocast to the precision in force on a device's type; without effect for fp32.

    With ``wanted`` False it is off, whatever is around.
    """
    import torch

    chosen = precision(on) if wanted else "fp32"
    dtype = torch.bfloat16 if chosen == "fp32" else torch_dtype(chosen)
    return torch.autocast(on, dtype=dtype, enabled=chosen != "fp32")


def precision_flags() -> dict[str, Any]:
    """The trainer's arguments for device and precision: the flag of bf16 or fp16, and beside a GPU
    a process that makes the next batches ready. Memory is pinned and AdamW fused by default."""
    chosen = precision()
    flags: dict[str, Any] = {} if chosen == "fp32" else {chosen: True}
    if device().startswith("cuda") and multiprocessing.get_start_method() == "fork":
        flags |= {"dataloader_num_workers": 1, "dataloader_prefetch_factor": 4}
    return flags


@contextlib.contextmanager
def products(how: str | None = None) -> Iterator[None]:
    """Within the block, fp32 products on a GPU are ``highest``, whole, or ``high``, TF32; default:
    TF32 where a GPU works in bf16, else as they were."""
    import torch

    before = torch.get_float32_matmul_precision()
    tf32 = device().startswith("cuda") and precision() == "bf16"
    torch.set_float32_matmul_precision(how or ("high" if tf32 else before))
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def seed_everything(seed: int) -> None:
    """Seeds Python's, numpy's and torch's generators."""
    from transformers import set_seed

    set_seed(seed % 2**32)


def device_name() -> str:
    """The device's own name, for the record."""
    import torch

    if (on := device()).startswith("cuda"):
        return torch.cuda.get_device_name(on)
    try:
        found = re.search(r"(?m)^model name.*?:(.*)", Path("/proc/cpuinfo").read_text())
    except OSError:
        found = None
    return found[1].strip() if found else platform.processor() or platform.machine()


def free_memory(groups: Path = Path("/sys/fs/cgroup"), own: str = "/proc/self/cgroup") -> int:
    """Bytes that may still be had: what the machine has free, or less where a control group of
    Linux, such as a container's, allows less (``groups``, of both versions; ``own``: this
    process's). What a group holds of files that could be read again counts as free."""
    import psutil

    free = [psutil.virtual_memory().available]
    with contextlib.suppress(OSError):
        for line in Path(own).read_text().splitlines():
            _, kinds, name = line.split(":", 2)
            if kinds not in ("", "memory"):
                continue
            limit, used = ("max", "current") if not kinds else ("limit_in_bytes", "usage_in_bytes")
            top = groups / kinds
            group = top / name.lstrip("/")  # in a container it may be the top itself
            for folder in (group, *(g for g in group.parents if g.is_relative_to(top))):
                with contextlib.suppress(OSError, ValueError):  # no such group; "max"
                    most, held = (int((folder / f"memory.{n}").read_text()) for n in (limit, used))
                    stat = dict(map(str.split, (folder / "memory.stat").read_text().splitlines()))
                    files = stat.get("total_inactive_file", stat.get("inactive_file", 0))
                    free.append(most - held + int(files))
    return max(0, min(free))


def give_back(cycles: bool = True, each: float = 0) -> None:
    """Gives freed memory back to the system, where the C library is glibc, at most once in ``each``
    seconds. ``cycles``: what holds itself, as a trainer and its model, first (0.3 s)."""
    if time.monotonic() - _GIVEN_BACK["at"] < each:
        return
    if cycles:
        gc.collect()
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    _GIVEN_BACK["at"] = time.monotonic()


@contextlib.contextmanager
def uncollected() -> Iterator[None]:
    """Pauses Python's search for cycles while many objects are made: it would go through all that
    the libraries hold, again and again, which took half of the time of loading a domain."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        (gc.enable if was else gc.disable)()


def setup(seed: int = 42) -> Session:
    """Fixes the seed of every generator, and returns a table of what device and precision it found.

    Each Recipe carries its own seed for training. Fails for an unknown profile.
    """
    import pandas as pd
    import psutil

    if not isinstance(seed, int) or seed < 0:
        raise EmbkitError(f"seed={seed!r}", expected="a whole number ≥ 0", hint="ek.setup(seed=42)")
    seed_everything(seed)
    pd.set_option("display.max_colwidth", 200)  # texts in tables are read, not cut
    quiet()
    found = environment()
    del found["platform"]
    return Session(
        profile=profile(),
        seed=seed,
        memory_gb=psutil.virtual_memory().total / 2**30,
        runs=shown(paths().runs),
        **found,
    )


def quiet() -> None:
    """Switches off the libraries' bars and notes; embkit shows one bar of its own."""
    import datasets
    import transformers

    logging.getLogger("sentence_transformers").setLevel(logging.ERROR)
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    datasets.disable_progress_bars()


def environment() -> dict[str, Any]:
    """What a run records about the machine it was made on, and what decides a result."""
    from importlib.metadata import version

    import torch

    names = ("torch", "sentence-transformers", "transformers", "datasets", "numpy")
    return {
        "device": device(),
        "device_name": device_name(),
        "precision": precision(),
        "threads": torch.get_num_threads(),
        "platform": platform.platform(terse=True),
        "versions": {"python": platform.python_version()} | {n: version(n) for n in names},
    }
