"""Tables in every form, each read again by a reader that embkit has no part in."""

import csv
import importlib
import io
import pkgutil
import re

import pytest

import embkit
from embkit.display import BEST, Shown, Table, facts, markdown, no_formula, table, visible
from tests.html_tables import Page

HOSTILE = [
    "<script>alert('x')</script>",
    '" onmouseover="alert(1)" style="text-align: right;"',
    "a | b",
    "a & b &amp; c",
    r"50% of_$x {y} ~ ^ # \frac",
    "`code` *bold* _it_ [link](javascript:alert(1)) ![x](y) [a][b]",
    "Δ 2 < 3 > 1 × ± –",
    "[0.1, 0.2]",
    "日本 👩‍🔧 naïve",
]


@pytest.fixture
def hostile():
    return Table(
        ["<b>name</b>", "n & m"], [[text, str(n)] for n, text in enumerate(HOSTILE)], "<i>why</i>"
    )


def as_github_reads(text):
    """A table of GitHub's Markdown by the rules of its specification: cells between bare bars,
    then a backslash before a sign means the sign itself."""
    rows = []
    for line in text.split("\n"):
        cells = re.split(r"(?<!\\)(?:\\\\)*\|", line)
        assert cells[0] == cells[-1] == ""
        rows.append([re.sub(r"\\([!-/:-@\[-`{-~])", r"\1", cell.strip()) for cell in cells[1:-1]])
    return rows


def as_latex_reads(text):
    """The cells of a ``tabular``, its commands for signs undone."""
    signs = {
        r"\textbackslash": "\\",
        r"\textasciitilde": "~",
        r"\textasciicircum": "^",
        r"$\Delta$": "Δ",
        r"$\times$": "×",
        r"$\pm$": "±",
        r"$<$": "<",
        r"$>$": ">",
        "--": "–",
        "{[}": "[",
    }
    rows = []
    for line in text.split("\n"):
        if not line.endswith(r"\\"):
            continue
        cells = []
        for cell in re.split(r"(?<!\\)&", line[:-2].replace(r"\space ", " ")):
            for command, sign in signs.items():  # a command of letters ends with its space
                cell = cell.replace(f"{command} " if command[1].isalpha() else command, sign)
            cells.append(re.sub(r"\\([&%$#_{}])", r"\1", cell).strip())
        rows.append(cells)
    return rows


def test_html_shows_every_text_and_none_is_markup(hostile):
    page = Page(hostile.to_html())
    assert page.tables == [
        [["<b>name</b>", "n & m"]] + [[t, str(n)] for n, t in enumerate(HOSTILE)]
    ]
    assert page.captions == ["<i>why</i>"]
    assert page.tags == {"table", "caption", "thead", "tbody", "tr", "th", "td"}


def test_long_texts_are_not_shortened():
    text = "word " * 200
    made = Table(["a"], [[text + "end"]])
    for shown in (made.to_html(), made.to_text(), made.to_markdown(), made.to_latex()):
        assert text + "end" in " ".join(shown.split())  # a terminal's lines are broken


def test_markdown_shows_every_text_and_none_is_markup(hostile):
    shown = hostile.to_markdown()
    head, sides, *rows = as_github_reads(shown)
    assert head == ["<b>name</b>", "n & m"]
    assert [cells for cells in rows] == [[text, str(n)] for n, text in enumerate(HOSTILE)]
    assert [side.endswith(":") for side in sides] == [False, True]
    assert not re.search(r"(?<!\\)[<`*]", shown) and "](" not in shown and "][" not in shown
    assert re.sub(r"\\(.)", r"\1", markdown("# a\n| b")) == "# a | b"


def test_latex_shows_every_text(hostile):
    shown = hostile.to_latex()
    assert shown.startswith("\\begin{tabular}{lr}") and shown.endswith(r"\end{tabular}")
    head, *rows = as_latex_reads(shown)
    assert head == ["<b>name</b>", "n & m"]
    assert rows == [[text, str(n)] for n, text in enumerate(HOSTILE)]
    assert not re.search(r"(?m)^\[", shown), "no distance after the end of a row"


def test_a_terminal_shows_every_text_in_columns(hostile):
    head, *lines = hostile.to_text().splitlines()
    place = head.index("n & m")
    for number, (line, text) in enumerate(zip(lines, HOSTILE, strict=True)):
        assert (line[:place].rstrip(), line[place:]) == (visible(text), str(number))


def test_no_control_character_gets_through_and_a_cell_stays_on_its_line():
    evil = "a\x1b[31m\x00\x02b\x03\r\nc\td\x9b\u2028e\u202ef"
    made = Table([evil, "x"], [[evil, "1"], ["plain", "2"]], bold={(0, 0)})
    text, shown, marked, latex = (
        form() for form in (made.to_text, made.to_html, made.to_markdown, made.to_latex)
    )
    assert len(text.splitlines()) == 3 and len(as_github_reads(marked)) == 4
    assert len(as_latex_reads(latex)) == 3
    for whole in (text, shown, marked, latex):
        assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", whole)
    assert all(letter.isprintable() or letter == "\n" for letter in text)
    wanted = r"a\x1b[31m\x00\x02b\x03 c d\x9b\u2028e\u202ef"
    assert Page(shown).tables[0][0][0] == wanted and Page(shown).bold == [f"{wanted} {BEST}"]
    assert text.startswith(wanted) and as_github_reads(marked)[0][0] == wanted


