"""The course: the builder and the runner on made-up notebooks, then every real notebook."""

import itertools
import re
import sys
from pathlib import Path

import nbformat
import pytest

from embkit.errors import EmbkitError
from notebooks.tools import authoring, course, kernels
from tests.notebooks.test_checks import wrong_answers

NOTEBOOKS = Path(__file__).resolve().parents[2] / "notebooks"
COURSE = sorted(path.stem for path in (NOTEBOOKS / "source").glob("[0-9][0-9]_*.py"))

LESSON = """\
# %% [markdown]
# # Adding
#
# In a minute you will add
# two numbers.
#
# **You will do** a sum. **You will learn** to add. **You need** two hands.
#
# 1 minute on a CPU.

# %%
import pandas as pd

pd.DataFrame({"sum": [1 + 1]})

# %% tags=["hide"]
assert 1 + 1 == 2

# %% [markdown]
# ## What we saw
#
# - sums

# %% [markdown]
# ## Exercises

# %% tags=["solution"]
helper = 2
answer_1 = helper + 1

# %% tags=["solution"]
def answer_2(x):
    return x + 1

# %% tags=["solution"]
answer_3, (answer_3b, other) = 1, (2, 3)

# %% tags=["solution"]
helper

# %% [markdown] tags=["solution"]
# Because it is so.

# %% [markdown]
# ## Further reading
#
# - a book
"""


@pytest.fixture
def folder(tmp_path):
    """A folder of notebooks with one source in it, 01_adding."""
    (tmp_path / "notebooks" / "source").mkdir(parents=True)
    write(tmp_path / "notebooks", "01_adding", LESSON)
    return tmp_path / "notebooks"


def write(folder, name, text):
    (folder / "source" / f"{name}.py").write_text(text, encoding="utf-8")


def read(path):
    return nbformat.read(path, as_version=4)


def run(folder, *only, **options):
    return course.run(only, notebooks=folder, runs=folder.parent / "runs", **options)


# ---- building


def test_builds_both_notebooks_once(folder):
    assert authoring.build(folder) == ["01_adding.ipynb", "solutions/01_adding.ipynb"]
    assert authoring.build(folder) == []
    assert authoring.build(folder, check=True) == []


def test_solutions_become_placeholders(folder):
    authoring.build(folder)
    given = [c.source for c in read(folder / "01_adding.ipynb").cells if "solution" in str(c)]
    assert given == [
        "# Your code here\nanswer_1 = ...",
        "# Your code here\nanswer_2 = ...",
        "# Your code here\nanswer_3 = ...\nanswer_3b = ...",
        "# Your code here",
        "*Your answer here.*",
    ]
    text = (folder / "01_adding.ipynb").read_text(encoding="utf-8")
    assert "helper" not in text and "Because" not in text
    assert "helper + 1" in (folder / "solutions/01_adding.ipynb").read_text(encoding="utf-8")


def test_a_placeholder_knows_magics_await_and_annotations():
    solution = "%time 1\nanswer_1: int = 2\nanswer_2 = await f()\nanswer_1 = answer_4"
    assert authoring.answers(solution) == ["answer_1", "answer_2"]


def test_a_solution_that_is_no_python_is_named(folder):
    write(folder, "02_bad", '# %% tags=["solution"]\nanswer = (\n')
    with pytest.raises(EmbkitError, match=r"02_bad\.py, cell 1"):
        authoring.build(folder)


def test_ids_are_stable_and_told_apart(folder):
    cells = "# %%\n1\n\n# %%\n2\n\n# %%\n1\n"
    write(folder, "02_ids", cells)
    write(folder, "03_ids", cells)
    authoring.build(folder)
    before = [c.id for c in read(folder / "02_ids.ipynb").cells]
    assert len(set(before)) == 3
    assert not set(before) & {c.id for c in read(folder / "03_ids.ipynb").cells}
    write(folder, "02_ids", cells.replace("2", "2 + 2"))
    authoring.build(folder)
    after = [c.id for c in read(folder / "02_ids.ipynb").cells]
    assert [a == b for a, b in zip(after, before, strict=True)] == [True, False, True]
    solved = read(folder / "solutions/02_ids.ipynb")
    assert [c.id for c in solved.cells] == after


def test_metadata_is_minimal_and_hidden_cells_fold(folder):
    authoring.build(folder)
    book = read(folder / "01_adding.ipynb")
    assert dict(book.metadata) == authoring.METADATA
    hidden = next(c for c in book.cells if c.source.startswith("assert"))
    assert hidden.metadata == {"tags": ["hide"], "jupyter": {"source_hidden": True}}
    nbformat.validate(book)


