"""Folders with a corpus, queries and judgements, and with several files of pairs."""

import json
import shutil
import tarfile
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

from datasets import Dataset, DatasetDict

from tests.data.file_shapes import titled
from tests.data.written import (
    KEYS,
    PAIRS,
    RIGHT_PAIRS,
    SHAPES,
    WRONG_PAIRS,
    Rows,
    add,
    file,
    jsonl_text,
    named,
    parquet,
    save,
    tsv_text,
)

SPLITS = {"train": slice(0, 12), "dev": slice(12, 18), "test": slice(18, 24)}
WHOLE = {"test": slice(0, 24)}  # divided anew
CORPUS = [
    {"_id": f"{side}{n}", **titled(row[1 if side == "d" else 2], n)}
    for side in "dw"
    for n, row in enumerate(PAIRS)
]
QUERIES = [{"_id": key, "text": q} for key, (q, *_) in zip(KEYS, PAIRS, strict=True)]
JUDGED = [  # as BEIR's header has it; the wrong document of each query is judged 0
    {"query-id": key, "corpus-id": f"{side}{n}", "score": int(side == "d")}
    for n, key in enumerate(KEYS)
    for side in "dw"
]
BARE = [  # without titles
    {"_id": row["_id"], "text": f"{row['title']} {row['text']}".strip()} for row in CORPUS
]


def renamed(rows: Rows, *names: str) -> Rows:
    return [dict(zip(names, row.values(), strict=True)) for row in rows]


def part_of(judged: Rows, part: slice) -> Rows:
    """The judgements of some queries: two rows each."""
    return judged[2 * part.start : 2 * part.stop]


def trec(second: str, mark: str) -> Callable[[Rows], str]:
    """Four columns and no header."""

    def text(judged: Rows) -> str:
        rows = [dict(enumerate([q, second, d, grade])) for q, d, grade in map(dict.values, judged)]
        return tsv_text(rows, header=False, mark=mark)

    return text


def beir(
    folder: Path,
    qrels: str = "qrels/{split}.tsv",
    text: Callable[[Rows], str] = tsv_text,
    parts: dict[str, slice] = SPLITS,
    corpus: Rows = CORPUS,
    queries: Rows = QUERIES,
    judged: Rows = JUDGED,
    down: str = "",
) -> Path:
    save(folder / down / "corpus.jsonl", jsonl_text(corpus))
    save(folder / down / "queries.jsonl", jsonl_text(queries))
    for split, part in parts.items():
        path = folder / down / qrels.format(split=split)
        rows = part_of(judged, part)
        parquet(path, rows) if path.suffix == ".parquet" else save(path, text(rows))
    return folder


judged_in = partial(add, negatives=WRONG_PAIRS)
judged_in("beir", beir, splits=SPLITS)
judged_in("beir_one_down", beir, down="scifact", splits=SPLITS)
NAMES = {"txt": "qrels/test.txt", "trec": "qrels/test.trec", "qrels": "test.qrels"}
for name, path in (NAMES | {"dot": "qrels.test.tsv"}).items():
    mark = "\t" if name == "dot" else " "
    for second in ("0", "1", "Q0"):
        judged_in(f"qrels_{name}_{second}", beir, path, trec(second, mark), WHOLE)
for name, path, text in [
    ("tsv_iteration_1", "qrels/{split}.tsv", trec("1", "\t")),
    ("tsv_spaces", "qrels/{split}.tsv", trec("0", " ")),
    ("txt_splits", "qrels/{split}.txt", trec("0", " ")),
    ("jsonl", "qrels/{split}.jsonl", jsonl_text),
    ("parquet", "qrels/{split}.parquet", tsv_text),
]:
    judged_in(f"qrels_{name}", beir, path, text, splits=SPLITS)
# other names of fields, and ids that a table made numbers of
CONTENTS = renamed(BARE, "id", "contents")
judged_in("anserini", beir, corpus=CONTENTS, queries=renamed(QUERIES, "id", "text"))
judged_in(
    "doc_id",
    beir,
    corpus=renamed(CORPUS, "doc_id", "title", "text"),
    queries=renamed(QUERIES, "query_id", "query"),
)


def numbered(key: str) -> int:
    """An id as a number: 100 for d0, 200 for w0, 1 for q0."""
    return {"q": 1, "d": 100, "w": 200}[key[0]] + int(key[1:])


NUMBERS = [
    dict(zip(row, [f"{numbered(q)}.0", f"{numbered(d)}.0", f"{grade}.0"], strict=True))
    for row in JUDGED
    for q, d, grade in [row.values()]
]
judged_in(
    "ids_12.0",
    beir,
    corpus=[row | {"_id": str(numbered(row["_id"]))} for row in CORPUS],
    queries=[row | {"_id": numbered(row["_id"])} for row in QUERIES],
    judged=NUMBERS,
)


def tables(folder: Path) -> Path:
    """The same three tables under other names, with a README beside them."""
    save(folder / "documents.tsv", tsv_text(renamed(BARE, "docno", "text")))
    file(folder, "questions.csv", renamed(QUERIES, "qid", "question"))
    file(folder, "relevance.csv", renamed(JUDGED, "qid", "docno", "rel"))
    save(folder / "README.md", "# Questions from the kitchen\n")
    return folder


