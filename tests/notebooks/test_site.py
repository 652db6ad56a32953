"""The course's pages: site, slides, handout, glossary, quiz and the teacher's plans."""

import contextlib
import json
import re
import sys
from types import SimpleNamespace
from urllib.parse import unquote

import bs4
import nbformat
import numpy as np
import pytest

from embkit.errors import EmbkitError
from embkit.session import paths
from notebooks.tools import quiz as quiz_tool
from notebooks.tools import screenshots
from notebooks.tools import site as site_tool
from notebooks.tools import slides as slides_tool
from notebooks.tools.authoring import METADATA, compose
from tests.browser import lab_driver

NOTEBOOKS = paths().notebooks
SOURCES = sorted((NOTEBOOKS / "source").glob("[0-9][0-9]_*.py"))
MANNER_9 = (  # the words that the course keeps to
    "anchor positive negative corpus query qrels run nDCG@10 recall temperature adapter teacher "
    "student truncate rotate prune validate"
).split()
EVIL = "<script>alert(1)</script>"


@pytest.fixture(scope="module")
def texts():
    """Lesson's number -> its title and prose, and its code."""
    found = {}
    for path in SOURCES:
        cells = compose(path)[1].cells
        prose = "\n".join(c.source for c in cells if c.cell_type == "markdown")
        found[path.stem[:2]] = SimpleNamespace(
            prose=prose, all="\n".join(c.source for c in cells),
            sections=re.findall(r"^## +(.+?) *$", prose, re.M),
        )  # fmt: skip
    return found


@pytest.fixture
def small(tmp_path, monkeypatch):
    """Two small lessons with outputs, and no question that needs the kept results."""
    monkeypatch.setattr(site_tool, "parts", lambda: [])
    md, code = nbformat.v4.new_markdown_cell, nbformat.v4.new_code_cell
    table = nbformat.v4.new_output(
        "execute_result",
        {"text/html": "<table border='1'><tr><th></th><th>wide</th></tr></table>"},
        execution_count=1,
    )
    png = nbformat.v4.new_output(
        "display_data", {"image/png": "iVBORw0KGgo=", "text/plain": "a curve that falls"}
    )
    (tmp_path / "solutions").mkdir()
    for number, name in enumerate(("00_first", "01_second")):
        cells = [
            md(f"# 0{number} · Title of {number}\n\nA promise of {number}.", id=f"a{number}"),
            md(r"## The $\frac{1}{2}$ of it" "\n\nProse with a giraffe.", id=f"b{number}"),
            code("ek.widgets.SearchBox(a)", id=f"c{number}", outputs=[table, png]),
            md("## Exercises\n\n**1.** Find it.", id=f"d{number}"),
            code("answer_1 = ...", id=f"e{number}", metadata={"tags": ["solution"]}),
        ]
        book = nbformat.v4.new_notebook(cells=cells, metadata=METADATA)
        nbformat.write(book, tmp_path / f"{name}.ipynb")
        book.cells[-1].source = "answer_1 = 'zebra'"
        nbformat.write(book, tmp_path / "solutions" / f"{name}.ipynb")
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "search_box.png").write_bytes(b"png")
    (tmp_path / "glossary.toml").write_text(
        f"[terms.recall]\nlesson = '01'\ntext = 'a share {EVIL}'\n"
    )
    return tmp_path


@pytest.fixture
def built(small, tmp_path):
    return site_tool.site(tmp_path / "out", notebooks=small, runs=tmp_path / "runs").parent


def soup(path):
    return bs4.BeautifulSoup(path.read_text(encoding="utf-8"), "html.parser")


# ---- the site


def checked(built):
    """Name -> page; each of their links leads somewhere, and no id is there twice."""
    pages = {path.name: soup(path) for path in built.glob("*.html")}
    for name, page in pages.items():
        for tag in page.select("[href], [src]"):
            link = tag.get("href") or tag.get("src")
            if link.startswith("data:"):
                continue
            file, _, anchor = link.partition("#")
            if re.match(r"\w+:", link):
                assert tag.name == "a", f"{name} needs {link}"
                continue
            assert (built / (file or name)).is_file(), f"{name}: {link}"
            if anchor:
                assert pages[file or name].find(id=[anchor, unquote(anchor)]), f"{name}: {link}"
        ids = [tag["id"] for tag in page.find_all(id=True)]
        assert len(ids) == len(set(ids)), name
    return pages


