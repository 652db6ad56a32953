"""Data of your own: what is kept, what is put aside and why, what is refused; how it is split."""

import codecs
import gzip
import hashlib
import json
import random
import re
import tracemalloc
from collections import defaultdict
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset, DatasetDict

from embkit.data import LoadReport, load_domain
from embkit.data.domain import normalise
from embkit.data.readers.asking import grade_of
from embkit.data.splits import CAPS, SHARES, divide
from embkit.errors import EmbkitError

N = 20  # documents and queries of the small folder; lines 1 to 20 of its files
SCRIPT = "<script>alert('x')</script>"


def jsonl(*rows):
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode()


def judged(*rows, header=True):
    lines = ["query-id\tcorpus-id\tscore"] * header + ["\t".join(map(str, row)) for row in rows]
    return ("\n".join(lines) + "\n").encode()


def small():
    """A folder without fault: query number i asks for document number i."""
    return {
        "corpus.jsonl": jsonl(
            *({"_id": f"d{i}", "title": f"Tool {i}", "text": f"turns bolt {i}"} for i in range(N))
        ),
        "queries.jsonl": jsonl(
            *({"_id": f"q{i}", "text": f"which tool for bolt {i}"} for i in range(N))
        ),
        "qrels/train.tsv": judged(*((f"q{i}", f"d{i}", 1) for i in range(12))),
        "qrels/dev.tsv": judged(*((f"q{i}", f"d{i}", 1) for i in range(12, 15))),
        "qrels/test.tsv": judged(*((f"q{i}", f"d{i}", 1) for i in range(15, N))),
    }


def written(folder, files):
    for name, data in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder


def put_aside(domain):
    """The records of the domain's quarantine file."""
    path = domain.report.quarantine
    return [json.loads(x) for x in path.read_text(encoding="utf-8").splitlines()] if path else []


def split_of(domain):
    return {query: split for split, qrels in domain.qrels.items() for query in qrels}


def positives(domain, split):
    """The texts, case and spaces aside, of a split's right documents."""
    return {
        normalise(domain.corpus[d])
        for judged in domain.qrels[split].values()
        for d, grade in judged.items()
        if grade > 0
    }


@dataclass
class Case:
    """What is appended to the small folder (or put in place of its files), and what comes of it.

    ``aside`` lists (cause, file, line) of every row that must be put aside, and no other;
    ``documents`` and ``queries`` are texts that must be there.
    """

    name: str
    append: dict = field(default_factory=dict)
    instead: dict = field(default_factory=dict)
    aside: list = field(default_factory=list)
    documents: dict = field(default_factory=dict)
    queries: dict = field(default_factory=dict)
    grades: dict = field(default_factory=dict)  # (split, query, document) -> grade
    note: str = ""
    refused: str = ""


C, Q, TRAIN, TEST = "corpus.jsonl", "queries.jsonl", "qrels/train.tsv", "qrels/test.tsv"
NEW = {"_id": "new", "title": "", "text": "one more tool"}
LATIN = json.dumps({"_id": "new", "text": "café"}, ensure_ascii=False).encode("latin-1") + b"\n"
BIG = "long " * 2_000_000  # 10 MB

