"""The course as a product: notebooks run from top to bottom, their pages, the leaderboard.

``python -m notebooks.tools.course build`` makes ``notebooks/`` from ``notebooks/source/``; ``run``
executes them into ``runs/course/`` and shows the leaderboard; ``check`` says whether they are in
step with their sources and in style.
"""

from __future__ import annotations

import argparse
import contextlib
import html
import io
import multiprocessing
import os
import re
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from functools import cache
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nbformat
from nbformat import NotebookNode

from embkit.errors import EmbkitError, unknown
from embkit.files import write_atomic
from embkit.session import free_memory, paths
from notebooks.tools.authoring import (
    HIDE,
    METADATA,
    SOLUTION,
    WIDGET,
    build,
    check_style,
    checks,
    minutes,
    promise,
    read,
    texts,
)
from notebooks.tools.ending import ending

if TYPE_CHECKING:  # loading the libraries takes seconds
    from embkit.data import Domain

CELL_SECONDS = 1800
KERNEL_GB = 3.5  # of memory, for each of several notebooks at a time
_BAR = re.compile(r"\d+%\||\d+(it|B)? \[\d+:\d+")  # what tqdm draws
# Around the participant's part of a notebook that holds both, so that the solutions start from the
# names there were before the first open answer, and no check passes over a wrong one.
KEEP = "_kept = {name: value for name, value in globals().items() if name[0] != '_'}"
RESTORE = """for _name in [name for name in globals() if name[0] != '_' and name not in _kept]:
    del globals()[_name]
globals().update(_kept)
__import__('os').environ['EMBKIT_SOLUTIONS'] = '1'"""
# Below a solution's check: the same test must refuse each of some wrong answers.
TRIAL = """_test, _accepted = ({test}), []
for _text in {wrong}:
    _wrong = eval(_text)  # an error here is the list's own; one in the test counts as refused
    try:
        _accepted += [_text] * bool(_test(_wrong))
    except Exception:
        pass
assert not _accepted, f"the check of exercise {exercise} accepts {{_accepted}}\""""
_KERNEL_FILE = re.compile(r"[^\s\"'<>]*ipykernel_\d+[/\\]\d+\.py")


def say(text: str = "", end: str = "\n") -> None:
    """Writes to the terminal at once."""
    sys.stdout.write(text + end)
    sys.stdout.flush()


def ended(made: Callable[[], str]) -> int:
    """Says what was made, or the error that it ended in; the exit status."""
    try:
        say(made())
        return 0
    except EmbkitError as error:
        say(str(error))
        return 1


def add_only(parser: argparse.ArgumentParser, what: str) -> None:
    """The option that takes some notebooks, as in ``--only 04,05``."""
    listed = lambda text: [name for name in text.split(",") if name]  # noqa: E731
    parser.add_argument("--only", default=[], type=listed, metavar="NN[,NN]", help=what)


def run(
    only: Sequence[str] = (),
    *,
    notebooks: Path | None = None,
    runs: Path | None = None,
    solutions: bool = False,
    both: bool = False,
    wrong: Mapping[str, Sequence[str]] | None = None,
    write_back: bool = False,
    jobs: int = 1,
    fork: bool = False,
    beside: Callable[[], object] | None = None,
) -> int:
    """Executes the notebooks in their order, up to the first that fails.

    Each is left executed in ``course/`` under the runs' folder, also when it failed, beside its
    page and an index page.

    Args:
        only: numbers or names of the notebooks wanted, such as ``"04"``; empty means all.
        notebooks: the folder they lie in, and the working folder of their kernels.
        runs: the runs' folder.
        solutions: executes the notebooks with the solutions, into ``course/solutions/``.
        both: executes the participant's notebooks to their end, and below them, in the same kernel,
            the solutions with their checks: see ``with_solutions``.
        wrong: with ``both``, exercise → wrong answers as code, each of which its check must refuse.
        write_back: saves the outputs into the notebooks themselves too.
        jobs: so many at a time, each in a process of its own with its share of the cores; what two
            of them train is trained once, and the second waits. The first, from whose model others
            start, is begun first, then the longest. After a failure none is begun.
        fork: begins kernels with the libraries loaded, where ``kernels.can_fork``.
        beside: called while fewer than ``jobs`` run, since none is left to begin.

    Returns:
        0, or 1 after a failure.

    Raises:
        EmbkitError: no such notebook.
    """
    folder, runs = notebooks or paths().notebooks, runs or paths().runs
    books = chosen(folder / "solutions" if solutions else folder, only)
    if jobs > 1 and len(books) > 1:
        options: dict[str, Any] = {"notebooks": notebooks, "runs": runs, "solutions": solutions}
        options |= {"both": both, "wrong": wrong, "write_back": write_back, "fork": fork}
        books[1:] = sorted(books[1:], key=lambda path: -minutes(read(path)))  # none ends alone
        return _side_by_side([path.stem for path in books], options, jobs, beside)
    target = runs / "course" / ("solutions" if solutions else "")
    for number, path in enumerate(books, start=1):
        label, start = f"[{number}/{len(books)}] {path.stem} … ", time.perf_counter()
        book = read(path)
        if both:
            book = with_solutions(book, read(folder / "solutions" / path.name), wrong)
        failure, gigabytes = _execute(book, path.stem, folder, runs, label, solutions, fork)
        seconds = round(time.perf_counter() - start, 1)
        clean(book, runs)
        if write_back and not failure:
            write_atomic(path, nbformat.writes(book) + "\n")
        status = "failed" if failure else "ok"
        book.metadata["embkit"] = {"seconds": seconds, "gigabytes": gigabytes, "status": status}
        write_atomic(target / path.name, nbformat.writes(book) + "\n")
        write_atomic(target / f"{path.stem}.html", _page(book, path.stem, folder))
        index(target)
        held = f", {gigabytes:.1f} GB" if gigabytes else ""
        say(f"{'failed after ' if failure else ''}{seconds:.0f} s{held}")
        if failure:
            say(f"{failure}\nexecuted up to there: {target / path.name}")
            return 1
    return 0


