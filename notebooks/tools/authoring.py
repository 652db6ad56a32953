"""What authors of notebooks need: percent scripts made into notebooks, and the manners checked.

``notebooks/source/NN_topic.py`` is what people edit. ``build`` makes two notebooks of it: the
participant's, in which cells tagged ``solution`` are placeholders, and the one with the answers.
"""

from __future__ import annotations

import ast
import hashlib
import re
import statistics
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
from nbformat import NotebookNode

from embkit.errors import EmbkitError
from embkit.files import write_atomic
from embkit.session import paths

SOLUTION = "solution"  # a cell's tag: the participant's notebook holds a placeholder instead
HIDE = "hide"  # a cell's tag: its source is folded away, its output stays
MAX_LINES, MAX_MEDIAN, MAX_WIDTH = 15, 8, 88  # of a code cell
MAX_BYTES = 1_000_000  # of a notebook with its outputs
PROMISES = ("You will do", "You will learn", "You need")
CLOSING = ["What we saw", "Exercises", "Further reading"]
WIDGET = "application/vnd.jupyter.widget-view+json"
METADATA = {
    "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
    "language_info": {"name": "python"},
}
_A_HOME = re.compile(r"(?<![\w.])(/home/\w|/Users/\w|/root/|[A-Z]:\\+Users\\)")
MINUTES = re.compile(r"([\d.]*\d) minutes? on [^.]*CPU")  # in a first cell


def compose(source: Path) -> tuple[NotebookNode, NotebookNode]:
    """A percent script's two notebooks: the participant's, and the one with the solutions."""
    import jupytext

    given, solved = (nbformat.v4.new_notebook(metadata=METADATA) for _ in range(2))
    seen: Counter[str] = Counter()
    for number, cell in enumerate(jupytext.read(source, fmt="py:percent").cells, start=1):
        text = cell.source
        identity = hashlib.sha1(f"{source.stem}\n{seen[text]}\n{text}".encode()).hexdigest()[:8]
        seen[text] += 1
        metadata = {k: v for k, v in cell.metadata.items() if k != "lines_to_next_cell"}
        if HIDE in _tags(cell):
            metadata["jupyter"] = {"source_hidden": True}
        make = getattr(nbformat.v4, f"new_{cell.cell_type}_cell")
        solved.cells.append(make(text, id=identity, metadata=metadata))
        if SOLUTION in _tags(cell):
            try:
                text = placeholder(text) if cell.cell_type == "code" else "*Your answer here.*"
            except SyntaxError as error:
                raise EmbkitError(
                    f"{source.name}, cell {number}: the solution is no Python: {error}",
                    expected="code that runs",
                    hint=f"mend the cell in {source.name}, then build again",
                ) from error
        given.cells.append(make(text, id=identity, metadata=metadata))
    return given, solved


def placeholder(solution: str) -> str:
    """What a participant finds in place of a solution: its ``answer…`` names, still open."""
    return "\n".join(["# Your code here", *(f"{name} = ..." for name in answers(solution))])


def answers(solution: str) -> list[str]:
    """The names starting with ``answer`` that a cell gives at top level, in their order."""
    names: list[str] = []
    for node in parsed(solution).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.append(node.name)
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            parts = (part for target in targets for part in ast.walk(target))
            names += [p.id for p in parts if isinstance(p, ast.Name) and _stored(p)]
    return [name for name in dict.fromkeys(names) if name.startswith("answer")]


def parsed(source: str) -> ast.Module:
    """The syntax tree of a code cell, magics and ``await`` included."""
    from IPython.core.inputtransformer2 import TransformerManager

    plain = TransformerManager().transform_cell(source)  # magics become calls
    flags = ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    return compile(plain, "<cell>", "exec", flags)  # type: ignore[return-value]


def checks(source: str) -> dict[str, str]:
    """The exercises that a code cell checks: number → the code of the test it passes on."""
    found = {}
    for node in ast.walk(parsed(source)):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "ek.exercises.check":
            found[ast.literal_eval(node.args[0])] = ast.unparse(node.args[2])
    return found


def build(notebooks: Path | None = None, *, check: bool = False) -> list[str]:
    """Builds every notebook that is not in step with its source; outputs of the others stay.

    Args:
        notebooks: the folder; its ``source/`` holds the percent scripts.
        check: only report, write nothing.

    Returns:
        What was not in step, by path below the folder; with ``check`` also notebooks that have
        no source.
    """
    folder = notebooks or paths().notebooks
    wanted: dict[str, NotebookNode] = {}
    for source in sorted((folder / "source").glob("[0-9][0-9]_*.py")):
        given, solved = compose(source)
        wanted |= {f"{source.stem}.ipynb": given, f"solutions/{source.stem}.ipynb": solved}
    stale = [
        name
        for name, book in wanted.items()
        if not (folder / name).is_file() or _inputs(read(folder / name)) != _inputs(book)
    ]
    if check:
        found = [*folder.glob("[0-9][0-9]_*.ipynb"), *folder.glob("solutions/*.ipynb")]
        return sorted({*stale, *({p.relative_to(folder).as_posix() for p in found} - set(wanted))})
    for name in stale:
        write_atomic(folder / name, nbformat.writes(wanted[name]) + "\n")
    return stale


