"""The project's own files agree: pyproject, constraints, environment.yml, Makefile, READMEs."""

import re
import subprocess
import sys
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
READMES = ("README.md", "notebooks/README.md", "data/README.md", "embkit/README.md")
READMES += ("tests/README.md", "data/results.md")
COURSE = sorted(path.stem for path in (ROOT / "notebooks" / "source").glob("[0-9][0-9]_*.py"))


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


def test_the_same_pythons_everywhere(project):
    tools = tomllib.loads(read("pyproject.toml"))["tool"]
    oldest = project["requires-python"].removeprefix(">=")
    assert tools["mypy"]["python_version"] == oldest
    assert tools["ruff"]["target-version"] == "py" + oldest.replace(".", "")
    assert f"Python {oldest} " in read("README.md")
    known = [x.split(" :: ")[-1] for x in project["classifiers"]]
    newest = max(known, key=Version)
    assert min(known, key=Version) == oldest
    assert f"Python {oldest} to {newest}" in read("Makefile")
    major, minor = newest.split(".")
    assert f"sys.version_info < ({major}, {int(minor) + 1})" in read("Makefile")


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


def code(name):
    """The blocks of code in a README, and what stands between backticks."""
    text = read(name)
    return "\n".join(re.findall(r"^```.*?^```", text, re.M | re.S) + re.findall(r"`[^`\n]+`", text))


def test_the_readmes_name_only_targets_that_exist():
    targets = set(re.findall(r"^([a-z-]+):", read("Makefile"), re.M))
    named = {name: re.findall(r"(?:^|`)make ([a-z-]+)", code(name), re.M) for name in READMES}
    assert {"run", "lab", "test", "test-all", "setup"} <= set(named["README.md"])
    everywhere = {target for found in named.values() for target in found}
    assert everywhere <= targets
    assert {"bench", "full", "approaches", "pictures", "page"} <= everywhere
    assert {"notebooks", "style", "lint", "assets"} <= everywhere


def test_the_readmes_name_only_commands_that_exist():
    line = [sys.executable, "-m", "embkit", "--help"]
    shown = subprocess.run(line, capture_output=True, text=True, check=True, cwd=ROOT).stdout
    listed = set(re.findall(r"^ {4}([a-z]+)\b", shown, re.M))
    pattern = r"-m embkit ([a-z]+)"
    named = {command for name in READMES for command in re.findall(pattern, read(name))}
    assert {"check", "advise", "run", "train"} <= named <= listed


def test_the_first_readme_is_short():
    assert len(read("README.md").splitlines()) <= 150


@pytest.mark.parametrize("name", READMES)
def test_links_and_pictures_lead_somewhere(name):
    links = re.findall(r"\]\(([^)\s]+)\)", read(name))
    assert links
    for link in links:
        path, _, heading = link.partition("#")
        if link.startswith("https:"):
            continue
        target = (ROOT / name).parent / path if path else ROOT / name
        assert target.is_file(), link
        if heading:
            titles = re.findall(r"^#+ (.+)$", target.read_text(encoding="utf-8"), re.M)
            anchors = {re.sub(r"[^\w\- ]", "", x).lower().replace(" ", "-") for x in titles}
            assert heading in anchors, link


# ---- the course: one table for everybody, one with what the teacher needs


def lessons(name):
    """Notebook -> its row of a README's table of the course."""
    rows = re.findall(r"^\| `(\d\d_\w+)` \|(.*)\|$", read(name), re.M)
    assert len(rows) == len(dict(rows))
    return {book: [cell.strip() for cell in row.split("|")] for book, row in rows}


def numbers(text):
    """The lessons that "00, 03–05" names, as two digits each."""
    found = set()
    for first, last in re.findall(r"\b(\d\d)(?:–(\d\d))?\b", text):
        found |= {f"{n:02}" for n in range(int(first), int(last or first) + 1)}
    return found


def test_every_notebook_stands_in_both_tables_with_the_same_minutes():
    short, long = lessons("README.md"), lessons("notebooks/README.md")
    assert list(short) == list(long) == COURSE
    assert {book: row[-1] for book, row in short.items()} == {b: row[-1] for b, row in long.items()}
    for book, row in short.items():
        assert float(row[-1]) > 0
        assert f"# About {row[-1]} minutes on two CPU" in read(f"notebooks/source/{book}.py"), book


def test_schedules_add_up_and_come_in_an_order_that_can_be_taught():
    rows = lessons("notebooks/README.md")
    minutes = {book[:2]: float(row[-1]) for book, row in rows.items()}
    needs = {book[:2]: numbers(row[1]) for book, row in rows.items()}
    assert needs["03"] == {"00", "01", "02"} and needs["05"] == {"03", "04"}
    schedules = re.findall(
        r"^\| ([a-z, ]+) \| ([\d.]+) \| [^|]+ \| ([\d, ]+) \|$", read("notebooks/README.md"), re.M
    )
    assert len(schedules) == 4
    before = set()
    for title, total, listed in schedules:
        books = re.findall(r"\d\d", listed)
        assert sum(minutes[book] for book in books) == pytest.approx(float(total), abs=0.05), title
        seen = set(before) if title.endswith("the second") else set()
        for book in books:
            assert needs[book] <= seen, f"{title}: {book} before {needs[book] - seen}"
            seen.add(book)
        before = seen
    assert before == set(minutes), "two days hold the whole course"


def test_the_readme_installs_what_make_installs():
    assert '-c constraints.txt -e ".[dev]"' in read("README.md")


def test_licence(project):
    assert project["license"] == "MIT"
    assert read("LICENSE").startswith("MIT License")