def test_outputs_stay_only_while_nothing_changes(folder):
    authoring.build(folder)
    book = read(folder / "01_adding.ipynb")
    book.cells[1].outputs = [nbformat.v4.new_output("stream", text="kept")]
    nbformat.write(book, folder / "01_adding.ipynb")
    assert authoring.build(folder, check=True) == []
    authoring.build(folder)
    assert "kept" in (folder / "01_adding.ipynb").read_text(encoding="utf-8")
    write(folder, "01_adding", LESSON.replace("assert 1", "assert 0 + 1"))
    assert authoring.build(folder, check=True) == ["01_adding.ipynb", "solutions/01_adding.ipynb"]
    assert "kept" in (folder / "01_adding.ipynb").read_text(encoding="utf-8"), "check only looks"
    authoring.build(folder)
    assert "kept" not in (folder / "01_adding.ipynb").read_text(encoding="utf-8")


def test_a_notebook_without_a_source_is_out_of_step(folder):
    authoring.build(folder)
    (folder / "source" / "01_adding.py").unlink()
    found = ["01_adding.ipynb", "solutions/01_adding.ipynb"]
    assert authoring.build(folder, check=True) == found
    assert (folder / "01_adding.ipynb").exists()


def test_an_empty_folder_is_in_step_and_in_style(tmp_path):
    assert authoring.build(tmp_path) == authoring.check_style(tmp_path) == []
    assert course.run(notebooks=tmp_path, runs=tmp_path / "runs") == 0


# ---- style


def breaches(folder, text, name="01_adding"):
    write(folder, name, text)
    authoring.build(folder)
    return authoring.check_style(folder)


LONG = "x = 1\n" * 16
WIDE = f"x = '{'a' * 88}'"


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("import pandas as pd\n", LONG, "cell 2: 18 lines; at most 15"),
        ("import pandas as pd\n", WIDE, "cell 2: a line of 94 characters; at most 88"),
        ("# # Adding", "# Adding", "cell 1: is no Markdown with a title"),
        ("**You need**", "Bring", "cell 1: says no 'You need'"),
        ("on a CPU", "in all", "cell 1: gives no minutes on a CPU"),
        ("## What we saw", "## Recap", "last cells: the last sections are"),
        ("# ## Further reading", "# ## Books", "last cells: the last sections are"),
        ("answer_1 = ", "result = ", "cell 6: the solution gives no name that starts with"),
    ],
)
def test_a_breach_names_notebook_cell_and_rule(folder, old, new, expected):
    assert old in LESSON
    found = breaches(folder, LESSON.replace(old, new))
    assert any(line.startswith(f"01_adding, {expected}") for line in found), found


def test_three_exercises_and_a_low_median(folder):
    fewer = LESSON.replace(' tags=["solution"]\nanswer_3', "\nanswer_3")
    fewer = fewer.replace(' tags=["solution"]\nhelper\n', "\nhelper\n")
    assert any("2 cells tagged 'solution'" in line for line in breaches(folder, fewer))
    long = "".join("\n# %%\n" + "x = 1\n" * 10 for _ in range(7))
    text = LESSON.replace('\n# %% tags=["hide"]', long + '\n# %% tags=["hide"]')
    assert any("10 lines in the median; at most 8" in x for x in breaches(folder, text))


def test_outputs_are_looked_at(folder):
    clean = LESSON.replace('# %% tags=["solution"]\nhelper\n\n', "")
    assert breaches(folder, clean) == [
        "01_adding, outputs: no figure and no table is shown; make notebooks saves them"
    ]
    assert run(folder, write_back=True) == 0
    assert authoring.check_style(folder) == []
    book = read(folder / "01_adding.ipynb")
    view = {authoring.WIDGET: {}, "text/html": "<table>", "text/plain": "in /home/ada/kit/a.py"}
    book.cells[1].outputs = [
        nbformat.v4.new_output("display_data", view),
        nbformat.v4.new_output("error", ename="E", evalue="e", traceback=["x" * 1_000_000]),
    ]
    nbformat.write(book, folder / "01_adding.ipynb")
    found = "\n".join(authoring.check_style(folder))
    for part in ("at most 1,000,000", "is a widget", "is an error", "somebody's machine"):
        assert part in found


# ---- running


