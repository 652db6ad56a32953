"""What people type, delete and interrupt: nothing hangs, nothing is lost, a message says so."""

import re

import nbformat
import pytest

from notebooks.tools.authoring import METADATA

pytestmark = [pytest.mark.browser, pytest.mark.slow]

SEARCH = """
import dataclasses
import embkit as ek
ek.setup()
MARKUP = "<img src=x onerror='window.hacked = 1'><b>bold</b> 😀"
domain = ek.load_domain("icd10cm")
first = next(iter(domain.corpus))
domain = dataclasses.replace(domain, name="marked", corpus={**domain.corpus, first: MARKUP})
recipe = ek.Recipe(epochs=1, max_pairs=64, batch_size=32)
run = ek.train(recipe, domain, quiet=True)
box = ek.widgets.SearchBox("bm25", run, domain)
box
"""
TRAIN = """
panel = ek.widgets.LiveTraining(recipe.replace(epochs=1000, seed=7), domain)
panel
"""
WAIT = "result = await panel.train()"


@pytest.fixture
def book(lab, open_book):
    cells = [nbformat.v4.new_code_cell(text.strip()) for text in (SEARCH, TRAIN)]
    nbformat.write(
        nbformat.v4.new_notebook(cells=cells, metadata=METADATA), lab.folder / "bad_input.ipynb"
    )
    found = open_book("bad_input.ipynb")
    found.run_all()
    assert found.errors() == []
    return found


def test_bad_input(book):
    typed_into_the_search_box(book)
    a_run_deleted_while_shown(book)
    an_interrupted_training(book)


def typed_into_the_search_box(book):
    page, query = book.page, book.page.locator(".embkit-query input").first
    query.fill("")
    page.locator(".embkit-message", has_text="Type a few words").wait_for()
    query.fill("bold fever " * 1000)
    page.locator(".embkit-message", has_text="characters: the models read the first").wait_for()
    book.wait("print(len(box.query), len(box.after))", "11000 8")
    markup = book.ask("print(MARKUP)")
    query.fill(markup)
    book.wait("print(box.query == MARKUP)")
    page.locator(".embkit-hits li", has_text=markup).first.wait_for()  # as text, sign by sign
    assert page.locator(".embkit-hits img, .embkit-hits li b").count() == 0
    assert page.evaluate("window.hacked") is None
    assert book.ask("print(box.error)") == "None"


def a_run_deleted_while_shown(book):
    book.ask("run.delete()")
    query = book.page.locator(".embkit-query input").first
    query.fill("fever")
    book.page.locator(".embkit-message", has_text="deleted on disk").wait_for()
    book.wait("print(len(box.after))", "8")


def an_interrupted_training(book):
    """The page is watched: while a cell waits, the kernel hears clicks, but runs no other cell."""
    page = book.page
    book.append(WAIT)
    page.locator(".embkit-facts", has_text=re.compile("step [1-9]")).wait_for()
    page.locator(".lm-MenuBar-item", has_text="Kernel").first.click()
    page.get_by_text("Interrupt Kernel", exact=True).click()
    page.locator(".embkit-message", has_text="Interrupted").wait_for()
    book.wait("print(panel.running)", "False")
    kept = int(book.ask("print(panel.step)"))
    assert kept > 0
    assert [e.split(":")[0] for e in book.errors()] in (["CancelledError"], ["KeyboardInterrupt"])
    page.locator("button.embkit-train").dblclick()  # it goes on from there
    book.wait(f"print(panel.step > {kept})")
    page.locator("button.embkit-stop").click()
    page.locator(".embkit-message", has_text="The best so far is kept").wait_for()
    book.wait("print(type(panel.result).__name__)", "Stopped")
