"""A folder in BEIR's layout out of text that every installation has: documentation of Python code.

A query is the sentence that sums up a class or function; its document is the rest of the same
docstring, under the module's name. The text is that of Python's standard library and of packages
embkit needs anyway; it is read, never imported, and differs only with their versions.
"""

from __future__ import annotations

import ast
import json
import random
import re
import sysconfig
import warnings
from collections.abc import Iterator
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path

PACKAGES = ("numpy", "scipy", "sklearn", "pandas", "matplotlib", "torch", "sympy", "networkx")
PACKAGES += ("transformers", "datasets", "sentence_transformers", "peft", "accelerate")
LONGEST = 400  # characters of a document
SHARES = {"test": 0.2, "dev": 0.1}  # of the pairs; the rest is train


def make_beir_folder(
    path: str | Path,
    documents: int = 5000,
    pairs: int = 1000,
    seed: int = 0,
    longest: int = LONGEST,
) -> Path:
    """Writes corpus.jsonl, queries.jsonl and qrels/{train,dev,test}.tsv.

    Args:
        path: the folder; it is made.
        documents: how many documents.
        pairs: how many of them are asked for, by one query each.
        seed: of which documents are asked for, and in which split.
        longest: characters of a document at most.

    Returns:
        The folder. The same arguments and the same packages give the same bytes.

    Raises:
        ValueError: more pairs than documents, or more documents than there are docstrings.
    """
    entries = _entries(documents, longest)
    if not 0 < pairs <= documents or len(entries) < documents:
        raise ValueError(f"{documents=}, {pairs=}, and {len(entries)} docstrings found")
    asked = random.Random(seed).sample(range(documents), pairs)
    folder = Path(path)
    (folder / "qrels").mkdir(parents=True, exist_ok=True)
    with (folder / "corpus.jsonl").open("w", encoding="utf-8") as corpus:
        for number, (title, _, text) in enumerate(entries):
            row = {"_id": f"d{number}", "title": title, "text": text}
            corpus.write(json.dumps(row, ensure_ascii=False) + "\n")
    with (folder / "queries.jsonl").open("w", encoding="utf-8") as queries:
        for number in asked:
            row = {"_id": f"q{number}", "text": entries[number][1]}
            queries.write(json.dumps(row, ensure_ascii=False) + "\n")
    start = 0
    for split in ("test", "dev", "train"):
        end = start + round(SHARES.get(split, 1) * pairs)
        lines = [f"q{number}\td{number}\t1" for number in asked[start:end]]
        text = "\n".join(["query-id\tcorpus-id\tscore", *lines, ""])
        (folder / "qrels" / f"{split}.tsv").write_text(text, encoding="utf-8")
        start = end
    return folder


@lru_cache(maxsize=4)
def _entries(limit: int, longest: int) -> tuple[tuple[str, str, str], ...]:
    """The first so many (module, summary, rest): no summary and no rest occurs twice."""
    found: list[tuple[str, str, str]] = []
    seen: set[str] = set()
    for module, docstring in _docstrings():
        summary, _, rest = docstring.partition("\n\n")
        summary = " ".join(summary.split())
        rest = " ".join(re.sub(r"[-=~^]{3,}|>>>|`{1,2}", " ", rest).split())
        if len(rest) > longest:
            rest = rest[:longest].rsplit(" ", 1)[0]
        sentence = summary.casefold().rstrip(".")
        if not 5 <= len(summary.split()) <= 30 or len(rest.split()) < 15:
            continue
        if ">>>" in summary or sentence in rest.casefold() or {sentence, rest.casefold()} & seen:
            continue
        seen |= {sentence, rest.casefold()}
        found.append((module, summary, rest))
        if len(found) == limit:
            break
    return tuple(found)


def _docstrings() -> Iterator[tuple[str, str]]:
    """(module, docstring) of every class and function, the standard library first."""
    homes = [Path(sysconfig.get_paths()["stdlib"])]
    for name in PACKAGES:
        spec = find_spec(name)
        homes += [Path(place) for place in (spec.submodule_search_locations or ())] if spec else []
    for number, home in enumerate(homes):
        for file in sorted(home.rglob("*.py")):
            inside = file.relative_to(home if number == 0 else home.parent).with_suffix("")
            if {"test", "tests", "idlelib", "lib2to3", "site-packages"} & set(inside.parts):
                continue
            try:
                with warnings.catch_warnings(action="ignore"):  # old escapes in strings
                    tree = ast.parse(file.read_text(encoding="utf-8"))
            except (SyntaxError, ValueError):
                continue
            module = ".".join(part for part in inside.parts if part != "__init__")
            for node in ast.walk(tree):
                if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                    if text := ast.get_docstring(node):
                        yield module, text
