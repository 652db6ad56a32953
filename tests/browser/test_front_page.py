"""The workshop's front page: Voila, without JupyterLab and without code."""

import os
import shutil
import socket
import subprocess
import sys
import time

import pytest

from tests.browser.conftest import ROOT
from tests.browser.lab_driver import SLOW, UNSET

pytestmark = [pytest.mark.browser, pytest.mark.slow]


@pytest.fixture
def address(shared, tmp_path):
    """Where Voila shows a copy of the page, in the smallest profile."""
    shutil.copy(ROOT / "notebooks" / "front_page.ipynb", tmp_path)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    env = {k: v for k, v in os.environ.items() if k not in UNSET}
    env |= {"EMBKIT_RUNS": str(shared / "runs"), "EMBKIT_CACHE": str(shared / "cache")}
    env |= {"EMBKIT_PROFILE": "smoke", "JUPYTER_CONFIG_DIR": str(tmp_path / "config")}
    env |= {"JUPYTER_PATH": str(ROOT / "notebooks" / "tools" / "pages")}
    options = ["--no-browser", "--template=embkit", "--Voila.ip=127.0.0.1", f"--port={port}"]
    options += ["front_page.ipynb"]
    log = (tmp_path / "voila.log").open("w")
    process = subprocess.Popen(
        [sys.executable, "-m", "voila", *options],
        cwd=tmp_path, env=env, stdout=log, stderr=subprocess.STDOUT,
    )  # fmt: skip
    deadline = time.monotonic() + SLOW
    while time.monotonic() < deadline and process.poll() is None:
        with socket.socket() as tried:
            if tried.connect_ex(("127.0.0.1", port)) == 0:
                break
        time.sleep(0.2)
    yield f"http://127.0.0.1:{port}"
    process.terminate()
    process.wait(30)
    log.close()


def test_the_front_page_answers_a_query(address, chrome):
    page = chrome.new_page()
    page.set_default_timeout(1000 * SLOW)
    page.goto(address)
    query = page.locator(".embkit-query input").first
    query.wait_for()
    query.fill("sickle cell")
    page.locator(".embkit-hits li", has_text="Sickle-cell").first.wait_for()
    page.get_by_text("The leaderboard").wait_for()
    text = page.locator("body").inner_text()
    assert "Traceback" not in text and "There was an error" not in text
    assert page.locator(".jp-InputArea-editor, .highlight").count() == 0, "no code is shown"
    assert page.evaluate("getComputedStyle(document.body).getPropertyValue('--mark')"), "the dress"
    page.close()
