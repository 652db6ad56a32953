"""Panels from code, as a notebook has them: what is shown, errors, markup, pictures."""

import dataclasses
import html
from dataclasses import fields
from types import SimpleNamespace

import numpy as np
import pytest
from IPython.core.formatters import DisplayFormatter
from ipywidgets import HTML

from embkit.display import Table, as_html
from embkit.errors import EmbkitError
from embkit.evaluation import ranking
from embkit.evaluation.metrics import score_ranking
from embkit.pairs import mining
from embkit.recipes.checks import CHOICES
from embkit.recipes.recipe import PRESETS, Recipe
from embkit.training import trainer
from embkit.widgets import FailureBrowser, NegativesLab, RecipeEditor, SearchBox
from embkit.widgets.base import Panel
from notebooks.tools.authoring import WIDGET

MARKUP = "<script>alert('x')</script> & <b>bold</b> 😀"
TAGS = ("<script", "<b>bold", "<img")


def letters(texts):
    """A model: counts of letters."""
    return np.array(
        [[text.lower().count(c) + 0.01 for c in "abcdefghiklmnoprstuvy"] for text in texts]
    )


def lengths(texts):
    """Another: words and characters."""
    return np.array([[len(text.split()), len(text), 1 + text.count("o")] for text in texts], float)


@pytest.fixture
def rows(tiny_domain):
    split = tiny_domain.qrels["train"]
    return [(q, tiny_domain.queries[q], d) for q, judged in split.items() for d in judged]


@pytest.fixture
def marked(tiny_domain):
    """A domain with markup in a document and in a query."""
    return dataclasses.replace(
        tiny_domain,
        corpus={**tiny_domain.corpus, "eye0": MARKUP},
        queries={**tiny_domain.queries, "q00": MARKUP},
    )


def made(kind, domain):
    rows = [(q, domain.queries[q], d) for q, j in domain.qrels["train"].items() for d in j]
    if kind is NegativesLab:
        return NegativesLab(domain, rows, model=letters)
    if kind is RecipeEditor:
        return RecipeEditor(domain)
    return kind(lengths, letters, domain)


PANELS = (SearchBox, NegativesLab, RecipeEditor, FailureBrowser)


@pytest.mark.parametrize("kind", PANELS)
def test_a_panel_has_its_still_page_beside_its_view(kind, tiny_domain):
    panel = made(kind, tiny_domain)
    data, _ = DisplayFormatter().format(panel)
    assert {WIDGET, "text/html", "text/plain"} <= set(data)
    assert len(panel.title()) > 10 and html.escape(panel.title()) in data["text/html"]
    pages = [part.value for part in panel.children if isinstance(part, HTML)]
    assert max(map(len, pages)) > 500 and all(page in data["text/html"] for page in pages)
    assert len(data["text/html"]) < 30_000  # characters in the notebook


@pytest.mark.parametrize("kind", PANELS)
def test_a_panel_is_short(kind):
    import inspect

    assert len(inspect.getsource(kind).splitlines()) < 200
    assert kind.__doc__ and "Example:" in kind.__doc__


# ---- base


def test_an_error_in_a_callback_is_shown_as_text():
    class Broken(Panel):
        def picture(self):
            raise RuntimeError("no picture")

    panel = Broken()
    panel.guarded(lambda: 1 / 0)()
    assert panel.message == "Not done. ZeroDivisionError('division by zero')"
    assert isinstance(panel.error, ZeroDivisionError)
    panel.fail(EmbkitError(MARKUP, expected="text", hint="text"))
    assert "&lt;script&gt;" in panel.status.value and "<script" not in panel.status.value
    assert "try next" in panel.message
    panel.tell("fine")
    assert panel.error is None and "fine" in panel.status.value
    data, _ = panel._repr_mimebundle_()
    assert WIDGET in data and "image/png" not in data and "no picture" in panel.message


