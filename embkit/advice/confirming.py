"""Written queries as a domain: cut by document, and a test of those that a person confirms."""

import csv
import io
import itertools
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from ..data.domain import Domain, normalise
from ..data.splits import connected, deal, in_order, query_id
from ..data.text_checks import near_pairs
from ..files import write_atomic
from ..pairs.labels import LabelStore
from ..session import profile
from .curves import refused

CONFIRM, ENOUGH = 100, 30  # queries that a person is asked to confirm; judged ones that will do
SHARES = {"test": (0.3, 300), "dev": (0.2, 200)}  # of the queries, and how many at most
DRAWN = 0.7  # of the test's queries, at most, go to a person
COLUMNS = ("query", "document", "passage", "right")
YES, NO = "y yes 1 2 true t x ok right j ja oui o si sí s", "n no 0 false f wrong nein non"
ANSWERS = {said: said in YES.split() for said in f"{YES} {NO}".split()}
Texts = Mapping[str, str]
Row = dict[str, Any]


class Asked(NamedTuple):
    """A row of the file that a person fills in."""

    query: str
    document: str
    passage: str
    right: bool | None = None


def write_asked(path: Path, rows: Sequence[Asked]) -> Path:
    """Writes the rows as a CSV that spreadsheets open, its last column empty."""
    out = io.StringIO(newline="")
    cells = ([f" {text}" if text[:1] in tuple("=+-@\t") else text for text in r[:3]] for r in rows)
    csv.writer(out).writerows([COLUMNS, *([*row, ""] for row in cells)])  # no cell is a formula
    return write_atomic(path, b"\xef\xbb\xbf" + out.getvalue().encode())


def read_asked(path: Path) -> list[Asked]:
    """The rows as they stand now; fails for a column that is gone, and for an unclear answer."""
    data = path.read_bytes()
    try:
        text = data.decode("utf-16" if data[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    except UnicodeDecodeError:  # as a spreadsheet may save it
        text = data.decode("cp1252", "replace")
    first, found = text.partition("\n")[0], []
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=max(",;\t", key=first.count))
    reader.fieldnames = [name.strip().lower() for name in reader.fieldnames or ()]
    if missing := {"query", "document", "right"} - {*reader.fieldnames}:
        gone, columns = ", ".join(sorted(missing)), ", ".join(COLUMNS)
        raise refused("no column", path=path, missing=gone, columns=columns)
    for row in reader:
        query, document, passage, said = ((row.get(name) or "").strip() for name in COLUMNS)
        if said and said.casefold() not in ANSWERS:
            raise refused("unclear answer", line=reader.line_num, path=path, said=said[:40])
        if normalise(query) and document:
            found.append(Asked(query, document, passage, ANSWERS.get(said.casefold())))
    return found


def merged(asked: Sequence[Asked], store: LabelStore) -> list[Asked]:
    """What the file says and what the annotator kept; where they differ, a no counts."""
    said, found = store.qrels("strictest"), []
    for row in asked:
        grade = said.get(query_id(normalise(row.query)), {}).get(row.document)
        given = [row.right] * (row.right is not None) + [grade == 2] * (grade is not None)
        found.append(row._replace(right=all(given) if given else None))
    return found


def groups_of(rows: Sequence[Row], bodies: Texts) -> dict[str, str]:
    """Document -> the first of those that are nearly the same, of all that are asked about."""
    ids = sorted({row["document"] for row in rows})
    texts = [bodies[document] for document in ids]
    near: dict[str, set[int]] = defaultdict(set)
    for i, j, _ in near_pairs(texts, texts):
        near[ids[j]] |= {i, j}
    parts = connected((document, near[document]) for document in ids)
    found = {document: min(part) for part in parts for document in part}
    most = max(Counter(found[row["document"]] for row in rows).values())
    # alike by what stands on every page: each by itself
    return found if most <= len(rows) / 3 else {document: document for document in ids}


def divided(rows: Sequence[Row], groups: Texts, tested: Sequence[str] = ()) -> dict[str, list[Row]]:
    """Rows as ``test``, ``dev`` and ``train``, by groups; those of ``tested`` go to the test."""
    own: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        own[groups[row["document"]]].append(row)
    test = [
        row for group in sorted({groups.get(d, d) for d in tested}) for row in own.pop(group, ())
    ]
    goals = {name: min(most, round(part * len(rows))) for name, (part, most) in SHARES.items()}
    goals["test"] = max(0, goals["test"] - len(test))
    goals["train"] = max(1, sum(map(len, own.values())) - sum(goals.values()))
    dealt = deal({in_order(group, 0): part for group, part in own.items()}, goals)
    found = {name: [*itertools.chain(*parts)] for name, parts in dealt.items()}
    found["test"] += test
    if empty := [name for name, part in found.items() if not part]:
        raise refused("nothing left", n=len(rows), split=empty[0])
    return found


def draw(rows: Sequence[Row], groups: Texts, passage: Mapping[tuple[str, int], str]) -> list[Asked]:
    """What a person is to confirm: queries of the test, spread over its documents."""
    test, turn, ranked = divided(rows, groups)["test"], Counter[str](), []
    for row in sorted(test, key=lambda row: in_order(row["query"], 0)):
        turn[row["document"]] += 1
        places = ((row["document"], n) for n in (row.get("passage", 0), 0))
        text = next(filter(None, map(passage.get, places)), "")
        ranked.append((turn[row["document"]], Asked(row["query"], row["document"], text)))
    ranked.sort(key=lambda each: each[0])
    return [row for _, row in ranked[: max(1, min(CONFIRM, round(DRAWN * len(test))))]]


def domain_of(
    name: str,
    bodies: Texts,
    rows: Sequence[Row],
    asked: Sequence[Asked],
    groups: Texts,
    about: Texts,
) -> Domain:
    """Documents and queries in splits: ``confirmed`` by people, and ``written`` by the model."""
    taken = {normalise(row.query) for row in asked}
    judged = {True: "confirmed", None: "written"}  # what nobody has judged is not trained on
    found = [(judged[row.right], *row[:2]) for row in asked if row.right in judged]
    for split, part in divided(rows, groups, [row.document for row in asked]).items():
        split = "written" if split == "test" else split
        left = (row for row in part if normalise(row["query"]) not in taken)
        found += [(split, row["query"], row["document"]) for row in left]
    qrels: dict[str, dict[str, dict[str, int]]] = {
        split: {} for split in ("train", "dev", "confirmed", "written")
    }
    queries: dict[str, str] = {}
    for split, text, document in found:
        key = query_id(normalise(text))
        if key not in queries or key in qrels[split]:
            queries.setdefault(key, text)
            qrels[split].setdefault(key, {})[document] = 1
    qrels = {split: part for split, part in qrels.items() if part}
    tests = tuple(split for split in ("confirmed", "written") if split in qrels)
    return Domain(
        name=name,
        profile=profile(),
        corpus=bodies,
        queries=queries,
        qrels=qrels,
        test_splits=tests,
        groups={row.document: row.document for row in asked} | {**groups},
        held_out=tests[0],
        about=about,
    )