def test_runs_in_order_and_leaves_pages(folder, capsys):
    write(folder, "02_more", "# %% [markdown]\n# # More\n#\n# All < of it.\n\n# %%\n'mo' + 're'\n")
    authoring.build(folder)
    assert run(folder) == 0
    out = capsys.readouterr().out
    assert out.startswith("[1/2] 01_adding … ") and "[2/2] 02_more … " in out
    made = folder.parent / "runs" / "course"
    index = (made / "index.html").read_text(encoding="utf-8")
    assert 'href="01_adding.html"' in index and "add two numbers." in index
    assert "All &lt; of it." in index and index.count("<td>ok</td>") == 2
    if sys.platform == "linux":
        held = read(made / "02_more.ipynb").metadata["embkit"]["gigabytes"]
        assert 0.01 < held < 2 and index.count(" GB</td>") == 2, "what a kernel of its own holds"
    page = (made / "02_more.html").read_text(encoding="utf-8")
    assert "more" in page and "jupyter-widgets" not in page
    executed = read(made / "02_more.ipynb")
    assert executed.cells[1].outputs[0].data["text/plain"] == "'more'"
    assert not read(folder / "02_more.ipynb").cells[1].outputs
    assert run(folder, "02") == 0
    assert capsys.readouterr().out.startswith("[1/1] 02_more")
    assert (made / "index.html").read_text(encoding="utf-8").count("<tr>") == 2


def test_a_failing_cell_leaves_the_executed_notebook_and_exits_with_1(folder, capsys):
    cells = ("# %% [markdown]\n# # Fails\n", "# %%\n'kept'\n", "# %%\n1 / 0\n", "# %%\n'no'\n")
    write(folder, "00_fails", "\n".join(cells))
    authoring.build(folder)
    assert run(folder) == 1
    out = capsys.readouterr().out
    assert "failed after" in out and "00_fails, cell 3 of 4:" in out and "ZeroDivisionError" in out
    assert "01_adding" not in out, "later notebooks are not run"
    made = folder.parent / "runs" / "course"
    book = read(made / "00_fails.ipynb")
    assert [len(c.outputs) for c in book.cells[1:]] == [1, 1, 0]
    assert (made / "00_fails.html").exists()
    assert "failed" in (made / "index.html").read_text(encoding="utf-8")


def test_the_command_exits_with_1_when_a_cell_fails(folder, capsys, monkeypatch):
    write(folder, "00_fails", "# %%\n1 / 0\n")
    authoring.build(folder)
    real = course.run
    monkeypatch.setattr(course, "run", lambda only, **o: real(only, notebooks=folder, **o))
    monkeypatch.setattr(course, "leaderboard", lambda *_: pytest.fail("no leaderboard after that"))
    assert course.main(["run", "--only", "00"]) == 1
    assert course.main(["run", "--only", "77"]) == 1
    assert "unknown notebook '77'" in capsys.readouterr().out


SIDE = """\
# %%
import os, time
from pathlib import Path

Path("{me}.txt").write_text(os.environ["OMP_NUM_THREADS"])
deadline = time.monotonic() + 60
while not Path("{other}.txt").exists() and time.monotonic() < deadline:
    time.sleep(0.01)
assert Path("{other}.txt").exists()
{then}
"""


def test_two_at_a_time_share_the_cores_and_none_is_begun_after_a_failure(
    folder, capsys, monkeypatch
):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(course, "cores", lambda: 6)
    write(folder, "00_one", SIDE.format(me="one", other="two", then=""))
    write(folder, "01_two", SIDE.format(me="two", other="one", then=""))
    authoring.build(folder)
    assert run(folder, "00_one", "01_two", jobs=2) == 0, (
        "each waits for the other: they run side by side"
    )
    out = sorted(capsys.readouterr().out.split("\n")[:2])
    assert out[0].startswith("[1/2] 0") and out[1].startswith("[2/2] 0")
    assert (folder / "one.txt").read_text() == (folder / "two.txt").read_text() == "3"
    write(folder, "01_two", SIDE.format(me="two", other="one", then="1 / 0"))
    write(folder, "02_after", "# %%\nopen('after.txt', 'w').close()\n")
    write(folder, "00_one", SIDE.format(me="one", other="two", then="time.sleep(3)"))
    authoring.build(folder)
    beside = []
    idle = lambda: beside.append(capsys.readouterr().out)  # noqa: E731
    assert run(folder, "00_one", "01_two", "02_after", jobs=2, beside=idle) == 1
    assert ["00_one" in said for said in beside] == [False], "called once, while 00_one runs"
    out = beside[0] + capsys.readouterr().out
    assert "[1/3] 01_two … failed after" in out and "ZeroDivisionError" in out
    assert "[2/3] 00_one" in out and not (folder / "after.txt").exists()