judged_in("other_names", tables)


# -- the hub's --


def shards(folder: Path, stem: str, rows: Rows, count: int = 2) -> None:
    for number in range(count):
        path = folder / f"{stem}-{number:05d}-of-{count:05d}.parquet"
        parquet(path, rows[number * len(rows) // count : (number + 1) * len(rows) // count])


def mteb(folder: Path, count: int) -> Path:
    shards(folder / "corpus", "corpus", CORPUS, count)
    shards(folder / "queries", "queries", QUERIES, count)
    judged = [row | {"score": float(row["score"])} for row in JUDGED]
    shards(folder / "qrels", "test", judged, count)
    return folder


judged_in("mteb_parquet", mteb, 1)
judged_in("mteb_parquet_shards", mteb, 2)


def hub(folder: Path, splits: dict[str, slice], *names: str) -> Path:
    for split, part in splits.items():
        shards(folder / "data", split, named(*names)[part])
    save(folder / "README.md", "---\nlicense: mit\n---\n# Questions from the kitchen\n")
    return folder


HUB = {"train": slice(0, 12), "validation": slice(12, 18), "test": slice(18, 24)}
add("hub_shards", hub, {"train": slice(0, 24)}, "anchor", "positive")
judged_in("hub_splits", hub, HUB, "anchor", "positive", "negative", splits=SPLITS)


def split_files(folder: Path, kind: str) -> Path:
    for split, part in SPLITS.items():
        file(folder, f"{split}.{kind}", named("anchor", "positive")[part])
    return folder


for kind in ("jsonl", "csv", "parquet"):
    add(f"split_files_{kind}", split_files, kind, splits=SPLITS)


# -- MS MARCO --


def ms_marco(folder: Path, judged: str) -> Path:
    def bare(name: str, rows: Rows) -> None:
        save(folder / name, tsv_text(rows, header=False))

    bare("collection.tsv", [row | {"_id": numbered(row["_id"])} for row in BARE])
    bare("queries.train.tsv", [row | {"_id": numbered(row["_id"])} for row in QUERIES])
    if judged == "qrels":
        found = [[n + 1, 0, 100 + n, 1] for n in range(len(PAIRS))]
    else:
        found = [[n + 1, 100 + n, 200 + n] for n in range(len(PAIRS))]
    bare(f"{judged}.train.tsv", [dict(enumerate(row)) for row in found])
    return folder


add("ms_marco", ms_marco, "qrels")
judged_in("ms_marco_id_triples", ms_marco, "qidpidtriples")


# -- what datasets saved --


def saved(folder: Path, parts: dict[str, Rows]) -> Path:
    data = {split: Dataset.from_list(rows) for split, rows in parts.items()}
    (DatasetDict(data) if list(data) != [""] else data[""]).save_to_disk(str(folder / "saved"))
    return folder / "saved"


UNDERSCORES = {
    "corpus": renamed(BARE, "id", "text"),
    "queries": renamed(QUERIES, "id", "text"),
    "test": renamed(JUDGED, "query_id", "doc_id", "relevance"),
}
judged_in("saved_judged", saved, {**UNDERSCORES, "test": JUDGED})
judged_in("saved_underscores", saved, UNDERSCORES)
add("saved_pairs", saved, {"": named("query", "answer")})
MORE = [(q, f"{d} (second edition)") for q, d in RIGHT_PAIRS]
LISTS = [
    {"query": q, "positives": [d, more], "negatives": [w]}
    for (q, d, w), (_, more) in zip(PAIRS, MORE, strict=True)
]
judged_in(
    "saved_lists",
    saved,
    {split: LISTS[part] for split, part in HUB.items()},
    pairs=RIGHT_PAIRS + MORE,
    splits=SPLITS,
)


# -- files in files --


def packed(folder: Path, inner: str, kind: str) -> Path:
    """A shape in an archive; a folder's members lie in a folder of the archive's name."""
    made = SHAPES[inner](folder / inner)
    path = folder / f"{inner}.{kind}"
    members = [made] if made.is_file() else sorted(made.rglob("*"))
    base = made.parent
    if kind == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            for member in members:
                archive.write(member, member.relative_to(base))
    else:
        with tarfile.open(path, "w:gz") as archive:
            for member in members:
                archive.add(member, member.relative_to(base), recursive=False)
    shutil.rmtree(folder / inner)
    return path


for kind in ("zip", "tar.gz"):
    judged_in(f"packed_beir_{kind}", packed, "beir", kind, splits=SPLITS)
    judged_in(f"packed_csv_{kind}", packed, "triplets_csv", kind)


# -- a JSON document of a whole data set --


def llama_index(folder: Path, indent: int | None) -> Path:
    whole = {
        "queries": {row["_id"]: row["text"] for row in QUERIES},
        "corpus": {row["_id"]: row["text"] for row in BARE if row["_id"][0] == "d"},
        "relevant_docs": {key: [f"d{n}"] for n, key in enumerate(KEYS)},
    }
    return save(folder / "train_dataset.json", json.dumps(whole, indent=indent))


add("llamaindex_one_line", llama_index, None)
add("llamaindex_indented", llama_index, 4)
