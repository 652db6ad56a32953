"""Python code: from the sentence that sums up a function to the function's code.

Queries are the first sentences of docstrings. Documents are the same functions without docstring
and without name, which often says the same: ``def _(path, mode):`` and the body, in which the
function's own name is ``_`` too. The code is that of Python's standard library and, in the profile
``full``, of some packages, as installed. It is read as text; none of it is imported or run.
"""

import ast
import platform
import random
import re
import sysconfig
import textwrap
import tokenize
import warnings
from collections import Counter
from collections.abc import Iterator
from functools import cache
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ... import session
from ...files import filled, told_by
from ..domain import Domain, about, shuffled
from ..refusals import refused
from ..splits import gathered, split_by_kind

PACKAGES = {"numpy": "numpy", "scipy": "scipy", "pandas": "pandas", "sklearn": "scikit-learn"}
MODULES = {what: told.split() for what, told in told_by(__file__, "python_code.toml").items()}
QUERY_WORDS = 5  # of a query, at least
BODY_WORDS = 10  # names, keywords and numbers of a body, at least: less says nothing by itself
PROBE = "general"  # the probe's name as a domain, and of its test split
PROBE_DOCUMENTS, PROBE_QUERIES = 1_500, 60  # the queries in ``smoke``

_SENTENCE = re.compile(
    r"(?<=[.!?])(?<!e\.g\.)(?<!i\.e\.)(?<!etc\.)(?<!vs\.)\s+(?=[A-Z`'\"(])"  # where one ends
)
_SIGNATURE = re.compile(r"[\w.]+\(.*\)\s*((->|=|--|:).*)?$")  # a docstring's first line, at times
_WORD = re.compile(r"\w+")


Definition = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef
Function = tuple[str, str, str, str]  # module:qualified name, ``unit``, query, document


def load(profile: str) -> Domain:
    """Builds the domain; the same Python, packages and profile give the same content hash."""
    corpus, units, asked = gathered(_functions(profile))
    groups = {document: next(iter(found)) for document, found in units.items()}
    queries, qrels = split_by_kind(asked, units.__getitem__)
    facts: Any = {"groups": groups, "held_out": "novel", "about": _about(profile)}
    return Domain("python_code", profile, corpus, queries, qrels, ("known", "novel"), **facts)


def _functions(profile: str) -> Iterator[Function]:
    """All functions; an error where the standard library's sources are not installed."""
    library = Path(sysconfig.get_paths()["stdlib"])
    if not any(library.glob("*.py")):
        raise refused("no library", folder=library.name)
    yield from _of_folder(library, library, MODULES["smoke"] if profile == "smoke" else None)
    for name in PACKAGES if profile == "full" else ():
        spec = find_spec(name)
        assert spec and spec.origin, name  # embkit itself needs them all
        home = Path(spec.origin).parent
        yield from _of_folder(home, home.parent)


def _of_folder(folder: Path, root: Path, only: list[str] | None = None) -> Iterator[Function]:
    """The usable functions of a folder's files."""
    for parts in modules(folder, root):
        if only is None or parts[0] in only:
            text, found = definitions(root, parts)
            lines = text.split("\n")  # not splitlines(): the parser counts no form feed
            for name, node in found:
                query = summary(ast.get_docstring(node) or "")
                if not isinstance(node, ast.ClassDef) and query:
                    if document := _document(node, lines):
                        yield name, unit(parts), query, document


def modules(folder: Path, root: Path) -> Iterator[tuple[str, ...]]:
    """The modules of a folder as the parts of their paths below a root, in a fixed order."""
    left_out = {*MODULES["left_out"]}
    for file in sorted(folder.rglob("*.py"), key=lambda path: path.as_posix()):
        parts = file.relative_to(root).with_suffix("").parts
        if left_out.isdisjoint(parts):
            yield parts


def dotted(parts: tuple[str, ...]) -> str:
    """A module's name."""
    return ".".join(part for part in parts if part != "__init__")