def test_tables_take_any_text():
    table = Table(["<i>"], [[MARKUP]], bold=[(0, 0)])
    mined = SimpleNamespace(candidates=1, filled=0, rules=lambda: table)
    given = {"mined": mined, "hardest": 0.0, "right": 0.0, "triplets": [], "most": 1}
    shown = as_html("widgets/pages/negatives_lab.jinja", **given)
    assert "&lt;i&gt;" in shown and "overflow-x:auto" in shown
    assert not any(tag in shown for tag in (*TAGS, "<i>"))


# ---- search box


@pytest.fixture
def box(tiny_domain):
    return SearchBox(lengths, letters, tiny_domain, query="cardiac ache")


def test_both_lists_are_what_look_gives(box, tiny_domain):
    table = ranking.search_side_by_side(
        box.query, {"before": lengths, "after": letters}, tiny_domain, k=box.k
    )
    found = dict(zip(table.head, zip(*table.cells, strict=True), strict=True))
    for name, hits in (("before", box.before), ("after", box.after)):
        assert [f"{hit.document}  {hit.text}" for hit in hits] == list(found[name])
        assert [hit.rank for hit in hits] == list(range(1, 9))


def test_what_moved_is_what_moved_says(box, tiny_domain):
    right = ("heart4",)
    places = ranking.rank_changes(
        box.query, lengths, letters, tiny_domain, right, k=len(tiny_domain.corpus)
    )
    text_of = {row["text"]: (row["before"], row["after"]) for row in places}
    for hit in box.before:
        assert (hit.rank, hit.other) == text_of[hit.text]
    for hit in box.after:
        assert (hit.other, hit.rank) == text_of[hit.text]
    assert box.ranks == {"heart4": text_of[tiny_domain.corpus["heart4"]]}
    assert box.right == {"heart4"} and [h.document for h in box.after if h.right] == ["heart4"]
    assert "★" in box.results.value


def test_the_page_and_the_code_set_the_query(box):
    box.text.value = "ocular  SEPSIS"
    assert box.query == "ocular  SEPSIS" and box.right == {"eye0"}
    box.query = "zebra"
    assert box.text.value == "zebra" and box.right == frozenset() and box.ranks == {}
    box.k = 3
    assert len(box.after) == 3
    asked = box.ask_another()
    assert box.query == asked and box.right


def test_an_empty_query_says_what_to_type(box):
    for empty in ("", "  \n"):
        box.query = empty
        assert box.message.startswith("Type a few words") and box.results.value == ""
        assert box.before == box.after == () and box.error is None
    assert "nothing" in repr(box) and box.still()


def test_a_long_query_is_searched_and_the_reader_told(tiny_model, tiny_domain):
    box = SearchBox(str(tiny_model), "bm25", tiny_domain, query="ear pain " * 1200)
    assert len(box.before) == 8
    assert "10,800 characters" in box.message and "first 48 tokens" in box.message


def test_what_words_do_not_find_is_in_no_list(tiny_domain):
    box = SearchBox("bm25", letters, tiny_domain, query="cardiac ache", names=("words", "model"))
    assert box.before == () and len(box.after) == 8 and box.error is None
    assert {hit.other for hit in box.after} == {None}
    assert box.ranks["heart4"][0] is None and box.ranks["heart4"][1] >= 1
    assert "not found words, rank" in box.results.value and box.still()
    assert "not in the other list" in box.results.value
    box = SearchBox(letters, "bm25", tiny_domain, query="cardiac injury", names=("model", "words"))
    assert 0 < len(box.after) <= 8 and all("njury" in hit.text for hit in box.after)
    assert box.still() and box.error is None
    browser = FailureBrowser("bm25", letters, tiny_domain)
    browser.query = next(q for q, t in tiny_domain.queries.items() if t == "cardiac ache")
    assert "best right answer: before: not found, after: rank" in browser.reason
    assert browser.cases[browser.query].before == 0 and browser.still()