FOLDERS = [
    Case("nothing is wrong"),
    Case("cut-off JSON", {C: b'{"_id": "new", "te\n'}, aside=[("malformed JSON", C, 21)]),
    Case("no JSON at all", {Q: b"which tool\n"}, aside=[("malformed JSON", Q, 21)]),
    Case("nested too deep", {C: b"[" * 100_000 + b"\n"}, aside=[("malformed JSON", C, 21)]),
    Case("JSON list", {C: b'["new", "text"]\n'}, aside=[("JSON that is no object", C, 21)]),
    Case("JSON null", {C: b"null\n"}, aside=[("JSON that is no object", C, 21)]),
    Case("blank lines", {C: b"\n   \n" + jsonl(NEW)}, documents={"new": "one more tool"}),
    Case("BOM", instead={C: codecs.BOM_UTF8 + small()[C]}, documents={"d0": "Tool 0 turns bolt 0"}),
    Case("BOM amid", {C: codecs.BOM_UTF8 + jsonl(NEW)}, documents={"new": "one more tool"}),
    Case("CRLF", instead={f: d.replace(b"\n", b"\r\n") for f, d in small().items()}),
    Case("lone CR", instead={f: d.replace(b"\n", b"\r") for f, d in small().items()}),
    Case("UTF-16", instead={f: d.decode().encode("utf-16") for f, d in small().items()}),
    Case("UTF-16, no BOM", instead={C: small()[C].decode().encode("utf-16-be")}),
    Case(
        "one Latin-1 line among UTF-8",
        {C: LATIN + jsonl({"_id": "new2", "text": "café"})},
        aside=[("not UTF-8 (another encoding?)", C, 21)],
        documents={"new2": "café"},
    ),
    Case("NUL byte", {C: b'{"_id": "n\0w", "text": "x"}\n'}, aside=[("NUL byte", C, 21)]),
    Case("NUL escaped", {C: jsonl({"_id": "n", "text": "a\0b"})}, aside=[("NUL byte", C, 21)]),
    Case(
        "half an emoji",
        {C: b'{"_id": "new", "text": "\\ud83d"}\n'},
        aside=[("text that is no Unicode (a lone surrogate)", C, 21)],
    ),
    Case("empty text", {C: jsonl({"_id": "n", "text": ""})}, aside=[("empty text", C, 21)]),
    Case("spaces only", {Q: jsonl({"_id": "n", "text": " \t\n"})}, aside=[("empty text", Q, 21)]),
    Case("no text field", {C: jsonl({"_id": "n"})}, aside=[("empty text", C, 21)]),
    Case("null text", {Q: jsonl({"_id": "n", "text": None})}, aside=[("empty text", Q, 21)]),
    Case("title only", {C: jsonl({"_id": "n", "title": "T", "text": ""})}, documents={"n": "T"}),
    Case("text only", {C: jsonl({"_id": "n", "text": "x"})}, documents={"n": "x"}),
    Case("number", {C: jsonl({"_id": "n", "text": 7})}, aside=[("text that is no text", C, 21)]),
    Case("missing _id", {C: jsonl({"text": "x"})}, aside=[("missing _id", C, 21)]),
    Case("empty _id", {C: jsonl({"_id": " ", "text": "x"})}, aside=[("missing _id", C, 21)]),
    Case(
        "_id that is a list",
        {C: jsonl({"_id": ["a"], "text": "x"})},
        aside=[("_id that is neither text nor a whole number", C, 21)],
    ),
    Case(
        "whole numbers as ids",
        {C: jsonl({"_id": 7, "text": "x"}), TRAIN: b"q0\t7\t1\n"},
        documents={"7": "x"},
        grades={("train", "q0", "7"): 1},
    ),
    Case(
        "document twice",
        {C: jsonl({"_id": "d0", "title": "Tool 0", "text": "turns bolt 0"})},
        note="1 rows repeat",
    ),
    Case(
        "id of another document",
        {C: jsonl({"_id": "d0", "text": "another"})},
        aside=[("id that another text has", C, 21)],
        documents={"d0": "Tool 0 turns bolt 0"},
    ),
    Case(
        "query twice, once with another text",
        {Q: jsonl({"_id": "q0", "text": "which tool for bolt 0"}, {"_id": "q0", "text": "other"})},
        aside=[("id that another text has", Q, 22)],
        queries={"q0": "which tool for bolt 0"},
    ),
    Case("10 MB on a line", {C: jsonl({"_id": "n", "text": BIG})}, note="1 documents are longer"),
    Case(
        "judgement of a document that is not there",
        {TRAIN: b"q0\tmissing\t1\n"},
        aside=[("document id that corpus.jsonl does not have", TRAIN, 14)],
    ),
    Case(
        "judgement of a query that is not there",
        {TEST: b"missing\td0\t1\n"},
        aside=[("query id that queries.jsonl does not have", TEST, 7)],
    ),
    Case(
        "score 0",
        {TRAIN: b"q0\td5\t0\n"},
        grades={("train", "q0", "d5"): 0, ("train", "q0", "d0"): 1},
    ),
    Case("score 3", {TRAIN: b"q0\td5\t3\n"}, grades={("train", "q0", "d5"): 3}),
    Case("negative score", {TRAIN: b"q0\td5\t-1\n"}, aside=[("negative score", TRAIN, 14)]),
    Case(
        "score in words", {TRAIN: b"q0\td5\tyes\n"}, aside=[("score that is no number", TRAIN, 14)]
    ),
    Case("score nan", {TRAIN: b"q0\td5\tnan\n"}, aside=[("score that is no number", TRAIN, 14)]),
    Case("score 2.0", {TRAIN: b"q0\td5\t2.0\n"}, grades={("train", "q0", "d5"): 2}),
    Case(
        "score 0.5", {TRAIN: b"q0\td5\t0.5\n"}, aside=[("score that is no whole number", TRAIN, 14)]
    ),
    Case("no score", {TRAIN: b"q0\td5\n"}, aside=[("too few columns", TRAIN, 14)]),
    Case("judged twice alike", {TRAIN: b"q0\td0\t1\n"}, grades={("train", "q0", "d0"): 1}),
    Case(
        "judged twice, not alike",
        {TRAIN: b"q0\td0\t2\n"},
        aside=[("pair with two different scores", TRAIN, 14)],
        grades={("train", "q0", "d0"): 1},
    ),
    Case(
        "no header",
        instead={TRAIN: judged(*((f"q{i}", f"d{i}", 1) for i in range(12)), header=False)},
        grades={("train", "q0", "d0"): 1},
    ),
    Case(
        "a header of another order and one column more",
        instead={TRAIN: b"score\tcorpus-id\twho\tquery-id\n2\td0\tAnn\tq0\n1\td1\tBob\tq1\n"},
        grades={("train", "q0", "d0"): 2, ("train", "q1", "d1"): 1},
        aside=[("query without a right document", Q, i + 1) for i in range(2, 12)],
    ),
    Case(
        "TREC's four columns",
        instead={TRAIN: b"".join(b"q%d 0 d%d 1\n" % (i, i) for i in range(12))},
        grades={("train", "q0", "d0"): 1},
    ),
    Case(
        "a query that nothing judges",
        {Q: jsonl({"_id": "n", "text": "who asks"})},
        aside=[("query without a right document", Q, 21)],
    ),
    Case(
        "a query with zeros only",
        {Q: jsonl({"_id": "n", "text": "who asks"}), TRAIN: b"n\td1\t0\n"},
        aside=[("query without a right document", Q, 21)],
    ),
    Case(
        "a test question asked in training too",
        {Q: jsonl({"_id": "n", "text": "Which  TOOL for bolt 15"}), TRAIN: b"n\td3\t1\n"},
        aside=[("query text that another split asks too", Q, 21)],
        grades={("test", "q15", "d15"): 1},
    ),
    Case(
        "a test query in train.tsv too",
        {TRAIN: b"q15\td15\t1\n"},
        aside=[("query text that another split asks too", Q, 16)],
        grades={("test", "q15", "d15"): 1},
    ),
    Case(
        "a question twice in a split",
        {Q: jsonl({"_id": "n", "text": "which tool for BOLT 15"}), TEST: b"n\td3\t1\n"},
        grades={("test", "q15", "d15"): 1, ("test", "q15", "d3"): 1},
        note="1 queries that ask the same",
    ),
    Case(
        "right to left, emoji, a script",
        {C: jsonl({"_id": "r", "text": "שלום עולם"}, {"_id": "e", "text": "👩‍🔧 " + SCRIPT})},
        documents={"r": "שלום עולם", "e": "👩‍🔧 " + SCRIPT},
    ),
    Case(
        "line separators of Unicode are no line ends",
        {C: jsonl({"_id": "n", "text": "one\u2028two\x85three"})},
        documents={"n": "one\u2028two\x85three"},
    ),
    Case(
        "columns swapped",
        instead={
            C: jsonl(*({"_id": f"d{i}", "text": f"bolt {i}"} for i in range(N))),
            Q: jsonl(*({"_id": f"q{i}", "text": f"a long text {i} " * 9} for i in range(N))),
        },
        note="are the columns swapped",
    ),
    Case(
        "ids of qrels swapped",
        instead={f"qrels/{s}.tsv": b"d1\tq1\t1\nd2\tq2\t1\n" for s in ("train", "dev", "test")},
        refused="the ids under query-id are those of documents.*swap",
    ),
    Case("gz", instead={C: None, "corpus.jsonl.gz": gzip.compress(small()[C])}),
    Case(
        "gz cut off",
        instead={C: None, "corpus.jsonl.gz": gzip.compress(small()[C] * 9)[:-9]},
        aside=[("compressed file damaged or cut off from here on", "corpus.jsonl.gz", None)],
    ),
    Case("empty corpus", instead={C: b""}, refused="nothing usable"),
    Case("no corpus", instead={C: None}, refused=r"holds no corpus\.jsonl"),
    Case("no queries", instead={Q: None}, refused=r"holds no queries\.jsonl"),
    Case(
        "no qrels",
        instead={f"qrels/{s}.tsv": None for s in ("train", "dev", "test")},
        refused=r"holds no qrels/\*\.tsv",
    ),
    Case(
        "no id in common",
        instead={C: jsonl({"_id": "x", "text": "y"})},
        refused="nothing usable.*20 × document id that corpus.jsonl does not have",
    ),
    Case("no domain", instead={f: None for f in small()} | {"a.txt": b"x"}, refused="is no domain"),
    Case("empty folder", instead={f: None for f in small()}, refused="it holds nothing"),
]