@pytest.mark.skipif(not kernels.can_fork(), reason="no forks of kernels here")
def test_forked_kernels_have_the_libraries_and_nothing_of_each_other(folder, monkeypatch):
    monkeypatch.setattr(kernels, "LIBRARIES", ["colorsys", "ipykernel.kernelapp"])
    monkeypatch.setenv("EMBKIT_SEEN", "yes")
    text = """\
# %%
import os, sys
from pathlib import Path
import matplotlib.pyplot as plt

told = ["colorsys" in sys.modules, "leak" in globals(), os.environ["EMBKIT_SEEN"], os.getpgid(0) == os.getpid()]
leak = 1
Path("{me}.txt").write_text(f"{{told}} {{os.getcwd()}} {{__name__}}")

# %%
plt.plot([1, 2])
"""
    for me in ("00_one", "01_two"):
        write(folder, me, text.format(me=me))
    authoring.build(folder)
    assert run(folder, "00_one", "01_two", fork=True) == 0
    for me in ("00_one", "01_two"):
        wanted = f"[True, False, 'yes', True] {folder} __main__"
        assert (folder / f"{me}.txt").read_text() == wanted
        book = read(folder.parent / "runs/course" / f"{me}.ipynb")
        assert any("image/png" in output.get("data", {}) for output in book.cells[1].outputs)


@pytest.mark.parametrize("fork", [False, kernels.can_fork()])
def test_a_dead_kernel_is_said(folder, capsys, fork):
    write(folder, "00_dies", "# %%\nimport os\n\nos._exit(3)\n")
    authoring.build(folder)
    assert run(folder, "00", fork=fork) == 1
    assert "00_dies, cell 1 of 1:\n  the kernel died" in capsys.readouterr().out


def test_the_kernel_is_this_python_in_the_notebooks_folder(folder, monkeypatch):
    monkeypatch.setenv("EMBKIT_SOLUTIONS", "1")
    write(
        folder,
        "00_where",
        "# %%\nimport os\nimport sys\n\n"
        "asked = os.environ.get('EMBKIT_SOLUTIONS')\n"
        "open('where.txt', 'w').write(f'{sys.executable}|{asked}')\n",
    )
    authoring.build(folder)
    assert run(folder, "00") == 0
    assert (folder / "where.txt").read_text() == f"{sys.executable}|None"
    assert run(folder, "00", solutions=True) == 0
    assert (folder / "where.txt").read_text() == f"{sys.executable}|1"
    assert (folder.parent / "runs/course/solutions/00_where.ipynb").exists()


ANSWERED = """\
# %% [markdown]
# # Both

# %%
import os
n, seen, low = 1, [], "before"

# %% tags=["solution"]
helper = n + 1
answer_1 = helper

# %%
assert answer_1 is ... or os.environ.get("EMBKIT_SOLUTIONS") == "1"
assert answer_1 in (..., 2), "the names are those from before the exercises"
seen.append(answer_1)
n, later = 10, 3

# %% tags=["solution"]
answer_2 = helper + n

# %%
assert answer_1 is not ... or answer_2 is ...
low = "after"
seen.append(answer_2)
print(seen)
"""


def both(folder, text, capsys):
    write(folder, "00_both", text)
    authoring.build(folder)
    status = run(folder, "00", both=True)
    return status, capsys.readouterr().out, folder.parent / "runs/course/00_both.ipynb"


def test_both_are_executed_in_one_kernel_and_the_open_answers_first(folder, capsys):
    status, out, made = both(folder, ANSWERED, capsys)
    assert status == 0, out
    cells = [cell for cell in read(made).cells if cell.cell_type == "code"]
    assert len(cells) == 5 + 1 + 1 + 4
    nbformat.validate(read(made))
    printed = [cell.outputs[0].text for cell in cells if "print(" in cell.source]
    assert printed == ["[Ellipsis, Ellipsis]\n", "[Ellipsis, Ellipsis, 2, 12]\n"]


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("n, later", "helper\nn, later", "NameError"),  # a solution's name, which nobody has yet
        ("answer_1 = helper", "answer_1 = 3", "AssertionError"),  # a wrong solution
        ("helper = n", "later\nhelper = n", "NameError"),  # a solution that needs a later name
        ("answer_2 = helper + n", "answer_2 = low == 'after' or 1 / 0", "ZeroDivisionError"),
    ],
)
def test_both_fail_where_one_of_the_two_would(folder, capsys, old, new, expected):
    assert ANSWERED.count(old) == 1
    status, out, _ = both(folder, ANSWERED.replace(old, new), capsys)
    assert status == 1 and expected in out and "00_both, cell" in out


