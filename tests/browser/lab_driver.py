"""A real JupyterLab on loopback and a real Chromium that opens it: for tests and for the bench.

Needs playwright (``pip install playwright``) and a Chromium: the system's, or playwright's own.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from embkit.errors import EmbkitError

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

# Seconds: what takes longer hangs, also on a slow machine.
SLOW = int(os.environ.get("EMBKIT_BROWSER_SECONDS") or 180)
FLAGS = (
    "--no-sandbox --disable-gpu --disable-background-networking --disable-component-update "
    "--disable-sync --no-first-run --disable-dev-shm-usage"
).split()
INSTALL = "sudo apt-get install -y chromium, or .venv/bin/playwright install --with-deps chromium"
QUIET = {  # one user's settings: no news, and every cell is drawn, also outside of the window
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
    "notebook-extension/tracker": {"windowingMode": "none"},
}
UNSET = ("MPLBACKEND", "EMBKIT_SOLUTIONS", "EMBKIT_PRECISION", "EMBKIT_DEVICE")

# What a page is asked. The notebook's own model is asked and not the page: cells scroll away.
IDLE = """() => {
  const book = window.jupyterapp?.shell.currentWidget;
  const kernel = book?.sessionContext?.session?.kernel;
  return kernel?.status === 'idle' && book.content.model !== null;
}"""
DONE = """() => {
  const book = window.jupyterapp.shell.currentWidget;
  const cells = book.content.widgets.filter((cell) => cell.model.type === 'code');
  const waiting = (cell) => cell.model.sharedModel.source.trim() && !cell.model.executionCount;
  const failed = cells.some((cell) =>
    cell.model.outputs.toJSON().some((output) => output.output_type === 'error'));
  const idle = book.sessionContext.session.kernel.status === 'idle';
  return idle && (failed || !cells.some(waiting));
}"""
OUTPUTS = """() => window.jupyterapp.shell.currentWidget.content.widgets
  .filter((cell) => cell.model.type === 'code').flatMap((cell) => cell.model.outputs.toJSON())"""
ASK = """async (code) => {
  const kernel = window.jupyterapp.shell.currentWidget.sessionContext.session.kernel;
  const future = kernel.requestExecute({ code, store_history: false });
  let said = '';
  future.onIOPub = ({ header, content }) => {
    if (header.msg_type === 'stream') said += content.text;
    if (header.msg_type === 'error') said += content.ename + ': ' + content.evalue;
  };
  await future.done;
  return said.trim();
}"""
APPEND = """async (code) => {
  const app = window.jupyterapp, notebook = app.shell.currentWidget.content;
  notebook.activeCellIndex = notebook.widgets.length - 1;
  await app.commands.execute('notebook:insert-cell-below');
  notebook.activeCell.model.sharedModel.setSource(code);
  app.commands.execute('notebook:run-cell');  // its end is not awaited
}"""
END = "async () => { await window.jupyterapp.shell.currentWidget.sessionContext.shutdown(); }"


def find_chromium() -> str:
    """Where a Chromium is: the system's, else playwright's own.

    Raises:
        EmbkitError: no playwright, or no browser.
    """
    try:
        from playwright.sync_api import sync_playwright
    except ImportError as error:
        raise EmbkitError(
            "playwright, which drives the browser, is not installed",
            expected="a package of the extra dev",
            hint="pip install -c constraints.txt playwright",
        ) from error
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if found := shutil.which(name):
            return found
    with sync_playwright() as driver:
        own = driver.chromium.executable_path
    if not Path(own).is_file():
        raise EmbkitError("no Chromium on this machine", expected="a browser", hint=INSTALL)
    return own


@contextlib.contextmanager
def chrome(path: str) -> Iterator[Browser]:
    """The browser, headless; its event loop is another's hindrance, so close it soon."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=path, args=FLAGS)
        yield opened
        opened.close()


