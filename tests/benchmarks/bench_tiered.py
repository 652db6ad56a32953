"""Two tiers against exact search: recall, memory and queries a second as the corpus grows.

The model is the lesson's, trained for small sizes. The first documents are real titles; where more
are wanted, they are made of real ones with noise (``perturbed``). The queries are real; the ones
that chose a shortlist are not the ones that are measured.
"""

from __future__ import annotations

import copy
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.lines import Line2D

from embkit.data import load_domain
from embkit.models.encoding import Vectors, encode_as
from embkit.recipes.recipe import preset
from embkit.search.index import exact_search
from embkit.search.tiered import TieredIndex, overlap
from embkit.session import paths
from embkit.training.trainer import train

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

RECIPE = preset("Matryoshka")
SIZES = (10_000, 100_000, 1_000_000)
BATCHES = (1, 32)
K, RECALL = 10, 0.99
HOLLOW = 0.985  # in the picture, what finds less than this is drawn hollow
SPARE = 0.003  # recall above the target that is asked of the queries that choose
WAYS: dict[str, dict[str, Any]] = {
    "64 dims, fp32": {"size": 64, "index": "exact"},
    "384 dims, binary": {"size": 384, "index": "binary"},
}


@dataclass
class Way:
    """One way to search, and what was measured of it."""

    name: str
    search: Callable[[Vectors, int], tuple[np.ndarray, np.ndarray]]
    hot_mb: float
    cold_mb: float = 0.0
    settings: dict[str, Any] = field(default_factory=dict)
    tiers: TieredIndex | None = None
    recall: float = 1.0
    from_disk: float | None = None
    build_seconds: float = 0.0
    rates: dict[int, list[float]] = field(default_factory=dict)

    def rate(self, batch: int) -> float:
        """Queries a second, the median of the rounds."""
        return statistics.median(self.rates[batch])

    def row(self, exact: list[Way]) -> dict[str, Any]:
        """What is written down; ratios are to the faster exact search of the same round."""
        found: dict[str, Any] = {
            "way": self.name,
            **self.settings,
            "hot_mb": self.hot_mb,
            "hot_share": self.hot_mb / exact[0].hot_mb,
            "cold_mb": self.cold_mb,
            "recall@10": self.recall,
            "queries_per_second_from_disk": self.from_disk,
            "build_seconds": self.build_seconds,
        }
        for batch, rates in self.rates.items():
            best = [max(pair) for pair in zip(*(e.rates[batch] for e in exact), strict=True)]
            found[f"queries_per_second_{batch}"] = rates
            found[f"ratio_{batch}"] = [a / b for a, b in zip(rates, best, strict=True)]
        return found


def perturbed(vectors: Vectors, rows: int, seed: int = 0, out: Vectors | None = None) -> Vectors:
    """Real vectors, and behind them as many made ones as are wanted.

    A made vector is a real one plus Gaussian noise, brought to length 1. The noise spreads over the
    dimensions as the differences between a title and its nearest other title do, and is so strong
    that a made vector lies about as far from its origin as such neighbours lie apart.

    Args:
        vectors: real unit vectors, shape (real, dim).
        rows: how many in all; fewer than there are real ones takes the first.
        seed: of what is drawn.
        out: written to, float32 or float16, shape (rows, dim).
    """
    rng = np.random.default_rng(seed)
    real, dim = min(rows, len(vectors)), vectors.shape[1]
    out = np.empty((rows, dim), np.float32) if out is None else out
    out[:real] = vectors[:real]
    if rows == real:
        return out
    some = vectors[rng.choice(len(vectors), min(2000, len(vectors)), replace=False)]
    places, scores = exact_search(some, vectors, 2)
    differences = some - vectors[places[:, 1]]
    apart = float(np.median(scores[:, 1]))  # the cosine of neighbours
    strength = np.sqrt(max(apart**-2 - 1, 0)) / np.linalg.norm(differences, axis=1).mean()
    values, axes = np.linalg.eigh(differences.T @ differences / len(differences))
    spread = (axes * np.sqrt(np.maximum(values, 0)) * strength).T.astype(np.float32)  # (dim, dim)
    for start in range(real, rows, 65_536):
        many = min(65_536, rows - start)
        noise = rng.standard_normal((many, dim), dtype=np.float32) @ spread
        made = vectors[rng.integers(len(vectors), size=many)] + noise
        out[start : start + many] = made / np.linalg.norm(made, axis=1, keepdims=True)
    return out


