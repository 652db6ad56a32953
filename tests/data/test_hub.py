"""Data sets of a hub: configurations, shards, judgements, gated, missing, without a network."""

import io
import json

import pandas as pd
import pytest

from embkit.data import load_domain
from embkit.errors import EmbkitError
from tests.hub import wait_less

ID = "owner/some-pairs"
ROWS = [
    {"anchor": f"what is thing {i} for?", "positive": f"thing {i} is a tool"} for i in range(30)
]


def parquet(rows):
    stream = io.BytesIO()
    pd.DataFrame(rows).to_parquet(stream)
    return stream.getvalue()


def lines(rows):
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def card(**files):
    """A README that names configurations: name -> (split, pattern)."""
    rows = [
        f"- config_name: {name}\n  data_files:\n  - split: {split}\n    path: {path}\n"
        for name, (split, path) in files.items()
    ]
    return f"---\nconfigs:\n{''.join(rows)}---\n".encode()


@pytest.fixture
def pairs(hub):
    """Two configurations; one lies in three shards."""
    made = hub.add(ID, "datasets")
    shards = {f"pair/train-{n:05}-of-00003.parquet": parquet(ROWS[n * 8 :][:8]) for n in range(3)}
    named = card(pair=("train", "pair/train-*.parquet"), other=("train", "other/*.parquet"))
    made.commit({"README.md": named, "other/a.parquet": parquet(ROWS[24:])} | shards)
    return made


@pytest.fixture
def judged(hub):
    """Judgements, corpus and queries, as MTEB lays them out."""
    named = card(
        corpus=("corpus", "corpus.jsonl"),
        default=("test", "qrels/test.jsonl"),
        queries=("queries", "queries.jsonl"),
    )
    corpus = [{"_id": f"d{i}", "title": "T", "text": r["positive"]} for i, r in enumerate(ROWS)]
    queries = [{"_id": f"q{i}", "text": r["anchor"]} for i, r in enumerate(ROWS)]
    qrels = [{"query-id": f"q{i}", "corpus-id": f"d{i}", "score": 1.0} for i in range(len(ROWS))]
    files = {"README.md": named, "corpus.jsonl": lines(corpus), "queries.jsonl": lines(queries)}
    hub.add("mteb/tools", "datasets").commit(files | {"qrels/test.jsonl": lines(qrels)})


def without_a_network(hub, offline, load):
    """What is loaded with the hub gone, and then with HF_HUB_OFFLINE: at once."""
    hub.close()
    hub.waits.clear()
    found = [load()]
    offline()
    assert max(hub.waits, default=0) < 1, "datasets did not try again and again"
    return [*found, load()]


def test_shards_of_a_configuration(hub, pairs, offline):
    def load(subset="pair"):
        return load_domain(ID, subset=subset, profile="workshop")

    domain = load()
    assert len(domain.queries) == 24 and f"the hub: {ID}, pair" in repr(domain.report)
    assert len(load("other").queries) == 6
    fetched = hub.fetched(".parquet")
    assert fetched == 4 and load().hash == domain.hash and hub.fetched(".parquet") == fetched
    again = without_a_network(hub, offline, load)
    assert [x.hash for x in again] == [domain.hash] * 2


def test_shards_without_a_card(hub, offline):
    shards = {f"data/train-{n:05}-of-00002.parquet": parquet(ROWS[n * 15 :][:15]) for n in range(2)}
    hub.add(ID, "datasets").commit(shards)
    domain = load_domain(ID, profile="workshop")
    assert len(domain.queries) == 30
    again = without_a_network(hub, offline, lambda: load_domain(ID, profile="workshop"))
    assert [x.hash for x in again] == [domain.hash] * 2


def test_judgements_with_their_corpus_and_queries(hub, judged, offline):
    domain = load_domain("mteb/tools", profile="workshop")
    assert domain.corpus["d0"] == f"T {ROWS[0]['positive']}" and len(domain.queries) == 30
    again = without_a_network(hub, offline, lambda: load_domain("mteb/tools", profile="workshop"))
    assert [x.hash for x in again] == [domain.hash] * 2


def test_a_configuration_is_asked_for_by_name(hub, pairs, offline):
    for subset in (None, "nothing"):
        with pytest.raises(EmbkitError, match="'pair', 'other'") as caught:
            load_domain(ID, subset=subset)
        assert "subset='…'" in caught.value.hint
    for subset in ("pair", "other"):
        load_domain(ID, subset=subset)
    offline()
    with pytest.raises(EmbkitError, match="other, pair|pair, other"):
        load_domain(ID)


def test_one_configuration_alone_is_said_when_it_is_taken_from_the_cache(hub, pairs, offline):
    load_domain(ID, subset="pair")
    offline()
    assert f"the hub: {ID}, pair" in repr(load_domain(ID).report)


@pytest.mark.parametrize("status", [401, 403])
def test_a_gated_data_set_says_where_its_terms_are(hub, pairs, status):
    pairs.gated = status
    with pytest.raises(EmbkitError, match=f"the dataset '{ID}' is gated") as caught:
        load_domain(ID, subset="pair")
    assert f"{hub.url}/datasets/{ID}" in caught.value.hint and "hf auth login" in caught.value.hint
    pairs.gated = 0
    load_domain(ID, subset="pair")


def test_a_missing_data_set_is_answered_with_the_nearest_known(hub, pairs):
    load_domain(ID, subset="pair")
    with pytest.raises(EmbkitError, match="unknown dataset.*'owner/some-pair'") as caught:
        load_domain("owner/some-pair")
    assert f"did you mean {ID!r}?" in caught.value.hint


def test_a_hub_that_says_nothing_is_one_error_in_the_end(hub, pairs):
    hub.asleep = ["api/datasets"]
    with wait_less(), pytest.raises(EmbkitError, match="cannot be had") as caught:
        load_domain(ID, subset="pair")
    assert "save_to_disk" in caught.value.hint and "timed out" in caught.value.given
    hub.asleep = []
    assert len(load_domain(ID, subset="pair", profile="workshop").queries) == 24


def test_a_shard_that_is_cut_off_is_fetched_to_its_end(hub, pairs):
    hub.cuts["pair/train-00001-of-00003.parquet"] = 1
    assert len(load_domain(ID, subset="pair", profile="workshop").queries) == 24


def test_a_script_of_a_data_set_is_not_run(hub, tmp_path):
    trap = f"open({str(tmp_path / 'sprung')!r}, 'w').close()".encode()
    hub.add(ID, "datasets").commit({"some-pairs.py": trap, "data/train.parquet": parquet(ROWS)})
    with pytest.raises(EmbkitError, match="script"):
        load_domain(ID)
    assert not (tmp_path / "sprung").exists()