def promise(book: NotebookNode) -> str:
    """The first paragraph under a notebook's title."""
    text = book.cells[0].source if book.cells else ""
    blocks = (block.strip() for block in text.split("\n\n"))
    return next((" ".join(b.split()) for b in blocks if b and not b.startswith("#")), "")


def minutes(book: NotebookNode) -> float:
    """What a notebook's first cell says that it takes on a CPU; 0 where it says nothing."""
    found = MINUTES.search(book.cells[0].source if book.cells else "")
    return float(found[1]) if found else 0.0


def texts(output: NotebookNode) -> Iterator[tuple[Any, Any, str]]:
    """Every text of an output that is no picture, as (where it is kept, under what, the text)."""
    data = output.get("data", {})
    yield from ((data, k, v) for k, v in data.items() if k.startswith("text/"))
    yield from ((output, k, output[k]) for k in ("text", "evalue") if k in output)
    trace = output.get("traceback", [])
    yield from ((trace, i, line) for i, line in enumerate(trace))


def check_style(notebooks: Path | None = None) -> list[str]:
    """Every breach of the notebooks' manners, as ``notebook, cell, rule``."""
    folder = notebooks or paths().notebooks
    found = []
    for source in sorted((folder / "source").glob("[0-9][0-9]_*.py")):
        breaches = [*_source_breaches(compose(source)[1])]
        breaches += _output_breaches(folder / f"{source.stem}.ipynb")
        found += [f"{source.stem}, {breach}" for breach in breaches]
    return found


def _source_breaches(book: NotebookNode) -> Iterator[str]:
    first = book.cells[0].source if book.cells and book.cells[0].cell_type == "markdown" else ""
    if not first.startswith("# "):
        yield "cell 1: is no Markdown with a title"
    if not promise(book):
        yield "cell 1: no paragraph under the title says what the notebook promises"
    yield from (f"cell 1: says no {part!r}" for part in PROMISES if part not in first)
    if not MINUTES.search(first):
        yield "cell 1: gives no minutes on a CPU"
    prose = "\n".join(c.source for c in book.cells if c.cell_type == "markdown")
    sections = re.findall(r"^## +(.+?) *$", prose, re.M)
    if sections[-len(CLOSING) :] != CLOSING:
        yield f"last cells: the last sections are {sections[-3:]}, not {CLOSING}"
    lengths, solved, in_exercises = [], 0, False
    for number, cell in enumerate(book.cells, start=1):
        if cell.cell_type != "code":
            in_exercises = in_exercises or "## Exercises" in cell.source
            continue
        lines = cell.source.splitlines()
        lengths.append(len(lines))
        if len(lines) > MAX_LINES:
            yield f"cell {number}: {len(lines)} lines; at most {MAX_LINES}"
        for line in lines:
            if len(line) > MAX_WIDTH:
                yield f"cell {number}: a line of {len(line)} characters; at most {MAX_WIDTH}"
        if SOLUTION in _tags(cell):
            solved += in_exercises
            if not answers(cell.source):
                yield f"cell {number}: the solution gives no name that starts with 'answer'"
    if solved < 3:
        yield f"exercises: {solved} cells tagged {SOLUTION!r} under 'Exercises'; at least 3"
    if lengths and statistics.median(lengths) > MAX_MEDIAN:
        yield f"all cells: {statistics.median(lengths):g} lines in the median; at most {MAX_MEDIAN}"


def _output_breaches(path: Path) -> Iterator[str]:
    if not path.is_file():
        yield "the notebook is not built: python -m notebooks.tools.course build"
        return
    if path.stat().st_size > MAX_BYTES:
        yield f"the file has {path.stat().st_size:,} bytes; at most {MAX_BYTES:,}"
    book, shown = read(path), False
    for number, cell in enumerate(book.cells, start=1):
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            shown = shown or "image/png" in data or "<table" in data.get("text/html", "")
            if output.output_type == "error" and "raises-exception" not in _tags(cell):
                yield f"cell {number}: its output is an error"
            if WIDGET in data:
                yield f"cell {number}: its output is a widget without a kernel"
            if any(_A_HOME.search(text) for _, _, text in texts(output)):
                yield f"cell {number}: its output names a folder of somebody's machine"
    if not shown:
        yield "outputs: no figure and no table is shown; make notebooks saves them"


def _stored(name: ast.Name) -> bool:
    return isinstance(name.ctx, ast.Store)


def _tags(cell: NotebookNode) -> list[str]:
    return cell.metadata.get("tags", [])


def read(path: Path) -> NotebookNode:
    """A notebook from its file."""
    return nbformat.read(path, as_version=4)


def _inputs(book: NotebookNode) -> tuple[Any, ...]:
    cells = [(c.get("id"), c.cell_type, c.source, dict(c.metadata)) for c in book.cells]
    return cells, dict(book.metadata)