def test_checks_below_the_open_answers_stop_at_a_wrong_one(folder, capsys):
    text = 'import embkit as ek\n\n# %% tags=["solution"]\nanswer_1 = 1\n\n# %%\n'
    text = "# %%\n" + text + 'ek.exercises.check("1", answer_1, lambda a: a == 2)\n'
    status, out, made = both(folder, text, capsys)
    assert status == 1 and "exercise 1: not yet" in out
    assert "no answer yet" in made.read_text(encoding="utf-8"), "the open answer failed nothing"


def test_written_back_outputs_hold_nothing_of_this_machine(folder):
    write(
        folder,
        "00_here",
        "# %%\nimport ipywidgets\n\nipywidgets.IntSlider()\n\n"
        "# %%\nfrom pathlib import Path\n\nimport embkit\n\n"
        "print(Path.home() / 'x', embkit.__file__)\n\n"
        "# %%\nimport sys\nimport warnings\n\n"
        "sys.stderr.write('\\r 50%|##  | 1/2 [00:01<00:01]\\r100%|####| 2/2 [00:02<00:00]\\n')\n"
        "warnings.warn('careful')\n",
    )
    authoring.build(folder)
    assert run(folder, "00", write_back=True) == 0
    book = read(folder / "00_here.ipynb")
    slider, where, noise = (cell.outputs for cell in book.cells)
    assert slider == []
    assert where[0].text == "~/x embkit/__init__.py\n"
    assert [o.text.splitlines()[0] for o in noise] == ["cell.py:5: UserWarning: careful"]
    assert dict(book.metadata) == authoring.METADATA
    assert authoring.build(folder, check=True) == []


def test_a_widget_with_a_picture_keeps_the_picture():
    data = {authoring.WIDGET: {"model_id": "1"}, "image/png": "aGk=", "text/plain": "W()"}
    cell = nbformat.v4.new_code_cell("w", outputs=[nbformat.v4.new_output("display_data", data)])
    book = nbformat.v4.new_notebook(cells=[cell])
    course.clean(book, Path("runs"))
    assert set(book.cells[0].outputs[0].data) == {"image/png", "text/plain"}


# ---- the real course


def test_the_notebooks_are_in_step_with_their_sources():
    assert authoring.build(NOTEBOOKS, check=True) == [], "make notebooks"


@pytest.mark.parametrize("name", COURSE)
def test_style(name):
    assert [line for line in authoring.check_style(NOTEBOOKS) if line.startswith(name)] == []


@pytest.mark.slow
@pytest.mark.parametrize("name", COURSE)
def test_runs_from_top_to_bottom_and_then_its_solutions(name, shared, monkeypatch, capsys):
    """One kernel: the participant's notebook with open answers, then every solution's check, each
    followed by the wrong answers that it must refuse (``wrong_answers/``)."""
    monkeypatch.setenv("EMBKIT_CACHE", str(shared / "cache"))
    for fixed_for_unit_tests in ("EMBKIT_PRECISION", "EMBKIT_DEVICE"):
        monkeypatch.delenv(fixed_for_unit_tests, raising=False)
    wrong = wrong_answers(name)
    status = course.run([name], notebooks=NOTEBOOKS, runs=shared / "runs", both=True, wrong=wrong)
    assert status == 0, capsys.readouterr().out
    cells = read(shared / "runs" / "course" / f"{name}.ipynb").cells
    restored = next(i for i, cell in enumerate(cells) if cell.source == course.RESTORE)
    (checks, unanswered), solved = said(cells[:restored]), said(cells[restored:])
    assert checks == unanswered >= 3, "with open answers every check says that there is none"
    assert solved == (checks, 0)


def said(cells):
    """How many exercises are checked in some cells, and how many of these have no answer yet."""
    checks = [cell for cell in cells if "ek.exercises.check(" in cell.source]
    texts = [output.data["text/plain"] for cell in checks for output in cell.outputs]
    return len(checks), sum("no answer yet" in text for text in texts)


def test_each_lesson_names_the_one_after_it():
    for lesson, after in itertools.pairwise(COURSE):
        text = (NOTEBOOKS / "source" / f"{lesson}.py").read_text(encoding="utf-8")
        assert re.findall(r"next: `(\w+)`", text) == [after], lesson