def test_markup_is_text(marked):
    box = SearchBox(lengths, letters, marked, query=MARKUP)
    assert any(hit.text == MARKUP for hit in box.after)
    assert not any(tag in box.results.value for tag in TAGS)
    assert "&lt;script&gt;" in box.results.value and "😀" in box.results.value
    assert box.error is None and not any(tag in box.still() for tag in TAGS)


def test_a_failing_model_is_shown_and_the_next_key_works(tiny_domain):
    calls = []

    def fails_once(texts):
        calls.append(texts)
        if len(calls) == 3:
            raise ConnectionError("the server is away")
        return letters(texts)

    box = SearchBox(lengths, fails_once, tiny_domain, query="ear")
    box.query = "eye"
    assert "the server is away" in box.message and isinstance(box.error, ConnectionError)
    box.query = "eyes"
    assert box.error is None and len(box.after) == 8


def test_a_run_that_is_deleted_or_of_another_domain(tiny_model, tiny_domain):
    recipe = Recipe(model=str(tiny_model), epochs=1, batch_size=16)
    other = dataclasses.replace(tiny_domain, name="other", corpus={**tiny_domain.corpus, "x": "y"})
    run, elsewhere = (trainer.train(recipe, d, quiet=True) for d in (tiny_domain, other))
    box = SearchBox(str(tiny_model), run, tiny_domain, query="ear")
    assert box.message == ""
    run.delete()
    box.query = "eye"
    assert "deleted on disk" in box.message and len(box.after) == 8
    with pytest.raises(EmbkitError, match="no longer on disk"):
        SearchBox(str(tiny_model), run, tiny_domain)
    box = SearchBox(elsewhere, "bm25", tiny_domain, query="ear")
    assert "trained on 'other', not on this 'tiny'" in box.message and box.before
    browser = FailureBrowser("bm25", elsewhere, tiny_domain)
    assert "trained on 'other'" in browser.message


# ---- recipe editor


def test_every_field_has_a_control_with_its_meaning_and_range(tiny_domain):
    editor = RecipeEditor(tiny_domain)
    assert set(editor.controls) == {knob.name for knob in fields(Recipe)}
    placed = [row.children[0] for page in editor.pages.children for row in page.children]
    assert set(map(id, placed)) == {id(c) for c in editor.controls.values()}
    for knob in fields(Recipe):
        control, low, high = editor.controls[knob.name], *map(knob.metadata.get, ("low", "high"))
        assert knob.metadata["meaning"] in control.tooltip
        if knob.name in CHOICES:
            assert tuple(control.options) == tuple(CHOICES[knob.name])
        if hasattr(control, "max") and high is not None:
            assert (control.min, control.max) == (low, high)


@pytest.mark.parametrize("name", PRESETS)
def test_controls_show_a_preset_and_give_it_back(name, tiny_domain):
    editor = RecipeEditor(tiny_domain)
    editor.preset = name
    assert editor.recipe == Recipe(**PRESETS[name]) and editor.error is None
    for control in editor.controls.values():  # turned and turned back
        if isinstance(control.value, bool):
            control.value = not control.value
            control.value = not control.value
    assert editor.recipe == Recipe(**PRESETS[name]) and editor.diff == {}


def test_a_turned_knob_is_in_the_recipe_the_diff_and_the_script(tiny_domain):
    editor = RecipeEditor(tiny_domain)
    editor.controls["epochs"].value = 7
    editor.controls["max_pairs"].value = "512"
    editor.controls["query_prompt"].value = MARKUP
    assert (editor.recipe.epochs, editor.recipe.max_pairs) == (7, 512)
    assert editor.diff["epochs"] == (3, 7) and set(editor.diff) == {
        "epochs",
        "max_pairs",
        "query_prompt",
    }
    assert "512" in editor.page.value and "num_train_epochs=7" in editor.page.value
    assert not any(tag in editor.page.value for tag in TAGS)
    editor.controls["max_pairs"].value = "none"
    assert editor.recipe.max_pairs is None
    editor.recipe = Recipe(batch_size=16)
    assert editor.controls["batch_size"].value == 16 and editor.controls["epochs"].value == 3


