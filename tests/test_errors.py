"""One kind of error: what was given, what was expected, what to type next."""

import ast
import pickle
import re
import tomllib
from pathlib import Path
from string import Formatter

import pytest

import embkit
from embkit.errors import EmbkitError, refusals, unknown


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


def test_a_table_words_an_error_with_its_values(tmp_path):
    table = tmp_path / "refusals.toml"
    table.write_text(
        '[size]\ngiven = "size={size!r}"\nexpected = "{least:,} or more"\nhint = "size={least}"\n'
    )
    error = refusals(str(table.with_name("module.py")))("size", size="{x}", least=1_000)
    assert (error.given, error.expected) == ("size='{x}'", "1,000 or more")
    assert error.shell == error.hint == "size=1000"


TABLES = sorted(Path(embkit.__file__).parent.rglob("refusals.toml"))


def modules_of(table):
    """The modules whose nearest table, beside them or above, this is."""
    nearer = [other.parent for other in TABLES if table.parent in other.parent.parents]
    for path in table.parent.rglob("*.py"):
        if not any(folder in path.parents for folder in nearer):
            yield path


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.parent.name)
def test_each_error_of_a_table_is_raised_and_says_three_things(table):
    told = tomllib.loads(table.read_text(encoding="utf-8"))
    code = "".join(path.read_text(encoding="utf-8") for path in modules_of(table))
    assert set(re.findall(r'refused\(\s*"([^"]+)"', code)) == told.keys()
    for said in told.values():
        assert (
            {"given", "expected", "hint"} <= said.keys() <= {"given", "expected", "hint", "shell"}
        )
        assert all(said.values())


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.parent.name)
def test_each_value_that_an_error_names_is_given_where_it_is_raised(table):
    told = tomllib.loads(table.read_text(encoding="utf-8"))
    checked = 0
    for path in modules_of(table):
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(call, ast.Call) and getattr(call.func, "id", "") == "refused":
                named = {keyword.arg for keyword in call.keywords}
                wanted = {
                    re.split(r"[.\[!:]", field)[0]
                    for text in told[call.args[0].value].values()
                    for _, field, _, _ in Formatter().parse(text)
                    if field
                }
                if None not in named:  # a mapping gives more
                    assert wanted <= named, (path.name, call.lineno, wanted - named)
                    checked += 1
    assert checked
