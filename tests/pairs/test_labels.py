"""People's labels: nothing acknowledged is lost, what counts, agreement, and labels out."""

import dataclasses
import errno
import itertools
import json
import math
import os
import random
import signal
import subprocess
import sys
import textwrap
from collections import Counter

import numpy as np
import pytest
from filelock import FileLock
from sklearn.metrics import cohen_kappa_score

from embkit import files
from embkit.data import Domain
from embkit.errors import EmbkitError
from embkit.evaluation.ranking import rank
from embkit.pairs.labels import (
    LINEAR,
    NOMINAL,
    LabelStore,
    annotator_agreement,
    kappas,
    merged,
    with_labels,
)
from embkit.pairs.pooling import candidates

WRITER = """
import sys
from embkit.data import Domain
from embkit.pairs.labels import LabelStore
size = 20
domain = Domain(
    name="grid", profile="smoke", test_splits=(),
    corpus={f"d{i}": f"document {i}" for i in range(size)},
    queries={f"q{i}": f"query {i}" for i in range(size)},
    qrels={"train": {}, "dev": {}},
)
path, name, count, grade = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
store = LabelStore(domain, path)
print("ready", flush=True)
sys.stdin.readline()
for i in range(count):
    if i == count // 2:
        sys.stdin.readline()  # half-way: until told to go on
    done = store.label(f"q{i // size % size}", f"d{i % size}", grade, annotator=name)
    print(done.id, flush=True)
"""


