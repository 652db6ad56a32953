"""A real JupyterLab over freshly built notebooks, and a real Chromium."""

import os
import shutil
from pathlib import Path

import pytest

from embkit.errors import EmbkitError
from tests.browser import lab_driver

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ROOT / "notebooks" / "source"
SCREENSHOTS = ROOT / "runs" / "screenshots"


@pytest.fixture(scope="session")
def browser_path():
    """Where the browser is. Without one: a failure in CI, and elsewhere a skip that says how."""
    try:
        return lab_driver.find_chromium()
    except EmbkitError as error:
        if os.environ.get("CI"):
            pytest.fail(str(error))
        pytest.skip(f"{error.given}: {error.hint}")


@pytest.fixture(scope="session")
def lab(browser_path, shared, tmp_path_factory):
    """JupyterLab, with the store and the cache that the whole course shares in these tests."""
    from notebooks.tools import authoring

    folder = tmp_path_factory.mktemp("lab") / "notebooks"
    shutil.copytree(SOURCES, folder / "source")
    authoring.build(folder)
    places = {"EMBKIT_RUNS": str(shared / "runs"), "EMBKIT_CACHE": str(shared / "cache")}
    running = lab_driver.Lab(folder, {"EMBKIT_PROFILE": "smoke", **places})
    yield running
    running.close()


@pytest.fixture(scope="module")
def chrome(browser_path):
    with lab_driver.chrome(browser_path) as opened:
        yield opened


@pytest.fixture
def open_book(lab, chrome):
    """``open_book(name)``: a notebook in a page of its own; its kernel ends with the test."""
    books = []

    def opened(name):
        books.append(lab.open(chrome, name))
        return books[-1]

    yield opened
    for book in books:
        book.close()
