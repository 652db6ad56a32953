"""In a real browser: from a key or a slider to the picture, and from opening a notebook to ready.

A time begins at the key's event in the page and ends when the panel's picture or table has changed
there: the message to the kernel, its work, the message back and the drawing are all in it.
"""

from __future__ import annotations

import io
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nbformat
import numpy as np

from embkit import session
from embkit.errors import EmbkitError
from notebooks.tools.authoring import METADATA
from tests.browser.lab_driver import SLOW, Lab, chrome, find_chromium

if TYPE_CHECKING:
    from tests.browser.lab_driver import Book

KEYS = 30  # measured a slider
OPENED = 5  # times that a notebook is opened
TYPED = "sudden loss of hearing in one ear"
UNTIMED = ("ControlOrMeta+a", "Delete", " ")  # a space changes no result, and is not waited for
CELL = '[data-windowed-list-index="{}"] .noUi-handle'  # the first slider of a cell's output
LESSON = "00_start_here.ipynb"
CELLS = (
    """import embkit as ek
ek.setup()
full = ek.load_domain("icd10cm", profile="full")
domain = ek.load_domain("icd10cm", profile="workshop")
run = ek.train(ek.Recipe(), domain, quiet=True)
box = ek.widgets.SearchBox("minilm", run.model(), full)
box""",
    """lab = ek.widgets.NegativesLab(domain, ek.training_pairs(ek.Recipe(), domain).rows)
lab""",
    """table = domain.pairs().to_pandas().drop_duplicates("positive").head(64)
minilm = ek.load_model("minilm")
asked = ek.encode(minilm, table["anchor"].tolist())
shown = ek.encode(minilm, table["positive"].tolist())
heat = ek.widgets.TemperatureLab(
    asked @ shown.T, table["anchor"].tolist(), table["positive"].tolist()
)
heat""",
    """cut = ek.widgets.TruncationLab({"general": "minilm"}, domain)
cut""",
)
MAPS = """space = ek.space.fit_space("minilm", run.model(), full, method="pca")
maps = ek.widgets.LinkedMaps(space)"""
SHOW = "maps  # drawn now"
CANVAS = ".embkit-panel canvas"
PANNED = 3.0  # seconds
FRAMES = """() => {
  window.embkitFrames = [];
  const tick = (now) => { window.embkitFrames.push(now); requestAnimationFrame(tick); };
  requestAnimationFrame(tick);
}"""
# The clock: from the first key event after it is set to the first change in the panel's output.
# A slider's own handle and number change at once, and do not count.
CLOCK = """(selector) => {
  const own = '.noUi-target, .widget-readout, input, select, .widget-label';
  const root = document.querySelector(selector).closest('.jp-OutputArea-output');
  window.embkitClock = { start: 0, end: 0 };
  window.embkitStop?.();
  const started = () => { window.embkitClock.start ||= performance.now(); };
  document.addEventListener('keydown', started, true);
  const seen = new MutationObserver((changes) => {
    const clock = window.embkitClock;
    const counts = changes.some(({ target }) => !(target.closest ?? (() => null)).call(target, own)
      && !target.parentElement?.closest(own));
    if (clock.start && !clock.end && counts)
      requestAnimationFrame(() => { clock.end ||= performance.now(); });
  });
  const what = { subtree: true, childList: true, characterData: true, attributes: true,
    attributeFilter: ['src'] };
  seen.observe(root, what);
  window.embkitStop = () => {
    seen.disconnect();
    document.removeEventListener('keydown', started, true);
  };
}"""
READ = "() => window.embkitClock.end && window.embkitClock.end - window.embkitClock.start"


def percentiles(values: list[float]) -> tuple[float, float]:
    """The median and the 95th percentile."""
    low, high = np.percentile(values, [50, 95])
    return float(low), float(high)


def keys(book: Book, selector: str, pressed: list[str]) -> list[float]:
    """Milliseconds from each key to the changed panel.

    Args:
        book: an open notebook.
        selector: of the control that gets the keys.
        pressed: playwright's names of keys, one after the other; ``UNTIMED`` are not measured.
    """
    control, found = book.page.locator(selector).first, []
    control.scroll_into_view_if_needed()
    control.focus()
    for key in pressed:
        if key in UNTIMED:
            book.page.keyboard.press(key)
            book.page.wait_for_timeout(500)
            continue
        book.page.evaluate(CLOCK, selector)
        book.page.keyboard.press(key)
        book.page.wait_for_function(READ, polling=20)
        found.append(float(book.page.evaluate(READ)))
        book.page.wait_for_timeout(150)  # a person's pause; what follows the picture ends in it
    return found