def writer(path, name, count=200, grade=2):
    """Another process that labels, and says the id of each decision once it is kept."""
    command = [sys.executable, "-c", textwrap.dedent(WRITER), str(path), name, str(count)]
    process = subprocess.Popen(
        [*command, str(grade)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "ready\n"
    return process


def go(process):
    process.stdin.write("\n")
    process.stdin.flush()


@pytest.fixture
def path(tmp_path):
    return tmp_path / "labels.jsonl"


@pytest.fixture
def labels(tiny_domain, path):
    return LabelStore(tiny_domain, path)


def lines(path):
    return path.read_bytes().split(b"\n")


# -- nothing acknowledged is lost --


def test_what_was_acknowledged_survives_a_kill_at_any_time(path, tiny_domain):
    kept = []
    for count in (1, 7, 30):
        process = writer(path, f"round{count}")
        go(process)
        kept += [process.stdout.readline().strip() for _ in range(count)]
        os.kill(process.pid, signal.SIGKILL)
        kept += process.stdout.read().split()  # acknowledged before the signal arrived
        process.wait()
    store = LabelStore(tiny_domain, path)
    ids = [decision.id for decision in store.decisions]
    assert set(kept) <= set(ids) and len(ids) == len(set(ids))
    assert len(kept) >= 38 and len(ids) - len(kept) <= 3  # at most the one in flight, each round


def test_two_processes_write_whole_lines(path, tiny_domain):
    processes = [writer(path, name) for name in ("ann", "bob")]
    for process in processes:
        go(process)
    ids = [[process.stdout.readline().strip() for _ in range(100)] for process in processes]
    for process in processes:  # the second halves, when both wrote one
        go(process)
    for process, said in zip(processes, ids, strict=True):
        said += process.communicate()[0].split()
    *rows, rest = lines(path)
    found = [json.loads(row) for row in rows]
    assert rest == b"" and len(found) == 400
    assert Counter(row["annotator"] for row in found) == {"ann": 200, "bob": 200}
    assert {row["id"] for row in found} == {*ids[0], *ids[1]}
    # they did write in turns, not one after the other
    assert len(list(itertools.groupby(row["annotator"] for row in found))) > 2
    assert LabelStore(tiny_domain, path).damaged == ()


def test_the_same_decisions_from_two_processes_at_once_are_kept_once(path):
    processes = [writer(path, "ann") for _ in range(2)]
    for process in processes:
        go(process)
    said = [process.communicate()[0].split() for process in processes]
    found = [json.loads(row)["id"] for row in lines(path)[:-1]]
    assert said[0] == said[1] == found and len(set(found)) == 200


def test_a_line_cut_off_at_any_byte_is_set_aside_and_stays(path, tiny_domain, labels):
    labels.label("q00", "eye0", 2, annotator="ann")
    labels.label("q01", "eye1", 0, annotator="ann")
    first, second, _ = lines(path)
    for cut in range(1, len(second), 7):
        path.write_bytes(first + b"\n" + second[:cut])
        store = LabelStore(tiny_domain, path)
        assert [d.query for d in store.decisions] == ["q00"]
        assert store.damaged == ((2, second[:cut].decode()),)
        assert "1 damaged line(s)" in repr(store)
        store.label("q02", "eye2", 1, annotator="ann")
        assert [d.query for d in LabelStore(tiny_domain, path).decisions] == ["q00", "q02"]
        assert lines(path)[1] == second[:cut] and len(store.damaged) == 1


def test_a_last_line_that_only_misses_its_newline_is_whole(path, tiny_domain, labels):
    labels.label("q00", "eye0", 2)
    path.write_bytes(path.read_bytes()[:-1])
    store = LabelStore(tiny_domain, path)
    assert len(store.decisions) == 1 and store.damaged == ()
    store.label("q01", "eye1", 0)
    store.label("q01", "eye2", 0)
    for reader in (store, LabelStore(tiny_domain, path)):
        assert len(reader.decisions) == 3 and reader.damaged == ()


GOOD = dict(query="q00", document="eye0", grade=1, annotator="ann", time="t", id="1")


@pytest.mark.parametrize(
    "line",
    [
        b"{",
        b"null",
        b"[]",
        b"\xff\xfe\x00",
        b"[" * 100_000,
        *(
            json.dumps(GOOD | change).encode()
            for change in (
                {"grade": 3},
                {"grade": True},
                {"grade": 1.0},
                {"grade": "2"},
                {"query": 7},
                {"annotator": ""},
                {"more": 1},
            )
        ),
        json.dumps({k: v for k, v in GOOD.items() if k != "document"}).encode(),
    ],
    ids=lambda line: line[:60].decode(errors="replace"),
)
def test_a_line_that_is_no_decision_is_counted_and_passed_over(path, labels, line):
    good = json.dumps(GOOD).encode()
    path.write_bytes(b"\xef\xbb\xbf" + good + b"\r\n\r\n" + line + b"\n" + good + b"\n")
    assert [d.id for d in labels.decisions] == ["1"]  # the same line twice is one decision
    assert [number for number, _ in labels.damaged] == [3]
    labels.label("q01", "eye1", 0)
    assert len(labels.decisions) == 2 and line in path.read_bytes()


def test_a_disk_that_fails_is_told_and_leaves_nothing_half_written(path, labels, monkeypatch):
    labels.label("q00", "eye0", 2)
    before = path.read_bytes()

    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(files.os, "fsync", full)
        with pytest.raises(EmbkitError, match="not kept.*No space left"):
            labels.label("q01", "eye1", 0)
    assert path.read_bytes() == before
    assert labels.label("q01", "eye1", 0).grade == 0
    assert len(labels.decisions) == 2


def test_every_decision_is_synced(labels, monkeypatch):
    synced = []
    monkeypatch.setattr(files.os, "fsync", lambda file: synced.append(os.fstat(file).st_size))
    labels.label("q00", "eye0", 2)
    labels.label("q00", "eye0", 1)
    assert synced[0] < synced[1] == labels.path.stat().st_size


def test_a_lock_that_is_never_let_go_is_an_error(path, labels, monkeypatch):
    monkeypatch.setattr(LabelStore, "lock_seconds", 0.05)
    with FileLock(f"{path}.lock"), pytest.raises(EmbkitError, match="not kept"):
        labels.label("q00", "eye0", 2)
    assert labels.label("q00", "eye0", 2).grade == 2


def test_a_folder_in_the_files_place_is_an_error(tmp_path, tiny_domain):
    with pytest.raises(EmbkitError, match="cannot be read"):
        LabelStore(tiny_domain, tmp_path).labels()


def test_a_file_that_was_replaced_is_read_anew(path, labels):
    labels.label("q00", "eye0", 2)
    labels.label("q01", "eye0", 2)
    path.write_text(json.dumps(GOOD) + "\n")
    assert labels.labels() == {"ann": {("q00", "eye0"): 1}}
    path.unlink()
    assert labels.labels() == {}


def test_the_default_file_is_named_after_the_domain(store, tiny_domain):
    LabelStore(tiny_domain).label("q00", "eye0", 2)
    assert (store / "labels" / "tiny.jsonl").is_file()


# -- what counts --


def test_the_latest_decision_counts_and_the_same_again_is_one(path, labels):
    first = labels.label("q00", "eye0", 2, annotator="ann")
    assert labels.label("q00", "eye0", 2, annotator=" ann ") == first
    assert len(labels.decisions) == 1
    labels.label("q00", "eye0", 0, annotator="bob")
    labels.label("q00", "eye0", 1, annotator="ann")
    labels.label("q00", "eye0", 2, annotator="ann")
    assert [d.grade for d in labels.decisions] == [2, 0, 1, 2]
    assert list(labels.labels()) == ["bob", "ann"]  # by the decisions that count, oldest first
    assert labels.labels() == {"ann": {("q00", "eye0"): 2}, "bob": {("q00", "eye0"): 0}}


def test_the_same_decision_from_two_stores_on_one_file_is_one(path, tiny_domain, labels):
    other = LabelStore(tiny_domain, path)
    first = labels.label("q00", "eye0", 2)
    assert other.label("q00", "eye0", 2) == first
    other.label("q00", "eye0", 0)
    assert labels.labels() == {"me": {("q00", "eye0"): 0}}
    assert len(lines(path)) == 2 + 1


def test_a_grade_can_be_taken_back(labels):
    labels.label("q00", "eye0", 2)
    taken = labels.label("q00", "eye0", None)
    assert labels.label("q00", "eye0", None) == taken
    assert labels.labels() == {} and labels.qrels() == {}
    assert [d.grade for d in labels.decisions] == [2, None]
    labels.label("q00", "eye0", 2)
    assert labels.qrels() == {"q00": {"eye0": 2}}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("q00", "eye0", 3), "grade=3"),
        (("q00", "eye0", True), "grade=True"),
        (("q00", "eye0", "2"), "grade='2'"),
        (("q000", "eye0", 2), "unknown query id 'q000'.*did you mean 'q00'"),
        (("q00", "eyes0", 2), "unknown document id 'eyes0'.*did you mean 'eye0'"),
        ((["q00"], "eye0", 2), "unknown query id"),
        (("q00", "eye0", 2, ""), "annotator=''"),
        (("q00", "eye0", 2, "  "), "annotator='  '"),
        (("q00", "eye0", 2, None), "annotator=None"),
        (("q00", "eye0", 2, "a\nb"), "on one line"),
        (("q00", "eye0", 2, "majority"), "other than majority"),
        (("q00", "eye0", None), "has not judged"),
    ],
)
def test_bad_input_is_one_clear_error_and_writes_nothing(path, labels, arguments, words):
    with pytest.raises(EmbkitError, match=f"(?s){words}"):
        labels.label(*arguments)
    assert not path.exists()


