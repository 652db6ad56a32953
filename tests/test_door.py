"""``import embkit as ek``: quick, and every name it offers is there, in any order."""

import ast
import importlib
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

import embkit

EXPORTS = {name: module for module, names in embkit._NAMES.items() for name in names}
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
    for name, room in EXPORTS.items():
        expected = getattr(importlib.import_module(f"embkit.{room}"), name)
        assert getattr(embkit, name) is expected, name
    for name in embkit._FOLDERS:
        assert getattr(embkit, name).__name__ == f"embkit.{name}"


@pytest.fixture
def fresh():
    """embkit as if nobody had imported it yet, in this process: torch need not be read again."""

    def ours():
        return [name for name in sys.modules if name.split(".")[0] == "embkit"]

    before = {name: sys.modules.pop(name) for name in ours()}
    yield importlib.import_module("embkit")
    for name in ours():
        del sys.modules[name]
    sys.modules.update(before)


def test_no_name_is_hidden_by_a_room_that_was_opened_before(fresh):
    # importing embkit.search.index puts the module under the name of the function ek.exact_search
    for room in fresh._NAMES:
        importlib.import_module(f"embkit.{room}")
    assert [name for name in EXPORTS if isinstance(getattr(fresh, name), ModuleType)] == []


@pytest.mark.parametrize("first", ["search", "encode", "load_model", "evaluate"])
def test_search_is_a_function_whatever_was_used_first(first, fresh):
    getattr(fresh, first)
    importlib.import_module("embkit.search.index")
    one = np.eye(2, dtype=np.float32)
    assert fresh.exact_search(one, one, 1)[0].tolist() == [[0], [1]]


ROOMS = [name for name in embkit._FOLDERS if name != "exercises"]


@pytest.mark.parametrize("room", ROOMS)
def test_a_room_lists_its_names_and_hides_none_behind_a_module(room):
    """A file that bears the name of a function would stand in its place once it is opened."""
    module = getattr(embkit, room)
    names = list(module.__all__)
    constants_first = sorted(names, key=lambda name: (not name.isupper(), name))
    assert names in (sorted(names), constants_first) and module.__doc__
    for name in module.__all__:
        assert not isinstance(getattr(module, name), ModuleType), name


LIGHT = ("pairs.labels", "data", "cli.main", "runs", "evaluation.ranking", "search.index")


def test_a_room_opens_no_heavy_library_before_it_is_needed():
    code = "import importlib, json, sys\n"
    code += f"for name in {LIGHT}: importlib.import_module('embkit.' + name)\n"
    code += f"print(json.dumps([m for m in {HEAVY} if m in sys.modules]))"
    assert python(code) == []


def test_dir_and_all_list_what_can_be_had():
    assert set(dir(embkit)) >= {"train", "evaluate", "compare", "exact_search", "plots", "Recipe"}
    assert len(EXPORTS) <= 30, "the door is for what a lesson uses every day"
    assert sorted(embkit.__all__) == list(embkit.__all__)
    assert all(hasattr(embkit, name) for name in embkit.__all__)


def test_an_unknown_name_is_an_attribute_error_that_lists_the_names():
    assert not hasattr(embkit, "finetune")
    with pytest.raises(AttributeError, match="leaderboard"):
        embkit.finetune  # noqa: B018


def test_the_type_checker_sees_the_same_names():
    stub = Path(embkit.__file__).with_suffix(".pyi").read_text(encoding="utf-8")
    seen = {
        alias.asname: line.module
        for line in ast.parse(stub).body
        if isinstance(line, ast.ImportFrom) and line.module
        for alias in line.names
    }
    assert seen == EXPORTS