def ways(documents: Vectors, chosen_by: Vectors) -> Iterator[Way]:
    """Each way of ``WAYS``, one after another, with the shortlist that reaches the target on
    queries of its own."""
    for name, options in WAYS.items():
        started = time.perf_counter()
        tiers = TieredIndex(documents, **options)
        seconds = time.perf_counter() - started
        needed = tiers.shortlist_for_recall(chosen_by, K, recall=min(1.0, RECALL + SPARE))
        tiers = tiers.replace(shortlist=needed or 2000)
        yield Way(
            name,
            tiers.search,
            tiers.hot_bytes / 2**20,
            tiers.cold.nbytes / 2**20,
            {"index": options["index"], "shortlist": tiers.shortlist},
            tiers,
            build_seconds=seconds,
        )


def measure(way: Way, queries: Vectors, seconds: float = 1.0) -> None:
    """One round: queries a second, one at a time and in batches."""
    for batch in BATCHES:
        done, started = 0, time.perf_counter()
        while not done or time.perf_counter() - started < seconds:
            start = done % max(1, len(queries) - batch + 1)
            way.search(queries[start : start + batch], K)
            done += batch
        way.rates.setdefault(batch, []).append(done / (time.perf_counter() - started))


def from_disk(tiers: TieredIndex, file: Path, queries: Vectors) -> float | None:
    """Queries a second, one at a time, that find nothing of the cold tier's file in memory.

    None where the system cannot be told to forget a file.
    """
    if not hasattr(os, "posix_fadvise"):
        return None
    handle = os.open(file, os.O_RDONLY)
    os.fsync(handle)
    os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
    os.close(handle)
    fresh = copy.copy(tiers)
    fresh.cold = np.load(file, mmap_mode="r")
    started = time.perf_counter()
    for row in range(len(queries)):
        fresh.search(queries[row : row + 1], K)
    return len(queries) / (time.perf_counter() - started)


def at_size(
    real: Vectors, rows: int, choosing: Vectors, asked: Vectors, rounds: int
) -> list[dict[str, Any]]:
    """Every way at one size of the corpus: its row, exact search's first.

    Args:
        real: vectors of real titles, (titles, dim).
        rows: documents.
        choosing: queries that choose the settings, (queries, dim).
        asked: other queries, which are measured.
        rounds: of timing; exact search takes part in each.
    """
    import faiss

    parent = paths().cache / "tiers"
    parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=parent, ignore_cleanup_errors=True) as folder:
        documents = perturbed(real, rows)
        file = Path(folder) / "cold.npy"
        np.save(file, documents.astype(np.float16))
        cold = np.load(file, mmap_mode="r")
        flat = faiss.IndexFlatIP(documents.shape[1])
        flat.add(documents)
        whole_mb = documents.nbytes / 2**20
        exact = [
            Way("exact, numpy", lambda q, k: exact_search(q, documents, k), whole_mb),
            Way("exact, faiss", lambda q, k: flat.search(q, k)[::-1], whole_mb),
        ]
        wanted, _ = exact_search(asked, documents, K)
        found = [*exact, *ways(cold, choosing)]
        apart = Path(folder) / "apart.npy"  # what is mapped by nothing can be forgotten
        np.save(apart, cold)
        for way in found:
            way.recall = overlap(way.search(asked, K)[0], wanted)
            if way.tiers:
                way.from_disk = from_disk(way.tiers, apart, asked[:100])
        for _ in range(rounds):
            for way in found:
                measure(way, asked)
        rows_ = [way.row(exact) for way in found]
    for row in rows_:
        say(line(row))
    return rows_


def bench_tiered(rounds: int = 3, sizes: tuple[int, ...] = SIZES) -> dict[str, Any]:
    """Trains the model if it is not there yet, then every way at every size of the corpus."""
    model = train(RECIPE, load_domain("icd10cm"), quiet=True).model()
    domain = load_domain("icd10cm", profile="full")
    real = encode_as(model, list(domain.corpus.values()), "document")
    choosing, asked = (
        encode_as(model, [domain.queries[q] for q in domain.split(split)], "query")
        for split in ("dev", domain.test_splits[0])
    )
    found: dict[str, Any] = {"recipe": json.loads(RECIPE.to_json()), "real": len(real)}
    found |= {"queries": len(asked), "choosing": len(choosing), "sizes": {}}
    for rows in sizes:
        made = f", {rows - len(real):,} of them made of real ones with noise"
        say(f"\ntwo tiers, {rows:,} documents{made if rows > len(real) else ''}")
        found["sizes"][str(rows)] = at_size(real, rows, choosing, asked, rounds)
    return found