def test_what_is_not_valid_is_said_and_changes_nothing(tiny_domain):
    editor = RecipeEditor(tiny_domain)
    editor.controls["max_pairs"].value = "many"
    assert "max_pairs='many'" in editor.message and editor.recipe == Recipe()
    assert "recipe.replace(max_pairs=None)" in editor.message
    editor.set(epochs=0)
    assert "epochs=0" in editor.message and editor.recipe == Recipe()
    editor.set(epoch=2)
    assert "epochs" in editor.message
    with pytest.raises(EmbkitError, match="corpus"):
        RecipeEditor(tiny_domain, preset="corpse")


def test_fields_that_need_each_other_can_be_set_one_after_the_other(tiny_domain):
    editor = RecipeEditor(tiny_domain)
    editor.controls["approach"].value = "distill"
    assert "without a teacher" in editor.message and editor.recipe.approach == "contrastive"
    editor.controls["teacher"].value = "bge-small"
    assert (editor.recipe.approach, editor.recipe.teacher) == ("distill", ("bge-small",))
    assert editor.message == "" and editor.live.recipe == editor.recipe


def test_memory_and_minutes_are_told_on_demand_for_the_recipe_as_it_is(tiny_model, tiny_domain):
    editor = RecipeEditor(tiny_domain, Recipe(model=str(tiny_model), epochs=1, batch_size=16))
    ask = next(c for c in editor.children if getattr(c, "description", "") == "Forecast")
    assert editor.forecast.value == ""
    ask.click()
    assert "16 pairs" in editor.forecast.value and "MB free" in editor.forecast.value
    editor.controls["batch_size"].value = 8
    assert editor.forecast.value == "", "of a recipe that it is no longer"
    ask.click()
    assert "8 pairs" in editor.forecast.value and editor.message == ""
    editor.set(model="no/such-model")
    ask.click()
    assert editor.error and "no/such-model" in editor.message and editor.forecast.value == ""


# ---- negatives lab


def test_the_lab_mines_what_mine_mines(tiny_domain, rows):
    lab = NegativesLab(tiny_domain, rows, model=letters, margin=0.1, range_min=1, range_max=20)
    rules = {"range_min": 1, "range_max": 20, "relative_margin": 0.1}
    wanted = mining.mine(tiny_domain, rows, 1, model=letters, **rules)
    assert lab.mined.negatives == wanted.negatives and lab.mined.removed == wanted.removed
    lab.keep_relatives, lab.margin = True, 0.0
    rules = {"range_min": 1, "range_max": 20, "keep_relatives": True}
    assert lab.mined.removed == mining.mine(tiny_domain, rows, 1, model=letters, **rules).removed
    for rule, count in lab.mined.removed.items():
        assert rule in lab.results.value and f"{count:,}" in lab.results.value


def test_sliders_and_traits_are_one(tiny_domain, rows):
    lab = NegativesLab(tiny_domain, rows, model=letters)
    assert lab.range_max == 40 == lab._ends.max  # there are no more documents
    lab._ends.value, lab._margin.value, lab._relatives.value = (2, 9), 0.25, True
    assert (lab.range_min, lab.range_max, lab.margin, lab.keep_relatives) == (2, 9, 0.25, True)
    lab.range_max = 12
    assert lab._ends.value == (2, 12) and lab.error is None


def test_an_empty_window_is_said_and_what_was_mined_stays(tiny_domain, rows):
    lab = NegativesLab(tiny_domain, rows, model=letters)
    before = lab.mined
    lab._ends.value = (9, 9)
    assert "from ranks 9 to 9" in lab.message and lab.mined is before
    lab.range_min = 30
    assert "range_max=31 or more" in lab.message and lab.still()
    lab.range_max = 35
    assert lab.error is None and lab.mined is not before and lab._ends.value == (30, 35)


