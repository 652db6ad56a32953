"""The lessons' widgets in a real browser: Run All, no error, then a person acts.

A lesson is opened up to its last widget: what comes below has run in ``tests/notebooks``. Each kind
of widget is acted on in one lesson; a second of its kind in another lesson is not opened again.
"""

import re

import nbformat
import pytest

from notebooks.tools.authoring import compose
from tests.browser.conftest import SCREENSHOTS, SOURCES

WIDGETS = re.compile(r"^[^#\n]*(?:\bek\.widgets\.(\w+)\(|\b(train_live)\()", re.M)
PANELS = ".embkit-panel:not(.embkit-panel .embkit-panel), .embkit-annotator, .embkit-runs"
PANELS += ", .embkit-gallery"


def query_of(page):
    return page.locator(".embkit-query input").first


def search_before_and_after(book):
    """Lesson 00: a query typed key by key changes both lists, on the page and in the kernel."""
    page, query = book.page, query_of(book.page)
    hits = page.locator(".embkit-hits").first.locator("li")
    query.fill("")
    page.locator(".embkit-message", has_text="Type a few words").wait_for()
    query.press_sequentially("sickle cell")
    book.wait("print(box.query)", "sickle cell")
    hits.nth(7).wait_for()
    book.wait("print(len(box.before))", "8")  # the last key's search is done
    first = book.ask("print(box.before[0].text[:40])")
    page.locator(".embkit-hits li", has_text=first).first.wait_for()
    assert hits.count() == 8


def words_and_meaning(book):
    """Lesson 01: a click draws a test query, whose right answers have a star."""
    before = query_of(book.page).input_value()
    book.page.get_by_role("button", name="A test query").click()
    book.wait(f"print(box.query != {before!r} and len(box.right) > 0)")
    book.page.locator(".embkit-answer", has_text="★ right answer").first.wait_for()
    assert query_of(book.page).input_value() == book.ask("print(box.query)")


def judge_with_keys(book):
    """Lesson 03: a key grades the document, another takes it back; both are on disk at once."""
    panel = book.page.locator(".embkit-annotator").first
    panel.scroll_into_view_if_needed()
    panel.click(position={"x": 5, "y": 5})
    many = "print(len(store.labels().get('me', {})))"
    before = int(book.ask(many))
    asked = panel.locator(".embkit-document").inner_text()
    panel.press("2")
    book.wait(many, str(before + 1))
    panel.get_by_text("Kept: relevant").wait_for()
    assert panel.locator(".embkit-document").inner_text() != asked
    panel.press("Backspace")
    book.wait(many, str(before))
    panel.get_by_text("Taken back").wait_for()
    assert panel.locator(".embkit-document").inner_text() == asked


def edit_train_and_stop(book):
    """Lesson 04: a knob is turned, Train is clicked twice, Stop while it trains; an error shows."""
    page = book.page
    epochs = page.locator(".embkit-knob-epochs input")
    epochs.fill("1000")
    epochs.press("Enter")
    book.wait("print(editor.recipe.epochs)", "1000")
    fields = "['epochs', 'max_pairs']"  # the lesson's recipe has fewer pairs than the preset
    assert book.ask("print(list(editor.diff))") == fields, "no control rounds another field"
    page.locator(".embkit-diff", has_text="1000").wait_for()
    page.locator("button.embkit-train").first.dblclick()
    book.wait("print(editor.live.step > 1 and editor.live.running)")
    assert book.ask("print(editor.live.steps > 1000, sum(range(10)))") == "True 45", "it listens"
    page.locator("button.embkit-stop").first.click()
    page.locator(".embkit-message", has_text="The best so far is kept").wait_for()
    book.wait("print(type(editor.live.result).__name__, editor.live.running)", "Stopped False")
    assert book.ask("print(editor.live.result.model().get_embedding_dimension())") == "384"
    model = page.locator(".embkit-knob-model input")
    model.fill("no-such-model")
    model.press("Enter")
    book.wait("print(editor.live.recipe.model)", "no-such-model")
    page.locator("button.embkit-train").first.click()
    page.locator(".embkit-message", has_text="no-such-model").first.wait_for()
    book.wait("print(editor.live.running)", "False")
    browse_failures(book)


def browse_failures(book):
    """Lesson 04: another outcome is another list, and another query in it another reason."""
    page = book.page
    others = "print([n for n in ('won', 'lost', 'tied') if n != failures.outcome and any("
    others += "c.outcome == n for c in failures.cases.values())][0])"
    other = book.ask(others)
    page.locator(".embkit-outcome button", has_text=other).click()
    book.wait("print(failures.outcome)", other)
    chosen = book.ask("print(failures.listed[-1].query)")
    page.locator(".embkit-list select").select_option(
        index=int(book.ask("print(len(failures.listed) - 1)"))
    )
    book.wait("print(failures.query)", chosen)
    reason = book.ask("print(failures.reason)")
    page.locator(".embkit-reason", has_text=reason[:60]).wait_for()


def slide_a_margin(book):
    """Lesson 05: the arrow key moves the margin, and other triplets come out."""
    page = book.page
    page.locator(".embkit-margin .noUi-handle").press("ArrowRight")
    book.wait("print(lab.margin > 0 and 'relative margin' in lab.mined.removed)")
    page.locator(".embkit-panel td", has_text="relative margin").wait_for()
    page.locator(".embkit-ranks .noUi-handle").first.press("ArrowRight")
    book.wait("print(lab.range_min)", "1")
    page.locator(".embkit-panel td", has_text="before the window").wait_for()


