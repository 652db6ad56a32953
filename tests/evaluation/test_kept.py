"""Scores kept beside a domain's data come back with every seed, or are refused."""

import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from embkit.errors import EmbkitError
from embkit.evaluation.kept import keep, results, results_folder
from embkit.evaluation.report import compare
from embkit.evaluation.scores import Scores, over_seeds


@pytest.fixture(autouse=True)
def data(monkeypatch, tmp_path):
    here = SimpleNamespace(data=tmp_path / "data")
    monkeypatch.setattr("embkit.evaluation.kept.paths", lambda: here)


def made(domain, approach, seed, trained=True):
    rng = np.random.default_rng(seed)
    per_query = {
        split: pd.DataFrame({"ndcg@10": rng.random(len(domain.split(split)))}, list(queries))
        for split in domain.test_splits
        if (queries := list(domain.split(split))[::-1])
    }
    return Scores(
        approach,
        domain.name,
        domain.hash,
        "minilm",
        f"{seed:06d}" if trained else None,
        per_query,
        meta={"seed": seed, "learning_rate": 1e-4, "train_seconds": 3.5, "odd": "left out"},
        dev={query: rng.random() for query in domain.split("dev")},
    )


def test_every_seed_comes_back_to_four_decimals(tiny_domain):
    seeds = over_seeds([made(tiny_domain, "corpus", seed) for seed in (1, 2, 3)])
    path = keep(seeds.labelled("corpus, wide"), tiny_domain, {"epochs": 3})
    keep(made(tiny_domain, "base", 9, trained=False), tiny_domain)
    assert path == results_folder(tiny_domain) / "corpus--wide.json"
    found = results(tiny_domain)
    assert list(found) == ["base", "corpus, wide"] and len(found["corpus, wide"].runs) == 3
    for split in tiny_domain.test_splits:
        mine = found["corpus, wide"]
        assert mine.by_seed(split)[2] == pytest.approx(
            seeds.runs[2].values(split).loc[mine.values(split).index].to_numpy(), abs=5e-5
        )
        assert mine.clusters(split).over == "queries" or mine.clusters(split).of
    assert found["corpus, wide"].dev == pytest.approx(seeds.dev, abs=1e-4)
    kept = json.loads(path.read_text())
    assert kept["recipe"] == {"epochs": 3} and kept["seeds"] == [1, 2, 3]
    assert kept["versions"]["torch"] and "odd" not in kept["meta"]
    rows = compare([*found.values()]).rows
    assert {row["seeds"] for row in rows if row["label"] == "corpus, wide"} == {3}


def test_results_of_other_content_and_half_a_file_are_refused(tiny_domain):
    assert results(tiny_domain) == {}
    path = keep(made(tiny_domain, "base", 1), tiny_domain)
    text = path.read_text()
    path.write_text(text[: len(text) // 2])
    with pytest.raises(EmbkitError, match="cannot be read"):
        results(tiny_domain)
    path.write_text(text.replace(tiny_domain.hash, "0" * 16))
    with pytest.raises(EmbkitError, match="made on content 0000"):
        results(tiny_domain)
    other = Scores.load(made(tiny_domain, "base", 1).save(path.parent / "x" / "s.json"))
    object.__setattr__(other, "domain_hash", "f" * 16)
    with pytest.raises(EmbkitError, match="not on 'tiny'"):
        keep(other, tiny_domain)
