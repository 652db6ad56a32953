"""Out again: what is written can be read by embkit, by others' libraries, and is the same."""

import csv
import dataclasses
import json
from pathlib import Path

import datasets
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from datasets import load_from_disk

import embkit.export.export
from embkit.data import load_domain
from embkit.errors import EmbkitError
from embkit.evaluation.comparison import compare
from embkit.export.export import export_model, to_beir, to_datasets, to_parquet
from embkit.recipes.recipe import Recipe
from embkit.runs import Run


@pytest.fixture(scope="module")
def smoke():
    return load_domain("icd10cm", profile="smoke")


def files(folder):
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def as_beir_reads(folder, split):
    """Corpus, queries and qrels as BEIR's own loader reads them, written down again."""
    corpus, queries, qrels = {}, {}, {}
    for line in (folder / "corpus.jsonl").read_text(encoding="utf8").split("\n")[:-1]:
        row = json.loads(line)
        corpus[row["_id"]] = (row["title"] + " " + row["text"]).strip()
    for line in (folder / "queries.jsonl").read_text(encoding="utf8").split("\n")[:-1]:
        row = json.loads(line)
        queries[row["_id"]] = row["text"]
    with (folder / "qrels" / f"{split}.tsv").open(encoding="utf-8") as file:
        rows = csv.reader(file, delimiter="\t", quoting=csv.QUOTE_MINIMAL)
        assert next(rows) == ["query-id", "corpus-id", "score"]
        for query, document, score in rows:
            qrels.setdefault(query, {})[document] = int(score)
    return corpus, queries, qrels


def odd(domain):
    """The domain with texts and ids that files are bad at."""
    text = 'a\t"tab", a\nline, a\r\nCR, \u2028, 👩‍🔧, שלום, <b> and a  double space '
    corpus = dict(domain.corpus) | {'id "x"\ty': text, "007": text + "2"}
    qrels = {s: dict(q) for s, q in domain.qrels.items()}
    qrels["known"]["q odd"] = {'id "x"\ty': 2, "007": 0}
    queries = dict(domain.queries) | {"q odd": text}
    return dataclasses.replace(domain, corpus=corpus, queries=queries, qrels=qrels)


@pytest.mark.parametrize("which", ["smoke", "tiny", "odd"])
def test_a_beir_folder_gives_the_same_domain_again(which, smoke, tiny_domain, tmp_path):
    domain = {"smoke": smoke, "tiny": tiny_domain, "odd": odd(tiny_domain)}[which]
    folder = to_beir(domain, tmp_path / domain.name)
    again = load_domain(folder, profile="workshop")
    assert dict(again.corpus) == dict(domain.corpus)
    assert dict(again.queries) == dict(domain.queries)
    assert again.qrels == domain.qrels and again.test_splits == domain.test_splits
    assert dict(again.negatives) == dict(domain.negatives)
    assert dict(again.groups) == dict(domain.groups)
    assert dict(again.parents) == dict(domain.parents)
    assert again.held_out == domain.held_out == "novel"
    assert again.hash == domain.hash and again.name == domain.name
    assert not again.report.quarantined
    assert again.about.get("terms", "").startswith(domain.about.get("terms", "Your own"))
    if which != "smoke":  # small enough to be whole in every profile
        assert load_domain(folder, profile="smoke").hash == domain.hash


def test_beirs_own_way_of_reading_finds_the_same(smoke, tmp_path):
    folder = to_beir(smoke, tmp_path / "out")
    for split in smoke.qrels:
        corpus, queries, qrels = as_beir_reads(folder, split)
        assert corpus == dict(smoke.corpus) and queries == dict(smoke.queries)
        assert qrels == {q: dict(judged) for q, judged in smoke.qrels[split].items()}
    assert "World Health Organization" in (folder / "README.md").read_text(encoding="utf-8")
    assert smoke.hash in (folder / "README.md").read_text(encoding="utf-8")


def test_a_damaged_domain_json_is_passed_over_and_said(tiny_domain, tmp_path):
    folder = to_beir(tiny_domain, tmp_path / "out")
    (folder / "domain.json").write_text("{")
    again = load_domain(folder, profile="workshop")
    assert again.hash == dataclasses.replace(tiny_domain, held_out=None).hash
    assert "domain.json is damaged" in again.about["notes"]


