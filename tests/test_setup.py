"""``make setup`` with a Python, a pip and a uv that only write down what they are asked."""

import os
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
PYTHON = f"""#!/bin/sh
case "$1" in
  --version) echo "Python VERSION"; exit;;
  -c) exec {os.path.realpath(sys.executable)} -c "import sys
sys.version_info = tuple(map(int, 'VERSION'.split('.')))
$2";;
esac
echo "${{0##*/}} $*" >> "$CALLS"
case "$*" in "-m venv"*)
  for last; do :; done; mkdir -p "$last/bin"
  cp "$0" "$last/bin/python";;
esac
seq -f "Collecting package-%g" 800
case "$*" in *"$BREAKS"*) echo "ERROR: no space left on the disk"; exit 1;; esac
"""
UV = """#!/bin/sh
echo "uv $*" >> "$CALLS"
case "$1" in venv) for last; do :; done; mkdir -p "$last/bin";; esac
seq -f " + package-%g" 800 >&2
case "$*" in *"$BREAKS"*) echo "error: no such index" >&2; exit 1;; esac
"""
TOOLS = "cat cp cut date du mkdir seq sh tail"
REST = "-c constraints.txt -e .[dev]"
CPU = "-c constraints.txt torch --no-deps --index-url https://download.pytorch.org/whl/cpu"


@pytest.fixture
def tool(tmp_path):
    """Adds a tool to the folder that is all of PATH: a Python of some version, or uv."""
    folder = tmp_path / "tools"
    folder.mkdir()
    for name in TOOLS.split():
        (folder / name).symlink_to(shutil.which(name))

    def add(name, version=""):
        (folder / name).write_text(PYTHON.replace("VERSION", version) if version else UV)
        (folder / name).chmod(0o755)

    return add


@pytest.fixture
def setup(tool, tmp_path, monkeypatch):
    """Runs ``make setup`` in a copy; returns (exit code, the lines it printed, the calls)."""
    tree, calls, make = tmp_path / "tree", tmp_path / "calls", shutil.which("make")
    tree.mkdir()
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        shutil.copy(ROOT / name, tree)
    for name in ("TORCH", "UV", "PYTHON", "MAKEFLAGS", "MAKELEVEL"):
        monkeypatch.delenv(name, raising=False)

    def run(*arguments, breaks="nothing"):
        calls.write_text("")
        known = {"PATH": str(tmp_path / "tools"), "CALLS": str(calls), "BREAKS": breaks}
        done = subprocess.run(
            [make, "setup", *arguments],
            cwd=tree,
            env=os.environ | known,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
        )
        return done.returncode, done.stdout.splitlines(), calls.read_text().splitlines()

    run.tree = tree
    return run


@pytest.mark.parametrize(
    "there, taken",
    [
        ({"python3": "3.13.2", "python3.12": "3.12.1"}, "python3"),
        ({"python3": "3.14.0"}, "python3"),
        ({"python3": "3.15.0", "python3.12": "3.12.1"}, "python3.12"),
        ({"python3": "3.11.4", "python3.14": "3.14.0"}, "python3.14"),  # 3.11.5 is the oldest
        ({"python3": "3.9.18", "python3.11": "3.11.5", "python3.13": "3.13.0"}, "python3.13"),
    ],
)
def test_a_python_that_every_pin_has_a_wheel_for_is_taken(setup, tool, there, taken):
    for name, version in there.items():
        tool(name, version)
    code, printed, calls = setup()
    assert code == 0 and calls[0] == f"{taken} -m venv .venv"
    assert f"Python {there[taken]}, with pip" in printed[0]


def test_without_such_a_python_a_line_says_what_to_type(setup, tool):
    tool("python3", "3.15.0")
    for arguments, named in (
        ([], "none of these is one: python3 "),
        (["PYTHON=python3"], "python3 is"),
    ):
        code, printed, calls = setup(*arguments)
        assert code != 0 and not calls and len(printed) <= 4
        assert "Python 3.11 to 3.14" in printed[0] and named in printed[1]
        assert "make setup PYTHON=/path/to/python3.13" in printed[2]
        assert not (setup.tree / ".venv").exists()