def test_the_lab_takes_some_pairs_of_many_and_says_so(tiny_domain, rows):
    lab = NegativesLab(tiny_domain, rows, model=letters, most=7)
    assert len(lab.mined) == 7 and f"7 of the {len(rows)} pairs" in lab.message
    with pytest.raises(EmbkitError, match="no pairs"):
        NegativesLab(tiny_domain, [])


def test_the_labs_texts_are_escaped(marked):
    lab = made(NegativesLab, marked)
    assert "&lt;script&gt;" in lab.results.value
    assert not any(tag in lab.results.value for tag in TAGS)


# ---- failure browser


@pytest.fixture
def browser(tiny_domain):
    return FailureBrowser(lengths, letters, tiny_domain)


def test_won_and_lost_are_what_the_scores_say(browser, tiny_domain):
    qrels = tiny_domain.qrels["known"]
    rankings = [ranking.rank(model, tiny_domain, "known") for model in (lengths, letters)]
    before, after = (score_ranking(r, qrels, ("ndcg@10",))["ndcg@10"] for r in rankings)
    sign = {
        q: "tied" if before[q] == after[q] else "won" if after[q] > before[q] else "lost"
        for q in qrels
    }
    assert {q: case.outcome for q, case in browser.cases.items()} == sign
    assert sum(int(label.split()[1]) for label, _ in browser._which.options) == len(qrels)
    changes = [abs(case.change) for case in browser.listed]
    assert changes == sorted(changes, reverse=True)
    for q, case in browser.cases.items():
        places = [list(r[q]) for r in rankings]
        right = {d for d, grade in qrels[q].items() if grade > 0}
        assert case.ranks == tuple(min(p.index(d) for d in right) + 1 for p in places)


def test_outcome_words_and_query_choose(browser):
    for outcome in ("won", "lost", "tied"):
        browser._which.value = outcome
        assert browser.outcome == outcome and browser.error is None
        assert all(case.outcome == outcome for case in browser.listed)
        if browser.listed:
            browser._list.value = browser.listed[-1].query
            assert browser.query == browser.listed[-1].query
            assert browser.listed[-1].text in browser.detail.value and browser.reason
    browser.find = "EAR aural"
    assert browser.listed == [] and browser.query is None and "holds 'EAR aural'" in browser.message
    assert browser.detail.value == "" and browser.still()
    browser.find = ""
    browser.query = "nobody"
    assert "unknown query 'nobody'" in browser.message


def test_the_reason_names_rank_score_and_shared_words(tiny_domain):
    browser = FailureBrowser("bm25", letters, tiny_domain)
    query = next(q for q, t in tiny_domain.queries.items() if t == "cardiac injury")
    browser.query = query
    assert browser.query == query and "before: it scores" in browser.reason
    assert f"before: rank {browser.cases[query].ranks[0]}," in browser.reason
    assert "words shared with the query: 1" in browser.reason  # "Injury of the heart"
    assert "injury" in browser.detail.value and "★" in browser.detail.value


def test_the_browsers_texts_are_escaped(tiny_domain):
    right = next(iter(tiny_domain.qrels["known"]))
    marked = dataclasses.replace(
        tiny_domain,
        corpus={**tiny_domain.corpus, "eye1": MARKUP},
        queries={**tiny_domain.queries, right: MARKUP},
    )
    browser = FailureBrowser(lengths, letters, marked, names=("<b>bold", "after"))
    browser.outcome = browser.cases[right].outcome
    browser.query = right
    assert "&lt;script&gt;" in browser.detail.value
    assert not any(tag in browser.detail.value for tag in TAGS)
    with pytest.raises(EmbkitError, match="split"):
        FailureBrowser(lengths, letters, tiny_domain, split="nowhere")
