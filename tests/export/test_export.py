"""Out again: what is written can be read by embkit, by others' libraries, and is the same."""

import csv
import dataclasses
import json
import shlex
from pathlib import Path

import numpy as np
import pytest

import embkit.export.export
from embkit.data import load_domain
from embkit.errors import EmbkitError
from embkit.evaluation.report import compare
from embkit.export.export import export_model, to_beir
from embkit.recipes.recipe import Recipe
from embkit.runs import Run

CARD = Path("README.md")


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


# -- folders that are there already --


def made_run(folder, model):
    (folder / "run").mkdir(parents=True, exist_ok=True)
    if not (folder / "run" / "model").exists():
        (folder / "run" / "model").symlink_to(model, target_is_directory=True)
    return Run(folder / "run", {"recipe": json.loads(Recipe().to_json())})


@pytest.fixture(params=["beir", "model"])
def write(request, tiny_domain, tiny_model, tmp_path):
    run = made_run(tmp_path / "store", tiny_model)
    return {
        "beir": lambda folder, **how: to_beir(tiny_domain, folder, **how),
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
    monkeypatch.setattr(embkit.export.export, "filled", lambda *_, **__: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        to_beir(tiny_domain, tmp_path / "out")
    monkeypatch.setattr(
        embkit.export.export, "filled", lambda *_, **__: open("/nonexistent/x").read()
    )
    with pytest.raises(EmbkitError, match="cannot write 'out'"):
        to_beir(tiny_domain, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


# -- models --


def test_an_exported_model_is_a_plain_folder_with_the_same_vectors(tiny_model, tmp_path):
    from sentence_transformers import SentenceTransformer

    folder = export_model(made_run(tmp_path, tiny_model), tmp_path / "mine")
    mine, theirs = files(folder), files(tiny_model)
    assert mine.pop(CARD) and theirs.pop(CARD, True)
    assert mine == theirs
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
    before, served = plain.split("## Serving it")
    assert card.startswith(before) and card.endswith(served) and "## Evaluation on" not in plain


def test_the_card_says_how_it_is_served_and_how_that_is_checked(tiny_model, tmp_path):
    from embkit.cli.main import parser

    run = made_run(tmp_path, tiny_model)
    run.record["prompts"] = {"query": "ask: "}
    card = (export_model(run, tmp_path / "out") / "README.md").read_text(encoding="utf-8")
    commands = card.split("## Serving it")[1].replace("\\\n", " ").splitlines()
    for server in ("vllm serve", "docker run", "infinity_emb v2", "ollama create"):
        (command,) = (line for line in commands if server in line)
        assert server == "ollama create" or "127.0.0.1" in command, "on loopback alone"
    checks = [line.split(" #")[0] for line in commands if line.startswith("python -m embkit")]
    assert len(checks) == 4
    for check in checks:
        chosen = parser().parse_args(shlex.split(check)[3:])
        assert chosen.served.startswith("http://127.0.0.1:") and chosen.probes
    assert "A query begins with `ask: `" in card
    del run.record["prompts"]
    plain = export_model(run, tmp_path / "plain") / CARD
    assert "begins with" not in plain.read_text(encoding="utf-8")


def test_a_run_without_a_model_is_refused(tmp_path):
    (tmp_path / "run").mkdir()
    with pytest.raises(EmbkitError, match="the run 'run' has no model"):
        export_model(Run(tmp_path / "run", {}), tmp_path / "out")