def test_qrels_by_majority_by_the_strictest_and_by_one_person(labels):
    given = {"eye0": (2, 2, 0), "eye1": (2, 1, 0), "eye2": (1, 1, 2), "eye3": (2, 0), "eye4": (2,)}
    for document, grades in given.items():
        for name, grade in zip(("ann", "bob", "cat"), grades, strict=False):
            labels.label("q00", document, grade, annotator=name)
    assert labels.qrels() == {"q00": {"eye0": 2, "eye1": 0, "eye2": 1, "eye3": 0, "eye4": 2}}
    assert labels.qrels("strictest") == {
        "q00": {"eye0": 0, "eye1": 0, "eye2": 1, "eye3": 0, "eye4": 2}
    }
    assert labels.qrels("cat") == {"q00": {"eye0": 0, "eye1": 0, "eye2": 2}}
    with pytest.raises(EmbkitError, match="did you mean 'bob'"):
        labels.qrels("bobby")


def test_labels_on_what_the_domain_does_not_have_are_kept_apart(path, tiny_domain, labels):
    labels.label("q00", "eye0", 2)
    smaller = dataclasses.replace(
        tiny_domain,
        corpus={"lung0": "x"},
        queries={"q00": "y"},
        qrels={"train": {}, "dev": {}},
        test_splits=(),
        held_out=None,
    )
    store = LabelStore(smaller, path)
    assert store.labels() == {} and len(store.decisions) == 1
    assert "1 label(s) on ids or texts that 'tiny' lacks" in repr(store)