def test_every_link_of_the_site_leads_somewhere(built):
    pages = {"00_first", "01_second", "index", "glossary", "quiz"}
    assert checked(built).keys() == {f"{name}.html" for name in pages}


@pytest.mark.slow
def test_the_whole_course_is_a_site(tmp_path):
    pages = checked(site_tool.site(tmp_path / "out", runs=tmp_path).parent)
    for path in SOURCES:
        page = pages[f"{path.stem}.html"]
        assert len(page.select("details.solution")) >= 3 and page.select(".output")
        assert not site_tool.TEX.search(" ".join(p.get_text() for p in page.select(".prose p")))
        assert all(image.get("alt") for image in page.find_all("img"))
    assert len(pages["quiz.html"].select("main > ol > li")) == 20


def test_a_lesson_shows_its_outputs_its_panel_and_hides_the_solution(built):
    page = soup(built / "00_first.html")
    assert page.find("img", alt="a curve that falls")
    assert page.select_one("details.panel img")["src"] == "pictures/search_box.png"
    assert "zebra" in page.select_one("details.solution:not([open])").get_text()
    assert page.select_one("svg.math")["aria-label"] == r"\frac{1}{2}"
    assert [a["href"] for a in page.select("nav.turn a")] == ["01_second.html"]
    current = page.select("[aria-current=page]")
    assert [a.get_text() for a in current] == ["00 · Title of 0"]
    assert not page.select(".output th:empty"), "an empty head is a cell"
    assert EVIL not in (built / "glossary.html").read_text(), "text is text"


def test_the_index_for_the_search_has_prose_and_code_and_no_solution(built):
    script = (built / "search.js").read_text(encoding="utf-8")
    index = json.loads(script.removeprefix("window.COURSE = ").rstrip(";\n"))
    (hit, other) = (entry for entry in index if "giraffe" in entry["text"])
    assert hit["page"] == "00_first.html" and "SearchBox(a)" in hit["text"]
    assert "zebra" not in script


def test_what_ran_here_is_shown_unless_the_lesson_has_changed_since(small, tmp_path):
    executed = tmp_path / "runs" / "course" / "00_first.ipynb"
    executed.parent.mkdir(parents=True)
    book = nbformat.read(small / "00_first.ipynb", 4)
    book.metadata["embkit"] = {"seconds": 7.0, "status": "ok"}
    nbformat.write(book, executed)
    assert site_tool.shown(small / "00_first.ipynb", executed)[1] == "as it ran here, in 7 s"
    book.cells[2].source = "other()"
    nbformat.write(book, executed)
    assert site_tool.shown(small / "00_first.ipynb", executed)[1] == "as committed"


def test_a_folder_without_lessons_is_refused(tmp_path):
    with pytest.raises(EmbkitError, match="course build"):
        site_tool.site(tmp_path / "out", notebooks=tmp_path, runs=tmp_path)


def test_every_formula_of_the_course_is_drawn(texts):
    drawn = 0
    for lesson in texts.values():
        for block, inline in site_tool.TEX.findall(lesson.prose):
            svg = site_tool.formula(block or inline, block=bool(block))
            assert re.search(r'<path d="M[^"]{20,}', svg)
            drawn += 1
    assert drawn > 20


@pytest.mark.parametrize("colour", ["#25ab82", "#fde725", "#440154"])
def test_a_coloured_cell_is_read_in_black_or_white(colour):
    styled = site_tool._STYLED.sub(
        site_tool._readable, f"background-color: {colour};\n  color: #f1f1f1;"
    )
    ink = re.search(r"; color: #(\w+)", styled)[1]

    def luminance(code):
        code = code * 2 if len(code) == 3 else code
        parts = np.array([int(code[at : at + 2], 16) / 255 for at in (0, 2, 4)])
        linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
        return linear @ [0.2126, 0.7152, 0.0722]

    high, low = sorted((luminance(colour[1:]), luminance(ink)), reverse=True)
    assert (high + 0.05) / (low + 0.05) >= 4.5


# ---- slides


