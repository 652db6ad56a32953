"""The course on a stick: one folder that installs without a network.

``python -m notebooks.tools.bundle FOLDER`` (``make bundle``) gathers the wheels for one platform
and one Python, the assets, and the project's files: notebooks, data, results. That the wheels fit
together and fit the platform is checked here. Nothing bears the folder's name before all of it is
there. ``install.sh`` or ``install.bat`` in it checks each file against the manifest, and installs.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib.metadata import PathDistribution
from pathlib import Path
from typing import Any

from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name, parse_wheel_filename

from embkit.assets import catalogue
from embkit.assets.wheels import sha256
from embkit.display import WIDTH, table
from embkit.errors import EmbkitError, unknown
from embkit.session import paths
from notebooks.tools.course import say

GLIBC = [f"manylinux_2_{n}_x86_64" for n in range(5, 35)]  # the oldest first
GLIBC += ["manylinux1_x86_64", "manylinux2010_x86_64", "manylinux2014_x86_64"]
TAGS = {"linux": GLIBC, "windows": ["win_amd64"], "macos": ["macosx_14_0_arm64"]}
MARKERS = {  # what pip itself would take from the machine that it runs on
    "linux": ("linux", "Linux", "posix", "x86_64"),
    "windows": ("win32", "Windows", "nt", "AMD64"),
    "macos": ("darwin", "Darwin", "posix", "arm64"),
}
OLD = {"1": (2, 5), "2010": (2, 12), "2014": (2, 17)}  # manylinux names that tell no C library
SYSTEMS = {"linux": "Linux with glibc", "windows": "Windows", "macos": "macOS"}
CPU = "https://download.pytorch.org/whl/cpu"  # torch without a GPU's libraries, for Linux
LEFT_OUT = ("dev", "openvino")  # extras that a participant does not need
BUILDS = ["setuptools"]  # builds the project where it is installed
NEEDED, MOST = 3.0, 3.0  # GB: free before it begins, and of the whole folder
HERE = Path(__file__).with_name("stick")
Fetch = Callable[[Sequence[str], Path], None]


def bundle(
    target: Path,
    platform: str = "linux",
    python: str = f"{sys.version_info.major}.{sys.version_info.minor}",
    *,
    fetch: Fetch | None = None,
    assets: Iterable[catalogue.Asset] | None = None,
    said: Callable[[str], object] = lambda text: None,
) -> dict[str, int]:
    """Writes the folder; returns the bytes of its parts.

    Args:
        target: a folder that is not there yet.
        platform: ``linux``, ``windows`` or ``macos``; ``python``: such as 3.12.
        fetch: puts the wheels of requirements into a folder; default: pip.
        assets: default: all of the catalogue.

    Raises:
        EmbkitError: the target is there, too little room, a wheel that cannot be had; nothing of
            the target is left then.
    """
    if platform not in TAGS:
        raise unknown("platform", platform, TAGS)
    if target.exists():
        expected, hint = "a folder that is not there yet", f"{target}-2, or delete {target}"
        raise EmbkitError(f"{target} is there", expected=expected, hint=hint)
    target.parent.mkdir(parents=True, exist_ok=True)
    _room(target.parent, NEEDED)
    part = target.with_name(f".{target.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    try:
        (part / "wheels").mkdir(parents=True)
        said("wheels")
        oldest = wheels(part / "wheels", platform, python, fetch or by_pip(platform, python))
        said("the project")
        for name in _tracked(paths().root):
            _copy(paths().root / name, part / "project" / name)
        said("assets")
        every = {**catalogue.CATALOGUE, **catalogue.PICTURES}
        for asset in every.values() if assets is None else assets:
            found = catalogue.files_of(asset)
            shutil.copytree(found, part / "assets" / found.name)
        for file in HERE.iterdir():
            if file.is_file():
                text = file.read_text(encoding="utf-8").replace("@PYTHON@", python)
                ends = "\r\n" if file.suffix in (".bat", ".txt") else "\n"
                (part / file.name).write_text(text, encoding="utf-8", newline=ends)
        said("the manifest")
        made: dict[str, Any] = {"python": python, "platform": platform, "extras": _extras()}
        made |= {"machine": MARKERS[platform][3], "oldest": oldest, "longest": _longest(part)}
        files = sorted(path for path in part.rglob("*") if path.is_file())
        sums = {path.relative_to(part).as_posix(): sha256(path) for path in files}
        text = json.dumps(made | {"files": sums}, indent=1) + "\n"
        (part / "manifest.json").write_text(text, encoding="utf-8")
        os.replace(part, target)
    except OSError as error:
        _room(target.parent, 0.05)
        given = f"the bundle was not made: {error}"
        raise EmbkitError(
            given, expected="a disk that can be written to", hint="another"
        ) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)
    sizes: dict[str, int] = {}
    for path in (path for path in target.rglob("*") if path.is_file()):
        first = path.relative_to(target).parts[0]
        sizes[first] = sizes.get(first, 0) + path.stat().st_size
    return sizes


def _room(folder: Path, needed: float) -> None:
    free = shutil.disk_usage(folder).free / 1e9
    if free < needed:
        given = f"{free:.2f} GB are free in {folder}"
        hint = "free some space, or name a folder on another disk: make bundle TO=/another/folder"
        raise EmbkitError(given, expected=f"{needed:.2f} GB; nothing was left there", hint=hint)


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(source, target)


def _tracked(root: Path) -> list[str]:
    """The project's own files: those that git keeps."""
    listed = subprocess.run(["git", "-C", str(root), "ls-files", "-z"], capture_output=True)
    names = [name for name in listed.stdout.decode().split("\0") if name]
    if not names:
        given = f"git knows no file in {root}"
        raise EmbkitError(given, expected="a clone of the project", hint="git clone")
    return [name for name in names if (root / name).is_file()]


