"""Splits that are cut: as many queries a document in each, groups left whole, stable, said."""

import json
import random
from collections import Counter
from dataclasses import replace
from pathlib import Path
from statistics import fmean

import pytest
from scipy.stats import ks_2samp

import embkit as ek
from embkit.data import load_domain, splits
from embkit.data.splits import SHARES, divide
from embkit.errors import EmbkitError
from embkit.runs import Trained

N, SEEDS = 300, 20  # documents of a domain, domains of a kind
MANY = 6  # queries: a document that many ask for
KINDS = {  # queries of document i of a made-up domain
    "one": lambda i, chance: 1,
    "up to 20": lambda i, chance: chance.randint(1, 20),
    "zipf": lambda i, chance: max(1, 200 // (i + 1)),
    "a third with many": lambda i, chance: chance.randint(*((MANY, 15) if i % 3 == 0 else (1, 2))),
}


def made(kind, seed, n=N):
    """Corpus, queries, and one split whose query ``qI.K`` is the K-th about document ``dI``."""
    chance = random.Random(f"{kind} {seed}")
    asked = {f"d{i}": KINDS[kind](i, chance) for i in range(n)}
    corpus = {d: f"{kind} {seed}: document {d}" for d in asked}
    queries = {
        f"q{d[1:]}.{k}": f"{seed} {d} {k}" for d, times in asked.items() for k in range(times)
    }
    return corpus, queries, {"": {q: {f"d{q[1:].split('.')[0]}": 1} for q in queries}}


def asked(found):
    """Split -> document -> its queries there."""
    return {s: Counter(q.split(".")[0] for q in judged) for s, judged in found.items()}


def rates(found):
    """Split -> the share of its documents that many queries ask for."""
    return {s: fmean(n >= MANY for n in times.values()) for s, times in asked(found).items()}


@pytest.fixture(scope="module")
def cut():
    """Kind -> how the domains of that kind are cut."""
    return {
        kind: [divide(given, corpus, queries)[0] for corpus, queries, given in cases]
        for kind, cases in {k: [made(k, seed) for seed in range(SEEDS)] for k in KINDS}.items()
    }


@pytest.mark.parametrize("kind", KINDS)
def test_every_split_has_its_share_of_the_queries(cut, kind):
    for found in cut[kind]:
        total = sum(map(len, found.values()))
        for split, share in SHARES.items():
            assert len(found[split]) / total == pytest.approx(share, abs=0.005)
        assert sum(map(len, asked(found).values())) == N  # no document is in two


@pytest.mark.parametrize("kind", KINDS)
def test_the_splits_have_as_many_queries_a_document(cut, kind):
    """Each against train: the shares of documents with many, and the whole distribution."""
    for split in SHARES:
        gaps = [rates(found)[split] - rates(found)["train"] for found in cut[kind]]
        assert abs(fmean(gaps)) < 0.05
        parts = [asked(found) for found in cut[kind]]
        p = [ks_2samp([*a[split].values()], [*a["train"].values()]).pvalue for a in parts]
        assert sum(value < 0.05 for value in p) <= 0.1 * SEEDS


@pytest.mark.parametrize("kind", KINDS)
def test_documents_of_every_size_are_held_out_alike(cut, kind):
    """Over all domains, the share of documents in test, by their queries: 1, 2-3, 4-7, ..."""
    where = {"test": Counter(), "all": Counter()}
    for found in cut[kind]:
        most = SHARES["dev"] / 2 * sum(map(len, found.values()))  # what any split takes
        for split, times in asked(found).items():
            sizes = Counter(n.bit_length() for n in times.values() if n <= most)
            where["all"] += sizes
            where["test"] += sizes if split == "test" else {}
    overall = where["test"].total() / where["all"].total()
    for size, n in where["all"].items():
        noise = (overall * (1 - overall) / n) ** 0.5
        assert abs(where["test"][size] / n - overall) < 4 * noise, (size, n)


def test_no_document_makes_up_most_of_a_split(cut):
    for found in cut["zipf"]:
        for times in asked(found).values():
            assert max(times.values()) <= 0.5 * times.total() and len(times) >= 10


def test_an_order_by_the_least_hash_of_a_part_s_queries_would_be_seen(monkeypatch):
    """What was done once: documents with many queries came first, as the least of many is small."""

    def by_least_hash(parts, goals):
        order = sorted(parts.values(), key=lambda part: min(splits.in_order(q, 0) for q in part))
        taken = {name: [] for name in goals}
        for part in order:
            room = (s for s, goal in goals.items() if sum(map(len, taken[s])) + len(part) <= goal)
            taken[next(room, "train")].append(part)
        return taken

    monkeypatch.setattr(splits, "deal", by_least_hash)
    corpus, queries, given = made("a third with many", 0)
    found = rates(divide(given, corpus, queries)[0])
    assert found["test"] > found["train"] + 0.3


@pytest.mark.parametrize("kind", KINDS)
def test_a_cap_changes_no_more_than_the_share(kind, monkeypatch):
    monkeypatch.setattr(splits, "CAPS", {"test": 40, "dev": 20})
    corpus, queries, given = made(kind, 0)
    found, said = divide(given, corpus, queries)
    assert (len(found["test"]), len(found["dev"])) == (40, 20)
    assert "test is limited to 40 queries" in said


def test_the_cut_hangs_on_the_content_alone_and_hardly_moves_with_a_document_more():
    corpus, queries, given = made("up to 20", 0)
    found = divide(given, corpus, queries)[0]
    mixed = list(given[""].items())
    random.Random(1).shuffle(mixed)
    again = divide({"": dict(mixed)}, dict(reversed(corpus.items())), queries)[0]
    assert again == found
    corpus["d999"], queries["q999.0"] = "a document more", "a query more"
    more = divide({"": given[""] | {"q999.0": {"d999": 1}}}, corpus, queries)[0]
    home = {q: split for split, judged in found.items() for q in judged}
    moved = [q for split, judged in more.items() for q in judged if home.get(q, split) != split]
    assert len(moved) <= 0.05 * len(home)


# -- groups --


def test_a_group_stays_whole(tmp_path):
    corpus, queries, given = made("up to 20", 0)
    groups = {d: f"group {int(d[1:]) // 4}" for d in corpus}
    found, said = divide(given, corpus, queries, groups)
    home = {s: {groups[f"d{d[1:]}"] for d in times} for s, times in asked(found).items()}
    assert sum(map(len, home.values())) == len(set().union(*home.values())) == N // 4
    assert "by group: test" in said[0] and len(found["test"]) / len(queries) > 0.19
    # as a folder gives them
    rows = [{"_id": d, "text": t, "metadata": {"group": groups[d]}} for d, t in corpus.items()]
    asks = [{"_id": q, "text": text} for q, text in queries.items()]
    for name, lines in {"corpus.jsonl": rows, "queries.jsonl": asks}.items():
        (tmp_path / name).write_text("\n".join(map(json.dumps, lines)))
    judged = [f"{q}\t{d}\t1" for q, right in given[""].items() for d in right]
    (tmp_path / "qrels.tsv").write_text("\n".join(["query-id\tcorpus-id\tscore", *judged]))
    domain = load_domain(tmp_path, profile="workshop")
    assert domain.qrels == found and domain.groups == groups
    assert "by group: test" in domain.about["splits"]


def test_groups_that_are_too_large_are_cut_by_document_and_that_is_said():
    corpus, queries, given = made("up to 20", 0)
    groups = dict.fromkeys(corpus, "all")
    found, said = divide(given, corpus, queries, groups)
    assert found == divide(given, corpus, queries)[0]
    assert "by document, since its groups are too large to stay whole: test" in said[0]


# -- results of an earlier cut --


def test_results_of_an_earlier_cut_are_named_and_not_compared(tmp_path, store):
    file = tmp_path / "own.csv"

    def loaded(n):
        rows = [f"question {i},answer {i}" for i in range(n)]
        file.write_text("\n".join(["anchor,positive", *rows]))
        return load_domain(file)

    first = loaded(20)
    assert "earlier results" not in repr(first.report)
    ek.evaluate("bm25", first)
    assert "earlier results" not in repr(loaded(20).report)
    second = loaded(21)
    told = f"1 result of an earlier cut or other texts: kept under {store / 'store'}"
    told += f"/own-smoke-{first.hash[:8]}, and not compared"
    assert second.report.earlier == told and "earlier results" in second.report._repr_html_()
    assert str(store) not in "".join(second.about.values())
    with pytest.raises(EmbkitError, match="nothing has been evaluated") as caught:
        ek.leaderboard(second)
    assert caught.value.given.endswith(told)
    ek.evaluate("bm25", second)
    third = loaded(22)
    assert "2 results of" in third.report.earlier and "own-smoke-*," in third.report.earlier


# -- training's figure on dev --


def test_dev_is_called_a_sample_where_training_searches_a_part(tiny_domain):
    assert tiny_domain.dev_name == "dev"
    more = {f"more{i}": f"one more {i}" for i in range(2000)}
    wide = replace(tiny_domain, corpus=tiny_domain.corpus | more)
    assert wide.dev_name == "dev sample" and len(wide.dev_corpus()) == 2000 < len(wide.corpus)
    own = replace(wide, searched={"dev": tuple(tiny_domain.corpus)})
    assert own.dev_name == "dev"
    older = Trained(Path("a-run"), {"dev_score": 0.5})  # did not say what it had searched
    assert older.dev_name == "dev sample"
