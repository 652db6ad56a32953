"""ICD-10-CM: from the phrase a clinician writes to the code's official title.

Queries are phrases that human coders wrote: a code's inclusion terms and Includes notes, and the
phrases of Excludes notes: the codes they cite are right, the code they stand at looks right and is
not. The test split ``lay`` asks in a patient's words, which a language model wrote.
"""

import json
import re
from collections import defaultdict
from pathlib import Path
from typing import Any

from ...files import readable
from ...session import paths
from ..domain import Domain, about, normalise
from ..splits import query_id, split_by_kind

CHAPTERS = {
    "smoke": ("D5", "D6", "D7", "D8"),  # blood and the immune mechanism
    "workshop": tuple("ABCDEFG"),
    "full": tuple("ABCDEFGHIJKLMNOPQRUZ"),  # all but injury and external causes (S, T, V–Y)
}
CITED = re.compile(r"^(?P<phrase>.+?)\s*\((?P<codes>[A-Z]\d[^()]*)\)\s*$")
CODE = re.compile(r"^([A-Z]\d[\dA-Z](?:\.[\dA-Z]{1,4})?)\.?-?$")
MOST_CITED = 4  # a note that cites more codes than this names a group rather than an answer

ABOUT = about(Path(__file__).with_name("icd10cm.txt").read_text(encoding="utf-8"))


def load(profile: str) -> Domain:
    """Builds the domain; the same release and profile give the same content hash."""
    corpus, home, parents = _corpus(CHAPTERS[profile])
    phrases, negatives = _phrases(home)
    titles = {normalise(text) for text in corpus.values()}
    asked = {key: phrases[key] for key in set(phrases) - titles}
    queries, qrels = split_by_kind(asked, lambda code: [code[:3]])
    keys = {query: normalise(text) for query, text in queries.items()}
    wrong = {
        query: tuple(sorted(d for d in negatives.get(key, ()) if not _related(d, asked[key][1])))
        for query, key in keys.items()
    }
    qrels["lay"] = {}
    for key, (text, code) in _lay(home).items():
        if key not in phrases and key not in titles:
            query = f"lay{query_id(key)[1:]}"
            queries[query], qrels["lay"][query] = text, {code: 1}
    facts: Any = {"groups": {code: code[:3] for code in corpus}, "held_out": "novel"}
    facts |= {"negatives": {query: documents for query, documents in wrong.items() if documents}}
    facts |= {"parents": parents, "about": ABOUT}
    return Domain("icd10cm", profile, corpus, queries, qrels, ("known", "novel", "lay"), **facts)


def _corpus(prefixes: tuple[str, ...]) -> tuple[dict[str, str], dict[str, str], dict[str, str]]:
    """Titles by code; code -> the code that stands for its title; code -> parent."""
    import simple_icd_10_cm as icd

    corpus: dict[str, str] = {}
    first: dict[str, str] = {}  # title -> the first code that bears it: twins are one document
    home: dict[str, str] = {}
    for code in icd.get_all_codes(True):
        if not code.startswith(prefixes) or not icd.is_category_or_subcategory(code):
            continue
        title = " ".join(icd.get_description(code).split())
        home[code] = first.setdefault(normalise(title), code)
        corpus.setdefault(home[code], title)
    parents = {
        code: home[above]
        for code in corpus
        if len(code) > 3 and (above := icd.get_parent(code)) in home and home[above] != code
    }
    return corpus, home, parents


def _lay(home: dict[str, str]) -> dict[str, tuple[str, str]]:
    """Normalised query -> (query, code) of the test half of data/icd10cm/lay.jsonl."""
    found = {}
    file = paths().data / "icd10cm" / "lay.jsonl"
    hint = "work in a clone, install embkit anew, or take data of your own: "
    hint += "load_domain('path/to/your/folder')"
    with readable(file, OSError, said="read for the lay queries of icd10cm", hint=hint):
        lines = file.read_text(encoding="utf-8").splitlines()
    for row in map(json.loads, lines):
        if row["split"] == "test" and row["document"] in home:
            found[normalise(row["query"])] = row["query"], home[row["document"]]
    return found


def _phrases(home: dict[str, str]) -> tuple[dict[str, tuple[str, set[str]]], dict[str, set[str]]]:
    """Normalised phrase -> (phrase, right codes), and -> codes whose Excludes note holds it."""
    import simple_icd_10_cm as icd

    right: dict[str, tuple[str, set[str]]] = {}
    wrong: dict[str, set[str]] = defaultdict(set)

    def add(phrase: str, code: str) -> str:
        phrase = " ".join(phrase.split())
        key = normalise(phrase)
        right.setdefault(key, (phrase, set()))[1].add(home[code])
        return key

    for code in filter(icd.is_category_or_subcategory, icd.get_all_codes(True)):
        if code in home:
            for term in (*icd.get_inclusion_term(code), *icd.get_includes(code)):
                if term.strip():
                    add(term, code)
        for note in (*icd.get_excludes1(code), *icd.get_excludes2(code)):
            phrase, cited = _citation(note)
            for answer in cited if all(c in home for c in cited) else ():
                key = add(phrase, answer)
                if code in home:
                    wrong[key].add(home[code])
    return right, wrong


def _citation(note: str) -> tuple[str, list[str]]:
    """An Excludes note's phrase and the codes it cites; none where it cites a range or a group."""
    found = CITED.match(note)
    if not found:
        return note, []
    codes = [CODE.match(part.strip()) for part in found["codes"].split(",")]
    if len(codes) > MOST_CITED or not all(codes):
        return found["phrase"], []
    return found["phrase"], [code[1] for code in codes if code]


def _related(code: str, others: set[str]) -> bool:
    """Whether a code is one of the others, or above or below one of them."""
    return any(code.startswith(other) or other.startswith(code) for other in others)