@pytest.mark.parametrize("case", FOLDERS, ids=lambda case: case.name)
def test_a_folder_with(case, tmp_path):
    files = small() | case.instead
    for name, data in case.append.items():
        files[name] += data
    folder = written(tmp_path / "mine", {n: d for n, d in files.items() if d is not None})
    folder.mkdir(exist_ok=True)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    if case.refused:
        with pytest.raises(EmbkitError, match=f"(?s){case.refused}"):
            load_domain(folder, profile="workshop")
    else:
        check(load_domain(folder, profile="workshop"), case)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def check(domain, case):
    records = put_aside(domain)
    found = [(r["cause"], r["file"], r["line"] if case.aside[0][2] else None) for r in records]
    assert sorted(found) == sorted(case.aside)
    assert all(r["reason"].startswith(r["cause"]) and len(r["raw"]) <= 2000 for r in records)
    assert domain.report.quarantined == {
        cause: sum(r["cause"] == cause for r in records) for cause in {c for c, _, _ in case.aside}
    }
    assert case.documents.items() <= dict(domain.corpus).items()
    assert case.queries.items() <= dict(domain.queries).items()
    for (split, query, document), grade in case.grades.items():
        assert domain.qrels[split][query][document] == grade
    assert case.note in " ".join(repr(domain.report).split())
    assert domain.name == "mine" and domain.test_splits == ("test",)
    assert SCRIPT not in domain._repr_html_()
    if not case.instead and not case.aside:  # nothing that was there has gone
        assert {f"d{i}" for i in range(N)} <= domain.corpus.keys()
        assert {f"q{i}" for i in range(N)} <= domain.queries.keys()


# -- pairs --


def pairs_csv(*rows, header=("question", "answer"), mark=",", end="\n"):
    lines = [mark.join(header), *(mark.join(row) for row in rows)]
    return (end.join(lines) + end).encode()


GOOD = [(f"how do I turn bolt {i}", f"with the spanner of size {i}") for i in range(10)]


@dataclass
class Pairs:
    """A file of pairs: its name and bytes, and what comes of it."""

    name: str
    file: str
    data: object
    aside: list = field(default_factory=list)  # (cause, line)
    documents: list = field(default_factory=list)
    queries: list = field(default_factory=list)
    count: tuple = (len(GOOD), len(GOOD))  # documents, queries
    negatives: dict = field(default_factory=dict)  # query -> texts
    note: str = ""
    options: dict = field(default_factory=dict)
    refused: str = ""


def rows_of(*extra, names=("anchor", "positive")):
    return jsonl(*(dict(zip(names, row, strict=True)) for row in GOOD), *extra)


def table(**columns):
    def write(path):
        pq.write_table(pa.table(columns), path)

    return write


