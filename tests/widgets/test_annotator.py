"""The panel to judge documents: driven by keys from code and from the page; errors are shown."""

import dataclasses
import errno

import pytest
from IPython.core.formatters import DisplayFormatter
from nbformat.v4 import new_output

from embkit.errors import EmbkitError
from embkit.pairs import labels as annotation
from embkit.pairs.labels import LabelStore
from embkit.pairs.pooling import Task
from embkit.widgets import Annotator
from embkit.widgets import annotator as module
from embkit.widgets.base import PAGES
from notebooks.tools.authoring import WIDGET
from notebooks.tools.course import _worth_keeping

MARKUP = "<script>alert('x')</script> & <b>bold</b>"


@pytest.fixture
def labels(tiny_domain, tmp_path):
    return LabelStore(tiny_domain, tmp_path / "labels.jsonl")


@pytest.fixture
def tasks(tiny_domain):
    pairs = [("q00", "eye0"), ("q00", "ear0"), ("q01", "eye1"), ("q01", "ear1")]
    return [Task(q, d, tiny_domain.queries[q], tiny_domain.corpus[d]) for q, d in pairs]


@pytest.fixture
def panel(tasks, labels):
    return Annotator(tasks, labels, annotator="ann")


def shown(panel):
    return panel.position, panel.done, panel.query, panel.document


def from_page(panel, key, item):
    """What the page sends when a key is pressed."""
    panel._handle_custom_msg({"key": key, "item": item}, [])


def test_three_keys_grade_and_go_on(panel, tasks, labels):
    assert shown(panel) == (0, 0, tasks[0].query_text, tasks[0].document_text)
    assert panel.total == 4 and panel.annotator == "ann"
    for key in "2", "0", "1":
        panel.press(key)
    assert labels.labels() == {"ann": {("q00", "eye0"): 2, ("q00", "ear0"): 0, ("q01", "eye1"): 1}}
    assert shown(panel) == (3, 3, tasks[3].query_text, tasks[3].document_text)
    panel.press("2")
    assert (panel.position, panel.done, panel.query) == (4, 4, "All 4 are judged.")
    panel.press("2")
    assert "All are judged" in panel.message and len(labels.decisions) == 4


def test_it_says_what_the_grades_mean_and_what_was_kept(panel):
    assert panel.buttons[0] == ["2", "relevant: it answers the query"]
    assert [key for key, _ in panel.buttons] == ["2", "1", "0", "Backspace", "ArrowRight"]
    panel.press("1")
    assert panel.message == "Kept: partly. Backspace takes it back."


def test_undo_goes_back_and_takes_the_grade_back(panel, labels):
    panel.press("Backspace")
    assert panel.message == "There is nothing to take back." and panel.position == 0
    panel.press("2")
    panel.press("0")
    panel.press("Backspace")
    assert (panel.position, panel.done) == (1, 1)
    panel.press("Backspace")
    assert (panel.position, panel.done) == (0, 0) and labels.labels() == {}
    assert [d.grade for d in labels.decisions] == [2, 0, None, None]
    panel.press("1")
    assert labels.labels() == {"ann": {("q00", "eye0"): 1}}


def test_what_is_skipped_comes_again(panel, labels):
    panel.press("ArrowRight")
    panel.press("2")
    panel.press("ArrowRight")
    panel.press("ArrowRight")
    assert panel.position == 0 and panel.done == 1
    for key in "0", "0", "0":
        panel.press(key)
    assert panel.position == 4 and len(labels.labels()["ann"]) == 4
    assert labels.labels()["ann"]["q00", "ear0"] == 2


def test_undo_of_a_skip_takes_no_grade_back(panel, labels):
    panel.press("2")
    panel.press("ArrowRight")
    panel.press("Backspace")
    assert panel.position == 1 and panel.message == "Back."
    assert labels.labels() == {"ann": {("q00", "eye0"): 2}}


def test_it_goes_on_where_the_annotator_stopped(panel, tasks, labels, tiny_domain):
    panel.press("2")
    panel.press("ArrowRight")
    panel.press("0")
    again = Annotator(tasks, LabelStore(tiny_domain, labels.path), annotator="ann")
    assert (again.position, again.done) == (1, 2)
    again.press("Backspace")  # the last decision, also of an earlier day
    assert (again.position, again.done) == (2, 1)
    assert labels.labels() == {"ann": {("q00", "eye0"): 2}}
    assert Annotator(tasks, labels, annotator="bob").position == 0