def slide_a_temperature(book):
    """Lesson 04: the arrow key takes a pair out of the batch, and its loss is another."""
    before = int(book.ask("print(lab.batch)"))
    loss = book.ask("print(lab.result.loss)")
    slider = book.page.locator(".widget-slider", has_text="pairs in batch")
    slider.locator(".noUi-handle").press("ArrowLeft")
    book.wait("print(lab.batch)", str(before - 1))
    assert book.ask("print(lab.result.loss)") != loss


def lesson_04(book):
    slide_a_temperature(book)
    edit_train_and_stop(book)


def cut_vectors(book):
    """Lesson 07: the arrow key cuts the vectors, in the kernel and in the picture."""
    size = "import ipywidgets; print([w.size for w in ipywidgets.widgets.widget._instances.values()"
    size += " if type(w).__name__ == 'TruncationLab'][0])"
    before = book.ask(size)
    slider = book.page.locator(".widget-slider", has_text="dimensions").first
    slider.locator(".noUi-handle").press("ArrowLeft")
    book.wait(size.replace("print(", f"print({before} > "))
    shown = f"svg[aria-label*='the shown one {book.ask(size)}']"
    book.page.locator(shown).first.wait_for()


def choose_points(book):
    """Lesson 11: what is chosen on one map is chosen on the other, and told on the page."""
    book.page.locator(".jp-OutputArea canvas").first.wait_for()
    book.ask("maps.select([]); maps.scatters[0].selection([3, 5])")
    book.wait("print(sorted(map(int, maps.scatters[1].widget.selection)))", "[3, 5]")
    book.wait("print(sorted(maps.selection))", "[3, 5]")
    text = book.ask("print(maps._texts[3][:30])")
    book.page.locator(".embkit-panel", has_text=text).first.wait_for()


def sift_the_table(book):
    """Lesson 12: a typed name sifts the table's rows."""
    runs = book.page.locator(".embkit-runs").first
    runs.locator("input[type=search]").fill("base")
    book.wait("print(table.find, 0 < len(table.rows) < len(table._all.rows))", "base True")
    rows = runs.locator("tbody tr")
    book.page.wait_for_function(
        "n => document.querySelectorAll('.embkit-runs tbody tr').length === n",
        arg=int(book.ask("print(len(table.rows))")),
    )
    assert all("base" in text for text in rows.locator("td:first-child").all_inner_texts())


def search_and_pick_pictures(book):
    """Lesson 10: Enter searches the pictures, and a picked one has the words nearest to it."""
    gallery = book.page.locator(".embkit-gallery").first
    box, pictures = gallery.locator("input[type=search]"), gallery.locator(".embkit-line button")
    words = "print(gallery._texts[-1])"
    box.fill(book.ask(words))
    box.press("Enter")
    book.wait("print(gallery.query == gallery._texts[-1], gallery.words)", "True []")
    many = int(book.ask("print(sum(len(row) for _, row in gallery.found))"))
    assert many and pictures.count() == many == gallery.locator(".embkit-line img").count()
    caption = book.ask("print(gallery.found[0][1][1]['caption'])")
    pictures.nth(0).focus()
    pictures.nth(0).press("ArrowRight")
    book.page.locator(".embkit-gallery button:focus", has_text=caption).press("Enter")
    book.wait("print(len(gallery.words) == len(gallery.models), gallery.error)", "True None")
    nearest = book.ask("print(gallery.words[0][1][0])")
    gallery.locator("[aria-live]", has_text=nearest).wait_for()


ACTS = {
    "00": search_before_and_after,
    "01": words_and_meaning,
    "03": judge_with_keys,
    "04": lesson_04,
    "05": slide_a_margin,
    "07": cut_vectors,
    "10": search_and_pick_pictures,
    "11": choose_points,
    "12": sift_the_table,
}


LESSONS = sorted(path.stem for path in SOURCES.glob("[0-9][0-9]_*.py") if path.stem[:2] in ACTS)


def widgets(text):
    """The kinds of widgets that some code shows."""
    return {shown or live for shown, live in WIDGETS.findall(text)}


def test_every_kind_of_widget_in_the_course_is_acted_on():
    texts = {path.stem: path.read_text() for path in SOURCES.glob("[0-9][0-9]_*.py")}
    used, acted = (
        set().union(*map(widgets, of)) for of in (texts.values(), [texts[name] for name in LESSONS])
    )
    assert used == acted and len(LESSONS) == len(ACTS)
    assert {"SearchBox", "Gallery", "train_live"} <= used, "the pattern finds what it looks for"


@pytest.mark.browser
@pytest.mark.slow
@pytest.mark.parametrize("name", LESSONS)
def test_a_lesson_in_the_browser(name, lab, open_book):
    given, _ = compose(SOURCES / f"{name}.py")
    last = max(i for i, cell in enumerate(given.cells) if WIDGETS.search(cell.source))
    given.cells = given.cells[: last + 1]
    nbformat.write(given, lab.folder / f"{name}.ipynb")
    book = open_book(f"{name}.ipynb")
    book.run_all()
    assert book.errors() == []
    ACTS[name[:2]](book)
    assert book.errors() == []
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    panels = book.page.locator(PANELS).all()
    assert panels, "what was acted on is seen"
    for number, panel in enumerate(panels):
        panel.scroll_into_view_if_needed()
        panel.screenshot(path=SCREENSHOTS / f"{name[:2]}_{number}.png")