def line(row: dict[str, Any]) -> str:
    """A row as a line of text."""
    rates = "  ".join(
        f"{statistics.median(row[f'queries_per_second_{b}']):>8,.0f} q/s by {b} "
        f"(×{statistics.median(row[f'ratio_{b}']):.1f})"
        for b in BATCHES
    )
    chosen = f"{row.get('index', '')} {row.get('shortlist', '')}"
    return (
        f"  {row['way']:<22} {row['hot_mb']:>8,.1f} MB hot ({row['hot_share']:.1%})  "
        f"recall@10 {row['recall@10']:.4f}  {rates}  {chosen}"
    )


@dataclass(frozen=True, repr=False)
class TieredBench:
    """What ``python -m tests.benchmarks.bench --only tiered`` measured last: a row a size and way.

    Args:
        table: one row a corpus size (``documents``) and ``way``; rates in queries a second and
            ratios to exact search are medians of the rounds.
    """

    table: pd.DataFrame

    def frame(self) -> pd.DataFrame:
        """The table as it is read: a few columns, rounded."""
        columns = {
            "hot_mb": "hot MB",
            "hot_share": "share of exact's",
            "shortlist": "shortlist",
            "recall@10": "recall@10",
            "queries_per_second_1": "queries/s",
            "ratio_1": "times exact's",
            "queries_per_second_32": "queries/s by 32",
            "ratio_32": "times exact's by 32",
            "queries_per_second_from_disk": "queries/s from disk",
        }
        rows = self.table.set_index(["documents", "way"])[list(columns)].rename(columns=columns)
        fine = ("share of exact's", "recall@10")
        return rows.round({name: 3 if name in fine else 1 for name in rows})

    def __repr__(self) -> str:
        return self.frame().to_string()

    def _repr_html_(self) -> str:
        return self.frame().to_html()

    def figure(self, batch: int = 1) -> Figure:
        """Queries a second against the hot tier's memory, a panel a size of the corpus.

        Args:
            batch: queries at once, one of ``BATCHES``.
        """
        return picture(self.table, batch)


def tiered_bench() -> TieredBench | None:
    """What ``python -m tests.benchmarks.bench --only tiered`` wrote; None where none was run.

    Example:
        >>> tiered_bench()  # doctest: +SKIP
    """
    import pandas as pd

    for name in ("bench-tiered.json", "bench.json"):
        try:
            found = json.loads((paths().runs / name).read_text(encoding="utf-8"))
            rows = [
                {"documents": int(size), **row}
                for size, rows in found["tiered"]["sizes"].items()
                for row in rows
            ]
        except (OSError, ValueError, KeyError):
            continue
        for row in rows:
            for key in [key for key, value in row.items() if isinstance(value, list)]:
                row[key] = statistics.median(row[key])
        return TieredBench(pd.DataFrame(rows))
    return None


def picture(table: pd.DataFrame, batch: int = 1) -> Figure:
    """Queries a second against the hot tier's memory, a panel a size of the corpus."""
    from embkit import plots
    from embkit.plots import figures

    sizes, names = sorted(table["documents"].unique()), list(dict.fromkeys(table["way"]))
    with figures.style():
        figure = figures.Picture(figsize=(2.0 + 3.2 * len(sizes), 3.8), layout="constrained")
        panels = figure.subplots(1, len(sizes), sharey=True, squeeze=False)[0]
        for axes, size in zip(panels, sizes, strict=True):
            for _, row in table[table["documents"] == size].iterrows():
                number = names.index(row["way"])
                axes.plot(
                    row["hot_mb"],
                    row[f"queries_per_second_{batch}"],
                    marker=figures.MARKERS[number],
                    color=plots.COLORS[number],
                    fillstyle="full" if row["recall@10"] >= HOLLOW else "none",
                    ls="none",
                    ms=9,
                )
            axes.set(xscale="log", yscale="log", title=f"{size:,} documents")
            axes.set_xlabel("MB in memory")
        panels[0].set_ylabel("queries a second")
        marks = zip(figures.MARKERS, plots.COLORS, names, strict=False)
        handles = [Line2D([], [], marker=m, color=c, ls="none", label=n) for m, c, n in marks]
        few = f"hollow: recall@{K} below {HOLLOW}"
        handles.append(Line2D([], [], marker="o", color="gray", mfc="none", ls="none", label=few))
        panels[-1].legend(handles=handles, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    largest = table[table["documents"] == sizes[-1]]
    parts = [
        f"{row['way']} {row[f'queries_per_second_{batch}']:,.0f} in {row['hot_mb']:,.0f} MB with "
        f"recall {row['recall@10']:.3f}"
        for _, row in largest.iterrows()
    ]
    text = f"Queries a second against memory; at {sizes[-1]:,} documents: {'; '.join(parts)}."
    return plots.alt(figure, text)


def say(*words: object) -> None:
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()
