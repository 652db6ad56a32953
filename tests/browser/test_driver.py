"""A missing browser is said with the line that installs it; the pictures of the README."""

import sys

import pytest
from PIL import Image

from embkit.errors import EmbkitError
from notebooks.tools import pictures, screenshots
from tests.benchmarks import bench_browser
from tests.browser import lab_driver


def test_without_playwright_its_install_line_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "playwright.sync_api", None)
    with pytest.raises(EmbkitError, match="pip install -c constraints.txt playwright"):
        lab_driver.find_chromium()
    said = []
    assert bench_browser.bench_browser(said.append) == {} and "not measured" in said[0]


def test_the_systems_browser_comes_first(monkeypatch):
    pytest.importorskip("playwright")
    monkeypatch.setattr(lab_driver.shutil, "which", lambda name: f"/bin/{name}")
    assert lab_driver.find_chromium() == "/bin/chromium"


def test_percentiles_are_numpys():
    assert bench_browser.percentiles([*range(101)]) == (50.0, 95.0)


@pytest.mark.browser
@pytest.mark.slow
def test_the_pictures_of_the_readme_are_small_and_show_every_panel(
    browser_path, shared, tmp_path, monkeypatch
):
    for name in ("runs", "cache"):
        monkeypatch.setenv(f"EMBKIT_{name.upper()}", str(shared / name))
    written = screenshots.screenshots(tmp_path)
    assert [path.stem for path in written] == list(screenshots.PANELS)
    for path in written:
        assert path.stat().st_size < 150_000
        with Image.open(path) as image:
            assert image.width <= screenshots.WIDTH and image.height > 150
            assert len(image.convert("RGB").getcolors()) > 8, "something is drawn"


def test_the_pictures_are_made_from_the_shell(monkeypatch, tmp_path, capsys):
    figure, panel = tmp_path / "figure.png", tmp_path / "panel.png"
    monkeypatch.setattr(screenshots, "screenshots", lambda: [panel])
    for tool in (screenshots, pictures):
        monkeypatch.setattr(tool, "before_after", lambda: figure)
    pictures.main()
    assert capsys.readouterr().out == f"written: {figure}\n"
    screenshots.main()
    assert capsys.readouterr().out == f"written: {figure}\nwritten: {panel}\n"
