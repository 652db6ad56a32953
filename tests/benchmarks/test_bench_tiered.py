"""The bench of two tiers: its made-up vectors, what it measures, and what it leaves behind."""

import json

import numpy as np
import pandas as pd
import pytest

from embkit import plots
from embkit.models.encoding import unit
from embkit.search.index import exact_search
from tests.benchmarks import bench, bench_tiered
from tests.benchmarks.bench_tiered import TieredBench, at_size, perturbed, tiered_bench


@pytest.fixture(scope="module")
def real():
    rng = np.random.default_rng(0)
    centres = rng.standard_normal((40, 32))
    scale = np.geomspace(1, 0.05, 32)  # the first dimensions say most, as Matryoshka's do
    rows = centres[rng.integers(40, size=600)] + 0.4 * rng.standard_normal((600, 32))
    return unit((rows * scale).astype(np.float32))


def test_the_first_vectors_are_the_real_ones_and_fewer_are_a_part_of_them(real):
    made = perturbed(real, 2000)
    assert made.shape == (2000, 32) and (made[:600] == real).all()
    assert (perturbed(real, 100) == real[:100]).all()


def test_made_vectors_have_length_1_and_lie_as_far_off_as_neighbours_do(real):
    made = perturbed(real, 3000)[600:]
    assert np.linalg.norm(made, axis=1) == pytest.approx(1, abs=1e-5)
    apart = np.median(exact_search(real, real, 2)[1][:, 1])  # real neighbours
    nearest = np.median(exact_search(made, real, 1)[1][:, 0])
    assert nearest == pytest.approx(apart, abs=0.05) and nearest < 0.999


def test_the_same_seed_makes_the_same_vectors(real):
    assert (perturbed(real, 900, seed=3) == perturbed(real, 900, seed=3)).all()
    assert (perturbed(real, 900, seed=3) != perturbed(real, 900, seed=4)).any()


@pytest.fixture
def rows(real, monkeypatch):
    ways = {
        "16 dims, fp32": {"size": 16, "index": "exact"},
        "32 dims, binary": {"size": 32, "index": "binary"},
    }
    monkeypatch.setattr(bench_tiered, "WAYS", ways)
    monkeypatch.setattr(bench_tiered, "measure", fixed_rates)
    return at_size(real, 1500, real[:60], real[60:120], rounds=2)


def fixed_rates(way, queries):
    for batch in bench_tiered.BATCHES:
        found, _ = way.search(queries[:batch], 10)
        assert found.shape == (batch, 10)
        way.rates.setdefault(batch, []).append({"exact, numpy": 10.0}.get(way.name, 40.0))


def test_every_way_is_measured_against_the_faster_exact_search(rows):
    by_name = {row["way"]: row for row in rows}
    assert list(by_name)[:2] == ["exact, numpy", "exact, faiss"] and len(by_name) == 4
    assert all(by_name[name]["recall@10"] > 0.99 for name in list(by_name)[:2])
    assert by_name["16 dims, fp32"]["ratio_1"] == [1.0, 1.0]  # 40 / max(10, 40)
    assert by_name["16 dims, fp32"]["hot_share"] == pytest.approx(16 / 32)
    assert by_name["32 dims, binary"]["hot_share"] == pytest.approx(1 / 32)
    assert all(row["recall@10"] >= 0.97 for row in rows)


def test_what_was_measured_is_read_back_as_a_table_and_a_picture(rows, monkeypatch, tmp_path):
    monkeypatch.setenv("EMBKIT_RUNS", str(tmp_path))
    assert tiered_bench() is None
    (tmp_path / "bench.json").write_text('{"encoding": {}}')
    assert tiered_bench() is None
    text = json.dumps({"tiered": {"sizes": {"1500": rows}}})
    (tmp_path / "bench-tiered.json").write_text(text)
    found = tiered_bench()
    assert isinstance(found, TieredBench) and len(found.frame()) == 4
    assert found.frame().loc[(1500, "exact, numpy"), "queries/s"] == 10
    assert "1,500 documents" in plots.alt_text(found.figure())
    assert "<table" in found._repr_html_()


def test_what_finds_too_little_is_drawn_hollow(rows):
    good, bad = ({**row, "documents": 1500} for row in rows[:2])
    bad["recall@10"] = 0.6
    table = pd.DataFrame([good, bad]).assign(queries_per_second_1=1.0)
    marks = TieredBench(table).figure().axes[0].get_lines()
    assert [mark.get_fillstyle() for mark in marks] == ["full", "none"]


def test_the_bench_has_the_part():
    assert "tiered" in bench.PARTS