def test_what_another_window_judged_is_not_asked_again(panel, labels):
    labels.label("q00", "ear0", 0, annotator="ann")
    panel.press("2")
    assert (panel.position, panel.done) == (2, 2)


def test_an_error_is_shown_and_the_item_stays(panel, tasks, labels, monkeypatch):
    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(annotation.os, "fsync", full)
        from_page(panel, "ArrowRight", 0)
        from_page(panel, "Backspace", 1)
        from_page(panel, "2", 0)
    assert panel.message.startswith("Not done. the decision was not kept")
    assert "No space left" in panel.message and isinstance(panel.error, EmbkitError)
    assert shown(panel) == (0, 0, tasks[0].query_text, tasks[0].document_text)
    panel.press("2")
    assert panel.error is None and panel.position == 1

    monkeypatch.setattr(labels, "label", lambda *_, **__: 1 / 0)
    panel.press("2")
    assert panel.message == "Not done. ZeroDivisionError('division by zero')"
    assert panel.position == 1
    panel.press("Backspace")  # cannot be kept either: the step is still there to take back
    assert panel.position == 1 and isinstance(panel.error, ZeroDivisionError)
    monkeypatch.undo()
    panel.press("Backspace")
    assert panel.position == 0 and labels.labels() == {}


def test_a_key_without_a_meaning_is_told(panel, labels):
    panel.press("3")
    assert "'3' does nothing" in panel.message and "2, 1, 0" in panel.message
    assert panel.position == 0 and labels.decisions == ()


def test_a_key_pressed_twice_judges_one_item(panel, labels, monkeypatch):
    now = [100.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    from_page(panel, "2", 0)
    now[0] += 5.0
    from_page(panel, "2", 0)  # the kernel was busy: sent while the first item was still shown
    assert panel.position == 1 and "second is not counted" in panel.message
    from_page(panel, "Backspace", 1)
    from_page(panel, "0", 0)  # a correction, at once
    now[0] += 0.1
    from_page(panel, "0", 1)  # nobody reads that fast
    assert panel.position == 1 and "second is not counted" in panel.message
    now[0] += 0.3
    from_page(panel, "2", 1)
    assert labels.labels() == {"ann": {("q00", "eye0"): 0, ("q00", "ear0"): 2}}
    assert [d.grade for d in labels.decisions] == [2, None, 0, 2]


def test_the_page_is_told_of_every_change(panel):
    panel.press("2")
    state = panel.get_state()
    assert state["position"] == 1 and state["document"] == panel.document
    for name in ("query", "done", "total", "message", "annotator", "buttons", "_esm", "_css"):
        assert name in state


def test_markup_is_text(tiny_domain, labels):
    marked = dataclasses.replace(tiny_domain, corpus={**tiny_domain.corpus, "eye0": MARKUP})
    task = Task("q00", "eye0", "<i>query</i>", marked.corpus["eye0"])
    panel = Annotator([task], labels, annotator="<u>")
    assert panel.document == MARKUP  # the page sets it as textContent
    scripts = "".join(file.read_text(encoding="utf-8") for file in PAGES.glob("*.js"))
    assert "textContent" in scripts
    assert "innerHTML" not in scripts and "insertAdjacentHTML" not in scripts
    still = panel.still()
    assert "&lt;script&gt;" in still and "&lt;i&gt;query" in still and "&lt;u&gt;" in still
    assert not any(tag in still for tag in ("<script", "<i>", "<u>", "<b>bold"))


def test_a_still_is_left_where_no_kernel_runs(panel):
    data, metadata = DisplayFormatter().format(panel)
    assert {WIDGET, "text/html", "text/plain"} <= set(data)
    output = new_output("display_data", data=data, metadata=metadata)
    assert _worth_keeping(output) and WIDGET not in output.data
    assert panel.query in output.data["text/html"] and panel.document in output.data["text/html"]
    assert output.data["text/plain"] == "Annotator(0 of 4 judged by ann)"


def test_bad_input(tasks, labels):
    for given, words in (
        (([], labels), "0 tasks"),
        ((None, labels), "0 tasks"),
        ((tasks, "labels.jsonl"), "and str"),
        ((tasks, labels, " "), "annotator=' '"),
    ):
        with pytest.raises(EmbkitError, match=words):
            Annotator(*given)
