"""How time and memory grow with a folder's size: load, check, encode in shards, search.

The texts are short and drawn at random, and so are the vectors: what is measured is all that embkit
does around a model. Each size has a process of its own, whose memory is read from outside, so that
nothing is charged with what another size left behind. ``python -m tests.benchmarks.bench --only
size`` runs all sizes; ``python -m tests.benchmarks.bench_size FOLDER`` is the process of one.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

WORDS = 30_000  # in the made-up vocabulary
SYLLABLES = "ba ke li mo nu ra se ti vo zu da fe gi ho ju la me ni po ru".split()
BROKEN = 1000  # one document in so many is empty, as in data that people made
SIZES = (10_000, 100_000, 1_000_000)  # documents; a fifth of them is asked for
DIM, QUERIES, DEPTH = 384, 1000, 10  # of the vectors, of the search
LIMIT_MB = 4096  # that no step may pass, apart from the vectors
EVERY = 0.02  # seconds between two looks at a process' memory
TEXTS = 2000  # that a real model encodes, to say what its share would be


def vocabulary(size: int = WORDS) -> list[str]:
    """Made-up words of two to five syllables, no two alike."""
    found = []
    for number in range(size):
        word, rest = SYLLABLES[number % 20] + SYLLABLES[number // 20 % 20], number // 400
        while rest:
            word, rest = word + SYLLABLES[rest % 20], rest // 20
        found.append(word)
    return found


def sentences(
    rows: int, words: tuple[int, int], rng: np.random.Generator, part: int = 10_000
) -> Iterator[list[str]]:
    """Rows of words; the word of rank r is about as frequent as 1 / (r + 10)."""
    known = np.array(vocabulary(), dtype=object)
    share = np.cumsum(1 / (np.arange(len(known)) + 10))
    for start in range(0, rows, part):
        lengths = rng.integers(words[0], words[1] + 1, min(part, rows - start))
        ranks = np.searchsorted(share, rng.random(int(lengths.sum())) * share[-1])
        yield from (row.tolist() for row in np.split(known[ranks], lengths.cumsum()[:-1]))


def write_folder(path: Path, documents: int, pairs: int, seed: int = 0) -> Path:
    """Writes a folder in BEIR's layout, without splits: the same arguments give the same bytes.

    Args:
        path: the folder; it is made.
        documents: of 6 to 14 words; one in a thousand is empty and will be put aside.
        pairs: queries, each with one right document; three of its words and two others.
        seed: of all that is drawn.
    """
    (path / "qrels").mkdir(parents=True)
    rng = np.random.default_rng(seed)
    asked = np.sort(rng.choice(documents, pairs, replace=False))
    wanted = iter(asked.tolist())
    following = next(wanted, -1)
    others = sentences(pairs, (2, 2), np.random.default_rng(seed + 1))
    with (
        (path / "corpus.jsonl").open("w", encoding="utf-8") as corpus,
        (path / "queries.jsonl").open("w", encoding="utf-8") as queries,
        (path / "qrels" / "all.tsv").open("w", encoding="utf-8") as qrels,
    ):
        qrels.write("query-id\tcorpus-id\tscore\n")
        for number, row in enumerate(sentences(documents, (6, 14), rng)):
            text = "" if number % BROKEN == BROKEN - 1 else " ".join(row)
            corpus.write(json.dumps({"_id": f"d{number}", "text": text}) + "\n")
            if number == following:
                text = " ".join([*row[1:4], *next(others)])
                queries.write(json.dumps({"_id": f"q{number}", "text": text}) + "\n")
                qrels.write(f"q{number}\td{number}\t1\n")
                following = next(wanted, -1)
    return path


# The process of one size


def steps(folder: Path) -> Iterator[tuple[str, Callable[[], dict[str, Any]]]]:
    """What is done with a folder, one after the other: each step's name, and what runs it.

    A step returns what is worth noting. What an audit imports is imported before it is timed.
    """
    from embkit.auditing import audit
    from embkit.data import Domain, load_domain
    from embkit.models.encoding import encode_shards
    from embkit.search.index import exact_search

    held: dict[str, Any] = {}

    def load() -> dict[str, Any]:
        held["domain"] = domain = load_domain(folder)
        held["texts"] = list(domain.corpus.values())
        return {"documents": len(domain.corpus), "put aside": domain.report.put_aside}

    def check() -> dict[str, Any]:
        found = audit(held["domain"])
        return {"verdict": found.verdict, "note": found.note}

    def encode(dtype: str) -> dict[str, Any]:
        made = encode_shards(Drawing(), held["texts"], dtype=dtype)
        held[dtype] = made
        return {"megabytes": made.nbytes / 2**20}

    def search(dtype: str) -> dict[str, Any]:
        queries = Drawing(seed=1)([""] * QUERIES)
        found = exact_search(queries, held[dtype], DEPTH)[0]
        first = held.setdefault("found", found)
        same = sum(
            len(set(a) & set(b)) for a, b in zip(first.tolist(), found.tolist(), strict=True)
        )
        return {"as with float32": same / first.size}

    yield "load", load
    qrels = {"train": {"a": {"d": 1}}, "dev": {}, "test": {"b": {"d": 1}}}
    audit(Domain("one", "smoke", {"d": "a"}, {"a": "a", "b": "b"}, qrels, ("test",)))
    yield "check", check
    yield "encode, float32", lambda: encode("float32")
    yield "encode, float16", lambda: encode("float16")
    yield "encode again", lambda: encode("float32")
    yield "search, float32", lambda: search("float32")
    yield "search, float16", lambda: search("float16")


class Drawing:
    """Stands for a model: unit vectors at random, shape (texts, DIM)."""

    device, max_seq_length = SimpleNamespace(type="cpu"), None

    def __init__(self, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)

    def __call__(self, texts: list[str]) -> np.ndarray:
        rows = self.rng.standard_normal((len(texts), DIM), dtype=np.float32)
        return rows / np.linalg.norm(rows, axis=1, keepdims=True)

    def __repr__(self) -> str:
        return "drawn"

    def state_dict(self) -> dict[str, Any]:
        return {}

    def named_modules(self) -> list[Any]:
        return []


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks.bench_size", description=__doc__
    )
    parser.add_argument("folder", type=Path, help="a folder in BEIR's layout")
    for name, run in steps(parser.parse_args().folder):
        _tell({"step": name})
        started, busy = time.perf_counter(), time.process_time()
        noted = run()
        seconds, busy = time.perf_counter() - started, time.process_time() - busy
        _tell({"step": name, "seconds": seconds, "processor": busy, "noted": noted})
    return 0


def _tell(line: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(line) + "\n")
    sys.stdout.flush()


# Its watcher


@dataclass
class Step:
    """One step of one size; memory in MB, ``own`` without the pages of files it has mapped."""

    seconds: float = float("nan")
    processor: float = float("nan")  # seconds of all threads
    rss: float = 0.0
    own: float = 0.0
    noted: dict[str, Any] = field(default_factory=dict)

    def look(self, process: Any) -> None:
        """Reads the process' memory and keeps the most."""
        info = process.memory_info()
        self.rss = max(self.rss, info.rss / 2**20)
        self.own = max(self.own, (info.rss - getattr(info, "shared", 0)) / 2**20)


