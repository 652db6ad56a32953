"""One kind of error: what was given, what was expected, what to type next."""

import pickle

import pytest

from embkit.errors import EmbkitError, unknown


def test_an_error_says_three_things_and_is_a_value_error():
    error = EmbkitError("k=0", expected="k of 1 or more", hint="k=10")
    assert isinstance(error, ValueError)
    assert (error.given, error.expected, error.hint) == ("k=0", "k of 1 or more", "k=10")
    assert str(error).splitlines() == ["k=0", "  expected: k of 1 or more", "  try next: k=10"]


def test_an_error_must_say_what_to_type_next():
    with pytest.raises(TypeError):
        EmbkitError("k=0")


def test_an_error_survives_the_way_from_one_process_to_another():
    error = pickle.loads(pickle.dumps(unknown("domain", "icd10", ["icd10cm"])))
    assert type(error) is EmbkitError
    assert error.given == "unknown domain 'icd10'" and "icd10cm" in error.hint


@pytest.mark.parametrize(
    "given, nearest",
    [("learning_rat", "learning_rate"), ("temprature", "temperature"), ("epoch", "epochs")],
)
def test_an_unknown_name_is_answered_with_the_nearest(given, nearest):
    error = unknown("recipe field", given, ["epochs", "learning_rate", "temperature"])
    assert error.hint == f"did you mean {nearest!r}?"
    assert all(name in error.expected for name in ("epochs", "learning_rate", "temperature"))


def test_where_nothing_is_near_all_names_are_given():
    assert unknown("split", "zzzz", ["known", "dev"]).hint == "choose one of dev, known"


@pytest.mark.parametrize("given", [7, None, ("a",), 2.5])
def test_a_name_of_another_type_is_an_unknown_name(given):
    assert repr(given) in unknown("domain", given, ["icd10cm"]).given