def test_a_split_that_cannot_be_a_file_is_refused(tiny_domain, tmp_path):
    qrels = dict(tiny_domain.qrels) | {"../known": tiny_domain.qrels["known"]}
    del qrels["known"]
    domain = dataclasses.replace(tiny_domain, qrels=qrels, test_splits=("../known", "novel"))
    with pytest.raises(EmbkitError, match="cannot be the name of a file"):
        to_beir(domain, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_datasets_open_the_folder_and_embkit_too(tiny_domain, tmp_path, capfd):
    datasets.enable_progress_bars()
    folder = to_datasets(tiny_domain, tmp_path / "out")
    assert capfd.readouterr() == ("", "") and datasets.is_progress_bar_enabled()
    data = load_from_disk(str(folder))
    assert set(data) == {*tiny_domain.qrels, "corpus"}
    assert dict(zip(data["corpus"]["_id"], data["corpus"]["text"], strict=True)) == dict(
        tiny_domain.corpus
    )
    assert data["train"].column_names == ["anchor", "positive"]
    assert data["train"].to_dict() == tiny_domain.pairs().to_dict()
    again = load_domain(folder, profile="workshop")
    assert dict(again.corpus) == dict(tiny_domain.corpus)
    for split, qrels in tiny_domain.qrels.items():
        found = {again.queries[q]: set(judged) for q, judged in again.qrels[split].items()}
        assert found == {
            tiny_domain.queries[q]: {d for d, grade in judged.items() if grade > 0}
            for q, judged in qrels.items()
        }


# -- folders that are there already --


def made_run(folder, model):
    (folder / "run").mkdir(parents=True, exist_ok=True)
    if not (folder / "run" / "model").exists():
        (folder / "run" / "model").symlink_to(model, target_is_directory=True)
    return Run(folder / "run", {})


@pytest.fixture(params=["beir", "datasets", "model"])
def write(request, tiny_domain, tiny_model, tmp_path):
    run = made_run(tmp_path / "store", tiny_model)
    return {
        "beir": lambda folder, **how: to_beir(tiny_domain, folder, **how),
        "datasets": lambda folder, **how: to_datasets(tiny_domain, folder, **how),
        "model": lambda folder, **how: export_model(run, folder, **how),
    }[request.param]


def test_what_is_there_is_never_overwritten_unasked(write, tmp_path):
    folder = tmp_path / "out"
    write(folder)
    before = files(folder)
    with pytest.raises(EmbkitError, match="(?s)'out' holds something already.*replace=True"):
        write(folder)
    assert files(folder) == before
    (folder / "stale").write_text("x")
    assert write(folder, replace=True) == folder
    assert files(folder).keys() == before.keys()


def test_replace_only_replaces_an_earlier_export(write, tmp_path):
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("years of work")
    for options in ({}, {"replace": True}):
        with pytest.raises(EmbkitError, match="'mine' holds something already"):
            write(mine, **options)
    with pytest.raises(EmbkitError, match="'thesis.txt' holds something"):
        write(mine / "thesis.txt", replace=True)
    assert files(mine) == {Path("thesis.txt"): b"years of work"}


def test_an_empty_folder_will_do_and_nothing_else_is_left(write, tmp_path):
    (tmp_path / "out").mkdir()
    before = set(tmp_path.iterdir())
    write(tmp_path / "out")
    assert set(tmp_path.iterdir()) == before and any((tmp_path / "out").iterdir())


def test_a_failure_leaves_nothing_half_written(tiny_domain, tmp_path, monkeypatch):
    monkeypatch.setattr(embkit.export.export, "_readme", lambda domain: 1 / 0)
    for writer in (to_beir, to_datasets):
        with pytest.raises(ZeroDivisionError):
            writer(tiny_domain, tmp_path / "out")
    monkeypatch.setattr(
        embkit.export.export, "_readme", lambda domain: open("/nonexistent/x").read()
    )
    with pytest.raises(EmbkitError, match="cannot write 'out'"):
        to_beir(tiny_domain, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


# -- models --


def test_an_exported_model_is_a_plain_folder_with_the_same_vectors(tiny_model, tmp_path):
    from sentence_transformers import SentenceTransformer

    folder = export_model(made_run(tmp_path, tiny_model), tmp_path / "mine")
    assert files(folder) == files(tiny_model)
    assert not any(path.is_symlink() for path in [folder, *folder.rglob("*")])
    texts = ["infection of the eye", "pain"]
    one, other = (
        SentenceTransformer(str(where), device="cpu").encode(texts)
        for where in (tiny_model, folder)
    )
    assert np.array_equal(one, other)


def test_the_card_of_an_exported_model_tells_its_evaluation(tiny_model, tiny_domain, tmp_path):
    from embkit.evaluation.ranking import evaluate

    run, base = made_run(tmp_path, tiny_model), evaluate(str(tiny_model), tiny_domain)
    run.record.update(
        recipe=json.loads(Recipe(model="minilm").to_json()),
        domain="tiny",
        domain_hash="ab" * 8,
        pairs=30,
        seconds=2.0,
        dev_score=0.5,
    )
    report = compare([base])
    folder = export_model(run, tmp_path / "told", report=report)
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert "## Evaluation on tiny" in card and report.to_markdown() in card
    assert f"recipe {Recipe(model='minilm').hash}, seed 42" in card and "30 pairs" in card
    plain = (export_model(run, tmp_path / "plain") / "README.md").read_text(encoding="utf-8")
    assert card.startswith(plain.rstrip()) and "## Evaluation on" not in plain


def test_a_run_without_a_model_is_refused(tmp_path):
    (tmp_path / "run").mkdir()
    with pytest.raises(EmbkitError, match="the run 'run' has no model"):
        export_model(Run(tmp_path / "run", {}), tmp_path / "out")


# -- vectors --

TEXTS = ["one", "<b>two</b>", "three\nlines", "שלום"]
IDS = ["a", "b", "c", "d"]
VECTORS = np.arange(12, dtype=np.float32).reshape(4, 3)


@pytest.mark.parametrize("rows", [1, 3, 4, 1000])
def test_parquet_holds_what_was_given(rows, tmp_path, monkeypatch):
    monkeypatch.setattr(embkit.export.export, "ROWS", rows)
    places = np.array([[1, 2], [3, 4], [5, 6], [7, 8]])
    file = to_parquet(VECTORS, TEXTS, IDS, tmp_path / "map.parquet", places, group=[1, 1, 2, 2])
    table = pd.read_parquet(file)
    assert list(table.columns) == ["id", "text", "vector", "x", "y", "group"]
    assert list(table["id"]) == IDS and list(table["text"]) == TEXTS
    assert np.array_equal(np.stack(table["vector"]), VECTORS)
    assert list(table["x"]) == [1, 3, 5, 7] and list(table["y"]) == [2, 4, 6, 8]
    assert list(table["group"]) == [1, 1, 2, 2]
    types = {field.name: str(field.type) for field in pq.read_schema(file)}
    assert types["vector"].startswith("list<") and "float" in types["vector"]
    assert types["x"] == "float" and types["id"] == "string"


def test_memory_mapped_halves_and_a_folder(tmp_path):
    halves = np.lib.format.open_memmap(tmp_path / "v.npy", "w+", np.float16, (4, 3))
    halves[:] = VECTORS / 7
    file = to_parquet(halves, TEXTS, IDS, tmp_path / "folder", np.zeros((4, 3)))
    assert file == tmp_path / "folder" / "embeddings.parquet"
    table = pq.read_table(file).to_pydict()
    assert list(table) == ["id", "text", "vector", "x", "y", "z"]
    assert np.array_equal(np.array(table["vector"], np.float32), np.asarray(halves, np.float32))


def test_a_parquet_file_is_not_overwritten_unasked(tmp_path):
    file = to_parquet(VECTORS, TEXTS, IDS, tmp_path / "map.parquet")
    before = file.read_bytes()
    with pytest.raises(EmbkitError, match="'map.parquet' is there already"):
        to_parquet(VECTORS + 1, TEXTS, IDS, file)
    assert file.read_bytes() == before
    to_parquet(VECTORS + 1, TEXTS, IDS, file, replace=True)
    assert pd.read_parquet(file)["vector"][0][0] == 1


@pytest.mark.parametrize(
    "change, match",
    [
        ({"vectors": VECTORS[:3]}, r"vectors of shape \(3, 3\)"),
        ({"vectors": VECTORS[0]}, r"vectors of shape \(3,\)"),
        ({"vectors": np.array([["a"] * 3] * 4)}, "vectors of shape.*type <U1"),
        ({"coordinates": np.zeros((4, 5))}, r"coordinates of shape \(4, 5\)"),
        ({"coordinates": np.zeros((3, 2))}, r"coordinates of shape \(3, 2\)"),
        ({"ids": ["a", "b", "c"]}, "3 values of 'id' for 4 texts"),
        ({"ids": ["a", "b", "c", "c"]}, "an id twice"),
        ({"group": [1]}, "1 values of 'group' for 4 texts"),
        ({"vector": [1, 2, 3, 4]}, "a column of your own called 'vector'"),
    ],
)
def test_what_does_not_fit_is_refused(change, match, tmp_path):
    given = {"vectors": VECTORS, "texts": TEXTS, "ids": IDS, "target": tmp_path / "m.parquet"}
    with pytest.raises(EmbkitError, match=match):
        to_parquet(**(given | change))
    assert list(tmp_path.iterdir()) == []
