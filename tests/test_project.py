"""The project's own files agree: pyproject, constraints, environment.yml, Makefile, README."""

import re
import tomllib
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).resolve().parent.parent
PARTS = ("QUICK", "SLOW")  # of the tests, as the Makefile names them
GPU_ONLY = ("nvidia-", "cuda-", "triton")


def read(name):
    return (ROOT / name).read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def project():
    return tomllib.loads(read("pyproject.toml"))["project"]


@pytest.fixture(scope="module")
def pins():
    lines = [x for x in read("constraints.txt").splitlines() if x and not x.startswith("#")]
    assert all(re.fullmatch(r"[a-z0-9-]+==[0-9][\w.]*", line) for line in lines), "name==version"
    assert lines == sorted(set(lines), key=lambda line: line.split("==")), "sorted, each once"
    return dict(line.split("==") for line in lines)


def direct(project):
    extras = project["optional-dependencies"].values()
    texts = [*project["dependencies"], *(text for extra in extras for text in extra)]
    return [Requirement(text) for text in texts]


def test_every_direct_dependency_is_pinned_within_its_range(project, pins):
    for requirement in direct(project):
        name = canonicalize_name(requirement.name)
        assert name in pins, f"{name} is not in constraints.txt"
        assert requirement.specifier.contains(pins[name]), f"{requirement} against {pins[name]}"


def test_every_direct_dependency_has_a_lower_and_an_upper_bound(project):
    for requirement in direct(project):
        assert {part.operator for part in requirement.specifier} == {">=", "<"}, requirement


def test_what_dependencies_need_is_pinned_too(project, pins):
    todo, seen = [(r.name, frozenset(r.extras)) for r in direct(project)], set()
    while todo:
        name, extras = todo.pop()
        name = canonicalize_name(name)
        if (name, extras) in seen or name.startswith(GPU_ONLY):
            continue
        seen.add((name, extras))
        try:
            needed = [Requirement(text) for text in requires(name) or []]
        except PackageNotFoundError:  # an extra that is not installed here
            continue
        assert name in pins, f"{name} is not in constraints.txt"
        for found in needed:
            marker = found.marker
            if not marker or any(marker.evaluate({"extra": extra}) for extra in extras or [""]):
                todo.append((found.name, frozenset(found.extras)))


def test_gpu_users_may_take_their_own_build_of_torch(pins):
    assert "+" not in pins["torch"]
    assert not [name for name in pins if name.startswith(GPU_ONLY)]


def test_conda_users_get_the_same_pins(project):
    found = yaml.safe_load(read("environment.yml"))["dependencies"]
    pip = next(entry["pip"] for entry in found if isinstance(entry, dict))
    assert pip == ["-c constraints.txt", "-e .[dev]"]
    assert "-c constraints.txt -e '.[dev]'" in read("Makefile")
    python = next(x for x in found if isinstance(x, str) and x.startswith("python="))
    version = python.split("=")[1]
    oldest = Requirement(f"python{project['requires-python']}").specifier
    assert oldest.contains(Version(version))


def test_one_python_is_the_oldest_everywhere(project):
    tools = tomllib.loads(read("pyproject.toml"))["tool"]
    oldest = project["requires-python"].removeprefix(">=")
    assert tools["mypy"]["python_version"] == oldest
    assert tools["ruff"]["target-version"] == "py" + oldest.replace(".", "")
    assert f"Python {oldest} or newer" in read("README.md")
    assert f"Python {oldest} or newer" in read("Makefile")


def test_ci_calls_what_the_readme_names():
    command = read(".ci/run").strip().splitlines()[-1]
    assert command == "make test-all"
    assert re.search(rf"^{command}\b", read("README.md"), re.M)


def test_every_test_is_in_one_of_the_two_parts_that_make_runs():
    makefile = read("Makefile")
    parts = [re.search(rf'^{name} := -m "(.+?)"', makefile, re.M)[1] for name in PARTS]
    assert parts == ["not slow and not browser", "slow or browser"], "each is the other's opposite"
    recipe = re.search(r"^test-all:.*\n((?:\t.*\n)+)", makefile, re.M)[1]
    assert all(f"$(PYTEST) $({name})\n" in recipe for name in PARTS)


def test_the_readme_names_only_targets_that_exist():
    targets = set(re.findall(r"^([a-z-]+):", read("Makefile"), re.M))
    named = set(re.findall(r"(?:^|`)make ([a-z-]+)", read("README.md"), re.M))
    assert {"run", "lab", "test", "test-all", "bench"} <= named <= targets


def test_the_readme_installs_what_make_installs():
    assert '-c constraints.txt -e ".[dev]"' in read("README.md")


def test_licence(project):
    assert project["license"] == "MIT"
    assert read("LICENSE").startswith("MIT License")