ASKED, TOLD = [q for q, _ in GOOD], [d for _, d in GOOD]
FILES = [
    Pairs("CSV", "a.csv", pairs_csv(*GOOD)),
    Pairs("CSV with a BOM and CRLF", "a.csv", codecs.BOM_UTF8 + pairs_csv(*GOOD, end="\r\n")),
    Pairs("CSV with lone CRs", "a.csv", pairs_csv(*GOOD, end="\r")),
    Pairs("semicolons", "a.csv", pairs_csv(*GOOD, mark=";")),
    Pairs("UTF-16 with tabs", "a.csv", pairs_csv(*GOOD, mark="\t").decode().encode("utf-16")),
    Pairs("TSV", "a.tsv", pairs_csv(*GOOD, mark="\t")),
    Pairs("gz", "a.csv.gz", gzip.compress(pairs_csv(*GOOD))),
    Pairs(
        "commas, quotes, newlines and a blank line in quotes",
        "a.csv",
        pairs_csv(*GOOD, ('"a, ""b""\n\nc"', "told")),
        documents=["told"],
        queries=['a, "b"\n\nc'],
        count=(11, 11),
    ),
    Pairs(
        "a quote that is never closed costs one row",
        "a.csv",
        pairs_csv(('"never closed', "x"), *GOOD),
        aside=[("quote that is never closed", 2)],
    ),
    Pairs(
        "an inch sign in CSV is a character",
        "a.csv",
        pairs_csv(*GOOD, ('a 5" pipe', "told")),
        queries=['a 5" pipe'],
        count=(11, 11),
    ),
    Pairs(
        "stray quotes in TSV are characters",
        "a.tsv",
        pairs_csv(*GOOD, ('"so called', "told"), ('a 5" pipe', 'told "again'), mark="\t"),
        queries=['"so called', 'a 5" pipe'],
        documents=["told", 'told "again'],
        count=(12, 12),
    ),
    Pairs(
        "a cell of 300 kB",
        "a.csv",
        pairs_csv(*GOOD, ("asked", "word " * 60_000 + "end")),
        documents=["word " * 60_000 + "end"],
        count=(11, 11),
    ),
    Pairs(
        "too few and too many cells",
        "a.csv",
        pairs_csv(*GOOD, ("alone",), ("a", "b", "c"), ("fine", "told", "", "")),
        aside=[("too few columns", 12), ("too many columns", 13)],
        count=(11, 11),
    ),
    Pairs(
        "empty cells",
        "a.csv",
        pairs_csv(*GOOD, ("", "told"), ("asked", "  ")),
        aside=[("empty text", 12), ("empty text", 13)],
    ),
    Pairs(
        "columns that are not used",
        "a.csv",
        pairs_csv(*((q, "7", d) for q, d in GOOD), header=("Query", "id", "Document")),
        note="not used: id",
    ),
    Pairs(
        "no header, columns by number",
        "a.csv",
        b"".join(f"{d},{q}\n".encode() for q, d in GOOD),
        options={"columns": {"anchor": 1, "positive": 0}},
    ),
    Pairs(
        "Latin-1, said so",
        "a.csv",
        pairs_csv(*GOOD, ("où est le café", "là")).decode().encode("latin-1"),
        options={"encoding": "cp1252"},
        queries=["où est le café"],
        documents=["là"],
        count=(11, 11),
    ),
    Pairs(
        "Latin-1, not said",
        "a.csv",
        pairs_csv(*GOOD, ("où est le café", "là")).decode().encode("latin-1"),
        aside=[("not UTF-8 (another encoding?)", 12)],
    ),
    Pairs(
        "NUL byte in CSV",
        "a.csv",
        pairs_csv(*GOOD, ("a\0b", "told")),
        aside=[("NUL byte", 12)],
    ),
    Pairs("JSON Lines", "a.jsonl", rows_of()),
    Pairs("sentence1 and sentence2", "a.json", rows_of(names=("sentence1", "sentence2"))),
    Pairs(
        "a list of positives, some of them nothing",
        "a.jsonl",
        rows_of({"anchor": "asked", "positive": ["one", "", None, "two", 3]}),
        aside=[("text that is no text", 11)],
        documents=["one", "two"],
        count=(12, 11),
    ),
    Pairs(
        "an empty list, a dict, a missing field",
        "a.jsonl",
        rows_of(
            {"anchor": "a", "positive": []},
            {"anchor": "b", "positive": {"words": 2}},
            {"anchor": "c"},
        ),
        aside=[("empty text", 11), ("text that is no text", 12), ("empty text", 13)],
    ),
    Pairs(
        "triplets with several negatives, one of them right",
        "a.jsonl",
        rows_of(
            {"anchor": "asked", "positive": "yes", "negative_1": "no", "negative_2": TOLD[0]},
            {"anchor": "asked", "positive": "also", "negative_1": "yes", "negative_2": None},
        ),
        documents=["yes", "also", "no"],
        count=(13, 11),
        negatives={"asked": {"no", TOLD[0]}},
        note="1 negatives are right documents",
    ),
    Pairs(
        "a list of negatives",
        "a.jsonl",
        rows_of({"anchor": "asked", "positive": "yes", "negatives": ["no", "never"]}),
        count=(13, 11),
        negatives={"asked": {"no", "never"}},
    ),
    Pairs(
        "Parquet with nulls, a list and a number",
        "a.parquet",
        table(
            anchor=[*ASKED, None, "asked", "b"],
            positive=[*([t] for t in TOLD), ["x"], ["one", None, "two"], None],
            extra=range(len(ASKED) + 3),
        ),
        aside=[("empty text", 11), ("empty text", 13)],
        documents=["one", "two"],
        count=(12, 11),
    ),
    Pairs(
        "scores: above 0 is right, 0 is a negative, below 0 is put aside",
        "a.csv",
        pairs_csv(
            *((q, d, "1") for q, d in GOOD),
            (ASKED[0], "wrong one", "0"),
            (ASKED[1], "worse", "-2"),
            (ASKED[1], "half", "0.5"),
            header=("anchor", "positive", "score"),
        ),
        options={"columns": {"anchor": "anchor", "positive": "positive", "score": "score"}},
        aside=[("negative score", 13), ("score that is no whole number", 14)],
        negatives={ASKED[0]: {"wrong one"}},
        count=(11, 10),
    ),
    Pairs("a row twice", "a.csv", pairs_csv(*GOOD, GOOD[0]), note="1 rows repeat"),
    Pairs(
        "documents that differ in case and spaces",
        "a.csv",
        pairs_csv(*GOOD, ("another question", f"  {TOLD[0].upper()} ")),
        count=(10, 11),
        note="1 texts differ",
    ),
    Pairs("columns swapped", "a.csv", pairs_csv(*((d * 3, q[:9]) for q, d in GOOD)), count=(1, 10),
          note="are the columns swapped"),
    Pairs(
        "other names",
        "a.csv",
        pairs_csv(*GOOD, header=("frage", "antwort")),
        refused="'frage', 'antwort'.*none looks.*{'anchor': 'frage', 'positive': 'antwort'}",
    ),
    Pairs(
        "two columns that may be the positive",
        "a.csv",
        pairs_csv(*((q, d, d) for q, d in GOOD), header=("question", "answer", "context")),
        refused="'answer' and 'context' may each be the positive.*'positive': 'answer'",
    ),
    Pairs(
        "a column that may hold scores",
        "a.csv",
        pairs_csv(*((q, d, "1") for q, d in GOOD), header=("sentence1", "sentence2", "label")),
        refused="'label' may say.*'score': 'label'",
    ),
    Pairs(
        "a column that is not there",
        "a.csv",
        pairs_csv(*GOOD),
        options={"columns": {"anchor": "question", "positive": "answr"}},
        refused="unknown column.*did you mean 'answer'",
    ),
    Pairs(
        "a role that does not exist",
        "a.csv",
        pairs_csv(*GOOD),
        options={"columns": {"anker": "question", "positive": "answer"}},
        refused="unknown role.*did you mean 'anchor'",
    ),
    Pairs(
        "columns as a list",
        "a.csv",
        pairs_csv(*GOOD),
        options={"columns": ["question", "answer"]},
        refused="names no roles.*columns={'anchor': 'question', 'positive': 'answer'}",
    ),
    Pairs(
        "columns with one role",
        "a.csv",
        pairs_csv(*GOOD),
        options={"columns": {"anchor": "question"}},
        refused="names no positive.*columns={'anchor': 'question', 'positive': 'answer'}",
    ),
    Pairs(
        "a column that is no name",
        "a.csv",
        pairs_csv(*GOOD),
        options={"columns": {"anchor": None, "positive": "answer"}},
        refused="unknown column.*'None'",
    ),
    Pairs(
        "a header in another encoding",
        "a.csv",
        "question,réponse\n".encode("latin-1") + pairs_csv(*GOOD),
        options={"columns": {"anchor": "question", "positive": "réponse"}},
        refused="'a.csv' are not UTF-8.*encoding='cp1252'",
    ),
    Pairs("one column", "a.csv", b"text\nx\ny\n", refused="none looks like the anchor"),
    Pairs("header only", "a.csv", pairs_csv(), refused="nothing usable"),
    Pairs("empty file", "a.csv", b"", refused="'a.csv' is empty"),
    Pairs("blank lines only", "a.csv", b"\n\n", refused="holds no row"),
    Pairs("two rows", "a.csv", pairs_csv(*GOOD[:2]), refused="2 usable queries to make"),
    Pairs("no JSON in it", "a.jsonl", b"x\ny\n", refused="nothing usable.*2 × malformed JSON"),
    Pairs("a JSON array", "a.json", b'[{"anchor": "a"}]', refused="none looks like the positive"),
    Pairs("unknown suffix", "a.xlsx", b"PK", refused="unknown suffix '.xlsx'"),
    Pairs("no Parquet", "a.parquet", b"PAR0", refused="'a.parquet' cannot be read"),
    Pairs("unknown encoding", "a.csv", pairs_csv(*GOOD), options={"encoding": "utf-88"},
          refused="encoding='utf-88'"),
]  # fmt: skip