def test_slides_follow_from_the_cells(small):
    book = nbformat.read(small / "00_first.ipynb", 4)
    book.cells[4].outputs = book.cells[2].outputs
    book.cells.append(nbformat.v4.new_markdown_cell("## Further reading"))
    book.cells.append(nbformat.v4.new_markdown_cell("a paper"))
    slides_tool.mark(book)
    kinds = [cell.metadata.slideshow.slide_type for cell in book.cells]
    assert kinds == ["slide", "slide", "-", "slide", "skip", "skip", "skip"]
    book.cells[2].metadata["tags"] = ["hide"]  # its code alone
    slides_tool.mark(book)
    assert book.cells[2].metadata.slideshow.slide_type == "-"
    book.cells[2].outputs = []
    slides_tool.mark(book)
    assert book.cells[2].metadata.slideshow.slide_type == "skip"
    book.cells[2].outputs = book.cells[4].outputs
    book.cells[1].source += " long" * 100
    slides_tool.mark(book)
    assert book.cells[2].metadata.slideshow.slide_type == "subslide"


def test_slides_need_no_network_once_the_package_is_here(small, tmp_path, monkeypatch):
    import zipfile

    wheel = tmp_path / "wheel.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name in slides_tool.FILES:
            archive.writestr(slides_tool.MEMBER + name, "x")
    monkeypatch.setattr(slides_tool, "download", lambda package, folder: wheel)
    paths_ = slides_tool.slides(tmp_path / "s", ["01"], notebooks=small, runs=tmp_path)
    assert [path.name for path in paths_] == ["01_second.slides.html"]
    page = soup(paths_[0])
    assert len(page.select(".slides > section")) == 3 and "zebra" not in str(page)
    assert not re.search(r"(src|href)=.https?:", str(page))
    for link in page.select("link, script[src]"):
        assert (tmp_path / "s" / (link.get("href") or link.get("src"))).is_file()


def test_without_the_package_and_a_network_the_slides_say_so(small, tmp_path, monkeypatch):
    def none(package, folder):
        raise slides_tool.Unreachable("no index")

    monkeypatch.setattr(slides_tool, "download", none)
    with pytest.raises(EmbkitError, match="make site, which needs none"):
        slides_tool.slides(tmp_path / "s", notebooks=small, runs=tmp_path)


# ---- the glossary


def test_each_term_occurs_in_the_lesson_that_it_names(texts):
    terms = site_tool.glossary()
    for entry in terms:
        said = entry.get("says", entry["term"]).lower()
        assert said in texts[entry["lesson"]].all.lower(), entry
        assert entry["text"].endswith(".") and entry["text"].isascii()
    assert {*MANNER_9} <= {entry["term"] for entry in terms}


# ---- the quiz


@pytest.fixture(scope="module")
def parts():
    return quiz_tool.parts()


@pytest.fixture(scope="module")
def kept():
    """Label -> split -> mean over queries and seeds, from the files alone."""
    folder = paths().data / "icd10cm" / "results" / "workshop"
    files = (json.loads(path.read_text()) for path in folder.glob("*.json"))
    return {
        data["label"]: {s: np.mean(v) for s, v in data["ndcg@10"].items()}
        | {"dev": np.mean(data["dev"]), "share": data["meta"]["trainable_params"] / 22_713_216}
        for data in files
    }


def test_there_are_five_questions_a_half_day_and_each_has_one_right_choice(parts, texts):
    assert [len(part.questions) for part in parts] == [5, 5, 5, 5]
    for question in (q for part in parts for q in part.questions):
        assert len({*question["choices"]}) == len(question["choices"]) > question["right"] >= 0
        assert question["lesson"] in texts
    used = [q["computed"] for part in parts for q in part.questions]
    assert sorted(used) == sorted(quiz_tool.ANSWERS)