def definitions(
    root: Path, parts: tuple[str, ...], holds: str = ""
) -> tuple[str, list[tuple[str, Definition]]]:
    """A module's text, and its classes, methods and functions with their ids, not those within
    functions; none of a file without the pattern ``holds``, or that this Python cannot parse."""
    try:
        with tokenize.open(root.joinpath(*parts).with_suffix(".py")) as stream:  # in its encoding
            text = stream.read()
        if not re.search(holds, text):
            return text, []
        with warnings.catch_warnings(action="ignore"):  # odd escapes in strings
            tree = ast.parse(text)
    except (SyntaxError, ValueError, OSError):
        return "", []
    module = dotted(parts)
    seen: Counter[str] = Counter()
    found = []
    for name, node in _definitions(tree.body, ""):
        seen[name] += 1
        again = f"#{seen[name]}" if seen[name] > 1 else ""
        found.append((f"{module}:{name}{again}", node))
    return text, found


def _definitions(body: list[ast.stmt], inside: str) -> Iterator[tuple[str, Definition]]:
    for node in body:
        if isinstance(node, Definition):
            yield inside + node.name, node
            if isinstance(node, ast.ClassDef):
                yield from _definitions(node.body, f"{inside}{node.name}.")
        else:  # if, try, with
            for part in ("body", "orelse", "handlers", "finalbody"):
                yield from _definitions(getattr(node, part, []), inside)


def unit(parts: tuple[str, ...]) -> str:
    """What is held out as a whole: a top-level module, or a part of a package."""
    deep = 1 if parts[0] not in PACKAGES else 3 if parts[:2] == ("pandas", "core") else 2
    return ".".join(parts[:deep])


def summary(docstring: str) -> str:
    """The first sentence of a docstring, or its first paragraph; the signature is passed over."""
    lines = docstring.strip().split("\n")
    if _SIGNATURE.match(lines[0].strip()):
        lines = lines[1:]
    paragraph = "\n".join(lines).strip().split("\n\n")[0]
    paragraph = " ".join(paragraph.split())
    for text in (_SENTENCE.split(paragraph)[0], paragraph):
        if len(text.split()) >= QUERY_WORDS and ">>>" not in text:
            return text
    return ""


def _document(node: ast.FunctionDef | ast.AsyncFunctionDef, lines: list[str]) -> str:
    """``def _(parameters):`` and the body's lines after the docstring, comments included."""
    if len(node.body) < 2 or (start := node.body[0].end_lineno or 0) >= node.body[1].lineno:
        return ""
    body = textwrap.dedent("\n".join(lines[start : node.end_lineno])).strip("\n")
    own = re.escape(node.name)
    body = re.sub(rf"(\b(?:self|cls|super\(\))\.|(?<![\w.])){own}\b", r"\1_", body)
    if len(_WORD.findall(body)) < BODY_WORDS:
        return ""
    given = node.args
    named = [*given.posonlyargs, *given.args, given.vararg, *given.kwonlyargs, given.kwarg]
    parameters = ", ".join(argument.arg for argument in named if argument)
    return f"def _({parameters}):\n{textwrap.indent(body, '    ')}"


def _about(profile: str) -> dict[str, str]:
    code = f"the standard library of Python {platform.python_version()}"
    if profile == "full":
        versions = [f"{project} {version(project)}" for project in PACKAGES.values()]
        code += f", and {', '.join(versions)}"
    told = {"code": code[0].upper() + code[1:], "body": BODY_WORDS, "query": QUERY_WORDS}
    return about(filled(Path(__file__).with_name("python_code.txt"), **told))


def general_probe() -> Domain:
    """A general task that needs no download: from what a function does, in words, to its code.

    Its one split, ``general``, holds the test queries of ``python_code``, which search 1,500
    functions; in ``smoke`` 60 of them, which search their right ones. A model that was trained on
    another domain and lost general ability scores less here than before.
    """
    return _probe(small=session.profile() == "smoke")


@cache
def _probe(small: bool) -> Domain:
    code = load("workshop")
    asked = {q: dict(judged) for s in code.test_splits for q, judged in code.qrels[s].items()}
    if small:
        some = random.Random(0).sample(sorted(asked), min(PROBE_QUERIES, len(asked)))
        asked = {query: asked[query] for query in some}
    right = {document for judged in asked.values() for document in judged}
    rest = [] if small else shuffled(set(code.corpus) - right)
    kept = sorted(right) + rest[: max(0, PROBE_DOCUMENTS - len(right))]
    corpus = {document: code.corpus[document] for document in kept}
    queries = {query: code.queries[query] for query in asked}
    qrels = {"train": {}, "dev": {}, PROBE: asked}
    return Domain(PROBE, "workshop", corpus, queries, qrels, (PROBE,), about=code.about)