@pytest.mark.parametrize("case", FILES, ids=lambda case: case.name)
def test_a_file_with(case, tmp_path):
    path = tmp_path / case.file
    if callable(case.data):
        case.data(path)
    else:
        path.write_bytes(case.data)
    if case.refused:
        with pytest.raises(EmbkitError, match=f"(?s){case.refused}"):
            load_domain(path, profile="workshop", **case.options)
        return
    domain = load_domain(path, profile="workshop", **case.options)
    assert [(r["cause"], r["line"]) for r in put_aside(domain)] == case.aside
    assert (len(domain.corpus), len(domain.queries)) == case.count
    assert set(case.documents) <= set(domain.corpus.values())
    assert set(case.queries) <= set(domain.queries.values())
    asked = {domain.queries[q]: {domain.corpus[d] for d in n} for q, n in domain.negatives.items()}
    assert asked == case.negatives
    assert case.note in " ".join(repr(domain.report).split())
    right = {
        (normalise(domain.queries[q]), normalise(domain.corpus[d]))
        for qrels in domain.qrels.values()
        for q, judged in qrels.items()
        for d, grade in judged.items()
        if grade > 0
    }
    if case.name != "columns swapped":
        assert {(normalise(q), normalise(d)) for q, d in GOOD} <= right


def test_there_are_enough_cases():
    assert len({case.name for case in FOLDERS} | {case.name for case in FILES}) >= 40
    assert len({case.name for case in FOLDERS}) == len(FOLDERS)


# -- nothing vanishes --


def test_every_row_is_used_or_put_aside(tmp_path):
    """Rows made at random, good and bad; what is bad is known from how they were made."""
    chance = random.Random(7)
    rows, good, bad = [], set(), []
    for n in range(300):
        query, answer = f"question {n}", f"answer {chance.randrange(80)}"
        kind = chance.choice(["good", "good", "good", "empty", "json", "number"])
        values = {"anchor": query, "positive": answer}
        if kind == "empty":
            values["positive"] = chance.choice(["", "  ", None])
        elif kind == "number":
            values["anchor"] = n
        text = json.dumps(values)
        rows.append(text[: chance.randrange(1, 20)] if kind == "json" else text)
        if kind == "good":
            good.add((query, answer))
        else:
            bad.append(n + 1)
    (tmp_path / "a.jsonl").write_text("\n".join(rows))
    domain = load_domain(tmp_path / "a.jsonl", profile="full")
    found = {
        (domain.queries[q], domain.corpus[d])
        for qrels in domain.qrels.values()
        for q, judged in qrels.items()
        for d in judged
    }
    assert found == good
    records = put_aside(domain)
    assert sorted(r["line"] for r in records) == bad
    assert all(r["raw"] == rows[r["line"] - 1] for r in records)
    assert sum(domain.report.quarantined.values()) == len(bad)
    assert f"{len(bad)} of 300 rows" in domain.about["quarantine"] == domain.report.put_aside


def test_the_quarantine_file_lies_with_the_runs_and_goes_when_rows_are_mended(tmp_path, store):
    folder = written(tmp_path / "my data!", small() | {C: small()[C] + b"oops\n"})
    first = load_domain(folder, profile="workshop")
    path = first.report.quarantine
    assert path == store / "quarantine" / f"my-data-{first.hash}.jsonl" and path.is_file()
    written(folder, small())
    second = load_domain(folder, profile="workshop")
    assert second.hash == first.hash and second.report.quarantine is None and not path.exists()
    assert second.report.put_aside == "nothing: every row was used"


def test_what_is_refused_leaves_its_rows_too(tmp_path, store):
    (tmp_path / "a.jsonl").write_text("one\ntwo\n")
    with pytest.raises(EmbkitError, match="a-refused.jsonl") as caught:
        load_domain(tmp_path / "a.jsonl")
    assert "2 × malformed JSON" in caught.value.given
    lines = (store / "quarantine" / "a-refused.jsonl").read_text().splitlines()
    assert [json.loads(line)["raw"] for line in lines] == ["one", "two"]
    (tmp_path / "a.jsonl").write_bytes(rows_of())
    load_domain(tmp_path / "a.jsonl")
    assert list((store / "quarantine").iterdir()) == []


def test_raw_text_is_cut_and_undecodable_bytes_stay_visible(tmp_path):
    extra = b"x" * 5000 + b"\n" + LATIN
    folder = written(tmp_path / "mine", small() | {C: small()[C] + extra})
    long, latin = put_aside(load_domain(folder, profile="workshop"))
    assert long["raw"] == "x" * 2000
    assert "caf\\udce9" in latin["raw"]


# -- markup is text --


def test_a_script_shows_as_text_everywhere(tmp_path):
    rows = [
        {f"q{SCRIPT}": f"{SCRIPT} asked {i}", "a": f"{SCRIPT} told {i}", SCRIPT: 1}
        for i in range(9)
    ]
    path = tmp_path / "<b>x.jsonl"
    path.write_bytes(jsonl(*rows) + SCRIPT.encode())
    domain = load_domain(path, columns={"anchor": f"q{SCRIPT}", "positive": "a"})
    for shown in (domain._repr_html_(), domain.report._repr_html_()):
        assert "<script" not in shown and "<b>x" not in shown
        assert "&lt;script&gt;" in shown
    assert f"{SCRIPT} told 0" in domain.corpus.values()


def test_a_long_document_is_shown_cut(tmp_path):
    text = "word " * 50_000
    path = tmp_path / "a.csv"
    path.write_bytes(pairs_csv(*((q, f"{text}{d}") for q, d in GOOD)))
    assert len(load_domain(path)._repr_html_()) < 10_000


# -- what a report says --


def test_the_report_says_what_was_read_and_decided(tmp_path):
    path = tmp_path / "faq.csv"
    path.write_bytes(pairs_csv(*GOOD, ("alone",)))
    domain = load_domain(path, profile="workshop")
    report = domain.report
    assert isinstance(report, LoadReport) and domain.name == "faq"
    assert report.rows == {"faq.csv": 11} and report.quarantined == {"too few columns": 1}
    assert report.columns == {"anchor": "question", "positive": "answer"}
    for shown in (repr(report), report._repr_html_(), domain._repr_html_()):
        assert "anchor: question" in shown and "1 of 11 rows" in shown
        assert "cut from the 10 queries of the rows by document: test 2, dev 1, train 7" in shown
    assert "too few columns" in domain._repr_html_() and ">alone</td>" in domain._repr_html_()
    assert {"title", "source", "terms", "limits", "columns", "splits"} <= domain.about.keys()
    assert str(tmp_path) not in "".join(domain.about.values())