def _project() -> dict[str, Any]:
    text = (paths().root / "pyproject.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)["project"]


def _extras() -> list[str]:
    return [name for name in _project()["optional-dependencies"] if name not in LEFT_OUT]


def _longest(part: Path) -> int:
    """Characters of the longest path that a wheel unpacks to: Windows bounds whole paths."""
    longest = 0
    for path in (part / "wheels").glob("*.whl"):
        with zipfile.ZipFile(path) as wheel:
            longest = max(longest, *map(len, wheel.namelist()))
    return longest


def wheels(folder: Path, platform: str, python: str, fetch: Fetch) -> dict[str, str]:
    """The wheels of all that the project needs on a platform, and of what these need; returns the
    oldest Python and the oldest system that all of them take.

    pip would evaluate the conditions of requirements (``sys_platform == "win32"``) for the machine
    that it runs on; so they are read from the wheels here, and evaluated for the platform.
    """
    pins = (paths().root / "constraints.txt").read_text(encoding="utf-8")
    versions = dict(re.findall(r"(?m)^([\w.-]+)==(\S+)", pins))
    names = ("sys_platform", "platform_system", "os_name", "platform_machine")
    about: dict[str, Any] = dict(default_environment())
    about |= dict(zip(names, MARKERS[platform], strict=True))
    about |= {"python_version": python, "python_full_version": f"{python}.9"}
    told = _project()
    extras = (text for name in _extras() for text in told["optional-dependencies"][name])
    todo = [Requirement(text) for text in (*told["dependencies"], *extras, *BUILDS)]
    every, by = list(todo), dict[str, str]()  # requirement -> who has it
    at: dict[str, Path] = {}
    seen: set[tuple[str, frozenset[str]]] = set()
    while todo:
        asked = {}
        for needed in todo:
            name = canonicalize_name(needed.name)
            pin = f"=={versions[name]}" if name in versions else str(needed.specifier)
            cpu = "+cpu" if name == "torch" and platform == "linux" else ""
            asked[name] = f"{name}{pin}{cpu}"
        there = {parse_wheel_filename(path.name)[0] for path in folder.glob("*.whl")}
        if new := [text for name, text in sorted(asked.items()) if name not in there]:
            fetch(new, folder)
        at = {parse_wheel_filename(path.name)[0]: path for path in folder.glob("*.whl")}
        found = []
        for needed in todo:
            key = canonicalize_name(needed.name), frozenset(needed.extras)
            if key in seen:
                continue
            seen.add(key)
            for one in map(Requirement, described(at[key[0]]).requires or []):
                when, extras_of = one.marker, ("", *key[1])
                if not when or any(when.evaluate(about | {"extra": e}) for e in extras_of):
                    found.append(one)
                    by[str(one)] = key[0]
        todo = found
        every += found
    for needed in every:  # a wheel was asked for by the first who needs it: does it suit all?
        version = parse_wheel_filename(at[canonicalize_name(needed.name)].name)[1]
        if not needed.specifier.contains(version, prereleases=True):
            given = f"{by.get(str(needed), 'the project')} needs {needed}, and {version} is there"
            hint = "a version for constraints.txt that suits all who need it"
            raise EmbkitError(given, expected="wheels that fit together", hint=hint)
    return {"python": _oldest_python(at.values(), python), "system": _oldest_system(at, platform)}


def described(wheel: Path) -> PathDistribution:
    """What a wheel says of itself."""
    folder = next(n for n in zipfile.ZipFile(wheel).namelist() if n.endswith(".dist-info/METADATA"))
    return PathDistribution(zipfile.Path(wheel, folder.removesuffix("METADATA")))


def _oldest_python(wheels: Iterable[Path], python: str) -> str:
    asked = [described(wheel).metadata["Requires-Python"] or "" for wheel in wheels]
    for release in (f"{python}.{number}" for number in range(10)):
        if all(SpecifierSet(text).contains(release) for text in asked):
            return release
    given, hint = f"no release of Python {python} suits all wheels", "another --python"
    raise EmbkitError(given, expected="one that does", hint=hint)


def _oldest_system(at: Mapping[str, Path], platform: str) -> str:
    """The C library's version, or macOS's, from which all wheels work; empty for Windows."""
    oldest = (0, 0)
    for name, wheel in at.items():
        fits = []
        for tag in {tag.platform for tag in parse_wheel_filename(wheel.name)[3]}:
            if tag in ("any", "win_amd64") and (tag == "any" or platform == "windows"):
                fits.append((0, 0))
            elif platform == "macos" and (
                found := re.fullmatch(r"macosx_(\d+)_(\d+)_(arm64|universal2)", tag)
            ):
                fits.append((int(found[1]), int(found[2])))
            elif platform == "linux" and (
                found := re.fullmatch(r"manylinux(?:_(\d+)_(\d+)|(\d+))_x86_64", tag)
            ):
                fits.append(OLD[found[3]] if found[3] else (int(found[1]), int(found[2])))
        if not fits:
            given, hint = f"the wheel of {name} is {wheel.name}", "another version"
            raise EmbkitError(given, expected=f"one for {platform}", hint=hint)
        oldest = max(oldest, min(fits))
    return ".".join(map(str, oldest)) if any(oldest) else ""


def by_pip(platform: str, python: str) -> Fetch:
    """Fetches wheels for a platform from the index that pip is set up for."""
    options = ["--no-deps", "--only-binary=:all:", "--python-version", f"{python}.9", "--quiet"]
    options += [part for tag in TAGS[platform] for part in ("--platform", tag)]

    def fetch(wanted: Sequence[str], folder: Path) -> None:
        of_cpu = [text for text in wanted if text.endswith("+cpu")]  # an index of its own
        for some, index in ((of_cpu, ["--index-url", CPU]), ([*{*wanted} - {*of_cpu}], [])):
            command = [sys.executable, "-m", "pip", "download", *options, *index, "-d", str(folder)]
            if (
                some
                and (done := subprocess.run([*command, *some], stderr=subprocess.PIPE)).returncode
            ):
                _room(folder, 0.05)
                said = done.stderr.decode().strip().splitlines() or ["no reason given"]
                first = next((line for line in said if line.startswith("ERROR")), said[-1])
                if any("connection broken" in line for line in said):
                    first = f"no answer from {index[1] if index else 'the index'}. {first}"
                expected = f"a wheel of each for {platform} and Python {python}"
                hint = "another --python, or a network with a package index"
                raise EmbkitError(f"pip download: {first}", expected=expected, hint=hint)

    return fetch


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; returns its exit status."""
    parser = argparse.ArgumentParser(prog="python -m notebooks.tools.bundle", description=__doc__)
    parser.add_argument("target", type=Path)
    parser.add_argument("--platform", default="linux", choices=list(TAGS))
    parser.add_argument("--python", default=f"{sys.version_info.major}.{sys.version_info.minor}")
    chosen = parser.parse_args(arguments)
    told = lambda text: say(text[:WIDTH])  # noqa: E731
    try:
        sizes = bundle(chosen.target, chosen.platform, chosen.python, said=told)
    except EmbkitError as error:
        say(str(error))
        return 1
    say(summary(chosen.target, sizes))
    return int(sum(sizes.values()) / 1e9 > MOST)


def summary(target: Path, sizes: Mapping[str, int]) -> str:
    """What was made: for which machine, and how large it is by part."""
    told = json.loads((target / "manifest.json").read_text(encoding="utf-8"))
    count = sum(name.startswith("wheels/") for name in told["files"])
    parts = {f"wheels ({count})": "wheels", "assets": "assets", "project": "project"}
    rest = sum(size for name, size in sizes.items() if name not in parts.values())
    shown = {name: sizes.get(part, 0) for name, part in parts.items()} | {"installer": rest}
    rows = ({"what": name, "size": f"{size / 1e6:,.1f} MB"} for name, size in shown.items())
    system = f"{SYSTEMS[told['platform']]} {told['oldest']['system']}".strip()
    newer = " or newer" if told["oldest"]["system"] else ""
    return (
        f"{table(rows)}\nin all {sum(sizes.values()) / 1e9:.2f} GB, of {MOST:g}: {target}\n"
        f"for {system}{newer} ({told['machine']}) and Python {told['python']} "
        f"({told['oldest']['python']} or newer)"
    )


if __name__ == "__main__":
    sys.exit(main())