def watch(folder: Path, scratch: Path) -> dict[str, Step]:
    """Runs the steps on a folder in a process of their own and reads its memory from here.

    Raises:
        RuntimeError: the process failed; what it said is shown above.
    """
    import psutil

    places = {"EMBKIT_RUNS": str(scratch / "runs"), "EMBKIT_CACHE": str(scratch / "cache")}
    child = subprocess.Popen(
        [sys.executable, "-m", __spec__.name, str(folder)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, **places, "EMBKIT_PROFILE": "full"},
    )
    process = psutil.Process(child.pid)
    found: dict[str, Step] = {}
    now = between = Step()  # not in a step: imports

    def listen() -> None:
        nonlocal now
        assert child.stdout is not None
        for line in child.stdout:
            told = json.loads(line)
            now = found.setdefault(told.pop("step"), Step())
            with contextlib.suppress(psutil.Error):
                now.look(process)
            if told:
                vars(now).update(told)
                now = between

    listener = threading.Thread(target=listen, daemon=True)
    listener.start()
    try:
        while child.poll() is None:
            with contextlib.suppress(psutil.Error):
                now.look(process)
            time.sleep(EVERY)
    finally:
        child.kill()
        child.wait()
        listener.join()
    if child.returncode:
        raise RuntimeError(f"the process for {folder.name} ended with {child.returncode}")
    return found