def test_what_stands_out_is_bold_and_has_a_star():
    made = Table(["model", "score"], [["a", ".4"], ["b", ".5"]], bold={(1, 1)})
    assert Page(made.to_html()).bold == [f".5 {BEST}"]
    assert as_github_reads(made.to_markdown())[3] == ["b", f"**.5** {BEST}"]
    assert r"b & \textbf{.5}" in made.to_latex() and made.to_latex().count("textbf") == 1
    assert made.to_text().splitlines()[2].split() == ["b", ".5", BEST]


def test_amounts_go_to_the_right():
    cells = [["1 a", "0.3 [0.2, 0.4]", "+0.1", "", "<0.001", "x"], ["b", "0.5", "-2", "", "", "3"]]
    made = Table(list("abcdef"), cells)
    assert made.sides() == ["left", "right", "right", "left", "right", "left"]
    for row in Page(made.to_html()).styles[0]:
        assert [style.removeprefix("text-align:") for style in row] == made.sides()
    assert r"{lrrlrl}" in made.to_latex()


def test_facts_have_no_head():
    made = facts({"model": "<b>", "seconds": 3}, "how it went")
    page = Page(made.to_html())
    assert page.tables == [[["model", "<b>"], ["seconds", "3"]]] and "th" not in page.tags
    assert page.captions == ["how it went"]
    assert made.to_text() == "model    <b>\nseconds  3"


def test_rows_of_mappings_keep_every_key_in_order():
    made = table([{"a": 1, "b": None}, {"a": 2.5, "c": "x"}])
    assert (made.head, made.cells) == (["a", "b", "c"], [["1", "", ""], ["2.5", "", "x"]])
    assert list(made.frame().columns) == ["a", "b", "c"]
    twice = Table(["kept", "kept"], [["1", "2"]])
    assert Page(twice.to_html()).tables == [[["kept", "kept"], ["1", "2"]]]
    assert as_github_reads(twice.to_markdown())[2] == ["1", "2"]


@pytest.mark.parametrize("empty", [table([]), Table(["a", "b"], []), facts({})])
def test_nothing_to_show_is_no_error(empty):
    for form in (empty.to_html, empty.to_text, empty.to_markdown, empty.to_latex):
        assert isinstance(form(), str)
    assert sum(Page(empty.to_html()).tables[0], []) == [name for name in empty.head if name]


def test_a_class_that_gives_a_table_has_its_forms():
    class Two(Shown):
        def table(self):
            return facts({"a": "<1>"})

    assert Page(Two()._repr_html_()).tables == [[["a", "<1>"]]] and str(Two()) == "a  <1>"
    with pytest.raises(NotImplementedError):
        Shown().table()


def test_a_spreadsheet_takes_no_text_for_a_formula():
    risky = ["=1+1", "+1", "-1", "@x", "\t=1", "\r=1"]
    file = io.StringIO()
    csv.writer(file).writerow([no_formula(text) for text in [*risky, "a=1", 3, None]])
    (row,) = csv.reader(io.StringIO(file.getvalue(), newline=""))
    assert row == [*(f"'{text}" for text in risky), "a=1", "3", ""]


def test_a_wide_table_fits_a_terminal_and_loses_nothing():
    texts = [f"a name of {n} words, and more of them {'word ' * n}end" for n in range(1, 40, 6)]
    cells = [[text, f"0.{n}00 [0.{n}00, 0.{n}00]", "x" * 30] for n, text in enumerate(texts)]
    made = Table(["what there is", "score", "letters"], cells)
    rows = made.text_rows(60)
    assert max(len(line) for row in rows for line in row.split("\n")) <= 60
    place = rows[0].index("score")
    for row, text in zip(rows[1:], texts, strict=True):
        shown = " ".join(line[:place].strip() for line in row.split("\n"))
        assert shown.split() == text.split(), "every word, in its order"
    assert max(map(len, made.to_text().splitlines())) <= 100
    assert made.text_rows(1000)[1].count("\n") == 0, "what fits stays on one line"


def test_no_dataclass_that_shows_itself_as_a_table_shows_its_fields_in_a_terminal():
    for module in pkgutil.walk_packages(embkit.__path__, "embkit."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    kinds = list(Shown.__subclasses__())
    for kind in kinds:
        kinds += kind.__subclasses__()
    assert len(kinds) > 5
    made = {kind.__name__: getattr(kind, "__dataclass_params__", None) for kind in kinds}
    assert not [name for name, told in made.items() if told and told.repr]