def test_a_label_holds_for_the_texts_that_were_judged(path, tiny_domain, labels):
    labels.label("q00", "eye0", 2)
    labels.label("q00", "eye1", 0)
    corpus = {**tiny_domain.corpus, "eye0": "a page that was rewritten"}
    later = LabelStore(dataclasses.replace(tiny_domain, corpus=corpus), path)
    assert later.labels() == {"me": {("q00", "eye1"): 0}}
    assert "1 label(s) on ids or texts that 'tiny' lacks" in repr(later)
    later.label("q00", "eye0", 2)  # the same grade of another text is another decision
    assert len(later.decisions) == 3 and later.labels()["me"]["q00", "eye0"] == 2
    older = json.loads(lines(path)[0])
    del older["texts"]  # a line from before texts were noted
    path.write_text(json.dumps(older) + "\n")
    assert LabelStore(later.domain, path).labels() == {"me": {("q00", "eye0"): 2}}


def test_names_and_texts_are_data_never_markup(labels):
    labels.label("q00", "eye0", 2, annotator="<b>&'\"")
    shown = labels._repr_html_()
    assert "&lt;b&gt;&amp;" in shown and "<b>" not in shown


# -- what to judge --


def letters(texts):
    """A stand-in for a model: how often each letter occurs."""
    return np.array(
        [[text.lower().count(c) + 0.01 for c in "abcdefghijklmnopst"] for text in texts]
    )


def test_candidates_are_the_union_of_what_is_found_and_what_is_known(tiny_domain):
    tasks = candidates(tiny_domain, "known", {"bm25": "bm25", "model": letters}, k=3)
    rankings = {
        name: rank(model, tiny_domain, "known", k=3)
        for name, model in (("bm25", "bm25"), ("model", letters))
    }
    for query, judged in tiny_domain.qrels["known"].items():
        by_words = {d for d, score in rankings["bm25"][query].items() if score > 0}
        by_model, right = set(rankings["model"][query]), {d for d, g in judged.items() if g > 0}
        mine = {t.document: set(t.found_by) for t in tasks if t.query == query}
        assert set(mine) == by_words | by_model | right
        assert {d for d, names in mine.items() if "bm25" in names} == by_words
        assert {d for d, names in mine.items() if "model" in names} == by_model
        assert {d for d, names in mine.items() if "known" in names} == right
    assert len({(t.query, t.document) for t in tasks}) == len(tasks)
    assert list(dict.fromkeys(t.query for t in tasks)) == list(tiny_domain.qrels["known"])
    assert tasks[0].query_text == tiny_domain.queries[tasks[0].query]
    assert tasks[0].document_text == tiny_domain.corpus[tasks[0].document]
    assert "found_by" not in repr(tasks[0])


def test_the_order_says_nothing_about_who_found_what(tiny_domain):
    def order(models, **options):
        tasks = candidates(tiny_domain, ["q00", "q05"], models, k=40, **options)
        return [(t.query, t.document) for t in tasks]

    def backwards(texts):
        return -letters(texts)

    one = order({"model": letters})
    assert len(one) == 80
    assert order({"model": backwards}) == one  # ranks turned round, the same documents
    assert order({"bm25": "bm25", "model": letters}) == one
    assert order({"model": letters}, seed=1) != one
    assert [d for q, d in one if q == "q00"] != [d for q, d in one if q == "q05"]


