"""Copies of the lessons for Colab, Kaggle and Binder: each with badges, and a first cell that
installs what is missing.

A lesson does not know where its repository is published, so its address is given:
``python -m notebooks.tools.hosted https://github.com/OWNER/embkit`` writes ``build/hosted/``.
Commit that folder to the branch ``hosted`` of the repository: the badges point there.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path

import nbformat

from embkit.errors import EmbkitError
from embkit.files import replace_folder, write_atomic
from embkit.session import paths
from notebooks.tools.authoring import read
from notebooks.tools.course import chosen, ended

BRANCH = "hosted"
HOME = "embkit-course"  # the clone, beside the notebook on the hosted machine
FIRST = """# Run this cell first. It installs the kit where it is missing, as on Colab and
# Kaggle (there, minutes), and does nothing elsewhere.
import importlib.util, os, subprocess, sys

if importlib.util.find_spec("embkit") is None:
    if not os.path.isdir("{home}"):
        subprocess.check_call(["git", "clone", "-q", "--depth", "1", "{url}", "{home}"])
    subprocess.check_call([
        sys.executable, "-m", "pip", "install", "-q",
        "-c", "{home}/constraints.txt", "-e", "./{home}",
    ])
    sys.path.insert(0, os.path.abspath("{home}"))"""
BADGES = {
    "Open in Colab": "https://colab.research.google.com/github/{owner}/blob/{branch}/{file}",
    "Open in Kaggle": (
        "https://kaggle.com/kernels/welcome?src=https://github.com/{owner}/blob/{branch}/{file}"
    ),
    "Open in Binder": "https://mybinder.org/v2/gh/{owner}/main?labpath=notebooks/{file}",
}


def hosted(url: str, folder: Path | None = None, *, notebooks: Path | None = None) -> list[Path]:
    """Writes the lessons' copies.

    Args:
        url: the repository, as ``https://github.com/OWNER/NAME``.
        folder: where to; it is replaced. Default: ``build/hosted``.
        notebooks: where the lessons are; default: the course's.

    Raises:
        EmbkitError: the address is none of GitHub's, which the three services read.
    """
    found = re.fullmatch(r"https://github\.com/([\w.-]+/[\w.-]+?)(\.git)?/?", url)
    if not found:
        raise EmbkitError(
            f"{url!r} is no repository's address",
            expected="https://github.com/OWNER/NAME",
            hint="python -m notebooks.tools.hosted https://github.com/OWNER/embkit",
        )
    folder = folder or paths().root / "build" / "hosted"
    books = chosen(notebooks or paths().notebooks, ())

    def write(target: str) -> None:
        for path in books:
            book = read(path)
            said = {"owner": found[1], "branch": BRANCH, "file": path.name}
            links = [f"[{name}]({link.format(**said)})" for name, link in BADGES.items()]
            badges = nbformat.v4.new_markdown_cell(" · ".join(links), id="hosted-badges")
            code = nbformat.v4.new_code_cell(first_cell(found[0]), id="hosted-first")
            book.cells[:0] = [badges, code]
            write_atomic(Path(target, path.name), nbformat.writes(book) + "\n")

    replace_folder(folder, write)
    return [folder / path.name for path in books]


def first_cell(url: str) -> str:
    """The code that installs the kit from a repository, where it is not installed."""
    return FIRST.format(url=url, home=HOME)


def main(arguments: Sequence[str] | None = None) -> int:
    """Writes the copies; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m notebooks.tools.hosted", description=__doc__)
    parser.add_argument("url", help="https://github.com/OWNER/NAME")
    url = parser.parse_args(arguments).url

    def made() -> str:
        written = hosted(url)
        return f"written: {len(written)} notebooks in {written[0].parent}"

    return ended(made)


if __name__ == "__main__":
    sys.exit(main())
