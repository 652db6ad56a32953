"""Checks of answers: right, wrong, none yet; a notebook goes on, a build with solutions stops."""

import numpy as np
import pytest

from embkit.exercises import check


def equals_four(answer):
    return answer == 4


def test_a_right_answer_says_what_it_teaches():
    found = check("1", 4, equals_four, hint="add", right="two and two")
    assert found.right is True and found.message == "two and two"
    assert repr(found) == "exercise 1: right: two and two"
    assert check("1", 4, equals_four).message


def test_a_wrong_answer_shows_the_hint_and_not_the_lesson():
    found = check("2", 5, equals_four, hint="add again", right="two and two")
    assert found.right is False and "add again" in found.message
    assert "two and two" not in repr(found)
    assert check("2", 5, equals_four).message


def test_no_answer_yet_is_neither_right_nor_wrong_and_is_not_tested():
    found = check("3", ..., lambda _: pytest.fail("tested"))
    assert found.right is None and "..." in found.message


@pytest.mark.parametrize("answer", [None, 0, "", [], False])
def test_an_empty_answer_is_an_answer(answer):
    assert check("4", answer, lambda a: a == answer).right is True


def test_an_array_can_be_an_answer():
    assert check("5", np.arange(3), lambda a: a.sum() == 3).right is True
    assert check("5", np.arange(3), lambda a: a == 3).right is False  # no single yes or no


def test_an_error_in_the_test_counts_as_wrong_and_is_shown():
    found = check("6", "four", lambda a: a + 1 > 0, hint="a number")
    assert found.right is False
    assert "TypeError" in found.message and "a number" in found.message


def test_what_is_shown_in_a_notebook_is_escaped():
    page = check("7", 1, lambda a: False, hint="x < y & <script>")._repr_html_()
    assert "<script>" not in page and "x &lt; y &amp; &lt;script&gt;" in page


@pytest.mark.parametrize("answer", [5, ...])
def test_while_solutions_are_tested_only_a_right_answer_passes(monkeypatch, answer):
    monkeypatch.setenv("EMBKIT_SOLUTIONS", "1")
    assert check("8", 4, equals_four).right is True
    with pytest.raises(AssertionError, match="exercise 8"):
        check("8", answer, equals_four)


def test_the_answers_signs_differ_without_colour():
    signs = {check("9", a, equals_four)._repr_html_().split()[0] for a in (4, 5, ...)}
    assert len(signs) == 3
