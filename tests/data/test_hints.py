"""What a refusal says to do next: done as it says, it gives a right reading."""

import ast
import json
import re
import shlex
import zipfile

import pytest
from datasets import Dataset, DatasetDict

from embkit.cli.main import main
from embkit.data import load_domain
from embkit.errors import EmbkitError
from tests.data.asked_shapes import IDS, labelled
from tests.data.folder_shapes import CORPUS, JUDGED, QUERIES, beir
from tests.data.picture_shapes import classes, pictures, rows
from tests.data.written import PAIRS, csv_text, file, jsonl_text, named, parquet, save, tsv_text

OWN = named("anchor", "positive")
ASKED = named("question", "answer")
UNLIKE = named("col_a", "col_b")


@pytest.fixture(autouse=True)
def whole(tmp_path, monkeypatch):
    monkeypatch.setenv("EMBKIT_RUNS", str(tmp_path / "runs"))
    monkeypatch.setenv("EMBKIT_PROFILE", "full")


# -- what is typed: a path, columns, an encoding --


def two_files(folder):
    file(folder, "faq.csv", ASKED)
    return file(folder, "old.csv", ASKED).parent, {}


def two_corpora(folder):
    return beir(beir(folder, down="a"), down="b"), {}


def one_role(folder):
    return file(folder, "a.csv", UNLIKE), {"columns": {"anchor": "col_a"}}


def no_condition(folder):
    columns = {"anchor": "query", "positive": "document", "right": "label = 1"}
    return file(folder, "a.csv", labelled("label", 1, 0)), {"columns": columns}


def no_such_encoding(folder):
    path = save(folder / "a.csv", csv_text(ASKED), "cp1252")
    return path, {"encoding": "cp12522"}


def unknown_captions(folder):
    save(folder / "t.csv", csv_text(rows("picture", "what_it_shows")))
    return pictures(folder), {}


TYPED = [two_files, two_corpora, one_role, no_condition, no_such_encoding, unknown_captions]


def in_python(hint, source, options):
    """The source and the options after a hint was typed."""
    if given := re.search(r"load_domain\(('.*?')\)", hint):
        source = ast.literal_eval(given[1])
    for name, value in re.findall(r"(\w+)=(\{.*?\}|'.*?')", hint):
        value = ast.literal_eval(value)
        both = isinstance(value, dict) and isinstance(options.get(name), dict)
        options = {**options, name: options[name] | value if both else value}
    return source, options


def refused(source, options):
    with pytest.raises(EmbkitError) as caught:
        load_domain(source, **options)
    return caught.value


@pytest.mark.parametrize("case", TYPED)
def test_what_is_typed_in_python_is_read(case, tmp_path):
    source, options = case(tmp_path / "own")
    error = refused(source, options)
    assert error.hint in str(error) and "--" not in error.hint
    after = in_python(error.hint, source, options)
    assert after != (source, options)
    domain = load_domain(after[0], **after[1])
    assert sum(1 for split in domain.qrels for _ in domain.right(split)) >= len(PAIRS)


@pytest.mark.parametrize("case", [case for case in TYPED if case is not no_condition])
def test_what_is_typed_in_a_shell_is_read(case, tmp_path, capsys):
    source, options = case(tmp_path / "own")
    error = refused(source, options)
    typed = shlex.split(error.shell.split(": ")[-1].split(" for ")[0])
    assert not re.search(r"load_domain\(|\w+=['{]", error.in_shell.split("try next:")[1])
    if typed[:4] == ["python", "-m", "embkit", "check"]:
        source, typed = typed[4], []
    assert main(["check", str(source), *typed]) in (0, 1), capsys.readouterr().err


@pytest.mark.parametrize(
    "columns, meant",
    [
        ({"anker": "question", "positive": "answer"}, "anchor"),
        ({"anchor": "question", "positive": "answr"}, "answer"),
    ],
)
def test_the_name_that_was_meant_is_read(columns, meant, tmp_path):
    path = file(tmp_path, "a.csv", ASKED)
    error = refused(path, {"columns": columns})
    assert error.hint == f"did you mean {meant!r}?"
    mended = {"anker": "anchor", "answr": "answer"}
    again = {mended.get(role, role): mended.get(name, name) for role, name in columns.items()}
    assert len(load_domain(path, columns=again).queries) == len(PAIRS)


# -- what is done: a file is mended, put elsewhere, called otherwise --


def suffix(folder):
    yield save(folder / "a.xlsx", "PK"), "save it as CSV or JSON Lines with the columns anchor and"
    yield file(folder, "a.csv", OWN)


def empty(folder):
    yield save(folder / "a.csv", ""), "check that it was written whole"
    yield file(folder, "a.csv", OWN)


def damaged_parquet(folder):
    yield save(folder / "a.parquet", "PAR0"), "save it again"
    yield parquet(folder / "a.parquet", OWN)


def damaged_zip(folder):
    yield save(folder / "a.zip", "PK"), "unpack it yourself and give the folder"
    yield file(folder / "a", "a.csv", OWN).parent


def corpora_in_a_zip(folder):
    beir(beir(folder / "in", down="a"), down="b")
    with zipfile.ZipFile(folder / "a.zip", "w") as archive:
        for path in (folder / "in").rglob("*.*"):
            archive.write(path, path.relative_to(folder / "in"))
    yield folder / "a.zip", "unpack it, and give a of what was in it"
    yield folder / "in" / "a"


def no_path(folder):
    path = file(folder, "a.csv", OWN)
    yield path.with_name("b.csv"), "check the path"
    yield path


