"""The bundle: all that is needed, whole or not at all; an installer that names what is cut off."""

import json
import os
import platform
import shutil
import subprocess
import sys
import types
import zipfile

import pytest

from embkit.errors import EmbkitError
from notebooks.tools import bundle
from notebooks.tools.stick import install

NEEDS = {  # a small world of packages: name -> what its wheel says that it needs
    "torch": ['nvidia-big; platform_system == "never"', "helper[fast]>=1"],
    "helper": [
        'pywin; sys_platform == "win32"',
        'quick; extra == "fast"',
        'slow; extra == "other"',
    ],
    "pywin": [],
    "quick": ["torch"],
    "extra-one": ['old; python_version < "3.12"'],
    "old": [],
    "setuptools": [],
}
TAGS, PYTHONS = {}, {}  # name -> the end of its wheel's name; the Pythons that it takes


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A project of two files that needs torch; and what stands in for pip."""
    root = tmp_path / "project"
    (root / "notebooks").mkdir(parents=True)
    (root / "constraints.txt").write_text("torch==2.13.0\nhelper==1.5\n")
    text = '[project]\ndependencies = ["torch>=2"]\n[project.optional-dependencies]\n'
    text += 'one = ["extra-one"]\ndev = ["never-asked"]\n'
    (root / "pyproject.toml").write_text(text)
    (root / "notebooks" / "00.ipynb").write_text("{}")
    (root / "secret.txt").write_text("not in git")
    subprocess.run(["git", "init", "-q"], cwd=root, check=True)
    named = ["constraints.txt", "pyproject.toml", "notebooks/00.ipynb"]
    subprocess.run(["git", "add", *named], cwd=root, check=True)
    monkeypatch.setattr(bundle, "paths", lambda: types.SimpleNamespace(root=root))
    monkeypatch.setattr(bundle, "NEEDED", 0.001)
    return root


def fetch_into(asked):
    def fetch(wanted, folder):
        asked.extend(wanted)
        for text in wanted:
            name, _, version = text.partition("==")
            version = version or "1.0"
            tags = TAGS.get(name, "py3-none-any")
            wheel = folder / f"{name.replace('-', '_')}-{version}-{tags}.whl"
            with zipfile.ZipFile(wheel, "w") as file:
                told = "".join(f"Requires-Dist: {need}\n" for need in NEEDS[name])
                told += "Provides-Extra: fast\nProvides-Extra: other\n"
                told += f"Requires-Python: {PYTHONS[name]}\n" if name in PYTHONS else ""
                text = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{told}"
                at = f"{name.replace('-', '_')}-{version}.dist-info"
                file.writestr(f"{at}/METADATA", text)
                file.writestr(f"{at}/WHEEL", f"Wheel-Version: 1.0\nTag: {tags}\n")

    return fetch


def make(target, platform="linux", python="3.11", asked=None, **options):
    fetch = fetch_into(asked if asked is not None else [])
    return bundle.bundle(target, platform, python, fetch=fetch, assets=[], **options)


@pytest.mark.parametrize(
    "platform, python, needed",
    [
        (
            "linux",
            "3.11",
            {"torch==2.13.0+cpu", "extra-one", "setuptools", "helper==1.5", "quick", "old"},
        ),
        (
            "windows",
            "3.13",
            {"torch==2.13.0", "extra-one", "setuptools", "helper==1.5", "quick", "pywin"},
        ),
        ("macos", "3.12", {"torch==2.13.0", "extra-one", "setuptools", "helper==1.5", "quick"}),
    ],
)
def test_wheels_are_those_of_the_platform_and_not_of_this_machine(
    project, tmp_path, platform, python, needed
):
    make(tmp_path / "out", platform, python, asked := [])
    assert set(asked) == needed and len(asked) == len(needed)


def test_the_folder_holds_the_project_and_a_sum_for_each_file(project, tmp_path):
    sizes = make(tmp_path / "out")
    told = json.loads((tmp_path / "out" / "manifest.json").read_text())
    files = {
        p.relative_to(tmp_path / "out").as_posix()
        for p in (tmp_path / "out").rglob("*")
        if p.is_file()
    }
    assert files - {"manifest.json"} == set(told["files"])
    assert "project/notebooks/00.ipynb" in files and not [
        name for name in files if "secret" in name
    ]
    assert {"install.py", "install.sh", "install.bat", "README.txt"} <= files
    assert (told["platform"], told["python"], told["extras"]) == ("linux", "3.11", ["one"])
    assert install.damaged(tmp_path / "out") == [] and sum(sizes.values()) > 0


def test_a_file_that_was_cut_off_or_is_gone_is_named_and_nothing_is_installed(
    project, tmp_path, monkeypatch, capsys
):
    python = f"{sys.version_info[0]}.{sys.version_info[1]}"
    make(out := tmp_path / "out", python=python)
    (wheel,) = (out / "wheels").glob("helper*")
    wheel.write_bytes(wheel.read_bytes()[:-1])
    (out / "project" / "constraints.txt").unlink()
    assert sorted(install.damaged(out)) == ["project/constraints.txt", f"wheels/{wheel.name}"]
    monkeypatch.setattr(install, "HERE", out)
    assert install.main(tmp_path / "here") == 1
    assert f"cut off or changed: wheels/{wheel.name}" in capsys.readouterr().out
    assert not (tmp_path / "here").exists()


def test_another_python_is_told(project, tmp_path, monkeypatch, capsys):
    make(out := tmp_path / "out", python="3.1")
    monkeypatch.setattr(install, "HERE", out)
    assert install.main(tmp_path / "here") == 1
    assert "the folder is for Python 3.1 on linux" in capsys.readouterr().out


def test_a_full_disk_in_the_middle_leaves_nothing(project, tmp_path, monkeypatch):
    def full(source, target, **_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(bundle.shutil, "copy2", full)
    with pytest.raises(EmbkitError, match="No space left on device"):
        make(tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["project"]


def test_too_little_room_is_said_before_anything_is_fetched(project, tmp_path, monkeypatch):
    monkeypatch.setattr(bundle.shutil, "disk_usage", lambda _: types.SimpleNamespace(free=1e6 - 1))
    with pytest.raises(EmbkitError, match="0.00 GB are free"):
        make(tmp_path / "out", asked=(asked := []))
    assert asked == [] and not (tmp_path / "out").exists()


def test_what_a_kill_left_is_no_bundle_and_goes_with_the_next(project, tmp_path):
    half = tmp_path / ".out.part" / "wheels"
    half.mkdir(parents=True)
    (half / "half.whl").write_bytes(b"PK")
    make(tmp_path / "out")
    assert not half.exists() and not list((tmp_path / "out" / "wheels").glob("half*"))
    with pytest.raises(EmbkitError, match="is there"):
        make(tmp_path / "out")


def test_a_wheel_that_cannot_be_had_leaves_nothing(project, tmp_path, monkeypatch):
    failed = types.SimpleNamespace(returncode=1, stderr=b"...\nERROR: No matching distribution\n")
    run, commands = subprocess.run, []

    def pip(command, **options):
        if "pip" not in command:
            return run(command, **options)
        commands.append(command)
        return failed

    monkeypatch.setattr(bundle.subprocess, "run", pip)
    with pytest.raises(EmbkitError, match="No matching distribution"):
        bundle.bundle(tmp_path / "out", "linux", "3.11", assets=[])
    assert [path.name for path in tmp_path.iterdir()] == ["project"]
    (command,) = commands
    assert bundle.CPU in command and command[-1] == "torch==2.13.0+cpu", "an index for torch alone"
    assert shutil.which("git")


def test_the_wheels_alone_are_enough_for_pip(project, tmp_path):
    python = f"{sys.version_info[0]}.{sys.version_info[1]}"
    make(out := tmp_path / "a stick für alle", python=python)
    pip = [sys.executable, "-m", "pip", "--isolated", "install", "--dry-run", "--no-index"]
    pip += ["--ignore-installed", "--find-links", out / "wheels", "torch>=2", "extra-one"]
    clean = {name: text for name, text in os.environ.items() if not name.startswith("PIP_")}
    done = subprocess.run(
        pip, capture_output=True, text=True, env=clean | {"PIP_CONFIG_FILE": "/dev/null"}
    )
    assert done.returncode == 0, done.stderr
    (last,) = [line for line in done.stdout.splitlines() if line.startswith("Would install")]
    assert {"torch-2.13.0+cpu", "helper-1.5", "quick-1.0"} <= set(last.split())


def test_wheels_that_do_not_fit_together_are_no_bundle(project, tmp_path, monkeypatch):
    monkeypatch.setitem(NEEDS, "quick", ["torch", "helper<1.2"])
    with pytest.raises(EmbkitError, match="quick needs helper<1.2, and 1.5 is there"):
        make(tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["project"]


def test_wheels_of_another_platform_are_no_bundle(project, tmp_path, monkeypatch):
    monkeypatch.setitem(TAGS, "helper", "cp312-cp312-manylinux2014_x86_64")
    with pytest.raises(EmbkitError, match="the wheel of helper is helper-1.5-cp312"):
        make(tmp_path / "out", "windows", "3.12")


@pytest.mark.parametrize(
    "system, tags, python, oldest",
    [
        ("windows", "cp312-cp312-win_amd64", ">=3.10", {"python": "3.12.0", "system": ""}),
        ("macos", "cp312-abi3-macosx_14_0_arm64", "", {"python": "3.12.0", "system": "14.0"}),
        (
            "macos",
            "cp312-cp312-macosx_10_13_universal2",
            ">=3.9,!=3.12.0",
            {"python": "3.12.1", "system": "10.13"},
        ),
        (
            "linux",
            "cp312-cp312-manylinux2014_x86_64.manylinux_2_17_x86_64.manylinux_2_28_x86_64",
            ">=3.12.5",
            {"python": "3.12.5", "system": "2.17"},
        ),
    ],
)
def test_the_manifest_tells_the_oldest_python_and_system(
    project, tmp_path, monkeypatch, system, tags, python, oldest
):
    monkeypatch.setitem(TAGS, "helper", tags)
    monkeypatch.setitem(PYTHONS, "quick", python)
    sizes = make(out := tmp_path / "out", system, "3.12")
    assert json.loads((out / "manifest.json").read_text())["oldest"] == oldest
    lines = bundle.summary(out, sizes).splitlines()
    count = len(list((out / "wheels").iterdir()))
    assert [line.split()[0] for line in lines[1:5]] == ["wheels", "assets", "project", "installer"]
    assert f"wheels ({count})" in lines[1] and lines[-2].startswith("in all 0.00 GB")
    assert lines[-1].startswith(f"for {bundle.SYSTEMS[system]}") and oldest["system"] in lines[-1]
    assert lines[-1].endswith(f"Python 3.12 ({oldest['python']} or newer)")


@pytest.mark.parametrize(
    "system, changed, why",
    [
        ("linux", {}, ""),
        ("linux", {"python": "3.1"}, "the folder is for Python 3.1 on linux"),
        ("linux", {"machine": "arm64"}, "is for x86_64; the folder is for arm64"),
        ("linux", {"oldest": {"python": "3.99.0", "system": ""}}, "3.99.0 or newer is needed"),
        ("linux", {"oldest": {"python": "3.0.0", "system": "2.36"}}, "this Linux has glibc 2.31"),
        ("windows", {}, ""),
        ("windows", {"longest": 180}, "name a folder of at most 54 characters"),
        ("macos", {"oldest": {"python": "3.0.0", "system": "15.0"}}, "this is macOS 14.5: 15.0"),
        ("macos", {"oldest": {"python": "3.0.0", "system": "14"}}, ""),
    ],
)
def test_a_machine_that_the_folder_is_not_for_is_told_why(monkeypatch, system, changed, why):
    python = f"{sys.version_info[0]}.{sys.version_info[1]}"
    name, _, _, machine = bundle.MARKERS[system]
    told = {"platform": system, "python": python, "machine": machine, "longest": 100}
    told |= {"oldest": {"python": "3.0.0", "system": ""}} | changed
    monkeypatch.setattr(sys, "platform", name)
    monkeypatch.setattr(platform, "machine", lambda: machine if system == "macos" else "x86_64")
    monkeypatch.setattr(platform, "mac_ver", lambda: ("14.5", ("", "", ""), "arm64"))
    monkeypatch.setattr(platform, "libc_ver", lambda: ("glibc", "2.31"))
    monkeypatch.setattr(install.sysconfig, "get_platform", lambda: "win-amd64")
    found = install.unfit(told, "C:\\Users\\someone with a long name\\the course on embeddings")
    assert (why in found) if why else not found


def test_the_starters_ask_for_the_python_of_the_wheels(project, tmp_path):
    make(out := tmp_path / "a stick für alle", python="3.12")
    for name in ("install.bat", "README.txt"):
        assert (text := (out / name).read_bytes()).isascii()
        assert text.count(b"\n") == text.count(b"\r\n") > 0, "Windows's ends of lines"
        assert b"@PYTHON@" not in text
    assert b'\r\npy -3.12 "%~dp0install.py" %*\r\n' in (out / "install.bat").read_bytes()
    assert b"\r" not in (out / "install.sh").read_bytes()
    (pythons := tmp_path / "bin").mkdir()
    for name in ("python3.12", "python3", "own"):
        says = f'#!/bin/sh\n[ "$1" = -c ] && exit 0\necho "{name}|$1|$2"\nexit 7\n'
        (pythons / name).write_text(says)
        (pythons / name).chmod(0o755)

    def started(**own):
        path = f"{pythons}{os.pathsep}{os.environ['PATH']}"
        command = ["sh", out / "install.sh", "one folder"]
        done = subprocess.run(command, capture_output=True, text=True, env={"PATH": path} | own)
        assert done.returncode == 7
        return done.stdout.strip()

    assert started() == f"python3.12|{out}/install.py|one folder"
    assert started(PYTHON="own").startswith("own|")
    (pythons / "python3.12").write_text("#!/bin/sh\nexit 127\n")  # pyenv's, of a Python not in use
    assert started().startswith("python3|")