def test_a_draw_of_queries_is_seeded(tiny_domain):
    def drawn(seed, n=4):
        tasks = candidates(tiny_domain, "train", {"bm25": "bm25"}, n=n, seed=seed)
        return {t.query for t in tasks}

    assert len(drawn(0)) == 4 and drawn(0) == drawn(0) != drawn(1)
    assert drawn(0, n=99) == set(tiny_domain.qrels["train"])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"queries": "trian"}, "did you mean 'train'"),
        ({"queries": ["q00", "q9999"]}, "unknown query id 'q9999'"),
        ({"queries": []}, "1 or more queries"),
        ({"models": {}}, "systems by name"),
        ({"models": "bm25"}, "systems by name"),
        ({"k": 0}, "k and n of 1 or more"),
        ({"n": 0}, "k and n of 1 or more"),
    ],
)
def test_candidates_of_bad_input(tiny_domain, change, words):
    with pytest.raises(EmbkitError, match=words):
        candidates(**{"domain": tiny_domain, "queries": "train", "models": {"a": letters}} | change)


# -- agreement --


def kappa(first, second, distance=NOMINAL):
    """Of two lists of grades."""
    counts = np.zeros((3, 3))
    np.add.at(counts, (np.array(first, int), np.array(second, int)), 1)
    return float(kappas(counts, distance))


def test_kappa_worked_by_hand():
    # 10 pairs, 8 the same. Grades 2, 1, 0 given by the first 5, 3, 2 times, by the second 4, 3, 3.
    first = [2, 2, 2, 2, 2, 1, 1, 1, 0, 0]
    second = [2, 2, 2, 2, 1, 1, 1, 0, 0, 0]
    assert kappa(first, second) == pytest.approx((0.8 - 0.35) / (1 - 0.35))
    # Weighted: apart by 1 twice; by chance 20 + 9 + 9 + 6 pairs of 100 by 1, 15 + 8 by 2.
    by_chance = (5 * 3 + 3 * 4 + 3 * 3 + 2 * 3 + 2 * (5 * 3 + 2 * 4)) / 100
    assert kappa(first, second, LINEAR) == pytest.approx(1 - 0.2 / by_chance)


def test_kappa_is_that_of_scikit_learn():
    draw = random.Random(0)
    for _ in range(50):
        n = draw.randint(2, 30)
        first = [draw.choice((0, 1, 2)) for _ in range(n)]
        second = [g if draw.random() < 0.6 else draw.choice((0, 1, 2)) for g in first]
        if len({*first, *second}) == 1:
            continue
        for weights, distance in ((None, NOMINAL), ("linear", LINEAR)):
            theirs = cohen_kappa_score(first, second, labels=[0, 1, 2], weights=weights)
            assert kappa(first, second, distance) == pytest.approx(theirs)


@pytest.mark.filterwarnings("error")
def test_kappa_at_its_ends():
    assert kappa([2, 0, 1], [2, 0, 1]) == 1
    assert kappa([0, 2], [2, 0]) == -1
    assert kappa([2, 2, 0, 0], [2, 0, 2, 0]) == 0
    assert math.isnan(kappa([2, 2], [2, 2])) and math.isnan(kappa([], []))
    assert kappa([2, 2], [0, 0]) == 0  # one grade each, not the same one


def judge(store, name, grades):
    """Grades of the documents ``eye0``… and ``ear0``… for two queries, in turn."""
    for i, grade in enumerate(grades):
        if grade is not None:
            store.label(f"q0{i % 2}", f"{('eye', 'ear')[i % 2]}{i // 2}", grade, annotator=name)