# -- splits --


def many(n=400, documents=150, seed=0):
    """Pairs whose documents several queries share, and some queries with several documents."""
    chance = random.Random(seed)
    return [
        (f"question {chance.randrange(n)}", f"answer {chance.randrange(documents) // 2}")
        for _ in range(documents)
    ]


def brute_force_parts(pairs):
    """Sets of queries that hang together, by merging until nothing changes."""
    parts = [({q}, {d}) for q, d in pairs]
    changed = True
    while changed:
        changed = False
        for i, (queries, documents) in enumerate(parts):
            for j in range(len(parts) - 1, i, -1):
                if queries & parts[j][0] or documents & parts[j][1]:
                    queries |= parts[j][0]
                    documents |= parts[j][1]
                    del parts[j]
                    changed = True
    return [queries for queries, _ in parts]


@pytest.mark.parametrize("seed", range(5))
def test_no_document_and_no_query_is_in_two_splits(seed, tmp_path):
    rows = many(seed=seed)
    path = tmp_path / "a.csv"
    path.write_bytes(pairs_csv(*rows))
    domain = load_domain(path, profile="workshop")
    where = {domain.queries[q]: split for q, split in split_of(domain).items()}
    for part in brute_force_parts(rows):
        assert len({where[query] for query in part}) == 1
    found = [positives(domain, split) for split in ("train", "dev", "test")]
    assert all(found) and not (found[0] & found[1] | found[0] & found[2] | found[1] & found[2])
    total = len(where)
    sizes = {split: len(qrels) for split, qrels in domain.qrels.items()}
    assert 0.1 * total <= sizes["test"] <= 0.25 * total
    assert 0.05 * total <= sizes["dev"] <= 0.15 * total


def test_documents_that_differ_in_case_alone_stay_together(tmp_path):
    files = small()
    rows = [{"_id": f"d{i}", "text": f"answer {i // 2}".upper() if i % 2 else f"Answer  {i // 2}"}
            for i in range(N)]  # fmt: skip
    files = {C: jsonl(*rows), Q: files[Q]}
    files["qrels.tsv"] = judged(*((f"q{i}", f"d{i}", 1) for i in range(N)))
    domain = load_domain(written(tmp_path / "mine", files), profile="workshop")
    where = split_of(domain)
    assert len(domain.corpus) == N  # both are kept: they have ids of their own
    assert all(where[f"q{i}"] == where[f"q{i + 1}"] for i in range(0, N, 2))


def test_the_split_does_not_depend_on_the_order_of_rows(tmp_path):
    rows = many()
    found = []
    for seed in (1, 2):
        random.Random(seed).shuffle(rows)
        (tmp_path / "a.csv").write_bytes(pairs_csv(*rows))
        found.append(load_domain(tmp_path / "a.csv", profile="workshop"))
    assert found[0].hash == found[1].hash and split_of(found[0]) == split_of(found[1])


def test_one_document_for_everything_is_split_by_query_and_said(tmp_path):
    rows = [(f"question {i}", "call the office") for i in range(50)]
    rows += [(f"question {i}", "write a letter") for i in range(0, 50, 2)]
    (tmp_path / "a.csv").write_bytes(pairs_csv(*rows))
    domain = load_domain(tmp_path / "a.csv", profile="workshop")
    sizes = {split: len(qrels) for split, qrels in domain.qrels.items()}
    assert sizes == {"train": 35, "dev": 5, "test": 10}
    assert "15 queries hang together" in domain.about["splits"]
    assert all(len(judged) == 2 - int(domain.queries[q].split()[1]) % 2
               for qrels in domain.qrels.values() for q, judged in qrels.items())  # fmt: skip


def test_test_queries_are_capped_and_the_cap_is_said():
    n = round(CAPS["test"] / SHARES["test"]) + 2000
    corpus, queries = {str(i): f"d {i}" for i in range(n)}, {str(i): f"q {i}" for i in range(n)}
    found, said = divide({"": {str(i): {str(i): 1} for i in range(n)}}, corpus, queries)
    assert len(found["test"]) == CAPS["test"] and len(found["dev"]) == CAPS["dev"]
    assert sum(map(len, found.values())) == n
    assert "test is limited to 2,000 queries" in said


@pytest.mark.parametrize(
    "given, sizes, said",
    [
        (("train", "dev", "test"), {"train": 12, "dev": 3, "test": 5}, "as given"),
        (("train", "test"), {"train": 11, "dev": 1, "test": 5}, "12 queries of train.*dev 1"),
        (("train", "dev"), {"train": 10, "dev": 3, "test": 2}, "12 queries of train.*test 2"),
        (("train",), {"train": 9, "dev": 1, "test": 2}, "test 2, dev 1, train 9"),
        (("test",), {"train": 3, "dev": 1, "test": 1}, "only test was given.*not comparable"),
        (("dev", "test"), {"train": 2, "dev": 1, "test": 5}, "no train was given"),
    ],
)
def test_splits_that_are_missing_are_cut_from_those_that_are_there(given, sizes, said, tmp_path):
    files = small()
    for split in {"train", "dev", "test"} - set(given):
        del files[f"qrels/{split}.tsv"]
    domain = load_domain(written(tmp_path / "mine", files), profile="workshop")
    assert {split: len(qrels) for split, qrels in domain.qrels.items()} == sizes
    assert re.search(said, domain.about["splits"])
    if "test" in given and len(given) > 1:  # what was given as a test is left alone
        assert set(domain.qrels["test"]) == {f"q{i}" for i in range(15, N)}


def test_other_files_of_judgements_are_tests_and_validation_is_dev(tmp_path):
    files = small()
    files["qrels/validation.tsv"] = files.pop("qrels/dev.tsv")
    files["qrels/novel.tsv"] = judged(("q19", "d19", 1))
    files["qrels/known.tsv"] = judged(("q18", "d18", 1))
    files["qrels/test.tsv"] = judged(*((f"q{i}", f"d{i}", 1) for i in range(15, 18)))
    domain = load_domain(written(tmp_path / "mine", files), profile="workshop")
    assert domain.test_splits == ("test", "known", "novel")
    assert set(domain.qrels["novel"]) == {"q19"} and len(domain.qrels["dev"]) == 3