def test_the_answers_are_those_that_the_kept_files_give(parts, kept):
    right = {q["computed"]: q["choices"][q["right"]] for part in parts for q in part.questions}

    def best(names, split):
        return max(names, key=lambda name: kept[name][split])

    trained = quiz_tool.TRAINED
    named = {"bm25": "BM25", "base": "the general model"}
    assert right["bm25_lay"] == named[best(("bm25", "base"), "lay")]
    assert right["best_on_known"] == best(trained, "known")
    assert right["hard_on_dev"] == best(("contrastive", "hard negatives"), "dev")
    assert right["untrained_on_lay"] == best(("bge-small, untrained", *trained), "lay")
    assert right["lora_share"] == f"{kept['LoRA']['share']:.1%}"
    # a difference that an interval shows has the sign of the means' difference
    for name, (one, split, other) in {
        "gain_known": ("contrastive", "known", "base"), "gain_lay": ("contrastive", "lay", "base"),
        "distilled_lay": ("distilled", "lay", "base"),
        "lora_known": ("LoRA", "known", "contrastive"),
        "matryoshka_known": ("Matryoshka", "known", "corpus"),
    }.items():  # fmt: skip
        sign = "above" if kept[one][split] > kept[other][split] else "below"
        assert right[name] in (f"yes, {sign} 0", "no"), name
    # formulas, worked another way
    assert right["ndcg_second"] == "0.63" and right["loss_of_equals"] == "4.85"
    assert right["rank_parameters"] == "6,144" and right["holm_smallest"] == "0.03"
    assert right["false_alarm"] == "64%" and right["bytes_saved"] == "1/4"
    assert right["more_queries"] == "4 times as many" and right["passages"] == "4"
    assert right["batch_negatives"] == "127"


def test_an_answer_that_is_no_choice_is_refused(monkeypatch):
    monkeypatch.setitem(quiz_tool.ANSWERS, "passages", lambda: "17")
    with pytest.raises(EmbkitError, match="'17', which is none of the choices"):
        quiz_tool._answered({"ask": "?", "choices": ["1", "2"], "computed": "passages"})


def test_the_widget_says_whether_a_choice_is_right(parts):
    shown = quiz_tool.quiz(1).children
    question = parts[0].questions[0]
    choice, said = shown[2], shown[3]
    right = question["choices"][question["right"]]
    choice.value = next(c for c in question["choices"] if c != right)
    assert "Not so" in said.value and question["why"] not in said.value
    choice.value = right
    assert "Right" in said.value and question["why"] in said.value
    with pytest.raises(EmbkitError, match="half day"):
        quiz_tool.quiz(9)


def test_the_quiz_notebook_runs(monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path])
    names = {}
    cells = nbformat.read(NOTEBOOKS / "quiz.ipynb", 4).cells
    asked = [c.source for c in cells if c.cell_type == "code"]
    assert asked[1:] == [f"quiz({number})" for number in range(1, 5)]
    exec(asked[0], names)
    assert len(eval(asked[2], names).children) == 16


# ---- the teacher's plans


def plans():
    """Title -> its rows: from, to (minutes), lesson, sections, how."""
    text = (NOTEBOOKS / "TEACHING.md").read_text(encoding="utf-8")
    found = {}
    for title, body in re.findall(r"^### (.+)\n((?:(?!#).*\n)+)", text, re.M):
        line = r"^\| (\d):(\d\d) \| (\d):(\d\d) \| (.*?) ?\| (.*) \| (\w*) ?\|$"
        rows = re.findall(line, body, re.M)
        found[title] = [
            (60 * int(a) + int(b), 60 * int(c) + int(d), lesson, what, how)
            for a, b, c, d, lesson, what, how in rows
        ]
    return found


PLANNED = {
    "90 minutes": (90, None),
    "Half a day": (240, "half a day"),
    "A day": (360, "a day"),
    "Two days, the first": (270, "two days, the first"),
    "Two days, the second": (300, "two days, the second"),
}


def test_each_plan_adds_up_and_what_is_live_fits(texts):
    readme = (NOTEBOOKS / "README.md").read_text(encoding="utf-8")
    minutes = dict(re.findall(r"^\| `(\d\d)_\w+` \|.*\| ([\d.]+) \|$", readme, re.M))
    found = plans()
    assert found.keys() == PLANNED.keys()
    for title, rows in found.items():
        total, schedule = PLANNED[title]
        assert rows[0][0] == 0 and rows[-1][1] == total, title
        assert all(a[1] == b[0] for a, b in zip(rows, rows[1:], strict=False)), title
        lessons = [row[2] for row in rows if row[2]]
        if schedule:
            line = re.search(rf"^\| {schedule} \| [\d.]+ \| (.+?) \| (.+) \|$", readme, re.M)
            assert lessons == line[2].split(", "), title
            hours, _, rest = line[1].partition(" h")
            assert 60 * int(hours) + int((re.search(r"\d+", rest) or ["0"])[0]) == total, title
        for start, end, lesson, what, how in rows:
            if how == "live":
                assert float(minutes[lesson]) < end - start, f"{title}: {lesson} does not fit"
            if lesson and "all" not in what:
                for section in what.split("; "):
                    assert section in texts[lesson].sections, section


