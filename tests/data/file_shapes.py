"""Files of pairs and triplets, as tables and as other libraries train on them."""

import csv
from pathlib import Path
from typing import Any

from tests.data.written import (
    ARRAYS,
    PAIRS,
    RIGHT_PAIRS,
    WRONG_PAIRS,
    Rows,
    add,
    array,
    csv_text,
    file,
    named,
    save,
    tsv_text,
)

# -- pairs and triplets --

TRIPLET = ("query", "document", "negative")
for kind in ("csv", "tsv", "jsonl", "parquet"):
    add(f"pairs_{kind}", file, f"pairs.{kind}", named(*TRIPLET[:2]))
    add(f"triplets_{kind}", file, f"triplets.{kind}", named(*TRIPLET), negatives=WRONG_PAIRS)


for how in ARRAYS:
    add(f"array_{how}_pairs", array, how, named(*TRIPLET[:2]))
    add(f"array_{how}_triplets", array, how, named(*TRIPLET), negatives=WRONG_PAIRS)

SETS = [{"set": {"query": q, "pos": [d], "neg": [w]}} for q, d, w in PAIRS]
add("set_a_line", file, "sets.jsonl", SETS, negatives=WRONG_PAIRS)
OWN = ("anchor", "positive", "negative")
TWO = [[*row, PAIRS[number - 5][2]] for number, row in enumerate(PAIRS)]
TWO_WRONG = WRONG_PAIRS + [(query, other) for query, _, _, other in TWO]
NUMBERED = named("anchor", "positive", "negative_1", "negative_2", rows=TWO)
for name, given in {
    "names_csv": ("train.csv", named(*OWN)),
    "names_jsonl": ("train.jsonl", named(*OWN)),
    "bom_csv": ("train.csv", named(*OWN), "utf-8-sig"),
    "bom_jsonl": ("train.jsonl", named(*OWN), "utf-8-sig"),
    "utf16_csv": ("train.csv", named(*OWN), "utf-16"),
    "utf16_tsv": ("train.tsv", named(*OWN), "utf-16"),
    "gz_csv": ("train.csv.gz", named(*OWN)),
    "gz_jsonl": ("train.jsonl.gz", named(*OWN)),
}.items():
    add(f"st_{name}", file, *given, negatives=WRONG_PAIRS)
add("st_numbered_csv", file, "train.csv", NUMBERED, negatives=TWO_WRONG)
add("st_numbered_parquet", file, "train.parquet", NUMBERED, negatives=TWO_WRONG)
for name in ("rejected", "neg_doc", "negative_text", "hard_negative_ctx", "non_relevant"):
    add(f"negative_{name}", file, "t.csv", named(*TRIPLET[:2], name), negatives=WRONG_PAIRS)


# -- what other libraries train on --


def titled(document: str, number: int) -> dict[str, str]:
    """A document whose first two words are its title, each second time."""
    words = document.split(" ") if number % 2 else ["", document]
    title = " ".join(words[:2]) if number % 2 else ""
    return {"title": title, "text": " ".join(words[2:]) if number % 2 else document}


FLAG = [
    {"query": q, "pos": [d], "neg": [w, other], "pos_scores": [4], "neg_scores": [1, 0]}
    | {"prompt": "Represent this sentence for searching passages:", "type": "symmetric_sts"}
    for q, d, w, other in TWO
]
add("flagembedding", file, "train.jsonl", FLAG, negatives=TWO_WRONG)
SHORT = [{key: row[key] for key in ("query", "pos", "neg")} for row in FLAG]
add("flagembedding_short", file, "train.jsonl", SHORT, negatives=TWO_WRONG)


def tevatron(**more: Any) -> Rows:
    return [
        {"query_id": str(n), "query": q}
        | more
        | {"positive_passages": [{"docid": f"d{n}", **titled(d, n)}]}
        | {"negative_passages": [{"docid": f"w{n}", **titled(w, n)}]}
        for n, (q, d, w) in enumerate(PAIRS)
    ]


add("tevatron", file, "train.jsonl", tevatron(), negatives=WRONG_PAIRS)
add("tevatron_nq", file, "train.jsonl", tevatron(answers=["water"]), negatives=WRONG_PAIRS)


def passages(text: str, number: int, score: float) -> Rows:
    """DPR's list of one passage."""
    return [{**titled(text, number), "score": score, "passage_id": f"p{number}"}]


DPR = [
    {"question": q, "answers": [d.split()[0].lower()], "positive_ctxs": passages(d, n, 1000)}
    | {"negative_ctxs": [], "hard_negative_ctxs": passages(w, n, 12.5)}
    for n, (q, d, w) in enumerate(PAIRS)
]
BOTH = [row | {"negative_ctxs": passages(TWO[n][3], n, 0)} for n, row in enumerate(DPR)]
add("dpr_jsonl", file, "train.jsonl", DPR, negatives=WRONG_PAIRS)
add("dpr_array", array, "several_lines", DPR, negatives=WRONG_PAIRS)
add("dpr_both_negatives", file, "train.jsonl", BOTH, negatives=TWO_WRONG)


# -- quotes, delimiters, lines: what one dialect of CSV says and another does not --

PLAIN = [  # one quote at a field's start, an odd number of them
    (f'"{q}' if n % 4 == 0 else f'5" of {q}' if n % 4 == 1 else q, f'"{d}' if n % 3 == 0 else d)
    for n, (q, d) in enumerate(RIGHT_PAIRS)
]
BEGUN = [  # a quote that opens a field, and one rows below that ends another
    (f'"{q}' if n == 3 else f'{q} 5"' if n == 17 else q, f'"{d}' if n == 8 else d)
    for n, (q, d) in enumerate(RIGHT_PAIRS)
]
LINES = [(q, d.replace(", ", ',\n"so to say",\n')) for q, d in RIGHT_PAIRS]
QUOTED = [(f'{q} ("urgent", he said)', f'Manual: "step one", "step two". {d}') for q, d in LINES]
ESCAPED = [(f'{q} ("urgent", he said)', f'"Listen": {d}') for q, d in RIGHT_PAIRS]
ALL, ESCAPES = {"quoting": csv.QUOTE_ALL}, {"doublequote": False, "escapechar": "\\"}


def dialect(folder: Path, name: str, pairs: list[tuple[str, str]], first="", **how: Any) -> Path:
    rows = named("question", "answer", rows=pairs)
    return save(folder / name, first + (csv_text(rows, **how) if how else tsv_text(rows)))


for name, given, how in [
    ("tsv_plain_quotes", ("pairs.tsv", PLAIN), {}),
    ("tsv_quote_begun", ("pairs.tsv", BEGUN), {}),
    ("tsv_as_pandas", ("pairs.tsv", LINES), {"delimiter": "\t"}),
    ("csv_backslashes", ("pairs.csv", ESCAPED), ALL | ESCAPES),
    ("csv_sep_line", ("pairs.csv", RIGHT_PAIRS, "sep=;\n"), {"delimiter": ";"}),
    ("csv_semicolons", ("pairs.csv", RIGHT_PAIRS), {"delimiter": ";"}),
    ("csv_bars", ("pairs.csv", RIGHT_PAIRS), {"delimiter": "|"}),
    ("csv_newlines", ("pairs.csv", LINES), ALL),
    ("csv_doubled_quotes", ("pairs.csv", QUOTED), {"delimiter": ","}),
]:
    add(name, dialect, *given, pairs=given[1], **how)