def test_what_people_marked_as_wrong_is_a_negative(tmp_path):
    files = small()
    files[TRAIN] += b"q0\td5\t0\n"
    domain = load_domain(written(tmp_path / "a", files), profile="workshop")
    assert domain.negatives == {"q0": ("d5",)} and domain.qrels["train"]["q0"]["d5"] == 0
    files["negatives.tsv"] = judged(("q1", "d7", 0), ("q1", "d1", 0), ("q1", "gone", 0))
    domain = load_domain(written(tmp_path / "b", files), profile="workshop")
    assert domain.negatives == {"q1": ("d7",)}  # said there and nowhere else; d1 is right
    assert domain.report.quarantined == {"document id that corpus.jsonl does not have": 1}


def test_the_content_hash_is_that_of_the_whole_json(large):
    domain, digest = load_domain(large, profile="workshop"), hashlib.sha256()
    assert len(domain.corpus) > 1000  # hashed in pieces
    parts = (domain.corpus, domain.queries, domain.qrels, domain.test_splits, domain.negatives)
    for part in parts:
        digest.update(json.dumps(part, sort_keys=True, ensure_ascii=False).encode() + b"\0")
    assert domain.hash == digest.hexdigest()[:16]


# -- profiles --


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    n = 1500
    files = {
        C: jsonl(*({"_id": f"d{i}", "text": f"text number {i}"} for i in range(n))),
        Q: jsonl(*({"_id": f"q{i}", "text": f"query number {i}"} for i in range(n))),
        TRAIN: judged(*((f"q{i}", f"d{i}", 1) for i in range(1000))),
        "qrels/dev.tsv": judged(*((f"q{i}", f"d{i}", 1) for i in range(1000, 1200))),
        TEST: judged(*((f"q{i}", f"d{i - k}", 1) for i in range(1200, n) for k in range(8))),
    }
    return written(tmp_path_factory.mktemp("large"), files)


def test_smoke_is_small_and_keeps_right_documents(large):
    whole, smoke = (load_domain(large, profile=p) for p in ("workshop", "smoke"))
    assert len(whole.corpus) == 1500 and len(smoke.corpus) == 400
    assert len(smoke.qrels["test"]) == 60 and len(smoke.qrels["dev"]) == 30
    assert 100 < len(smoke.qrels["train"]) <= 200
    for split, qrels in smoke.qrels.items():
        for query, judged in qrels.items():
            assert judged.items() <= whole.qrels[split][query].items()
            assert sum(grade > 0 for grade in judged.values()) >= min(
                5, len(whole.qrels[split][query])
            )
    assert all(whole.corpus[d] == text for d, text in smoke.corpus.items())
    assert "profile smoke: cut to 400 of 1,500 documents" in smoke.about["notes"]
    assert "profile smoke" not in whole.about["notes"]
    assert load_domain(large, profile="smoke").hash == smoke.hash != whole.hash
    assert load_domain(large, profile="full").hash == whole.hash


def test_what_is_small_is_the_same_in_every_profile(tmp_path):
    folder = written(tmp_path / "mine", small())
    found = [load_domain(folder, profile=p) for p in ("smoke", "workshop", "full")]
    assert len({domain.hash for domain in found}) == 1
    assert [domain.profile for domain in found] == ["smoke", "workshop", "full"]


# -- datasets, saved folders, the hub --


def of_pairs(rows=GOOD, names=("anchor", "positive")):
    return Dataset.from_dict(
        {n: list(c) for n, c in zip(names, zip(*rows, strict=True), strict=True)}
    )


def same_pairs(domain, rows):
    return {
        (domain.queries[q], domain.corpus[d])
        for qrels in domain.qrels.values()
        for q, judged in qrels.items()
        for d in judged
    } == set(rows)


def test_a_dataset_and_its_parts(tmp_path):
    alone = load_domain(of_pairs(), profile="workshop")
    assert same_pairs(alone, GOOD) and len(alone.qrels["test"]) == 2 and alone.name == "dataset"
    only = load_domain(DatasetDict(train=of_pairs()), profile="workshop")
    assert only.hash == alone.hash
    parts = DatasetDict(
        train=of_pairs(GOOD[:6]), validation=of_pairs(GOOD[6:8]), test=of_pairs(GOOD[8:])
    )
    domain = load_domain(parts, profile="workshop")
    where = {domain.queries[q]: split for q, split in split_of(domain).items()}
    assert [where[q] for q in ASKED] == ["train"] * 6 + ["dev"] * 2 + ["test"] * 2
    parts.save_to_disk(tmp_path / "saved")
    again = load_domain(tmp_path / "saved", profile="workshop")
    assert again.hash == domain.hash and again.name == "saved"
    of_pairs().save_to_disk(tmp_path / "one")
    assert load_domain(tmp_path / "one", profile="workshop").hash == alone.hash


def test_a_question_of_train_and_test_stays_in_test(tmp_path):
    parts = DatasetDict(train=of_pairs(GOOD), test=of_pairs([*GOOD[:2], ("new", "one")]))
    domain = load_domain(parts, profile="workshop")
    where = {domain.queries[q]: split for q, split in split_of(domain).items()}
    assert where[ASKED[0]] == where[ASKED[1]] == where["new"] == "test"
    assert domain.report.quarantined == {"query text that another split asks too": 2}
    assert [(r["file"], r["line"]) for r in put_aside(domain)] == [("train", 1), ("train", 2)]


def as_mteb():
    """What the hub gives for a data set with judgements: three configurations."""
    corpus = Dataset.from_list(
        [{"_id": f"d{i}", "title": "T", "text": text} for i, text in enumerate(TOLD)]
    )
    queries = Dataset.from_list([{"_id": f"q{i}", "text": text} for i, text in enumerate(ASKED)])
    qrels = Dataset.from_list(
        [{"query-id": f"q{i}", "corpus-id": f"d{i}", "score": 1.0} for i in range(len(GOOD))]
    )
    return {
        None: DatasetDict(test=qrels),
        "corpus": DatasetDict(corpus=corpus),
        "queries": DatasetDict(queries=queries),
    }


def test_a_hub_data_set(monkeypatch):
    asked = []

    def stand_in(name, subset=None):
        asked.append((name, subset))
        return {"pair": DatasetDict(train=of_pairs())}[subset]

    monkeypatch.setattr("datasets.load_dataset", stand_in)
    domain = load_domain("owner/some-pairs", subset="pair", profile="workshop")
    assert asked == [("owner/some-pairs", "pair")]
    assert domain.name == "some-pairs" and same_pairs(domain, GOOD)
    assert "the hub: owner/some-pairs" in repr(domain.report)
    with pytest.raises(EmbkitError, match="owner/some-pairs.*cannot be had"):
        load_domain("owner/some-pairs", subset="triplet")


