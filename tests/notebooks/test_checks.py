"""Every exercise's check refuses the likeliest wrong answers, and knows more than one of them.

``wrong_answers/NN.toml`` holds them: exercise → five answers as Python code, which may use what the
lesson's solutions have made by then. They are tried where the solutions run, in
``test_course.py::test_runs_from_top_to_bottom_and_then_its_solutions``, so that nothing runs twice.
"""

import tomllib
from pathlib import Path

import pytest

from notebooks.tools import authoring, course

HERE = Path(__file__).parent
SOURCES = sorted((HERE.parents[1] / "notebooks" / "source").glob("[0-9][0-9]_*.py"))
LEAST = 5
# Lessons that have no list yet. A lesson that has one must not stand here.
MISSING: set[str] = set()


def wrong_answers(name):
    """Exercise → wrong answers of a lesson, by its number or name; {} where there is no list."""
    file = HERE / "wrong_answers" / f"{name[:2]}.toml"
    return tomllib.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}


def test_the_lessons_without_a_list_are_known():
    assert {source.stem[:2] for source in SOURCES if not wrong_answers(source.stem)} == MISSING
    files = {file.stem for file in (HERE / "wrong_answers").glob("*")}
    assert files == {source.stem[:2] for source in SOURCES} - MISSING


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.stem)
def test_each_exercise_has_five_wrong_answers(source):
    if source.stem[:2] in MISSING:
        pytest.skip("no list yet")
    cells = [c.source for c in authoring.compose(source)[1].cells if c.cell_type == "code"]
    exercises = {number for cell in cells for number in authoring.checks(cell)}
    wrong = wrong_answers(source.stem)
    assert set(wrong) == exercises >= {"1", "2", "3"}
    for answers in wrong.values():
        assert len(set(answers)) == len(answers) >= LEAST
        for answer in answers:
            compile(answer, "answer", "eval")


LESSON = """\
# %% tags=["solution"]
answer_1 = 3

# %%
import embkit as ek

ek.exercises.check("1", answer_1, {test}, hint="1 + 2")
"""


@pytest.mark.parametrize(
    ("test", "wrong", "said"),
    [
        ("lambda a: a == 3", ["0", "-5", "[]", "answer_1 + 1"], None),
        ("lambda a: a == [] or a > 0", ["0", "4", "[]"], "exercise 1 accepts ['4', '[]']"),
        ("lambda a: a[0] > 1", ["0"], None),  # an error in the test refuses, as the check does
        ("lambda a: a == 3", ["no_such_name"], "no_such_name"),  # one in the list does not
    ],
)
def test_a_check_that_accepts_a_wrong_answer_is_found(tmp_path, capsys, test, wrong, said):
    (tmp_path / "notebooks" / "source").mkdir(parents=True)
    lesson = LESSON.format(test=test).replace("= 3\n", "= [3]\n" if "[0]" in test else "= 3\n")
    (tmp_path / "notebooks" / "source" / "01_sum.py").write_text(lesson, encoding="utf-8")
    authoring.build(tmp_path / "notebooks")
    options = {"notebooks": tmp_path / "notebooks", "runs": tmp_path / "runs", "both": True}
    assert course.run(wrong={"1": wrong}, **options) == int(said is not None)
    printed = capsys.readouterr().out
    assert said is None or said in printed


def test_checks_are_found_in_any_cell():
    cell = "%time 1\nx = ek.exercises.check(\n    '2', a, lambda a: (\n  a == 1),\n hint='h')\n"
    assert authoring.checks(cell) == {"2": "lambda a: a == 1"}
    assert authoring.checks("ek.exercises.check('3', await f(), same)") == {"3": "same"}
    assert authoring.checks("other.check('3', 1, same)") == {}