def test_agreement_of_each_two_annotators(tiny_domain, labels):
    ann, bob = [2, 2, 1, 0, 0, 2, 0], [2, 0, 1, 0, 1, None, 0]
    judge(labels, "ann", ann)
    judge(labels, "bob", bob)
    judge(labels, "cat", [2])
    found = annotator_agreement(labels)
    assert [(p.first, p.second, p.items) for p in found.pairs] == [
        ("ann", "bob", 6),
        ("ann", "cat", 1),
        ("bob", "cat", 1),
    ]
    pair = found.pairs[0]
    shared = [(a, b) for a, b in zip(ann, bob, strict=True) if b is not None]
    assert pair.raw == pytest.approx(4 / 6) and pair.queries == 2
    assert pair.kappa == pytest.approx(cohen_kappa_score(*zip(*shared, strict=True)))
    assert pair.weighted_kappa == pytest.approx(
        cohen_kappa_score(*zip(*shared, strict=True), weights="linear")
    )
    apart = [(d.query, d.document, d.grades) for d in found.disagreements]
    assert apart == [  # the widest first
        ("q01", "ear0", {"ann": 2, "bob": 0}),
        ("q00", "eye2", {"ann": 0, "bob": 1}),
    ]
    first = found.disagreements[0]
    assert first.query_text == tiny_domain.queries["q01"]
    assert first.document_text == tiny_domain.corpus["ear0"]


def test_an_undefined_kappa_is_said_so(labels):
    judge(labels, "ann", [2, 2, 2])
    judge(labels, "bob", [2, 2, 2])
    found = annotator_agreement(labels)
    assert math.isnan(found.pairs[0].kappa) and math.isnan(found.pairs[0].weighted_kappa)
    assert math.isnan(found.pairs[0].interval[0]) and found.pairs[0].raw == 1
    assert "undefined (one grade only)" in found._repr_html_() and "undefined" in repr(found)


def test_the_interval_of_kappa_resamples_queries(tiny_domain, path):
    draw, queries = random.Random(3), list(tiny_domain.queries)[:25]
    store, grades = LabelStore(tiny_domain, path), {}
    for query in queries:
        for document in ("eye0", "eye1", "eye2"):
            first = draw.choice((0, 1, 2))
            grades[query, document] = (first, first if draw.random() < 0.7 else 0)
    rows = [
        json.dumps(GOOD | dict(query=q, document=d, grade=g, annotator=name, id=f"{q}{d}{name}"))
        for (q, d), pair in grades.items()
        for name, g in zip(("ann", "bob"), pair, strict=True)
    ]
    path.write_text("\n".join(rows) + "\n")
    low, high = annotator_agreement(store).pairs[0].interval
    resampled = []
    for _ in range(1000):
        chosen = draw.choices(queries, k=len(queries))
        pairs = [grades[q, d] for q in chosen for d in ("eye0", "eye1", "eye2")]
        resampled.append(kappa(*zip(*pairs, strict=True)))
    assert (low, high) == pytest.approx(np.percentile(resampled, [2.5, 97.5]), abs=0.03)


def test_five_pairs_that_agree_prove_little(tiny_domain, path):
    """No disagreement in five queries: up to 45% could disagree, by the rule of three."""
    store, grades = LabelStore(tiny_domain, path), (2, 0, 2, 0, 2)
    rows = [
        json.dumps(GOOD | dict(query=q, document="eye0", grade=g, annotator=name, id=f"{q}{name}"))
        for q, g in zip(tiny_domain.queries, grades, strict=False)
        for name in ("ann", "bob")
    ]
    path.write_text("\n".join(rows) + "\n")
    found = annotator_agreement(store).pairs[0]
    chance = 0.6**2 + 0.4**2
    assert found.kappa == found.interval[1] == 1
    assert found.interval[0] == pytest.approx((0.05**0.2 - chance) / (1 - chance))


def test_one_query_gives_no_interval_and_nobody_in_common_no_agreement(labels):
    labels.label("q00", "eye0", 2, annotator="ann")
    labels.label("q00", "eye1", 0, annotator="bob")
    with pytest.raises(EmbkitError, match="at least two annotators"):
        annotator_agreement(labels)
    for document, grade in (("eye0", 2), ("eye1", 0)):
        labels.label("q00", document, grade, annotator="bob")
        labels.label("q00", document, grade, annotator="ann")
    found = annotator_agreement(labels).pairs[0]
    assert found.kappa == 1 and math.isnan(found.interval[0])


def test_disagreements_show_texts_as_text(tiny_domain, path):
    marked = dataclasses.replace(
        tiny_domain, corpus={**tiny_domain.corpus, "eye0": "<script>alert(1)</script>"}
    )
    store = LabelStore(marked, path)
    judge(store, "ann", [2])
    judge(store, "<i>bob", [0])
    shown = annotator_agreement(store)._repr_html_()
    assert "&lt;script&gt;" in shown and "<script" not in shown and "<i>" not in shown