def bench_size(
    say: Callable[..., None], sizes: Sequence[int] = SIZES, model: str | None = "minilm"
) -> dict[str, Any]:
    """Every step at every size, as a table; what a model's encoding would add, from a sample.

    Args:
        say: takes the lines.
        sizes: numbers of documents.
        model: which encodes a sample; None leaves it out.
    """
    found: dict[int, dict[str, Step]] = {}
    for documents in sizes:
        with tempfile.TemporaryDirectory() as scratch:
            folder = write_folder(Path(scratch) / f"made-{documents}", documents, documents // 5)
            found[documents] = watch(folder, Path(scratch))
        told = ", ".join(f"{name} {step.seconds:.1f}" for name, step in found[documents].items())
        say(f"  size, {documents:,} documents, seconds: {told}")
    for line in table(found):
        say(line)
    speed = None
    if model is not None:
        speed = _speed(model)
        say(
            f"  a model's own time comes on top: {model} encodes {speed:,.0f} of these texts a "
            f"second here, measured on {TEXTS:,}. Extrapolated, not measured: "
            f"{max(sizes) / speed / 60:.0f} minutes for {max(sizes):,}"
        )
    return {
        "texts_per_second": speed,
        "sizes": {str(n): {k: vars(v) for k, v in of.items()} for n, of in found.items()},
    }


def table(found: dict[int, dict[str, Step]]) -> list[str]:
    """The lines of the report: a row a step, seconds and peak memory for each size."""
    least, most = min(found), max(found)
    lines = [
        "",
        f"size: documents and a fifth as many pairs; vectors of {DIM}, drawn at random, no model's",
        "each: seconds, seconds of processor, and peak MB without pages of memory-mapped files",
        f"  {'documents':<16}" + "".join(f"{n:>23,}" for n in found) + f"{'growth':>16}",
        f"  {'pairs':<16}" + "".join(f"{n // 5:>23,}" for n in found) + f"{most / least:>15,.0f}×",
    ]
    for name in found[most]:
        cells = [found[n][name] for n in found]
        row = "".join(f"{c.seconds:>9.2f}{c.processor:>7.1f}{c.own:>7,.0f}" for c in cells)
        first, last = found[least][name], found[most][name]
        grown = f"{last.processor / first.processor:>9.0f}×{last.own / first.own:>5.1f}×"
        lines.append(f"  {name:<16}{row}{grown}")
    peak = max(step.own for step in found[most].values())
    vectors = {d: found[most][f"encode, {d}"].noted["megabytes"] for d in ("float32", "float16")}
    checked, half = found[most]["check"].noted, found[most]["search, float16"].noted
    lines += [
        f"  at {most:,}: {peak:,.0f} MB at most, {'below' if peak < LIMIT_MB else 'NOT below'} "
        f"{LIMIT_MB:,}; the vectors, on disk, are {vectors['float32']:,.0f} MB, in float16 "
        f"{vectors['float16']:,.0f}",
        f"  search: the {DEPTH} nearest of {QUERIES:,} queries; float16 gives "
        f"{half['as with float32']:.1%} of what float32 gives",
        f"  load: put aside {found[most]['load'].noted['put aside']}",
        f"  check: {checked['note'].partition('Sampled: ')[2] or 'every text was read'}",
    ]
    return lines


def _speed(model: str) -> float:
    """Texts a second that a model encodes, of those that the folders are made of."""
    from embkit.models.encoding import encode
    from embkit.models.loading import load_model

    loaded = load_model(model)
    texts = [" ".join(row) for row in sentences(TEXTS, (6, 14), np.random.default_rng(0))]
    encode(loaded, texts[:200], cache=False)
    started = time.perf_counter()
    encode(loaded, texts, cache=False)
    return TEXTS / (time.perf_counter() - started)


if __name__ == "__main__":
    sys.exit(main())