def test_set_up_prints_some_lines_and_runs_once(setup, tool):
    tool("python3", "3.12.1")
    code, printed, calls = setup()
    assert code == 0 and 4 <= len(printed) <= 10 and "make run" in printed[-1]
    assert calls == [
        "python3 -m venv .venv",
        "python -m pip install -c constraints.txt torch",
        f"python -m pip install {REST}",
    ]
    assert len((setup.tree / "build" / "setup.log").read_text().splitlines()) == 2400
    code, printed, calls = setup()
    assert code == 0 and not calls and len(printed) == 1  # nothing to be done


def test_uv_installs_the_same_where_it_is_there(setup, tool):
    tool("python3", "3.12.1")
    tool("uv")
    code, printed, calls = setup()
    assert code == 0 and "with uv" in printed[0] and len(printed) <= 10
    into = "uv pip install --compile-bytecode --python .venv/bin/python"
    assert calls == [
        "uv venv --allow-existing --python python3 .venv",
        f"{into} pip",  # venv brings it, uv does not; embkit asks it where the models are
        f"{into} -c constraints.txt torch",
        f"{into} {REST}",
    ]
    assert setup("UV=", "TORCH=cpu")[2][0] == "python3 -m venv --clear .venv"


def test_one_word_takes_the_build_of_torch_without_a_gpu(setup, tool):
    tool("python3", "3.12.1")
    _, printed, calls = setup("TORCH=cpu")
    assert calls[1:] == [f"python -m pip install {CPU}", f"python -m pip install {REST}"]
    assert any("torch (cpu)" in line for line in printed)
    assert setup("TORCH=cpu")[2] == setup()[2] == []  # it is remembered
    os.utime(setup.tree / "constraints.txt", (2**32, 2**32))  # new pins, in the same environment
    assert setup()[2] == ["python3 -m venv .venv", *calls[1:]]
    code, _, calls = setup("TORCH=")  # back to what pip gives, from an empty environment
    assert calls[:2] == [
        "python3 -m venv --clear .venv",
        "python -m pip install -c constraints.txt torch",
    ]


@pytest.mark.parametrize("installer", ["pip", "uv"])
def test_a_failure_shows_the_last_lines_and_where_the_log_lies(setup, tool, installer):
    tool("python3", "3.12.1")
    if installer == "uv":
        tool("uv")
    code, printed, _ = setup(breaks="constraints.txt -e")
    said = "\n".join(printed)
    assert code != 0 and len(printed) <= 30
    assert ("no space left" if installer == "pip" else "no such index") in said
    assert "The whole log: build/setup.log" in said
    assert ("make setup UV=" in said) == (installer == "uv")
    assert not (setup.tree / ".venv" / "installed").exists()
    assert setup()[0] == 0  # what was missing is there: the same command goes on


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13", "3.14"])
def test_no_python_asks_for_a_package_that_has_no_wheel_for_it(python):
    """geoindex-rs, which places labels that embkit does not draw, has none for 3.14."""
    todo, seen = [("embkit", frozenset({"dev"}))], set()
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    project = tomllib.loads(text)["project"]
    own = project["dependencies"] + project["optional-dependencies"]["dev"]
    given = {"python_version": python, "python_full_version": f"{python}.9"}
    while todo:
        name, extras = todo.pop()
        if (name, extras) in seen:
            continue
        seen.add((name, extras))
        try:
            needed = own if name == "embkit" else requires(name) or []
        except PackageNotFoundError:  # of another system, or of a GPU
            continue
        for found in map(Requirement, needed):
            marker = found.marker
            if not marker or any(marker.evaluate(given | {"extra": e}) for e in extras or [""]):
                todo.append((canonicalize_name(found.name), frozenset(found.extras)))
    names = {name for name, _ in seen}
    assert "jupyter-scatter" in names and ("geoindex-rs" in names) == (python != "3.14")


def test_linked_maps_are_drawn_without_geoindex_rs():
    code = """
import sys
sys.modules["geoindex_rs"] = None  # as on Python 3.14
import pandas as pd
import embkit as ek
maps = sys.modules[ek.widgets.LinkedMaps.__module__]
frame = pd.DataFrame({"x": [0.0, 1.0], "y": [0.0, 1.0], "text": ["one", "two"]})
print(maps._scatter(frame, (0.0, 1.0), (0.0, 1.0)).widget)
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0 and "JupyterScatter" in done.stdout, done.stderr