def no_corpus(folder):
    (beir(folder) / "corpus.jsonl").unlink()
    yield folder, "write the missing part"
    save(folder / "corpus.jsonl", jsonl_text(CORPUS))
    yield folder


def no_pairs(folder):
    yield (
        save(folder / "a.txt", "prose").parent,
        "write your pairs as a CSV with the columns anchor",
    )
    yield file(folder, "a.csv", OWN)


def swapped(folder):
    turned = [dict(zip(row, [row["corpus-id"], row["query-id"], 1], strict=True)) for row in JUDGED]
    yield beir(folder, judged=turned), "swap the first two columns"
    yield beir(folder)


def judgements_of_other_names(folder):
    other = [dict(zip("abc", (f"x{n}", f"y{n}", 1), strict=True)) for n in range(48)]
    yield beir(folder, judged=other), "name the columns so, and see that their ids are those of the"
    yield beir(folder)


def two_texts(folder):
    both = [{"_id": row["_id"], "one": row["text"], "two": row["text"]} for row in CORPUS]
    yield beir(folder, corpus=both), "rename the column of texts to 'text': 'one' or 'two'"
    yield beir(folder, corpus=[{"_id": row["_id"], "text": row["one"]} for row in both])


def texts_of_no_name(folder):
    beir(folder)
    for old, new in (("corpus", "things"), ("queries", "others")):
        (folder / f"{old}.jsonl").rename(folder / f"{new}.jsonl")
    yield folder, "rename others.jsonl to corpus.jsonl or queries.jsonl"
    (folder / "others.jsonl").rename(folder / "queries.jsonl")
    yield folder


def ids_for_texts(folder):
    path = save(folder / "t.tsv", tsv_text(named("0", "1", "2", rows=IDS), header=False))
    yield path, "put the files that hold the texts into a folder with this one, and give the folder"
    texts = [("collection", 1, 1), ("collection", 2, 2), ("queries", 0, 0)]
    held = {"collection": [], "queries": []}
    for name, side, column in texts:
        held[name] += [{"_id": row[side], "text": PAIRS[n][column]} for n, row in enumerate(IDS)]
    for name, found in held.items():
        save(folder / f"{name}.jsonl", jsonl_text(found))
    yield folder


def one_column(folder):
    yield file(folder, "a.csv", named("text")), "add the column of texts that is missing"
    yield file(folder, "a.csv", named("text", "positive"))


def columns_of_a_folder(folder):
    yield beir(folder), "leave the columns out", {"columns": {"anchor": "text"}}
    yield folder


def no_captions(folder):
    yield pictures(folder), "captions that are not the same for all"
    yield classes(folder)


def splits_are_no_classes(folder):
    for split in ("train", "test", "val"):
        pictures(folder / split)
    yield folder, "add pictures, and captions"
    save(folder / "train" / "t.csv", csv_text(rows("picture", "caption")))
    yield folder


def judgements_alone(folder):
    judged = Dataset.from_list(JUDGED)
    yield judged, "DatasetDict({'corpus': ..., 'queries': ..., 'test': judgements})"
    texts = {"corpus": Dataset.from_list(CORPUS), "queries": Dataset.from_list(QUERIES)}
    yield DatasetDict(**texts, test=judged)


def no_source(folder):
    yield OWN, "Dataset.from_list(rows) for a list of dicts"
    yield Dataset.from_list(OWN)


DONE = [suffix, empty, damaged_parquet, damaged_zip, corpora_in_a_zip, no_path, no_corpus, no_pairs]
DONE += [swapped, judgements_of_other_names, two_texts, texts_of_no_name, ids_for_texts, one_column]
DONE += [columns_of_a_folder, no_captions, splits_are_no_classes, judgements_alone, no_source]


@pytest.mark.parametrize("case", DONE)
def test_what_is_done_as_the_hint_says_is_read_or_asked(case, tmp_path):
    steps = case(tmp_path / "own")
    source, hint, *options = next(steps)
    error = refused(source, options[0] if options else {})
    assert hint in error.hint and hint in error.in_shell
    mended = next(steps)
    try:
        domain = load_domain(mended)
    except EmbkitError as asked:
        assert case is one_column and asked.readings
    else:
        assert sum(1 for split in domain.qrels for _ in domain.right(split)) >= len(PAIRS)


def test_rows_that_were_put_aside_lie_where_the_error_says(tmp_path):
    path = save(tmp_path / "a.jsonl", "x\n" * 5)
    error = refused(path, {})
    told = re.search(r"(\S+) holds each bad row", error.hint)[1]
    with open(told, encoding="utf-8") as lines:
        assert [json.loads(line)["cause"] for line in lines] == ["malformed JSON"] * 5


def test_a_file_that_is_asked_about_is_asked_about_with_bad_rows_too(tmp_path):
    folder = file(tmp_path / "own", "train.jsonl", OWN).parent
    with open(folder / "train.jsonl", "a", encoding="utf-8") as rows_:
        rows_.write("x\n")
    file(folder, "test.jsonl", UNLIKE)
    assert len(refused(folder, {}).readings) == 2


def test_a_picture_beside_pairs_is_passed_over_with_columns_too(tmp_path):
    path = file(tmp_path / "own", "faq.csv", UNLIKE)
    pictures(path.parent)
    columns = {"anchor": "col_a", "positive": "col_b"}
    assert len(load_domain(path.parent, columns=columns).queries) == len(PAIRS)
