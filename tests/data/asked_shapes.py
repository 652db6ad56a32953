"""Files that say two things: which is meant is asked, and each answer that is offered loads."""

import json
from pathlib import Path
from typing import Any

from tests.data.written import (
    PAIRS,
    RIGHT_PAIRS,
    WRONG_PAIRS,
    Rows,
    add,
    csv_text,
    file,
    named,
    save,
)

FIRST, SECOND = "query", "document"


def labelled(name: str, right: Any, wrong: Any, names=(FIRST, SECOND)) -> Rows:
    """Each query with its right and with its wrong document, and which is which."""
    return [
        dict(zip((*names, name), (query, document, said), strict=True))
        for query, *documents in PAIRS
        for document, said in zip(documents, (right, wrong), strict=True)
    ]


LABELS = ("label", "relevancy", "is_match", "target", "judgement", "y", "gold", "is_duplicate")
for name in (*LABELS, "Relevant?"):
    plain = name.strip("?").lower()
    add(f"label_{plain}", file, "t.csv", labelled(name, 1, 0), negatives=WRONG_PAIRS, asked=True)
for kind, right, wrong in [
    ("jsonl", True, False),
    ("jsonl", 1.0, 0.0),
    ("csv", "true", "false"),
    ("csv", "True", "False"),
    ("csv", "yes", "no"),
    ("parquet", True, False),
    ("parquet", 1, 0),
]:
    add(
        f"label_{kind}_{right}",
        file,
        f"train.{kind}",
        labelled("label", right, wrong),
        negatives=WRONG_PAIRS,
        asked=True,
    )


def entailment(*labels: Any) -> Rows:
    """A premise with what follows, what may be, what contradicts, and what nobody agreed on."""
    return [
        {"premise": query, "hypothesis": text, "label": label}
        for number, (query, right, wrong) in enumerate(PAIRS)
        for text, label in zip(
            (right, f"Dish {number} is on the menu.", wrong, f"Guest {number} has left."),
            labels,
            strict=True,
        )
    ]


WORDS = ("entailment", "neutral", "contradiction", "-")
for name, path, labels in [
    ("nli_integers", "train.jsonl", (0, 1, 2, -1)),
    ("nli_integers_csv", "train.csv", (0, 1, 2, -1)),
    ("nli_words", "train.csv", WORDS),
    ("nli_words_jsonl", "train.jsonl", WORDS),
]:
    add(name, file, path, entailment(*labels), negatives=WRONG_PAIRS, asked=True)

SIMILAR = [  # from 0 to 5: the right ones from 3.6, the wrong ones to 2
    row | {"score": f"{3.6 + n % 8 * 0.2 if n % 2 == 0 else n % 5 * 0.5:.3f}"}
    for n, row in enumerate(labelled("score", "", "", ("sentence1", "sentence2")))
]
FLOATS = [row | {"score": float(row["score"])} for row in SIMILAR]
add("sts_tsv", file, "train.tsv", SIMILAR, negatives=None, asked=True)
add("sts_jsonl", file, "train.jsonl", FLOATS, negatives=None, asked=True)
UNIT = [row | {"score": row["score"] / 5} for row in FLOATS]
add("sts_unit", file, "train.csv", UNIT, negatives=None, asked=True)

QUORA = [
    {"id": n, "qid1": n // 2, "qid2": 100 + n, **row}
    for n, row in enumerate(labelled("is_duplicate", 1, 0, ("question1", "question2")))
]
add("quora_tsv", file, "questions.tsv", QUORA, negatives=WRONG_PAIRS, asked=True)
add("quora_csv", file, "questions.csv", QUORA, negatives=WRONG_PAIRS, asked=True)

add("two_unknown_names", file, "texts.csv", named("col_a", "col_b"), asked=True)
add("two_unknown_names_jsonl", file, "texts.jsonl", named("col_a", "col_b"), asked=True)

OTHERS = [(query, PAIRS[n - 7][1]) for n, (query, *_) in enumerate(PAIRS)]
ROWS = [list(pair) for pair in RIGHT_PAIRS]
LISTS = "".join(json.dumps(row) + "\n" for row in ROWS)
add("array_a_line", lambda folder: save(folder / "pairs.jsonl", LISTS), asked=True)
for how in (None, 2):
    text = json.dumps(ROWS, indent=how)
    add(
        f"array_of_arrays_{how}",
        lambda folder, text: save(folder / "a.json", text),
        text,
        asked=True,
    )

UNNAMED = [
    {FIRST: query, SECOND: document, "contrast": other}
    for (query, document), (_, other) in zip(RIGHT_PAIRS, OTHERS, strict=True)
]
add("unknown_negatives", file, "triplets.csv", UNNAMED, negatives=OTHERS, asked=True)

# 36 rows without a label, and then the table with one
EARLY = [
    {FIRST: f"{query}, take {n}", SECOND: f"{document} That is note {n}."}
    for n, (query, document) in enumerate((RIGHT_PAIRS * 2)[:36])
]
LATE = EARLY + labelled("label", 1, 0)
add("label_after_row_36", file, "long.jsonl", LATE, negatives=WRONG_PAIRS, asked=True)


def western(folder: Path, form) -> Path:
    """Every row has a letter that UTF-8 writes otherwise."""
    rows = named("question", "answer", rows=EURO)
    return save(folder / "spreadsheet.csv", form(rows), "cp1252")


EURO = [(f"{query} – où ?", f"{document} (5 €)") for query, document in RIGHT_PAIRS]
add("cp1252", western, lambda rows: csv_text(rows, delimiter=";"), pairs=EURO, asked=True)

# numbers where texts should be
IDS = [[1_000_003 * (n + side) % 7_919_017 for side in (1, 100, 200)] for n in range(24)]
NAMES = ("query", "positive", "negative")
add("ids_csv", file, "triplets.csv", named(*NAMES, rows=IDS), pairs=None)
add("ids_jsonl", file, "triplets.jsonl", named(*NAMES, rows=IDS), pairs=None)
BARE = "".join("\t".join(map(str, row)) + "\n" for row in IDS)
add("ids_tsv", lambda folder: save(folder / "qidpidtriples.train.tsv", BARE), pairs=None)