def paint(book: Book) -> tuple[float, float]:
    """Linked maps: milliseconds from asking for them to points on the screen; frames a second.

    The first is told by screenshots, which take a while themselves: it is an upper bound. The
    frames are the page's while a hand drags one map; without a GPU, the processor draws them.
    """
    page = book.page
    book.ask(MAPS)
    started = time.perf_counter()
    book.append(SHOW)
    canvas = page.locator(CANVAS).first
    canvas.wait_for()
    canvas.scroll_into_view_if_needed()
    while not _drawn(canvas.screenshot()):
        if time.perf_counter() - started > SLOW:
            raise RuntimeError("the maps stayed empty")
    painted = 1000 * (time.perf_counter() - started)
    box = canvas.bounding_box()
    assert box is not None
    x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(x, y)
    page.mouse.down()
    page.evaluate(FRAMES)
    end, step = time.perf_counter() + PANNED, 0
    while time.perf_counter() < end:
        step += 1
        page.mouse.move(x + 60 * np.sin(step / 8), y + 40 * np.cos(step / 8))
    frames = page.evaluate("() => window.embkitFrames")
    page.mouse.up()
    return painted, 1000 * (len(frames) - 1) / (frames[-1] - frames[0])


def _drawn(png: bytes) -> bool:
    from PIL import Image

    image = Image.open(io.BytesIO(png)).convert("RGB")
    return len(image.getcolors(image.width * image.height) or []) > 8


def bench_browser(say: Callable[..., None]) -> dict[str, Any]:
    """Opens JupyterLab, presses keys, and prints the times in milliseconds."""
    found: dict[str, Any] = {}

    def tell(name: str, values: list[float]) -> None:
        found[name] = values
        low, high = percentiles(values)
        say(f"  {name:<50} {low:7.0f} {high:7.0f}   of {len(values)}")

    try:
        where = find_chromium()
    except EmbkitError as error:
        say(f"\nin a browser: not measured. {error}")
        return found
    say(f"\nin Chromium, milliseconds: median and 95th percentile ({session.device_name()})")
    typed = [*UNTIMED[:2], *TYPED]
    there = ["ArrowRight", "ArrowLeft"] * (KEYS // 2)
    back = ["ArrowLeft", "ArrowRight"] * (KEYS // 2)  # from a slider's far end
    controls = {
        "search box, 33k documents: key to results": (".embkit-query input", typed),
        "negatives lab: slider to triplets": (".embkit-margin .noUi-handle", there),
        "temperature lab: slider to picture": (CELL.format(2), there),
        "truncation lab: slider to picture": (CELL.format(3), back),
    }
    with tempfile.TemporaryDirectory() as folder, chrome(where) as browser:
        notebooks = Path(folder) / "notebooks"
        notebooks.mkdir()
        cells = [nbformat.v4.new_code_cell(code) for code in CELLS]
        nbformat.write(
            nbformat.v4.new_notebook(cells=cells, metadata=METADATA), notebooks / "labs.ipynb"
        )
        paths = session.paths()
        shutil.copy(paths.notebooks / LESSON, notebooks)
        lab = Lab(notebooks, {"EMBKIT_RUNS": str(paths.runs), "EMBKIT_CACHE": str(paths.cache)})
        try:
            opened = []
            for _ in range(OPENED):
                book = lab.open(browser, LESSON)
                opened.append(1000 * book.seconds_to_ready)
                book.close()
            tell("lesson 00 with its outputs: opened to ready", opened)
            book = lab.open(browser, "labs.ipynb")
            book.run_all()
            if book.errors():
                raise RuntimeError("; ".join(book.errors()))
            for name, (selector, pressed) in controls.items():
                tell(name, keys(book, selector, pressed))
            painted, frames = paint(book)
            tell("linked maps, 33k documents: asked to drawn", [painted])
            book.close()
        finally:
            lab.close()
    say(f"  linked maps, panning: {frames:.0f} frames a second, drawn by the processor")
    found["linked maps, panning: frames a second"] = [frames]
    return found