class Lab:
    """A running JupyterLab, that nobody but who knows its token can talk to.

    Args:
        folder: the notebooks; the kernels' working folder.
        settings: of the kernels: what EMBKIT_PROFILE, EMBKIT_RUNS and others are to be.

    Raises:
        EmbkitError: it did not start.
    """

    def __init__(self, folder: Path, settings: Mapping[str, str]) -> None:
        self.folder, self.token = folder, secrets.token_hex(16)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        home = folder.parent / "jupyter"
        for name, values in QUIET.items():
            where = home / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
            where.parent.mkdir(parents=True, exist_ok=True)
            where.write_text(json.dumps(values))
        env = {k: v for k, v in os.environ.items() if k not in UNSET} | dict(settings)
        env |= {
            "JUPYTERLAB_SETTINGS_DIR": str(home / "settings"),
            "JUPYTERLAB_WORKSPACES_DIR": str(home / "workspaces"),
            "JUPYTER_CONFIG_DIR": str(home / "config"),
            "JUPYTER_RUNTIME_DIR": str(home / "runtime"),
            "JUPYTER_TOKEN": self.token,  # not on a command line, which others can read
        }
        options = ["--no-browser", "--allow-root", "--ServerApp.ip=127.0.0.1"]
        options += [f"--ServerApp.port={self.port}", "--ServerApp.port_retries=0"]
        options += ["--LabApp.expose_app_in_browser=True", f"--ServerApp.root_dir={folder}"]
        log = folder.parent / "lab.log"
        with log.open("w") as stream:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "jupyterlab", *options],
                cwd=folder,
                env=env,
                stdout=stream,
                stderr=subprocess.STDOUT,
            )
        deadline = time.monotonic() + SLOW
        while not self._answers():
            if self.process.poll() is not None or time.monotonic() > deadline:
                self.close()
                raise EmbkitError(
                    f"JupyterLab did not start: {log.read_text()[-500:]}",
                    expected="a server on loopback",
                    hint=f"{sys.executable} -m jupyterlab",
                )
            time.sleep(0.2)

    def _answers(self) -> bool:
        address = f"http://127.0.0.1:{self.port}/api/status?token={self.token}"
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            return opener.open(address, timeout=5).status == 200
        except OSError:
            return False

    def open(self, browser: Browser, notebook: str) -> Book:
        """A notebook in a page of its own."""
        page = browser.new_context(viewport={"width": 1400, "height": 1000}).new_page()
        page.set_default_timeout(1000 * SLOW)
        url = f"http://127.0.0.1:{self.port}/lab/tree/{notebook}?token={self.token}&reset"
        return Book(page, url)

    def close(self) -> None:
        """Ends the server and its kernels."""
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


class Book:
    """One notebook in JupyterLab; ``page`` is playwright's, for all else that a person does."""

    def __init__(self, page: Page, url: str) -> None:
        self.page, started = page, time.perf_counter()
        page.goto(url)
        page.wait_for_selector(".jp-Notebook .jp-Cell")
        page.wait_for_function(IDLE)
        self.seconds_to_ready = time.perf_counter() - started

    def run_all(self) -> None:
        """Run All from the menu, and wait until every cell has run, or one has failed."""
        self.page.locator(".lm-MenuBar-item", has_text="Run").first.click()
        self.page.get_by_text("Run All Cells", exact=True).click()
        self.page.wait_for_function(DONE, polling=200, timeout=5000 * SLOW)

    def append(self, code: str) -> None:
        """Runs a new cell at the end; does not wait for it."""
        self.page.evaluate(APPEND, code)

    def errors(self) -> list[str]:
        """Error outputs, as text."""
        found: list[dict[str, Any]] = self.page.evaluate(OUTPUTS)
        return [f"{o['ename']}: {o['evalue']}" for o in found if o["output_type"] == "error"]

    def ask(self, code: str) -> str:
        """What the kernel prints for some code, run between cells."""
        return self.page.evaluate(ASK, code)

    def wait(self, code: str, value: str = "True") -> None:
        """Waits until the kernel prints a value: for what the page set off there."""
        said, deadline = self.ask(code), time.monotonic() + SLOW
        while said != value:
            if time.monotonic() > deadline:
                raise AssertionError(f"{code}: the kernel prints {said!r}, not {value!r}")
            self.page.wait_for_timeout(50)
            said = self.ask(code)

    def close(self) -> None:
        """Ends the kernel and the page."""
        self.page.evaluate(END)
        self.page.context.close()