def _side_by_side(
    names: Sequence[str],
    options: Mapping[str, Any],
    jobs: int,
    beside: Callable[[], object] | None = None,
) -> int:
    """Each notebook by a process of its own, so many at a time; the status, as of ``run``."""
    share = max(1, cores() // jobs)
    context, count, failed = multiprocessing.get_context("spawn"), 0, 0
    try:
        with ProcessPoolExecutor(jobs, context) as pool:
            begun = (pool.submit(_one, name, options, share) for name in names)
            running = {*islice(begun, jobs)}
            while running:
                done, running = wait(running, return_when=FIRST_COMPLETED)
                for status, told in (one.result() for one in done):
                    count += 1
                    say(told.replace("[1/1]", f"[{count}/{len(names)}]", 1), end="")
                    failed |= status
                running |= {*islice(begun, 0 if failed else len(done))}
                if beside and running and len(running) < jobs:
                    beside()
    except KeyboardInterrupt:
        say("interrupted")
        return 1
    return failed


def _one(name: str, options: Mapping[str, Any], threads: int) -> tuple[int, str]:
    """The status of a notebook, and what is said of it."""
    os.environ.setdefault("OMP_NUM_THREADS", str(threads))
    with contextlib.redirect_stdout(io.StringIO()) as told:
        return run([name], **options), told.getvalue()


def cores() -> int:
    """How many this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def at_once() -> int:
    """How many notebooks at a time: two where there are cores and memory for two, else one."""
    return max(1, min(2, cores(), int(free_memory() / 2**30 / KERNEL_GB)))


def chosen(folder: Path, only: Sequence[str]) -> list[Path]:
    found = {path.stem: path for path in sorted(folder.glob("[0-9][0-9]_*.ipynb"))}
    for name in only:
        if name not in found and name not in {stem[:2] for stem in found}:
            raise unknown("notebook", name, found or ["(none built yet)"])
    return [p for stem, p in found.items() if not only or stem in only or stem[:2] in only]


def with_solutions(
    given: NotebookNode, solved: NotebookNode, wrong: Mapping[str, Sequence[str]] | None = None
) -> NotebookNode:
    """A lesson as its participant finds it, and below it the solutions, for one kernel.

    The participant's cells come first, all of them, with open answers. Then every name is again
    what it was before the first of these, and the solved notebook goes on from there to its end,
    with checks that stop at an answer that is not right. What the solutions need and what they
    leave behind is therefore theirs alone, and no cell above an exercise runs twice. After each
    check, its wrong answers are tried in the state that there is then.
    """
    starts = (i for i, cell in enumerate(solved.cells) if SOLUTION in cell.metadata.get("tags", []))
    first = next(starts, len(solved.cells))
    code = nbformat.v4.new_code_cell
    cells = [*given.cells[:first], code(KEEP), *given.cells[first:], code(RESTORE)]
    for cell in solved.cells[first:]:
        cells.append(nbformat.from_dict({**cell, "id": f"{cell.id}-solved"}))
        for exercise, test in (checks(cell.source) if cell.cell_type == "code" else {}).items():
            if tried := [*(wrong or {}).get(exercise, ())]:
                cells.append(code(TRIAL.format(test=test, wrong=tried, exercise=exercise)))
    return nbformat.v4.new_notebook(cells=cells, metadata=given.metadata)


def _execute(
    book: NotebookNode,
    name: str,
    folder: Path,
    runs: Path,
    label: str,
    solutions: bool,
    fork: bool = False,
) -> tuple[str, float | None]:
    """Executes a notebook in place; what went wrong, "" when nothing did, and the most memory that
    its kernel held, in GB, where the system says it."""
    import zmq
    from ipykernel.kernelspec import RESOURCES, get_kernel_dict
    from jupyter_client.kernelspec import KernelSpec
    from jupyter_client.manager import AsyncKernelManager
    from nbclient import NotebookClient
    from nbclient.exceptions import CellControlSignal, CellExecutionError, DeadKernelError
    from traitlets.config import Config

    from notebooks.tools.kernels import Forking, can_fork

    class ThisPython(AsyncKernelManager):
        """Starts kernels with this interpreter, whatever kernels the machine has registered."""

        @property
        def kernel_spec(self) -> KernelSpec:
            return KernelSpec(resource_dir=str(RESOURCES), **get_kernel_dict())

        async def _async_pre_start_kernel(self, **kwargs: Any) -> Any:
            if fork and can_fork():
                known = {"kernel_id": self.kernel_id, "kernel_spec": self.kernel_spec}
                self.provisioner = Forking(parent=self, **known)
            return await super()._async_pre_start_kernel(**kwargs)

    at, terminal = 0, sys.stdout.isatty()
    held: float | None = None

    def tick(cell: NotebookNode, cell_index: int) -> None:
        nonlocal at
        at = cell_index + 1
        if terminal:
            say(f"\r\033[K{label}cell {at} of {len(book.cells)} ", end="")

    def weigh(cell: NotebookNode, cell_index: int, execute_reply: object) -> None:
        nonlocal held
        kernel = getattr(client.km and client.km.provisioner, "pid", None)
        with contextlib.suppress(OSError, IndexError):  # Linux tells it, of a live kernel
            status = Path(f"/proc/{kernel}/status").read_text()
            held = int(status.partition("VmHWM:")[2].split()[0]) / 2**20

    env = {k: v for k, v in os.environ.items() if k not in ("MPLBACKEND", "EMBKIT_SOLUTIONS")}
    env |= {"EMBKIT_RUNS": str(runs.absolute())} | ({"EMBKIT_SOLUTIONS": "1"} if solutions else {})
    encryption = "auto" if zmq.has("curve") else "disabled"
    client = NotebookClient(
        book,
        timeout=CELL_SECONDS,
        startup_timeout=180,
        kernel_manager_class=ThisPython,
        kernel_name="python3",
        config=Config({"KernelManager": {"transport_encryption": encryption}}),
        resources={"metadata": {"path": str(folder)}},
        record_timing=False,
        store_widget_state=False,
        coalesce_streams=True,
        on_cell_start=tick,
        on_cell_executed=weigh,
    )
    say(label, end="")
    try:
        client.execute(env=env)
    except (CellControlSignal, DeadKernelError, AssertionError) as error:
        cause = error.traceback if isinstance(error, CellExecutionError) else str(error)
        if isinstance(error, DeadKernelError):
            cause = "the kernel died: stopped from outside, or out of memory"
        elif isinstance(error, AssertionError):  # how nbclient ends after an interrupt
            cause = "interrupted"
        lines = re.sub(r"\x1b\[[0-9;]*m", "", cause).strip().splitlines()[-12:]
        return f"{name}, cell {at} of {len(book.cells)}:\n  " + "\n  ".join(lines), held
    finally:
        if terminal:
            say(f"\r\033[K{label}", end="")
    return "", held


def clean(book: NotebookNode, runs: Path) -> None:
    """Takes out what only this machine knows: progress bars, widget views, timings, paths."""
    book.metadata = nbformat.from_dict(METADATA)
    places = _places(runs)
    for cell in (c for c in book.cells if c.cell_type == "code"):
        cell.metadata.pop("execution", None)
        cell.outputs = [o for o in cell.outputs if _worth_keeping(o)]
        for output in cell.outputs:
            for holder, key, text in texts(output):
                for place, shown in places:
                    text = re.sub(rf"{re.escape(place)}[/\\]", f"{shown}/" if shown else "", text)
                    text = re.sub(rf"{re.escape(place)}(?![\w.-])", shown or ".", text)
                holder[key] = _KERNEL_FILE.sub("cell.py", text)


def _worth_keeping(output: NotebookNode) -> bool:
    if output.output_type == "stream" and output.name == "stderr":
        lines = [line.rsplit("\r", 1)[-1] for line in output.text.splitlines(keepends=True)]
        output.text = "".join(line for line in lines if not _BAR.search(line))
        return bool(output.text.strip())
    data = output.get("data", {})
    return data.pop(WIDGET, None) is None or bool(set(data) - {"text/plain"})


def _places(runs: Path) -> list[tuple[str, str]]:
    found = {Path.home(): "~", runs.absolute(): "runs", paths().root: ""}
    if sys.prefix != sys.base_prefix:
        found[Path(sys.prefix)] = ".venv"
    named = ((str(path), shown) for path, shown in found.items() if len(path.parts) > 1)
    return sorted(named, key=lambda place: -len(place[0]))


def _page(book: NotebookNode, name: str, folder: Path) -> str:
    from nbconvert import HTMLExporter
    from traitlets.config import Config

    fold = Config({"TagRemovePreprocessor": {"enabled": True, "remove_input_tags": [HIDE]}})
    exporter = HTMLExporter(config=fold, embed_images=True, require_js_url="data:text/javascript,")
    return exporter.from_notebook_node(book, {"metadata": {"name": name, "path": str(folder)}})[0]


def index(target: Path) -> Path:
    """Writes the page that links every executed notebook of a folder."""
    rows = []
    for path in sorted(target.glob("[0-9][0-9]_*.ipynb")):
        book = read(path)
        found = {"seconds": 0, "status": "unknown"} | book.metadata.get("embkit", {})
        held = f"{found['gigabytes']:.1f} GB" if found.get("gigabytes") else ""
        cells = html.escape(promise(book)), f"{found['seconds']:.0f} s", held, found["status"]
        link = f'<a href="{path.stem}.html">{path.stem}</a>'
        rows.append("".join(f"<td>{cell}</td>" for cell in (link, *cells)))
    report = "../report.html"
    board = f'<p><a href="{report}">The leaderboard</a></p>' if (target / report).exists() else ""
    body = "\n".join(f"<tr>{row}</tr>" for row in rows)
    return write_atomic(
        target / "index.html",
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>embkit</title>'
        "<style>body{font:16px/1.5 sans-serif;max-width:60em;margin:2em auto;padding:0 1em}"
        "td{padding:.3em 1em .3em 0;vertical-align:top}td:nth-child(n+3){white-space:nowrap;"
        "text-align:right}</style></head><body>"
        f"<h1>The course, as it ran here</h1>\n<table>\n{body}\n</table>\n{board}</body></html>\n",
    )


@cache
def whole_domain() -> Domain:
    """The domain of the course: what ``EMBKIT_DOMAIN`` names, else ``icd10cm``."""
    from embkit.data import load_domain

    return load_domain()


def leaderboard(seconds: float, jobs: int = 1, runs: Path | None = None) -> None:
    """Saves everything evaluated so far on the domain in ``EMBKIT_DOMAIN``, and says the gist, with
    the seconds that the notebooks took and how many ran at a time."""
    from embkit.evaluation.ranking import leaderboard as everything

    runs, domain = runs or paths().runs, whole_domain()
    try:
        report = everything(domain)
    except EmbkitError as error:  # the notebooks that ran evaluate nothing: no failure
        say(f"\nno leaderboard yet: {error.given}")
        return
    report.save(runs, domain)
    page = index(runs / "course")
    say(f"\n{ending(report, page, runs / 'report.html', seconds, jobs)}")


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command; returns its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m notebooks.tools.course", description="The course."
    )
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("build", help="make the notebooks from notebooks/source/")
    commands.add_parser("check", help="are the notebooks in step with their sources, in style?")
    runner = commands.add_parser("run", help="execute the notebooks, then show the leaderboard")
    add_only(runner, "these notebooks alone")
    told = "so many notebooks at a time (two where there are cores and memory for two)"
    runner.add_argument("--jobs", type=int, metavar="N", help=told)
    kind = runner.add_mutually_exclusive_group()
    kind.add_argument("--solutions", action="store_true", help="the notebooks with the answers")
    kind.add_argument("--write-back", action="store_true", help="keep outputs in notebooks/ too")
    chosen = parser.parse_args(arguments)
    try:
        if chosen.command == "build":
            built = build()
            say("\n".join(f"built {name}" for name in built) or "every notebook is in step")
            return 0
        if chosen.command == "check":
            found = [f"{name}: not in step with its source" for name in build(check=True)]
            found += check_style()
            say("\n".join(found) or "every notebook is in step and in style")
            return int(bool(found))
        start, jobs = time.perf_counter(), chosen.jobs or at_once()
        jobs = min(jobs, len(chosen.only) or jobs)
        how = {"solutions": chosen.solutions, "write_back": chosen.write_back}
        beside = None if chosen.solutions else whole_domain  # for the leaderboard
        failed = run(chosen.only, **how, jobs=jobs, fork=True, beside=beside)
        if not failed and not chosen.solutions:
            leaderboard(time.perf_counter() - start, jobs)
        return failed
    except EmbkitError as error:
        say(str(error))
        return 1


if __name__ == "__main__":
    sys.exit(main())