def test_a_hub_data_set_with_judgements(monkeypatch):
    parts = as_mteb()
    monkeypatch.setattr("datasets.load_dataset", lambda name, subset=None: parts[subset])
    domain = load_domain("mteb/tools", profile="workshop")
    assert domain.corpus["d0"] == f"T {TOLD[0]}" and domain.queries["q0"] == ASKED[0]
    assert len(domain.queries) == len(GOOD) and "only test was given" in domain.about["splits"]


def test_the_hub_out_of_reach_is_one_clear_error():
    with pytest.raises(EmbkitError, match="no folder 'nobody/nothing'.*hub") as caught:
        load_domain("nobody/nothing")
    assert "save_to_disk" in caught.value.hint


def test_judgements_without_texts_are_refused():
    with pytest.raises(EmbkitError, match="no corpus or no queries"):
        load_domain(as_mteb()[None])


def test_a_damaged_saved_folder_is_one_clear_error(tmp_path):
    of_pairs().save_to_disk(tmp_path / "one")
    next((tmp_path / "one").glob("*.arrow")).write_bytes(b"x")
    with pytest.raises(EmbkitError, match="'one' cannot be loaded as a data set"):
        load_domain(tmp_path / "one")


# -- the door --


@pytest.mark.parametrize(
    "source, options, match",
    [
        ("icd10cmm", {}, "did you mean 'icd10cm'"),
        ("", {}, "unknown domain ''"),
        ("no/such/folder", {}, "no file or folder"),
        ("./nothing", {}, "no file or folder"),
        ("missing.csv", {}, "no file or folder 'missing.csv'"),
        ("data/missing.csv", {}, "no file or folder"),
        ("data/mistyped", {}, "no file or folder"),
        ("~nobody-of-that-name/x", {}, "no file or folder"),
        ("x" * 5000, {}, "unknown domain"),
        (7, {}, "given int"),
        (["a"], {}, "given list"),
        ("icd10cm", {"columns": {"anchor": "q"}}, "columns= with the domain 'icd10cm'"),
        ("icd10cm", {"encoding": "utf-8"}, "encoding= with the domain"),
    ],
)
def test_what_is_no_source_is_refused(source, options, match):
    with pytest.raises(EmbkitError, match=match):
        load_domain(source, **options)


def test_columns_do_not_go_with_a_folder_whose_columns_are_known(tmp_path):
    with pytest.raises(EmbkitError, match="columns= with a folder in BEIR's layout"):
        load_domain(written(tmp_path / "mine", small()), columns={"anchor": "q"})


def test_a_folder_of_files_of_pairs_says_to_give_the_file(tmp_path):
    written(tmp_path / "mine", {"faq.csv": pairs_csv(*GOOD)})
    assert len(load_domain(tmp_path / "mine").queries) == len(GOOD)
    written(tmp_path / "mine", {"old.csv": pairs_csv(*GOOD)})
    with pytest.raises(EmbkitError, match=r"load_domain\('\S*mine/faq.csv'\)"):
        load_domain(tmp_path / "mine")


def test_a_path_counts_from_here(tmp_path, monkeypatch):
    written(tmp_path / "mine", small())
    monkeypatch.chdir(tmp_path)
    for source in ("mine", "./mine", tmp_path / "mine"):
        assert load_domain(source, profile="workshop").name == "mine"
    monkeypatch.chdir(tmp_path / "mine")
    assert load_domain(".", profile="workshop").name == "mine"


def test_a_query_that_is_its_own_document_is_noted(tmp_path):
    files = small()
    files[C] += jsonl({"_id": "q0", "text": "which tool for bolt 0"})
    domain = load_domain(written(tmp_path / "mine", files), profile="workshop")
    assert "1 queries are documents too" in domain.about["notes"]


@pytest.mark.parametrize(
    "value, grade",
    [("1", 1), (1, 1), (2.0, 2), (True, 1), ("0", 0), (" 3 ", 3), ("-1", None), (None, None),
     ("", None), ("inf", None), (0.5, None), ("1e2", 100), ([1], None)],
)  # fmt: skip
def test_grades(value, grade):
    assert grade_of(value)[0] == grade


# -- memory --


def peak_mb(path):
    tracemalloc.start()
    try:
        load_domain(path, profile="full")
        return tracemalloc.get_traced_memory()[1] / 2**20
    finally:
        tracemalloc.stop()


def test_a_line_of_10_mb_takes_a_few_times_its_size_and_no_more(tmp_path):
    files = small()
    files[C] += jsonl({"_id": "n", "text": BIG})
    assert peak_mb(written(tmp_path / "mine", files)) < 5 * 10


def test_many_lines_take_about_their_size(tmp_path):
    files, n = small(), 8000
    rows = [{"_id": f"x{i}", "text": f"{i} word" * 250} for i in range(n)]
    files[C] += jsonl(*rows)
    size = len(files[C]) / 2**20
    assert size > 12 and peak_mb(written(tmp_path / "mine", files)) < 1.6 * size


def test_bad_rows_are_not_kept_in_memory(tmp_path):
    files = small()
    files[C] += (b"x" * 2500 + b"\n") * 6000
    assert peak_mb(written(tmp_path / "mine", files)) < 8  # of 15 MB


# -- the maker of folders --


def test_the_folder_that_the_tests_make(tmp_path):
    from tests.make_folder import make_beir_folder

    folder = make_beir_folder(tmp_path / "code", documents=200, pairs=60)
    domain = load_domain(folder, profile="workshop")
    assert {s: len(q) for s, q in domain.qrels.items()} == {"train": 42, "dev": 6, "test": 12}
    assert len(domain.corpus) == 200 and not domain.report.quarantined
    again = make_beir_folder(tmp_path / "again", documents=200, pairs=60)
    other = make_beir_folder(tmp_path / "other", documents=200, pairs=60, seed=1)
    for name in ("corpus.jsonl", "queries.jsonl", "qrels/test.tsv"):
        assert (folder / name).read_bytes() == (again / name).read_bytes()
    assert (folder / "qrels/test.tsv").read_bytes() != (other / "qrels/test.tsv").read_bytes()
    copies = defaultdict(int)
    for qrels in domain.qrels.values():
        for query, judged in qrels.items():
            (document,) = judged
            copies[normalise(domain.queries[query]) in normalise(domain.corpus[document])] += 1
    assert copies == {False: 60}
