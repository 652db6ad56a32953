"""The bench of size: its made-up folder, and one small run of all its steps."""

import numpy as np
import pytest

from embkit.data import load_domain
from tests.benchmarks import bench, bench_size
from tests.benchmarks.bench_size import Drawing, sentences, table, vocabulary, watch, write_folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_folder(tmp_path_factory.mktemp("made") / "folder", 3000, 600)


def test_the_folder_is_the_same_each_time_and_another_with_another_seed(folder, tmp_path):
    def parts(path):
        return {p.relative_to(path): p.read_bytes() for p in path.rglob("*.*") if p.is_file()}

    assert len(parts(folder)) == 3
    assert parts(write_folder(tmp_path / "again", 3000, 600)) == parts(folder)
    assert parts(write_folder(tmp_path / "other", 3000, 600, seed=1)) != parts(folder)


def test_the_folder_loads_and_its_empty_documents_are_put_aside(folder, monkeypatch):
    monkeypatch.setenv("EMBKIT_PROFILE", "full")
    domain = load_domain(folder)
    asked = sum(map(len, domain.qrels.values()))
    assert len(domain.corpus) == 2997 and domain.report.quarantined["empty text"] == 3
    assert 595 <= asked <= 600
    query = next(iter(domain.qrels["test"]))
    (right,) = domain.qrels["test"][query]
    shared = set(domain.queries[query].split()) & set(domain.corpus[right].split())
    assert len(shared) >= 3 or len(domain.queries[query].split()) < 5


def test_words_are_distinct_and_some_are_frequent():
    words = vocabulary()
    assert len(set(words)) == len(words) == bench_size.WORDS
    rows = list(sentences(1000, (6, 14), np.random.default_rng(0), part=300))
    assert len(rows) == 1000 and {len(row) for row in rows} == set(range(6, 15))
    counts = sorted((sum(row.count(word) for row in rows) for word in words[:50]), reverse=True)
    assert counts[0] > 50 * 1000 * 10 / bench_size.WORDS


def test_what_stands_for_a_model_gives_unit_vectors_that_its_seed_decides():
    rows = Drawing()(["a", "b"])
    assert rows.shape == (2, bench_size.DIM) and (rows == Drawing()(["c", "d"])).all()
    np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, rtol=1e-5)


def test_every_step_is_timed_and_its_memory_read(folder, tmp_path):
    found = watch(folder, tmp_path)
    assert list(found) == [
        "load",
        "check",
        "encode, float32",
        "encode, float16",
        "encode again",
        "search, float32",
        "search, float16",
    ]
    for step in found.values():
        assert step.seconds > 0 and step.rss >= step.own > 10
    assert found["load"].noted["documents"] == 2997
    assert found["encode, float16"].noted["megabytes"] == pytest.approx(2997 * 384 * 2 / 2**20)
    assert found["search, float16"].noted["as with float32"] > 0.9
    lines = "\n".join(table({3000: found}))
    assert "drawn at random, no model's" in lines and "below 4,096" in lines
    assert "3 × empty text" in lines and "every text was read" in lines


def test_a_process_that_fails_is_said(tmp_path, capfd):
    with pytest.raises(RuntimeError, match="ended with 1"):
        watch(tmp_path / "nowhere", tmp_path)
    assert "no file or folder" in capfd.readouterr().err


def test_size_is_part_of_the_bench():
    assert "size" in bench.PARTS
