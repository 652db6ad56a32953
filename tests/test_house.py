"""The house: which floor a folder stands on, and that every import points down."""

import ast
import itertools
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from types import ModuleType

import pytest

import embkit

PACKAGE = Path(embkit.__file__).parent
FLOORS = (  # from the ground up; an import may point only to a lower floor
    {"errors", "display", "exercises", "lazy"},
    {"losses", "session", "files"},
    {"recipes", "assets", "plots", "distributed"},
    {"data"},
    {"models"},
    {"search", "runs"},
    {"evaluation", "synthetic", "space"},
    {"pairs", "auditing", "export"},
    {"training"},
    {"advice", "widgets"},
    {"cli"},
    {"__init__", "__main__"},
)
MOST_FILES, MOST_LINES = 10, 400


def modules(package: Path) -> dict[str, Path]:
    """Dotted name below the package -> file; a folder's ``__init__`` bears the folder's name."""
    found = {}
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)
        found[name] = path
    return found


def imports(package: Path) -> dict[str, set[str]]:
    """Module -> the package's modules that it imports, anywhere in its text: at its top, inside
    functions, and under TYPE_CHECKING."""
    files = modules(package)
    found: dict[str, set[str]] = {}
    for name, path in files.items():
        found[name] = set()
        inside = [] if name == "__init__" else name.split(".")
        here = inside if path.name == "__init__.py" else inside[:-1]
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                whole = [a.name.split(".")[1:] for a in node.names if a.name[:7] == "embkit."]
                found[name] |= {".".join(parts) for parts in whole}
            if not isinstance(node, ast.ImportFrom):
                continue
            if node.level:
                base = here[: len(here) - node.level + 1]
            elif (node.module or "").split(".")[0] == "embkit":
                base = []
            else:
                continue
            rest = (node.module or "").split(".")[0 if node.level else 1 :]
            base = [part for part in (*base, *rest) if part]
            for alias in node.names:
                target = ".".join([*base, alias.name])
                found[name].add(target if target in files else ".".join(base) or "__init__")
        found[name].discard(name)
    return found


def floor(module: str) -> int:
    """Which floor a module stands on, by its folder."""
    room = module.split(".")[0]
    return next(number for number, rooms in enumerate(FLOORS) if room in rooms)


def upwards(arrows: dict[str, set[str]]) -> list[str]:
    """Imports between two rooms that do not point to a lower floor."""
    pairs = ((a, b) for a, below in arrows.items() for b in below if a != "__init__")
    apart = ((a, b) for a, b in pairs if a.split(".")[0] != b.split(".")[0])
    return [f"{a} imports {b}" for a, b in apart if floor(b) >= floor(a)]


def circle(arrows: dict[str, set[str]]) -> list[str]:
    """A circle of files, or nothing."""
    # a name that is imported lazily by the door is no arrow of its own
    graph = {a: below for a, below in arrows.items() if a != "__init__"}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def test_every_import_points_down():
    assert upwards(imports(PACKAGE)) == []


def test_no_files_and_no_folders_import_one_another_in_a_circle():
    arrows = imports(PACKAGE)
    assert circle(arrows) == []
    rooms: dict[str, set[str]] = {}
    for a, below in arrows.items():
        room = rooms.setdefault(a.split(".")[0], set())
        room |= {b.split(".")[0] for b in below} - {a.split(".")[0]}
    assert circle(rooms) == []


@pytest.mark.parametrize(
    "text",
    [
        "from ..training.trainer import train\n",
        "def late():\n    from ..training import trainer\n",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from ..training import train\n",
        "import embkit.training.trainer\n",
        "def late():\n    from embkit.training import train\n",
    ],
)
def test_a_planted_back_edge_is_found(tmp_path, text):
    for name in ("training", "models"):
        (tmp_path / "embkit" / name).mkdir(parents=True)
        (tmp_path / "embkit" / name / "__init__.py").write_text("")
    (tmp_path / "embkit" / "__init__.py").write_text("")
    (tmp_path / "embkit" / "training" / "trainer.py").write_text("from ..models import loading\n")
    (tmp_path / "embkit" / "models" / "loading.py").write_text(text)
    arrows = imports(tmp_path / "embkit")
    assert [line.startswith("models.loading imports training") for line in upwards(arrows)]
    whole = "trainer" in text
    assert bool(circle(arrows)) == whole, "through the folder alone there is no circle of files"


def test_the_house_has_few_doors_and_small_rooms():
    beside = list(PACKAGE.glob("*.py"))
    assert len(beside) <= MOST_FILES, sorted(path.name for path in beside)
    long = {
        name: lines
        for name, path in modules(PACKAGE).items()
        if (lines := len(path.read_text(encoding="utf-8").splitlines())) > MOST_LINES
    }
    assert long == {}
    rooms = {name.split(".")[0] for name in modules(PACKAGE)}
    assert rooms == set(itertools.chain(*FLOORS)), "every room has its floor"


def test_no_folder_bears_the_name_of_a_function_of_the_door():
    folders = {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").is_file()}
    assert not folders & set().union(*embkit._NAMES.values())
    for name in folders & set(dir(embkit)):
        assert isinstance(getattr(embkit, name), ModuleType), name
