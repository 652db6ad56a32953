"""Pictures as a person sees them, by a real browser: the widgets in JupyterLab, for the README, and
with ``pages`` the report, the site, the slides and the quiz, in light, dark and print.
"""

from __future__ import annotations

import io
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

import nbformat

from embkit import session
from embkit.errors import EmbkitError
from notebooks.tools.authoring import METADATA
from notebooks.tools.pictures import before_after
from tests.browser.lab_driver import Lab, chrome, find_chromium

WIDTH = 1100  # pixels that a picture has at most
A4 = {"width": 794, "height": 1123}  # pixels of a sheet
COLOURS = 256  # of its palette: a third of the bytes, and no difference that the eye sees
START = """import embkit as ek
ek.setup()
domain = ek.load_domain("icd10cm")
run = ek.train(ek.Recipe(), domain, quiet=True)
asked = domain.queries[next(iter(domain.split(domain.test_splits[0])))]"""
# File name -> a cell that ends with one panel.
PANELS = {
    "search_box": 'ek.widgets.SearchBox("minilm", run, domain)',
    "linked_maps": """maps = ek.widgets.LinkedMaps(ek.space.fit_space("minilm", run, domain))
maps.query = asked
maps""",
    "temperature_lab": """table = domain.pairs().to_pandas().drop_duplicates("positive").head(32)
minilm = ek.load_model("minilm")
rows, columns = table["anchor"].tolist(), table["positive"].tolist()
ek.widgets.TemperatureLab(ek.encode(minilm, rows) @ ek.encode(minilm, columns).T, rows, columns)""",
    "failure_browser": 'ek.widgets.FailureBrowser("minilm", run, domain)',
}
PANEL = ".jp-OutputArea-output .embkit-panel:not(.embkit-panel .embkit-panel)"


def screenshots(folder: str | Path | None = None) -> list[Path]:
    """Opens each panel of ``PANELS`` in JupyterLab and writes what is seen as a small PNG.

    Args:
        folder: where to; default: ``notebooks/pictures``.

    Raises:
        EmbkitError: no browser, or no playwright.
        RuntimeError: a cell failed.
    """
    where, paths = find_chromium(), session.paths()
    target = Path(folder) if folder else paths.notebooks / "pictures"
    target.mkdir(parents=True, exist_ok=True)
    written = []
    with tempfile.TemporaryDirectory() as made, chrome(where) as browser:
        notebooks = Path(made) / "notebooks"
        notebooks.mkdir()
        cells = [nbformat.v4.new_code_cell(code) for code in (START, *PANELS.values())]
        book = nbformat.v4.new_notebook(cells=cells, metadata=METADATA)
        nbformat.write(book, notebooks / "panels.ipynb")
        lab = Lab(notebooks, {"EMBKIT_RUNS": str(paths.runs), "EMBKIT_CACHE": str(paths.cache)})
        try:
            opened = lab.open(browser, "panels.ipynb")
            opened.run_all()
            if failed := opened.errors():
                raise RuntimeError("; ".join(failed))
            opened.page.locator(PANEL).nth(len(PANELS) - 1).wait_for()
            for number, name in enumerate(PANELS):
                panel = opened.page.locator(PANEL).nth(number)
                panel.scroll_into_view_if_needed()
                opened.page.wait_for_timeout(1500)  # maps are drawn frame by frame
                written.append(target / f"{name}.png")
                written[-1].write_bytes(_small(panel.screenshot()))
            opened.close()
        finally:
            lab.close()
    return written


LOOKS = {"light": ("light", "screen"), "dark": ("dark", "screen"), "print": ("light", "print")}


def made_pages() -> dict[str, Path]:
    """What `make run`, `make site` and `make slides` leave, of it what is there."""
    build = session.paths().root / "build"
    files = {
        "report": session.paths().runs / "report.html",
        "site": build / "site" / "04_contrastive.html",
        "quiz": build / "site" / "quiz.html",
        "slides": build / "slides" / "04_contrastive.slides.html",
    }
    return {name: file for name, file in files.items() if file.is_file()}


def pages(files: Mapping[str, Path] | None = None, folder: Path | None = None) -> list[Path]:
    """The first screen of each page in light and dark, and as it is printed, as ``NAME-LOOK.png``.

    Args:
        files: name -> page; default: ``made_pages()``.
        folder: where to; default: ``build/pictures``.

    Raises:
        EmbkitError: no page there, no browser, or no playwright.
    """
    where, files = find_chromium(), made_pages() if files is None else files
    if not files:
        raise EmbkitError("no page to take a picture of", expected="a page", hint="make site")
    folder = folder or session.paths().root / "build" / "pictures"
    folder.mkdir(parents=True, exist_ok=True)
    written = []
    with chrome(where) as browser:
        for look, (scheme, medium) in LOOKS.items():
            size = {"width": 1200, "height": 900} if medium == "screen" else A4
            page = browser.new_page(color_scheme=scheme, viewport=size)  # type: ignore[arg-type]
            page.emulate_media(media=medium)  # type: ignore[arg-type]
            for name, file in files.items():
                page.goto(file.absolute().as_uri())
                page.wait_for_timeout(500)
                written.append(folder / f"{name}-{look}.png")
                page.screenshot(path=written[-1])
            page.close()
    return written


def _small(png: bytes) -> bytes:
    """The same picture with at most ``WIDTH`` pixels a line and a palette."""
    from PIL import Image

    image = Image.open(io.BytesIO(png)).convert("RGB")
    if image.width > WIDTH:
        image = image.resize((WIDTH, round(image.height * WIDTH / image.width)))
    file = io.BytesIO()
    image.quantize(COLOURS, method=Image.Quantize.FASTOCTREE).save(
        file, format="PNG", optimize=True
    )
    return file.getvalue()


def main() -> None:
    """Draws all pictures of the README, or those of the pages, and says where they are."""
    for path in pages() if sys.argv[1:] == ["pages"] else (before_after(), *screenshots()):
        sys.stdout.write(f"written: {path}\n")


if __name__ == "__main__":
    main()
