"""``import embkit as ek``: quick, and every name it offers is there, in any order."""

import ast
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import embkit

HEAVY = ("torch", "transformers", "sentence_transformers", "datasets", "matplotlib", "pandas")


def python(code):
    """What a fresh Python prints as JSON."""
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(embkit.__file__).parent.parent,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_the_import_alone_opens_no_heavy_library():
    code = f"import embkit, json, sys; print(json.dumps([m for m in {HEAVY} if m in sys.modules]))"
    assert python(code) == []


def test_every_name_resolves_to_what_its_room_defines():
    import importlib

    for name, room in embkit._EXPORTS.items():
        expected = getattr(importlib.import_module(f"embkit.{room}"), name)
        assert getattr(embkit, name) is expected, name
    for name in embkit._SUBMODULES:
        assert getattr(embkit, name).__name__ == f"embkit.{name}"


FIRST = ("ek.search.BM25", "ek.encode", "ek.load_model", "ek.evaluate", "rooms()")
ORDER = f"""
import importlib, json, sys

def rooms():
    for room in sorted(set(ek._EXPORTS.values())):
        importlib.import_module(f"embkit.{{room}}")

found = {{}}
for first in {FIRST}:
    for name in [name for name in sys.modules if name.split(".")[0] == "embkit"]:
        del sys.modules[name]
    import embkit as ek
    eval(first)
    import embkit.search.index, numpy
    one = numpy.eye(2, dtype=numpy.float32)
    kinds = {{name: type(getattr(ek, name)).__name__ for name in ek._EXPORTS}}
    found[first] = ek.exact_search(one, one, 1)[0].tolist(), kinds
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def orders():
    """What was used first -> what a search then finds, and what every name is: in one process,
    which has to import torch once, and embkit anew each time."""
    return python(ORDER)


@pytest.mark.parametrize("first", FIRST)
def test_search_is_a_function_whatever_was_used_first(first, orders):
    # importing embkit.search.index puts the module under the name of the function ek.exact_search
    assert orders[first][0] == [[0], [1]]


def test_no_name_is_hidden_by_a_room_that_was_opened_before(orders):
    for first, (_, kinds) in orders.items():
        assert [name for name, kind in kinds.items() if kind == "module"] == [], first


ROOMS = [name for name in embkit._SUBMODULES if name != "exercises"]


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_lists_its_names_and_hides_none_behind_a_module(room):
    """A file that bears the name of a function would stand in its place once it is opened."""
    module = getattr(embkit, room)
    assert sorted(module.__all__) == list(module.__all__) and module.__doc__
    for name in module.__all__:
        assert not isinstance(getattr(module, name), ModuleType), name


def test_dir_and_all_list_what_can_be_had():
    assert set(dir(embkit)) >= {"train", "evaluate", "compare", "exact_search", "plots", "Recipe"}
    assert len(embkit._EXPORTS) <= 30, "the door is for what a lesson uses every day"

    assert sorted(embkit.__all__) == list(embkit.__all__)
    assert all(hasattr(embkit, name) for name in embkit.__all__)


def test_an_unknown_name_is_an_attribute_error_that_lists_the_names():
    assert not hasattr(embkit, "finetune")
    with pytest.raises(AttributeError, match="leaderboard"):
        embkit.finetune  # noqa: B018


def test_the_type_checker_sees_the_same_names():
    tree = ast.parse(Path(embkit.__file__).read_text(encoding="utf-8"))
    (block,) = [
        node
        for node in tree.body
        if isinstance(node, ast.If) and getattr(node.test, "id", "") == "TYPE_CHECKING"
    ]
    seen = {
        alias.asname or alias.name: line.module
        for line in block.body
        if isinstance(line, ast.ImportFrom)
        for alias in line.names
    }
    assert seen == embkit._EXPORTS
