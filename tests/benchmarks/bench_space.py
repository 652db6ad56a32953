"""The space at 30,000 documents: what a map costs cold and cached, and a lab's slider, in Python.

What the browser adds is not in these figures: it is measured by the browser's own tests.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from scipy.linalg import orthogonal_procrustes

from embkit.data import load_domain
from embkit.losses.in_batch import batch_loss
from embkit.models.encoding import encode_as
from embkit.models.loading import load_model
from embkit.recipes.recipe import Recipe
from embkit.space import geometry, maps
from embkit.space.space import Space
from embkit.training.trainer import train

DOCUMENTS = 30_000
PAIRS = 64  # in the temperature lab
MOVES = 60  # of a slider
CHOSEN = 50  # documents on the linked maps


def bench_space(say: Callable[..., None], documents: int = DOCUMENTS) -> dict[str, Any]:
    """Maps of base and contrastive at so many documents; then the sliders of three widgets.

    Args:
        say: prints a line.
        documents: of the domain's full profile.
    """
    run = train(Recipe(), load_domain("icd10cm"), quiet=True)
    domain = load_domain("icd10cm", profile="full")
    models = (load_model("minilm"), run.model())
    texts = list(domain.corpus.values())
    before, after = (encode_as(model, texts, "document") for model in models)
    rotation = orthogonal_procrustes(after, before)[0]
    whole = before, after @ rotation
    a, b = (side[:documents] for side in whole)
    say(f"\nthe space, {len(a):,} documents by two models")
    found: dict[str, Any] = {"documents": len(a)}
    with empty_cache():
        found["import_umap_seconds"] = _seconds(_import_umap)
        made = {}
        for method in ("pca", "umap"):
            for state in ("cold", "cached"):
                started = time.perf_counter()
                made[method] = maps.project(a, b, method)
                found[f"{method}_{state}_seconds"] = time.perf_counter() - started
            found[f"{method}_trust"] = list(made[method].trust)
        say(f"  import of umap: {found['import_umap_seconds']:.1f} s")
        for method in made:
            cold, cached = (found[f"{method}_{s}_seconds"] for s in ("cold", "cached"))
            say(f"  {method}: cold {cold:.1f} s, cached {cached:.2f} s; {made[method]!r}")
        near = _seconds(lambda: [geometry.neighbours(side) for side in (a, b)])
        found["neighbours_seconds"] = near
        say(f"  15 neighbours of each, both models: {near:.1f} s")
        drawn = maps.project(*whole, "pca")  # the widgets take the whole corpus
        space = Space(domain, ("base", "contrastive"), models, *whole, rotation, drawn)
        found |= _widgets(say, space)
    return found


def _widgets(say: Callable[..., None], space: Space) -> dict[str, Any]:
    """Milliseconds from a value to what is shown for it, p50 and p95."""
    from embkit.widgets import LinkedMaps, TemperatureLab, TruncationLab

    domain = space.domain
    rows = list(domain.pairs().to_pandas().head(PAIRS).itertuples(index=False))
    queries, right = [list(column) for column in zip(*rows, strict=True)]
    asked, answers = (
        encode_as(space.models[0], texts, kind)
        for texts, kind in ((queries, "query"), (right, "document"))
    )
    lab = TemperatureLab(asked @ answers.T, queries, right)
    batch_loss(lab.similarities, 0.05)
    warm = np.geomspace(0.01, 0.9, MOVES).tolist()
    found = {f"temperature, {PAIRS} pairs": _moves(lab, "temperature", warm)}
    found["batch size"] = _moves(lab, "batch", list(range(4, PAIRS)))
    many = f"{len(domain.corpus):,} documents"
    models = {"base": space.models[0], "contrastive": space.models[1]}
    started = time.perf_counter()
    cut = TruncationLab(models, domain)
    found_seconds = {"truncation_lab_opens_seconds": time.perf_counter() - started}
    sizes = [size for _ in range(5) for size in cut.sizes]
    found[f"dimensions, two models, {many}"] = _moves(cut, "size", sizes)
    found[f"query to results, two models, {many}"] = _moves(cut, "query", queries[:MOVES])
    started = time.perf_counter()
    linked = LinkedMaps(space)
    found_seconds["linked_maps_open_seconds"] = time.perf_counter() - started
    rng = np.random.default_rng(0)
    total = len(domain.corpus)
    chosen = [rng.choice(total, CHOSEN, replace=False).tolist() for _ in range(20)]
    found[f"choose {CHOSEN} on both maps, {many}"] = _moves(linked, "selection", chosen)
    found[f"query to star, {many}"] = _moves(linked, "query", queries[:20])
    for name, (middle, high) in found.items():
        say(f"  {name}: p50 {middle:.0f} ms, p95 {high:.0f} ms")
    for name, seconds in found_seconds.items():
        say(f"  {name.replace('_', ' ')}: {seconds:.1f}")
    return {"milliseconds_p50_p95": {k: list(v) for k, v in found.items()}} | found_seconds


def _moves(panel: Any, name: str, values: Iterable[Any]) -> tuple[float, float]:
    """p50 and p95 of milliseconds to set a value; the panel draws itself before it returns."""
    times = []
    for value in values:
        times.append(_seconds(lambda value=value: setattr(panel, name, value)) * 1000)  # type: ignore
    if panel.error is not None:
        raise panel.error
    middle, high = np.percentile(times, [50, 95])
    return float(middle), float(high)


def _seconds(call: Callable[[], Any]) -> float:
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def _import_umap() -> None:
    import umap  # noqa: F401


@contextmanager
def empty_cache() -> Iterator[None]:
    """A cache of its own for what is timed cold; the models' files are linked into it."""
    from embkit.session import paths

    before, assets = os.environ.get("EMBKIT_CACHE"), paths().cache / "assets"
    with tempfile.TemporaryDirectory() as folder:
        if assets.is_dir():
            os.symlink(assets, os.path.join(folder, "assets"), target_is_directory=True)
        os.environ["EMBKIT_CACHE"] = folder
        try:
            yield
        finally:
            os.environ.pop("EMBKIT_CACHE")
            if before is not None:
                os.environ["EMBKIT_CACHE"] = before
