"""Slides from the lessons: ``python -m notebooks.tools.slides`` writes ``build/slides/``.

Which cell begins a slide follows from the cell itself, so that no source needs tags: a heading
begins a slide, an output one below it (or stays under a heading with few words), and prose stays
with what stands before it. Code without an output, checks and solutions are left out; the code of a
table or a figure is folded.
"""

from __future__ import annotations

import argparse
import re
import shutil
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path

import bs4
from nbformat import NotebookNode

from embkit.assets.wheels import Package, Unreachable, download
from embkit.errors import EmbkitError
from embkit.files import replace_folder, write_atomic
from embkit.session import paths
from notebooks.tools.authoring import HIDE, SOLUTION
from notebooks.tools.course import add_only, chosen, ended
from notebooks.tools.site import PAGES, finish, shown

# reveal.js as a Python package carries it (MIT; its licence is copied beside it).
REVEAL = Package(
    "sphinx-revealjs==3.2.1",
    "805bed3ca459346e0f01967d5ed1c40d6b7b917de1541e1e4566c8341fe7017b",
    2_390_529,
)
MEMBER = "sphinx_revealjs/_static/revealjs/"
FILES = ("dist/reveal.js", "dist/reveal.css", "LICENSE")
LEFT_OUT = ("## Further reading",)  # sections that nobody reads on a wall
CHECK = "ek.exercises.check("
SHORT = 240  # characters under a heading that leave room for an output


def slides(
    folder: Path | None = None,
    only: Sequence[str] = (),
    *,
    notebooks: Path | None = None,
    runs: Path | None = None,
) -> list[Path]:
    """Writes the slides of each lesson: ``NN_topic.slides.html``, to be opened from the disk.

    Args:
        folder: where to; it is replaced. Default: ``build/slides``.
        only: numbers or names of lessons; empty means all.
        notebooks: where the lessons are; default: the course's.
        runs: the runs' folder, whose ``course/`` is taken where it is.

    Raises:
        EmbkitError: no such lesson, or reveal.js is not here and cannot be fetched.
    """
    from nbconvert import SlidesExporter

    notebooks, runs = notebooks or paths().notebooks, runs or paths().runs
    folder, books = folder or paths().root / "build" / "slides", chosen(notebooks, only)
    wheel = _reveal(paths().cache / "assets")
    found = {"extra_template_basedirs": [str(PAGES)], "extra_template_paths": [str(PAGES)]}
    exporter = SlidesExporter(template_name="slides", exclude_anchor_links=True, **found)

    def write(target: str) -> None:
        for path in books:
            book, _ = shown(path, runs / "course" / path.name)
            mark(book)
            page = exporter.from_notebook_node(book, {"metadata": {"name": path.stem}})[0]
            soup = bs4.BeautifulSoup(page, "html.parser")
            finish(soup)
            write_atomic(Path(target, f"{path.stem}.slides.html"), str(soup))
        for name in ("site.css", "slides.css", "slides.js"):
            shutil.copy(PAGES / name, target)
        with zipfile.ZipFile(wheel) as archive:
            for name in FILES:
                write_atomic(Path(target, "reveal", Path(name).name), archive.read(MEMBER + name))

    replace_folder(folder, write)
    return [folder / f"{path.stem}.slides.html" for path in books]


def mark(book: NotebookNode) -> None:
    """Gives each cell its kind of slide, as nbconvert's ``slideshow`` metadata names it."""
    skipping, room = False, False
    for cell in book.cells:
        heading = re.search(r"^#{1,2} .*", cell.source, re.M) if cell.cell_type != "code" else None
        if heading:
            skipping = heading[0] in LEFT_OUT
        tags = cell.metadata.get("tags", [])
        hidden = HIDE in tags and not cell.outputs
        if skipping or hidden or SOLUTION in tags or CHECK in cell.source:
            kind = "skip"
        elif cell.cell_type == "code":
            kind = ("-" if room else "subslide") if cell.outputs else "skip"
        else:
            kind = "slide" if heading else "-"
        if kind != "skip":
            room = kind == "slide" and len(cell.source) < SHORT
        cell.metadata["slideshow"] = {"slide_type": kind}


def _reveal(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    try:
        return download(REVEAL, folder)
    except Unreachable as error:
        raise EmbkitError(
            f"reveal.js, which shows the slides, is not here: {error}",
            expected="a package index, once; nothing is installed",
            hint="make slides where there is a network; or make site, which needs none",
        ) from error


def main(arguments: Sequence[str] | None = None) -> int:
    """Writes the slides; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m notebooks.tools.slides", description=__doc__)
    add_only(parser, "these lessons alone")
    only = parser.parse_args(arguments).only
    return ended(lambda: "\n".join(f"written: {path}" for path in slides(only=only)))


if __name__ == "__main__":
    sys.exit(main())