def test_sections_that_the_teacher_is_told_of_exist(texts):
    text = (NOTEBOOKS / "TEACHING.md").read_text(encoding="utf-8")
    said = re.findall(r"^- (\d\d), (?:at|before) \*(.+?)\*:", " ".join(text.split("\n  ")), re.M)
    assert len(said) > 15
    for lesson, section in said:
        assert section in texts[lesson].sections, (lesson, section)


# ---- in a browser


@pytest.fixture(scope="module")
def chrome():
    try:
        where = lab_driver.find_chromium()
    except EmbkitError as error:
        pytest.skip(f"{error.given}: {error.hint}")
    with lab_driver.chrome(where) as opened:
        yield opened


@pytest.mark.browser
def test_the_site_is_searched_from_the_disk_by_keys(built, chrome):
    page = chrome.new_page()
    page.goto((built / "01_second.html").as_uri())
    page.keyboard.press("/")
    page.keyboard.type("giraffe promise")
    page.locator("#found p", has_text="0 sections").wait_for()
    page.locator("#find").fill("GIRAFFE")
    hits = page.locator("#found a")
    hits.first.wait_for()
    assert hits.count() == 2
    hits.first.click()
    page.wait_for_url("**/00_first.html*")
    page.get_by_role("button", name="Dark or light").click()
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert dark != "rgb(255, 255, 255)"
    page.get_by_role("button", name="Fold the code").click()
    assert page.locator("details.source[open]").count() == 0
    page.close()


@pytest.mark.browser
def test_the_handout_has_the_lesson_asked_for_the_terms_and_no_solution(
    small, tmp_path, monkeypatch, chrome
):
    pypdf = pytest.importorskip("pypdf")
    monkeypatch.setattr(lab_driver, "chrome", lambda where: contextlib.nullcontext(chrome))
    book = nbformat.read(small / "01_second.ipynb", 4)
    said = nbformat.v4.new_output("display_data", {"text/markdown": "The lead is an ostrich."})
    for source, outputs in (("told = 'badger'", [said]), ("assert 'walrus'", [])):
        cell = nbformat.v4.new_code_cell(source, metadata={"tags": ["hide"]}, outputs=outputs)
        book.cells.insert(2, cell)
    nbformat.write(book, small / "01_second.ipynb")
    pdf = site_tool.handout(tmp_path / "h.pdf", ["01"], notebooks=small, runs=tmp_path)
    printed = pypdf.PdfReader(pdf)
    text = " ".join(page.extract_text() for page in printed.pages)
    assert "Title of 1" in text and "Title of 0" not in text.split("Glossary")[0]
    assert "Prose with" in text and "zebra" not in text and "Quiz" in text
    assert "ostrich" in text and "badger" not in text and "walrus" not in text
    assert len(printed.pages) >= 3 and printed.outline, "each part on a page of its own"


@pytest.mark.browser
def test_pictures_of_the_pages_show_three_looks(built, tmp_path, monkeypatch, chrome):
    from PIL import Image

    monkeypatch.setattr(screenshots, "chrome", lambda where: contextlib.nullcontext(chrome))
    made = screenshots.pages({"site": built / "00_first.html"}, tmp_path / "pictures")
    assert [path.stem for path in made] == ["site-light", "site-dark", "site-print"]
    light, dark, printed = (Image.open(path).convert("L") for path in made)
    assert light.getpixel((600, 880)) > 240 > 60 > dark.getpixel((600, 880))
    assert printed.size == (794, 1123) and printed.getpixel((5, 5)) > 240, "no bar on paper"
    with pytest.raises(EmbkitError, match="make site"):
        screenshots.pages({}, tmp_path)


@pytest.mark.browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_serious_in_the_site(built, chrome, scheme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright").Axe()
    page = chrome.new_page(color_scheme=scheme)
    for path in sorted(built.glob("*.html")):
        page.goto(path.as_uri())
        found = axe.run(page).response["violations"]
        assert not [v["id"] for v in found if v["impact"] in ("serious", "critical")], path.name
    page.close()