# -- labels out --


LABELS = {
    "q00": {"eye0": 2, "eye1": 0, "eye2": 0, "eye3": 1},
    "q01": {"eye1": 2, "ear1": 2, "eye0": 0},
    "q03": {"eye4": 0},  # a query of train with nothing relevant found
}


def test_labels_out_checks_ids_and_grades(tiny_domain):
    for labels, words in (
        ({"q77": {"eye0": 2}}, "unknown query id"),
        ({"q00": {"eye9": 2}}, "unknown document id"),
        ({"q00": {"eye0": 3}}, "grade=3"),
    ):
        with pytest.raises(EmbkitError, match=words):
            with_labels(tiny_domain, labels)


def test_a_domain_with_labels(tiny_domain):
    before = tiny_domain.hash
    found = with_labels(tiny_domain, {q: LABELS[q] for q in ("q00", "q01")})
    train = found.qrels["train"]
    assert train["q00"] == {"eye0": 2, "eye1": 0, "eye2": 0}
    assert train["q01"] == {"eye1": 2, "ear1": 2, "eye0": 0}
    assert found.negatives["q00"] == ("eye1", "eye2") and found.negatives["q01"] == ("eye0",)
    assert found.hash != before == tiny_domain.hash and tiny_domain.qrels["train"]["q00"] == {
        "eye0": 1
    }
    assert len(found.pairs()) == len(tiny_domain.pairs()) + 1
    assert "6 pairs judged" in found.about["labels of train"]


def test_a_domain_that_knows_no_grade_above_1_keeps_its_scale(tiny_domain):
    plain = {
        split: {q: {d: min(g, 1) for d, g in judged.items()} for q, judged in qrels.items()}
        for split, qrels in tiny_domain.qrels.items()
    }
    found = with_labels(dataclasses.replace(tiny_domain, qrels=plain), {"q00": {"ear0": 2}})
    assert found.qrels["train"]["q00"] == {"eye0": 1, "ear0": 1}


def test_a_query_of_no_split_joins_one_when_it_has_a_positive(tiny_domain):
    asked = dataclasses.replace(
        tiny_domain, queries={**tiny_domain.queries, "new": "my eye hurts", "other": "so what"}
    )
    found = with_labels(asked, {"new": {"eye4": 2, "ear4": 0}, "other": {"eye0": 0}}, "dev")
    assert found.qrels["dev"]["new"] == {"eye4": 2, "ear4": 0}
    assert found.negatives["new"] == ("ear4",)
    assert "other" not in found.qrels["dev"] and "other" not in found.negatives


def test_a_negative_found_relevant_is_no_negative_any_more(tiny_domain):
    (query, wrong), *_ = tiny_domain.negatives.items()
    found = with_labels(tiny_domain, {query: {wrong[0]: 2, "eye0": 0}})
    assert found.negatives[query] == (*wrong[1:], "eye0")


def test_the_domain_still_refuses_leaks_and_empty_queries(tiny_domain):
    tested = next(iter(tiny_domain.qrels["known"]))
    with pytest.raises(EmbkitError, match="leak"):
        with_labels(tiny_domain, {tested: {"eye0": 2}})
    with pytest.raises(EmbkitError, match="held out"):
        with_labels(tiny_domain, {"q00": {"brain0": 2}})
    with pytest.raises(EmbkitError, match="no right document"):
        with_labels(tiny_domain, {"q00": {"eye0": 0}})
    with pytest.raises(EmbkitError, match="did you mean 'train'"):
        with_labels(tiny_domain, LABELS, "trian")


