"""Docstrings: from a short question to a long page of documentation.

Documents are what docstrings say below their first sentence, in the packages that embkit needs
anyway: parameters, notes, examples; half of them are longer than 256 word pieces. Queries of train
and ``novel`` are those first sentences. Dev and the tests ``near`` and ``far`` ask as a user would:
a language model wrote the questions, each with the words of the document that answer it. In ``far``
these stand behind the first 256 word pieces, which is all that many models read.
"""

import ast
import json
import re
from collections.abc import Iterator
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ...files import filled
from ...session import paths
from ..domain import Domain, about, normalise
from ..passages import WORD  # as BERT's tokenizers begin; a word is one piece or more
from ..splits import gathered, query_id, share
from .python_code import PACKAGES, definitions, dotted, modules, summary

LIBRARIES = PACKAGES | {"torch": "torch", "matplotlib": "matplotlib"}
TEST, DEV = 0.16, 0.24  # of the modules: tests below the first, dev below the second
WORKSHOP = 0.40  # of the modules: all tests, dev and a part of train; ``full`` has them all
WORDS = 60  # of a document, at least: words and single marks
LONG = r'"""(?:(?!""")[\s\S]){80}'  # what a file with such a docstring holds
WINDOW = 256  # of these: an answer behind them is behind as many word pieces too
QUESTIONS = "questions.jsonl"


def load(profile: str) -> Domain:
    """Builds the domain; the same packages and profile give the same content hash."""
    corpus, modules_of, asked = gathered(_documented(profile))
    groups = {document: next(iter(found)) for document, found in modules_of.items()}
    queries: dict[str, str] = {}
    qrels: dict[str, dict[str, dict[str, int]]] = {
        split: {} for split in ("train", "dev", "novel", "near", "far")
    }
    for key, (text, right) in sorted(asked.items()):
        splits = {split_of(groups[document]) for document in right}
        if len(splits) == 1:  # else a test could be answered from memory
            queries[query_id(key)] = text
            qrels[splits.pop()][query_id(key)] = dict.fromkeys(sorted(right), 1)
    lost = 0
    for key, (text, home, where) in _questions(corpus).items():
        if where is None or key in asked:
            lost += 1
            continue
        dev = split_of(groups[home]) == "dev"
        queries[query_id(key)] = text
        qrels["dev" if dev else where][query_id(key)] = {home: 1}
    facts: Any = {"groups": groups, "held_out": "novel", "about": _about(profile, lost)}
    return Domain("docstrings", profile, corpus, queries, qrels, ("novel", "near", "far"), **facts)


def split_of(module: str) -> str:
    """``novel``, ``dev`` or ``train``: what a module's summaries are for. Splits nest."""
    part = share(f"module {module}")
    return "novel" if part < TEST else "dev" if part < DEV else "train"


def _documented(profile: str) -> Iterator[tuple[str, str, str, str]]:
    """Id, module, first sentence and the rest of each docstring that is long enough."""
    for library in ["numpy"] if profile == "smoke" else LIBRARIES:
        spec = find_spec(library)
        assert spec and spec.origin, library  # embkit itself needs them all
        home = Path(spec.origin).parent
        for parts in modules(home, home.parent):
            module = dotted(parts)
            if profile != "full" and share(f"module {module}") >= WORKSHOP:
                continue
            for name, node in definitions(home.parent, parts, LONG)[1]:
                if any(part.startswith("_") for part in name.split(":")[1].split(".")):
                    continue  # not for users
                text = ast.get_docstring(node) or ""
                query = summary(text)
                if query and (found := standing(query, text)):
                    start, end = found
                    rest = f"{text[:start].strip()}\n\n{text[end:].strip()}"
                    if len(WORD.findall(rest)) >= WORDS:
                        yield name, module, query, rest.strip()


def _questions(corpus: dict[str, str]) -> dict[str, tuple[str, str, str | None]]:
    """Normalised question -> question, document, ``near`` or ``far``, None where this version of
    the package no longer has the words that answer it; of the documents that are there."""
    found: dict[str, tuple[str, str, str | None]] = {}
    file = paths().data / "docstrings" / QUESTIONS
    for row in map(json.loads, file.read_text(encoding="utf-8").splitlines()):
        if row["document"] in corpus:
            place = behind(corpus[row["document"]], row["answer"])
            where = None if place is None else "far" if place >= WINDOW else "near"
            found[normalise(row["query"])] = row["query"], row["document"], where
    return found


def standing(phrase: str, text: str) -> tuple[int, int] | None:
    """Where a phrase begins and ends in a text, however its lines are broken."""
    words = phrase.split()
    if text.startswith(whole := " ".join(words)):  # as most do; a pattern takes long to compile
        return 0, len(whole)
    found = re.search(r"\s+".join(map(re.escape, words)), text)
    return found and found.span()


def behind(document: str, answer: str) -> int | None:
    """Words and marks of a document before the words that answer a question; None without them."""
    found = standing(answer, document)
    return len(WORD.findall(document[: found[0]])) if found else None


def _about(profile: str, lost: int) -> dict[str, str]:
    names = ["numpy"] if profile == "smoke" else LIBRARIES.values()
    told: Any = {"versions": ", ".join(f"{name} {version(name)}" for name in names), "lost": lost}
    text = Path(__file__).with_name("docstrings.txt")
    return about(filled(text, **told, window=WINDOW, words=WORDS))
