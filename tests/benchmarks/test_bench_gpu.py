"""The bench for a GPU, small, on the processor."""

import json

import pytest
import torch

from embkit import session
from tests.benchmarks import bench, bench_gpu


@pytest.mark.slow
def test_it_runs_small_and_its_table_has_a_row_a_part_and_side(minilm_by_name, store, capsys):
    assert bench_gpu.main(["--small", "--rounds", "1"]) == 0
    found = json.loads((store / "bench-gpu-small.json").read_text())
    assert found["small"] and found["environment"]["device"] == "cpu"
    assert found["schmid"]["protocol_seconds"] > 0
    for part, unit in (("schmid", "pairs"), ("lora", "pairs"), ("encode", "texts")):
        rates = found[part][f"{unit}_per_second"]
        assert list(rates) == ["embkit", "stock, defaults", "stock, best flags"]
        assert all(len(own) == 1 and own[0] > 0 for own in rates.values())
    capsys.readouterr()
    assert bench_gpu.main(["--small", "--table"]) == 0
    table = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    assert len(table) == 1 + 3 * 3


@pytest.mark.parametrize(
    ("name", "peak"),
    [("NVIDIA H100 80GB HBM3", 989), ("Tesla T4", 65), ("NVIDIA GeForce RTX 9999", None)],
)
def test_a_peak_is_told_where_it_is_known(monkeypatch, name, peak):
    monkeypatch.setattr(session, "device_name", lambda: name)
    monkeypatch.setattr(session, "precision", lambda on=None: "fp16" if "T4" in name else "bf16")
    monkeypatch.setattr(session, "device", lambda: "cuda")
    assert bench.known_peak() == (peak and peak * 1e3)


def test_products_are_counted():
    assert bench.matmul_gflops(torch.float32, 64) > 0