def test_from_the_queue_to_a_domain(tiny_domain, path):
    """All of it once: candidates, labels by one who knows, a domain with new hard negatives."""
    store = LabelStore(tiny_domain, path)
    for task in candidates(tiny_domain, "train", {"model": letters}, k=3):
        right = tiny_domain.qrels["train"][task.query]
        store.label(task.query, task.document, 2 if right.get(task.document) else 0)
    found = with_labels(tiny_domain, store.qrels())
    assert isinstance(found, Domain) and len(found.pairs()) == len(tiny_domain.pairs())
    for query, wrong in found.negatives.items():
        assert not set(wrong) & {d for d, g in found.qrels["train"][query].items() if g > 0}
    assert len(found.negatives) == len(tiny_domain.qrels["train"])


# -- several people's files --


def judged(domain, file, grades, annotator="me"):
    """A file in which one annotator gave grades to the first pairs of query and document."""
    store = LabelStore(domain, file)
    for query, document, grade in zip(domain.queries, domain.corpus, grades, strict=False):
        store.label(query, document, grade, annotator)
    return file


def test_files_of_ten_people_with_one_name_are_ten_annotators(tiny_domain, tmp_path):
    files = [
        judged(tiny_domain, tmp_path / f"p{n}.jsonl", [2, n % 3, int(n == 0)]) for n in range(10)
    ]
    store = merged(tiny_domain, files, tmp_path / "all.jsonl")
    assert sorted(store.labels()) == [f"me (p{n})" for n in range(10)]
    (q0, q1, q2), (d0, d1, d2) = [*tiny_domain.queries][:3], [*tiny_domain.corpus][:3]
    # the second pair: 0 four times, 1 and 2 three times each; the third: 1 once, else 0
    assert store.qrels() == {q0: {d0: 2}, q1: {d1: 0}, q2: {d2: 0}}
    found = annotator_agreement(store)
    assert len(found.pairs) == 45
    assert [(d.query, max(d.grades.values())) for d in found.disagreements] == [(q1, 2), (q2, 1)]


def test_a_copy_of_a_file_counts_once_and_its_owner_is_one_person(tiny_domain, tmp_path):
    first = judged(tiny_domain, tmp_path / "anna.jsonl", [2, 1], "anna")
    later = tmp_path / "anna-home.jsonl"
    later.write_text(first.read_text())
    judged(tiny_domain, later, [2, 1, 0], "anna")
    other = judged(tiny_domain, tmp_path / "ben.jsonl", [0], "ben")
    store = merged(tiny_domain, [first, later, other], tmp_path / "all.jsonl")
    assert {name: len(given) for name, given in store.labels().items()} == {"anna": 3, "ben": 1}
    again = merged(tiny_domain, [tmp_path / "all.jsonl", other], tmp_path / "twice.jsonl")
    assert again.labels() == store.labels(), "what is merged can be merged again"


def test_a_file_that_was_cut_off_gives_what_is_whole_and_is_told(tiny_domain, tmp_path):
    cut = judged(tiny_domain, tmp_path / "anna.jsonl", [2, 1, 0], "anna")
    cut.write_bytes(cut.read_bytes()[:-20])
    other = judged(tiny_domain, tmp_path / "ben.jsonl", [2, 1, 0], "ben")
    store = merged(tiny_domain, [cut, other], tmp_path / "all.jsonl")
    assert {name: len(given) for name, given in store.labels().items()} == {"anna": 2, "ben": 3}
    assert "1 damaged line(s), kept" in repr(store)


def test_files_of_one_name_in_two_folders_are_told_apart(tiny_domain, tmp_path):
    files = [tmp_path / who / "tiny.jsonl" for who in ("anna", "ben")]
    for file in files:
        judged(tiny_domain, file, [2])
    store = merged(tiny_domain, files, tmp_path / "all.jsonl")
    assert sorted(store.labels()) == ["me (anna/tiny)", "me (ben/tiny)"]


def test_a_file_that_is_missing_and_one_that_would_be_written_over_are_refused(
    tiny_domain, tmp_path
):
    file = judged(tiny_domain, tmp_path / "anna.jsonl", [2])
    before = file.read_bytes()
    for given, to in (([file, tmp_path / "none.jsonl"], tmp_path / "all.jsonl"), ([file], file)):
        with pytest.raises(EmbkitError, match="cannot be merged"):
            merged(tiny_domain, given, to)
    assert file.read_bytes() == before and not (tmp_path / "all.jsonl").exists()
